//! When entries go on: at once where that matters, and else many together. A write, a wake-up and a sync
//! cost the same for one entry as for a hundred.

use std::time::{Duration, Instant};

use crate::Class;

/// So many bytes of entries go on without waiting for more.
const BUNCH: usize = 256 << 10;

/// What has come since the last entries went on.
#[derive(Debug, Default)]
pub(super) struct Pace {
    bytes: usize,
    urgent: bool,
    went: Option<Instant>,
}

impl Pace {
    /// An entry has come; whether whoever passes it on has to know.
    pub(super) fn note(&mut self, class: Class, bytes: usize) -> bool {
        let before = self.bytes;
        self.bytes = before.saturating_add(bytes);
        let urgent = class == Class::Integrity && !std::mem::replace(&mut self.urgent, true);
        before == 0 || urgent || (before < BUNCH && self.bytes >= BUNCH)
    }

    /// Somebody waits for what has come.
    pub(super) fn hurry(&mut self) {
        self.urgent = true;
    }

    /// How long what has come may wait for company, if something goes on once in `every`.
    pub(super) fn left(&self, now: Instant, every: Duration) -> Duration {
        match self.went {
            Some(went) if !self.urgent && self.bytes < BUNCH => {
                every.saturating_sub(now.saturating_duration_since(went))
            }
            _ => Duration::ZERO,
        }
    }

    /// All that has come goes on.
    pub(super) fn went(&mut self, now: Instant) {
        *self = Pace { bytes: 0, urgent: false, went: Some(now) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_class_the_first_entry_and_a_full_bunch_do_not_wait() {
        const EVERY: Duration = Duration::from_millis(50);
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::default();
        assert!(pace.note(Class::Rest, 100));
        assert_eq!(pace.left(at(0), EVERY), Duration::ZERO);
        pace.went(at(0));

        assert!(pace.note(Class::Rest, 100), "the first sets the time");
        assert!(!pace.note(Class::Keyed, 100), "the others go with it");
        assert_eq!(pace.left(at(20), EVERY), Duration::from_millis(30));
        assert_eq!(pace.left(at(60), EVERY), Duration::ZERO);

        assert!(pace.note(Class::Integrity, 100));
        assert!(!pace.note(Class::Integrity, 100), "once is enough to know");
        assert_eq!(pace.left(at(20), EVERY), Duration::ZERO);
        pace.went(at(20));

        assert!(pace.note(Class::Rest, 1));
        assert!(pace.note(Class::Rest, BUNCH));
        assert_eq!(pace.left(at(21), EVERY), Duration::ZERO);
        pace.went(at(21));

        pace.note(Class::Rest, 1);
        pace.hurry();
        assert_eq!(pace.left(at(22), EVERY), Duration::ZERO);
    }
}
