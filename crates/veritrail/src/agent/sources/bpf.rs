//! The source `bpf`: what programs in the kernel tell of processes.
//!
//! The doorkeeper has the programs run ([`Loaded`]), which takes rights to begin, and gives every agent
//! their descriptors with a [`Letter`], which takes none. So what they tell waits while an agent is
//! started again.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use engine::tasks::Sighting;
use host::bpf::{
    ClockCall, Event, Labels, Opened, Pins, Program, Programs, Report, Shared, Statistics, Wanted,
};
use serde::{Deserialize, Serialize};
use trail::Class;

use super::{Drain, ForSource, Input, millis};
use crate::agent::gaps::Place;
use crate::agent::status::{Program as Shown, ProgramState};
use crate::agent::tasks::{Grouped, listed};
use crate::clock;

/// How soon a few events are seen; much more wakes the reader.
const PATIENCE: Duration = Duration::from_millis(100);

/// How often the kernel's counts are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How often processes are listed anew where events are lost again and again.
const LIST: Duration = Duration::from_secs(5);

/// Programs that run as long as this lives, and why others do not.
#[derive(Debug)]
pub(in crate::agent) struct Loaded {
    programs: Programs,
    report: Report,
}

impl Loaded {
    /// Loads what can be had. Takes CAP_BPF and CAP_PERFMON, and for statistics CAP_SYS_ADMIN.
    pub(in crate::agent) fn load(wanted: &Wanted) -> Loaded {
        let (programs, report) = Programs::load(wanted);
        Loaded { programs, report }
    }

    /// What whoever listens is told, beside the descriptors.
    pub(in crate::agent) fn letter(&self) -> Letter {
        let missing = self.report.missing();
        Letter {
            programs: self.programs.shared().map(|shared| shared.to_message().0),
            missing: missing.map(|(program, why)| (program.number(), why.to_owned())).collect(),
            pins: match &self.report.pins {
                Pins::Off | Pins::New | Pins::Adopted => None,
                Pins::Replaced(why) => Some(format!("container ids from before are gone ({why})")),
                Pins::Missing(why) => Some(format!("container ids end with the agent ({why})")),
            },
        }
    }

    /// The descriptors, for as many as come to listen, one after the other.
    pub(in crate::agent) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.programs.shared().map(|shared| shared.to_message().1).unwrap_or_default()
    }
}

/// What descriptors are: the programs by number, and why others are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::agent) struct Letter {
    programs: Option<Vec<u8>>,
    missing: Vec<(u32, String)>,
    /// What there is to say of those labels that should stay.
    pins: Option<String>,
}

impl Letter {
    /// Opens what came with it, and says what is listened to; or why nothing is.
    pub(in crate::agent) fn open(self, fds: Vec<OwnedFd>) -> Result<(Listener, String), String> {
        let missing = self.missing.into_iter();
        let missing = missing.filter_map(|(number, why)| Some((Program::of_number(number)?, why)));
        let missing: Vec<(Program, String)> = missing.collect();
        let Some(programs) = self.programs else {
            // They have one reason, as a rule.
            let why = missing.into_iter().next().map(|(_, why)| why);
            return Err(why.unwrap_or_else(|| "no program is wanted".into()));
        };
        let opened = Shared::from_message(&programs, fds).and_then(Shared::open);
        let opened = opened.map_err(|error| error.to_string())?;
        let words = opened.programs().into_iter().map(Program::word).collect::<Vec<_>>();
        let mut how = words.join(", ");
        for (program, why) in &missing {
            let (word, lack) = (program.word(), program.consequence());
            how.push_str(&format!("; without {word} ({why}): {lack}"));
        }
        if let Some(pins) = self.pins {
            how.push_str(&format!("; {pins}"));
        }
        Ok((Listener { opened, missing }, how))
    }
}

/// Whoever listens.
#[derive(Debug)]
pub(in crate::agent) struct Listener {
    opened: Opened,
    missing: Vec<(Program, String)>,
}

impl Listener {
    /// The labels of tasks; none where programs do not keep any.
    pub(in crate::agent) fn labels(&self) -> Option<Labels> {
        self.opened.labels.as_ref().and_then(|labels| labels.try_clone().ok())
    }

    /// Whether containers' processes are to be looked for again and again: programs should tell when they come, and
    /// do not.
    fn looks_for_groups(&self) -> bool {
        self.opened.labels.is_some() && self.missing.iter().any(|(of, _)| *of == Program::Groups)
    }

    /// Whether it hears of the calls that change the clock.
    pub(super) fn hears_clock_calls(&self) -> bool {
        let programs = self.opened.programs();
        [Program::Clock, Program::ClockCalls].iter().any(|door| programs.contains(door))
    }
}

