//! What the sources have for the decision loop: one bounded queue. Nobody waits to put something in;
//! what finds no room is counted.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use trail::Class;

/// The queue.
#[derive(Debug)]
pub(super) struct Inbox<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    capacity: usize,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<(T, usize, Option<Class>)>,
    bytes: usize,
    peak: usize,
    lost: Lost,
    /// The first and the last loss, in milliseconds since 1970.
    span: Option<[u64; 2]>,
}

/// How many were lost, by class: integrity, keyed, rest.
pub(super) type Lost = [u64; 3];

/// What an item costs beside its own bytes: the queue's memory.
const OVERHEAD: usize = 64;

impl<T> Inbox<T> {
    /// A queue for `capacity` bytes, a quarter of them for the first class only (design section 4,
    /// Priorities).
    pub(super) fn new(capacity: usize) -> Inbox<T> {
        let state =
            State { queue: VecDeque::new(), bytes: 0, peak: 0, lost: Lost::default(), span: None };
        Inbox { state: Mutex::new(state), filled: Condvar::new(), capacity }
    }

    /// Puts in `item` of so many bytes, or counts it as lost.
    pub(super) fn offer(&self, class: Class, bytes: usize, item: T) {
        if !self.try_offer(class, bytes, item) {
            lose(&mut self.state(), class);
        }
    }

    /// Puts in `item` of so many bytes; false where there is no room, which whoever asks counts.
    pub(super) fn try_offer(&self, class: Class, bytes: usize, item: T) -> bool {
        let cost = bytes.saturating_add(OVERHEAD);
        let limit = match class {
            Class::Integrity => self.capacity,
            Class::Keyed | Class::Rest => self.capacity - self.capacity / 4,
        };
        let mut state = self.state();
        if state.bytes > 0 && state.bytes.saturating_add(cost) > limit {
            return false;
        }
        let wake = state.queue.is_empty();
        push(&mut state, cost, Some(class), item);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        true
    }

    /// Puts in what must not be lost and is always small: a loss, an end.
    pub(super) fn put(&self, item: T) {
        let mut state = self.state();
        let wake = state.queue.is_empty();
        push(&mut state, OVERHEAD, None, item);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }

    /// Takes the oldest, waiting for one no longer than `patience`.
    pub(super) fn take(&self, patience: Duration) -> Option<T> {
        let mut state = self.state();
        if state.queue.is_empty() {
            let waited = self.filled.wait_timeout_while(state, patience, |s| s.queue.is_empty());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let (item, cost, _) = state.queue.pop_front()?;
        state.bytes -= cost;
        Some(item)
    }

    /// Nobody will take what is still there: it is lost, and counted.
    pub(super) fn abandon(&self) {
        let mut state = self.state();
        for (_, _, class) in std::mem::take(&mut state.queue) {
            if let Some(class) = class {
                lose(&mut state, class);
            }
        }
        state.bytes = 0;
    }

    /// What was lost since this was last asked, and between which times.
    pub(super) fn take_lost(&self) -> (Lost, Option<[u64; 2]>) {
        let mut state = self.state();
        (std::mem::take(&mut state.lost), state.span.take())
    }

    /// The most bytes that were ever held, and how many can be.
    pub(super) fn high_water(&self) -> (usize, usize) {
        (self.state().peak, self.capacity)
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lose<T>(state: &mut State<T>, class: Class) {
    let now = super::sources::millis();
    let [_, last] = state.span.get_or_insert([now, now]);
    *last = now.max(*last);
    let [integrity, keyed, rest] = &mut state.lost;
    *match class {
        Class::Integrity => integrity,
        Class::Keyed => keyed,
        Class::Rest => rest,
    } += 1;
}

fn push<T>(state: &mut State<T>, cost: usize, class: Option<Class>, item: T) {
    state.queue.push_back((item, cost, class));
    state.bytes += cost;
    state.peak = state.peak.max(state.bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_by_class_and_a_quarter_is_kept() {
        let inbox = Inbox::new(4 * (36 + OVERHEAD));
        for n in 0..4 {
            inbox.offer(Class::Rest, 36, n);
        }
        inbox.offer(Class::Keyed, 36, 4);
        inbox.offer(Class::Integrity, 36, 5);
        inbox.offer(Class::Integrity, 36, 6);
        inbox.put(7);
        let now = Duration::ZERO;
        assert_eq!(std::iter::from_fn(|| inbox.take(now)).collect::<Vec<_>>(), [0, 1, 2, 5, 7]);
        let (lost, span) = inbox.take_lost();
        assert_eq!(lost, [1, 1, 1]);
        assert!(span.is_some_and(|[from, to]| from > 0 && from <= to));
        assert_eq!(inbox.take_lost(), ([0; 3], None));
        assert_eq!(inbox.high_water(), (4 * 100 + OVERHEAD, 400));
        // An empty queue takes anything, or it would never pass.
        inbox.offer(Class::Rest, 1 << 20, 8);
        assert_eq!(inbox.take(now), Some(8));
    }

    #[test]
    fn what_nobody_takes_is_counted() {
        let inbox = Inbox::new(1 << 20);
        inbox.offer(Class::Integrity, 1, 0);
        inbox.offer(Class::Rest, 1, 1);
        inbox.offer(Class::Rest, 1, 2);
        inbox.put(3);
        inbox.abandon();
        assert_eq!(inbox.take(Duration::ZERO), None);
        assert_eq!(inbox.take_lost().0, [1, 0, 2]);
        inbox.offer(Class::Rest, 1, 4);
        assert_eq!(inbox.take(Duration::ZERO), Some(4));
    }
}
