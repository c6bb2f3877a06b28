//! Container identifiers: what the engine decides of them, done with the kernel's labels, and said of
//! every event that is a container's.
//!
//! ```text
//!  tree, control socket ─▶ engine ─▶ Look, Store, LookAgain ─▶ labels in the kernel      kernel.rs
//!  control groups ─────────▶ │ ────▶ Adopt ─▶ the same                                   groups.rs
//!                            │ ────▶ Describe ─▶ files of runtimes                       files.rs
//!                            │ ────▶ Record ─▶ trail ─▶ durable ─▶ the answer
//!  audit event ─▶ trail, and held until the ring was read past it ─▶ CONTAINER_ID beside it  held.rs
//! ```

mod accounts;
mod annotations;
mod asking;
mod files;
mod groups;
mod held;
mod interfaces;
mod kernel;
mod mounts;
mod recorded;
mod unregistered;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::containers::{
    Act, Adoption, Answer, Attribution, Caller, Concerned, Confidence, Containers as Engine, Errno,
    Grant, Labelled, Labelling, Moment, ReqId, State, Ticket,
};
use engine::tasks::{Change, Label, Sighting};
use host::bpf::{Labels, Packet};
use record::units::ContId;
use record::{EventId, Line};
use trail::{Class, Field};

use self::accounts::{Accounts, Weight};
pub(super) use self::accounts::{Charge, Counts, Limit, Over};
pub(crate) use self::annotations::{cut, described};
pub(super) use self::asking::Inquiry;
use self::asking::{Asker, answer};
pub(crate) use self::asking::{Question, Registration, Told};
pub(super) use self::files::Files;
pub(super) use self::groups::{Places, group_of};
use self::held::{Event, Held};
use self::interfaces::Seen;
use self::kernel::Kernel;
use self::recorded::Recorded;
pub(crate) use self::unregistered::leave as leave_unregistered;
use super::doorkeeper::wire::Asked;
use super::heard::Heard;
use super::journal::{Handed, Journal, OwnRecord};
use super::link::Link;
use super::rules::Whose;
use super::status;
use super::tasks::Processes;
use crate::clock;
use crate::config::ContainerQuota;

/// An event whose containers are known.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) id: EventId,
    pub(super) class: Class,
    /// All of it, where it is not on its way to the trail yet.
    pub(super) whole: Option<Heard>,
    /// The container of whoever did it.
    pub(super) whose: Whose,
    /// What is to stand beside it, and how sure that is.
    pub(super) records: Option<(Vec<OwnRecord>, Confidence)>,
    /// Whose it is, where that is sure enough to be held to a quota.
    pub(super) charge: Option<Charge>,
}

/// The containers of this machine.
#[derive(Debug)]
pub(super) struct Containers {
    engine: Engine,
    kernel: Kernel,
    askers: BTreeMap<ReqId, Asker>,
    last_request: u64,
    tickets: BTreeMap<Ticket, Recorded>,
    /// Answers that wait for their record, and for the tick after it.
    answers: VecDeque<(Recorded, Duration, Asker, Result<Answer, Errno>)>,
    held: Held,
    accounts: Accounts,
    interfaces: Seen,
    ready: VecDeque<Ready>,
    /// The revision that was shown.
    told: u64,
    /// Where it is kept for the next agent, and the revision that is.
    path: PathBuf,
    saved: u64,
    /// What is to be kept when so much is durable.
    saving: Option<(u64, Option<Handed>, Vec<u8>)>,
    boot: String,
    wants_list: bool,
    /// Groups of users whose processes are to be labelled.
    adopting: VecDeque<Adoption>,
    /// Where runtimes say what their containers are; none where only those are known that somebody sets.
    files: Option<Files>,
    /// When there last was a container, since boot.
    lived: Option<Duration>,
    /// The last record of containers that no hook could register, until it is durable.
    telling: Option<Handed>,
}

/// The longest file of what an agent has left that is read, in bytes.
const LONGEST: u64 = 64 << 20;

/// So long after the last container's end an event of it may come.
const AFTERWARDS: Duration = Duration::from_secs(10);

/// What stands around a body of ours in the trail, in bytes: type, stamp, tail.
const AROUND: u64 = 128;

/// So long a turn is at the groups of users, which hold as much as they like.
const FOR_USERS: Duration = Duration::from_millis(50);

