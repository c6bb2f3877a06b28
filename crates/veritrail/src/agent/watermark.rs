//! Up to which of the kernel's serials everything that was heard is on record. It is noted each second
//! beside the agent's lock, so that an agent that follows a killed one can say what is missing at most.
//!
//! ```text
//!  serials   ... W ················ killed ·············· F ...
//!                └ some on record ┘        └ nobody heard ┘└ the first that the next one hears
//!  missing at most: those between W and F that the trail does not have
//! ```

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use record::units::LeafIndex;
use record::{EventId, Line};
use serde::{Deserialize, Serialize};
use trail::{Disk, Reader};

use super::journal::{Handed, Journal};

/// What an agent leaves for the next one. The file lies in the run directory, which no boot outlives;
/// the id of the boot says it again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The boot's id.
    pub(super) boot: String,
    /// Whether the agent ended by itself, with everything on record.
    pub(super) stopped: bool,
    /// When it was written, in milliseconds since 1970.
    pub(super) millis: u64,
    /// The trail, and how many leaves it had when `serial` had not been heard yet.
    pub(super) trail: PathBuf,
    pub(super) leaves: u64,
    /// Every event of the stream up to here is on record, or told of as lost.
    pub(super) serial: Option<u32>,
    /// The kernel's own counter, as far as its losses are on record.
    #[serde(default)]
    pub(super) lost: Option<u32>,
}

const NAME: &str = "state.json";

impl Note {
    /// What the last agent of this run directory left, if that was in this boot.
    pub(super) fn read(dir: &Path, boot: &str) -> Option<Note> {
        let text = fs::read(dir.join(NAME)).ok()?;
        let note: Note = serde_json::from_slice(&text).ok()?;
        (note.boot == boot).then_some(note)
    }

    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let next = dir.join("state.json.new");
        fs::write(&next, serde_json::to_vec(self)?)?;
        fs::rename(next, dir.join(NAME))
    }

    /// Whether an event is one of those that the last agent has heard or missed itself: it was on its
    /// way for long.
    pub(super) fn has_passed(&self, event: EventId) -> bool {
        let behind = |since: u32| since.wrapping_sub(event.serial) < u32::MAX / 2;
        self.serial.is_some_and(behind) && event.millis <= self.millis
    }

    /// How many events between this note and the first that is heard now are not on record, at most.
    /// None where no serial was noted.
    pub(super) fn missing(&self, first: u32) -> Option<u32> {
        let since = self.serial?;
        let between = first.wrapping_sub(since).saturating_sub(1);
        // A trail that cannot be read, now or ever, makes the bound wider, not wrong.
        let found = found_since(&self.trail, self.leaves, since, between).unwrap_or(0);
        Some(between.saturating_sub(found))
    }
}

/// How many of the `between` serials behind `since` the trail has, from that leaf on.
fn found_since(trail: &Path, leaf: u64, since: u32, between: u32) -> Result<u32, trail::Error> {
    let mut reader = Reader::open(Disk::new(trail), LeafIndex(leaf))?;
    let mut found = HashSet::new();
    while let Some(leaf) = reader.next()? {
        if let Some(EventId { serial, .. }) = kernel_event(leaf.bytes)
            && (1..=between).contains(&serial.wrapping_sub(since))
        {
            found.insert(serial);
        }
    }
    Ok(u32::try_from(found.len()).unwrap_or(u32::MAX))
}

/// The id of a leaf that the kernel wrote.
fn kernel_event(leaf: &[u8]) -> Option<EventId> {
    let tail = Line::parse_stored(leaf.trim_ascii_end().rsplit(|b| *b == b'\n').next()?).ok()?;
    let is_kernel = record::stored::tail_value(tail.own_tail()?, "VT_SRC") == Some(b"kernel");
    is_kernel.then(|| tail.id())
}

