//! What steers the clock, in the kernel's own units, and what one call makes of it.
//!
//! The kernel's audit records have the values of its variables (`kernel/time/ntp.c`); adjtimex shows
//! them scaled and rounded. Scaled back they are the same text, but for two: the rest of an offset
//! that is being slewed away shrinks each second, and a frequency that the PLL moved has bits that
//! adjtimex does not show. Where a program of ours in the kernel sees the values themselves, these
//! are taken instead ([`super::Exact`]).

use record::view::NtpValue;

/// `ADJ_*` of linux/timex.h.
pub mod modes {
    /// The offset to be slewed away.
    pub const OFFSET: u32 = 0x0001;
    /// The frequency.
    pub const FREQUENCY: u32 = 0x0002;
    /// The status bits.
    pub const STATUS: u32 = 0x0010;
    /// The distance to TAI.
    pub const TAI: u32 = 0x0080;
    /// The clock is stepped by so much.
    pub const SETOFFSET: u32 = 0x0100;
    /// Microseconds from now on.
    pub const MICRO: u32 = 0x1000;
    /// Nanoseconds from now on; with [`ADJTIME`] the same bit says "only read".
    pub const NANO: u32 = 0x2000;
    /// The length of a tick.
    pub const TICK: u32 = 0x4000;
    /// adjtime(3): slew by so much, whatever else goes on.
    pub const ADJTIME: u32 = 0x8000;
}

/// `STA_PLL`: the kernel follows offsets.
const PLL: i64 = 0x0001;
/// `STA_PPSFREQ`: a pulse moves the frequency, without a call.
const PPS_FREQUENCY: i64 = 0x0002;
/// `STA_INS`: the last minute of this day has a second more.
const INSERT: i64 = 0x0010;
/// `STA_DEL`: it has one less.
const DELETE: i64 = 0x0020;
/// `STA_UNSYNC`.
const UNSYNC: i64 = 0x0040;
/// `STA_NANO`: the struct counts nanoseconds.
const NANO: i64 = 0x2000;
/// Status bits that only a call changes: PLL, FLL, PPSTIME and PPSFREQ, FREQHOLD, NANO.
const BY_CALL: i64 = 0x0001 | 0x0002 | 0x0004 | 0x0008 | 0x0080 | NANO;

/// `PPM_SCALE` of linux/timex.h: what one unit of adjtimex's frequency is to the kernel.
pub const FREQUENCY_UNIT: i64 = 65_536_000;
/// `MAXFREQ_SCALED`: 500 ppm.
const MOST_FREQUENCY: i64 = 500_000 << 32;
/// `MAXPHASE`: half a second, in ns.
const MOST_PHASE: i64 = 500_000_000;

/// The fields of `struct timex` that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timex {
    /// `ADJ_*`.
    pub modes: u32,
    /// us, or ns with `STA_NANO`.
    pub offset: i64,
    /// ppm, 16 bits behind the point.
    pub freq: i64,
    /// `STA_*`.
    pub status: i32,
    /// The PLL's time constant; asked with ADJ_TAI, the distance to TAI in s.
    pub constant: i64,
    /// us.
    pub tick: i64,
    /// TAI less UTC, s. Only in what the kernel answers.
    pub tai: i32,
    /// The time, or with ADJ_SETOFFSET the step: s.
    pub seconds: i64,
    /// And us, or ns with `STA_NANO` (asked: with ADJ_NANO).
    pub fraction: i64,
}

impl Timex {
    /// Whether nothing is asked to be changed.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        let asked = self.modes;
        asked == 0
            || asked & modes::ADJTIME != 0
                && asked & modes::NANO != 0
                && asked & modes::SETOFFSET == 0
    }

    /// The step that is asked for, in ns.
    #[must_use]
    pub fn injected(&self) -> Option<i128> {
        if self.modes & modes::SETOFFSET == 0 {
            return None;
        }
        let unit = if self.modes & modes::NANO == 0 { 1000 } else { 1 };
        Some(i128::from(self.seconds) * 1_000_000_000 + i128::from(self.fraction) * unit)
    }

    /// The time that the kernel answered, in ns since 1970.
    #[must_use]
    pub fn time(&self) -> i128 {
        let unit = if i64::from(self.status) & NANO == 0 { 1000 } else { 1 };
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.fraction) * unit
    }
}

