//! Sinks: where signed checkpoints go, so that the host that holds the key cannot take
//! them back (design section 5, Threat model).
//!
//! Each sink has a thread of its own and a place for one note: a sink that is slow gets
//! the newest checkpoint, which says all that the ones it missed said, and nobody waits.

use std::ffi::OsString;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use record::value::push_untrusted;

use crate::anchors;

/// How long a command may take for one note.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// The end of a sink file that is looked at for a torn note, in bytes. Notes are a few
/// hundred bytes.
const TORN: u64 = 64 << 10;

/// A place that gets every checkpoint's signed note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Notes are appended to this file, each synced before the next.
    File(PathBuf),
    /// This program runs once for each note, which it reads from standard input. It has
    /// delivered the note when it exits with 0 within [`DEADLINE`].
    Command {
        /// The program.
        program: OsString,
        /// Its arguments; no shell looks at them.
        args: Vec<OsString>,
    },
    /// Each note is a message of syslog (RFC 5424), as [`anchors::to_line`] has it. Nobody says
    /// whether one has arrived.
    Syslog(Syslog),
}

/// Where a syslog daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Syslog {
    /// At a datagram socket of this machine: `/dev/log`.
    Local(PathBuf),
    /// At a UDP port.
    Udp(SocketAddr),
}

impl Syslog {
    /// Reads `/dev/log` or `udp:192.0.2.1:514`. None: neither a path from the root on nor an address
    /// with a port.
    #[must_use]
    pub fn parse(text: &str) -> Option<Syslog> {
        if let Some(address) = text.strip_prefix("udp:") {
            return address.parse().ok().map(Syslog::Udp);
        }
        text.starts_with('/').then(|| Syslog::Local(PathBuf::from(text)))
    }

    fn send(&self, note: &[u8], deadline: Duration) -> io::Result<()> {
        let unfit = || io::Error::new(io::ErrorKind::InvalidData, "this is no checkpoint");
        let line = str::from_utf8(note).ok().and_then(anchors::to_line).ok_or_else(unfit)?;
        // authpriv.notice. A daemon has a clock and knows the host's name; what is not known is `-`.
        let message = format!("<85>1 - - veritrail {} checkpoint - {line}", std::process::id());
        match self {
            Syslog::Local(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_write_timeout(Some(deadline))?;
                socket.send_to(message.as_bytes(), path).map(drop)
            }
            Syslog::Udp(to) => {
                let any: SocketAddr = match to {
                    SocketAddr::V4(_) => ([0; 4], 0).into(),
                    SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
                };
                let socket = UdpSocket::bind(any)?;
                socket.set_write_timeout(Some(deadline))?;
                // Connected, so that a port where nobody listens is told the next time.
                socket.connect(to)?;
                socket.send(message.as_bytes()).map(drop)
            }
        }
    }
}

impl fmt::Display for Sink {
    /// As a report names it: the kind, and the file or program.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sink::File(path) => write!(f, "file {}", path.display()),
            Sink::Command { program, .. } => write!(f, "command {}", program.display()),
            Sink::Syslog(Syslog::Local(path)) => write!(f, "syslog {}", path.display()),
            Sink::Syslog(Syslog::Udp(to)) => write!(f, "syslog udp:{to}"),
        }
    }
}

/// Why a note did not reach a sink.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The file cannot be written, or the program cannot be started.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The program says no.
    #[error("ended with {0}")]
    Failed(ExitStatus),
    /// The program was still running at the deadline and has been killed.
    #[error("did not end within {} s", .0.as_secs_f32())]
    Late(Duration),
}

impl Sink {
    /// Brings one note there and returns when it has arrived.
    ///
    /// # Errors
    /// [`SinkError`] where it has not, or perhaps not.
    pub fn deliver(&self, note: &[u8], deadline: Duration) -> Result<(), SinkError> {
        match self {
            Sink::File(path) => append(path, note).map_err(SinkError::Io),
            Sink::Syslog(to) => to.send(note, deadline).map_err(SinkError::Io),
            Sink::Command { program, args } => {
                let mut command = Command::new(program);
                command.args(args).stdin(Stdio::piped());
                // Our output is for our user; a program that hangs is ended with its children.
                command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
                let mut child = command.spawn()?;
                if let Some(mut stdin) = child.stdin.take() {
                    // Fits the pipe, so a program that does not read holds nobody up; one
                    // that closed it is judged by its status.
                    let _ = stdin.write_all(note);
                }
                match wait(&mut child, deadline)? {
                    None => Err(SinkError::Late(deadline)),
                    Some(status) if status.success() => Ok(()),
                    Some(status) => Err(SinkError::Failed(status)),
                }
            }
        }
    }
}

fn append(path: &Path, note: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let torn = torn_bytes(&mut file)?;
    if torn > 0 {
        let length = file.metadata()?.len();
        // A file that may only grow (chattr +a) keeps the piece, on lines of its own.
        if file.set_len(length - torn).is_err() {
            file.write_all(b"\n")?;
        }
    }
    file.write_all(note)?;
    file.sync_data()
}

