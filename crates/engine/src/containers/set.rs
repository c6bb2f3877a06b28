//! Reading and writing `audit_containerid`.
//!
//! The kernel patches test for children and set under one lock. From outside nobody can hold it, so the
//! test is made again after the label was stored: a child that was born in between without it has the old
//! one, and the set is taken back. Children born after the store have its generation, and belong wherever
//! the set's outcome puts them.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

use record::contid::{WriteError, parse_write};
use record::units::ContId;

use super::groups::Group;
use super::judge::{Errno, Facts, Labelling, Refusal, Standing, judge};
use super::lives::{Caller, Life, Registrar};
use super::{Act, Answer, Confidence, Containers, LIVES, Member, Moment, REQUESTS, ReqId, report};
use crate::tasks::{Image, Label, ProcessId, Sighting};

/// The task of an `audit_containerid`, as it is when it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// It has ended, reaped or not.
    Gone,
    /// It lives.
    Alive {
        /// Its process.
        id: ProcessId,
        /// It has children, of which zombies count.
        children: bool,
        /// It is the only thread of its process.
        single_threaded: bool,
        /// It leads its process.
        leader: bool,
        /// The label it has.
        label: Label,
        /// What it is like.
        image: Box<Image>,
        /// The container that its control group is of.
        group: Option<Group>,
    },
}

/// Why a label could not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// The task has gone, or is another one.
    Gone,
    /// The kernel had no memory for it.
    NoRoom,
    /// For another reason.
    Failed,
}

/// How the target stands after its label was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It has ended.
    Gone,
    /// It lives.
    Alive {
        /// A child of it has not the generation.
        has_other_children: bool,
    },
}

/// A request that is not answered.
#[derive(Debug)]
pub(super) struct Request {
    pid: u32,
    caller: Caller,
    asked: Asked,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    Read,
    /// `whole`: all threads of the process, and not a task that is alone.
    Write {
        written: Result<ContId, WriteError>,
        length: usize,
        whole: bool,
    },
}

#[derive(Debug)]
enum Stage {
    /// Another one for the same task comes first.
    Waiting,
    Looking,
    Storing(Box<Pending>),
    LookingAgain(Box<Pending>),
}

/// A set whose outcome is not known.
#[derive(Debug)]
pub(super) struct Pending {
    target: ProcessId,
    image: Box<Image>,
    group: Option<Group>,
    before: Label,
    pub(super) label: Label,
    /// Under this grant.
    pub(super) grant: Option<String>,
    at: Moment,
    /// The target's end was heard.
    ended: bool,
}

impl Containers {
    /// Somebody reads the file of task `pid`.
    pub fn handle_read(&mut self, req: ReqId, pid: u32, caller: Caller) {
        self.begin(req, Request { pid, caller, asked: Asked::Read, stage: Stage::Looking });
    }

    /// Somebody writes to the file of task `pid`.
    pub fn handle_write(
        &mut self,
        req: ReqId,
        pid: u32,
        caller: Caller,
        offset: u64,
        bytes: &[u8],
    ) {
        let written = parse_write(offset, bytes);
        let asked = Asked::Write { written, length: bytes.len(), whole: false };
        self.begin_write(req, Request { pid, caller, asked, stage: Stage::Looking });
    }

    /// A runtime is making a container of process `pid`, which is the runtime's own program still and may
    /// have threads: [`Act::Store`] is for all of them. Otherwise as a write.
    pub fn handle_register(&mut self, req: ReqId, pid: u32, caller: Caller, id: ContId) {
        let asked = Asked::Write { written: Ok(id), length: 0, whole: true };
        self.begin_write(req, Request { pid, caller, asked, stage: Stage::Looking });
    }

    fn begin_write(&mut self, req: ReqId, mut request: Request) {
        let of_same = |other: &Request| other.pid == request.pid && other.is_write();
        if self.requests.values().any(of_same) {
            request.stage = Stage::Waiting;
        }
        self.begin(req, request);
    }

    fn begin(&mut self, req: ReqId, request: Request) {
        if self.requests.len() >= REQUESTS || self.requests.contains_key(&req) {
            let result = Err(Errno::Eagain);
            self.acts.push_back(Act::Answer { req, result, after: None });
            return;
        }
        if matches!(request.stage, Stage::Looking) {
            self.acts.push_back(Act::Look { req, pid: request.pid });
        }
        self.requests.insert(req, request);
    }

