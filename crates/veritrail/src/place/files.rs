//! The index of each mounted file system: made once, by one walk whoever asks, and kept while it
//! holds.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use host::block_device::Number;

use super::mounts::{Closed, Entrance, Mount};
use super::walk::{self, End, Walked};

/// What an index holds for: another life of the device, another mount, or a change from
/// read-only to writable makes another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) device: Number,
    pub(super) diskseq: Option<u64>,
    pub(super) mount: u64,
    pub(super) read_only: bool,
}

/// All indexes.
pub(super) struct Files {
    /// The one used last stands last.
    slots: Mutex<Vec<(Key, Arc<Slot>)>>,
    limits: Limits,
}

/// So many times the indexes that are kept may be on their way at once.
const MOST_WALKS: usize = 4;

/// How far a walk goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Memory of one index, in bytes.
    pub(crate) memory: usize,
    /// Memory of all that are kept, but for the one used last, in bytes.
    pub(crate) kept: usize,
    /// How many indexes are kept.
    pub(crate) indexes: usize,
    /// How long a walk may take, whoever waits for it.
    pub(crate) walk: Duration,
    /// How long an index of a file system that can change is believed.
    pub(crate) fresh: Duration,
    /// The same where something could not be read: a walk comes by the damage again, which makes
    /// another event, whose place is asked for again.
    pub(crate) damaged: Duration,
}

impl Limits {
    /// For one question that may take its time.
    pub(crate) fn patient() -> Limits {
        Limits { memory: 1 << 30, walk: Duration::from_secs(3600), ..Limits::default() }
    }
}

impl Default for Limits {
    /// 24 MiB hold 200,000 files of one extent, and whole the agent shall not need 64 MiB. Events come
    /// in bursts of well under a second.
    fn default() -> Limits {
        Limits {
            memory: 24 << 20,
            kept: 24 << 20,
            indexes: 8,
            walk: Duration::from_secs(60),
            fresh: Duration::from_secs(1),
            damaged: Duration::from_secs(600),
        }
    }
}

/// What is known of a file system's files.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// What a walk brought.
    Walked(Arc<Walked>),
    /// A walk is on its way.
    NotYet,
    /// Why there is none.
    Never(String),
}

#[derive(Debug)]
struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Debug)]
enum State {
    Walking,
    Done { known: Known, at: Instant },
}

impl Files {
    pub(super) fn new(limits: Limits) -> Files {
        Files { slots: Mutex::new(Vec::new()), limits }
    }

