//! The decision loop: what comes in is on its way to the trail before anything is made of it.

mod clock_door;
mod keeping;
mod losses;
mod missing;
mod shown;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use host::bpf::Labels;
use record::write::Body;
use trail::Field;

use super::auditing::Auditing;
use super::backlog::Backlog;
use super::containers::{Containers, Files};
use super::devices::Watched;
use super::doorkeeper::wire::{Begin, FromAgent, WriterState};
use super::events::Meter;
use super::explain::Explainers;
use super::forwarding::Forwarding;
use super::gaps::{Gaps, Place};
use super::home::Home;
use super::inbox::Lost;
use super::journal::{Handed, Journal, OwnRecord};
use super::link::Link;
use super::reload::{Configured, Reloaded};
use super::rules::Rules;
use super::sources::{Context, Dispatch, Input, Name, Running, Served, millis};
use super::status::{self, Board, Source, SourceState};
use super::tasks::Processes;
use super::timekeeping::Timekeeping;
use super::tree;
use super::watermark::{Mark, Marks, Note, Watermark};
use crate::clock;
use crate::outcome::Failure;
use losses::KernelLost;

/// The tail of what we write ourselves.
const OURS: &[Field<'static>] = &[Field { name: "VT_SRC", value: "engine" }];

/// How often what is shown is brought up to date, and the note for the next agent written.
const TICK: Duration = Duration::from_millis(500);

/// What is not known while auditd hands nothing on.
const UNHEARD: &str = "until auditd hands its events on, nothing that the kernel records is heard";

/// How many things are taken in before what follows from them is done.
const TURN: usize = 256;

/// How long sources have to end.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the loop has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was told to.
    Stopped,
    /// The doorkeeper was killed.
    Orphaned,
}

/// What is heard, and what can be labelled.
pub(super) struct Opened {
    pub(super) report: Vec<(Name, Source)>,
    /// The labels of tasks; none where this kernel keeps none.
    pub(super) labels: Option<Labels>,
    /// What runtimes say of their containers; none where nobody looks for these.
    pub(super) files: Option<Files>,
}

/// The loop's state.
pub(super) struct Agent {
    home: Home,
    journal: Journal,
    running: Running,
    context: Context,
    sources: Vec<(Name, Source)>,
    board: Board,
    link: Option<Link>,
    configured: Option<Configured>,
    devices: Watched,
    timekeeping: Timekeeping,
    processes: Processes,
    containers: Containers,
    gaps: Gaps,
    lost: Lost,
    /// What the agent before this one has left.
    before: Option<Note>,
    /// Whether an event has come: then what is missing since the last agent was told.
    hears: bool,
    watermark: Watermark,
    marks: Marks,
    boot: String,
    pid: u32,
    /// Our processes as audit numbers them, where that is known: this one, the doorkeeper, the writer.
    own: Option<[u32; 3]>,
    own_events: u64,
    /// Whether auditing was on when this was last seen.
    auditing: Option<bool>,
    kernel_lost: KernelLost,
    audit: Auditing,
    ticked: Instant,
    began: Instant,
    /// The last event of what was kept over a restart, until it is durable.
    recalled: Option<Handed>,
    /// Devices that are served below the same run directory.
    served: Vec<Served>,
    /// Events over their owner's quota.
    over_quota: u64,
    backlog: Backlog,
    /// Of those who read events.
    readers: Option<Meter>,
    /// What the kernel is told to make records of.
    rules: Option<Rules>,
    /// Why nobody sees who changes the clock.
    clock_loss: Option<String>,
    forwarding: Forwarding,
    /// auditd is to hand events on, and does not.
    unheard: bool,
    /// The process of auditd's that brings them; its calls are ours.
    plugin: Option<u32>,
}

impl Agent {
    pub(super) fn new(
        home: Home,
        journal: Journal,
        running: Running,
        context: Context,
        sources: Opened,
        board: Board,
        explainers: Explainers,
    ) -> Agent {
        let boot = clock::boot_id();
        let mut containers = Containers::new(sources.labels, home.path(), &boot);
        containers.limit(journal.config().container_quota());
        containers.grant(journal.config().container_grants());
        if let Some(files) = sources.files {
            containers.find(files);
        }
        let before = Note::read(home.path(), &boot);
        let kernel_lost = KernelLost::after(before.as_ref());
        let forwarding = Forwarding::new(journal.config());
        {
            let mut status = board.lock();
            status.pid = std::process::id();
            status.started = clock::now().realtime_ns / 1_000_000_000;
            status.trail = journal.trail().to_string_lossy().into_owned();
        }
        Agent {
            home,
            journal,
            running,
            context,
            sources: sources.report,
            board,
            link: None,
            configured: None,
            devices: Watched::new(explainers),
            timekeeping: Timekeeping::new(now()),
            processes: Processes::default(),
            containers,
            gaps: Gaps::default(),
            lost: Lost::default(),
            before,
            hears: false,
            watermark: Watermark::default(),
            marks: Marks::default(),
            boot,
            pid: std::process::id(),
            own: None,
            own_events: 0,
            auditing: None,
            kernel_lost,
            audit: Auditing::default(),
            ticked: Instant::now(),
            began: Instant::now(),
            recalled: None,
            served: Vec::new(),
            over_quota: 0,
            backlog: Backlog::default(),
            readers: None,
            rules: None,
            clock_loss: None,
            forwarding,
            unheard: false,
            plugin: None,
        }
    }

