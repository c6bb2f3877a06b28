//! What the kernel itself has lost, by its counter, and how auditing is beside.

use record::write::Body;

use super::{Agent, Name, OURS, UNHEARD, now};
use crate::agent::gaps::Place;
use crate::agent::journal::OwnRecord;
use crate::agent::sources::{AuditInput, millis};
use crate::agent::watermark::Note;

/// The kernel's counter `lost`, as far as it was told of by this agent or those of this boot before it.
#[derive(Debug, Default)]
pub(super) struct KernelLost {
    /// With when it stood so, in milliseconds since 1970.
    told: Option<(u32, u64)>,
}

impl KernelLost {
    /// As the last agent has left it.
    pub(super) fn after(note: Option<&Note>) -> KernelLost {
        KernelLost { told: note.and_then(|note| Some((note.lost?, note.millis))) }
    }

    pub(super) fn told(&self) -> Option<u32> {
        self.told.map(|(lost, _)| lost)
    }

    /// What there is to tell now that the counter stands at `lost`: how many records, none where nobody
    /// knows, and between which times.
    fn rise(&mut self, lost: u32, at: u64) -> Option<(Option<u64>, [u64; 2])> {
        let (before, since) = self.told.replace((lost, at))?;
        // Somebody has set it back (auditctl --reset-lost): nobody knows.
        let more = lost.checked_sub(before).map(u64::from);
        (more != Some(0)).then_some((more, [since.min(at), at]))
    }
}

impl Agent {
    pub(super) fn handle_auditing(&mut self, status: &host::audit::Status) {
        let on = status.is_on();
        self.audit.see(status);
        if self.backlog.note(status.backlog, status.backlog_limit) {
            let body = Body::new().word("state", "backlog-high").word("waiting", status.backlog);
            let body = body.word("limit", status.backlog_limit);
            self.journal.own(&[OwnRecord("VT_AGENT", body)], OURS);
        }
        if let Some((more, span)) = self.kernel_lost.rise(status.lost, millis()) {
            // What the kernel could not deliver to a daemon, whoever that is, or no longer keeps for one
            // where there is none, the agent may have by multicast.
            let multicast = self.journal.config().audit_input() == AuditInput::Netlink;
            let place = if multicast { Place::Delivery } else { Place::Kernel };
            self.gaps.note(place, more, span);
        }
        if self.auditing.replace(on).is_some_and(|was_on| was_on != on) {
            let state = if on { "audit-on" } else { "audit-off" };
            let body = Body::new().word("state", state);
            self.journal.own(&[OwnRecord("VT_AGENT", body)], OURS);
        }
        self.devices.handle_auditing(now(), on);
        self.timekeeping.handle_auditing(on);
        let is_stopping = self.context.stop.load(std::sync::atomic::Ordering::Relaxed);
        if !is_stopping && self.rules.as_ref().is_some_and(|rules| rules.depends_on_auditing(on)) {
            self.load_rules();
        }
        for (_, source) in self.sources.iter_mut().filter(|(name, _)| *name == Name::Audit) {
            source.consequence = match self.unheard {
                _ if !on => Some("auditing is off: nothing is heard".to_owned()),
                true => Some(UNHEARD.to_owned()),
                false => None,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_compared_with_what_was_told_last_by_whomever() {
        let mut first = KernelLost::after(None);
        assert_eq!(
            first.rise(7, 1000),
            None,
            "what was lost before the first agent is not its loss"
        );
        assert_eq!(first.rise(7, 2000), None);
        assert_eq!(first.rise(9, 3000), Some((Some(2), [2000, 3000])));
        let note = Note { lost: first.told(), millis: 3500, ..Note::default() };
        let mut second = KernelLost::after(Some(&note));
        assert_eq!(second.rise(12, 5000), Some((Some(3), [3500, 5000])));
        assert_eq!(second.rise(1, 6000), Some((None, [5000, 6000])), "it was set back");
        assert_eq!(second.rise(1, 5000), None);
        assert_eq!(second.rise(2, 4000), Some((Some(1), [4000, 4000])), "the clock was set back");
        let mut same = KernelLost::after(Some(&note));
        assert_eq!(same.rise(9, 5000), None);
        // One that an agent of before wrote has no counter.
        assert_eq!(KernelLost::after(Some(&Note::default())).rise(9, 5000), None);
    }
}
