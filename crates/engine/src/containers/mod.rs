//! Audit container identifiers (ghak90 V5): who may set one, which processes have it, when a container
//! ends, and which events are its.
//!
//! ```text
//!   write ─▶ Look ─▶ judge ─▶ Store ─▶ LookAgain ─┬▶ CONTAINER_OP res=1, answer when durable
//!              │        │       │                 └▶ Abort, CONTAINER_OP res=0, EBUSY
//!              └ ESRCH  └ errno └ errno            (a child without the generation was born meanwhile)
//!
//!   fork, exec, namespaces, exit ─▶ processes of each container ─▶ the last one: CONTAINER_OP op=drop
//!                                └▶ containers of each network namespace
//! ```
//!
//! The label lives in the task, in the kernel, and is inherited there ([`Label`]); here stands what
//! follows from it. An identifier may be used again: each life of it is told apart by its set.
//!
//! A container that nobody sets is found by its control group ([`Group`], `adopt.rs`).
//!
//! Processes are counted, not tasks: threads are not told. What was lost may have been a fork or an exit,
//! so after a loss nothing ends before the living processes were listed with their labels
//! ([`Act::List`]), and what is not among them has gone.
//!
//! Sans-I/O. Bounded: [`LIVES`] containers, [`PROCESSES`] processes, [`REQUESTS`] requests at a time.

mod acts;
mod adopt;
mod attribution;
mod ended;
mod grants;
mod groups;
mod judge;
mod lives;
mod networks;
mod packets;
mod refusals;
mod report;
mod roots;
mod set;
mod state;
mod users;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use record::units::ContId;

pub use self::acts::{Act, Answer};
use self::adopt::Adoptions;
pub use self::adopt::{Adoption, Seen};
pub use self::attribution::{Attribution, Concerned, Labelled, Maker};
use self::ended::Ended;
use self::grants::Grants;
pub use self::grants::{Grant, Granted, Grantee, Place, Room};
pub use self::groups::{Group, is_unique};
pub use self::judge::{Errno, Facts, Labelling, Refusal, Standing, judge};
pub use self::lives::{Caller, Description, Drift, Kind, LONGEST_TEXT, Life, Registrar};
use self::networks::Networks;
use self::packets::Packets;
pub use self::packets::{Interfaces, Packet};
use self::refusals::Refusals;
use self::roots::Roots;
use self::set::Request;
pub use self::set::{Again, NotStored, Target};
pub use self::state::State;
pub use crate::devices::{Confidence, Record, Ticket};
use crate::tasks::{Aborted, Change, Image, Label, ProcessId, Sighting, TICK_NS};

/// Containers that are kept. A set that would make one more is refused with ENOMEM.
pub const LIVES: usize = 16_384;

/// Processes of containers that are kept. While there are more, no container ends.
pub const PROCESSES: usize = 65_536;

/// Requests that may be under way; one more is answered EAGAIN.
pub const REQUESTS: usize = 256;

/// So long after a listing that did not settle everything the next one is asked for.
pub const LIST_AGAIN: Duration = Duration::from_secs(5);

/// A request of a reader or writer of `audit_containerid`, chosen by whoever hands it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReqId(pub u64);

/// A moment, on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds since boot.
    pub boottime_ns: u64,
    /// Nanoseconds since 1970.
    pub realtime_ns: u64,
}

/// What did not find room, and what is doubted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sets that were done.
    pub set: u64,
    /// Sets that were refused with a record.
    pub refused: u64,
    /// Containers that ended.
    pub dropped: u64,
    /// Processes that were not kept.
    pub processes_turned_away: u64,
    /// Containers found that were not kept.
    pub lives_turned_away: u64,
    /// Sets taken back that are not remembered any more.
    pub sets_forgotten: u64,
}

/// A process with a label.
#[derive(Clone, Copy, Debug)]
struct Member {
    /// Unset only while the set that labels it may still be taken back.
    contid: ContId,
    generation: u64,
    network: u32,
    /// When it was last heard of.
    seen: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Containers {
    labelling: Labelling,
    generation: u64,
    ticket: u64,
    requests: BTreeMap<ReqId, Request>,
    lives: BTreeMap<ContId, Life>,
    members: BTreeMap<ProcessId, Member>,
    networks: Networks,
    refusals: Refusals,
    packets: Packets,
    adoptions: Adoptions,
    grants: Grants,
    roots: Roots,
    aborted: Aborted,
    ended: Ended,
    /// Until then something was lost, and not listed since.
    doubt: Option<u64>,
    listing: bool,
    next_listing: Option<Duration>,
    full: [bool; 3],
    acts: VecDeque<Act>,
    counters: Counters,
    revision: u64,
}

impl Containers {
    /// Knows of none.
    #[must_use]
    pub fn new() -> Containers {
        Containers {
            labelling: Labelling::Starting,
            generation: 0,
            ticket: 0,
            requests: BTreeMap::new(),
            lives: BTreeMap::new(),
            members: BTreeMap::new(),
            networks: Networks::default(),
            refusals: Refusals::default(),
            packets: Packets::default(),
            adoptions: Adoptions::default(),
            grants: Grants::default(),
            roots: Roots::default(),
            aborted: Aborted::default(),
            ended: Ended::default(),
            doubt: None,
            listing: false,
            next_listing: None,
            full: [false; 3],
            acts: VecDeque::new(),
            counters: Counters::default(),
            revision: 0,
        }
    }

