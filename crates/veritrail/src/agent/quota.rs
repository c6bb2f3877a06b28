//! How much of the rest (class 2) one source of events may bring: a token bucket for each login and user,
//! so that one that floods does not push out what others have to say.
//!
//! The key is what the kernel says of the process (`auid`, `uid`); a program's name or a text would be the
//! flooder's to choose. Where containers are labelled, theirs takes the place of it.

use std::collections::HashMap;
use std::time::Duration;

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
    /// Events a second.
    rate: Option<u32>,
    buckets: HashMap<Owner, Bucket>,
    /// That of all owners for whom there is no bucket of their own.
    others: Bucket,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// In thousandths of an event.
    tokens: u64,
    filled: Duration,
}

/// So many owners have a bucket of their own.
const MOST: usize = 1024;

/// What a bucket holds, in seconds of its rate: nobody floods who is loud for a moment.
const BURST: u64 = 10;

impl Quota {
    /// Of `rate` events a second.
    pub(super) fn new(rate: Option<u32>) -> Quota {
        let others = Bucket { tokens: full(rate), filled: Duration::ZERO };
        Quota { rate, buckets: HashMap::new(), others }
    }

    /// Whether an event of this owner may pass now; `now` never goes back.
    pub(super) fn admits(&mut self, owner: Option<Owner>, now: Duration) -> bool {
        let Some(rate) = self.rate else { return true };
        let new = Bucket { tokens: full(self.rate), filled: now };
        let bucket = match owner {
            None => &mut self.others,
            Some(owner) => {
                if self.buckets.len() >= MOST && !self.buckets.contains_key(&owner) {
                    // A full bucket is as good as none.
                    let most = full(self.rate);
                    self.buckets.retain(|_, bucket| {
                        bucket.fill(rate, now);
                        bucket.tokens < most
                    });
                }
                match self.buckets.len() {
                    MOST.. if !self.buckets.contains_key(&owner) => &mut self.others,
                    _ => self.buckets.entry(owner).or_insert(new),
                }
            }
        };
        bucket.fill(rate, now);
        match bucket.tokens.checked_sub(1000) {
            Some(left) => {
                bucket.tokens = left;
                true
            }
            None => false,
        }
    }
}

impl Bucket {
    fn fill(&mut self, rate: u32, now: Duration) {
        let passed = now.saturating_sub(self.filled).as_millis();
        if passed == 0 {
            return;
        }
        self.filled = now;
        let more = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(u64::from(rate));
        self.tokens = self.tokens.saturating_add(more).min(full(Some(rate)));
    }
}

fn full(rate: Option<u32>) -> u64 {
    u64::from(rate.unwrap_or(0)).saturating_mul(1000 * BURST)
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
