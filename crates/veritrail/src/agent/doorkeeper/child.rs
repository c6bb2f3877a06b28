//! A process of ours that is started again when it ends.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use host::channel::{Channel, Received};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Event;
use super::wire::{self, LONGEST};

/// How long a process may not take what it is told.
const PATIENCE: Duration = Duration::from_secs(1);

/// One that has lived so long is started again at once when it ends.
const SETTLED: Duration = Duration::from_secs(1);

/// The wait before one is started again that ended at once: this, and twice as long each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With this exit status.
    Code(u8),
    /// By this signal.
    Killed(i32),
}

impl Ended {
    fn of(status: ExitStatus) -> Ended {
        match (status.code(), status.signal()) {
            (Some(code), _) => Ended::Code(u8::try_from(code).unwrap_or(u8::MAX)),
            (_, signal) => Ended::Killed(signal.unwrap_or(0)),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Code(code) => write!(f, "ended with status {code}"),
            Ended::Killed(signal) => write!(f, "was killed by signal {signal}"),
        }
    }
}

/// What a process says and how it ends, and which of those that were started it was.
#[derive(Debug)]
pub(super) enum Heard<M> {
    Said(M),
    Ended(Ended),
}

/// The process, which says `M`.
pub(super) struct Child<M> {
    name: &'static str,
    arguments: Vec<OsString>,
    events: SyncSender<Event>,
    event: fn(u64, Heard<M>) -> Event,
    running: Option<Running>,
    /// How many were started.
    started: u64,
    waits: Waits,
    again: Option<Instant>,
    says: PhantomData<M>,
}

struct Running {
    pid: u32,
    process: OwnedFd,
    channel: Arc<Channel>,
    began: Instant,
    heard: Instant,
}

impl<M: DeserializeOwned + Send + 'static> Child<M> {
    /// One that is started by these arguments of ours.
    pub(super) fn new(
        name: &'static str,
        arguments: Vec<OsString>,
        events: &SyncSender<Event>,
        event: fn(u64, Heard<M>) -> Event,
    ) -> Child<M> {
        Child {
            name,
            arguments,
            events: events.clone(),
            event,
            running: None,
            started: 0,
            waits: Waits::default(),
            again: None,
            says: PhantomData,
        }
    }

    /// Starts it.
    pub(super) fn start(&mut self) -> io::Result<()> {
        self.again = None;
        let (ours, theirs) = Channel::pair()?;
        ours.set_patience(PATIENCE)?;
        let mut child = Command::new("/proc/self/exe")
            .arg0("veritrail")
            .args(&self.arguments)
            // Only this process speaks to the manager.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        let pid = child.id();
        let process = match pidfd(pid) {
            Ok(process) => process,
            Err(error) => {
                // One that cannot be told to end is not let go on.
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        let channel = Arc::new(ours);
        self.started += 1;
        let (heard, event, events, life) =
            (Arc::clone(&channel), self.event, self.events.clone(), self.started);
        let listen = move || {
            if listen(&heard, |said| events.send(event(life, Heard::Said(said))).is_ok()).is_err() {
                // It is not itself any more.
                let _ = child.kill();
            }
            let ended = child.wait().map_or(Ended::Killed(0), Ended::of);
            // Nobody waits for it where we end ourselves.
            let _ = events.send(event(life, Heard::Ended(ended)));
        };
        std::thread::Builder::new().name(self.name.into()).spawn(listen)?;
        let now = Instant::now();
        self.running = Some(Running { pid, process, channel, began: now, heard: now });
        Ok(())
    }

    /// Whether what is heard comes from the one that runs now.
    pub(super) fn is_now(&self, life: u64) -> bool {
        self.running.is_some() && life == self.started
    }

    /// It was heard of.
    pub(super) fn note(&mut self) {
        if let Some(running) = &mut self.running {
            running.heard = Instant::now();
        }
    }

    /// It has ended; `again` says whether it is to be started again, which is at once or soon.
    pub(super) fn ended(&mut self, again: bool) {
        let Some(running) = self.running.take() else { return };
        let now = Instant::now();
        let wait = self.waits.next(now - running.began);
        self.again = again.then_some(now + wait);
    }

    /// Does not start it again.
    pub(super) fn leave(&mut self) {
        self.again = None;
    }

    /// When it is to be started again, if it is.
    pub(super) fn again(&self) -> Option<Instant> {
        self.again
    }

    /// Tells it something. One that does not listen is soon heard to have ended, or not heard.
    pub(super) fn tell(&self, what: &impl Serialize) {
        if let Some(running) = &self.running {
            let _ = wire::tell(&running.channel, what);
        }
    }

    /// The same with descriptors.
    pub(super) fn tell_with(&self, what: &impl Serialize, fds: &[BorrowedFd<'_>]) {
        if let Some(running) = &self.running {
            let _ = wire::tell_with(&running.channel, what, fds);
        }
    }

    /// Kills it, if it runs.
    pub(super) fn kill(&self) {
        if let Some(running) = &self.running {
            // It may just have ended by itself.
            let _ = pidfd_send_signal(&running.process, Signal::KILL);
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Its number; 0 while there is none.
    pub(super) fn pid(&self) -> u32 {
        self.running.as_ref().map_or(0, |running| running.pid)
    }

    /// How many there were before the one that runs.
    pub(super) fn restarts(&self) -> u64 {
        self.started.saturating_sub(1)
    }

    /// For how long nothing has been heard of it; none while there is none.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.running.as_ref().map(|running| running.heard.elapsed())
    }
}

fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("a process has no number"))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Takes what comes until the other end is closed; an error for what is no message.
fn listen<M: DeserializeOwned>(
    channel: &Channel,
    mut pass: impl FnMut(M) -> bool,
) -> io::Result<()> {
    let mut buf = vec![0; LONGEST];
    loop {
        match channel.recv(&mut buf, None)? {
            Received::Message { len, .. } => {
                let said = wire::hear(&buf, len).ok_or(io::ErrorKind::InvalidData)?;
                if !pass(said) {
                    return Ok(());
                }
            }
            Received::Closed | Received::TimedOut => return Ok(()),
        }
    }
}

/// How long to wait before starting again.
#[derive(Debug, Default)]
struct Waits {
    /// How many in a row ended soon.
    soon: u32,
}

impl Waits {
    fn next(&mut self, lived: Duration) -> Duration {
        if lived >= SETTLED {
            self.soon = 0;
        }
        let wait = match self.soon {
            0 => Duration::ZERO,
            soon => FIRST_WAIT.saturating_mul(1 << (soon - 1).min(16)).min(LONGEST_WAIT),
        };
        self.soon = self.soon.saturating_add(1);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_at_once_again_and_again_waits_longer_each_time() {
        let mut waits = Waits::default();
        let millis =
            |waits: &mut Waits, lived| waits.next(Duration::from_millis(lived)).as_millis();
        let soon: Vec<u128> = (0..10).map(|_| millis(&mut waits, 50)).collect();
        assert_eq!(soon, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!([millis(&mut waits, 1000), millis(&mut waits, 0)], [0, 100]);
    }
}
