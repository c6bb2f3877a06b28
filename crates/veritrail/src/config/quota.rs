//! `[quota]`: what is dropped first where there is too much (docs/formats/agent.md, What can be lost).
//!
//! ```toml
//! [quota]
//! rest_per_second = 0                            # events of class 2 by each login and user; 0: any number
//! disk_reserve = 67108864                        # bytes of the trail's disk kept for class 0
//! ```

use std::ops::RangeInclusive;

use serde::Deserialize;

use super::Config;
use super::written::{Section, Wrong};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Quota {
    rest_per_second: u32,
    disk_reserve: Option<u64>,
}

/// A million is more than an agent hears.
const REST_PER_SECOND: RangeInclusive<u32> = 0..=1_000_000;

/// Up to 1 TiB.
const DISK_RESERVE: RangeInclusive<u64> = 1 << 20..=1 << 40;

impl Section for Quota {
    const NAME: &'static str = "quota";

    fn check(&self, wrong: &mut Wrong<'_, '_>) {
        wrong.range("rest_per_second", &self.rest_per_second, &REST_PER_SECOND, "events");
        if let Some(reserve) = &self.disk_reserve {
            wrong.range("disk_reserve", reserve, &DISK_RESERVE, "bytes");
        }
    }
}

impl Config {
    /// Events of class 2 that one login and user may bring each second; none: any number.
    pub(crate) fn rest_per_second(&self) -> Option<u32> {
        Some(self.quota.rest_per_second).filter(|rate| *rate > 0)
    }

    /// Bytes of the trail's disk that are kept for class 0; none: as the writer has it.
    pub(crate) fn disk_reserve(&self) -> Option<u64> {
        self.quota.disk_reserve
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{mistakes, read};

    #[test]
    fn quotas_are_off_unless_they_are_set() {
        assert_eq!((read("").rest_per_second(), read("").disk_reserve()), (None, None));
        let set = read("[quota]\nrest_per_second = 50\ndisk_reserve = 1048576");
        assert_eq!((set.rest_per_second(), set.disk_reserve()), (Some(50), Some(1 << 20)));
        for (wrong, said) in [
            ("rest_per_second = 1000001", "rest_per_second: 1000001 is not 0 to 1000000 events"),
            ("disk_reserve = 5", "disk_reserve: 5 is not 1048576 to 1099511627776 bytes"),
        ] {
            assert_eq!(mistakes(&format!("[quota]\n{wrong}")), [format!("2: quota.{said}")]);
        }
    }
}