    /// Whether tasks can be labelled.
    pub fn handle_labelling(&mut self, labelling: Labelling) {
        self.labelling = labelling;
    }

    /// An event of the kernel about a process, in the kernel's order.
    pub fn handle(&mut self, now: Moment, change: &Change, sighting: &Sighting) {
        if *change == Change::Exit {
            self.exit(now, sighting);
            return;
        }
        self.target_seen(sighting);
        if let Some(label) = sighting.label {
            self.see(now, sighting, label, Confidence::Certain);
        }
    }

    /// Events of until then were lost.
    pub fn handle_lost(&mut self, now: Moment, until_ns: u64) {
        if self.lives.is_empty() && self.requests.is_empty() && !self.adopts() {
            return;
        }
        self.doubt(until_ns);
        self.list(now);
    }

    /// All living processes that have a label, as they were listed from `began_ns` on, after every event
    /// until then was handed in; none where they could not be listed.
    pub fn handle_listed(&mut self, now: Moment, began_ns: u64, listed: Option<&[Sighting]>) {
        self.listing = false;
        self.next_listing = Some(since_boot(now) + LIST_AGAIN);
        let Some(listed) = listed else { return };
        if self.doubt.is_some_and(|until| until < began_ns) {
            self.doubt = None;
            self.full = [false; 3];
        }
        let mut here = BTreeSet::new();
        for sighting in listed {
            if let Some(label) = sighting.label {
                here.extend(self.see(now, sighting, label, Confidence::Inferred));
            }
        }
        if self.ended.forgotten() >= began_ns {
            // One of them may have ended since.
            self.doubt(self.ended.forgotten());
        }
        let gone = self.members.iter().filter(|(id, member)| {
            member.seen < began_ns && id.start_ns < began_ns && !here.contains(*id)
        });
        let gone: Vec<ProcessId> = gone.map(|(id, _)| *id).collect();
        for id in gone {
            self.take(id, began_ns);
        }
        if self.doubt.is_none() {
            self.next_listing = None;
            let empty: Vec<ContId> = self
                .lives
                .iter()
                .filter(|(_, life)| life.processes == 0)
                .map(|(id, _)| *id)
                .collect();
            for id in empty {
                self.end(id, None, Confidence::Inferred);
            }
        }
    }

    /// What a runtime says of a container that lives; the answer is [`Answer::Done`] when it is durable.
    pub fn handle_described(&mut self, req: ReqId, id: ContId, description: Description) {
        let fits = description.fits();
        let result = match self.lives.get_mut(&id) {
            Some(life) if fits => {
                // What a grantee says is what it says.
                let (description, confidence) = match &life.grant {
                    Some(grant) => (grants::marked(grant, description), Confidence::Inferred),
                    None => (description, Confidence::Certain),
                };
                let record = report::described(id, &description, "");
                life.description = description.or(&life.description);
                self.revision += 1;
                let after = self.record(vec![record], confidence);
                self.acts.push_back(Act::Answer {
                    req,
                    result: Ok(Answer::Done),
                    after: Some(after),
                });
                return;
            }
            Some(_) => Err(Errno::Einval),
            None => Err(Errno::Esrch),
        };
        self.acts.push_back(Act::Answer { req, result, after: None });
    }

    /// It is this late.
    pub fn handle_timeout(&mut self, now: Moment) {
        let untold = self.refusals.take(now);
        if !untold.is_empty() {
            self.record(untold, Confidence::Certain);
        }
        self.adopt_due(now);
        if self.next_listing.is_some_and(|due| due <= since_boot(now)) {
            self.next_listing = None;
            if self.doubt.is_some() {
                self.list(now);
            }
        }
    }