    /// How the target stands: the answer to [`Act::Look`].
    pub fn handle_looked(&mut self, now: Moment, req: ReqId, target: Target) {
        let Some(request) = self.requests.remove(&req) else { return };
        match (&request.stage, request.asked) {
            (Stage::Looking, Asked::Read) => {
                let result = self.read(&request.caller, &target);
                self.acts.push_back(Act::Answer { req, result, after: None });
            }
            (Stage::Looking, Asked::Write { written, whole, .. }) => {
                self.looked(now, req, request, (written, whole), target);
            }
            _ => {
                self.requests.insert(req, request);
            }
        }
    }

    fn read(&self, caller: &Caller, target: &Target) -> Result<Answer, Errno> {
        let Target::Alive { label, .. } = target else { return Err(Errno::Esrch) };
        let at = self.resolve(*label).contid;
        if !caller.may() && !self.may_read(caller, at) {
            return Err(Errno::Eperm);
        }
        let id = match self.labelling {
            Labelling::Attached => at,
            Labelling::Starting => return Err(Errno::Eagain),
            Labelling::Impossible => ContId::UNSET,
        };
        Ok(Answer::Read(id.to_string().into_bytes()))
    }

    fn looked(
        &mut self,
        now: Moment,
        req: ReqId,
        request: Request,
        (written, whole): (Result<ContId, WriteError>, bool),
        target: Target,
    ) {
        let standing = match &target {
            Target::Gone => Standing::Gone,
            Target::Alive { children, single_threaded, leader, .. } => Standing::Alive {
                children: *children,
                single_threaded: whole || *single_threaded,
                leader: *leader,
            },
        };
        let capable = request.caller.may();
        let grant = self.grant_of(&request.caller).cloned();
        let (id, before, image, group) = match target {
            Target::Gone => (None, Label::UNSET, None, None),
            Target::Alive { id, label, image, group, .. } => {
                (Some(id), self.resolve(label), Some(image), group)
            }
        };
        // What is labelled by hand in a container is another one than the group's, and what is made under a
        // grant is in that of the container that makes it.
        let group = group.filter(|_| whole && grant.is_none());
        let granted = grant.as_ref().zip(id).zip(written.ok()).map(|((grant, id), wanted)| {
            self.granted(now, grant, &request.caller, (id, before.contid), wanted)
        });
        let (labelling, target) = (self.labelling, standing);
        let facts = Facts { labelling, capable, granted, target, written };
        let wanted = match (judge(&facts), id) {
            (Ok(wanted), Some(_)) if self.has_room_for(wanted) => Ok(wanted),
            (Ok(wanted), _) => Err(Refusal::Recorded(Errno::Enomem, wanted)),
            (Err(refusal), _) => Err(refusal),
        };
        match (wanted, id, image) {
            (Ok(contid), Some(target), Some(image)) => {
                // Larger than any of this boot, also of an agent before this one.
                self.generation = now.boottime_ns.max(self.generation + 1);
                let label = Label { contid, generation: self.generation };
                let at_ns = now.boottime_ns;
                let old = before.contid;
                let grant = grant.map(|grant| grant.name);
                if let Some(grant) = &grant {
                    self.grants.note(grant, now);
                }
                self.acts.push_back(Act::Store { req, target, label, old, at_ns });
                let pending =
                    Pending { target, image, group, before, label, grant, at: now, ended: false };
                let stage = Stage::Storing(Box::new(pending));
                self.requests.insert(req, Request { stage, ..request });
            }
            (Err(Refusal::Recorded(errno, contid)), Some(target), _) => {
                self.count_refusal([request.caller.contid, before.contid, contid]);
                if capable || self.refusals.admits(now, &request.caller) {
                    let caller = &request.caller;
                    let mut records =
                        vec![report::set(target.pid, before.contid, contid, caller, false)];
                    records.extend(grant.map(|grant| {
                        report::beyond(contid, target.pid, &grant.name, caller.contid, errno)
                    }));
                    self.record(records, Confidence::Certain);
                }
                self.answer(req, &request, Err(errno), None);
            }
            (Err(Refusal::Unrecorded(errno) | Refusal::Recorded(errno, _)), ..) => {
                self.answer(req, &request, Err(errno), None);
            }
            (Ok(_), ..) => self.answer(req, &request, Err(Errno::Esrch), None),
        }
    }

    fn has_room_for(&self, id: ContId) -> bool {
        let coming = |request: &&Request| {
            matches!(request.stage, Stage::Storing(_) | Stage::LookingAgain(_))
        };
        self.lives.contains_key(&id)
            || self.lives.len() + self.requests.values().filter(coming).count() < LIVES
    }

