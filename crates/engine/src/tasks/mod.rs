//! Who is, or was, process N at a time: a bounded table, fed by what the kernel tells of processes.
//!
//! A process is its number and the time it began; a number alone is used again. What is asked about a
//! number is answered for the process that had it at that time, or not at all:
//!
//! ```text
//!  begin ──── exec ──── lost ──── seen again ──── end ─── linger ───
//!  certain    certain   unknown   late            late    forgotten
//!                       (until it is seen again: then late)
//! ```
//!
//! All times are nanoseconds since boot.

mod groups;
mod images;
mod labels;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use record::units::ContId;

use self::groups::Groups;
use self::images::Images;
pub use self::images::{Image, Namespaces};
pub(crate) use self::labels::Aborted;
pub use self::labels::Label;
use self::labels::Labels;

/// A process: its number in the initial pid namespace, and when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// The number of its thread group.
    pub pid: u32,
    /// When it began. Where only `/proc` told: the beginning of the tick of 10 ms.
    pub start_ns: u64,
}

impl ProcessId {
    /// Whether they are one, as far as `/proc` told when one of them began.
    pub(crate) fn may_be(self, other: ProcessId) -> bool {
        let same_tick = self.start_ns / TICK_NS == other.start_ns / TICK_NS;
        self.pid == other.pid
            && (self == other || (same_tick && (self.is_rough() || other.is_rough())))
    }

    /// Whether it may be the beginning of a tick that is told.
    fn is_rough(self) -> bool {
        self.start_ns.is_multiple_of(TICK_NS)
    }
}

/// What `/proc/PID/stat` counts in.
pub(crate) const TICK_NS: u64 = 10_000_000;

/// A process that is kept.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its parent when it was last heard of.
    pub parent: ProcessId,
    /// When it ended; inferred from the next one of its number where that was not heard.
    pub ended: Option<u64>,
    /// Whether the time it began is known exactly.
    exact: bool,
    /// When it was last known to live.
    seen: u64,
    images: Images,
    labels: Labels,
    groups: Groups,
}

impl Process {
    /// The container it was in, and whether that is known of that very time; none where no label of it
    /// was seen.
    #[must_use]
    pub fn contid(&self, at_ns: u64) -> Option<(ContId, bool)> {
        self.labels.at(at_ns)
    }

    /// The control group it was in, by its inode number; none where that is not known of that time.
    pub(crate) fn cgroup(&self, at_ns: u64) -> Option<u64> {
        self.groups.at(at_ns)
    }
}

/// What happened to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It began.
    Fork,
    /// It runs another program: the file as it was asked for.
    Exec(Vec<u8>),
    /// It has other namespaces.
    Namespaces,
    /// It was put into a control group.
    Group,
    /// It ended.
    Exit,
}

/// A process as an event of the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// When.
    pub at_ns: u64,
    /// Who.
    pub id: ProcessId,
    /// Its parent.
    pub parent: ProcessId,
    /// What it is from now on. The file of a [`Change::Exec`] counts instead of the one in here.
    pub image: Image,
    /// The label it carries; none where the source does not show labels, as `/proc` does not.
    pub label: Option<Label>,
}

/// Who had a number at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum Who<'a> {
    /// This one, and it was like that then.
    Certain(ProcessId, &'a Process, &'a Image),
    /// This one, but what it was like is known of another time than the one asked about.
    Late(ProcessId, &'a Process, &'a Image),
    /// Not everything up to that time is heard yet: ask again.
    NotYet,
    /// Nobody knows.
    Unknown,
}

impl PartialEq for Process {
    fn eq(&self, other: &Process) -> bool {
        std::ptr::eq(self, other)
    }
}

