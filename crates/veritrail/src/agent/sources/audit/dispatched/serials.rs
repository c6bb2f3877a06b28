//! Which of the kernel's serials have not come. Pure.
//!
//! The kernel counts its events, and hands each to auditd. A serial that does not come by auditd, though a
//! later one has, is on its way behind it, as that of a call that blocks; or lost on the way: nobody was
//! connected, auditd's queue was full, the kernel itself dropped it. Few are of no event at all.

use std::collections::VecDeque;
use std::time::Duration;

/// So long a serial may be behind a later one.
const LATE: Duration = Duration::from_secs(3);

/// Holes that are known apart; of more the oldest are told at once.
const MOST: usize = 1024;

/// Serials of a stream.
#[derive(Debug, Default)]
pub(super) struct Serials {
    newest: Option<u32>,
    holes: VecDeque<Hole>,
    /// What is missing for good and not told yet.
    missing: Option<Missing>,
}

#[derive(Clone, Copy, Debug)]
struct Hole {
    first: u32,
    count: u32,
    seen: Duration,
    /// When something had come before it and behind it, in milliseconds since 1970.
    span: [u64; 2],
}

/// Serials that have not come, and between which times they would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) events: u64,
    pub(super) span: [u64; 2],
}

impl Serials {
    /// This one has come; `span` is when the one before it came, and now.
    pub(super) fn note(&mut self, serial: u32, now: Duration, span: [u64; 2]) {
        let Some(newest) = self.newest else {
            self.newest = Some(serial);
            return;
        };
        let ahead = serial.wrapping_sub(newest);
        if ahead == 0 {
            return;
        }
        if ahead >= u32::MAX / 2 {
            return self.fill(serial);
        }
        self.newest = Some(serial);
        if ahead > 1 {
            if self.holes.len() == MOST
                && let Some(hole) = self.holes.pop_front()
            {
                self.miss(hole);
            }
            let (first, count) = (newest.wrapping_add(1), ahead - 1);
            self.holes.push_back(Hole { first, count, seen: now, span });
        }
    }

    /// Whether one has come.
    pub(super) fn has_begun(&self) -> bool {
        self.newest.is_some()
    }

    /// Takes out one that comes late.
    fn fill(&mut self, serial: u32) {
        let within = |hole: &Hole| serial.wrapping_sub(hole.first) < hole.count;
        let Some(at) = self.holes.iter().rposition(within) else { return };
        let Some(hole) = self.holes.get_mut(at) else { return };
        let before = serial.wrapping_sub(hole.first);
        let behind =
            Hole { first: serial.wrapping_add(1), count: hole.count - before - 1, ..*hole };
        hole.count = before;
        if behind.count > 0 {
            self.holes.insert(at + 1, behind);
        }
        self.holes.retain(|hole| hole.count > 0);
    }

    /// What is missing for good by now; with `closing` all that has not come.
    pub(super) fn take_missing(&mut self, now: Duration, closing: bool) -> Option<Missing> {
        let late = |hole: &mut Hole| closing || now.saturating_sub(hole.seen) >= LATE;
        while let Some(hole) = self.holes.pop_front_if(late) {
            self.miss(hole);
        }
        self.missing.take()
    }

    fn miss(&mut self, Hole { count, span: [from, to], .. }: Hole) {
        let missing = self.missing.get_or_insert(Missing { events: 0, span: [from, to] });
        missing.events += u64::from(count);
        let [begin, end] = &mut missing.span;
        (*begin, *end) = (from.min(*begin), to.max(*end));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_comes_late_is_not_missing_and_the_rest_is() {
        let mut serials = Serials::default();
        let first = u32::MAX - 2;
        for (step, at) in [(0, 1), (1, 2), (9, 3), (4, 4), (2, 5), (10, 6), (10, 7), (20, 8)] {
            serials.note(first.wrapping_add(step), SECOND, [at - 1, at]);
        }
        assert_eq!(serials.take_missing(2 * SECOND, false), None);
        serials.note(first.wrapping_add(12), 3 * SECOND, [8, 9]);
        // 3, 5 to 8; 11, 13 to 19.
        let missing = Missing { events: 5 + 8, span: [2, 8] };
        assert_eq!(serials.take_missing(4 * SECOND, false), Some(missing));
        assert_eq!(serials.take_missing(9 * SECOND, true), None);
        serials.note(first.wrapping_add(22), 9 * SECOND, [9, 10]);
        let missing = Some(Missing { events: 1, span: [9, 10] });
        assert_eq!(serials.take_missing(9 * SECOND, true), missing);
    }

    proptest! {
        /// In whatever order they come, those that do not are counted, each once.
        #[test]
        fn each_is_there_or_missing(order in Just((0..300_u32).collect::<Vec<_>>()).prop_shuffle(),
                                    lost in 0_usize..200) {
            let mut serials = Serials::default();
            // Nobody knows of what was before the first, or is behind the last.
            serials.note(1000, Duration::ZERO, [0, 0]);
            for serial in order.iter().skip(lost) {
                serials.note(1001 + serial, Duration::ZERO, [0, 0]);
            }
            serials.note(1301, Duration::ZERO, [0, 0]);
            let missing = serials.take_missing(Duration::ZERO, true).map_or(0, |it| it.events);
            prop_assert_eq!(missing, lost as u64);
        }
    }
}