/// How many bytes at the end of a sink file are a note whose writer was interrupted.
fn torn_bytes(file: &mut File) -> io::Result<u64> {
    let start = file.metadata()?.len().saturating_sub(TORN);
    file.seek(SeekFrom::Start(start))?;
    let mut end = Vec::new();
    file.take(TORN).read_to_end(&mut end)?;
    let (mut at, mut whole) = (0, 0);
    for line in end.split_inclusive(|&byte| byte == b'\n') {
        at += line.len();
        // A note ends with a signature line (C2SP signed-note).
        if line.starts_with("\u{2014} ".as_bytes()) && line.ends_with(b"\n") {
            whole = at;
        }
    }
    // No note in all that: a file of something else, which is not ours to cut.
    Ok(if whole == 0 && start > 0 { 0 } else { (end.len() - whole) as u64 })
}

/// Waits for a child; `None` if it had to be killed.
fn wait(child: &mut Child, deadline: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + deadline;
    let mut nap = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        std::thread::sleep(nap.min(left));
        nap = (nap * 2).min(Duration::from_millis(50));
    }
    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        // It may just have ended by itself.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    child.wait()?;
    Ok(None)
}

/// A sink began to fail or works again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which, as its `Display` names it.
    pub sink: String,
    /// Why it fails; `None` when it works again.
    pub error: Option<String>,
    /// How many notes it has not got since it last worked.
    pub failures: u64,
}

/// The sinks of one trail at work.
pub(crate) struct Sinks {
    lanes: Vec<(Arc<Lane>, JoinHandle<()>)>,
}

#[derive(Default)]
struct Lane {
    state: Mutex<LaneState>,
    changed: Condvar,
}

#[derive(Default)]
struct LaneState {
    next: Option<Arc<[u8]>>,
    closing: bool,
    idle: bool,
}

