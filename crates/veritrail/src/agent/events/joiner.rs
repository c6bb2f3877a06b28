//! Puts together what stands in several leaves of one event: the kernel's records, and ours beside them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use record::EventId;

/// An event as far as it is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Joined {
    id: Option<EventId>,
    /// Its first leaf.
    pub(super) first: u64,
    pub(super) bytes: Vec<u8>,
    came: Instant,
}

/// Events that wait for what may stand beside them, in the order of their first leaves.
#[derive(Debug)]
pub(super) struct Joiner {
    window: Duration,
    waiting: VecDeque<Joined>,
    bytes: usize,
    /// The leaf behind all that has come.
    next: u64,
}

/// More are not held, however short the time: who reads an old trail does not wait.
const MOST: usize = 1024;
const MOST_BYTES: usize = 1 << 20;

impl Joiner {
    pub(super) fn new(window: Duration, next: u64) -> Joiner {
        Joiner { window, waiting: VecDeque::new(), bytes: 0, next }
    }

    /// Takes the next event of the trail, which ends before leaf `next`.
    pub(super) fn push(
        &mut self,
        now: Instant,
        (first, next): (u64, u64),
        id: Option<EventId>,
        bytes: &[u8],
    ) {
        self.next = next;
        self.bytes += bytes.len();
        let same = |waiting: &&mut Joined| id.is_some() && waiting.id == id;
        match self.waiting.iter_mut().rev().find(same) {
            Some(event) => event.bytes.extend_from_slice(bytes),
            None => {
                self.waiting.push_back(Joined { id, first, bytes: bytes.to_vec(), came: now });
            }
        }
    }

    /// Leaves up to there are not there any more.
    pub(super) fn pass(&mut self, next: u64) {
        self.next = next;
    }

    /// The oldest, if it has waited long enough; `all`: there is nothing more to wait for. With the
    /// leaf to go on with once this one has been told: what was joined out of order behind it comes
    /// again then, and nothing is left out.
    pub(super) fn pop(&mut self, now: Instant, all: bool) -> Option<(u64, Joined)> {
        let oldest = self.waiting.front()?;
        let full = self.waiting.len() > MOST || self.bytes > MOST_BYTES;
        if !all && !full && now.saturating_duration_since(oldest.came) < self.window {
            return None;
        }
        let oldest = self.waiting.pop_front()?;
        self.bytes -= oldest.bytes.len();
        Some((self.position(), oldest))
    }

    /// The leaf to go on with.
    pub(super) fn position(&self) -> u64 {
        self.waiting.front().map_or(self.next, |event| event.first)
    }

    /// How long the oldest waits on.
    pub(super) fn due(&self, now: Instant) -> Option<Duration> {
        let oldest = self.waiting.front()?;
        Some(self.window.saturating_sub(now.saturating_duration_since(oldest.came)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_beside_is_joined_and_the_rest_keeps_its_order() {
        let window = Duration::from_millis(100);
        let mut joiner = Joiner::new(window, 5);
        let began = Instant::now();
        let id = |serial| Some(EventId { millis: 1, serial });
        assert_eq!(joiner.position(), 5);
        joiner.push(began, (5, 6), id(1), b"a");
        joiner.push(began, (6, 7), id(2), b"b");
        joiner.push(began, (7, 8), None, b"-");
        joiner.push(began, (8, 9), id(1), b"c");
        joiner.push(began, (9, 10), None, b"=");
        assert_eq!(joiner.pop(began, false), None);
        assert_eq!(joiner.due(began + window / 4), Some(window * 3 / 4));
        let later = began + window;
        let mut told = Vec::new();
        while let Some((next, event)) = joiner.pop(later, false) {
            told.push((event.first, next, String::from_utf8(event.bytes).unwrap()));
        }
        let told: Vec<_> =
            told.iter().map(|(first, next, text)| (*first, *next, &text[..])).collect();
        assert_eq!(told, [(5, 6, "ac"), (6, 7, "b"), (7, 9, "-"), (9, 10, "=")]);
        assert_eq!(joiner.due(later), None);
    }

    #[test]
    fn no_more_is_held_than_there_is_room_for() {
        let now = Instant::now();
        let mut joiner = Joiner::new(Duration::from_secs(9), 0);
        for n in 0..=MOST as u64 {
            joiner.push(now, (n, n + 1), None, b"");
        }
        assert_eq!(joiner.pop(now, false).unwrap().1.first, 0);
        assert_eq!(joiner.pop(now, false), None);
        joiner.push(now, (2000, 2001), None, &vec![0; MOST_BYTES + 1]);
        let mut count = 0;
        while joiner.pop(now, false).is_some() {
            count += 1;
        }
        assert_eq!((count, joiner.bytes), (MOST + 1, 0));
    }
}
