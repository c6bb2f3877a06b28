//! Where the agent's facts come from: a thread for each source, none of which ever waits for the
//! decision loop.

mod audit;
pub(super) mod bpf;
mod mapped;
mod served;
mod timekeeping;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use engine::containers::{Description, Group};
use host::audit::{Control, Status};
use host::kmsg::{self, Kmsg};
use host::uevent::{self, Uevents};
use record::units::ContId;
use serde::{Deserialize, Serialize};
use trail::Class;

pub(crate) use self::audit::{AuditInput, Limits, Mode};
pub(super) use self::audit::{DISPATCH_SOCKET, Dispatch, Part, Settings as AuditSettings};
pub(super) use self::served::Served;
pub(super) use self::timekeeping::read as read_clock;
use super::containers::Inquiry;
use super::doorkeeper::wire::{Asked, WriterState};
use super::explain::Explained;
use super::gaps::Place;
use super::heard::Heard;
use super::inbox::Inbox;
use super::quota::Owner;
use super::status::{Counts, Source, SourceState};
use super::watermark::Mark;
use crate::clock;
use crate::outcome::{Failure, Kind};

/// A source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Name {
    /// The kernel's audit records, by multicast.
    Audit,
    /// The kernel's device events.
    Uevent,
    /// The kernel's log.
    Kmsg,
    /// Tables and status of the device mapper, asked for again and again.
    Dm,
    /// When the clock is set, and what steers it.
    Clock,
    /// Programs in the kernel that tell of processes.
    Bpf,
}

impl Name {
    pub(crate) const ALL: [Name; 6] =
        [Name::Audit, Name::Uevent, Name::Kmsg, Name::Dm, Name::Clock, Name::Bpf];

    pub(super) fn word(self) -> &'static str {
        match self {
            Name::Audit => "audit",
            Name::Uevent => "uevent",
            Name::Kmsg => "kmsg",
            Name::Dm => "dm",
            Name::Clock => "clock",
            Name::Bpf => "bpf",
        }
    }

    /// What is not known without it.
    fn consequence(self) -> &'static str {
        match self {
            Name::Audit => {
                "violations are learnt late, from counters, and often without their sector"
            }
            Name::Uevent => "devices that come and go are seen with the next poll",
            Name::Kmsg => {
                "what the kernel only logs is not heard: failed activations, errors behind"
            }
            Name::Dm => {
                "the names, tables and counters of the kernel's mapped devices are not known"
            }
            Name::Clock => "a step of the clock that no record tells of is not seen",
            Name::Bpf => "who a process was that has ended is not known",
        }
    }
}

/// What a source says.
#[derive(Debug)]
pub(super) enum Input {
    /// A whole event of the audit stream.
    Event(Heard),
    /// All events up to there have come by.
    Mark(Mark),
    /// Messages were lost; none: nobody knows how many. Between these times, in milliseconds since
    /// 1970.
    Lost { place: Place, messages: Option<u64>, span: [u64; 2] },
    /// The state of audit.
    Auditing(Status),
    /// The audit stream was empty at that time since boot, in ns, and all before was put in.
    Audited(u64),
    /// Our part in audit has changed.
    Part(Part),
    /// auditd hands events on, or does so no more.
    Dispatch(Dispatch),
    /// A device event, as it came.
    Uevent(Vec<u8>),
    /// A record of the kernel's log, as it came.
    Kmsg(Vec<u8>),
    /// What programs in the kernel told of processes.
    Bpf(Box<bpf::Batch>),
    /// Every mapped device.
    Inventory(Vec<mapped::Mapped>),
    /// The clocks, as they were read.
    Clock(engine::clock::Reading),
    /// What a runtime's files say of a container; none where nothing.
    Described(ContId, Group, Option<Description>),
    /// Every served device.
    Served(Vec<Served>),
    /// What lies at a place.
    Explained(Explained),
    /// Events of class 2 were over their owner's quota.
    OverQuota { owner: Option<Owner>, events: u64, span: [u64; 2] },
    /// A sink of checkpoints began to fail, or works again: the body of a VT_SINK.
    Sink(record::write::Body),
    /// A source has ended by itself.
    Ended { name: Name, why: String },
    /// The trail's writer was started, or is heard or not heard any more.
    Writer(WriterState),
    /// A process reads or writes a task's label, and waits for the answer.
    Asked(Asked),
    /// The same by the control socket.
    Inquiry(Inquiry),
    /// The configuration is to be read again.
    Reload,
    /// The agent is to stop.
    Stop,
    /// The doorkeeper is gone.
    Orphaned,
}

