//! The clock: every change of CLOCK_REALTIME told once, in the kernel's words, with who made it.
//!
//! ```text
//!   calls (BPF) ─────────┐                       ┌▶ TIME_* of ours + VT_CLOCK    the kernel made none
//!   TIME_* of the kernel ┤▶ in the order of the ─┼▶ VT_CLOCK beside              the kernel made them
//!   readings (timerfd,   │  time since boot      └▶ VT_CLOCK by=unknown          nobody was seen
//!   adjtimex) ───────────┘
//! ```
//!
//! The kernel writes TIME_* only where a rule matches the very system call, so nobody knows before
//! whether it will. Where it may, a call waits until the audit stream has been read past it
//! ([`Clock::handle_audited`]), however late that is; then it is told by ours. Where the stream is not
//! read, it waits [`HOLD`]. An event of the kernel whose call has not come is told after [`SETTLE`], and
//! a call that comes later still is taken for that. Readings are the witness: CLOCK_REALTIME less CLOCK_BOOTTIME changes by nothing but steps, so
//! what the steps that are known do not add up to is a step that nobody saw made (a leap second, the
//! kernel itself, a call by a door that is not watched).
//!
//! The kernel repeats itself: once a thread has made a step, every later event of it that has other values
//! has the TIME_INJOFFSET of that step again (tried: 6.1, 6.12). Where the call was seen that is known from it;
//! else the readings behind the event say whether there was a step.
//!
//! Everything is put in order by the time since boot, which no step touches, and decided when nothing
//! older can come any more. A reading that was taken while a call went on says nothing, as nobody knows
//! whether the step was made before it or after; another is asked for ([`Output::Read`]).
//!
//! Sans-I/O. Everything is bounded: [`MOST`] calls, events and readings wait; of more the oldest are
//! decided early.

mod call;
mod heard;
pub mod ntp;
mod pairing;
mod report;

use std::collections::VecDeque;
use std::time::Duration;

use record::{EventId, Line};

pub use self::call::{Call, Exact, Moment, What};
use self::heard::Heard;
pub use self::ntp::{Change, State, Timex};
use self::pairing::{Told, is_of};
pub use crate::devices::{Confidence, Record};

/// So long a call waits for the kernel's own records at most, where nobody says how far the audit stream
/// has been read: it is flooded, or its reader hangs.
pub const HOLD: Duration = Duration::from_secs(10);

/// So long after a call its records may be on their way to whoever reads the stream, although the kernel has
/// no record that waits: its thread has taken them and does not run.
pub const LAG: Duration = Duration::from_millis(500);

/// So long after it something may come that was before it: rings of several processors, threads.
pub const SETTLE: Duration = Duration::from_millis(300);

/// So many of each wait at most.
pub const MOST: usize = 4096;

/// What two readings may differ by without a step, beside what each says of itself: the kernel
/// rounds when it makes the time of a clock.
const ROUNDING_NS: u64 = 500;

/// The stamp of an event is that of the tick before its call.
const TICK_NS: u64 = 20_000_000;

/// What was learned by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A program of ours in the kernel saw the call.
    Bpf,
    /// The clocks were read, and show it.
    Status,
}

impl Source {
    /// As `VT_SRC` has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Source::Bpf => "bpf",
            Source::Status => "status",
        }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write an event of our own.
    Own {
        /// Its records.
        records: Vec<Record>,
        /// What it was learned from.
        source: Source,
        /// How sure it is.
        confidence: Confidence,
    },
    /// Write records beside an event of the kernel.
    Beside {
        /// The kernel's event.
        event: EventId,
        /// What is said beside it.
        records: Vec<Record>,
        /// How sure it is.
        confidence: Confidence,
    },
    /// Read the clocks and adjtimex, and hand that in.
    Read,
}

