//! Records of what somebody asked for, who is answered when they are durable.

use std::time::{Duration, Instant};

use engine::containers::Confidence;

use super::super::journal::{Handed, Journal, OwnRecord};
use super::tail;

/// How often records are handed in again for which there was no room.
const AGAIN: Duration = Duration::from_secs(1);

/// Records that somebody waits for.
#[derive(Debug)]
pub(super) struct Recorded {
    records: Vec<OwnRecord>,
    confidence: Confidence,
    /// None where the trail had no room for them.
    handed: Option<Handed>,
    tried: Instant,
}

impl Recorded {
    pub(super) fn new(
        records: Vec<OwnRecord>,
        confidence: Confidence,
        journal: &mut Journal,
    ) -> Recorded {
        let handed = journal.own(&records, &tail(confidence));
        Recorded { records, confidence, handed, tried: Instant::now() }
    }

    /// Whether they are durable. What found no room is handed in again: nobody is told of a success that is not
    /// on record.
    pub(super) fn is_settled(&mut self, journal: &mut Journal) -> bool {
        if self.handed.is_none() && self.tried.elapsed() >= AGAIN {
            self.tried = Instant::now();
            self.handed = journal.own(&self.records, &tail(self.confidence));
        }
        self.handed.is_some_and(|handed| journal.is_settled(handed))
    }
}
