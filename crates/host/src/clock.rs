//! The system's clock as it is watched: told when it is set, read against the time since boot, and
//! what steers it.
//!
//! Nothing here changes anything.

#![allow(unsafe_code, reason = "adjtimex(2)")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_getres,
    clock_gettime, timerfd_create, timerfd_settime,
};

use crate::wait::readable;

/// Is told by the kernel when CLOCK_REALTIME is set (`TFD_TIMER_CANCEL_ON_SET`), by whomever.
#[derive(Debug)]
pub struct Witness {
    timer: OwnedFd,
}

/// In the year 2242: it shall never expire.
const NEVER: i64 = 1 << 33;

impl Witness {
    /// Listens from now on.
    ///
    /// # Errors
    /// What timerfd_create(2) and timerfd_settime(2) answered.
    pub fn open() -> io::Result<Witness> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
        let witness = Witness { timer };
        witness.arm()?;
        Ok(witness)
    }

    /// True when the clock was set since this was last asked; waits for that at most `timeout`. Who
    /// reads the clock then reads it as it is after that.
    ///
    /// # Errors
    /// What poll(2), read(2) or timerfd_settime(2) answered.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        if !readable(&self.timer, Some(timeout))? {
            return Ok(false);
        }
        match rustix::io::read(&self.timer, &mut [0; 8]) {
            // Cancelled; or expired, by a clock set to a time behind it.
            Err(Errno::CANCELED) | Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        self.arm()?;
        Ok(true)
    }

    fn arm(&self) -> io::Result<()> {
        let never = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec { tv_sec: NEVER, tv_nsec: 0 },
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        match timerfd_settime(&self.timer, flags, &never) {
            // It was set meanwhile, which does not keep it from being armed.
            Ok(_) | Err(Errno::CANCELED) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Witness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

/// Two clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distance {
    /// CLOCK_BOOTTIME.
    pub boottime_ns: u64,
    /// CLOCK_REALTIME less CLOCK_BOOTTIME, ns. Steering moves both, so only a step changes it.
    pub realtime_ns: i128,
    /// How far that may be wrong: the clocks were read one after the other.
    pub apart_ns: u64,
}

/// So often both are read for the pair that was the least disturbed.
const TRIES: usize = 16;

/// Reads how far CLOCK_REALTIME is from CLOCK_BOOTTIME.
#[must_use]
pub fn distance() -> Distance {
    let mut best = Distance { boottime_ns: 0, realtime_ns: 0, apart_ns: u64::MAX };
    for _ in 0..TRIES {
        let before = nanos(clock_gettime(ClockId::Boottime));
        let real = nanos(clock_gettime(ClockId::Realtime));
        let after = nanos(clock_gettime(ClockId::Boottime));
        let middle = before.midpoint(after);
        // Either reading is of a whole nanosecond that lies somewhere in it.
        let apart = u64::try_from((after - before) / 2 + 1).unwrap_or(u64::MAX);
        if apart < best.apart_ns {
            let boottime_ns = u64::try_from(middle).unwrap_or(0);
            best = Distance { boottime_ns, realtime_ns: real - middle, apart_ns: apart };
        }
    }
    best
}

fn nanos(time: Timespec) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// The kernel's CONFIG_HZ: its coarse clocks go by the tick.
#[must_use]
pub fn ticks_per_second() -> u32 {
    let tick = nanos(clock_getres(ClockId::RealtimeCoarse)).max(1);
    u32::try_from((1_000_000_000 + tick / 2) / tick).unwrap_or(1)
}

/// What adjtimex(2) says when it is asked for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timex {
    /// us, or ns with `STA_NANO`.
    pub offset: i64,
    /// ppm, 16 bits behind the point.
    pub freq: i64,
    /// `STA_*`.
    pub status: i32,
    /// The PLL's time constant.
    pub constant: i64,
    /// us.
    pub tick: i64,
    /// TAI less UTC, s.
    pub tai: i32,
    /// The time: s.
    pub seconds: i64,
    /// And us, or ns with `STA_NANO`.
    pub fraction: i64,
}

/// Reads what steers the clock. Takes no right.
///
/// # Errors
/// What adjtimex(2) answered: a seccomp filter may refuse it.
pub fn timex() -> io::Result<Timex> {
    // SAFETY: a struct of numbers, for which all zeros is a value: nothing is to be changed.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the struct lives as long as the call, which writes no more than it.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Timex {
        offset: timex.offset,
        freq: timex.freq,
        status: timex.status,
        constant: timex.constant,
        tick: timex.tick,
        tai: timex.tai,
        seconds: timex.time.tv_sec,
        fraction: timex.time.tv_usec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_keeps_its_distance_as_long_as_nobody_sets_it() {
        let witness = Witness::open().unwrap();
        let before = distance();
        std::thread::sleep(Duration::from_millis(20));
        let after = distance();
        assert!(after.boottime_ns > before.boottime_ns);
        // Nobody sets this machine's clock meanwhile, or the witness says so.
        let moved = (after.realtime_ns - before.realtime_ns).unsigned_abs();
        let apart = u128::from(before.apart_ns + after.apart_ns + 500);
        assert!(moved <= apart || witness.wait(Duration::ZERO).unwrap(), "{before:?} {after:?}");
    }

    #[test]
    fn what_steers_the_clock_is_read() {
        let timex = timex().unwrap();
        // linux/timex.h: what the kernel takes.
        assert!((900..=1_100_000).contains(&timex.tick), "{timex:?}");
        assert!(timex.seconds > 1_600_000_000);
        assert!((100..=1000).contains(&ticks_per_second()));
    }
}