/// A place in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Every event up to this serial has come by, of those that were heard at all.
    pub(super) serial: u32,
    /// When it was the newest, in milliseconds since 1970.
    pub(super) millis: u64,
    /// How many leaves the trail had then.
    pub(super) leaves: u64,
    /// What the kernel had lost by then, where that is known.
    pub(super) lost: Option<u32>,
}

/// Marks that wait for the trail at once: ten minutes.
const MOST_MARKS: usize = 1200;

/// Moves the mark on.
#[derive(Debug, Default)]
pub(super) struct Watermark {
    /// Marks, with what had been handed in when they came by.
    waiting: VecDeque<(Mark, Option<Handed>)>,
    reached: Option<Mark>,
    /// Whether `reached` is another than was asked for last.
    moved: bool,
}

impl Watermark {
    /// All events up to the mark have been handed in, `last` the last of them.
    pub(super) fn pass(&mut self, mark: Mark, last: Option<Handed>) {
        // Of a trail that cannot be written for hours the latest mark is enough.
        if self.waiting.len() >= MOST_MARKS {
            self.waiting.pop_back();
        }
        self.waiting.push_back((mark, last));
    }

    /// The mark up to which everything is durable.
    pub(super) fn reached(&mut self, journal: &Journal) -> Option<Mark> {
        while let Some((mark, handed)) = self.waiting.front().copied()
            && handed.is_none_or(|handed| journal.is_settled(handed))
        {
            self.reached = Some(mark);
            self.moved = true;
            self.waiting.pop_front();
        }
        self.reached
    }

    /// The mark that came last, for when everything is durable.
    pub(super) fn last(&self) -> Option<Mark> {
        self.waiting.back().map(|(mark, _)| *mark).or(self.reached)
    }

    /// Whether it has moved since this was last asked.
    pub(super) fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }
}

/// Marks that events are held back before: they have come by when those are on their way too.
#[derive(Debug, Default)]
pub(super) struct Marks(VecDeque<(u64, Mark)>);

impl Marks {
    /// It comes behind the first `number` events that were ever held back.
    pub(super) fn push(&mut self, number: u64, mark: Mark) {
        // Of many the latest is enough.
        if self.0.len() >= MOST_MARKS {
            self.0.pop_back();
        }
        self.0.push_back((number, mark));
    }

    /// The next before which nothing is held back any more.
    pub(super) fn next(&mut self, holds: impl Fn(u64) -> bool) -> Option<Mark> {
        self.0.pop_front_if(|(number, _)| !holds(*number)).map(|(_, mark)| mark)
    }
}

/// How many leaves the trail has at least, by its checkpoint; 0 where it has none.
pub(super) fn leaves(dir: &Path) -> u64 {
    // The second line of a checkpoint is its size (c2sp.org/tlog-checkpoint).
    let size = |note: String| note.lines().nth(1)?.parse().ok();
    fs::read_to_string(dir.join(trail::layout::CHECKPOINT)).ok().and_then(size).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_was_on_its_way_for_long_is_not_the_first_that_is_heard() {
        let note = Note { serial: Some(5), millis: 1000, ..Note::default() };
        let event = |serial, millis| EventId { millis, serial };
        for (id, passed) in [
            (event(4, 900), true),
            (event(u32::MAX - 3, 900), true),
            (event(5, 1000), true),
            (event(6, 900), false),
            // So far round that it looks older.
            (event(4, 2000), false),
        ] {
            assert_eq!(note.has_passed(id), passed, "{id:?}");
        }
        assert!(!Note::default().has_passed(event(1, 0)));
    }

    #[test]
    fn marks_that_wait_are_bounded_and_the_latest_counts() {
        let mut watermark = Watermark::default();
        for serial in 0..10_000 {
            watermark.pass(Mark { serial, millis: 0, leaves: 0, lost: None }, None);
        }
        assert!(watermark.waiting.len() <= MOST_MARKS);
        assert_eq!(watermark.last().map(|mark| mark.serial), Some(9999));
    }
}
