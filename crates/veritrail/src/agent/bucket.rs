//! Token buckets: so much in so long a time, and as much at once as the bucket holds. Whole numbers, so that
//! nothing is lost between two looks.

use std::time::Duration;

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// So many units...
    amount: u64,
    /// ...in so many milliseconds.
    millis: u64,
    /// Units that the bucket holds.
    most: u64,
}

/// What a bucket of events holds, in seconds of its rate: nobody floods who is loud for a moment.
const BURST: u64 = 10;

const DAY_MS: u64 = 86_400_000;

impl Rate {
    /// Events, with bursts of ten seconds' worth.
    pub(super) fn events(per_second: u32) -> Rate {
        let amount = u64::from(per_second);
        Rate { amount, millis: 1000, most: amount * BURST }
    }

    /// Bytes, of which a day's may come at once. No more than 2^37: [`Bucket`] counts in milliseconds.
    pub(super) fn bytes_per_day(bytes: u64) -> Rate {
        Rate { amount: bytes, millis: DAY_MS, most: bytes }
    }

    /// Units that a full bucket holds.
    pub(super) fn most(&self) -> u64 {
        self.most
    }

    fn full(&self) -> u64 {
        self.most.saturating_mul(self.millis)
    }
}

/// A bucket of some [`Rate`], which whoever keeps it tells each time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// Units, times the milliseconds of the rate.
    tokens: u64,
    filled: Duration,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: &Rate, now: Duration) -> Bucket {
        Bucket { tokens: rate.full(), filled: now }
    }

    /// Whether so many units are in it; `now` never goes back.
    pub(super) fn holds(&mut self, rate: &Rate, units: u64, now: Duration) -> bool {
        self.fill(rate, now);
        self.tokens >= units.saturating_mul(rate.millis)
    }

    /// Takes so many units, or what there is.
    pub(super) fn take(&mut self, rate: &Rate, units: u64) {
        self.tokens = self.tokens.saturating_sub(units.saturating_mul(rate.millis));
    }

    /// A full one is as good as none.
    pub(super) fn is_full(&mut self, rate: &Rate, now: Duration) -> bool {
        self.fill(rate, now);
        self.tokens >= rate.full()
    }

    fn fill(&mut self, rate: &Rate, now: Duration) {
        let passed = now.saturating_sub(self.filled).as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        // What is left of a millisecond counts the next time.
        self.filled = self.filled.saturating_add(Duration::from_millis(passed));
        self.tokens =
            self.tokens.saturating_add(passed.saturating_mul(rate.amount)).min(rate.full());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_day_of_bytes_may_come_at_once_and_comes_back_in_a_day() {
        let rate = Rate::bytes_per_day(1 << 36);
        let mut bucket = Bucket::new(&rate, Duration::ZERO);
        assert!(bucket.holds(&rate, 1 << 36, Duration::ZERO));
        assert!(!bucket.holds(&rate, (1 << 36) + 1, Duration::ZERO));
        bucket.take(&rate, 1 << 36);
        assert!(!bucket.holds(&rate, 1, Duration::ZERO));
        let hour = Duration::from_secs(3600);
        assert!(bucket.holds(&rate, (1 << 36) / 24, hour));
        assert!(!bucket.is_full(&rate, 23 * hour));
        assert!(bucket.is_full(&rate, 24 * hour));
    }

    proptest! {
        /// However often it is asked: what passes is the burst and the rate, to the unit.
        #[test]
        fn what_passes_is_the_burst_and_the_rate(steps in prop::collection::vec(0..3_000_000_u64, 1..400)) {
            let rate = Rate::events(100);
            let mut bucket = Bucket::new(&rate, Duration::ZERO);
            let mut passed = 0;
            let mut now = Duration::ZERO;
            for micros in [0].into_iter().chain(steps) {
                now += Duration::from_micros(micros);
                while bucket.holds(&rate, 1, now) {
                    bucket.take(&rate, 1);
                    passed += 1;
                }
                let came = u64::try_from(now.as_millis()).unwrap() * 100 / 1000;
                prop_assert_eq!(passed, 1000 + came);
            }
        }
    }
}