/// The table.
#[derive(Debug)]
pub struct Tasks {
    limit: usize,
    linger_ns: u64,
    processes: BTreeMap<ProcessId, Process>,
    /// Those that ended, in the order in which that was heard.
    ended: VecDeque<(u64, ProcessId)>,
    /// When events were lost: from, to. In order, and apart.
    losses: VecDeque<[u64; 2]>,
    /// Everything up to here was heard or lost.
    heard: u64,
    /// Sets of labels that were taken back.
    aborted: Aborted,
    counts: Counts,
}

/// What did not find room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ended ones that were forgotten before their time.
    pub forgotten_early: u64,
    /// Living ones that were not kept.
    pub turned_away: u64,
    /// Sets taken back that are not remembered any more.
    pub sets_forgotten: u64,
}

/// Processes that are named of a network namespace: one or the other has ended unheard.
const INSIDE: usize = 8;

/// Losses that are told apart; of more, the oldest become one.
const LOSSES: usize = 64;

impl Tasks {
    /// A table of at most `limit` processes that keeps those that ended for `linger_ns`.
    #[must_use]
    pub fn new(limit: usize, linger_ns: u64) -> Tasks {
        Tasks {
            limit: limit.max(1),
            linger_ns,
            processes: BTreeMap::new(),
            ended: VecDeque::new(),
            losses: VecDeque::new(),
            heard: 0,
            aborted: Aborted::default(),
            counts: Counts::default(),
        }
    }

    /// An event of the kernel.
    pub fn handle(&mut self, change: Change, sighting: Sighting) {
        let Sighting { at_ns, id, parent, mut image, label } = sighting;
        self.make_exact(id);
        match &change {
            Change::Exec(file) => image.program = Some(Arc::from(file.as_slice())),
            Change::Fork => {
                let running = self.processes.get(&parent).map(|parent| parent.images.newest());
                image.program = running.and_then(|running| running.program.clone());
            }
            Change::Namespaces | Change::Group | Change::Exit => {
                let same = self.processes.get(&id).map(|process| process.images.newest());
                image.program = same.and_then(|same| same.program.clone());
            }
        }
        if !self.keep(id, parent, at_ns, true) {
            return;
        }
        let since = if change == Change::Fork { id.start_ns } else { at_ns };
        let Some(process) = self.processes.get_mut(&id) else { return };
        process.parent = parent;
        process.seen = process.seen.max(at_ns);
        if let Some(label) = label {
            process.labels.saw(since, self.aborted.resolve(label));
        }
        if change == Change::Exit {
            // The kernel has taken some of it from it already.
            if process.images.is_empty() {
                process.images.push(since, image);
            }
            if process.ended.is_none() {
                self.ended.push_back((at_ns, id));
            }
            process.ended = Some(at_ns);
        } else {
            process.groups.saw(since, image.cgroup);
            // A group is all that is new then, and an older image may still be asked for.
            if change != Change::Group || process.images.is_empty() {
                process.images.push(since, image);
            }
        }
    }

    /// A living process as `/proc` shows it now; `id` has the beginning of its tick.
    pub fn handle_listed(&mut self, sighting: Sighting) {
        let Sighting { at_ns, id, parent, image, label } = sighting;
        let same = self.same(id, at_ns);
        let id = same.unwrap_or(id);
        if !self.keep(id, parent, at_ns, same.is_some()) {
            return;
        }
        let Some(process) = self.processes.get_mut(&id) else { return };
        process.seen = process.seen.max(at_ns);
        // It is taken to have been there from its beginning on, unless an event told otherwise.
        process.groups.saw(id.start_ns, image.cgroup);
        // What an event told is as good, and may be newer.
        if process.images.is_empty() || crosses(&self.losses, process.images.since(), at_ns) {
            process.images.push(at_ns, image);
        }
        if let Some(label) = label {
            process.labels.saw(at_ns, self.aborted.resolve(label));
        }
    }

