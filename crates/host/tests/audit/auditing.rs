//! Auditing switched on for a test, alone on the machine, and all put back behind it.

use std::fs::File;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use host::audit::{Control, Status};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Holds the lock that all tests of all crates take which change the state of audit.
pub(crate) struct Auditing {
    _lock: File,
    pub(crate) control: Control,
    before: Status,
}

impl Auditing {
    /// On, with room for 8,192 waiting records and without rules; `None`, visibly, where this
    /// machine has no audit for us.
    pub(crate) fn begin(test: &str) -> Option<Self> {
        let skip = |reason: &dyn std::fmt::Display| eprintln!("SKIPPED: {test}: {reason}");
        if !rustix::process::geteuid().is_root() {
            skip(&"needs root");
            return None;
        }
        let lock = lock();
        let status = Control::open().and_then(|mut control| {
            let status = control.status()?;
            Ok((control, status))
        });
        let (mut control, before) = match status {
            Ok(both) => both,
            Err(error) => {
                skip(&error);
                return None;
            }
        };
        if before.pid != 0 || before.is_locked() || !control.rules().unwrap().is_empty() {
            skip(&format!("audit is somebody else's here: {before:?}"));
            return None;
        }
        control.set_backlog_limit(8192).unwrap();
        control.set_enabled(true).unwrap();
        Some(Self { _lock: lock, control, before })
    }
}

impl Drop for Auditing {
    fn drop(&mut self) {
        for rule in self.control.rules().unwrap_or_default() {
            let _ = self.control.delete_rule(&rule);
        }
        let _ = self.control.set_enabled(self.before.is_on());
        let _ = self.control.set_backlog_limit(self.before.backlog_limit);
    }
}

/// All tests that change audit together take less.
const OTHERS: Duration = Duration::from_secs(900);

/// The lock alone: for who would keep those others from what they wait for.
pub(crate) fn lock() -> File {
    let path = std::env::temp_dir().join("veritrail-audit-test.lock");
    let file = File::options().create(true).append(true).open(path).unwrap();
    let until = Instant::now() + OTHERS;
    loop {
        match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return file,
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => panic!("the lock: {error}"),
        }
        assert!(Instant::now() < until, "another test holds the lock of audit");
        thread::sleep(Duration::from_millis(20));
    }
}
