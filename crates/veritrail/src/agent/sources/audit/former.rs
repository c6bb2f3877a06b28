//! The state of audit as it was before the agent changed it. It is kept in the run directory, so that also
//! what a killed agent has changed is put back: by the next one, or by `veritrail agent stop`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use host::audit::{Control, Error};
use record::write::Body;
use serde::{Deserialize, Serialize};

use super::chain;
use crate::clock;

/// What the agent sets where it is the audit daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Records that may wait in the kernel, at least.
    pub(crate) backlog_limit: u32,
    /// How long whoever makes one may be kept waiting, in jiffies; none: as it is.
    pub(crate) backlog_wait_time: Option<u32>,
}

/// A number that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    before: u32,
    ours: u32,
}

/// The changes of this boot's agents that are not put back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Former {
    boot: String,
    enabled: Option<Change>,
    backlog_limit: Option<Change>,
    backlog_wait_time: Option<Change>,
}

const NAME: &str = "audit.json";

impl Former {
    /// What earlier agents of this boot changed.
    pub(super) fn read(dir: &Path) -> Former {
        let boot = clock::boot_id();
        let read = || serde_json::from_slice::<Former>(&fs::read(dir.join(NAME)).ok()?).ok();
        read().filter(|former| former.boot == boot).unwrap_or(Former { boot, ..Former::default() })
    }

    pub(super) fn is_empty(&self) -> bool {
        [self.enabled, self.backlog_limit, self.backlog_wait_time] == [None; 3]
    }

    /// Switches auditing on and raises its limits, having kept what was; says what it changed, and what
    /// the kernel refused.
    pub(super) fn change(
        &mut self,
        dir: &Path,
        control: &mut Control,
        limits: Limits,
    ) -> Result<Body, Unchanged> {
        let status = control.status()?;
        let mut plan = self.clone();
        let enabled = (!status.is_on()).then_some(1);
        // 0 is no limit at all.
        let lower = (1..limits.backlog_limit).contains(&status.backlog_limit);
        let backlog = lower.then_some(limits.backlog_limit);
        let wait = limits.backlog_wait_time.filter(|ours| *ours != status.backlog_wait_time);
        note(&mut plan.enabled, status.enabled, enabled);
        note(&mut plan.backlog_limit, status.backlog_limit, backlog);
        note(&mut plan.backlog_wait_time, status.backlog_wait_time, wait);
        let mut body = Body::new();
        if [enabled, backlog, wait] == [None; 3] {
            return Ok(body);
        }
        if status.is_locked() {
            return Err(Unchanged::Locked);
        }
        plan.write(dir).map_err(|error| Unchanged::Unkept(dir.join(NAME), error))?;
        *self = plan;
        let mut refused = Vec::new();
        let mut is_set =
            |done: Result<(), Error>| done.map_err(|error| refused.push(chain(&error))).is_ok();
        // Before all others: a limit that is refused is no reason to hear nothing.
        let is_on = enabled.is_some() && is_set(control.set_enabled(true));
        if let Some(records) = backlog
            && is_set(control.set_backlog_limit(records))
        {
            body = body.word("backlog_limit", format_args!("{}-{records}", status.backlog_limit));
        }
        if let Some(jiffies) = wait
            && is_set(control.set_backlog_wait_time(jiffies))
        {
            let change = format!("{}-{jiffies}", status.backlog_wait_time);
            body = body.word("backlog_wait_time", change);
        }
        if is_on {
            body = body.word("enabled", "0-1");
        }
        if !refused.is_empty() {
            body = body.phrase("unchanged", &refused.join("; "));
        }
        Ok(body)
    }

    /// Puts back what is still as we set it, and says what that was. Where a daemon is registered the
    /// configuration is its own by now, and stays.
    pub(super) fn restore(
        &mut self,
        dir: &Path,
        control: &mut Control,
        registered: Option<u32>,
    ) -> Result<Body, Unchanged> {
        if self.is_empty() {
            return Ok(Body::new());
        }
        let status = control.status()?;
        if let Some(pid) = registered {
            self.forget(dir);
            return Err(Unchanged::Registered(pid));
        }
        if status.is_locked() {
            self.forget(dir);
            return Err(Unchanged::Locked);
        }
        let mut body = Body::new();
        let back = |change: &Option<Change>, now: u32| {
            change.filter(|change| change.ours == now).map(|change| change.before)
        };
        if let Some(before) = back(&self.enabled, status.enabled) {
            control.set_enabled(before != 0)?;
            body = body.word("enabled", format_args!("{}-{before}", status.enabled));
        }
        if let Some(before) = back(&self.backlog_limit, status.backlog_limit) {
            control.set_backlog_limit(before)?;
            body = body.word("backlog_limit", format_args!("{}-{before}", status.backlog_limit));
        }
        if let Some(before) = back(&self.backlog_wait_time, status.backlog_wait_time) {
            control.set_backlog_wait_time(before)?;
            let change = format!("{}-{before}", status.backlog_wait_time);
            body = body.word("backlog_wait_time", change);
        }
        self.forget(dir);
        Ok(body)
    }

    fn forget(&mut self, dir: &Path) {
        *self = Former { boot: std::mem::take(&mut self.boot), ..Former::default() };
        // What stays is found again, and found to be put back.
        let _ = fs::remove_file(dir.join(NAME));
    }

    /// On the disk before anything is changed, since it may be all that is left of us.
    fn write(&self, dir: &Path) -> io::Result<()> {
        let next = dir.join("audit.json.new");
        let mut file = File::create(&next)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(next, dir.join(NAME))
    }
}

/// What an earlier agent found is what was before.
fn note(change: &mut Option<Change>, now: u32, ours: Option<u32>) {
    if let Some(ours) = ours {
        let before = change.filter(|change| change.ours == now).map_or(now, |change| change.before);
        *change = Some(Change { before, ours });
    }
}

/// Why the state of audit stays as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unchanged {
    #[error("audit's configuration is locked until the machine is booted again (-e 2)")]
    Locked,
    #[error("process {0} is the audit daemon, and the configuration its own")]
    Registered(u32),
    #[error("the state to put back cannot be kept in {0}: {1}")]
    Unkept(PathBuf, io::Error),
    #[error(transparent)]
    Refused(#[from] Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_agent_found_is_what_was_before() {
        let mut change = None;
        note(&mut change, 64, None);
        assert_eq!(change, None);
        note(&mut change, 64, Some(8192));
        assert_eq!(change, Some(Change { before: 64, ours: 8192 }));
        // The next agent wants more; and later somebody else has set it.
        note(&mut change, 8192, Some(9000));
        assert_eq!(change, Some(Change { before: 64, ours: 9000 }));
        note(&mut change, 320, Some(9000));
        assert_eq!(change, Some(Change { before: 320, ours: 9000 }));
    }

    #[test]
    fn it_is_of_this_boot_or_none() {
        let dir = tempfile::TempDir::new().unwrap();
        assert!(Former::read(dir.path()).is_empty());
        let enabled = Some(Change { before: 0, ours: 1 });
        let former = Former { boot: clock::boot_id(), enabled, ..Former::default() };
        former.write(dir.path()).unwrap();
        assert_eq!(Former::read(dir.path()), former);
        let other = Former { boot: "another".into(), ..former };
        other.write(dir.path()).unwrap();
        assert!(Former::read(dir.path()).is_empty());
        fs::write(dir.path().join(NAME), "{").unwrap();
        assert!(Former::read(dir.path()).is_empty());
    }
}