    /// How the store went: the answer to [`Act::Store`].
    pub fn handle_stored(&mut self, req: ReqId, result: Result<(), NotStored>) {
        let Some(mut request) = self.requests.remove(&req) else { return };
        let pending = match request.stage {
            Stage::Storing(pending) => pending,
            stage => {
                request.stage = stage;
                self.requests.insert(req, request);
                return;
            }
        };
        let errno = match result {
            Ok(()) => {
                let Pending { target, label: Label { generation, .. }, .. } = *pending;
                self.acts.push_back(Act::LookAgain { req, target, generation });
                request.stage = Stage::LookingAgain(pending);
                self.requests.insert(req, request);
                return;
            }
            Err(NotStored::Gone) => Errno::Esrch,
            Err(NotStored::NoRoom) => Errno::Enomem,
            Err(NotStored::Failed) => Errno::Eio,
        };
        // Whether it was stored all the same is not known.
        request.stage = Stage::Looking;
        self.abort(req, &request, &pending, errno);
    }

    /// How the target stands now: the answer to [`Act::LookAgain`].
    pub fn handle_looked_again(&mut self, req: ReqId, again: Again) {
        let Some(mut request) = self.requests.remove(&req) else { return };
        let pending = match request.stage {
            Stage::LookingAgain(pending) => pending,
            stage => {
                request.stage = stage;
                self.requests.insert(req, request);
                return;
            }
        };
        request.stage = Stage::Looking;
        match again {
            // It was labelled, and its end will be heard or was.
            Again::Gone if pending.ended => self.commit(req, &request, *pending),
            Again::Gone => self.abort(req, &request, &pending, Errno::Esrch),
            Again::Alive { has_other_children: true } => {
                self.abort(req, &request, &pending, Errno::Ebusy);
            }
            Again::Alive { has_other_children: false } => self.commit(req, &request, *pending),
        }
    }

    fn commit(&mut self, req: ReqId, request: &Request, pending: Pending) {
        let Pending { target, image, group, before, label, grant, at, ended } = pending;
        let Label { contid, generation } = label;
        let caller = &request.caller;
        let mut records = vec![report::set(target.pid, before.contid, contid, caller, true)];
        if let Entry::Vacant(entry) = self.lives.entry(contid) {
            let parent = if caller.contid == contid { ContId::UNSET } else { caller.contid };
            let mut life = Life::new(at, parent, &image, target.pid);
            let Caller { pid, uid, auid, comm, exe, .. } = caller.clone();
            life.registrar = Some(Registrar { pid, uid, auid, comm, exe });
            life.grant.clone_from(&grant);
            records.push(report::begun(contid, target.pid, parent, life.namespaces, life.cgroup));
            entry.insert(life);
            self.roots.begin(contid, parent, grant.is_some());
        }
        if let Some(grant) = &grant {
            records.push(report::granted(contid, target.pid, grant, caller.contid));
        }
        if let Some(group) = group {
            // Whoever comes into it from now on belongs to what the runtime says.
            self.belongs(group, contid);
        }
        self.revision += 1;
        self.counters.set += 1;
        let ticket = self.record(records, Confidence::Certain);
        let network = image.namespaces.network;
        let target = self.same(target).unwrap_or(target);
        let seen = self.members.get(&target).map_or(at.boottime_ns, |known| known.seen);
        let old = self.members.get(&target).map_or(before.contid, |known| known.contid);
        self.put(target, Member { contid, generation, network, seen }, at.boottime_ns);
        self.settle(generation, contid, at.boottime_ns);
        if ended {
            self.take(target, seen);
        }
        // The life that the target left, and its own, if both it and its children have gone already.
        for id in [old, contid] {
            self.end_if_empty(id, target.pid, &image);
        }
        let length = match request.asked {
            Asked::Write { length, .. } => length,
            Asked::Read => 0,
        };
        self.answer(req, request, Ok(Answer::Written(length)), Some(ticket));
    }

    fn abort(&mut self, req: ReqId, request: &Request, pending: &Pending, errno: Errno) {
        let Pending { target, before, label: Label { contid, generation }, at, .. } = *pending;
        self.acts.push_back(Act::Abort { target, generation, restore: before });
        if self.aborted.push(generation, before.contid) {
            self.counters.sets_forgotten += 1;
        }
        self.revision += 1;
        self.settle(generation, before.contid, at.boottime_ns);
        self.count_refusal([request.caller.contid, before.contid, contid]);
        let refused = report::set(target.pid, before.contid, contid, &request.caller, false);
        self.record(vec![refused], Confidence::Certain);
        self.answer(req, request, Err(errno), None);
    }