/// Between two looks whether a record is durable.
const SOON: Duration = Duration::from_millis(2);

impl Containers {
    /// Goes on from where the agent before this one was.
    pub(super) fn new(labels: Option<Labels>, directory: &Path, boot: &str) -> Containers {
        let mut engine = Engine::new();
        let kernel = Kernel::new(labels);
        let path = directory.join("containers.json");
        if let Some(state) = read(&path) {
            engine.restore(moment(), boot, state);
        }
        engine.handle_labelling(match kernel.can_label() {
            true => Labelling::Attached,
            false => Labelling::Impossible,
        });
        Containers {
            engine,
            kernel,
            askers: BTreeMap::new(),
            last_request: 0,
            tickets: BTreeMap::new(),
            answers: VecDeque::new(),
            held: Held::default(),
            accounts: Accounts::new(),
            interfaces: Seen::default(),
            ready: VecDeque::new(),
            told: 0,
            path,
            saved: 0,
            saving: None,
            boot: boot.to_owned(),
            wants_list: false,
            adopting: VecDeque::new(),
            files: None,
            lived: None,
            telling: None,
        }
    }

    /// Somebody reads or writes `audit_containerid` in the tree.
    pub(super) fn handle_asked(&mut self, asked: Asked) {
        let req = self.request(Asker::Tree(asked.id), Some(asked.started));
        let caller = self.caller(asked.caller, asked.asked_ns);
        match asked.write {
            None => self.engine.handle_read(req, asked.target, caller),
            Some((offset, bytes)) => {
                self.engine.handle_write(req, asked.target, caller, offset, &bytes);
            }
        }
    }

    /// Somebody asks by the control socket.
    pub(super) fn handle_inquiry(&mut self, inquiry: Inquiry) {
        let Inquiry { question, started, caller, asked_ns, stream } = inquiry;
        let caller = self.caller(caller, asked_ns);
        match question {
            Question::Get { task } => {
                let req = self.request(Asker::Asked(stream), started);
                self.engine.handle_read(req, task, caller);
            }
            // Before anything is set: what cannot be said of it afterwards is nobody's container.
            Question::Set(Registration { description: Some(said), .. }) if !said.fits() => {
                answer(Asker::Asked(stream), Err(Errno::Einval), None);
            }
            Question::Set(Registration { task, contid, description, of_runtime }) => {
                let contid = match (contid, &description) {
                    (Some(contid), _) => ContId(contid),
                    (None, Some(description)) => match self.engine.number_granted(&caller) {
                        Some(contid) => contid,
                        None => self.choose(task, description),
                    },
                    (None, None) => ContId::UNSET,
                };
                let asker = Asker::Registering(stream, contid, description);
                let req = self.request(asker, started);
                if of_runtime {
                    self.engine.handle_register(req, task, caller, contid);
                } else {
                    let text = contid.to_string();
                    self.engine.handle_write(req, task, caller, 0, text.as_bytes());
                }
            }
        }
    }

    fn caller(&self, tid: u32, asked_ns: u64) -> Caller {
        self.kernel.caller(tid, asked_ns, |label| self.engine.container_of(label))
    }

    /// `started` is when the task that it is about did; nothing else is taken for that one.
    fn request(&mut self, asker: Asker, started: Option<u64>) -> ReqId {
        self.last_request += 1;
        let req = ReqId(self.last_request);
        self.kernel.mean(req, started);
        self.askers.insert(req, asker);
        req
    }

    /// A process began, runs another program, has other namespaces, or ended.
    pub(super) fn handle_process(&mut self, change: &Change, sighting: &Sighting) {
        self.engine.handle(moment(), change, sighting);
    }

    /// The kernel has made a record of a packet. In the order of the events of processes.
    pub(super) fn handle_packet(&mut self, &Packet { id, boottime_ns, net_ns }: &Packet) {
        self.engine.handle_packet(id, net_ns, boottime_ns);
    }

    /// What programs tell was lost.
    pub(super) fn handle_lost(&mut self, until_ns: u64) {
        self.engine.handle_lost(moment(), until_ns);
    }

    /// The living processes with their labels, as they were listed from then on; none where that is not all of
    /// them.
    pub(super) fn handle_listed(&mut self, began_ns: u64, listed: Option<&[Sighting]>) {
        self.engine.handle_listed(moment(), began_ns, listed);
    }

