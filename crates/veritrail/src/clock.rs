//! The clocks and the name of this boot: read here and nowhere else in the binary.

use rustix::time::{ClockId, clock_gettime};

/// Now, on both clocks.
pub(crate) fn now() -> trail::Stamp {
    trail::Stamp { boottime_ns: read(ClockId::Boottime), realtime_ns: read(ClockId::Realtime) }
}

/// Nanoseconds of a clock; 0 where it stands before its own beginning.
fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// The kernel's `boot_id`; `unknown` where /proc does not have it.
pub(crate) fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id: String = id.trim().chars().filter(|c| c.is_ascii_hexdigit() || *c == '-').collect();
    if id.is_empty() { "unknown".into() } else { id }
}
