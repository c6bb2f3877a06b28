//! The audit stream: records to events, what is lost of them, and whether we are the audit daemon.
//!
//! Multicast is read always; beside it, while we are registered, what the kernel delivers to the daemon
//! (pairing.rs). So becoming the daemon and ceasing to be it changes nothing of what is heard.
//!
//! Or none of it: auditd reads the kernel, and hands events on (dispatched/).

mod daemons;
mod dispatched;
mod former;
mod gathering;
mod input;
mod over;
mod pairing;
mod seat;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use host::audit::{Control, Error, Received, Status, Stream};
use record::Line;
use record::stored::push_netlink;
use record::write::Body;

use self::daemons::look;
pub(super) use self::dispatched::{Door, listen as listen_dispatched};
pub(in crate::agent) use self::dispatched::{SOCKET as DISPATCH_SOCKET, State as Dispatch};
use self::former::Former;
pub(crate) use self::former::Limits;
use self::gathering::{Gathering, MARK};
pub(crate) use self::input::AuditInput;
use self::pairing::Pairing;
pub(crate) use self::seat::Mode;
use self::seat::{Act, Daemons, Seat, Why};
use super::{Drain, ForSource, Input, LOOK, chain, millis};
use crate::agent::gaps::Place;
use crate::agent::watermark::Note;
use crate::clock;