    /// What is known at once of the container of whoever did this.
    pub(super) fn whose(&self) -> Whose {
        // Where no label was ever given, nobody has one; but a container may have come that is not labelled yet.
        let is_none = self.engine.lives().next().is_none() && self.askers.is_empty();
        // What the last one did may still be on its way.
        let was = || self.lived.is_some_and(|lived| since_boot(moment()) < lived + AFTERWARDS);
        if is_none && !self.engine.adopts() && !was() {
            Whose::Known(ContId::UNSET, None)
        } else if self.kernel.can_label() {
            Whose::NotYet
        } else {
            Whose::Unknown
        }
    }

    /// An event of the kernel, which is on its way to the trail.
    pub(super) fn handle_event(&mut self, heard: &Heard, processes: &Processes) {
        let (Some(id), Whose::NotYet) = (heard.id, self.whose()) else { return };
        let concerned = concerned(heard);
        if !concerned.is_empty() {
            self.hold(id, concerned, Weight::of(heard), None, processes);
        }
    }

    /// An event of the kernel that goes to the trail only if a rule asks for it, or its container's quota
    /// allows it, once its container is known: then it is among [`Containers::take_ready`].
    pub(super) fn handle_whole(&mut self, id: EventId, heard: Heard, processes: &Processes) {
        let concerned = concerned(&heard);
        self.hold(id, concerned, Weight::of(&heard), Some(heard), processes);
    }

    fn hold(
        &mut self,
        id: EventId,
        concerned: Concerned,
        weight: Weight,
        whole: Option<Heard>,
        processes: &Processes,
    ) {
        let now = self.look();
        if let Some(event) = self.held.hold(now, id, concerned, weight, whole) {
            self.decide(event, processes);
        }
    }

    /// Follows the clocks; the time since boot.
    fn look(&mut self) -> Duration {
        let now = clock::now();
        let since_boot = Duration::from_nanos(now.boottime_ns);
        // Where we stood still between the two readings, they differ by more than the clocks do.
        if clock::now().boottime_ns.saturating_sub(now.boottime_ns) < held::APART_NS {
            self.held.look(since_boot, now.realtime_ns.saturating_sub(now.boottime_ns));
        }
        since_boot
    }

    fn decide(&mut self, event: Event, processes: &Processes) {
        let Event { id, whole, concerned, mut weight, from_ns, to_ns, .. } = event;
        let in_group = |cgroup| self.engine.in_group(cgroup);
        let find = |pid| Attribution::of(processes.tasks(), pid, from_ns, to_ns, in_group);
        let surely = |pid| match find(pid) {
            Attribution { contid, confidence: Confidence::Certain | Confidence::Late, .. } => {
                Some(contid)
            }
            _ => None,
        };
        let whose = concerned.subject.and_then(surely);
        let alone = concerned.alone.filter(|_| concerned.subject.is_none()).and_then(surely);
        let labelled = match &concerned.packet {
            // It is nobody's: its event has no other record.
            Some(packet) => {
                let seen = &mut self.interfaces;
                self.engine.of_packet(id, packet, [from_ns, to_ns], move || {
                    seen.at(to_ns, processes.tasks())
                })
            }
            None => Labelled::of_tasks(&concerned, find, &|id| self.engine.maker(id)),
        };
        let sole = labelled.as_ref().and_then(|labelled| labelled.sole);
        let records = labelled.map(|labelled| (owned(labelled.records), labelled.confidence));
        for OwnRecord(_, body) in records.iter().flat_map(|(records, _)| records) {
            weight.bytes += body.as_bytes().len() as u64 + AROUND;
        }
        let contid = whose.or(alone).or(sole).filter(|contid| contid.is_set());
        let charge = contid.map(|contid| Charge { contid, root: self.engine.root(contid), weight });
        if whole.is_some() || records.is_some() || charge.is_some() {
            let whose = whose.map_or(Whose::Unknown, |id| Whose::Known(id, self.engine.maker(id)));
            let class = weight.class;
            self.ready.push_back(Ready { id, class, whole, whose, records, charge });
        }
    }

    /// From now on these containers may make others within themselves, and no other may.
    pub(super) fn grant(&mut self, grants: Vec<Grant>) {
        self.engine.handle_grants(grants);
    }

