//! How much of the rest (class 2) one source of events may bring: a token bucket for each login and user,
//! so that one that floods does not push out what others have to say.
//!
//! The key is what the kernel says of the process (`auid`, `uid`); a program's name or a text would be the
//! flooder's to choose. A container has one more (containers/accounts.rs).

use std::collections::HashMap;
use std::time::Duration;

use super::bucket::{Bucket, Rate};

/// Whose events they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Owner {
    /// The user that logged in; 4294967295 for none, as the kernel has it.
    pub(super) auid: u32,
    pub(super) uid: u32,
}

/// Buckets by owner; a quota of none takes everything.
#[derive(Debug)]
pub(super) struct Quota {
    rate: Option<Rate>,
    buckets: HashMap<Owner, Bucket>,
    /// That of all owners for whom there is no bucket of their own.
    others: Option<Bucket>,
}

/// So many owners have a bucket of their own.
const MOST: usize = 1024;

impl Quota {
    /// Of so many events a second.
    pub(super) fn new(rate: Option<u32>) -> Quota {
        let rate = rate.map(Rate::events);
        let others = rate.map(|rate| Bucket::new(&rate, Duration::ZERO));
        Quota { rate, buckets: HashMap::new(), others }
    }

    /// Whether an event of this owner may pass now; `now` never goes back.
    pub(super) fn admits(&mut self, owner: Option<Owner>, now: Duration) -> bool {
        let (Some(rate), Some(others)) = (&self.rate, &mut self.others) else { return true };
        let bucket = match owner {
            None => others,
            Some(owner) => {
                if self.buckets.len() >= MOST && !self.buckets.contains_key(&owner) {
                    self.buckets.retain(|_, bucket| !bucket.is_full(rate, now));
                }
                match self.buckets.len() {
                    MOST.. if !self.buckets.contains_key(&owner) => others,
                    _ => self.buckets.entry(owner).or_insert_with(|| Bucket::new(rate, now)),
                }
            }
        };
        let admits = bucket.holds(rate, 1, now);
        if admits {
            bucket.take(rate, 1);
        }
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: u32) -> Option<Owner> {
        Some(Owner { auid: 1000, uid })
    }

    #[test]
    fn one_that_floods_is_held_to_its_rate_and_others_are_not() {
        let mut quota = Quota::new(Some(100));
        let mut passed = 0;
        // A minute, a thousand a second.
        for milli in 0..60_000 {
            let now = Duration::from_millis(milli);
            passed += u64::from(quota.admits(owner(1), now));
            if milli % 50 == 0 {
                assert!(quota.admits(owner(2), now), "{milli}");
            }
        }
        assert!((7_000 - 110..=7_000).contains(&passed), "{passed}");
    }

    #[test]
    fn without_a_rate_everything_passes_and_without_memory_all_share_one_bucket() {
        let mut none = Quota::new(None);
        assert!((0..100_000).all(|n| none.admits(owner(n), Duration::ZERO)));
        assert!(none.buckets.is_empty());
        let mut quota = Quota::new(Some(1));
        let now = Duration::from_secs(5);
        let passed = (0..10_000).filter(|n| quota.admits(owner(*n), now)).count();
        assert_eq!(passed, MOST + 10);
        assert_eq!(quota.buckets.len(), MOST);
        // When they have been silent, there is room again.
        assert!(quota.admits(owner(20_000), now + Duration::from_secs(11)));
        assert_eq!(quota.buckets.len(), 1);
        assert!(quota.admits(None, now + Duration::from_secs(11)));
    }
}