/// What is listened to, and how.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) sources: Vec<Name>,
    pub(super) audit: audit::Settings,
    /// Between two looks at what is polled.
    pub(super) poll: Duration,
}

/// Room for device events that wait, in bytes.
const UEVENT_BUFFER: usize = 4 << 20;

/// How often a thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(200);

/// How long what has come already is read on when the agent stops.
const DRAIN: Duration = Duration::from_secs(2);

/// The time for that, from when it is first asked about: whoever floods a source does not keep the
/// agent from stopping.
#[derive(Debug, Default)]
struct Drain(Option<std::time::Instant>);

impl Drain {
    fn is_over(&mut self) -> bool {
        let now = std::time::Instant::now();
        now >= *self.0.get_or_insert(now + DRAIN)
    }
}

/// The sources that could be opened.
#[derive(Debug, Default)]
pub(super) struct Sources {
    audit: Option<audit::Ears>,
    dispatched: Option<audit::Door>,
    control: Option<Control>,
    uevent: Option<Uevents>,
    kmsg: Option<Kmsg>,
    dm: Option<host::dm::Control>,
    clock: Option<host::clock::Witness>,
    bpf: Option<bpf::Listener>,
    /// What there is to say of each, in the order of [`Name::ALL`].
    report: Vec<(Name, SourceState, String)>,
}

impl Sources {
    /// Opens what can be had; `bpf` is what the doorkeeper gave for that source.
    pub(super) fn open(
        settings: &Settings,
        mut bpf: Option<Result<(bpf::Listener, String), String>>,
    ) -> Sources {
        let mut sources = Sources::default();
        for name in Name::ALL {
            let (state, detail) = if !settings.sources.contains(&name) {
                (SourceState::Off, "by the configuration".to_owned())
            } else {
                match sources.open_one(name, settings, &mut bpf) {
                    Ok(how) => (SourceState::Listening, how),
                    Err(why) => (SourceState::Missing, why),
                }
            };
            sources.report.push((name, state, detail));
        }
        sources
    }

    fn open_one(
        &mut self,
        name: Name,
        settings: &Settings,
        bpf: &mut Option<Result<(bpf::Listener, String), String>>,
    ) -> Result<String, String> {
        let said = |error: io::Error| error.to_string();
        match name {
            Name::Audit if settings.audit.input != AuditInput::Netlink => {
                let (door, how) = audit::Door::open(&settings.audit)?;
                self.control = Control::open().and_then(|mut it| it.status().map(|_| it)).ok();
                self.dispatched = Some(door);
                Ok(how)
            }
            Name::Audit => {
                let (ears, how) = audit::Ears::open(&settings.audit)?;
                // Without it there is less to know, and that was said.
                self.control = Control::open().ok().filter(|_| ears.are_answered());
                self.audit = Some(ears);
                Ok(how)
            }
            Name::Uevent => {
                self.uevent = Some(Uevents::open(UEVENT_BUFFER).map_err(said)?);
                Ok("from the kernel".into())
            }
            Name::Kmsg => {
                // What was logged before is of a time of which the next boot's reader knows more.
                self.kmsg = Some(Kmsg::open(kmsg::From::Now).map_err(said)?);
                Ok("from now on".into())
            }
            Name::Dm => match host::dm::Control::open().map_err(said)? {
                Some(control) => {
                    self.dm = Some(control);
                    Ok(format!("every {} s", settings.poll.as_secs()))
                }
                None => Err("this kernel has no device mapper (modprobe dm-mod)".into()),
            },
            Name::Clock => {
                self.clock = Some(host::clock::Witness::open().map_err(said)?);
                let apart = host::clock::distance().apart_ns;
                Ok(format!("told when it is set, steps measured to {apart} ns"))
            }
            Name::Bpf => {
                let loaded = bpf.take().unwrap_or_else(|| Err("the doorkeeper has none".into()));
                let (listener, how) = loaded?;
                self.bpf = Some(listener);
                Ok(how)
            }
        }
    }