/// What came at once.
#[derive(Debug, Default)]
pub(in crate::agent) struct Batch {
    /// In the order of the ring.
    pub(in crate::agent) events: Vec<Event>,
    /// Living processes.
    pub(in crate::agent) listed: Option<Listed>,
    /// Between these times, in nanoseconds since boot, events were lost.
    pub(in crate::agent) lost: Option<[u64; 2]>,
    /// Up to this time, in nanoseconds since boot, everything has come.
    pub(in crate::agent) heard: Option<u64>,
    /// The programs, where they were looked at.
    pub(in crate::agent) programs: Option<Vec<Shown>>,
}

/// Living processes, as `/proc` and the labels had them from then on.
#[derive(Debug)]
pub(in crate::agent) struct Listed {
    /// In nanoseconds since boot.
    pub(in crate::agent) began_ns: u64,
    pub(in crate::agent) processes: Vec<Sighting>,
    /// Those in containers' control groups, where tasks can be labelled.
    pub(in crate::agent) grouped: Grouped,
    /// Whether there were no more.
    pub(in crate::agent) is_complete: bool,
}

impl Listed {
    fn now(labels: Option<&Labels>) -> Listed {
        let began_ns = clock::now().boottime_ns;
        let (processes, grouped, is_complete) = listed(labels);
        Listed { began_ns, processes, grouped, is_complete }
    }
}

impl Batch {
    /// Takes out what is about the clock.
    pub(in crate::agent) fn take_clock_calls(&mut self) -> Vec<ClockCall> {
        if !self.events.iter().any(|event| matches!(event, Event::Clock(_))) {
            return Vec::new();
        }
        let mut calls = Vec::new();
        for event in std::mem::take(&mut self.events) {
            match event {
                Event::Clock(call) => calls.push(*call),
                event => self.events.push(event),
            }
        }
        calls
    }
}

/// Listens until the agent stops.
pub(super) fn listen(mut listener: Listener, asked: &Receiver<()>, context: &ForSource) {
    let mut drain = Drain::default();
    // What the one before this has lost is not lost anew.
    let (_, missed) = look(&listener);
    let mut losses = Losses::new(At::now(), listener.opened.counters.lost(), missed);
    let labels = listener.labels();
    let mut batch = Batch { listed: Some(Listed::now(labels.as_ref())), ..Batch::default() };
    let (mut listing, mut list) = (Instant::now(), false);
    let mut looked = listing.checked_sub(LOOK).unwrap_or(listing);
    loop {
        let stopping = context.is_stopping();
        let patience = if stopping { Duration::ZERO } else { PATIENCE };
        let read = listener.opened.reader.read(patience, |event| batch.events.push(event));
        let read = match read {
            Ok(read) => read,
            Err(error) => return context.ended(&error),
        };
        context.counts.message_many(read.events);
        // What found no room before the ring was read up to now is told with what was in it.
        losses.glance(listener.opened.counters.lost());
        if looked.elapsed() >= LOOK || stopping {
            looked = Instant::now();
            let now = At::now();
            let (programs, missed) = look(&listener);
            batch.programs = Some(programs);
            losses.look(missed, now);
        }
        losses.add(read.unknown.saturating_add(read.short));
        if let Some((lost, since)) = losses.tell() {
            if lost > 0 {
                context.lost(Place::Bpf, Some(lost), since.millis);
            }
            batch.lost = Some([since.boottime_ns, clock::now().boottime_ns]);
            list = true;
        }
        list |= asked.try_recv().is_ok() || listener.looks_for_groups();
        if list && listing.elapsed() >= LIST {
            (list, listing) = (false, Instant::now());
            batch.listed = Some(Listed::now(labels.as_ref()));
        }
        batch.heard = read.heard;
        let events = u64::try_from(batch.events.len()).unwrap_or(u64::MAX);
        let listed = batch.listed.as_ref().map_or(0, |listed| listed.processes.len());
        let bytes = (batch.events.len() + listed).saturating_mul(EACH);
        // Time goes before processes.
        let is_clock = |event: &Event| matches!(event, Event::Clock(_));
        let class = if batch.events.iter().any(is_clock) { Class::Integrity } else { Class::Rest };
        let whole = std::mem::take(&mut batch);
        let has_list = whole.listed.is_some();
        if context.inbox.try_offer(class, bytes, Input::Bpf(Box::new(whole))) {
            context.counts.event_many(events);
            let millis = millis();
            losses.taken(read.heard.map(|boottime_ns| At { boottime_ns, millis }));
        } else {
            // It is told with the next one.
            losses.add(events);
            list |= has_list;
        }
        if stopping && (read.events == 0 || drain.is_over()) {
            return;
        }
    }
}

/// Bytes of an event in the queue, about.
const EACH: usize = 256;

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct At {
    /// Since boot.
    boottime_ns: u64,
    /// Since 1970.
    millis: u64,
}

impl At {
    fn now() -> At {
        At { boottime_ns: clock::now().boottime_ns, millis: millis() }
    }
}

/// What was lost, and since when it may have been: whatever is not told to be lost then is taken for what did
/// not happen.
#[derive(Debug)]
struct Losses {
    /// Until then everything came, or its loss was told, and was taken.
    heard: At,
    /// When the kernel was asked what its programs have missed.
    looked: At,
    /// What it said.
    missed: u64,
    /// The programs' own count.
    counted: u64,
    /// Not told yet.
    lost: u64,
    /// The begin of what was not taken yet.
    since: Option<At>,
}

