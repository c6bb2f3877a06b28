//! Where steps that were told after the fact stand among the events before their records. Pure.
//!
//! A step changes by how much the clock is ahead of the time since boot. The records of ours have both, so
//! each event's stamp says between which two steps it was made; and events stand in their order.

/// How far a stamp may be from where its step allows it: it is that of the tick before, and a call that
/// steps takes its time. More than half the step would be the other side's.
const APART: std::ops::RangeInclusive<i128> = 20_000_000..=2_000_000_000;

/// So many steps are looked at together: more are not under way at once.
const MOST: usize = 16;

/// A step of which the time since boot is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Which change it is.
    pub(super) change: usize,
    /// When, in ns since boot.
    pub(super) at: i128,
    /// The clock less the time since boot, before and after it.
    pub(super) before: i128,
    pub(super) after: i128,
    /// Where it was told.
    pub(super) ordinal: u64,
}

impl Step {
    fn apart(&self) -> i128 {
        let half = self.after.saturating_sub(self.before).saturating_abs() / 2;
        half.clamp(*APART.start(), *APART.end())
    }
}

/// The last steps of a boot, in their order.
#[derive(Debug, Default)]
pub(super) struct Late(Vec<Step>);

impl Late {
    /// One more, with the places and stamps of the last events, the newest first; and behind which event
    /// each of them stands.
    pub(super) fn push<'a>(
        &mut self,
        step: Step,
        recent: impl Iterator<Item = &'a (u64, i128)>,
    ) -> Vec<(usize, u64)> {
        let at = self.0.partition_point(|other| other.at <= step.at);
        self.0.insert(at, step);
        if self.0.len() > MOST {
            self.0.remove(0);
        }
        let mut places: Vec<u64> = self.0.iter().map(|step| step.ordinal).collect();
        let mut passed = self.0.len();
        for (ordinal, stamp) in recent {
            // One that fits nowhere is where its neighbour is.
            let fits = |steps: &usize| self.is_behind(*steps, *stamp);
            passed = (0..=passed).rev().find(fits).unwrap_or(passed);
            if passed == 0 {
                break;
            }
            for place in places.iter_mut().take(passed) {
                *place = (*place).min(ordinal.saturating_sub(1));
            }
        }
        self.0.iter().zip(places).map(|(step, place)| (step.change, place)).collect()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether such a stamp was made after so many of the steps, and before the next.
    fn is_behind(&self, steps: usize, stamp: i128) -> bool {
        let last = steps.checked_sub(1).and_then(|last| self.0.get(last));
        let next = self.0.get(steps);
        let Some(offset) = last.map(|last| last.after).or(next.map(|next| next.before)) else {
            return true;
        };
        let since_boot = stamp.saturating_sub(offset);
        since_boot >= last.map_or(0, |last| last.at - last.apart())
            && next.is_none_or(|next| since_boot <= next.at + next.apart())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i128 = 1_000_000_000;

    fn step(change: usize, at: i128, before: i128, after: i128, ordinal: u64) -> Step {
        Step { change, at: at * S, before: before * S, after: after * S, ordinal }
    }

    #[test]
    fn steps_that_are_told_together_stand_where_each_was_made() {
        // Steps at 10, 11 and 12 s since boot, the last two of calls that took 0.3 s; an event before,
        // between and after them.
        let steps = [(10, 0, 1000), (11, 1000, -1000), (12, -1000, -997)];
        let events = [(1, 9_500), (2, 1_010_500), (3, -989_300), (4, -985_300), (5, -984_500)];
        let recent: Vec<(u64, i128)> = events.iter().map(|(n, ms)| (*n, ms * S / 1000)).collect();
        let mut late = Late::default();
        let mut placed = Vec::new();
        for (change, (at, before, after)) in steps.into_iter().enumerate() {
            placed = late.push(step(change, at, before, after, 9), recent.iter().rev());
        }
        assert_eq!(placed, [(0, 1), (1, 2), (2, 3)]);
    }

    #[test]
    fn many_steps_are_bounded() {
        let mut late = Late::default();
        for change in 0..100 {
            let at = i128::try_from(change).unwrap();
            assert!(late.push(step(change, at, 0, 1, 1), [].iter()).len() <= MOST);
        }
    }
}
