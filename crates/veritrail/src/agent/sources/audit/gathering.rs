//! Records to events, on their way to the decision loop, whichever way they came.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use record::dispatch::Record;
use record::stored::{Origin, push_netlink};
use record::{Assembler, EventId, Line, Patience, RecordType};

use super::over::Over;
use super::{ForSource, Input, LOOK, millis};
use crate::agent::heard::{Heard, Part, Told};
use crate::agent::watermark::{self, Mark};

/// How long an event stays with the assembler at most (two seconds and a linger), and a record on its
/// way behind one with a greater serial.
const PASSED: Duration = Duration::from_secs(3);

/// How often a mark is set.
pub(super) const MARK: Duration = Duration::from_millis(500);

/// What has come and is not a whole event yet, and how far the stream was read.
pub(super) struct Gathering<'a> {
    context: &'a ForSource,
    assembler: Assembler<Part>,
    began: Instant,
    /// When this turn began, since then and in milliseconds since 1970: to ask for every record costs more
    /// than to read it.
    now: Duration,
    millis: u64,
    /// Whether a record has come in this turn.
    came: bool,
    marks: Marks,
    over: Over,
    /// When it was last said how far the stream was read.
    said: Duration,
    /// When the last turn began in which a record came, in milliseconds since 1970.
    heard: u64,
}

impl<'a> Gathering<'a> {
    pub(super) fn new(context: &'a ForSource) -> Gathering<'a> {
        Gathering {
            context,
            assembler: Assembler::new(Patience::of_stream()),
            began: Instant::now(),
            now: Duration::ZERO,
            millis: millis(),
            came: false,
            marks: Marks::default(),
            over: Over::new(context.rest_per_second),
            said: Duration::ZERO,
            heard: millis(),
        }
    }

    /// A turn begins: what there is to read is taken.
    pub(super) fn turn(&mut self) {
        if std::mem::take(&mut self.came) {
            self.heard = self.millis;
        }
        (self.now, self.millis) = (self.began.elapsed(), millis());
    }

    /// From its beginning to that of this turn.
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// All that came before this was taken, in milliseconds since 1970.
    pub(super) fn heard(&self) -> u64 {
        self.heard
    }

    /// Takes a record of netlink.
    pub(super) fn take(&mut self, kind: u16, text: &[u8]) {
        self.count();
        let mut line = Vec::with_capacity(text.len() + 32);
        push_netlink(&mut line, kind, text);
        let Ok(parsed) = Line::parse(&line) else {
            // The kernel writes none; if it does, it is kept as it is.
            return self.hand_in(Heard::no_record(line));
        };
        self.marks.note(parsed.serial());
        let (told, id, kind) = (Told::of(&parsed), parsed.id(), parsed.effective_type());
        self.gather(None, id, kind, Part { origin: Origin::Netlink, told, line });
    }

    /// Takes a record that auditd hands on.
    pub(super) fn take_dispatched(&mut self, record: &Record<'_>) {
        self.count();
        let origin = if record.verbatim { Origin::Netlink } else { Origin::File };
        let line = &record.line;
        if record.is_of_this_kernel() {
            self.marks.note(line.serial());
        }
        let part = Part { origin, told: Told::of(line), line: line.raw().to_vec() };
        self.gather(line.node(), line.id(), line.effective_type(), part);
    }

    fn count(&mut self) {
        self.context.counts.message();
        self.came = true;
    }

    fn gather(&mut self, node: Option<&[u8]>, id: EventId, kind: RecordType, part: Part) {
        if kind == RecordType::DM_EVENT {
            // The kernel's workers write it, so it is an event alone, and nothing says so: the
            // assembler would wait for company. If there is some, it is joined when it is read.
            self.hand_in(Heard::of(id, vec![part]));
        } else {
            self.assembler.handle(self.now, node, id, kind, part);
        }
    }

    /// Hands in what is whole, or has waited for long enough, and says what is due.
    pub(super) fn pass_on(&mut self) {
        self.assembler.handle_timeout(self.now);
        self.drain();
        self.mark();
    }

    fn drain(&mut self) {
        while let Some(event) = self.assembler.poll_event() {
            self.hand_in(Heard::of(event.id, event.records));
        }
    }

    fn hand_in(&mut self, heard: Heard) {
        self.context.counts.event();
        if !self.over.admits(&heard, self.now) {
            return;
        }
        self.context.inbox.offer(heard.class, heard.bytes(), Input::Event(heard));
    }

    /// How long nothing has to be done here.
    pub(super) fn patience(&self, most: Duration) -> Duration {
        let now = self.began.elapsed();
        let due = self.assembler.poll_timeout().map_or(most, |due| due.saturating_sub(now));
        due.min(most)
    }

    /// What the kernel made before that time was read, and is on its way in.
    pub(super) fn say_how_far(&mut self, boottime_ns: u64) {
        let now = self.now;
        if self.assembler.poll_timeout().is_none() && now.saturating_sub(self.said) >= LOOK {
            self.said = now;
            self.context.inbox.put(Input::Audited(boottime_ns));
        }
    }

    fn mark(&mut self) {
        let now = self.now;
        for over in self.over.due(now) {
            self.context.inbox.put(over);
        }
        let here = |serial| {
            let leaves = watermark::leaves(&self.context.trail);
            Mark { serial, millis: millis(), leaves, lost: None }
        };
        if let Some(passed) = self.marks.passed(now, here) {
            self.context.inbox.put(Input::Mark(passed));
        }
    }

    /// Hands in all that there is: nothing more comes.
    pub(super) fn end(&mut self) {
        self.assembler.handle_end();
        self.drain();
        for over in self.over.rest() {
            self.context.inbox.put(over);
        }
        if let Some(serial) = self.marks.newest {
            let leaves = watermark::leaves(&self.context.trail);
            self.context.inbox.put(Input::Mark(Mark {
                serial,
                millis: millis(),
                leaves,
                lost: None,
            }));
        }
    }
}

/// Serials by the time when they came.
#[derive(Default)]
struct Marks {
    newest: Option<u32>,
    marked: Option<u32>,
    set: VecDeque<(Duration, Mark)>,
    last: Duration,
}

impl Marks {
    fn note(&mut self, serial: u32) {
        // The kernel's counter wraps; a record a little older than the newest is behind it.
        let newer = |newest: u32| serial.wrapping_sub(newest) < u32::MAX / 2;
        if self.newest.is_none_or(newer) {
            self.newest = Some(serial);
        }
    }

