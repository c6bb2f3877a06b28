//! Work done by several threads, its results taken in order by one.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// How far ahead of the oldest unfinished piece others may run, per thread. Bounds what waits.
const AHEAD: u64 = 16;

struct Line<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// The number whose result is taken next.
    next: u64,
    waiting: BTreeMap<u64, T>,
    workers: usize,
    stopped: bool,
}

/// Runs `threads` workers and hands their results to `consume`, on the calling thread, in
/// the order of their numbers, which must be 0, 1, 2 .. without a hole.
///
/// `worker` is called once in each thread and makes the function that does one piece of work,
/// or says that there is none left. Stops early when `consume` breaks.
pub(crate) fn ordered<T, W>(
    threads: NonZeroUsize,
    worker: impl Fn() -> W + Sync,
    mut consume: impl FnMut(T) -> ControlFlow<()>,
) where
    T: Send,
    W: FnMut() -> Option<(u64, T)>,
{
    let window = AHEAD * threads.get() as u64;
    let state = State { next: 0, waiting: BTreeMap::new(), workers: threads.get(), stopped: false };
    let line = Line { state: Mutex::new(state), changed: Condvar::new() };
    thread::scope(|scope| {
        for _ in 0..threads.get() {
            scope.spawn(|| {
                // Signs off on a panic too, so that nobody waits for the dead.
                let _leave = Leave(&line);
                let mut work = worker();
                while let Some((number, result)) = work() {
                    if line.put(number, result, window).is_break() {
                        break;
                    }
                }
            });
        }
        while let Some(result) = line.take() {
            if consume(result).is_break() {
                line.lock().stopped = true;
                line.changed.notify_all();
                break;
            }
        }
    });
}

impl<T> Line<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, number: u64, result: T, window: u64) -> ControlFlow<()> {
        let mut state = self.lock();
        while number >= state.next + window && !state.stopped {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stopped {
            return ControlFlow::Break(());
        }
        state.waiting.insert(number, result);
        if number == state.next {
            self.changed.notify_all();
        }
        ControlFlow::Continue(())
    }

    fn take(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            let next = state.next;
            if let Some(result) = state.waiting.remove(&next) {
                state.next += 1;
                self.changed.notify_all();
                return Some(result);
            }
            if state.workers == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct Leave<'a, T>(&'a Line<T>);

impl<T> Drop for Leave<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.workers -= 1;
        if thread::panicking() {
            state.stopped = true;
        }
        drop(state);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn count(to: u64, break_at: u64) -> Vec<u64> {
        let next = AtomicU64::new(0);
        let mut seen = Vec::new();
        ordered(
            NonZeroUsize::new(4).unwrap(),
            || {
                || {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    (number < to).then_some((number, number * 3))
                }
            },
            |result| {
                seen.push(result);
                if result == break_at * 3 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        );
        seen
    }

    #[test]
    fn results_come_in_order_and_a_break_ends_it() {
        assert_eq!(count(5000, u64::MAX / 3), (0..5000).map(|n| n * 3).collect::<Vec<_>>());
        assert_eq!(count(5000, 1000), (0..=1000).map(|n| n * 3).collect::<Vec<_>>());
        assert_eq!(count(0, 0), Vec::<u64>::new());
    }
}