impl Losses {
    fn new(now: At, counted: u64, missed: u64) -> Losses {
        Losses { heard: now, looked: now, missed, counted, lost: 0, since: None }
    }

    /// The programs' own count, after everything before was read.
    fn glance(&mut self, counted: u64) {
        let more = counted.saturating_sub(self.counted);
        self.counted = counted;
        self.add(more);
    }

    /// What the kernel says that programs have missed, asked now.
    fn look(&mut self, missed: u64, now: At) {
        self.add_since(missed.saturating_sub(self.missed), self.heard.min(self.looked));
        // Where it once does not say, nothing is missed anew.
        self.missed = self.missed.max(missed);
        self.looked = now;
    }

    /// So much of what came since was lost.
    fn add(&mut self, more: u64) {
        self.add_since(more, self.heard);
    }

    fn add_since(&mut self, more: u64, from: At) {
        if more > 0 {
            self.lost = self.lost.saturating_add(more);
            self.since = Some(self.since.map_or(from, |since| since.min(from)));
        }
    }

    /// How much more was lost, and since when something may have been.
    fn tell(&mut self) -> Option<(u64, At)> {
        self.since.map(|since| (std::mem::take(&mut self.lost), since))
    }

    /// What was told was taken, and with it everything until then.
    fn taken(&mut self, until: Option<At>) {
        self.since = None;
        self.heard = until.unwrap_or(self.heard);
    }
}

/// What there is to show of the programs, and how many events the kernel says they have missed.
fn look(listener: &Listener) -> (Vec<Shown>, u64) {
    let (mut shown, mut missed) = (Vec::new(), 0_u64);
    for program in Program::ALL {
        let missing = listener.missing.iter().find(|(of, _)| *of == program);
        let runs = listener.opened.programs().contains(&program);
        let state = match (runs, missing) {
            (true, _) => ProgramState::Attached,
            (false, Some(_)) => ProgramState::Missing,
            (false, None) => ProgramState::Off,
        };
        // Where /proc does not say, nothing was counted either.
        let statistics = listener.opened.statistics(program).unwrap_or_default();
        let failures = listener.opened.counters.of(program);
        let (lost, incomplete) = match program {
            // It tells nothing: a run that was left out is a child without its label.
            Program::Labels => (0, failures.label.saturating_add(statistics.missed)),
            // The record is there: of its network namespace is said how sure that is.
            _ if !program.can_lose() => (0, failures.lost().saturating_add(failures.read)),
            _ => {
                missed = missed.saturating_add(statistics.missed);
                (failures.lost().saturating_add(statistics.missed), failures.read)
            }
        };
        let Statistics { runs, run_time_ns, .. } = statistics;
        shown.push(Shown {
            name: program.word().into(),
            state,
            reason: missing.map(|(_, why)| why.clone()),
            consequence: (state != ProgramState::Attached).then(|| program.consequence().into()),
            runs,
            run_time_ns,
            per_run_ns: statistics.per_run_ns(),
            lost,
            incomplete,
        });
    }
    (shown, missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boottime_ns: u64) -> At {
        At { boottime_ns, millis: boottime_ns }
    }

    #[test]
    fn a_loss_is_told_with_what_came_around_it() {
        let mut losses = Losses::new(at(10), 7, 3);
        losses.glance(7);
        losses.look(3, at(20));
        assert_eq!(losses.tell(), None);
        losses.taken(Some(at(19)));
        // Counted when the ring was read the next time: none of what was taken before is doubted.
        losses.glance(9);
        assert_eq!(losses.tell(), Some((2, at(19))));
        losses.taken(Some(at(30)));
        assert_eq!(losses.tell(), None);
        losses.taken(Some(at(40)));
        // What the kernel tells only when it is asked was any time since.
        losses.look(4, at(50));
        losses.add(1);
        assert_eq!(losses.tell(), Some((2, at(20))));
        losses.taken(None);
        assert_eq!((losses.tell(), losses.heard), (None, at(40)));
        losses.look(0, at(60));
        losses.look(4, at(70));
        assert_eq!(losses.tell(), None);
    }

    #[test]
    fn what_is_not_taken_is_lost_with_all_that_was_told_by_it() {
        let mut losses = Losses::new(at(10), 0, 0);
        losses.taken(Some(at(20)));
        losses.look(1, at(30));
        assert_eq!(losses.tell(), Some((1, at(10))));
        // It found no room: its 5 events and the loss that it told of.
        losses.add(5);
        assert_eq!(losses.tell(), Some((5, at(10))));
        losses.add(0);
        assert_eq!(losses.tell(), Some((0, at(10))));
        losses.taken(Some(at(50)));
        losses.add(1);
        assert_eq!(losses.tell(), Some((1, at(50))));
    }
}