    /// This living process was given a label then; its time may be the beginning of a tick.
    pub fn handle_labelled(&mut self, id: ProcessId, at_ns: u64, label: Label) {
        let id = self.same(id, at_ns).unwrap_or(id);
        // Its beginning may not have been heard of yet.
        let nobody = ProcessId { pid: 0, start_ns: 0 };
        if !self.keep(id, nobody, at_ns, !id.is_rough()) {
            return;
        }
        if let Some(process) = self.processes.get_mut(&id) {
            process.labels.saw(at_ns, self.aborted.resolve(label));
        }
    }

    /// The set of that generation was taken back: whoever has it belongs to `before`.
    pub fn handle_aborted(&mut self, generation: u64, before: ContId) {
        if self.aborted.push(generation, before) {
            self.counts.sets_forgotten = self.counts.sets_forgotten.saturating_add(1);
        }
        for process in self.processes.values_mut() {
            process.labels.abort(generation, before);
        }
    }

    /// Events of this time were lost.
    pub fn handle_lost(&mut self, from_ns: u64, to_ns: u64) {
        match self.losses.back_mut() {
            Some([_, to]) if *to >= from_ns => *to = (*to).max(to_ns),
            _ => self.losses.push_back([from_ns, to_ns.max(from_ns)]),
        }
        if self.losses.len() > LOSSES
            && let Some([from, _]) = self.losses.pop_front()
            && let Some(next) = self.losses.front_mut()
        {
            next[0] = from;
        }
    }

    /// Everything up to there has come.
    pub fn handle_heard(&mut self, until_ns: u64) {
        self.heard = self.heard.max(until_ns);
        while let Some((_, id)) =
            self.ended.pop_front_if(|(at, _)| at.saturating_add(self.linger_ns) < until_ns)
        {
            self.processes.remove(&id);
        }
    }