/// The clocks as they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When, since boot in ns.
    pub boottime_ns: u64,
    /// When it was begun: adjtimex was asked some time between.
    pub since_ns: u64,
    /// CLOCK_REALTIME less CLOCK_BOOTTIME, ns.
    pub offset_ns: i128,
    /// How far that may be wrong.
    pub apart_ns: u64,
    /// What adjtimex answered, asked for nothing.
    pub timex: Option<Timex>,
}

/// What was passed over and what is known, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Changes that were told, whoever made them.
    pub changes: u64,
    /// Steps among them that nobody was seen to make.
    pub unknown: u64,
    /// Decided before their time, as too much came at once.
    pub hurried: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Clock {
    /// The kernel's CONFIG_HZ.
    hz: i64,
    /// Whether calls are seen by a program of ours.
    sees_calls: bool,
    /// Whether the kernel may write records of its own.
    auditing: bool,
    /// Changes by the end of their call.
    pending: VecDeque<Pending>,
    /// Events of the kernel whose call has not come yet.
    heard: VecDeque<Heard>,
    /// The last of those that were told without it.
    taken: VecDeque<Heard>,
    /// All events of the kernel until then, since boot in ns, have been handed in.
    audited: u64,
    readings: VecDeque<Reading>,
    /// The last reading that counted, and the steps that are known since, with their uncertainty.
    base: Option<Reading>,
    steps: (i128, u64),
    state: Option<State>,
    /// When the last change ended that was decided, since boot in ns.
    decided: u64,
    /// The last step that the kernel alone told of, and whose it was.
    stepped: Option<(Option<u32>, i128)>,
    outputs: VecDeque<Output>,
    counters: Counters,
}

/// A change that is not told yet.
#[derive(Clone, Debug)]
enum Pending {
    /// A call that was seen, and the kernel's event of it.
    Seen { call: Box<Call>, event: Option<Told>, overlaps: bool },
    /// The kernel told of it, and nothing else.
    Told { heard: Heard, since: u64 },
}

impl Pending {
    fn end(&self) -> u64 {
        match self {
            Pending::Seen { call, .. } => call.exit.boottime_ns,
            Pending::Told { heard, .. } => heard.arrived,
        }
    }

    fn covers(&self, boottime_ns: u64) -> bool {
        match self {
            Pending::Seen { call, .. } => call.covers(boottime_ns),
            Pending::Told { heard, since } => (*since..=heard.arrived).contains(&boottime_ns),
        }
    }
}

