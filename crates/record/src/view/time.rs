//! Clock changes.

use super::kinds::{Or, word_kinds};
use super::view;
use crate::violation::words;

view! {
    /// The clock was set: by so much.
    TimeInjOffset (TIME_INJOFFSET) {
        /// Whole seconds, rounded down.
        sec: i64 = "sec",
        /// Nanoseconds to add to them.
        nsec: i64 = "nsec",
    }
}

impl TimeInjOffset {
    /// The change in nanoseconds; negative when the clock went back.
    #[must_use]
    pub fn nanoseconds(&self) -> i128 {
        i128::from(self.sec) * 1_000_000_000 + i128::from(self.nsec)
    }
}

view! {
    /// A value that steers the clock was changed.
    TimeAdjNtpVal<'a> (TIME_ADJNTPVAL) {
        /// Which.
        op: Or<'a, NtpValue> = "op",
        /// Before.
        old: i64 = "old",
        /// After.
        new: i64 = "new",
    }
}

words! {
    /// What TIME_ADJNTPVAL says was changed.
    NtpValue {
        /// Nanoseconds shifted left by 32, per tick.
        Offset = "offset",
        /// Parts per million times 65,536 times 65,536,000.
        Freq = "freq",
        /// `STA_*` bits.
        Status = "status",
        /// Seconds.
        Tai = "tai",
        /// Microseconds.
        Tick = "tick",
        /// Microseconds.
        Adjust = "adjust",
    }
}

word_kinds! {
    NtpValue: "offset, freq, status, tai, tick or adjust",
}