    /// When [`Containers::handle_timeout`] has something to do, since boot.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let listing = self.next_listing.filter(|_| self.doubt.is_some() && !self.listing);
        [listing, self.refusals.due(), self.adoptions.due()].into_iter().flatten().min()
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// The containers that live.
    pub fn lives(&self) -> impl Iterator<Item = (ContId, &Life)> {
        self.lives.iter().map(|(id, life)| (*id, life))
    }

    /// One that lives.
    #[must_use]
    pub fn life(&self, id: ContId) -> Option<&Life> {
        self.lives.get(&id)
    }

    /// A container and those that it was made in, the innermost first.
    #[must_use]
    pub fn chain(&self, id: ContId) -> Vec<ContId> {
        let mut chain = vec![id];
        let mut innermost = id;
        // An identifier may be used again, and then be its own ancestor.
        while let Some(life) = self.life(innermost)
            && life.parent.is_set()
            && !chain.contains(&life.parent)
        {
            innermost = life.parent;
            chain.push(innermost);
        }
        chain
    }

    /// The outermost of those that it was made in, itself where there is none; also of one that has just ended.
    #[must_use]
    pub fn root(&self, id: ContId) -> ContId {
        self.roots.of(id)
    }

    /// The container that made it under a grant; also of one that has just ended.
    #[must_use]
    pub fn maker(&self, id: ContId) -> Option<ContId> {
        self.roots.maker(id)
    }

    /// The containers whose mount namespace is one of these, by inode number.
    #[must_use]
    pub fn in_mounts(&self, namespaces: &[u32]) -> Vec<ContId> {
        let is_in = |life: &Life| namespaces.contains(&life.namespaces.mount);
        self.lives.iter().filter(|(_, life)| is_in(life)).map(|(id, _)| *id).collect()
    }

    /// What did not find room, and what is doubted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Changes with what [`Containers::state`] would say.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// A process of that label was seen. Its identity as it is kept, where it is.
    fn see(
        &mut self,
        now: Moment,
        sighting: &Sighting,
        label: Label,
        confidence: Confidence,
    ) -> Option<ProcessId> {
        let Sighting { at_ns, id: as_seen, image, .. } = sighting;
        let known = self.same(*as_seen);
        let id = known.unwrap_or(*as_seen);
        if self.ended.has(id) {
            return None;
        }
        let known = known.and_then(|id| self.members.get(&id).copied());
        // The ring is read after a set was done: what it tells of before that is known better.
        if known.is_some_and(|known| *at_ns < known.seen && label.generation <= known.generation) {
            return Some(id);
        }
        // What was told before a newer set comes after it.
        let label = match known {
            Some(member) if member.generation >= label.generation => {
                Label { contid: member.contid, generation: member.generation }
            }
            _ => self.resolve(label),
        };
        if known.is_none() && !label.contid.is_set() && !self.is_pending(label.generation) {
            return None;
        }
        let network = match (image.namespaces.network, known) {
            (0, Some(member)) => member.network,
            (network, _) => network,
        };
        let seen = known.map_or(*at_ns, |member| member.seen.max(*at_ns));
        let Label { contid, generation } = label;
        if contid.is_set() && !self.lives.contains_key(&contid) {
            // Set before we listened, or its set was lost.
            if self.lives.len() >= LIVES {
                self.counters.lives_turned_away += 1;
                self.say_full(1, "containers", LIVES);
                return None;
            }
            self.lives.insert(contid, Life::new(now, ContId::UNSET, image, id.pid));
            self.revision += 1;
        }
        // Since when one that is found was there is not known.
        let since = if confidence == Confidence::Certain { *at_ns } else { id.start_ns };
        if !self.put(id, Member { contid, generation, network, seen }, since) {
            return None;
        }
        if let Some(Member { contid: before, .. }) = known
            && before != contid
        {
            // An agent before this one labelled it.
            self.end_if_empty(before, id.pid, image);
        }
        self.watch_drift(id, contid, sighting, confidence);
        Some(id)
    }

    /// A process has ended, whatever it was labelled.
    fn exit(&mut self, now: Moment, sighting: &Sighting) {
        let id = self.same(sighting.id).unwrap_or(sighting.id);
        let known = self.members.contains_key(&id);
        let is_target = self.target_ended(id);
        if !known && !is_target && sighting.label.is_none_or(|label| label.generation == 0) {
            return;
        }
        self.ended.push(sighting.at_ns, sighting.id);
        if let Some(member) = self.take(id, sighting.at_ns)
            && !self.end_if_empty(member.contid, id.pid, &sighting.image)
            && self.doubt.is_some()
        {
            self.list(now);
        }
    }