    /// Who had this number then.
    #[must_use]
    pub fn who(&self, pid: u32, at_ns: u64) -> Who<'_> {
        if self.heard < at_ns {
            return Who::NotYet;
        }
        let before = self.of_number(pid).rev().find(|(id, _)| id.start_ns <= at_ns);
        let Some((id, process)) = before else { return Who::Unknown };
        // In the tick in which it began, another one may have ended.
        if !process.exact && at_ns < id.start_ns.saturating_add(TICK_NS) {
            return Who::Unknown;
        }
        // Between when it was last alive and then, it may have gone and another one come.
        if process.seen < at_ns && crosses(&self.losses, process.seen, at_ns) {
            return Who::Unknown;
        }
        let Some((image, is_of_then)) = process.images.at(at_ns) else { return Who::Unknown };
        let since = process.images.since_of(at_ns);
        let is_over = process.ended.is_some_and(|end| end < at_ns);
        if is_over || !is_of_then || crosses(&self.losses, since, at_ns) {
            Who::Late(*id, process, image)
        } else {
            Who::Certain(*id, process, image)
        }
    }

    /// Whether everything up to there has come.
    #[must_use]
    pub fn has_heard(&self, until_ns: u64) -> bool {
        self.heard >= until_ns
    }

    /// Those that had this number at some time between the two, when they began, and whether it surely was
    /// that one where it had it.
    pub(crate) fn holders(
        &self,
        pid: u32,
        from_ns: u64,
        to_ns: u64,
    ) -> impl Iterator<Item = (&Process, u64, bool)> {
        let had = move |(id, process): &(&ProcessId, &Process)| {
            id.start_ns <= to_ns && process.ended.is_none_or(|end| end >= from_ns)
        };
        self.of_number(pid).filter(had).map(move |(id, process)| {
            let began = process.exact || from_ns >= id.start_ns.saturating_add(TICK_NS);
            let lasted = process.seen >= to_ns || !crosses(&self.losses, process.seen, to_ns);
            (process, id.start_ns, began && lasted)
        })
    }

    /// The last that had this number before, unless another one may have had it since.
    pub(crate) fn last_holder(&self, pid: u32, at_ns: u64) -> Option<&Process> {
        let (_, last) = self.of_number(pid).rev().find(|(id, _)| id.start_ns <= at_ns)?;
        (!crosses(&self.losses, last.seen, at_ns)).then_some(last)
    }

    /// This very process, as it was last.
    #[must_use]
    pub fn process(&self, id: ProcessId) -> Option<(&Process, &Image)> {
        let process = self.processes.get(&id)?;
        Some((process, process.images.newest()))
    }

    /// The network namespaces of processes that lived then or later, by inode number, each with some that
    /// are in it, as far as was heard.
    #[must_use]
    pub fn networks(&self, at_ns: u64) -> BTreeMap<u32, Vec<u32>> {
        let mut found: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (id, process) in &self.processes {
            if process.ended.is_some_and(|end| end < at_ns) {
                continue;
            }
            let now = process.images.newest().namespaces.network;
            let images = process.images.since_then(at_ns);
            for network in images.map(|image| image.namespaces.network).filter(|n| *n != 0) {
                let inside = found.entry(network).or_default();
                if process.ended.is_none() && network == now && inside.len() < INSIDE {
                    inside.push(id.pid);
                }
            }
        }
        found
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// What did not find room.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The one that is known by that number and tick, and lived then.
    fn same(&self, id: ProcessId, at_ns: u64) -> Option<ProcessId> {
        let ticks = id.start_ns / TICK_NS;
        let same = self.of_number(id.pid).find(|(known, process)| {
            known.start_ns / TICK_NS == ticks && process.ended.is_none_or(|end| end >= at_ns)
        });
        same.map(|(known, _)| *known)
    }

    fn of_number(&self, pid: u32) -> impl DoubleEndedIterator<Item = (&ProcessId, &Process)> {
        let [first, last] = [0, u64::MAX].map(|start_ns| ProcessId { pid, start_ns });
        self.processes.range(first..=last)
    }

    /// Where this one is known from `/proc`, it is known exactly from now on.
    fn make_exact(&mut self, id: ProcessId) {
        let rough = ProcessId { start_ns: id.start_ns / TICK_NS * TICK_NS, ..id };
        if self.processes.get(&rough).is_none_or(|process| process.exact) {
            return;
        }
        if let Some(mut process) = self.processes.remove(&rough) {
            process.exact = true;
            for (_, ended) in self.ended.iter_mut().filter(|(_, ended)| *ended == rough) {
                *ended = id;
            }
            self.processes.insert(id, process);
        }
    }

    /// Makes an entry, if there is none and room for one.
    fn keep(&mut self, id: ProcessId, parent: ProcessId, at_ns: u64, exact: bool) -> bool {
        if self.processes.contains_key(&id) {
            return true;
        }
        // Whoever had the number has ended, heard or not.
        let older = self
            .of_number(id.pid)
            .filter(|(older, process)| older.start_ns < id.start_ns && process.ended.is_none());
        let older: Vec<ProcessId> = older.map(|(older, _)| *older).collect();
        for older in older {
            if let Some(process) = self.processes.get_mut(&older) {
                process.ended = Some(id.start_ns);
                self.ended.push_back((id.start_ns, older));
            }
        }
        while self.processes.len() >= self.limit {
            let Some((_, oldest)) = self.ended.pop_front() else {
                self.counts.turned_away = self.counts.turned_away.saturating_add(1);
                return false;
            };
            if self.processes.remove(&oldest).is_some() {
                self.counts.forgotten_early = self.counts.forgotten_early.saturating_add(1);
            }
        }
        let (images, labels, groups) = Default::default();
        self.processes.insert(
            id,
            Process { parent, ended: None, exact, seen: at_ns, images, labels, groups },
        );
        true
    }
}

/// Whether events were lost in this time.
fn crosses(losses: &VecDeque<[u64; 2]>, from: u64, to: u64) -> bool {
    losses.iter().any(|[begin, end]| *begin <= to && from <= *end)
}

#[cfg(test)]
mod tests;
