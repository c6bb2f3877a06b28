//! The audit stream: records to events, and what is lost of them.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use host::audit::{Control, Received, Stream};
use record::stored::push_netlink;
use record::{Assembler, Line, RecordType};

use super::{Drain, ForSource, Input, LOOK, millis};
use crate::agent::gaps::Place;
use crate::agent::heard::Heard;
use crate::agent::watermark::{self, Mark};

/// How long an event stays with the assembler at most (two seconds and a linger), and a record on its
/// way behind one with a greater serial.
const PASSED: Duration = Duration::from_secs(3);

/// How often a mark is set.
const MARK: Duration = Duration::from_millis(500);

/// Reads until the agent stops.
pub(super) fn listen(stream: Stream, context: &ForSource) {
    if let Err(error) = (Listener::new(stream, context)).listen() {
        context.ended(&error);
    }
}

struct Listener<'a> {
    stream: Stream,
    context: &'a ForSource,
    assembler: Assembler<Vec<u8>>,
    began: Instant,
    marks: Marks,
    /// When a record last came, in milliseconds since 1970.
    heard: u64,
}

impl<'a> Listener<'a> {
    fn new(stream: Stream, context: &'a ForSource) -> Listener<'a> {
        Listener {
            stream,
            context,
            assembler: Assembler::default(),
            began: Instant::now(),
            marks: Marks::default(),
            heard: millis(),
        }
    }

    fn listen(mut self) -> io::Result<()> {
        let mut buf = vec![0; Stream::RECORD_BYTES];
        let mut drain = Drain::default();
        loop {
            let stopping = self.context.is_stopping();
            if stopping && drain.is_over() {
                break;
            }
            let now = self.began.elapsed();
            let due = self.assembler.poll_timeout().map_or(LOOK, |due| due.saturating_sub(now));
            let patience = if stopping { Duration::ZERO } else { due.min(LOOK) };
            match self.stream.recv(&mut buf, Some(patience))? {
                Received::Record { kind, text } => self.take(kind, text),
                Received::Lost(records) => {
                    self.context.lost(Place::Audit, Some(records), self.heard);
                }
                Received::TimedOut if stopping => break,
                // Nobody but the kernel is believed; it was not for us, and is not lost.
                Received::TimedOut | Received::Contested { .. } | Received::Foreign { .. } => {}
            }
            self.assembler.handle_timeout(self.began.elapsed());
            self.pass_on();
            self.mark();
        }
        self.assembler.handle_end();
        self.pass_on();
        if let Some(serial) = self.marks.newest {
            let leaves = watermark::leaves(&self.context.trail);
            self.context.inbox.put(Input::Mark(Mark { serial, millis: millis(), leaves }));
        }
        Ok(())
    }

    fn take(&mut self, kind: u16, text: &[u8]) {
        self.context.counts.message();
        self.heard = millis();
        let mut line = Vec::with_capacity(text.len() + 32);
        push_netlink(&mut line, kind, text);
        match Line::parse(&line) {
            Ok(parsed) if parsed.effective_type() == RecordType::DM_EVENT => {
                // The kernel's workers write it, so it is an event alone, and nothing says so: the
                // assembler would wait for company. If there is some, it is joined when it is read.
                self.marks.note(parsed.serial());
                self.hand_in(Heard::new(Some(parsed.id()), vec![line.clone()]));
            }
            Ok(parsed) => {
                self.marks.note(parsed.serial());
                let kept = line.clone();
                self.assembler.handle_line(self.began.elapsed(), &parsed, kept);
            }
            // The kernel writes none; if it does, it is kept as it is.
            Err(_) => self.hand_in(Heard::new(None, vec![line])),
        }
    }

    fn pass_on(&mut self) {
        while let Some(event) = self.assembler.poll_event() {
            self.hand_in(Heard::new(Some(event.id), event.records));
        }
    }

    fn hand_in(&self, heard: Heard) {
        self.context.counts.event();
        self.context.inbox.offer(heard.class, heard.bytes(), Input::Event(heard));
    }

    fn mark(&mut self) {
        let now = self.began.elapsed();
        let here = |serial| {
            let leaves = watermark::leaves(&self.context.trail);
            Mark { serial, millis: millis(), leaves }
        };
        if let Some(passed) = self.marks.passed(now, here) {
            self.context.inbox.put(Input::Mark(passed));
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

/// Watches whether auditing is on and what the kernel itself loses.
pub(super) fn watch(mut control: Control, context: &ForSource) {
    let (_keep, never) = std::sync::mpsc::channel();
    loop {
        match control.status() {
            Ok(status) => {
                let (on, lost) = (status.is_on(), status.lost.into());
                context.inbox.put(Input::Auditing { on, lost });
            }
            Err(error) => return context.ended(&error),
        }
        if !super::wait_for_turn(&never, context) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_passed_when_nothing_older_can_come() {
        let mut marks = Marks::default();
        let at = Duration::from_millis;
        let here = |leaves| move |serial| Mark { serial, millis: 0, leaves };
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
