//! The clocks, the name of this boot and of its kernel: read here and nowhere else in the binary.

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

/// The running kernel's version and patch level: (6, 12).
pub(crate) fn kernel_release() -> Option<(u32, u32)> {
    let uname = rustix::system::uname();
    let mut numbers = uname.release().to_str().ok()?.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The kernel's `boot_id`; `unknown` where /proc does not have it.
pub(crate) fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id: String = id.trim().chars().filter(|c| c.is_ascii_hexdigit() || *c == '-').collect();
    if id.is_empty() { "unknown".into() } else { id }
}