impl Clock {
    /// Knows nothing yet. `hz` is the kernel's CONFIG_HZ: a tick of CLOCK_REALTIME_COARSE is 1/hz s.
    #[must_use]
    pub fn new(hz: u32) -> Clock {
        Clock {
            hz: i64::from(hz).max(1),
            sees_calls: false,
            auditing: false,
            pending: VecDeque::new(),
            heard: VecDeque::new(),
            taken: VecDeque::new(),
            audited: 0,
            readings: VecDeque::new(),
            base: None,
            steps: (0, 0),
            state: None,
            decided: 0,
            stepped: None,
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Whether programs of ours see the calls.
    pub fn handle_door(&mut self, sees_calls: bool) {
        self.sees_calls = sees_calls;
    }

    /// The kernel's auditing was switched on or off, or was found so, and is listened to.
    pub fn handle_audit_state(&mut self, enabled: bool) {
        self.auditing = enabled;
    }

    /// A call that succeeded.
    pub fn handle_call(&mut self, now: Duration, call: Call) {
        if call.only_reads() {
            return;
        }
        let is_told = |heard: &Heard| is_of(heard, &call);
        // An event cannot come before its call has ended.
        let ended = |heard: &Heard| call.exit.boottime_ns <= heard.arrived;
        if let Some(at) = self.taken.iter().position(|heard| ended(heard) && is_told(heard)) {
            // Its event stands there, with what was known of it.
            self.taken.remove(at);
            return self.ask();
        }
        let at = self.heard.iter().position(is_told);
        let event = at.and_then(|at| self.heard.remove(at)).map(|heard| Told::of(&heard, &call));
        let mut overlaps = false;
        for other in &mut self.pending {
            if let Pending::Seen { call: other, overlaps: also, .. } = other
                && other.overlaps(&call)
            {
                *also = true;
                overlaps = true;
            }
        }
        self.insert(Pending::Seen { call: Box::new(call), event, overlaps });
        self.settle(now);
    }

    /// All records of an audit event of the kernel.
    pub fn handle_event(&mut self, now: Duration, id: EventId, lines: &[Line<'_>]) {
        let Some(heard) = Heard::read(id, nanos(now), lines) else { return };
        self.auditing = true;
        if heard.may_repeat() {
            self.ask();
        }
        let call = self.pending.iter_mut().find_map(|pending| match pending {
            Pending::Seen { call, event: event @ None, .. } if is_of(&heard, call) => {
                Some((call, event))
            }
            _ => None,
        });
        match call {
            Some((call, event)) => *event = Some(Told::of(&heard, call)),
            None if self.sees_calls => self.heard.push_back(heard),
            None => self.take_word(heard),
        }
        self.settle(now);
    }

    /// The audit stream was empty at that time since boot, in ns, and all that it had before was handed in.
    pub fn handle_audited(&mut self, now: Duration, until: u64) {
        self.audited = self.audited.max(until);
        self.settle(now);
    }

    /// The clocks were read: because they were set, because it was asked for, or just again.
    pub fn handle_reading(&mut self, now: Duration, reading: Reading) {
        // Threads hand in, so two may come the wrong way round: the older one says nothing new.
        if self.readings.back().is_none_or(|last| last.boottime_ns < reading.boottime_ns) {
            self.readings.push_back(reading);
        }
        self.settle(now);
    }

    /// Time has passed; call it when [`Clock::poll_timeout`] says so.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.settle(now);
    }

    /// The agent ends: everything is decided with what is known.
    pub fn handle_end(&mut self) {
        self.settle(Duration::MAX);
    }

    /// When [`Clock::handle_timeout`] next has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let heard = self.heard.front().map(|heard| due(heard.arrived, SETTLE));
        [heard, self.first().map(|(_, due)| due)].into_iter().flatten().min()
    }

    /// What is decided next, as nothing may be before what was before it: whether it is a reading, and when.
    fn first(&self) -> Option<(bool, Duration)> {
        let (reading, pending) = (self.readings.front(), self.pending.front());
        match (reading, pending) {
            (Some(reading), Some(pending)) if reading.boottime_ns >= pending.end() => {
                Some((false, self.due(pending)))
            }
            (Some(reading), _) => Some((true, self.due_of(reading))),
            (None, pending) => pending.map(|pending| (false, self.due(pending))),
        }
    }

    /// What to do next.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What was told and passed over.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn insert(&mut self, pending: Pending) {
        let at = self.pending.partition_point(|other| other.end() <= pending.end());
        self.pending.insert(at, pending);
    }

    /// The kernel's event is all there is.
    fn take_word(&mut self, heard: Heard) {
        // The stamp is that of the tick before the call, by the clock as it was then.
        let stamp = i128::from(heard.id.millis) * 1_000_000;
        let offset = self.base.map(|base| base.offset_ns + self.steps.0);
        let since = offset.and_then(|offset| u64::try_from(stamp - offset).ok());
        let earliest = heard.arrived.saturating_sub(nanos(2 * HOLD));
        let since = since.map_or(earliest, |since| since.saturating_sub(TICK_NS));
        let since = since.clamp(earliest, heard.arrived);
        if self.sees_calls {
            if self.taken.len() >= MOST {
                self.taken.pop_front();
            }
            self.taken.push_back(heard.clone());
        }
        self.insert(Pending::Told { heard, since });
    }

    fn due(&self, pending: &Pending) -> Duration {
        match pending {
            Pending::Seen { call, event: None, .. } => self.due_of_record(call.exit.boottime_ns),
            _ => due(pending.end(), SETTLE),
        }
    }