/// One value before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub value: NtpValue,
    /// Before.
    pub old: i64,
    /// After.
    pub new: i64,
}

impl Change {
    /// The order of the kernel's records.
    pub const ORDER: [NtpValue; 6] = [
        NtpValue::Offset,
        NtpValue::Freq,
        NtpValue::Status,
        NtpValue::Tai,
        NtpValue::Tick,
        NtpValue::Adjust,
    ];
}

/// What is known of the kernel's variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    offset: i64,
    freq: i64,
    status: i64,
    tai: i64,
    tick: i64,
}

impl State {
    /// From an answer of adjtimex; `hz` is the kernel's CONFIG_HZ.
    #[must_use]
    pub fn read(answer: &Timex, hz: i64) -> State {
        let status = i64::from(answer.status);
        let unit = if status & NANO == 0 { 1000 } else { 1 };
        State {
            offset: scale(answer.offset.saturating_mul(unit), hz),
            freq: answer.freq.saturating_mul(FREQUENCY_UNIT),
            status,
            tai: answer.tai.into(),
            tick: answer.tick,
        }
    }

    /// TAI less UTC, s.
    #[must_use]
    pub fn tai(&self) -> i64 {
        self.tai
    }

    /// The second that is to be inserted (-1 s) or left out (1 s) at the end of this day, in ns.
    #[must_use]
    pub fn leap(&self) -> Option<i128> {
        match self.status & (INSERT | DELETE) {
            INSERT => Some(-1_000_000_000),
            DELETE => Some(1_000_000_000),
            _ => None,
        }
    }

    /// Whether the kernel moves these values itself meanwhile, so that nobody knows what they were a
    /// moment ago.
    #[must_use]
    pub fn moves(&self) -> bool {
        self.status & PLL != 0 && self.offset != 0 || self.status & PPS_FREQUENCY != 0
    }

    /// A step has been made: the kernel begins anew (`ntp_clear`), and makes no record of that.
    pub fn clear(&mut self) {
        self.offset = 0;
        self.status |= UNSYNC;
    }

    /// What a call that succeeded has changed, in the kernel's order.
    #[must_use]
    pub fn adjust(&mut self, asked: &Timex, after: &Timex, hz: i64) -> Vec<Change> {
        if asked.injected().is_some_and(|step| step != 0) {
            self.clear();
        }
        if asked.modes & modes::ADJTIME != 0 {
            // The struct has come back with what was left of the one before.
            let adjust = Change { value: NtpValue::Adjust, old: after.offset, new: asked.offset };
            let reads = asked.modes & modes::NANO != 0;
            return if reads || adjust.old == adjust.new { Vec::new() } else { vec![adjust] };
        }
        let before = *self;
        self.follow(asked, after, hz);
        let pairs = [
            (before.offset, self.offset),
            (before.freq, self.freq),
            (before.status, self.status),
            (before.tai, self.tai),
            (before.tick, self.tick),
        ];
        let changes = Change::ORDER.into_iter().zip(pairs);
        let changes = changes.map(|(value, (old, new))| Change { value, old, new });
        changes.filter(|change| change.old != change.new).collect()
    }

    fn follow(&mut self, asked: &Timex, after: &Timex, hz: i64) {
        let has = |mode| asked.modes & mode != 0;
        self.status = after.status.into();
        if has(modes::FREQUENCY) {
            let freq = asked.freq.saturating_mul(FREQUENCY_UNIT);
            self.freq = freq.clamp(-MOST_FREQUENCY, MOST_FREQUENCY);
        }
        self.tai = after.tai.into();
        self.tick = after.tick;
        if has(modes::OFFSET) && self.status & PLL != 0 {
            let offset = if self.status & NANO == 0 {
                asked.offset.clamp(-1_000_000, 1_000_000) * 1000
            } else {
                asked.offset
            };
            self.offset = scale(offset.clamp(-MOST_PHASE, MOST_PHASE), hz);
            if shown(self.freq) != after.freq {
                self.freq = after.freq.saturating_mul(FREQUENCY_UNIT);
            }
        }
    }