    /// What the tree shows is what this agent knows.
    pub(super) fn meet(&mut self, link: Link, begin: &Begin, configured: Configured) {
        self.configured = Some(configured);
        self.link = Some(link);
        self.own = std::fs::read_link("/proc/self/ns/pid")
            .ok()
            .filter(|namespace| is_audited(namespace))
            .map(|_| [self.pid, begin.doorkeeper, begin.writer.pid]);
        {
            let mut status = self.board.lock();
            status.tree = begin.tree.as_ref().ok().map(|path| path.to_string_lossy().into_owned());
            (status.doorkeeper, status.restarts) = (begin.doorkeeper, begin.restarts);
        }
        self.handle_writer(begin.writer);
    }

    /// Tells the doorkeeper something.
    pub(super) fn say(&self, what: &FromAgent) {
        if let Some(link) = &self.link {
            link.tell(what);
        }
    }

    /// Reads the configuration again, and uses it if it can be used.
    fn reload(&mut self) {
        let Some(configured) = &mut self.configured else { return };
        let Reloaded { body, told, config } = configured.reload();
        if let Some(config) = config {
            self.context.poll.set(config.poll());
            self.containers.limit(config.container_quota());
            self.containers.grant(config.container_grants());
        }
        self.journal.own(&[OwnRecord("VT_AGENT", body)], OURS);
        self.say(&told);
        self.load_rules();
    }

    fn handle_writer(&mut self, writer: WriterState) {
        let WriterState { pid, restarts, silent } = writer;
        if let Some([_, _, own]) = &mut self.own
            && pid > 0
            && *own != pid
            && std::mem::replace(own, pid) != 0
        {
            self.load_rules();
        }
        self.board.lock().writer = status::Writer { pid, restarts, silent };
    }

    /// Who reads events is counted there.
    pub(super) fn count_readers(&mut self, meter: Option<Meter>) {
        self.readers = meter;
    }

    /// What the kernel makes records of while this agent listens.
    pub(super) fn govern(&mut self, rules: Rules) {
        self.rules = Some(rules);
    }

    /// Whether programs in the kernel see the calls that change the clock.
    pub(super) fn sees_clock_calls(&mut self, seen: bool) {
        self.timekeeping.handle_door(seen);
    }

    /// The files of rules are read again.
    fn load_rules(&mut self) {
        self.want_rules_for_clock();
        if let Some(rules) = &mut self.rules {
            let plugin = self.plugin.filter(|_| self.own.is_some());
            let own: Vec<u32> = self.own.into_iter().flatten().chain(plugin).collect();
            rules.load(&own, &mut self.journal);
        }
        self.look_at_clock_door();
    }

