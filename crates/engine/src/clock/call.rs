//! A call that changes the clock, as a program of ours in the kernel saw it.

use record::task::Task;

use super::ntp::{Change, Timex};

/// The clocks at one moment, read one after the other within [`Moment::apart_ns`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// CLOCK_BOOTTIME.
    pub boottime_ns: u64,
    /// CLOCK_TAI less CLOCK_BOOTTIME, where both could be read: only a step, or a new distance to
    /// TAI, changes it.
    pub tai_offset_ns: Option<i128>,
    /// How far that may be wrong.
    pub apart_ns: u64,
}

/// What a call does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "most calls are of the large one")]
pub enum What {
    /// settimeofday, clock_settime, stime: the time is that, in ns since 1970.
    Set {
        /// The new time.
        time: i128,
    },
    /// adjtimex, clock_adjtime.
    Adjust {
        /// The struct as it was given.
        asked: Timex,
        /// And as the kernel left it.
        after: Timex,
        /// The kernel's own values before and after, where they could be seen.
        exact: Option<Exact>,
    },
}

/// The kernel's values before and after a call (`struct audit_ntp_data`), in the order of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exact(pub [(i64, i64); 6]);

impl Exact {
    /// Those that are not what they were.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        let changes = Change::ORDER.into_iter().zip(self.0);
        let changes = changes.map(|(value, (old, new))| Change { value, old, new });
        changes.filter(|change| change.old != change.new).collect()
    }
}

/// A call for CLOCK_REALTIME that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What it is called, where that is known; a thread of the kernel has none.
    pub name: Option<&'static str>,
    /// What it asked for.
    pub what: What,
    /// Before it.
    pub entry: Moment,
    /// After it.
    pub exit: Moment,
    /// Who called; none for the kernel itself.
    pub task: Option<Task>,
}

impl Call {
    /// Whether it asks for no change.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        matches!(&self.what, What::Adjust { asked, .. } if asked.only_reads())
    }

    /// The step, in ns, and how far that may be wrong; none where it cannot be known from the call.
    #[must_use]
    pub(crate) fn step(&self) -> Option<(i128, u64)> {
        match &self.what {
            What::Adjust { asked, .. } => Some((asked.injected().unwrap_or(0), 0)),
            What::Set { .. } => {
                let step = self.exit.tai_offset_ns? - self.entry.tai_offset_ns?;
                Some((step, self.entry.apart_ns.saturating_add(self.exit.apart_ns)))
            }
        }
    }

    /// Whether a moment lies in it.
    pub(crate) fn covers(&self, boottime_ns: u64) -> bool {
        (self.entry.boottime_ns..=self.exit.boottime_ns).contains(&boottime_ns)
    }

    /// Whether the two may have been at it at the same time.
    pub(crate) fn overlaps(&self, other: &Call) -> bool {
        self.covers(other.entry.boottime_ns) || other.covers(self.entry.boottime_ns)
    }
}