    /// What a reading leaves of this: all of the reading, but for what it does not show of a frequency.
    #[must_use]
    pub fn kept_over(&self, now: &State) -> State {
        let same = shown(self.freq) == shown(now.freq);
        State { freq: if same { self.freq } else { now.freq }, ..*now }
    }

    /// Takes values as the kernel has them.
    pub fn set(&mut self, exact: &[Change]) {
        for change in exact {
            *match change.value {
                NtpValue::Offset => &mut self.offset,
                NtpValue::Freq => &mut self.freq,
                NtpValue::Status => &mut self.status,
                NtpValue::Tai => &mut self.tai,
                NtpValue::Tick => &mut self.tick,
                NtpValue::Adjust => continue,
            } = change.new;
        }
    }

    /// What somebody has changed between this and `now`, of what only calls change.
    #[must_use]
    pub fn unexplained(&self, now: &State) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut compare = |value, old: i64, new: i64| {
            if old != new {
                changes.push(Change { value, old, new });
            }
        };
        // A pulse moves it; what the PLL left behind the point is not seen.
        if (self.status | now.status) & PPS_FREQUENCY == 0 && shown(self.freq) != shown(now.freq) {
            compare(NtpValue::Freq, self.freq, now.freq);
        }
        compare(NtpValue::Status, self.status & BY_CALL | now.status & !BY_CALL, now.status);
        // The kernel moves it by one in a leap second.
        if self.leap().is_none() {
            compare(NtpValue::Tai, self.tai, now.tai);
        }
        compare(NtpValue::Tick, self.tick, now.tick);
        changes
    }
}

/// A time offset as the kernel keeps it: of a tick, 32 bits behind the point (`NTP_SCALE_SHIFT`).
fn scale(ns: i64, hz: i64) -> i64 {
    let scaled = (i128::from(ns) << 32) / i128::from(hz.max(1));
    i64::try_from(scaled).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
}

/// A frequency as adjtimex shows it (`__do_adjtimex`).
fn shown(freq: i64) -> i64 {
    const INVERSE: i128 = (1 << 51) / FREQUENCY_UNIT as i128 + 1;
    let scaled = i128::from(freq >> 19) * INVERSE;
    // Towards zero, as `shift_right`.
    i64::try_from(scaled / (1 << 32)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frequency_is_shown_as_it_was_given() {
        for units in [0, 1, -1, 65_536, -65_536, 32_767_999, -32_768_000] {
            assert_eq!(shown(units * FREQUENCY_UNIT), units);
        }
        assert_eq!(shown(3 * FREQUENCY_UNIT + 60_000_000), 3);
    }

    #[test]
    fn reading_is_not_changing() {
        let modes = |modes| Timex { modes, ..Timex::default() };
        assert!(modes(0).only_reads());
        assert!(modes(0xa001).only_reads(), "ADJ_OFFSET_SS_READ");
        assert!(!modes(0x8001).only_reads(), "ADJ_OFFSET_SINGLESHOT");
        assert!(!modes(0x2000).only_reads(), "ADJ_NANO sets a status bit");
        assert!(!modes(0xa101).only_reads(), "it steps");
    }

    #[test]
    fn an_offset_is_kept_by_the_tick() {
        assert_eq!(scale(1_000_000, 250), (1_000_000_i64 << 32) / 250);
        assert_eq!(scale(-1, 1000), -4_294_967);
        assert_eq!(scale(i64::MAX, 1), i64::MAX);
        assert_eq!(scale(i64::MIN, 0), i64::MIN);
    }
}