    /// Refuses to work without any.
    pub(super) fn check(&self) -> Result<(), Failure> {
        // Anybody may look at the clock: it is no reason to run, unless nothing else is wanted.
        let wanted = self.report.iter().filter(|(_, state, _)| *state != SourceState::Off);
        let only_clock = wanted.clone().all(|(name, ..)| *name == Name::Clock);
        let listening = |(name, state, _): &(Name, SourceState, String)| {
            *state == SourceState::Listening && (only_clock || *name != Name::Clock)
        };
        if self.report.iter().any(listening) {
            return Ok(());
        }
        let why: Vec<String> =
            self.report.iter().map(|(name, _, why)| format!("{}: {why}", name.word())).collect();
        Err(Failure::new(Kind::Environment, "there is nothing to listen to")
            .because(why.join("; "))
            .hint("run as root, or switch a source on (veritrail.toml, agent.sources)"))
    }

    /// Whether programs in the kernel see the calls that change the clock.
    pub(super) fn see_clock_calls(&self) -> bool {
        self.bpf.as_ref().is_some_and(bpf::Listener::hears_clock_calls)
    }

    /// What there is to say of each, and where it is counted.
    pub(super) fn report(&self) -> Vec<(Name, Source)> {
        let source = |(name, state, detail): &(Name, SourceState, String)| {
            let missing = *state != SourceState::Listening;
            let source = Source {
                name: name.word().into(),
                state: *state,
                detail: detail.clone(),
                consequence: missing.then(|| name.consequence().into()),
                messages: 0,
                events: 0,
                lost: 0,
            };
            (*name, source)
        };
        self.report.iter().map(source).collect()
    }

    /// Starts a thread for each.
    pub(super) fn start(self, context: &Context) -> io::Result<Running> {
        let mut threads = Vec::new();
        let mut spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(body).map(|thread| {
                threads.push(thread);
            })
        };
        let asked = audit::Asked::default();
        if let Some(ears) = self.audit {
            let (asked, context) = (asked.clone(), context.of(Name::Audit));
            spawn("audit", Box::new(move || audit::listen(ears, &asked, &context)))?;
        }
        if let Some(door) = self.dispatched {
            let context = context.of(Name::Audit);
            spawn("audit", Box::new(move || audit::listen_dispatched(door, &context)))?;
        }
        if let Some(control) = self.control {
            let context = context.of(Name::Audit);
            spawn("audit-state", Box::new(move || audit::watch(control, &asked, &context)))?;
        }
        if let Some(uevents) = self.uevent {
            let context = context.of(Name::Uevent);
            spawn("uevent", Box::new(move || hear_uevents(uevents, &context)))?;
        }
        if let Some(log) = self.kmsg {
            let context = context.of(Name::Kmsg);
            spawn("kmsg", Box::new(move || hear_kmsg(log, &context)))?;
        }
        let (ask, asked) = sync_channel(1);
        if let Some(control) = self.dm {
            let context = context.of(Name::Dm);
            spawn("dm", Box::new(move || mapped::read(&control, &asked, &context)))?;
        }
        let (ask_clock, clock_asked) = sync_channel(1);
        if let Some(witness) = self.clock {
            let context = context.of(Name::Clock);
            spawn("clock", Box::new(move || timekeeping::watch(&witness, &clock_asked, &context)))?;
        }
        let (ask_processes, processes_asked) = sync_channel(1);
        if let Some(listener) = self.bpf {
            let context = context.of(Name::Bpf);
            spawn("bpf", Box::new(move || bpf::listen(listener, &processes_asked, &context)))?;
        }
        let directory = context.served.clone();
        let context = context.of(Name::Dm);
        spawn("served", Box::new(move || served::read(&directory, &context)))?;
        Ok(Running { threads, ask, ask_clock, ask_processes })
    }
}

/// An error with what is behind it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// The time between two looks at what is polled, which may change.
#[derive(Clone, Debug)]
pub(super) struct Poll(Arc<AtomicU64>);

impl Poll {
    pub(super) fn new(every: Duration) -> Poll {
        let poll = Poll(Arc::default());
        poll.set(every);
        poll
    }

    pub(super) fn set(&self, every: Duration) {
        self.0.store(every.as_secs(), Ordering::Relaxed);
    }

