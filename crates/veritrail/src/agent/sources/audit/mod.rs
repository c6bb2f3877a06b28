//! The audit stream: records to events, what is lost of them, and whether we are the audit daemon.
//!
//! Multicast is read always; beside it, while we are registered, what the kernel delivers to the daemon
//! (pairing.rs). So becoming the daemon and ceasing to be it changes nothing of what is heard.

mod daemons;
mod former;
mod over;
mod pairing;
mod seat;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use host::audit::{Control, Received, Stream};
use record::stored::push_netlink;
use record::write::Body;
use record::{Assembler, Line, RecordType};

use self::daemons::look;
use self::former::Former;
pub(crate) use self::former::Limits;
use self::over::Over;
use self::pairing::Pairing;
pub(crate) use self::seat::Mode;
use self::seat::{Act, Daemons, Seat, Why};
use super::{Drain, ForSource, Input, LOOK, chain, millis};
use crate::agent::gaps::Place;
use crate::agent::heard::Heard;
use crate::agent::watermark::{self, Mark, Note};
use crate::clock;

/// How long an event stays with the assembler at most (two seconds and a linger), and a record on its
/// way behind one with a greater serial.
const PASSED: Duration = Duration::from_secs(3);

/// How often a mark is set.
const MARK: Duration = Duration::from_millis(500);

/// How audit is listened to.
#[derive(Clone, Debug)]
pub(in crate::agent) struct Settings {
    pub(in crate::agent) mode: Mode,
    pub(in crate::agent) limits: Limits,
    /// Of each socket, in bytes.
    pub(in crate::agent) buffer: usize,
    /// Where the state of audit is kept that is to be put back.
    pub(in crate::agent) directory: PathBuf,
}

/// What has changed of our part in audit.
#[derive(Debug)]
pub(in crate::agent) struct Part {
    /// Whether we are the audit daemon now.
    pub(in crate::agent) own: bool,
    pub(in crate::agent) why: String,
    /// What is to be recorded of it.
    pub(in crate::agent) record: Option<Body>,
}

/// The sockets, with what was found and done when they were opened.
#[derive(Debug)]
pub(super) struct Ears {
    multicast: Stream,
    /// On which we are or may become the audit daemon; none where the mode never wants that, or audit
    /// takes no orders from us.
    daemon: Option<Stream>,
    control: Option<Control>,
    seat: Seat,
    former: Former,
    settings: Settings,
    /// When we registered last, in milliseconds since 1970.
    taken: u64,
    /// Whether records that are older than our ears are new to the trail.
    keep_older: bool,
    told: Vec<Part>,
}

impl Ears {
    /// Listens, and becomes the audit daemon if that is to be; with how it listens.
    pub(super) fn open(settings: &Settings) -> Result<(Ears, String), String> {
        let multicast = Stream::multicast(settings.buffer).map_err(|error| chain(&error))?;
        let held = multicast.receive_buffer().map_err(|error| error.to_string())?;
        let mut ears = Ears {
            multicast,
            daemon: None,
            control: None,
            seat: Seat::new(settings.mode),
            former: Former::read(&settings.directory),
            settings: settings.clone(),
            taken: 0,
            keep_older: Note::read(&settings.directory, &clock::boot_id()).is_none(),
            told: Vec::new(),
        };
        let how = match Control::open().and_then(|mut control| Ok((control.status()?, control))) {
            Err(error) => format!("its state is not known: {}", chain(&error)),
            Ok((status, control)) => {
                ears.control = Some(control);
                ears.begin(&look(&status))
            }
        };
        Ok((ears, format!("multicast, buffer of {held} bytes; {how}")))
    }

    /// Whether audit answers us.
    pub(super) fn are_answered(&self) -> bool {
        self.control.is_some()
    }

    fn begin(&mut self, daemons: &Daemons) -> String {
        let mut why = self.seat.why_not(daemons);
        if self.settings.mode != Mode::Coexist {
            match Stream::spare(self.settings.buffer) {
                Ok(daemon) => self.daemon = Some(daemon),
                Err(error) => why = Why::Refused(chain(&error)),
            }
        }
        if let Some(Act::Take(taken)) = self.seat.look(Duration::ZERO, daemons)
            && self.daemon.is_some()
        {
            match self.take(&taken) {
                Ok(()) => why = taken,
                Err(refused) => why = refused,
            }
        }
        if !self.seat.is_held() {
            self.restore(daemons.registered);
            // Nothing has changed by it.
            self.told.push(Part { own: false, why: why.to_string(), record: None });
        }
        let part = if self.seat.is_held() { "own" } else { "coexist" };
        let on = self.control.as_mut().and_then(|control| Some(control.status().ok()?.is_on()));
        let off = "; auditing is off (auditctl -e 1 turns it on)";
        format!("{part}: {why}{}", if on == Some(false) { off } else { "" })
    }

