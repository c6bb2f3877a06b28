//! Verified hash blocks, kept while there is room.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use record::units::HashBlock;

/// Places of a set: a look-up compares at most so many numbers.
const WAYS: usize = 8;

/// A bounded number of verified hash blocks, for any number of threads.
///
/// A block has one set it can be in, by its number; a set has a few places and a lock of its own.
/// In a full set the block gives way that was not asked for since the hand passed it last.
#[derive(Debug)]
pub(super) struct Cache {
    sets: Box<[RwLock<Set>]>,
}

#[derive(Debug, Default)]
struct Set {
    ways: Vec<Way>,
    /// Where the search for a block that gives way goes on.
    hand: usize,
}

#[derive(Debug)]
struct Way {
    place: HashBlock,
    bytes: Arc<[u8]>,
    asked_for: AtomicBool,
}

impl Cache {
    /// Room for `bytes`, though at least for one set of blocks.
    pub(super) fn new(bytes: usize, block_size: usize) -> Cache {
        let sets = (bytes / block_size / WAYS).max(1);
        Cache { sets: (0..sets).map(|_| RwLock::default()).collect() }
    }

    fn set(&self, place: HashBlock) -> &RwLock<Set> {
        let sets = self.sets.len() as u64;
        // A remainder of a usize's division.
        &self.sets[usize::try_from(place.0 % sets).unwrap_or(0)]
    }

    pub(super) fn find(&self, place: HashBlock) -> Option<Arc<[u8]>> {
        let set = self.set(place).read().unwrap_or_else(PoisonError::into_inner);
        let way = set.ways.iter().find(|way| way.place == place)?;
        // Written only when it changes, so that readers of one block do not take turns.
        if !way.asked_for.load(Ordering::Relaxed) {
            way.asked_for.store(true, Ordering::Relaxed);
        }
        Some(way.bytes.clone())
    }

    /// Keeps a block; says whether it was not there yet.
    pub(super) fn insert(&self, place: HashBlock, bytes: Arc<[u8]>) -> bool {
        let mut set = self.set(place).write().unwrap_or_else(PoisonError::into_inner);
        let Set { ways, hand } = &mut *set;
        if ways.iter().any(|way| way.place == place) {
            return false;
        }
        let way = Way { place, bytes, asked_for: AtomicBool::new(false) };
        if ways.len() < WAYS {
            ways.push(way);
            return true;
        }
        // Ends within two rounds: the first takes every mark away.
        while std::mem::take(ways[*hand].asked_for.get_mut()) {
            *hand = (*hand + 1) % WAYS;
        }
        ways[*hand] = way;
        *hand = (*hand + 1) % WAYS;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(number: u64) -> Arc<[u8]> {
        number.to_le_bytes().into()
    }

    #[test]
    fn as_many_are_kept_as_there_is_room_for() {
        for room in [0, 8 * 8, 8 * 64, 8 * 100] {
            let cache = Cache::new(room, 8);
            for number in 0..10_000 {
                assert!(cache.insert(HashBlock(number), bytes(number)));
                assert_eq!(cache.find(HashBlock(number)), Some(bytes(number)));
            }
            let kept = (0..10_000).filter(|&number| cache.find(HashBlock(number)).is_some());
            assert_eq!(kept.count(), (room / 8 / WAYS).max(1) * WAYS);
        }
    }

    #[test]
    fn what_is_asked_for_stays() {
        let cache = Cache::new(0, 8);
        cache.insert(HashBlock(0), bytes(0));
        for number in 1..1000 {
            assert_eq!(cache.find(HashBlock(0)), Some(bytes(0)));
            assert!(cache.insert(HashBlock(number), bytes(number)));
        }
        assert!(!cache.insert(HashBlock(0), bytes(0)), "it is there");
    }

    #[test]
    fn threads_find_what_belongs_there_or_nothing() {
        let cache = Cache::new(8 * 16, 8);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let cache = &cache;
                scope.spawn(move || {
                    for i in 0..20_000 {
                        let number = (i * 7 + thread * 13) % 40;
                        match cache.find(HashBlock(number)) {
                            Some(found) => assert_eq!(found, bytes(number)),
                            None => drop(cache.insert(HashBlock(number), bytes(number))),
                        }
                    }
                });
            }
        });
        let kept = (0..40).filter(|&number| cache.find(HashBlock(number)).is_some()).count();
        assert!(kept <= 16, "{kept}");
    }
}