    /// The container ends, if that was its last process. What was lost may have been another.
    fn end_if_empty(&mut self, id: ContId, last: u32, image: &Image) -> bool {
        let is_empty = self.lives.get(&id).is_some_and(|life| life.processes == 0);
        let ends = is_empty && self.doubt.is_none();
        if ends {
            self.end(id, Some((last, image)), Confidence::Certain);
        }
        ends
    }

    /// Puts a process where it belongs since then, from where it was. False where there is no room.
    fn put(&mut self, id: ProcessId, member: Member, since_ns: u64) -> bool {
        if self.members.len() >= PROCESSES && !self.members.contains_key(&id) {
            self.counters.processes_turned_away += 1;
            self.say_full(0, "processes", PROCESSES);
            self.doubt(member.seen);
            return false;
        }
        let before = self.members.insert(id, member);
        let is_here =
            |known: Member| (known.contid, known.network) == (member.contid, member.network);
        if let Some(life) = self.lives.get_mut(&member.contid) {
            life.last = id.pid;
            if before.is_some_and(is_here) {
                return true;
            }
            life.processes = life.processes.saturating_add(1);
            self.networks.add(member.network, member.contid, since_ns);
        }
        if let Some(before) = before {
            self.leave(before, since_ns);
        }
        true
    }

    /// A process has gone from where it was, by then.
    fn take(&mut self, id: ProcessId, until_ns: u64) -> Option<Member> {
        let member = self.members.remove(&id)?;
        self.leave(member, until_ns);
        Some(member)
    }

    fn leave(&mut self, member: Member, until_ns: u64) {
        if let Some(life) = self.lives.get_mut(&member.contid) {
            life.processes = life.processes.saturating_sub(1);
            self.networks.remove(member.network, member.contid, until_ns);
        }
    }

    /// A container has ended: the only place that says so.
    fn end(&mut self, id: ContId, last: Option<(u32, &Image)>, confidence: Confidence) {
        let Some(life) = self.lives.remove(&id) else { return };
        self.adoptions.forget(id, &life);
        self.roots.end(id, |id| self.lives.contains_key(&id));
        self.revision += 1;
        self.counters.dropped += 1;
        let (pid, image) = last.map_or((life.last, None), |(pid, image)| (pid, Some(image)));
        self.record(vec![report::drop(pid, id, image)], confidence);
    }

    fn watch_drift(
        &mut self,
        id: ProcessId,
        contid: ContId,
        sighting: &Sighting,
        confidence: Confidence,
    ) {
        let Some(life) = self.lives.get_mut(&contid) else { return };
        let image = &sighting.image;
        let mut records = Vec::new();
        if life.is_entered_by(sighting) {
            records.push(report::entered(contid, id.pid, image.namespaces));
        }
        let drifts = life.drifts(id, sighting);
        records.extend(drifts.iter().map(|drift| report::drifted(contid, drift, image)));
        if !records.is_empty() {
            self.revision += 1;
            self.record(records, confidence);
        }
    }

    /// The one that is known by that number and tick, as `/proc` tells no more.
    fn same(&self, id: ProcessId) -> Option<ProcessId> {
        if self.members.contains_key(&id) {
            return Some(id);
        }
        let first = ProcessId { start_ns: id.start_ns / TICK_NS * TICK_NS, ..id };
        let last = ProcessId { start_ns: first.start_ns.saturating_add(TICK_NS - 1), ..id };
        self.members.range(first..=last).map(|(known, _)| *known).find(|known| known.may_be(id))
    }

    fn doubt(&mut self, until_ns: u64) {
        self.doubt = Some(self.doubt.map_or(until_ns, |doubt| doubt.max(until_ns)));
    }

    /// Asks for a listing, unless one is under way or was a moment ago.
    fn list(&mut self, now: Moment) {
        let is_early = self.next_listing.is_some_and(|due| since_boot(now) < due);
        if !self.listing && !is_early {
            self.listing = true;
            self.acts.push_back(Act::List);
        }
    }

    fn say_full(&mut self, which: usize, what: &'static str, limit: usize) {
        if !std::mem::replace(&mut self.full[which], true) {
            self.record(vec![report::full(what, limit)], Confidence::Certain);
        }
    }

    fn record(&mut self, records: Vec<Record>, confidence: Confidence) -> Ticket {
        self.ticket += 1;
        let ticket = Ticket(self.ticket);
        self.acts.push_back(Act::Record { records, confidence, ticket });
        ticket
    }
}

impl Default for Containers {
    fn default() -> Containers {
        Containers::new()
    }
}

fn since_boot(now: Moment) -> Duration {
    Duration::from_nanos(now.boottime_ns)
}

#[cfg(test)]
mod tests;