    /// Becomes the audit daemon, and sets what goes with it.
    fn take(&mut self, why: &Why) -> Result<(), Why> {
        let (Some(daemon), Some(control)) = (&mut self.daemon, &mut self.control) else {
            return Err(Why::Refused("audit takes no orders from us".into()));
        };
        // What came after we had left it is on record by the other way.
        let mut buf = vec![0; Stream::RECORD_BYTES];
        while let Ok(
            Received::Record { .. } | Received::Foreign { .. } | Received::Contested { .. },
        ) = daemon.recv(&mut buf, Some(Duration::ZERO))
        {}
        self.taken = millis();
        if let Err(error) = daemon.take_seat() {
            self.seat.refused();
            return Err(Why::Refused(chain(&error)));
        }
        self.seat.taken();
        let Settings { directory, limits, .. } = &self.settings;
        let record = match self.former.change(directory, control, *limits) {
            Ok(changed) => changed,
            Err(error) => Body::new().phrase("unchanged", &error.to_string()),
        };
        self.tell(why, record);
        Ok(())
    }

    /// Puts back what agents of this boot have changed.
    fn restore(&mut self, registered: Option<u32>) {
        let Some(control) = &mut self.control else { return };
        if self.former.is_empty() {
            return;
        }
        let body = Body::new().word("state", "audit-restored");
        let record = match self.former.restore(&self.settings.directory, control, registered) {
            Ok(restored) => body.followed_by(&restored),
            Err(error) => body.phrase("unchanged", &error.to_string()),
        };
        self.told.push(Part { own: false, why: String::new(), record: Some(record) });
    }

    fn tell(&mut self, why: &Why, changed: Body) {
        let own = self.seat.is_held();
        let why = why.to_string();
        let state = if own { "audit-own" } else { "audit-coexist" };
        let body = Body::new().word("state", state).word("mode", self.settings.mode.word());
        let record = body.phrase("reason", &why).followed_by(&changed);
        self.told.push(Part { own, why, record: Some(record) });
    }
}

/// What is known of audit by asking, for the thread that listens, which must not wait for an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked(Arc<Mutex<Option<Answer>>>);

#[derive(Clone, Debug)]
struct Answer {
    /// When it was asked for.
    asked: Instant,
    pid: u32,
    daemons: Daemons,
}

impl Asked {
    fn put(&self, answer: Answer) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    fn take(&self) -> Option<Answer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Reads until the agent stops.
pub(super) fn listen(ears: Ears, asked: &Asked, context: &ForSource) {
    if let Err(error) = (Listener::new(ears, context)).listen(asked) {
        context.ended(&error);
    }
}

struct Listener<'a> {
    ears: Ears,
    context: &'a ForSource,
    assembler: Assembler<Vec<u8>>,
    began: Instant,
    marks: Marks,
    over: Over,
    /// When it was last said how far the stream was read.
    said: Duration,
    /// When a record last came, in milliseconds since 1970.
    heard: u64,
    /// While the daemon's socket is read too.
    paired: Option<Paired>,
    /// When we became the daemon or ceased to be it.
    turned: Instant,
}

/// What goes with the daemon's socket.
#[derive(Default)]
struct Paired {
    pairing: Pairing,
    /// Records of it that multicast has not brought yet.
    waiting: VecDeque<(u64, u16, Vec<u8>)>,
    /// We are the daemon no more; the kernel may be about to deliver something still.
    left: Option<Instant>,
}

/// How many records are taken at once from either socket.
const TURN: usize = 256;

/// How long the kernel takes to notice that there is no daemon.
const LEAVING: Duration = Duration::from_millis(300);

