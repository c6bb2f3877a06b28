//! The system's clock: what the engine makes of its changes, on its way into the trail.

use std::time::Duration;

use engine::clock::{Call, Clock, Exact, Moment, Output, Reading, Timex, What};
use host::bpf::{Asked, ClockCall};
use record::Line;
use record::tables::syscall::Machine;
use record::task::Task;
use trail::{Class, Field};

use super::heard::Heard;
use super::journal::{Journal, OwnRecord};
use super::sources;
use super::tasks::Processes;

/// What is known of the clock.
#[derive(Debug)]
pub(super) struct Timekeeping {
    engine: Clock,
    sees_calls: bool,
}

impl Timekeeping {
    /// Knows the clock as it is now.
    pub(super) fn new(now: Duration) -> Timekeeping {
        let mut engine = Clock::new(host::clock::ticks_per_second());
        engine.handle_reading(now, sources::read_clock());
        Timekeeping { engine, sees_calls: false }
    }

    /// Whether programs in the kernel see the calls.
    pub(super) fn handle_door(&mut self, sees_calls: bool) {
        self.sees_calls = sees_calls;
        self.engine.handle_door(sees_calls);
    }

    pub(super) fn sees_calls(&self) -> bool {
        self.sees_calls
    }

    pub(super) fn handle_auditing(&mut self, on: bool) {
        self.engine.handle_audit_state(on);
    }

    /// The audit stream was read so far.
    pub(super) fn handle_audited(&mut self, now: Duration, until: u64) {
        self.engine.handle_audited(now, until);
    }

    pub(super) fn handle_event(&mut self, now: Duration, heard: &Heard) {
        let Some(id) = heard.id else { return };
        let lines: Vec<Line<'_>> =
            heard.lines.iter().filter_map(|line| Line::parse(line).ok()).collect();
        self.engine.handle_event(now, id, &lines);
    }

    /// What programs in the kernel have told, after the processes have heard of it too.
    pub(super) fn handle_calls(
        &mut self,
        now: Duration,
        calls: Vec<ClockCall>,
        processes: &Processes,
    ) {
        for call in calls {
            let exe = processes.program(call.task.tgid, call.task.start_boottime);
            self.engine.handle_call(now, read_call(&call, exe));
        }
    }

    pub(super) fn handle_reading(&mut self, now: Duration, reading: Reading) {
        self.engine.handle_reading(now, reading);
    }

    /// Does what is due. True where it wants the clocks to be read.
    pub(super) fn act(&mut self, now: Duration, journal: &mut Journal) -> bool {
        if self.engine.poll_timeout().is_some_and(|due| due <= now) {
            self.engine.handle_timeout(now);
        }
        self.write(journal)
    }

    /// Nothing more is waited for.
    pub(super) fn end(&mut self, journal: &mut Journal) {
        self.engine.handle_end();
        self.write(journal);
    }

    /// When there next is something to do.
    pub(super) fn due(&self) -> Option<Duration> {
        self.engine.poll_timeout()
    }

    fn write(&mut self, journal: &mut Journal) -> bool {
        let mut wants_reading = false;
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Own { records, source, confidence } => {
                    journal.own(&owned(records), &tail(source.word(), confidence.word()));
                }
                Output::Beside { event, records, confidence } => {
                    journal.beside(
                        event,
                        Class::Integrity,
                        &owned(records),
                        &tail("engine", confidence.word()),
                    );
                }
                Output::Read => wants_reading = true,
            }
        }
        wants_reading
    }
}

/// The call as the engine has it.
fn read_call(call: &ClockCall, exe: Option<Vec<u8>>) -> Call {
    let moment = |moment: host::bpf::Moment| Moment {
        boottime_ns: moment.boottime_ns,
        tai_offset_ns: moment.tai_offset_ns,
        apart_ns: moment.apart_ns,
    };
    let what = match &call.asked {
        Asked::Time(seconds, nanoseconds) => {
            What::Set { time: i128::from(*seconds) * 1_000_000_000 + i128::from(*nanoseconds) }
        }
        Asked::Adjust { modes, given, left, values } => What::Adjust {
            asked: timex(*modes, given),
            after: timex(*modes, left),
            exact: values.map(Exact),
        },
    };
    let name = call.number.filter(|_| !call.kernel).and_then(|number| {
        let native = Machine::from_name(std::env::consts::ARCH.as_bytes())?;
        let machine = if call.compat { Machine::I386 } else { native };
        machine.syscall(number)
    });
    Call {
        name,
        what,
        entry: moment(call.entry),
        exit: moment(call.exit),
        task: (!call.kernel).then(|| Task { exe: program_of(call).or(exe), ..call.caller.clone() }),
    }
}

/// What the kernel has of the clock, as the engine has it.
pub(super) fn timex(modes: u32, timex: &host::clock::Timex) -> Timex {
    Timex {
        modes,
        offset: timex.offset,
        freq: timex.freq,
        status: timex.status,
        constant: timex.constant,
        tick: timex.tick,
        tai: timex.tai,
        seconds: timex.seconds,
        fraction: timex.fraction,
    }
}

/// The program's file as `/proc` has it, as long as it is the same process.
fn program_of(call: &ClockCall) -> Option<Vec<u8>> {
    let facts = host::process::facts(call.task.tgid).ok()?;
    // Ticks of 10 ms (USER_HZ) since boot, rounded down.
    (facts.start_time == call.task.start_boottime / 10_000_000).then_some(facts.task.exe)?
}

fn tail<'a>(source: &'a str, confidence: &'a str) -> [Field<'a>; 2] {
    [Field { name: "VT_SRC", value: source }, Field { name: "VT_CONF", value: confidence }]
}

fn owned(records: Vec<engine::clock::Record>) -> Vec<OwnRecord> {
    records.into_iter().map(|(kind, body)| OwnRecord(kind, body)).collect()
}