    /// Sets a mark if it is time, and gives the one that all events have passed by now.
    fn passed(&mut self, now: Duration, here: impl FnOnce(u32) -> Mark) -> Option<Mark> {
        if now.saturating_sub(self.last) < MARK {
            return None;
        }
        self.last = now;
        if let Some(serial) = self.newest
            && self.marked.replace(serial) != Some(serial)
        {
            self.set.push_back((now, here(serial)));
        }
        let mut passed = None;
        while let Some((_, mark)) =
            self.set.pop_front_if(|(at, _)| now.saturating_sub(*at) >= PASSED)
        {
            passed = Some(mark);
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_passed_when_nothing_older_can_come() {
        let mut marks = Marks::default();
        let at = Duration::from_millis;
        let here = |leaves| move |serial| Mark { serial, millis: 0, leaves, lost: None };
        assert!(marks.passed(at(600), here(1)).is_none());
        marks.note(u32::MAX - 1);
        marks.note(3);
        marks.note(u32::MAX);
        assert!(marks.passed(at(1200), here(2)).is_none());
        marks.note(9);
        assert!(marks.passed(at(1300), here(3)).is_none(), "not so often");
        assert!(marks.passed(at(1800), here(4)).is_none());
        let passed = marks.passed(at(4300), here(5)).unwrap();
        assert_eq!((passed.serial, passed.leaves), (3, 2));
        let passed = marks.passed(at(4900), here(5)).unwrap();
        assert_eq!((passed.serial, passed.leaves), (9, 4));
        let passed = marks.passed(at(9000), here(6));
        assert!(passed.is_none(), "nothing new came");
    }
}
