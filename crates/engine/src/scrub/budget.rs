//! So many bytes a second.

use std::num::NonZeroU64;
use std::time::Duration;

/// A rate that holds over any second, however the bytes are asked for.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes_per_second: NonZeroU64,
    /// When all that was taken so far is paid for.
    paid: Duration,
}

impl Budget {
    /// What may be taken at once after a pause: so long's worth.
    const BURST: Duration = Duration::from_millis(100);

    /// Nothing is taken yet. `now` is of any clock that never goes back, here and in
    /// [`Budget::take`].
    #[must_use]
    pub fn new(bytes_per_second: NonZeroU64, now: Duration) -> Budget {
        Budget { bytes_per_second, paid: now }
    }

    /// Takes so many bytes, and says how long to wait before they are used.
    #[must_use]
    pub fn take(&mut self, now: Duration, bytes: u64) -> Duration {
        let price = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        let price = Duration::from_nanos(u64::try_from(price).unwrap_or(u64::MAX));
        let from = self.paid.max(now.saturating_sub(Self::BURST));
        self.paid = from.saturating_add(price);
        self.paid.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whoever waits as told gets the rate and one burst, and not less than the rate.
        #[test]
        fn the_rate_holds_however_it_is_taken(
            rate in 1_000_u64..1_000_000_000,
            asked in prop::collection::vec((1_u64..5_000_000, 0_u64..2_000), 1..50),
        ) {
            let mut budget = Budget::new(NonZeroU64::new(rate).unwrap(), Duration::ZERO);
            let (mut now, mut taken, mut idle) = (Duration::ZERO, 0_u128, Duration::ZERO);
            for (bytes, pause) in asked {
                let pause = Duration::from_millis(pause);
                now += pause;
                idle += pause;
                now += budget.take(now, bytes);
                taken += u128::from(bytes);
                let most = (now + Budget::BURST).as_nanos() * u128::from(rate) / 1_000_000_000;
                prop_assert!(taken <= most + 50, "{taken} of {most}");
                let least = now.saturating_sub(idle).as_nanos() * u128::from(rate) / 1_000_000_000;
                prop_assert!(taken + 50 >= least, "{taken} of at least {least}");
            }
        }
    }

    #[test]
    fn numbers_at_their_ends_are_no_matter() {
        let mut budget = Budget::new(NonZeroU64::MIN, Duration::MAX);
        assert_eq!(budget.take(Duration::ZERO, u64::MAX), Duration::MAX);
        let mut budget = Budget::new(NonZeroU64::MAX, Duration::ZERO);
        assert_eq!(budget.take(Duration::ZERO, 1), Duration::ZERO);
    }
}
