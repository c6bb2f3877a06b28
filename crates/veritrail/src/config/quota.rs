//! `[quota]`: what is dropped first where there is too much (docs/formats/agent.md, What can be lost).
//!
//! ```toml
//! [quota]
//! rest_per_second = 0                            # events of class 2 by each login and user; 0: any number
//! container_rest_per_second = 0                  # the same by each container
//! container_keyed_per_second = 0                 # events of class 1, which rules with a key report
//! container_bytes_per_day = 0                    # bytes of the trail by each container
//! disk_reserve = 67108864                        # bytes of the trail's disk kept for class 0
//! ```

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::Config;
use super::written::{Section, Wrong};

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Quota {
    rest_per_second: u32,
    container_rest_per_second: u32,
    container_keyed_per_second: u32,
    container_bytes_per_day: u64,
    disk_reserve: Option<u64>,
}

/// A million is more than an agent hears.
const PER_SECOND: RangeInclusive<u32> = 0..=1_000_000;

/// Less than a MiB would be an event or two at a time; up to 64 GiB.
const BYTES_PER_DAY: RangeInclusive<u64> = 1 << 20..=1 << 36;

/// Up to 1 TiB.
const DISK_RESERVE: RangeInclusive<u64> = 1 << 20..=1 << 40;

impl Section for Quota {
    const NAME: &'static str = "quota";

    fn check(&self, wrong: &mut Wrong<'_, '_>) {
        for (key, rate) in [
            ("rest_per_second", &self.rest_per_second),
            ("container_rest_per_second", &self.container_rest_per_second),
            ("container_keyed_per_second", &self.container_keyed_per_second),
        ] {
            wrong.range(key, rate, &PER_SECOND, "events");
        }
        if self.container_bytes_per_day > 0 {
            let bytes = &self.container_bytes_per_day;
            wrong.range("container_bytes_per_day", bytes, &BYTES_PER_DAY, "bytes");
        }
        if let Some(reserve) = &self.disk_reserve {
            wrong.range("disk_reserve", reserve, &DISK_RESERVE, "bytes");
        }
    }
}

/// What one container may bring; none: any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContainerQuota {
    /// Events of class 2 a second.
    pub(crate) rest: Option<u32>,
    /// Events of class 1 a second.
    pub(crate) keyed: Option<u32>,
    /// Bytes of the trail a day.
    pub(crate) bytes: Option<u64>,
}

impl Config {
    /// What one container may bring.
    pub(crate) fn container_quota(&self) -> ContainerQuota {
        let Quota { container_rest_per_second, container_keyed_per_second, .. } = self.quota;
        ContainerQuota {
            rest: Some(container_rest_per_second).filter(|rate| *rate > 0),
            keyed: Some(container_keyed_per_second).filter(|rate| *rate > 0),
            bytes: Some(self.quota.container_bytes_per_day).filter(|bytes| *bytes > 0),
        }
    }

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
    use super::ContainerQuota;

    #[test]
    fn quotas_are_off_unless_they_are_set() {
        assert_eq!((read("").rest_per_second(), read("").disk_reserve()), (None, None));
        let set = read("[quota]\nrest_per_second = 50\ndisk_reserve = 1048576");
        assert_eq!((set.rest_per_second(), set.disk_reserve()), (Some(50), Some(1 << 20)));
        assert_eq!(set.container_quota(), ContainerQuota::default());
        let set = read(
            "[quota]\ncontainer_rest_per_second = 5\ncontainer_keyed_per_second = 6\n\
             container_bytes_per_day = 1048576",
        );
        let all = ContainerQuota { rest: Some(5), keyed: Some(6), bytes: Some(1 << 20) };
        assert_eq!(set.container_quota(), all);
        for (wrong, said) in [
            (
                "container_bytes_per_day = 5",
                "container_bytes_per_day: 5 is not 1048576 to 68719476736 bytes",
            ),
            ("rest_per_second = 1000001", "rest_per_second: 1000001 is not 0 to 1000000 events"),
            ("disk_reserve = 5", "disk_reserve: 5 is not 1048576 to 1099511627776 bytes"),
        ] {
            assert_eq!(mistakes(&format!("[quota]\n{wrong}")), [format!("2: quota.{said}")]);
        }
    }
}
