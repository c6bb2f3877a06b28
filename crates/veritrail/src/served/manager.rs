//! What the service manager is told of a device while it is served, where there is one
//! (`host::notify`). It is for people only: nothing waits for it, and nothing depends on it.

use std::io;
use std::time::{Duration, Instant};

use super::wire::What;

/// How long what has changed may wait to be told with what changes next.
const TOGETHER: Duration = Duration::from_secs(1);

/// What readers ran into, and whether the manager knows.
#[derive(Debug)]
pub(super) struct Manager {
    violations: u64,
    corrected: u64,
    unreadable: u64,
    told: Option<Instant>,
    /// Whether something has changed since.
    changed: bool,
}

impl Manager {
    /// Nothing has happened, and that is to be told.
    pub(super) fn new() -> Manager {
        Manager { violations: 0, corrected: 0, unreadable: 0, told: None, changed: true }
    }

    /// A reader ran into something.
    pub(super) fn heard(&mut self, what: &What) {
        match what {
            What::Violation { .. } => self.violations += 1,
            What::Corrected { .. } => self.corrected += 1,
            What::Io { .. } => self.unreadable += 1,
        }
        self.changed = true;
    }

    /// In how long there is something to tell; none where there is nothing.
    pub(super) fn due(&self) -> Option<Duration> {
        self.changed.then(|| {
            self.told.map_or(Duration::ZERO, |told| TOGETHER.saturating_sub(told.elapsed()))
        })
    }

    /// Tells it.
    pub(super) fn tell(&mut self) {
        let told = host::notify::status(&self.words());
        // A manager that is behind is told later; one that is gone is not.
        self.changed = told.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.told = Some(Instant::now());
    }

    fn words(&self) -> String {
        format!(
            "{} violations, {} blocks corrected, {} I/O errors",
            self.violations, self.corrected, self.unreadable
        )
    }
}

/// The device is being closed.
pub(super) fn stopping() {
    // The manager sees it when the process ends, too.
    let _ = host::notify::stopping();
}