    /// From now on each container may bring so much.
    pub(super) fn limit(&mut self, quota: ContainerQuota) {
        self.accounts.limit(quota, since_boot(moment()));
    }

    /// Whether an event goes to the trail only when its container is known, as that may be over its quota.
    pub(super) fn limits(&self, whose: Whose) -> bool {
        whose == Whose::NotYet && self.accounts.is_limited()
    }

    /// Counts an event that is about to go to the trail, or is on its way, and says whether it is held back.
    pub(super) fn admit(&mut self, charge: &Charge, is_there: bool) -> Option<Over> {
        self.accounts.admit(charge, is_there, since_boot(moment()))
    }

    /// Events whose containers are known now.
    pub(super) fn take_ready(&mut self) -> VecDeque<Ready> {
        std::mem::take(&mut self.ready)
    }

    /// How many events were ever held back as a whole.
    pub(super) fn wholes(&self) -> u64 {
        self.held.wholes()
    }

    /// Whether one of the first `number` of those is still held back.
    pub(super) fn holds_whole(&self, number: u64) -> bool {
        self.held.holds_whole(number)
    }

    /// Nothing more is waited for.
    pub(super) fn end(&mut self, processes: &Processes) {
        while let Some(event) = self.held.next(Duration::MAX, |_| true) {
            self.decide(event, processes);
        }
    }

    /// Does what is due, and answers whoever can be answered.
    pub(super) fn act(
        &mut self,
        processes: &mut Processes,
        journal: &mut Journal,
        link: Option<&Link>,
    ) {
        self.look();
        let now = moment();
        if self.engine.lives().next().is_some() {
            self.lived = Some(since_boot(now));
        }
        if self.engine.poll_timeout().is_some_and(|due| due <= since_boot(now)) {
            self.engine.handle_timeout(now);
        }
        let until = Instant::now() + FOR_USERS;
        loop {
            while let Some(act) = self.engine.poll() {
                self.do_one(act, processes, journal, link);
            }
            if Instant::now() >= until {
                break;
            }
            let Some(adoption) = self.adopting.pop_front() else { break };
            self.adopt(adoption, Some(until), processes);
        }
        // An answer comes right behind its record.
        self.tickets.clear();
        while let Some(event) =
            self.held.next(since_boot(now), |until| processes.tasks().has_heard(until))
        {
            self.decide(event, processes);
        }
        while let Some((recorded, not_before, ..)) = self.answers.front_mut()
            && recorded.is_settled(journal)
            && *not_before <= since_boot(now)
            && let Some((.., asker, result)) = self.answers.pop_front()
        {
            answer(asker, result, link);
        }
        self.keep(journal);
    }

    fn do_one(
        &mut self,
        act: Act,
        processes: &mut Processes,
        journal: &mut Journal,
        link: Option<&Link>,
    ) {
        match act {
            Act::Look { req, pid } => {
                let target = self.kernel.look(req, pid);
                self.engine.handle_looked(moment(), req, target);
            }
            Act::Store { req, target, label, old, at_ns } => {
                let stored = self.kernel.store(req, label, old);
                if stored.is_ok() {
                    processes.label(target, at_ns, label);
                }
                self.engine.handle_stored(req, stored);
            }
            Act::LookAgain { req, generation, .. } => {
                let again = self.kernel.look_again(req, generation);
                self.engine.handle_looked_again(req, again);
            }
            Act::Abort { generation, restore: Label { contid, .. }, .. } => {
                self.kernel.abort(generation);
                processes.take_back(generation, contid);
            }
            Act::Record { records, confidence, ticket } => {
                self.tickets.insert(ticket, Recorded::new(owned(records), confidence, journal));
            }
            Act::Answer { req, result, after } => self.settle(req, result, after, link),
            Act::List => self.wants_list = true,
            Act::Adopt(adoption) if adoption.group.is_in_a_place_of_root() => {
                self.adopt(*adoption, None, processes);
            }
            Act::Adopt(adoption) => self.adopting.push_back(*adoption),
            Act::Describe { contid, group } => self.describe(contid, &group),
        }
    }