    /// Records the beginning, and waits for that to be durable, but not for ever: a slow disk is no
    /// reason not to listen.
    pub(super) fn begin(&mut self, patience: Duration) -> Result<(), Failure> {
        let body = self.body("started").word("late", seconds_since_boot());
        let body = match &self.before {
            Some(note) => body.word("before", if note.stopped { "stopped" } else { "killed" }),
            None => body,
        };
        self.journal.own(&[OwnRecord("VT_AGENT", body)], OURS);
        if self.before.is_none() {
            self.leave(&self.note(None, false));
        }
        self.load_rules();
        self.devices.recall(now(), &mut self.journal);
        self.act();
        self.recalled = self.journal.last();
        let until = Instant::now() + patience;
        let first = self.journal.last();
        while Instant::now() < until && !first.is_some_and(|first| self.journal.is_settled(first)) {
            if let Some(failure) = self.journal.failure() {
                return Err(failure);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.refresh();
        Ok(())
    }

    /// Takes what the sources bring until the agent is to stop.
    pub(super) fn run(&mut self) -> Ended {
        loop {
            let mut patience = self.patience();
            for _ in 0..TURN {
                match self.context.inbox.take(patience) {
                    Some(Input::Stop) => return Ended::Stopped,
                    Some(Input::Orphaned) => return Ended::Orphaned,
                    Some(input) => self.handle(input),
                    None => break,
                }
                patience = Duration::ZERO;
            }
            self.act();
            self.tick();
        }
    }

    /// Takes what has come until now, records the end and closes the trail.
    pub(super) fn end(mut self, how: Ended) -> Result<(), Failure> {
        if let Some(rules) = &mut self.rules {
            rules.remove(&mut self.journal);
        }
        self.context.stop.store(true, Ordering::Relaxed);
        let until = Instant::now() + DRAIN;
        let mut ended = false;
        while !ended && Instant::now() < until {
            // Asked before the queue is: what a source put in last is there then.
            ended = self.running.has_ended();
            while Instant::now() < until
                && let Some(input) = self.context.inbox.take(Duration::from_millis(10))
            {
                self.handle(input);
                self.act();
            }
        }
        self.context.inbox.abandon();
        self.devices.end(&mut self.journal);
        self.timekeeping.end(&mut self.journal);
        self.containers.end(&self.processes);
        self.write_ready();
        self.tell_gaps(true);
        self.refresh();
        let status = self.board.lock().clone();
        let mut body = self.body("stopped").word("entries", status.entries);
        for source in &status.sources {
            if source.state != SourceState::Off {
                let counts = format!("{}/{}/{}", source.messages, source.events, source.lost);
                body = body.word(&source.name, counts);
            }
        }
        let mut body = body.word("own_events", self.own_events).word("drained", word(ended));
        if how == Ended::Orphaned {
            body = body.phrase("reason", "the doorkeeper was killed");
        }
        self.journal.own(&[OwnRecord("VT_AGENT", body)], OURS);
        let note = match self.watermark.last() {
            Some(reached) => Some(self.note(Some(reached), how == Ended::Stopped)),
            // It has heard nothing.
            None => Note::read(self.home.path(), &self.boot),
        };
        let (home, lost) = (self.home, self.kernel_lost.told());
        let closed = self.journal.close();
        if let (Ok(()), Some(note)) = (&closed, note) {
            // Else the next agent counts from an older note, which is wider and not wrong.
            let _ = Note { lost, ..note }.write(home.path());
        }
        closed
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Event(heard) => self.handle_event(heard),
            Input::Mark(mark) => {
                // What was lost before the mark is to be on record with it.
                self.tell_gaps(true);
                let mark = Mark { lost: self.kernel_lost.told(), ..mark };
                self.marks.push(self.containers.wholes(), mark);
            }
            Input::Lost { place, messages, span } => {
                self.gaps.note(place, messages, span);
                // What was lost may have been about a device.
                self.running.ask_for_inventory();
            }
            Input::Auditing(status) => self.handle_auditing(&status),
            Input::Audited(until) => self.timekeeping.handle_audited(now(), until),
            Input::Part(part) => {
                self.audit.turn(&part);
                if let Some(body) = part.record {
                    self.journal.own(&[OwnRecord("VT_AGENT", body)], OURS);
                }
            }
            Input::Dispatch(state) => self.handle_dispatch(state),
            Input::OverQuota { owner, events, span } => {
                self.over_quota += events;
                self.gaps.note_quota(owner, events, span);
            }
            Input::Uevent(raw) => self.devices.handle_uevent(now(), &raw),
            Input::Kmsg(raw) => self.devices.handle_kmsg(now(), &raw),
            Input::Inventory(devices) => self.devices.handle_inventory(now(), devices),
            Input::Clock(reading) => self.timekeeping.handle_reading(now(), reading),
            Input::Bpf(mut batch) => {
                let calls = batch.take_clock_calls();
                self.processes.handle(*batch, &mut self.containers);
                self.timekeeping.handle_calls(now(), calls, &self.processes);
            }
            Input::Described(contid, group, found) => {
                self.containers.handle_described(contid, &group, found);
            }
            Input::Served(served) => self.served = served,
            Input::Explained(mut explained) => {
                if explained.job.give_up.is_none() {
                    let namespaces = std::mem::take(&mut explained.namespaces);
                    self.containers.name_mounts(&mut explained.records, &namespaces);
                }
                self.devices.handle_explained(now(), explained, &mut self.journal);
            }
            Input::Sink(body) => {
                self.journal.own(&[OwnRecord("VT_SINK", body)], OURS);
            }
            Input::Ended { name, why } => self.handle_end_of(name, why),
            Input::Writer(state) => self.handle_writer(state),
            Input::Asked(asked) => self.containers.handle_asked(asked),
            Input::Inquiry(inquiry) => self.containers.handle_inquiry(inquiry),
            Input::Reload => self.reload(),
            Input::Stop | Input::Orphaned => {}
        }
    }

    /// auditd hands on what the kernel says, or does so no more.
    fn handle_dispatch(&mut self, state: Dispatch) {
        let Dispatch { connected, detail, record, plugin } = state;
        if let Some(body) = record {
            self.journal.own(&[OwnRecord("VT_AGENT", body)], OURS);
        }
        self.unheard = !connected;
        for (_, source) in self.sources.iter_mut().filter(|(name, _)| *name == Name::Audit) {
            source.detail.clone_from(&detail);
            let (state, consequence) = match connected {
                true => (SourceState::Listening, None),
                false => (SourceState::Missing, Some(UNHEARD.to_owned())),
            };
            (source.state, source.consequence) = (state, consequence);
        }
        if plugin.is_some() && self.plugin != plugin {
            self.plugin = plugin;
            self.load_rules();
        }
    }

    fn handle_end_of(&mut self, ended: Name, why: String) {
        let mut body = Body::new().word("state", "degraded").word("source", ended.word());
        body = body.phrase("reason", &why);
        self.journal.own(&[OwnRecord("VT_AGENT", body)], OURS);
        for (_, source) in self.sources.iter_mut().filter(|(name, _)| *name == ended) {
            source.state = SourceState::Ended;
            source.detail.clone_from(&why);
        }
        if ended == Name::Bpf {
            self.timekeeping.handle_door(false);
        }
        if matches!(ended, Name::Audit | Name::Bpf) {
            // What saw the clock's calls may be gone, or be needed now.
            self.load_rules();
        }
    }

    fn act(&mut self) {
        if self.devices.act(now(), &mut self.journal) {
            self.running.ask_for_inventory();
        }
        if self.timekeeping.act(now(), &mut self.journal) {
            self.running.ask_for_clocks();
        }
        self.containers.act(&mut self.processes, &mut self.journal, self.link.as_ref());
        self.write_ready();
        if let Some(containers) = self.containers.take_shown(false) {
            self.board.lock().containers = containers;
        }
        if self.containers.take_wants_list() {
            self.running.ask_for_processes();
        }
    }

    fn patience(&self) -> Duration {
        let tick = TICK.saturating_sub(self.ticked.elapsed());
        let due = [self.devices.due(), self.timekeeping.due(), self.containers.due()];
        let due = due.into_iter().flatten().min();
        let due = due.map(|due| due.saturating_sub(now()));
        due.map_or(tick, |due| due.min(tick))
    }

    fn tick(&mut self) {
        if self.ticked.elapsed() < TICK {
            return;
        }
        self.ticked = Instant::now();
        self.containers.tell_unregistered(&mut self.journal);
        self.tell_gaps(false);
        if self.rules.as_mut().is_some_and(Rules::tick) {
            self.load_rules();
        }
        self.look_at_clock_door();
        for record in self.forwarding.look(clock::now().realtime_ns / 1_000_000_000) {
            self.journal.own(&[record], OURS);
        }
        if self.recalled.is_some_and(|last| self.journal.is_settled(last)) {
            self.recalled = None;
            self.devices.keep_recalled();
        }
        let reached = self.watermark.reached(&self.journal);
        if reached.is_some() && self.watermark.has_moved() {
            self.leave(&self.note(reached, false));
        }
        self.refresh();
        let mut shown = self.devices.shown();
        shown.extend(self.served.iter().map(Served::shown));
        if let Some(link) = &mut self.link {
            link.tell(&FromAgent::Beat);
            link.show(tree::entries(shown));
        }
    }

    fn tell_gaps(&mut self, closing: bool) {
        let lost = self.context.inbox.take_lost();
        for (sum, more) in self.lost.iter_mut().zip(lost.0) {
            *sum += more;
        }
        self.gaps.note_inbox(lost);
        self.gaps.note_refused(self.journal.take_refused());
        let unexplained = self.devices.take_unexplained();
        if unexplained > 0 {
            let now = millis();
            self.gaps.note(Place::Explain, Some(unexplained), [now, now]);
        }
        for body in self.gaps.due(self.began.elapsed(), closing) {
            self.journal.own(&[OwnRecord("VT_GAP", body)], OURS);
        }
    }
}

/// Since boot.
fn now() -> Duration {
    Duration::from_nanos(clock::now().boottime_ns)
}

/// Whether our numbers are those that audit has, which are of the initial PID namespace. In another one
/// our own number is somebody else's there, whose events must not be taken for ours.
fn is_audited(namespace: &Path) -> bool {
    // `PROC_PID_INIT_INO` of linux/proc_ns.h.
    namespace == Path::new("pid:[4026531836]")
}

fn word(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// With milliseconds.
fn seconds_since_boot() -> String {
    let millis = clock::now().boottime_ns / 1_000_000;
    record::Stamp { millis }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_another_namespace_is_not_ours() {
        assert!(is_audited(Path::new("pid:[4026531836]")));
        assert!(!is_audited(Path::new("pid:[4026532201]")));
    }
}
