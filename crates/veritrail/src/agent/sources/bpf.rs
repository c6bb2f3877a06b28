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
}

impl Listed {
    fn now(labels: Option<&Labels>) -> Listed {
        let began_ns = clock::now().boottime_ns;
        let (processes, grouped) = listed(labels);
        Listed { began_ns, processes, grouped }
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

/// What is counted of a program, before this.
#[derive(Clone, Copy, Default)]
struct Before {
    lost: u64,
    incomplete: u64,
}

/// Listens until the agent stops.
pub(super) fn listen(mut listener: Listener, asked: &Receiver<()>, context: &ForSource) {
    let mut drain = Drain::default();
    let mut told = Told::default();
    // What the one before this has lost is not lost anew.
    told.look(&listener);
    told = Told { counted: told.counted, ..Told::default() };
    let labels = listener.labels();
    let mut batch = Batch { listed: Some(Listed::now(labels.as_ref())), ..Batch::default() };
    let mut listing = Instant::now();
    let mut looked = listing.checked_sub(LOOK).unwrap_or(listing);
    let (mut heard, mut heard_millis) = (clock::now().boottime_ns, millis());
    loop {
        let stopping = context.is_stopping();
        let patience = if stopping { Duration::ZERO } else { PATIENCE };
        let read = listener.opened.reader.read(patience, |event| batch.events.push(event));
        let read = match read {
            Ok(read) => read,
            Err(error) => return context.ended(&error),
        };
        context.counts.message_many(read.events);
        if looked.elapsed() >= LOOK || stopping {
            looked = Instant::now();
            batch.programs = Some(told.look(&listener));
        }
        told.lost = told.lost.saturating_add(read.unknown).saturating_add(read.short);
        let lost = std::mem::take(&mut told.lost);
        if lost > 0 {
            context.lost(Place::Bpf, Some(lost), heard_millis);
            batch.lost = Some([heard, clock::now().boottime_ns]);
            told.list = true;
        }
        told.list |= asked.try_recv().is_ok() || listener.looks_for_groups();
        if told.list && listing.elapsed() >= LIST {
            (told.list, listing) = (false, Instant::now());
            batch.listed = Some(Listed::now(labels.as_ref()));
        }
        if let Some(until) = read.heard {
            batch.heard = Some(until);
            (heard, heard_millis) = (until, millis());
        }
        let events = u64::try_from(batch.events.len()).unwrap_or(u64::MAX);
        let listed = batch.listed.as_ref().map_or(0, |listed| listed.processes.len());
        let bytes = (batch.events.len() + listed).saturating_mul(EACH);
        // Time goes before processes.
        let is_clock = |event: &Event| matches!(event, Event::Clock(_));
        let class = if batch.events.iter().any(is_clock) { Class::Integrity } else { Class::Rest };
        let whole = std::mem::take(&mut batch);
        if context.inbox.try_offer(class, bytes, Input::Bpf(Box::new(whole))) {
            context.counts.event_many(events);
        } else {
            // It is told with the next one.
            told.lost = events;
        }
        if stopping && (read.events == 0 || drain.is_over()) {
            return;
        }
    }
}

/// Bytes of an event in the queue, about.
const EACH: usize = 256;

/// What was told of losses.
#[derive(Default)]
struct Told {
    counted: Vec<(Program, Before)>,
    /// Not told yet.
    lost: u64,
    /// Processes are to be listed.
    list: bool,
}

impl Told {
    /// Looks at what the kernel counts.
    fn look(&mut self, listener: &Listener) -> Vec<Shown> {
        let mut shown = Vec::new();
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
            let now = match program {
                // It tells nothing: a run that was left out is a child without its label.
                Program::Labels => {
                    Before { lost: 0, incomplete: failures.label.saturating_add(statistics.missed) }
                }
                // The record is there: of its network namespace is said how sure that is.
                _ if !program.can_lose() => {
                    Before { lost: 0, incomplete: failures.lost().saturating_add(failures.read) }
                }
                _ => Before {
                    lost: failures.lost().saturating_add(statistics.missed),
                    incomplete: failures.read,
                },
            };
            self.lost = self.lost.saturating_add(self.more(program, now));
            let Statistics { runs, run_time_ns, .. } = statistics;
            shown.push(Shown {
                name: program.word().into(),
                state,
                reason: missing.map(|(_, why)| why.clone()),
                consequence: (state != ProgramState::Attached)
                    .then(|| program.consequence().into()),
                runs,
                run_time_ns,
                per_run_ns: statistics.per_run_ns(),
                lost: now.lost,
                incomplete: now.incomplete,
            });
        }
        shown
    }

    /// How many were lost since the last look.
    fn more(&mut self, program: Program, now: Before) -> u64 {
        match self.counted.iter_mut().find(|(of, _)| *of == program) {
            Some((_, before)) => {
                let more = now.lost.saturating_sub(before.lost);
                *before = now;
                more
            }
            None => {
                self.counted.push((program, now));
                now.lost
            }
        }
    }
}