    fn due_of(&self, reading: &Reading) -> Duration {
        // With nobody but the kernel's records to tell of a step, they are waited for.
        self.due_of_record(reading.boottime_ns)
    }

    /// When no record of the kernel can come any more of what happened then.
    fn due_of_record(&self, boottime_ns: u64) -> Duration {
        let is_read = due(boottime_ns, LAG) <= Duration::from_nanos(self.audited);
        due(boottime_ns, if self.auditing && !is_read { HOLD } else { SETTLE })
    }

    /// Decides what nothing older can come to.
    fn settle(&mut self, now: Duration) {
        while self.heard.len() > MOST
            || self.heard.front().is_some_and(|heard| due(heard.arrived, SETTLE) <= now)
        {
            if let Some(heard) = self.heard.pop_front() {
                self.take_word(heard);
            }
        }
        while let Some((reading_is_first, due)) = self.first() {
            let hurried = self.readings.len() > MOST || self.pending.len() > MOST;
            let ready = due <= now;
            if !ready && !hurried {
                return;
            }
            if !ready {
                self.counters.hurried += 1;
            }
            if reading_is_first {
                if let Some(reading) = self.readings.pop_front() {
                    self.compare(reading);
                }
            } else if let Some(pending) = self.pending.pop_front() {
                self.decided = self.decided.max(pending.end());
                self.apply(pending);
                self.ask();
            }
        }
    }

    fn ask(&mut self) {
        if !self.outputs.contains(&Output::Read) {
            self.outputs.push_back(Output::Read);
        }
    }

    /// Tells a change, and keeps what it left.
    fn apply(&mut self, pending: Pending) {
        match pending {
            Pending::Seen { call, event, overlaps } => self.apply_call(&call, event, overlaps),
            Pending::Told { heard, .. } => {
                let before = self.offset();
                let repeats = self.repeats(&heard);
                let step = heard.step.filter(|_| !repeats);
                if let Some(step) = step {
                    self.stepped = Some((heard.pid, step));
                    self.step(step, 0);
                }
                if let Some(state) = &mut self.state {
                    if step.is_some() {
                        state.clear();
                    }
                    state.set(&heard.changes);
                }
                let record = report::beside_word(&heard, step, before);
                self.tell_beside(heard.id, record, Confidence::Inferred);
            }
        }
    }

    /// Whether what the kernel alone tells of a step is of an earlier one.
    fn repeats(&self, heard: &Heard) -> bool {
        let Some(step) = heard.step.filter(|_| heard.may_repeat()) else { return false };
        let later = self.readings.iter().find(|reading| reading.boottime_ns > heard.arrived);
        match later.zip(self.offset()) {
            Some((later, before)) => {
                let found = later.offset_ns - before;
                found.unsigned_abs() < found.saturating_sub(step).unsigned_abs()
            }
            None => self.stepped == Some((heard.pid, step)),
        }
    }

    fn apply_call(&mut self, call: &Call, event: Option<Told>, overlaps: bool) {
        let offset = self.offset();
        let measured = call.step().or_else(|| by_base(call, offset?));
        let (step, apart) = measured.unwrap_or((0, 0));
        let mut sure = measured.is_some() && !overlaps;
        let changes = match &call.what {
            What::Set { .. } => {
                if let Some(state) = &mut self.state {
                    state.clear();
                }
                Vec::new()
            }
            What::Adjust { asked, after, exact } => {
                let moves = self.state.is_some_and(|state| state.moves());
                let mut by_state = self.state.map(|state| (state, Vec::new()));
                if let Some((state, changes)) = &mut by_state {
                    *changes = state.adjust(asked, after, self.hz);
                }
                self.state = Some(match by_state {
                    Some((state, _)) => state,
                    None => State::read(after, self.hz),
                });
                match (exact, by_state) {
                    (Some(exact), _) => {
                        let changes = exact.changes();
                        if let Some(state) = &mut self.state {
                            state.set(&changes);
                        }
                        changes
                    }
                    (None, Some((_, changes))) => {
                        sure &= !(moves && changes.iter().any(report::moves));
                        changes
                    }
                    (None, None) => {
                        sure = false;
                        Vec::new()
                    }
                }
            }
        };
        self.step(step, apart);
        if step == 0 && changes.is_empty() && event.is_none() && measured.is_some() {
            return;
        }
        let confidence = if sure { Confidence::Certain } else { Confidence::Inferred };
        let told = report::of_call(call, measured, event);
        match event {
            Some(event) => self.tell_beside(event.id, told, confidence),
            None => {
                let mut records = report::kernels(&changes, measured.map(|(step, _)| step));
                records.push(told);
                self.tell(records, Source::Bpf, confidence);
            }
        }
    }

