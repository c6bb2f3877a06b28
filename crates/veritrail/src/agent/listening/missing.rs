//! What nobody heard between the last agent and this one, and the note for the next.

use record::EventId;
use record::write::Body;

use super::{Agent, OURS};
use crate::agent::journal::OwnRecord;
use crate::agent::sources::millis;
use crate::agent::watermark::{self, Mark, Note};

impl Agent {
    /// Says what nobody heard between the last agent and this one, whose first event this is.
    pub(super) fn tell_missing(&mut self, EventId { serial, millis }: EventId) {
        let leaves = watermark::leaves(self.journal.trail());
        // A note says what is on record.
        self.tell_gaps(true);
        let lost = self.kernel_lost.told();
        let mark = Mark { serial: serial.wrapping_sub(1), millis, leaves, lost };
        let Some(note) = self.before.take() else {
            self.leave(&self.note(Some(mark), false));
            return self.watermark.pass(mark, None);
        };
        let missing = note.missing(serial);
        // One that was killed is told of even where nothing seems to be missing.
        if missing != Some(0) || !note.stopped {
            let body = Body::new()
                .word("source", "agent")
                .word("reason", if note.stopped { "stopped" } else { "killed" });
            let body = match missing {
                Some(events) => body.word("events", events).word("count", "at-most"),
                None => body.word("count", "unknown"),
            };
            let body = body
                .word("from", record::Stamp { millis: note.millis })
                .word("to", record::Stamp { millis });
            self.journal.own(&[OwnRecord("VT_GAP", body)], OURS);
        }
        // The old note holds until that is on record.
        self.watermark.pass(mark, self.journal.last());
    }

    pub(super) fn note(&self, reached: Option<Mark>, stopped: bool) -> Note {
        Note {
            boot: self.boot.clone(),
            stopped,
            millis: reached.map_or_else(millis, |mark| mark.millis),
            trail: self.journal.trail().to_owned(),
            leaves: reached.map_or(0, |mark| mark.leaves),
            serial: reached.map(|mark| mark.serial),
            lost: reached.map_or(self.kernel_lost.told(), |mark| mark.lost),
        }
    }

    pub(super) fn leave(&self, note: &Note) {
        // Where it cannot be written, the next agent counts from an older one: wider and not wrong.
        let _ = note.write(self.home.path());
    }
}