/// How audit is listened to.
#[derive(Clone, Debug)]
pub(in crate::agent) struct Settings {
    pub(in crate::agent) input: AuditInput,
    /// What auditd calls this machine, where that is not its host name.
    pub(in crate::agent) node: Option<String>,
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
        while let Ok(
            Received::Record { .. } | Received::Foreign { .. } | Received::Contested { .. },
        ) = daemon.recv(Some(Duration::ZERO))
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
pub(super) struct Asked {
    answer: Arc<Mutex<Option<Answer>>>,
    /// When the kernel last had no record waiting for anybody, in nanoseconds since boot; 0 for never.
    through: Arc<AtomicU64>,
    /// Whether the state was told for the last time.
    is_over: Arc<Mutex<bool>>,
}

#[derive(Clone, Debug)]
struct Answer {
    /// When it was asked for.
    asked: Instant,
    pid: u32,
    daemons: Daemons,
}

impl Asked {
    fn put(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    fn take(&self) -> Option<Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Asks for the state and tells it, unless it was told for the last time: what follows is our own end.
    fn tell(
        &self,
        control: &mut Control,
        context: &ForSource,
        is_last: bool,
    ) -> Result<Status, Error> {
        // Held while it asks, so that no older state is told after a newer one.
        let mut is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        let status = self.ask(control)?;
        if !*is_over {
            context.inbox.put(Input::Auditing(status));
        }
        *is_over |= is_last;
        Ok(status)
    }

    /// Asks for the state, and whether the kernel has handed over all that was made before.
    fn ask(&self, control: &mut Control) -> Result<Status, Error> {
        let before = clock::now().boottime_ns;
        let status = control.status()?;
        if status.backlog == 0 {
            self.through.store(before, Ordering::Relaxed);
        }
        Ok(status)
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
    gathering: Gathering<'a>,
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

/// How long a record waits for company: its event's other records and the next events then come with one
/// wake-up of everybody on the way to the disk.
const COMPANY: Duration = Duration::from_millis(10);

/// The buffer that takes what a flood brings meanwhile, in bytes.
const ROOMY: usize = 4 << 20;

/// How long the kernel takes to notice that there is no daemon.
const LEAVING: Duration = Duration::from_millis(300);

impl<'a> Listener<'a> {
    fn new(ears: Ears, context: &'a ForSource) -> Listener<'a> {
        let paired = ears.seat.is_held().then(Paired::default);
        Listener {
            ears,
            context,
            gathering: Gathering::new(context),
            paired,
            turned: Instant::now(),
        }
    }

    fn listen(mut self, asked: &Asked) -> io::Result<()> {
        let mut drain = Drain::default();
        let mut stopping = false;
        loop {
            if self.context.is_stopping() && !std::mem::replace(&mut stopping, true) {
                self.resign(asked);
            }
            if stopping && drain.is_over() {
                break;
            }
            // A record waits in the kernel before it comes to the socket, which may be empty meanwhile.
            let through = match self.ears.are_answered() {
                true => asked.through.load(Ordering::Relaxed),
                false => clock::now().boottime_ns,
            };
            self.gathering.turn();
            let (more, all) = self.read_multicast()?;
            let more = more | self.read_daemon(all)?;
            self.gathering.pass_on();
            self.report();
            if !more {
                // What only the daemon's socket has brought is not in yet.
                if self.paired.as_ref().is_none_or(|paired| paired.waiting.is_empty()) {
                    self.gathering.say_how_far(through);
                }
                if stopping && self.paired.is_none() {
                    break;
                }
                if !stopping {
                    self.reconsider(asked.take());
                }
                let ready = self.wait(if stopping { LOOK / 10 } else { LOOK })?;
                if ready && !stopping && self.ears.settings.buffer >= ROOMY {
                    std::thread::sleep(COMPANY);
                }
            }
        }
        self.unpair();
        self.report();
        self.gathering.end();
        Ok(())
    }

    /// Waits for something to read, or until something is due; whether there is something.
    fn wait(&self, most: Duration) -> io::Result<bool> {
        let most = self.gathering.patience(most);
        match (&self.paired, &self.ears.daemon) {
            (Some(_), Some(daemon)) => Stream::wait(&[&self.ears.multicast, daemon], most),
            _ => Stream::wait(&[&self.ears.multicast], most),
        }
    }

    /// Takes what has come to the group; whether something had, and whether that was all.
    fn read_multicast(&mut self) -> io::Result<(bool, bool)> {
        for turn in 0..TURN {
            match self.ears.multicast.recv(Some(Duration::ZERO))? {
                Received::Record { kind, text } => {
                    if let Some(Paired { pairing, .. }) = &mut self.paired {
                        pairing.heard(pairing.fingerprint(kind, text));
                    }
                    self.gathering.take(kind, text);
                }
                Received::Lost(records) => match &mut self.paired {
                    Some(Paired { pairing, .. }) => pairing.dropped(records),
                    None => self.context.lost(Place::Audit, Some(records), self.gathering.heard()),
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
    fn read_daemon(&mut self, all: bool) -> io::Result<bool> {
        let Some(mut paired) = self.paired.take() else { return Ok(false) };
        let now = self.gathering.now();
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
                match daemon.recv(Some(Duration::ZERO))? {
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
            self.context.lost(Place::Audit, Some(lost), self.gathering.heard());
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
        self.gathering.take(kind, text);
    }

    /// Reads multicast alone from now on.
    fn unpair(&mut self) {
        if let Some(mut paired) = self.paired.take() {
            while let Some((_, kind, text)) = paired.waiting.pop_front() {
                self.fill_in(&mut paired.pairing, kind, &text);
            }
            let lost = paired.pairing.end();
            if lost > 0 {
                self.context.lost(Place::Audit, Some(lost), self.gathering.heard());
            }
        }
    }

    /// Does what follows from the state of audit.
    fn reconsider(&mut self, answer: Option<Answer>) {
        // What was asked for before the last change says nothing of it.
        let Some(answer) = answer.filter(|answer| answer.asked > self.turned) else { return };
        let now = self.gathering.now();
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
    fn resign(&mut self, asked: &Asked) {
        let tell = |control| asked.tell(control, self.context, true).ok();
        let status = self.ears.control.as_mut().and_then(tell);
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
}

/// When the kernel made a record, in milliseconds since 1970.
fn stamp(kind: u16, text: &[u8]) -> Option<u64> {
    let mut line = Vec::with_capacity(text.len() + 32);
    push_netlink(&mut line, kind, text);
    Some(Line::parse(&line).ok()?.id().millis)
}

/// Watches whether auditing is on, what the kernel itself loses, and who is the audit daemon.
pub(super) fn watch(mut control: Control, asked: &Asked, context: &ForSource) {
    loop {
        let began = Instant::now();
        let is_last = context.is_stopping();
        let status = match asked.tell(&mut control, context, is_last) {
            Ok(status) => status,
            Err(error) => return context.ended(&error),
        };
        if is_last {
            return;
        }
        asked.put(Answer { asked: began, pid: status.pid, daemons: look(&status) });
        while began.elapsed() < OFTEN && !context.is_stopping() {
            std::thread::sleep(LOOK);
            // Where it fails, the next round says so.
            let _ = asked.ask(&mut control);
        }
    }
}

/// How often audit is asked.
const OFTEN: Duration = Duration::from_secs(1);