    /// Whoever was born with a label of then whose outcome was not known belongs there.
    fn settle(&mut self, generation: u64, contid: ContId, at_ns: u64) {
        let born = self.members.iter().filter(|(_, member)| member.generation == generation);
        let born: Vec<(ProcessId, Member)> = born.map(|(id, member)| (*id, *member)).collect();
        for (id, member) in born {
            if contid.is_set() {
                self.put(id, Member { contid, ..member }, id.start_ns.max(at_ns));
            } else {
                self.take(id, member.seen);
            }
        }
    }

    /// Of those who are concerned: the caller's container, the target's, and the one that was asked for.
    fn count_refusal(&mut self, concerned: [ContId; 3]) {
        self.counters.refused += 1;
        for id in BTreeSet::from(concerned) {
            if let Some(life) = self.lives.get_mut(&id) {
                life.refused += 1;
            }
        }
    }

    fn answer(
        &mut self,
        req: ReqId,
        request: &Request,
        result: Result<Answer, Errno>,
        after: Option<super::Ticket>,
    ) {
        self.acts.push_back(Act::Answer { req, result, after });
        let waits = |other: &&mut Request| {
            other.pid == request.pid && matches!(other.stage, Stage::Waiting)
        };
        let mut others = self.requests.iter_mut();
        let next = others.find_map(|(req, other)| waits(&other).then_some((*req, other)));
        if let Some((req, next)) = next {
            next.stage = Stage::Looking;
            self.acts.push_back(Act::Look { req, pid: next.pid });
        }
    }

    /// The label as it counts now: one whose set may still be taken back counts as the one before it.
    pub(super) fn resolve(&self, label: Label) -> Label {
        let pending = self.pending().find(|pending| pending.label.generation == label.generation);
        match pending {
            Some(pending) => Label { contid: pending.before.contid, ..label },
            None => self.aborted.resolve(label),
        }
    }

    pub(super) fn is_pending(&self, generation: u64) -> bool {
        self.pending().any(|pending| pending.label.generation == generation)
    }

    /// The target of a set has ended. Whether there was such a one.
    pub(super) fn target_ended(&mut self, id: ProcessId) -> bool {
        let mut any = false;
        for request in self.requests.values_mut() {
            if let Stage::Storing(pending) | Stage::LookingAgain(pending) = &mut request.stage
                && pending.target.may_be(id)
            {
                pending.ended = true;
                any = true;
            }
        }
        any
    }

    /// The target of a set is seen, while it is not labelled yet as far as events say.
    pub(super) fn target_seen(&mut self, sighting: &Sighting) {
        let network = sighting.image.namespaces.network;
        for request in self.requests.values_mut() {
            if let Stage::Storing(pending) | Stage::LookingAgain(pending) = &mut request.stage
                && pending.target.may_be(sighting.id)
                && sighting.at_ns > pending.at.boottime_ns
                && network != 0
            {
                pending.image.namespaces = sighting.image.namespaces;
            }
        }
    }

    /// Those under way by grantees, with their containers.
    pub(super) fn pending_of_grants(&self) -> impl Iterator<Item = (ContId, &Pending)> {
        self.requests.values().filter_map(|request| match &request.stage {
            Stage::Storing(pending) | Stage::LookingAgain(pending) if pending.grant.is_some() => {
                Some((request.caller.contid, &**pending))
            }
            _ => None,
        })
    }

    /// Whether a set of it is under way.
    pub(super) fn is_wanted(&self, id: ContId) -> bool {
        self.pending().any(|pending| pending.label.contid == id)
    }

    /// The container of a label, as it counts now.
    #[must_use]
    pub fn container_of(&self, label: Label) -> ContId {
        self.resolve(label).contid
    }

    fn pending(&self) -> impl Iterator<Item = &Pending> {
        self.requests.values().filter_map(|request| match &request.stage {
            Stage::Storing(pending) | Stage::LookingAgain(pending) => Some(&**pending),
            Stage::Waiting | Stage::Looking => None,
        })
    }
}

impl Request {
    fn is_write(&self) -> bool {
        matches!(self.asked, Asked::Write { .. })
    }
}
