//! `[bpf]`: the programs that tell of processes.
//!
//! ```toml
//! [bpf]
//! ring_bytes = 4194304      # events may wait in so many bytes, a power of two
//! statistics = false        # have the kernel time every BPF program of the host
//! ```

use std::ops::RangeInclusive;

use host::bpf::{Program, Wanted};
use serde::{Deserialize, Serialize};

use super::Config;
use super::written::{Section, Wrong};

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Bpf {
    ring_bytes: u32,
    statistics: bool,
}

impl Default for Bpf {
    fn default() -> Bpf {
        let Wanted { ring_bytes, statistics, .. } = Wanted::default();
        Bpf { ring_bytes, statistics }
    }
}

/// What `bpf.ring_bytes` may be.
const RING_BYTES: RangeInclusive<u32> = 4096..=1 << 30;

impl Section for Bpf {
    const NAME: &'static str = "bpf";

    fn check(&self, wrong: &mut Wrong<'_, '_>) {
        wrong.range("ring_bytes", &self.ring_bytes, &RING_BYTES, "bytes");
        if !self.ring_bytes.is_power_of_two() {
            wrong.key("ring_bytes", "this is not a power of two");
        }
    }
}

impl Config {
    /// Which programs tell of processes, and how.
    pub(crate) fn bpf(&self) -> Wanted {
        let Bpf { ring_bytes, statistics } = self.bpf;
        let mut wanted = Wanted { ring_bytes, statistics, ..Wanted::default() };
        if self.container_places().is_none() {
            wanted.programs.retain(|program| *program != Program::Groups);
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{mistakes, read};

    #[test]
    fn the_ring_is_a_power_of_two() {
        let wanted = read("[bpf]\nring_bytes = 8192\nstatistics = true").bpf();
        assert_eq!((wanted.ring_bytes, wanted.statistics), (8192, true));
        assert_eq!(
            mistakes("[bpf]\nring_bytes = 5000"),
            ["2: bpf.ring_bytes: this is not a power of two"]
        );
        assert_eq!(
            mistakes("[bpf]\nring_bytes = 0").first().map(String::as_str),
            Some("2: bpf.ring_bytes: 0 is not 4096 to 1073741824 bytes")
        );
    }
}