    /// The index for `key`, begun now through `entrance` if there is none, and waited for until
    /// `deadline`. One that is on its way then goes on.
    pub(super) fn index(
        &self,
        key: Key,
        deadline: Instant,
        entrance: impl FnOnce() -> Result<Entrance, String>,
    ) -> Known {
        let slot = match self.slot(&key) {
            Some((slot, false)) => slot,
            Some((slot, true)) => {
                self.begin(&slot, entrance());
                slot
            }
            None => return Known::NotYet,
        };
        let mut state = lock(&slot.state);
        loop {
            if let State::Done { known, .. } = &*state {
                return known.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Known::NotYet;
            }
            state = match slot.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// The slot for `key`, and whether it is new: then its walk is the caller's to begin. None where
    /// too many walks are on their way.
    fn slot(&self, key: &Key) -> Option<(Arc<Slot>, bool)> {
        let mut slots = lock(&self.slots);
        trim(&mut slots, key, self.limits.kept);
        slots.retain(|(known, slot)| known != key || self.holds(key, slot));
        if let Some(at) = slots.iter().position(|(known, _)| known == key) {
            let found = slots.remove(at);
            let slot = Arc::clone(&found.1);
            slots.push(found);
            return Some((slot, false));
        }
        // One that is on its way stays: whoever waits for it would begin again.
        while slots.len() >= self.limits.indexes {
            let done = slots.iter().position(|(_, slot)| !slot.is_walking());
            match done {
                Some(oldest) => slots.remove(oldest),
                // One that hangs on a dead disk never ends, and must not keep all others.
                None if slots.len() < self.limits.indexes.saturating_mul(MOST_WALKS) => break,
                None => return None,
            };
        }
        let state = Mutex::new(State::Walking);
        let slot = Arc::new(Slot { state, changed: Condvar::new() });
        slots.push((key.clone(), Arc::clone(&slot)));
        Some((slot, true))
    }

    fn holds(&self, key: &Key, slot: &Slot) -> bool {
        match &*lock(&slot.state) {
            State::Walking => true,
            State::Done { known: Known::Walked(walked), at } if key.read_only => {
                // What was slow may be faster now.
                walked.end != End::Late || at.elapsed() < self.limits.fresh
            }
            State::Done { known: Known::Walked(walked), at } if walked.trouble.unreadable > 0 => {
                at.elapsed() < self.limits.damaged
            }
            State::Done { at, .. } => at.elapsed() < self.limits.fresh,
        }
    }

    /// Walks in a thread of its own: a file system may take its time, and those who ask have none.
    fn begin(&self, slot: &Arc<Slot>, entrance: Result<Entrance, String>) {
        let Limits { memory, walk, .. } = self.limits;
        let entrance = match entrance {
            Ok(entrance) => entrance,
            Err(why) => return slot.finish(Known::Never(why)),
        };
        let walker = Arc::clone(slot);
        let started = thread::Builder::new().name("place-walk".to_owned()).spawn(move || {
            let walked = walk::walk(&entrance, memory, Instant::now() + walk);
            drop(entrance);
            walker.finish(match walked {
                Ok(walked) => Known::Walked(Arc::new(walked)),
                Err(error) => Known::Never(format!("its files cannot be listed: {error}")),
            });
        });
        if let Err(error) = started {
            slot.finish(Known::Never(format!("no thread to list its files: {error}")));
        }
    }
}

/// Lets the oldest go until the others have room, but the one that is asked for.
fn trim(slots: &mut Vec<(Key, Arc<Slot>)>, wanted: &Key, kept: usize) {
    let bytes = |(_, slot): &(Key, Arc<Slot>)| slot.bytes();
    while slots.iter().map(bytes).sum::<usize>() > kept {
        let oldest = slots.iter().position(|one| one.0 != *wanted && bytes(one) > 0);
        let Some(oldest) = oldest else { return };
        slots.remove(oldest);
    }
}

impl Slot {
    fn bytes(&self) -> usize {
        match &*lock(&self.state) {
            State::Done { known: Known::Walked(walked), .. } => walked.index.bytes(),
            _ => 0,
        }
    }

    fn finish(&self, known: Known) {
        *lock(&self.state) = State::Done { known, at: Instant::now() };
        self.changed.notify_all();
    }

    fn is_walking(&self) -> bool {
        matches!(&*lock(&self.state), State::Walking)
    }
}

/// A lock that a thread held when it panicked guards nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somebody may have piled a hundred thousand mounts upon each other, and to try them all takes
/// longer than anybody waits.
const MOST_TRIED: usize = 1000;

/// The way into a file system through the first of its mounts that lets us in.
pub(super) fn enter(mounts: &[Mount]) -> Result<(&Mount, Entrance), String> {
    let mut why = None;
    for mount in mounts.iter().take(MOST_TRIED) {
        let closed = match mount.enter() {
            Ok(entrance) => return Ok((mount, entrance)),
            Err(closed) => closed,
        };
        let words = match closed {
            Closed::BehindAServer => "the way to it leads through FUSE or a network".to_owned(),
            Closed::Covered => "something else is mounted upon it".to_owned(),
            Closed::NotADirectory => "only single files of it are mounted".to_owned(),
            Closed::Io(error) => format!("it cannot be entered: {error}"),
        };
        why.get_or_insert(words);
    }
    Err(why.unwrap_or_else(|| "it is not mounted".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::index::Index;
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let key = |mount| Key { device: (7, 0), diskseq: None, mount, read_only: true };
        let slot = |files: u64| {
            let mut index = Index::new(2, usize::MAX);
            for inode in 0..files {
                index.add(Index::ROOT, b"name", inode, 1, false).unwrap();
            }
            let (trouble, at) = (walk::Trouble::default(), Instant::now());
            let walked = Walked { index, trouble, end: End::Whole, at };
            let known = Known::Walked(Arc::new(walked));
            let state = Mutex::new(State::Done { known, at });
            Arc::new(Slot { state, changed: Condvar::new() })
        };
        let small = slot(1).bytes();
        let mut slots: Vec<_> = (0..4).map(|mount| (key(mount), slot(1))).collect();
        slots.push((key(4), slot(1000)));
        let left = |slots: &[(Key, _)]| slots.iter().map(|one| one.0.mount).collect::<Vec<_>>();
        trim(&mut slots, &key(0), usize::MAX);
        assert_eq!(slots.len(), 5);
        let kept = slots[4].1.bytes() + 2 * small;
        trim(&mut slots, &key(0), kept);
        assert_eq!(left(&slots), [0, 3, 4]);
        trim(&mut slots, &key(0), small);
        assert_eq!(left(&slots), [0]);
        trim(&mut slots, &key(0), 0);
        assert_eq!(left(&slots), [0], "it is asked for");
    }

    #[test]
    fn walks_that_never_end_are_bounded() {
        let files = Files::new(Limits::default());
        let key = |mount| Key { device: (7, 0), diskseq: None, mount, read_only: true };
        // Whoever gets a new slot here hangs: nothing is ever put in.
        let begun = (0..100).filter(|mount| files.slot(&key(*mount)).is_some()).count();
        assert_eq!(begun, Limits::default().indexes * MOST_WALKS);
        assert!(matches!(files.slot(&key(3)), Some((_, false))), "that one is on its way");
        let known = files.index(key(1000), Instant::now(), || Err("not asked".to_owned()));
        assert!(matches!(known, Known::NotYet), "{known:?}");
    }
}
