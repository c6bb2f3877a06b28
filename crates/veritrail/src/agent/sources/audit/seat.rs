//! Whether the agent is to be the audit daemon. Pure.
//!
//! ```text
//!             coexist   auto                                      own
//! at first    never     nobody is registered and none installed   nobody is registered
//! leaves              - a daemon asks for the seat (probe), or    a daemon asks for it
//!                       is installed
//! comes back  -         never while it lives                      a minute after the daemon has gone;
//!                                                                 after ten if none came at all
//! ```

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `audit.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Be the audit daemon where none is registered or installed, else read beside it
    #[default]
    Auto,
    /// Read by multicast and change nothing
    Coexist,
    /// Be the audit daemon, unless another process is
    Own,
}

impl Mode {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::Coexist => "coexist",
            Mode::Own => "own",
        }
    }
}

/// What is known of audit daemons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Daemons {
    /// The process that is registered, if it is another one and alive.
    pub(super) registered: Option<u32>,
    /// What shows that one is installed.
    pub(super) installed: Option<PathBuf>,
}

/// Why the agent is the audit daemon, or is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The configuration says so.
    Configured,
    /// No daemon is registered, nor installed where that matters.
    Alone,
    Registered(u32),
    Installed(PathBuf),
    /// A process asked for the seat.
    Contested(u32),
    /// The kernel does not let us.
    Refused(String),
    /// The kernel took the seat away.
    Dismissed,
    /// The daemon has gone, or did not come.
    Gone,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Configured => write!(f, "as configured"),
            Why::Alone => write!(f, "no audit daemon is registered or installed"),
            Why::Registered(pid) => write!(f, "process {pid} is the audit daemon"),
            Why::Installed(what) => write!(f, "an audit daemon is installed: {}", what.display()),
            Why::Contested(pid) => write!(f, "process {pid} asked to be the audit daemon"),
            Why::Refused(why) => write!(f, "{why}"),
            Why::Dismissed => write!(f, "the kernel ended our registration"),
            Why::Gone => write!(f, "the audit daemon has gone"),
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Take(Why),
    Leave(Why),
}

/// The seat.
#[derive(Debug)]
pub(super) struct Seat {
    mode: Mode,
    held: bool,
    looked: bool,
    /// Nobody is registered, since then.
    free_since: Option<Duration>,
    /// A process asked, and none has been registered since.
    awaited: bool,
}

/// How long a daemon may be gone: longer than any restart takes.
const GONE: Duration = Duration::from_secs(60);

/// How long one that asked may take to come again.
const AWAITED: Duration = Duration::from_secs(600);

impl Seat {
    pub(super) fn new(mode: Mode) -> Seat {
        Seat { mode, held: false, looked: false, free_since: None, awaited: false }
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// What follows from what is known now. Of a [`Act::Take`] the outcome must be told.
    pub(super) fn look(&mut self, now: Duration, daemons: &Daemons) -> Option<Act> {
        let first = !std::mem::replace(&mut self.looked, true);
        if daemons.registered.is_some() {
            (self.free_since, self.awaited) = (None, false);
        } else {
            self.free_since.get_or_insert(now);
        }
        let installed = || daemons.installed.clone().filter(|_| self.mode == Mode::Auto);
        if self.held {
            return installed().map(|what| self.leave(now, Why::Installed(what)));
        }
        let free = now.saturating_sub(self.free_since?);
        match self.mode {
            Mode::Coexist => None,
            Mode::Auto => (first && installed().is_none()).then_some(Act::Take(Why::Alone)),
            Mode::Own if first => Some(Act::Take(Why::Configured)),
            Mode::Own => {
                let patience = if self.awaited { AWAITED } else { GONE };
                (free >= patience).then_some(Act::Take(Why::Gone))
            }
        }
    }

    /// Why it is not held at the beginning.
    pub(super) fn why_not(&self, daemons: &Daemons) -> Why {
        match (self.mode, daemons) {
            (Mode::Coexist, _) => Why::Configured,
            (_, Daemons { registered: Some(pid), .. }) => Why::Registered(*pid),
            (_, Daemons { installed: Some(what), .. }) => Why::Installed(what.clone()),
            _ => Why::Alone,
        }
    }

    /// It was taken.
    pub(super) fn taken(&mut self) {
        self.held = true;
    }

    /// It could not be taken; it is tried again when it has been free for a while.
    pub(super) fn refused(&mut self) {
        (self.held, self.free_since) = (false, None);
    }

    /// The kernel asks for `pid` whether we are there.
    pub(super) fn contested(&mut self, now: Duration, pid: u32) -> Option<Act> {
        if !self.held {
            return None;
        }
        self.awaited = true;
        Some(self.leave(now, Why::Contested(pid)))
    }

    /// We are not registered, though we should be.
    pub(super) fn dismissed(&mut self, now: Duration) -> Option<Act> {
        self.held.then(|| self.leave(now, Why::Dismissed))
    }

    /// The agent stops: whether it was held.
    pub(super) fn resign(&mut self) -> bool {
        std::mem::replace(&mut self.held, false)
    }

    fn leave(&mut self, now: Duration, why: Why) -> Act {
        (self.held, self.free_since) = (false, Some(now));
        Act::Leave(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn daemons(registered: Option<u32>, installed: bool) -> Daemons {
        Daemons { registered, installed: installed.then(|| "/sbin/auditd".into()) }
    }

    #[test]
    fn who_is_there_at_first_decides() {
        for (mode, registered, installed, takes) in [
            (Mode::Coexist, None, false, None),
            (Mode::Auto, None, false, Some(Act::Take(Why::Alone))),
            (Mode::Auto, None, true, None),
            (Mode::Auto, Some(7), false, None),
            (Mode::Own, None, true, Some(Act::Take(Why::Configured))),
            (Mode::Own, Some(7), true, None),
        ] {
            let mut seat = Seat::new(mode);
            let found = seat.look(Duration::ZERO, &daemons(registered, installed));
            assert_eq!(found, takes, "{mode:?} {registered:?} {installed}");
        }
    }

    #[test]
    fn auto_leaves_for_a_daemon_and_never_comes_back() {
        for contested in [true, false] {
            let mut seat = Seat::new(Mode::Auto);
            assert!(seat.look(Duration::ZERO, &daemons(None, false)).is_some());
            seat.taken();
            assert_eq!(seat.look(SECOND, &daemons(None, false)), None);
            let left = if contested {
                seat.contested(SECOND, 7)
            } else {
                seat.look(SECOND, &daemons(None, true))
            };
            assert!(matches!(left, Some(Act::Leave(_))), "{left:?}");
            for at in [2, 100, 10_000] {
                assert_eq!(seat.look(at * SECOND, &daemons(None, false)), None);
            }
        }
    }

    #[test]
    fn own_comes_back_when_the_daemon_has_gone_for_a_while() {
        let mut seat = Seat::new(Mode::Own);
        assert!(seat.look(Duration::ZERO, &daemons(None, true)).is_some());
        seat.taken();
        assert_eq!(seat.contested(SECOND, 7), Some(Act::Leave(Why::Contested(7))));
        assert_eq!(seat.contested(SECOND, 7), None, "the kernel asks us of ourselves");
        // It has failed; its next start must not.
        assert_eq!(seat.look(300 * SECOND, &daemons(None, true)), None);
        assert_eq!(seat.look(301 * SECOND, &daemons(Some(9), true)), None);
        assert_eq!(seat.look(400 * SECOND, &daemons(None, true)), None);
        // A restart.
        assert_eq!(seat.look(401 * SECOND, &daemons(Some(10), true)), None);
        assert_eq!(seat.look(500 * SECOND, &daemons(None, true)), None);
        assert_eq!(seat.look(559 * SECOND, &daemons(None, true)), None);
        assert_eq!(seat.look(560 * SECOND, &daemons(None, true)), Some(Act::Take(Why::Gone)));
        seat.refused();
        assert_eq!(seat.look(561 * SECOND, &daemons(None, true)), None);
        assert_eq!(seat.look(621 * SECOND, &daemons(None, true)), Some(Act::Take(Why::Gone)));
        seat.taken();
        assert!(seat.contested(700 * SECOND, 11).is_some());
        assert_eq!(seat.look(1299 * SECOND, &daemons(None, true)), None);
        assert!(seat.look(1300 * SECOND, &daemons(None, true)).is_some(), "it never came");
    }
}
