//! How auditing is, and what part the agent has in it.

use host::audit::Status;
use serde::{Deserialize, Serialize};

use super::sources::Part;

/// The state of audit as it was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Auditing {
    /// Whether the agent is the audit daemon. If not it reads beside one, or without one.
    pub(crate) own: bool,
    /// Why.
    pub(crate) why: String,
    /// The process that is the audit daemon; 0 for none.
    pub(crate) daemon: u32,
    /// 0 off, 1 on, 2 on and locked.
    pub(crate) enabled: u32,
    /// Records that wait in the kernel, and how many may.
    pub(crate) backlog: u32,
    pub(crate) backlog_limit: u32,
    /// The most that were seen waiting.
    pub(crate) backlog_high_water: u32,
    /// Jiffies for which whoever makes a record is kept waiting at most where too many wait.
    pub(crate) backlog_wait_time: u32,
    /// Records a second; 0 for no limit.
    pub(crate) rate_limit: u32,
    /// What the kernel has lost since boot.
    pub(crate) lost: u32,
}

impl Auditing {
    pub(super) fn see(&mut self, status: &Status) {
        self.daemon = status.pid;
        self.enabled = status.enabled;
        self.backlog = status.backlog;
        self.backlog_limit = status.backlog_limit;
        self.backlog_high_water = self.backlog_high_water.max(status.backlog);
        self.backlog_wait_time = status.backlog_wait_time;
        self.rate_limit = status.rate_limit;
        self.lost = status.lost;
    }

    pub(super) fn turn(&mut self, part: &Part) {
        if !part.why.is_empty() {
            (self.own, self.why) = (part.own, part.why.clone());
        }
    }

    /// In two lines, for people.
    pub(crate) fn lines(&self) -> [String; 2] {
        let part = if self.own { "own" } else { "coexist" };
        let daemon = match self.daemon {
            0 => "no audit daemon".to_owned(),
            pid if self.own => format!("process {pid} (the agent) is the audit daemon"),
            pid => format!("process {pid} is the audit daemon"),
        };
        let on = match self.enabled {
            0 => "auditing is off",
            2 => "auditing is on and locked",
            _ => "auditing is on",
        };
        [
            format!("{part}: {}; {daemon}; {on}", self.why),
            format!(
                "backlog {} of {} ({} at most), wait time {}, rate limit {}, the kernel lost {}",
                self.backlog,
                self.backlog_limit,
                self.backlog_high_water,
                self.backlog_wait_time,
                self.rate_limit,
                self.lost
            ),
        ]
    }
}