    pub(super) fn every(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

/// What every source is given.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) inbox: Arc<Inbox<Input>>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) counts: Vec<(Name, Counts)>,
    pub(super) poll: Poll,
    pub(super) trail: std::path::PathBuf,
    /// Events of class 2 that one owner may bring each second.
    pub(super) rest_per_second: Option<u32>,
    /// Where devices are served.
    pub(super) served: crate::served::Directory,
}

impl Context {
    fn of(&self, name: Name) -> ForSource {
        let counts = self.counts.iter().find(|(of, _)| *of == name);
        ForSource {
            name,
            inbox: Arc::clone(&self.inbox),
            stop: Arc::clone(&self.stop),
            counts: counts.map(|(_, counts)| counts.clone()).unwrap_or_default(),
            poll: self.poll.clone(),
            trail: self.trail.clone(),
            rest_per_second: self.rest_per_second,
        }
    }
}

/// The same for one source.
struct ForSource {
    name: Name,
    inbox: Arc<Inbox<Input>>,
    stop: Arc<AtomicBool>,
    counts: Counts,
    poll: Poll,
    trail: std::path::PathBuf,
    rest_per_second: Option<u32>,
}

impl ForSource {
    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn lost(&self, place: Place, messages: Option<u64>, since: u64) {
        self.counts.lost(messages.unwrap_or(1));
        self.inbox.put(Input::Lost { place, messages, span: [since, millis()] });
    }

    fn ended(&self, why: &dyn std::error::Error) {
        self.inbox.put(Input::Ended { name: self.name, why: chain(why) });
    }
}

/// Now, in milliseconds since 1970.
pub(super) fn millis() -> u64 {
    clock::now().realtime_ns / 1_000_000
}

/// The threads of the sources.
#[derive(Debug)]
pub(super) struct Running {
    threads: Vec<JoinHandle<()>>,
    ask: SyncSender<()>,
    ask_clock: SyncSender<()>,
    ask_processes: SyncSender<()>,
}

impl Running {
    /// The mapped devices are wanted soon.
    pub(super) fn ask_for_inventory(&self) {
        // Where there is no device mapper, nobody listens; and one question is as good as many.
        let _ = self.ask.try_send(());
    }

    /// The clocks are wanted soon.
    pub(super) fn ask_for_clocks(&self) {
        let _ = self.ask_clock.try_send(());
    }

    /// The living processes are wanted soon.
    pub(super) fn ask_for_processes(&self) {
        let _ = self.ask_processes.try_send(());
    }

    /// Whether every thread has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }
}

/// Waits for a question, the next poll or the end; false at the end.
fn wait_for_turn(asked: &Receiver<()>, context: &ForSource) -> bool {
    let began = std::time::Instant::now();
    loop {
        if context.is_stopping() {
            return false;
        }
        let until = began + context.poll.every();
        let left = until.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() || asked.recv_timeout(left.min(LOOK)).is_ok() {
            // One answer for all who asked meanwhile.
            while asked.try_recv().is_ok() {}
            return true;
        }
    }
}

fn hear_uevents(mut uevents: Uevents, context: &ForSource) {
    let mut heard = millis();
    let mut drain = Drain::default();
    loop {
        let stopping = context.is_stopping();
        if stopping && drain.is_over() {
            return;
        }
        match uevents.recv(Some(if stopping { Duration::ZERO } else { LOOK })) {
            Ok(uevent::Received::Message(raw)) => {
                context.counts.message();
                let item = Input::Uevent(raw.to_vec());
                context.inbox.offer(Class::Keyed, raw.len(), item);
                heard = millis();
            }
            Ok(uevent::Received::Lost(lost)) => context.lost(Place::Uevent, Some(lost), heard),
            Ok(uevent::Received::TimedOut) if stopping => return,
            Ok(uevent::Received::TimedOut) => {}
            Err(error) => return context.ended(&error),
        }
    }
}

fn hear_kmsg(mut log: Kmsg, context: &ForSource) {
    let mut heard = millis();
    let mut drain = Drain::default();
    loop {
        let stopping = context.is_stopping();
        if stopping && drain.is_over() {
            return;
        }
        match log.recv(Some(if stopping { Duration::ZERO } else { LOOK })) {
            Ok(kmsg::Received::Record(raw)) => {
                context.counts.message();
                context.inbox.offer(Class::Keyed, raw.len(), Input::Kmsg(raw.to_vec()));
                heard = millis();
            }
            Ok(kmsg::Received::Lost(lost)) => context.lost(Place::Kmsg, Some(lost), heard),
            Ok(kmsg::Received::TimedOut) if stopping => return,
            Ok(kmsg::Received::TimedOut) => {}
            Err(error) => return context.ended(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_left_when_its_time_is_up() {
        let mut drain = Drain::default();
        let began = std::time::Instant::now();
        while !drain.is_over() {
            assert!(began.elapsed() < 2 * DRAIN);
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(began.elapsed() >= DRAIN);
    }
}
