//! Which event of the kernel is of which call that was seen.

use record::EventId;

use super::call::{Call, What};
use super::heard::Heard;

/// Steps of the kernel's record and of ours that are this near are one, beside how far ours may be
/// wrong: it is measured.
const NEAR_NS: u64 = 5_000_000;

/// The kernel's event of a call that was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) id: EventId,
    /// Its TIME_INJOFFSET is of an earlier call.
    pub(super) repeats: bool,
}

impl Told {
    pub(super) fn of(heard: &Heard, call: &Call) -> Told {
        let steps = match &call.what {
            What::Set { .. } => true,
            What::Adjust { asked, .. } => asked.injected().is_some_and(|step| step != 0),
        };
        Told { id: heard.id, repeats: heard.step.is_some() && !steps }
    }
}

/// Whether the kernel's event is of that call.
pub(super) fn is_of(heard: &Heard, call: &Call) -> bool {
    if heard.pid.is_none() || heard.pid != call.task.as_ref().map(|task| task.pid) {
        return false;
    }
    match &call.what {
        What::Set { .. } => {
            // Whoever measured may have been kept waiting between two readings of the clocks.
            let near = |(step, apart): (i128, u64)| {
                let near = u128::from(NEAR_NS.saturating_add(apart));
                heard.step.is_some_and(|heard| heard.saturating_sub(step).unsigned_abs() <= near)
            };
            heard.changes.is_empty() && call.step().map_or(heard.step.is_some(), near)
        }
        What::Adjust { asked, exact, .. } => {
            let injected = asked.injected().filter(|step| *step != 0);
            (heard.step == injected || injected.is_none() && heard.may_repeat())
                && exact.is_none_or(|exact| exact.changes() == heard.changes)
        }
    }
}