    /// Looks whether a reading shows what is known.
    fn compare(&mut self, reading: Reading) {
        // Neither does one that was begun before a change and ended behind it.
        let is_torn = reading.since_ns <= self.decided;
        if is_torn || self.pending.iter().any(|pending| pending.covers(reading.boottime_ns)) {
            return self.ask();
        }
        let now = reading.timex.map(|timex| State::read(&timex, self.hz));
        let leap = self.state.and_then(|state| state.leap());
        if let Some(base) = self.base.filter(|base| base.boottime_ns < reading.boottime_ns) {
            let found = reading.offset_ns - base.offset_ns - self.steps.0;
            let apart = self.steps.1.saturating_add(base.apart_ns).saturating_add(reading.apart_ns);
            let apart = apart.saturating_add(ROUNDING_NS);
            if found.unsigned_abs() > u128::from(apart) {
                self.counters.unknown += 1;
                let leap = leap.filter(|leap| (found - leap).unsigned_abs() <= u128::from(apart));
                let record = report::unknown_step(&base, &reading, found, apart, leap.is_some());
                let confidence =
                    if leap.is_some() { Confidence::Inferred } else { Confidence::Unknown };
                self.tell(vec![record], Source::Status, confidence);
            }
        }
        if let (Some(state), Some(now), Some(base)) = (self.state, now, self.base) {
            let changes = state.unexplained(&now);
            if !changes.is_empty() {
                let mut records = report::kernels(&changes, None);
                records.push(report::unknown_change(&base, &reading));
                self.tell(records, Source::Status, Confidence::Inferred);
            }
        }
        self.base = Some(reading);
        self.steps = (0, 0);
        if let Some(now) = now {
            let kept = self.state.map(|state| state.kept_over(&now));
            self.state = Some(kept.unwrap_or(now));
        }
    }

    /// CLOCK_REALTIME less CLOCK_BOOTTIME, as far as everything until now is known.
    fn offset(&self) -> Option<i128> {
        self.base.map(|base| base.offset_ns + self.steps.0)
    }

    fn step(&mut self, step: i128, apart: u64) {
        let (sum, uncertain) = self.steps;
        self.steps = (sum.saturating_add(step), uncertain.saturating_add(apart));
    }

    fn tell(&mut self, records: Vec<Record>, source: Source, confidence: Confidence) {
        self.counters.changes += 1;
        self.outputs.push_back(Output::Own { records, source, confidence });
    }

    fn tell_beside(&mut self, event: EventId, record: Record, confidence: Confidence) {
        self.counters.changes += 1;
        self.outputs.push_back(Output::Beside { event, records: vec![record], confidence });
    }
}

/// The step of a call that set the time, where TAI could not be read: it was set between its entry and
/// its exit.
fn by_base(call: &Call, offset: i128) -> Option<(i128, u64)> {
    let What::Set { time } = call.what else { return None };
    let (entry, exit) = (call.entry.boottime_ns, call.exit.boottime_ns);
    let half = exit.saturating_sub(entry) / 2;
    let then = i128::from(entry.saturating_add(half));
    Some((time - then - offset, half.saturating_add(1)))
}

fn due(boottime_ns: u64, patience: Duration) -> Duration {
    Duration::from_nanos(boottime_ns).saturating_add(patience)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