impl<'a> Listener<'a> {
    fn new(ears: Ears, context: &'a ForSource) -> Listener<'a> {
        let paired = ears.seat.is_held().then(Paired::default);
        Listener {
            ears,
            context,
            assembler: Assembler::default(),
            began: Instant::now(),
            marks: Marks::default(),
            over: Over::new(context.rest_per_second),
            said: Duration::ZERO,
            heard: millis(),
            paired,
            turned: Instant::now(),
        }
    }

    fn listen(mut self, asked: &Asked) -> io::Result<()> {
        let mut buf = vec![0; Stream::RECORD_BYTES];
        let mut drain = Drain::default();
        let mut stopping = false;
        loop {
            if self.context.is_stopping() && !std::mem::replace(&mut stopping, true) {
                self.resign();
            }
            if stopping && drain.is_over() {
                break;
            }
            let before = clock::now().boottime_ns;
            let (more, all) = self.read_multicast(&mut buf)?;
            let more = more | self.read_daemon(&mut buf, all)?;
            self.assembler.handle_timeout(self.began.elapsed());
            self.pass_on();
            self.mark();
            self.report();
            if !more {
                self.say_how_far(before);
                if stopping && self.paired.is_none() {
                    break;
                }
                if !stopping {
                    self.reconsider(asked.take());
                }
                self.wait(if stopping { LOOK / 10 } else { LOOK })?;
            }
        }
        self.unpair();
        self.assembler.handle_end();
        self.pass_on();
        self.report();
        for over in self.over.rest() {
            self.context.inbox.put(over);
        }
        if let Some(serial) = self.marks.newest {
            let leaves = watermark::leaves(&self.context.trail);
            self.context.inbox.put(Input::Mark(Mark { serial, millis: millis(), leaves }));
        }
        Ok(())
    }

    /// There was nothing to read at that time: what the kernel had delivered before is on its way in.
    fn say_how_far(&mut self, boottime_ns: u64) {
        let now = self.began.elapsed();
        let is_whole = self.assembler.poll_timeout().is_none()
            && self.paired.as_ref().is_none_or(|paired| paired.waiting.is_empty());
        if is_whole && now.saturating_sub(self.said) >= LOOK {
            self.said = now;
            self.context.inbox.put(Input::Audited(boottime_ns));
        }
    }

    /// Waits for something to read, or until something is due.
    fn wait(&self, most: Duration) -> io::Result<()> {
        let now = self.began.elapsed();
        let due = self.assembler.poll_timeout().map_or(most, |due| due.saturating_sub(now));
        match (&self.paired, &self.ears.daemon) {
            (Some(_), Some(daemon)) => Stream::wait(&[&self.ears.multicast, daemon], due.min(most)),
            _ => Stream::wait(&[&self.ears.multicast], due.min(most)),
        }
        .map(drop)
    }

    /// Takes what has come to the group; whether something had, and whether that was all.
    fn read_multicast(&mut self, buf: &mut [u8]) -> io::Result<(bool, bool)> {
        for turn in 0..TURN {
            match self.ears.multicast.recv(buf, Some(Duration::ZERO))? {
                Received::Record { kind, text } => {
                    if let Some(Paired { pairing, .. }) = &mut self.paired {
                        pairing.heard(pairing.fingerprint(kind, text));
                    }
                    self.take(kind, text);
                }
                Received::Lost(records) => match &mut self.paired {
                    Some(Paired { pairing, .. }) => pairing.dropped(records),
                    None => self.context.lost(Place::Audit, Some(records), self.heard),
                },
                Received::TimedOut => {
                    if let Some(Paired { pairing, .. }) = &mut self.paired {
                        pairing.emptied();
                    }
                    return Ok((turn > 0, true));
                }
                // Nobody but the kernel is believed; it was not for us, and is not lost.
                Received::Contested { .. } | Received::Foreign { .. } => {}
            }
        }
        Ok((true, false))
    }

    /// Takes from the daemon's socket what multicast has not brought, having brought `all` it had; whether
    /// there was something.
    fn read_daemon(&mut self, buf: &mut [u8], all: bool) -> io::Result<bool> {
        let Some(mut paired) = self.paired.take() else { return Ok(false) };
        let now = self.began.elapsed();
        // The kernel gave each of these to the group first: it has come by now, or was dropped.
        while let Some((mark, ..)) = paired.waiting.front() {
            if !paired.pairing.pair(*mark, now) {
                if !all {
                    break;
                }
                if let Some((_, kind, text)) = paired.waiting.front() {
                    self.fill_in(&mut paired.pairing, *kind, text);
                }
            }
            paired.waiting.pop_front();
        }
        let mut more = !paired.waiting.is_empty();
        let mut contested = None;
        if let Some(daemon) = &mut self.ears.daemon
            && paired.waiting.is_empty()
        {
            for _ in 0..TURN {
                match daemon.recv(buf, Some(Duration::ZERO))? {
                    Received::Record { kind, text } => {
                        more = true;
                        let mark = paired.pairing.fingerprint(kind, text);
                        if !paired.waiting.is_empty() || !paired.pairing.pair(mark, now) {
                            paired.waiting.push_back((mark, kind, text.to_vec()));
                        }
                    }
                    Received::Contested { pid } => contested = Some(pid),
                    Received::TimedOut => break,
                    Received::Foreign { .. } | Received::Lost(_) => {}
                }
            }
        }
        let lost = paired.pairing.take_lost();
        if lost > 0 {
            self.context.lost(Place::Audit, Some(lost), self.heard);
        }
        let over = !more && paired.left.is_some_and(|left| left.elapsed() >= LEAVING);
        self.paired = Some(paired);
        if over {
            self.unpair();
        }
        if let Some(pid) = contested
            && let Some(Act::Leave(why)) = self.ears.seat.contested(now, pid)
        {
            self.leave(&why);
        }
        Ok(more)
    }

    /// A record that multicast does not have.
    fn fill_in(&mut self, pairing: &mut Pairing, kind: u16, text: &[u8]) {
        // What the kernel kept from before we listened. If there was an agent then, it has heard it or
        // told what it missed.
        let is_older = stamp(kind, text).is_some_and(|stamp| stamp < self.ears.taken);
        if !is_older {
            pairing.filled();
        } else if !self.ears.keep_older {
            return;
        }
        self.take(kind, text);
    }

    /// Reads multicast alone from now on.
    fn unpair(&mut self) {
        if let Some(mut paired) = self.paired.take() {
            while let Some((_, kind, text)) = paired.waiting.pop_front() {
                self.fill_in(&mut paired.pairing, kind, &text);
            }
            let lost = paired.pairing.end();
            if lost > 0 {
                self.context.lost(Place::Audit, Some(lost), self.heard);
            }
        }
    }

    /// Does what follows from the state of audit.
    fn reconsider(&mut self, answer: Option<Answer>) {
        // What was asked for before the last change says nothing of it.
        let Some(answer) = answer.filter(|answer| answer.asked > self.turned) else { return };
        let now = self.began.elapsed();
        if answer.pid != std::process::id()
            && let Some(Act::Leave(why)) = self.ears.seat.dismissed(now)
        {
            self.leave(&why);
            return;
        }
        match self.ears.seat.look(now, &answer.daemons) {
            Some(Act::Leave(why)) => self.leave(&why),
            // Not while the rest of the last time is still read.
            Some(Act::Take(why)) if self.paired.is_none() => {
                self.turned = Instant::now();
                self.paired = Some(Paired::default());
                // It is not told again and again that it does not work.
                if self.ears.take(&why).is_err() {
                    self.paired = None;
                }
            }
            _ => {}
        }
    }

    fn leave(&mut self, why: &Why) {
        self.turned = Instant::now();
        let released = self.ears.daemon.as_mut().map_or(Ok(()), Stream::release);
        let record = match released {
            Ok(()) => Body::new(),
            Err(error) => Body::new().phrase("failed", &chain(&error)),
        };
        if let Some(paired) = &mut self.paired {
            paired.left = Some(Instant::now());
        }
        self.ears.tell(why, record);
    }

    /// Puts everything back: the agent stops.
    fn resign(&mut self) {
        let status = self.ears.control.as_mut().and_then(|control| control.status().ok());
        self.ears.restore(status.and_then(|status| look(&status).registered));
        if self.ears.seat.resign() {
            // Where it fails the kernel notices that we have gone.
            let _ = self.ears.daemon.as_mut().map(Stream::release);
        }
        if let Some(paired) = &mut self.paired {
            paired.left = Some(Instant::now());
        }
    }

    fn report(&mut self) {
        for part in self.ears.told.drain(..) {
            self.context.inbox.put(Input::Part(part));
        }
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

    fn hand_in(&mut self, heard: Heard) {
        self.context.counts.event();
        if !self.over.admits(&heard, self.began.elapsed()) {
            return;
        }
        self.context.inbox.offer(heard.class, heard.bytes(), Input::Event(heard));
    }

    fn mark(&mut self) {
        let now = self.began.elapsed();
        for over in self.over.due(now) {
            self.context.inbox.put(over);
        }
        let here = |serial| {
            let leaves = watermark::leaves(&self.context.trail);
            Mark { serial, millis: millis(), leaves }
        };
        if let Some(passed) = self.marks.passed(now, here) {
            self.context.inbox.put(Input::Mark(passed));
        }
    }
}

/// When the kernel made a record, in milliseconds since 1970.
fn stamp(kind: u16, text: &[u8]) -> Option<u64> {
    let mut line = Vec::with_capacity(text.len() + 32);
    push_netlink(&mut line, kind, text);
    Some(Line::parse(&line).ok()?.id().millis)
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

/// Watches whether auditing is on, what the kernel itself loses, and who is the audit daemon.
pub(super) fn watch(mut control: Control, asked: &Asked, context: &ForSource) {
    loop {
        let began = Instant::now();
        let status = match control.status() {
            Ok(status) => status,
            Err(error) => return context.ended(&error),
        };
        asked.put(Answer { asked: began, pid: status.pid, daemons: look(&status) });
        context.inbox.put(Input::Auditing(status));
        while began.elapsed() < OFTEN {
            if context.is_stopping() {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// How often audit is asked.
const OFTEN: Duration = Duration::from_secs(1);

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
