//! The system's clock: what the engine makes of its changes, on its way into the trail.

use std::time::Duration;

use engine::clock::{Clock, Output, Reading};
use record::Line;
use trail::Field;

use super::heard::Heard;
use super::journal::{Journal, OwnRecord};
use super::sources;

/// What is known of the clock.
#[derive(Debug)]
pub(super) struct Timekeeping {
    engine: Clock,
}

impl Timekeeping {
    /// Knows the clock as it is now.
    pub(super) fn new(now: Duration) -> Timekeeping {
        let mut engine = Clock::new(host::clock::ticks_per_second());
        engine.handle_reading(now, sources::read_clock());
        Timekeeping { engine }
    }

    pub(super) fn handle_auditing(&mut self, on: bool) {
        self.engine.handle_audit_state(on);
    }

    pub(super) fn handle_event(&mut self, now: Duration, heard: &Heard) {
        // All that it looks for is of the first class.
        let Some(id) = heard.id.filter(|_| heard.class == trail::Class::Integrity) else { return };
        let lines: Vec<Line<'_>> =
            heard.lines.iter().filter_map(|line| Line::parse(line).ok()).collect();
        self.engine.handle_event(now, id, &lines);
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
                    journal.beside(event, &owned(records), &tail("engine", confidence.word()));
                }
                Output::Read => wants_reading = true,
            }
        }
        wants_reading
    }
}

fn tail<'a>(source: &'a str, confidence: &'a str) -> [Field<'a>; 2] {
    [Field { name: "VT_SRC", value: source }, Field { name: "VT_CONF", value: confidence }]
}

fn owned(records: Vec<engine::clock::Record>) -> Vec<OwnRecord> {
    records.into_iter().map(|(kind, body)| OwnRecord(kind, body)).collect()
}