    /// A request is decided; its answer may have to wait for a record.
    fn settle(
        &mut self,
        req: ReqId,
        result: Result<Answer, Errno>,
        after: Option<Ticket>,
        link: Option<&Link>,
    ) {
        self.kernel.release(req);
        let Some(asker) = self.askers.remove(&req) else { return };
        let recorded = after.and_then(|ticket| self.tickets.remove(&ticket));
        match asker {
            Asker::Registering(stream, contid, Some(description)) if result.is_ok() => {
                let req = self.request(Asker::Registered(stream, contid), None);
                self.engine.handle_described(req, contid, description);
            }
            asker => match recorded {
                Some(recorded) => {
                    // What the task does from then on is not taken for what it did before.
                    let not_before = since_boot(moment()) + held::TICK;
                    self.answers.push_back((recorded, not_before, asker, result));
                }
                None => answer(asker, result, link),
            },
        }
    }

    /// Tells of the containers that no hook could register.
    pub(super) fn tell_unregistered(&mut self, journal: &mut Journal) {
        let Some(directory) = self.path.parent() else { return };
        if let Some(told) = self.telling {
            if journal.is_settled(told) {
                unregistered::forget(directory);
                self.telling = None;
            }
            return;
        }
        for record in unregistered::take(directory) {
            journal.own(&[record], &tail(Confidence::Certain));
            self.telling = journal.last();
        }
    }

    /// What the next agent has to know is written down when the records of it are durable: what is told
    /// twice is seen, and what was never told is not.
    fn keep(&mut self, journal: &Journal) {
        let revision = self.engine.revision();
        if self.saving.is_none() && revision != self.saved {
            let state = serde_json::to_vec(&self.engine.state(&self.boot)).unwrap_or_default();
            self.saving = Some((revision, journal.last(), state));
        }
        if let Some((revision, handed, state)) = &self.saving
            && handed.is_none_or(|handed| journal.is_settled(handed))
            && write(&self.path, state).is_ok()
        {
            self.saved = *revision;
            self.saving = None;
        }
    }

    /// Whether the living processes are to be listed, since this was last asked.
    pub(super) fn take_wants_list(&mut self) -> bool {
        std::mem::take(&mut self.wants_list)
    }

    /// When there next is something to do.
    pub(super) fn due(&self) -> Option<Duration> {
        let waits = !self.answers.is_empty() || self.saving.is_some() || !self.adopting.is_empty();
        let soon = waits.then(|| since_boot(moment()) + SOON);
        [soon, self.engine.poll_timeout(), self.held.due()].into_iter().flatten().min()
    }

    /// The containers, for whoever asks how the agent is; none where they are as they were when this was
    /// last asked, but for the number of their processes.
    pub(super) fn take_shown(&mut self, anew: bool) -> Option<Vec<status::Container>> {
        let revision = self.engine.revision();
        let changed = std::mem::replace(&mut self.told, revision) != revision;
        if anew {
            self.accounts.keep(|id| self.engine.life(id).is_some());
        }
        let shown = |(id, life)| status::Container::of(id, life, self.accounts.counts(id));
        (anew || changed).then(|| self.engine.lives().map(shown).collect())
    }
}

fn concerned(heard: &Heard) -> Concerned {
    let lines: Vec<Line<'_>> =
        heard.lines.iter().filter_map(|line| Line::parse(line).ok()).collect();
    Concerned::of(&lines)
}

fn owned(records: Vec<engine::containers::Record>) -> Vec<OwnRecord> {
    records.into_iter().map(|(kind, body)| OwnRecord(kind, body)).collect()
}

/// What stands behind our records.
pub(super) fn tail(confidence: Confidence) -> [Field<'static>; 2] {
    [Field { name: "VT_SRC", value: "engine" }, Field { name: "VT_CONF", value: confidence.word() }]
}

fn read(path: &Path) -> Option<State> {
    let length = fs::metadata(path).ok()?.len();
    (length <= LONGEST).then(|| serde_json::from_slice(&fs::read(path).ok()?).ok())?
}

fn write(path: &Path, state: &[u8]) -> io::Result<()> {
    let next = path.with_extension("json.new");
    fs::write(&next, state)?;
    fs::rename(next, path)
}

fn moment() -> Moment {
    let trail::Stamp { boottime_ns, realtime_ns } = clock::now();
    Moment { boottime_ns, realtime_ns }
}

fn since_boot(now: Moment) -> Duration {
    Duration::from_nanos(now.boottime_ns)
}
