//! A call that changes the clock as bytes of the ring, and as what it says (`clock.h`). Pure.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::wire::{Task, text};
use crate::clock::Timex;

/// `struct clock_event` behind its head.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Raw {
    entry: RawMoment,
    exit: RawMoment,
    seconds: i64,
    nanoseconds: i64,
    values: [i64; 12],
    gid: u32,
    euid: u32,
    suid: u32,
    fsuid: u32,
    egid: u32,
    sgid: u32,
    fsgid: u32,
    number: u32,
    thread: [u8; 16],
    tty: [u8; 32],
    asked: RawTimex,
    after: RawTimex,
}

/// `struct moment`.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RawMoment {
    before: u64,
    tai: u64,
    after: u64,
}

/// `struct timex` with 64 bits, the parts that are read here and the rest between them.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RawTimex {
    modes: u32,
    _a: u32,
    offset: i64,
    freq: i64,
    _errors: [i64; 2],
    status: i32,
    _b: i32,
    constant: i64,
    _limits: [i64; 2],
    seconds: i64,
    fraction: i64,
    tick: i64,
    _pps: [i64; 8],
    tai: i32,
    _c: i32,
}

/// The flags of `clock.h`.
const SET: u32 = 1;
const VALUES: u32 = 2;
const KERNEL: u32 = 4;
const COMPAT: u32 = 8;
const NUMBER: u32 = 16;

/// The clocks at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// CLOCK_BOOTTIME, ns.
    pub boottime_ns: u64,
    /// CLOCK_TAI less CLOCK_BOOTTIME, ns, where this kernel tells it to programs (since 6.1).
    pub tai_offset_ns: Option<i128>,
    /// How far that may be wrong.
    pub apart_ns: u64,
}

/// What a call asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "most calls are of the large one")]
pub enum Asked {
    /// A new time: s and ns since 1970.
    Time(i64, i64),
    /// adjtimex.
    Adjust {
        /// `ADJ_*`.
        modes: u32,
        /// The struct as it was given.
        given: Timex,
        /// And as the kernel left it.
        left: Timex,
        /// The kernel's own values before and after (`struct audit_ntp_data`): offset, freq, status, tai,
        /// tick, adjust.
        values: Option<[(i64, i64); 6]>,
    },
}

/// A call for CLOCK_REALTIME that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockCall {
    /// Who.
    pub task: Task,
    /// The same in audit's words, with the thread's own name; its program's file is not known here.
    pub caller: record::task::Task,
    /// The system call's number; none where that is not known.
    pub number: Option<u32>,
    /// Whether it was one of 32 bits.
    pub compat: bool,
    /// Whether a thread of the kernel called.
    pub kernel: bool,
    /// What for.
    pub asked: Asked,
    /// Before it.
    pub entry: Moment,
    /// After it.
    pub exit: Moment,
}

impl Raw {
    pub(super) fn call(&self, flags: u32, task: Task) -> ClockCall {
        let has = |flag| flags & flag != 0;
        let pair = |at: usize| {
            let value = |at: usize| self.values.get(at).copied().unwrap_or(0);
            (value(2 * at), value(2 * at + 1))
        };
        let asked = if has(SET) {
            Asked::Time(self.seconds, self.nanoseconds)
        } else {
            Asked::Adjust {
                modes: self.asked.modes,
                given: self.asked.timex(),
                left: self.after.timex(),
                values: has(VALUES).then(|| [0, 1, 2, 3, 4, 5].map(pair)),
            }
        };
        let caller = record::task::Task {
            ppid: task.parent,
            pid: task.tgid,
            auid: task.loginuid,
            uid: task.uid,
            gid: self.gid,
            euid: self.euid,
            suid: self.suid,
            fsuid: self.fsuid,
            egid: self.egid,
            sgid: self.sgid,
            fsgid: self.fsgid,
            tty: Some(String::from_utf8_lossy(text(&self.tty)).into_owned())
                .filter(|tty| !tty.is_empty()),
            ses: task.session,
            comm: text(&self.thread).to_vec(),
            exe: None,
        };
        ClockCall {
            task,
            caller,
            number: has(NUMBER).then_some(self.number),
            compat: has(COMPAT),
            kernel: has(KERNEL),
            asked,
            entry: self.entry.moment(),
            exit: self.exit.moment(),
        }
    }
}

impl RawMoment {
    fn moment(self) -> Moment {
        let middle = self.before.midpoint(self.after);
        let tai = (self.tai != 0).then(|| i128::from(self.tai) - i128::from(middle));
        Moment {
            boottime_ns: middle,
            tai_offset_ns: tai,
            apart_ns: self.after.saturating_sub(self.before) / 2 + 1,
        }
    }
}

impl RawTimex {
    fn timex(&self) -> Timex {
        Timex {
            offset: self.offset,
            freq: self.freq,
            status: self.status,
            constant: self.constant,
            tick: self.tick,
            tai: self.tai,
            seconds: self.seconds,
            fraction: self.fraction,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layouts_are_those_of_the_programs() {
        assert_eq!(size_of::<RawTimex>(), 168);
        // The head, and `struct clock_event` behind it.
        assert_eq!(size_of::<Raw>() + 112, 688);
    }
}
