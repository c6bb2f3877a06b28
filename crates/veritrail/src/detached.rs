//! A process of ours that goes on when whoever started it has ended.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use host::channel::{Channel, Received};
use rustix::process::Signal;

use crate::outcome::{Failure, Kind};

/// What it says when it has begun, in bytes at most.
const LONGEST: usize = 8192;

/// Starts this program by a command line, whose first word is the name it goes by, and returns what
/// it says when it has begun. One that cannot begin says why on our standard error.
pub(crate) fn start(typed: &[OsString]) -> Result<Vec<u8>, Failure> {
    let (program, arguments) = typed
        .split_first()
        .ok_or_else(|| Failure::new(Kind::Usage, "there is no command line to go on with"))?;
    let failed = |error| Failure::new(Kind::Io, "cannot start a process").because(error);
    let (ours, theirs) = Channel::pair().map_err(failed)?;
    let mut child = Command::new("/proc/self/exe")
        .arg0(program)
        .args(arguments)
        // The manager of whoever asks is not the manager of what is started.
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let mut said = vec![0; LONGEST];
    match ours.recv(&mut said, None).map_err(failed)? {
        Received::Message { len, .. } => {
            said.truncate(len);
            Ok(said)
        }
        Received::Closed | Received::TimedOut => {
            let status = child.wait().map_err(failed)?;
            match (status.code().map(u8::try_from), status.signal()) {
                (Some(Ok(code)), _) if code != 0 => Err(Failure::passed_on(code)),
                (_, Some(signal)) => {
                    let what = format!("the process was killed by signal {signal}");
                    Err(Failure::new(Kind::Io, what))
                }
                _ => Err(Failure::new(Kind::Io, "the process ended before it had begun")),
            }
        }
    }
}

/// The side of the process that was started.
#[derive(Debug)]
pub(crate) struct Starter(Channel);

impl Starter {
    /// To be called first of all. Until [`Starter::outlive`] this process ends with the one that
    /// started it: while it waits for a disk, it shall not stay behind.
    pub(crate) fn meet() -> Result<Starter, Failure> {
        let channel = Channel::from_stdin().map_err(|error| {
            Failure::new(Kind::Usage, "this is for the program itself").because(error)
        })?;
        // Neither the terminal's signals nor its end are for it.
        let _ = rustix::process::setsid();
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
            .map_err(io::Error::from)?;
        // The program was started as /proc/self/exe, which tells nobody anything.
        let _ = rustix::thread::set_name(c"veritrail");
        Ok(Starter(channel))
    }

    /// From now on this process ends by itself, and clears away what it has made.
    pub(crate) fn outlive(&self) -> io::Result<()> {
        Ok(rustix::process::set_parent_process_death_signal(None)?)
    }

    /// Says that all has begun. From now on this process has neither a terminal nor a folder.
    pub(crate) fn let_go(self, said: &[u8]) -> Result<(), Failure> {
        self.outlive()?;
        let said = said.get(..LONGEST).unwrap_or(said);
        self.0.send(said, &[]).map_err(|error| {
            Failure::new(Kind::Io, "whoever asked for it is gone").because(error)
        })?;
        // A pipe behind our standard error must not stay open as long as this process.
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null).map_err(io::Error::from)?;
        rustix::stdio::dup2_stderr(&null).map_err(io::Error::from)?;
        std::env::set_current_dir("/")?;
        Ok(())
    }
}
