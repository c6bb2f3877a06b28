//! Sends checkpoints to audit, as user messages (TRUSTED_APP, 1121): into whatever log keeps those.
//!
//! Only this process has the right to send them (CAP_AUDIT_WRITE); whoever writes the trail has none. So
//! each new checkpoint is taken from the trail's directory, where everybody may read it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use host::audit::Control;
use record::write::Body;

use super::inbox::Inbox;
use super::sources::Input;

/// The type of the messages.
const TRUSTED_APP: u16 = 1121;

/// How often a new one is looked for, and sent at most: audit's log is not for each second's.
const PERIOD: Duration = Duration::from_secs(10);

/// How often it is looked whether the agent stops.
const LOOK: Duration = Duration::from_millis(200);

/// How long the last one is waited for when the agent stops.
const LAST: Duration = Duration::from_secs(2);

/// A note is a few hundred bytes.
const LONGEST: u64 = 16 << 10;

/// The thread that sends them.
#[derive(Debug)]
pub(super) struct Checkpoints {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Checkpoints {
    /// Starts; the right to send must be there as long as the agent lives.
    pub(super) fn start(trail: &Path, inbox: &Arc<Inbox<Input>>) -> io::Result<Checkpoints> {
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, inbox) = (Arc::clone(&stop), Arc::clone(inbox));
        let mut sender = Sender::new(trail);
        let run = move || {
            let mut looked: Option<Instant> = None;
            loop {
                let stopping = theirs.load(Ordering::Acquire);
                if stopping {
                    sender.wait_for_another();
                }
                if stopping || looked.is_none_or(|looked| looked.elapsed() >= PERIOD) {
                    looked = Some(Instant::now());
                    if let Some(body) = sender.round(send) {
                        inbox.put(Input::Sink(body));
                    }
                }
                if stopping {
                    return;
                }
                std::thread::sleep(LOOK);
            }
        };
        let thread = std::thread::Builder::new().name("checkpoints".into()).spawn(run)?;
        Ok(Checkpoints { stop, thread })
    }

    /// Sends the last one, which covers what the agent has written.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        // It waits for the kernel's answer only, and has nothing to panic about.
        let _ = self.thread.join();
    }
}

fn send(line: &str) -> Result<(), String> {
    // A socket for each: what an earlier one still has to say is not taken for the answer to this one.
    let sent = Control::open().and_then(|mut audit| audit.send_user(TRUSTED_APP, line.as_bytes()));
    sent.map_err(|error| error.to_string())
}

struct Sender {
    path: PathBuf,
    /// What was sent last.
    last: String,
    /// Since it last worked.
    failures: u64,
}

impl Sender {
    fn new(trail: &Path) -> Sender {
        let path = trail.join(trail::layout::CHECKPOINT);
        Sender { path, last: String::new(), failures: 0 }
    }

    /// Sends the newest checkpoint if it has not been sent. The body of a VT_SINK where that begins to
    /// fail, or works again: a record for each failure would make the next checkpoint.
    fn round(&mut self, send: impl FnOnce(&str) -> Result<(), String>) -> Option<Body> {
        let note = match self.read() {
            Ok(note) if note == self.last => return None,
            Ok(note) => note,
            Err(why) => return self.failed(&why),
        };
        let line = trail::anchors::to_line(&note).ok_or("this is no checkpoint".to_owned());
        match line.and_then(|line| send(&format!("{line} res=success"))) {
            Err(why) => self.failed(&why),
            Ok(()) => {
                self.last = note;
                let failures = std::mem::take(&mut self.failures);
                let body = Body::new().untrusted("sink", b"audit").word("state", "working");
                (failures > 0).then(|| body.word("failures", failures))
            }
        }
    }

    /// The agent's last words have just become durable, and the writer signs them within a second.
    fn wait_for_another(&self) {
        let until = Instant::now() + LAST;
        let before = self.read();
        while Instant::now() < until && self.read() == before {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn failed(&mut self, why: &str) -> Option<Body> {
        self.failures += 1;
        let body = Body::new().untrusted("sink", b"audit").word("state", "failing");
        let body = body.word("failures", 1).untrusted("error", why.as_bytes());
        (self.failures == 1).then_some(body)
    }

    fn read(&self) -> Result<String, String> {
        let mut note = String::new();
        let read =
            File::open(&self.path).and_then(|file| file.take(LONGEST).read_to_string(&mut note));
        read.map(|_| note).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_checkpoint_is_sent_once_and_only_a_change_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut sender = Sender::new(dir.path());
        let told = |body: Option<Body>| {
            body.map(|body| String::from_utf8(body.as_bytes().to_vec()).unwrap())
                .unwrap_or_default()
        };
        let never = |_: &str| -> Result<(), String> { panic!("there is nothing to send") };
        assert!(
            told(sender.round(never)).starts_with("sink=\"audit\" state=failing failures=1 error=")
        );
        assert_eq!(told(sender.round(never)), "");
        let key = trail::SecretKey::from_seed("host/1", &[9; 32]).unwrap();
        let note = trail::Checkpoint::of("host/1", &trail::merkle::Range::new()).sign(&key);
        std::fs::write(dir.path().join("checkpoint"), &note).unwrap();
        let mut sent = Vec::new();
        let mut send = |line: &str| {
            sent.push(line.to_owned());
            Ok(())
        };
        assert_eq!(told(sender.round(&mut send)), "sink=\"audit\" state=working failures=2");
        assert_eq!(told(sender.round(&mut send)), "");
        assert_eq!(sent.len(), 1);
        assert_eq!(trail::anchors::from_line(sent[0].as_bytes()).unwrap(), note);
        std::fs::write(dir.path().join("checkpoint"), "rubbish").unwrap();
        assert!(told(sender.round(never)).contains("no checkpoint") || sender.failures == 1);
    }
}