impl Lane {
    fn state(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    /// The body of the `VT_SINK` record that says so.
    pub(crate) fn to_body(&self) -> Vec<u8> {
        let mut body = b"sink=".to_vec();
        push_untrusted(&mut body, self.sink.as_bytes());
        let state = if self.error.is_some() { "failing" } else { "working" };
        body.extend_from_slice(format!(" state={state} failures={}", self.failures).as_bytes());
        if let Some(error) = &self.error {
            body.extend_from_slice(b" error=");
            push_untrusted(&mut body, error.as_bytes());
        }
        body
    }
}

impl Sinks {
    /// Starts a thread for each sink. `report` is called only when a sink changes between
    /// working and failing: a record for every failure would grow the trail, which makes
    /// the next checkpoint, which fails, and so on for ever.
    pub(crate) fn start(
        sinks: &[Sink],
        report: &(impl Fn(Report) + Clone + Send + 'static),
    ) -> io::Result<Sinks> {
        let mut lanes = Vec::new();
        for sink in sinks {
            let lane = Arc::new(Lane::default());
            let (sink, theirs, report) = (sink.clone(), Arc::clone(&lane), report.clone());
            let thread = std::thread::Builder::new()
                .name("sink".into())
                .spawn(move || run(&sink, &theirs, &report))?;
            lanes.push((lane, thread));
        }
        Ok(Sinks { lanes })
    }

    /// Hands a note to every sink and returns at once.
    pub(crate) fn offer(&self, note: &[u8]) {
        let note: Arc<[u8]> = note.into();
        for (lane, _) in &self.lanes {
            let mut state = lane.state();
            state.next = Some(Arc::clone(&note));
            state.idle = false;
            lane.changed.notify_all();
        }
    }

    /// Lets the sinks finish what they have, but not longer than `patience`.
    pub(crate) fn close(mut self, patience: Duration) {
        let end = Instant::now() + patience;
        self.end();
        for (lane, thread) in std::mem::take(&mut self.lanes) {
            let left = end.saturating_duration_since(Instant::now());
            let waited = lane.changed.wait_timeout_while(lane.state(), left, |state| !state.idle);
            let idle = waited.unwrap_or_else(PoisonError::into_inner).0.idle;
            if idle {
                // A sink thread has nothing to panic about, and if it did nothing is lost.
                let _ = thread.join();
            }
        }
    }
}

impl Sinks {
    fn end(&self) {
        for (lane, _) in &self.lanes {
            lane.state().closing = true;
            lane.changed.notify_all();
        }
    }
}

impl Drop for Sinks {
    /// The threads end when they have delivered what they have; nobody waits for them.
    fn drop(&mut self) {
        self.end();
    }
}

fn run(sink: &Sink, lane: &Lane, report: &impl Fn(Report)) {
    let mut failures = 0u64;
    loop {
        let mut state = lane.state();
        let note = loop {
            if let Some(note) = state.next.take() {
                break note;
            }
            state.idle = true;
            lane.changed.notify_all();
            if state.closing {
                return;
            }
            state = lane.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        match sink.deliver(&note, DEADLINE) {
            Ok(()) if failures > 0 => {
                report(Report { sink: sink.to_string(), error: None, failures });
                failures = 0;
            }
            Ok(()) => {}
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    let error = Some(error.to_string());
                    report(Report { sink: sink.to_string(), error, failures });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const FIRST: &str = "host/1\n1\nroot=\n\n\u{2014} host/1 sig=\n";
    const SECOND: &str = "host/1\n2\nroot=\n\n\u{2014} host/1 sig=\n\u{2014} witness sig=\n";

    #[test]
    fn a_file_gets_every_note_and_loses_a_torn_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("anchors");
        let sink = Sink::File(path.clone());
        sink.deliver(FIRST.as_bytes(), DEADLINE).unwrap();
        sink.deliver(SECOND.as_bytes(), DEADLINE).unwrap();
        let both = format!("{FIRST}{SECOND}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), both);
        for end in 1..FIRST.len() {
            let torn = [both.as_bytes(), &FIRST.as_bytes()[..end]].concat();
            std::fs::write(&path, torn).unwrap();
            sink.deliver(FIRST.as_bytes(), DEADLINE).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{both}{FIRST}"), "{end}");
        }
    }

    fn shell(script: &str) -> Sink {
        Sink::Command { program: "sh".into(), args: vec!["-c".into(), script.into()] }
    }

    #[test]
    fn a_command_reads_the_note_and_is_judged_by_its_status() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("got");
        shell(&format!("cat >> {}", path.display())).deliver(FIRST.as_bytes(), DEADLINE).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), FIRST);
        let failed = shell("exit 3").deliver(b"", DEADLINE).unwrap_err();
        assert_eq!(failed.to_string(), "ended with exit status: 3");
        let none = Sink::Command { program: "/nonexistent".into(), args: vec![] };
        assert!(matches!(none.deliver(b"", DEADLINE), Err(SinkError::Io(_))));
        let start = Instant::now();
        let late = shell("sleep 60 & sleep 60").deliver(b"", Duration::from_millis(50));
        assert_eq!(late.unwrap_err().to_string(), "did not end within 0.05 s");
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn syslog_gets_a_line_that_is_the_note() {
        let key = crate::SecretKey::from_seed("host/1", &[9; 32]).unwrap();
        let note = crate::Checkpoint::of("host/1", &crate::merkle::Range::new()).sign(&key);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let local = UnixDatagram::bind(&path).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = udp.local_addr().unwrap();
        let (mut here, mut there) = ([0; 2048], [0; 2048]);
        for _ in 0..2 {
            let to = Syslog::parse(path.to_str().unwrap()).unwrap();
            Sink::Syslog(to).deliver(note.as_bytes(), DEADLINE).unwrap();
            let to = Syslog::parse(&format!("udp:{port}")).unwrap();
            Sink::Syslog(to).deliver(note.as_bytes(), DEADLINE).unwrap();
            let (first, second) = (local.recv(&mut here).unwrap(), udp.recv(&mut there).unwrap());
            for got in [&here[..first], &there[..second]] {
                assert!(got.starts_with(b"<85>1 - - veritrail "));
                assert_eq!(anchors::from_line(got).unwrap(), note);
            }
        }
        drop(local);
        let gone = Sink::Syslog(Syslog::Local(path));
        assert!(matches!(gone.deliver(note.as_bytes(), DEADLINE), Err(SinkError::Io(_))));
        assert!(gone.deliver(b"x", DEADLINE).is_err());
        for wrong in ["", "log", "udp:", "udp:localhost", "tcp:127.0.0.1:514", "udp:127.0.0.1"] {
            assert_eq!(Syslog::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_a_change_is_reported_and_nobody_waits_for_a_sink() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("not yet").join("anchors");
        let (send, reports) = mpsc::channel();
        let report = move |report| send.send(report).unwrap();
        let slow = shell("sleep 60");
        let sinks = Sinks::start(&[Sink::File(path.clone()), slow], &report).unwrap();
        let start = Instant::now();
        let settled = || {
            let lane = &sinks.lanes[0].0;
            drop(lane.changed.wait_while(lane.state(), |state| !state.idle).unwrap());
        };
        for _ in 0..3 {
            sinks.offer(FIRST.as_bytes());
            settled();
        }
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        sinks.offer(SECOND.as_bytes());
        settled();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), SECOND);
        sinks.close(Duration::from_millis(100));
        assert!(start.elapsed() < DEADLINE / 2);
        let sink = format!("file {}", path.display());
        let error = Some("No such file or directory (os error 2)".to_owned());
        let expected = [
            Report { sink: sink.clone(), error, failures: 1 },
            Report { sink, error: None, failures: 3 },
        ];
        assert_eq!(reports.try_iter().collect::<Vec<_>>(), expected);
    }
}
