//! Containers that nobody sets: found by the control group of their processes.
//!
//! ```text
//!  a process comes into a group ─┐ Group, and no label
//!  the living are listed ────────┴▶ Adopt ─▶ handle_adopted ─┬▶ CONTAINER_OP, VT_CONTAINER found
//!                                   (all in it without one)  └▶ Describe ─▶ handle_found
//! ```
//!
//! A runtime puts a container's first process into its group before anything of the container runs, and what
//! it runs in one later on, too; so the label is there early, but not always first. What a process did between
//! is the container's by its group ([`Containers::in_group`]), and told as inferred. Who has a label keeps it,
//! wherever he goes: that is drift.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use record::units::ContId;

use super::acts::Act;
use super::groups::{Group, is_unique};
use super::judge::Labelling;
use super::lives::{Caller, Description, LONGEST_TEXT, Life};
use super::users::{self, Later, Numbered, Users};
use super::{Confidence, Containers, LIVES, Member, Moment, report, since_boot};
use crate::tasks::{Label, Namespaces, ProcessId, Sighting};

/// So long after somebody came into a container its runtime's own processes may be on their way in.
const ON_THE_WAY: Duration = Duration::from_secs(5);

/// So long after a group could not be looked at as a whole it is looked at again.
const LATER: Duration = Duration::from_secs(1);

/// What to label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// Every process of this container's group, and those below it, that has no label.
    pub group: Group,
    /// The label.
    pub label: Label,
    /// The process that was seen coming into it; none where the living were listed.
    pub first: Option<ProcessId>,
    /// The mount namespace that one was in, 0 where that is not known.
    outside: u32,
}

/// A living process in a container's group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// It, with the label that it has.
    pub sighting: Sighting,
    /// Its group.
    pub group: Group,
    /// The container's identifier where nobody gave one, if that is free.
    pub first: ContId,
}

/// What is known of groups.
#[derive(Debug, Default)]
pub(super) struct Adoptions {
    is_on: bool,
    /// The host's mount namespace, which runtimes are in.
    host: u32,
    /// The living containers by [`Group::key`].
    named: BTreeMap<String, ContId>,
    /// By number in the unified hierarchy, those of containers that have ended too: what is heard late is
    /// theirs still. No number is used again in a boot. A container has one, as a rule; only what comes into it
    /// without a label makes more.
    groups: Numbered,
    /// Asked for, not done yet.
    under_way: BTreeSet<String>,
    users: Users,
}

impl Adoptions {
    /// From now on this group is that container's.
    pub(super) fn name(&mut self, group: &Group, id: ContId) -> Option<ContId> {
        self.named.insert(group.key().to_owned(), id).filter(|before| *before != id)
    }

    /// The container has ended.
    pub(super) fn forget(&mut self, id: ContId, life: &Life) {
        let key = life.group.as_ref().map(Group::key);
        if let Some(key) = key.filter(|key| self.named.get(*key) == Some(&id)) {
            self.named.remove(key);
        }
    }

    /// When a group is to be looked into that was put off.
    pub(super) fn due(&self) -> Option<Duration> {
        self.users.due()
    }
}

impl Containers {
    /// Whether containers that nobody sets are found. `host` is the number of the host's mount namespace.
    pub fn handle_groups(&mut self, is_on: bool, host: u32) {
        self.adoptions.is_on = is_on;
        self.adoptions.host = host;
    }

    /// Whether they are, and can be labelled.
    #[must_use]
    pub fn adopts(&self) -> bool {
        self.adoptions.is_on && self.labelling == Labelling::Attached
    }

    /// A process has come into a control group of that hierarchy, a container's or not. With the group goes the
    /// identifier that the container gets where nobody gave one.
    pub fn handle_attached(
        &mut self,
        now: Moment,
        sighting: &Sighting,
        hierarchy: u32,
        group: Option<(Group, ContId)>,
    ) {
        let label = sighting.label.map_or(Label::UNSET, |label| self.resolve(label));
        if label.contid.is_set() {
            let id = self.same(sighting.id).unwrap_or(sighting.id);
            let group = group.map(|(group, _)| group);
            self.watch_group(id, label.contid, sighting, (hierarchy, group.as_ref()));
        } else if let Some((group, first)) = group {
            // The number is that of the unified hierarchy.
            let cgroup = if group.hierarchy == 0 { sighting.image.cgroup } else { 0 };
            let by = Some((sighting.id, sighting.image.namespaces.mount));
            self.adopt(now, group, first, by, cgroup);
        }
    }

    /// A process that has a label was put somewhere.
    fn watch_group(
        &mut self,
        id: ProcessId,
        contid: ContId,
        sighting: &Sighting,
        (hierarchy, to): (u32, Option<&Group>),
    ) {
        let Some(life) = self.lives.get_mut(&contid) else { return };
        let was = life.cgroup;
        let drift = life.leaves(id, sighting, hierarchy, to);
        if life.cgroup != was
            && let Some(group) = &life.group
        {
            self.adoptions.groups.remember(life.cgroup, group, contid);
        }
        if let Some(drift) = drift {
            self.revision += 1;
            let record = report::drifted(contid, &drift, &sighting.image);
            self.record(vec![record], Confidence::Certain);
        }
    }

    /// The living processes in containers' groups, after [`Containers::handle_listed`] had those with labels.
    pub fn handle_grouped(&mut self, now: Moment, seen: Vec<Seen>) {
        let is_labelled = |seen: &Seen| seen.sighting.label.is_some_and(|it| it.contid.is_set());
        for one in seen.iter().filter(|one| is_labelled(one)) {
            // A container of which an agent before this one has left nothing but the labels.
            let label = one.sighting.label.map_or(Label::UNSET, |label| self.resolve(label));
            let is_known = self.adoptions.named.contains_key(one.group.key());
            if let Some(life) = self.lives.get_mut(&label.contid)
                && life.registrar.is_none()
                && life.group.is_none()
                && !is_known
            {
                life.description = described_by(&one.group).or(&life.description);
                self.belongs(one.group.clone(), label.contid);
            }
        }
        for Seen { sighting, group, first } in seen {
            if sighting.label.is_some_and(|label| !self.resolve(label).contid.is_set()) {
                let cgroup = if group.hierarchy == 0 { sighting.image.cgroup } else { 0 };
                self.adopt(now, group, first, None, cgroup);
            }
        }
    }

    fn adopt(
        &mut self,
        now: Moment,
        group: Group,
        first: ContId,
        by: Option<(ProcessId, u32)>,
        cgroup: u64,
    ) {
        if !self.adopts() {
            return;
        }
        let is_known = self.adoptions.named.contains_key(group.key());
        let is_new = !is_known && !self.adoptions.under_way.contains(group.key());
        if is_new && self.lives.len() + self.adoptions.under_way.len() >= LIVES {
            self.counters.lives_turned_away += 1;
            self.say_full(1, "containers", LIVES);
            return;
        }
        let contid = self.number(first, Some(&group.id), Some(&group));
        let is_under_way = self.adoptions.under_way.contains(group.key());
        if !is_under_way && let Some(owner) = group.owner() {
            let since_boot = since_boot(now);
            let full = match self.adoptions.users.admit(since_boot, owner, group.key()) {
                Ok(()) => {
                    let mut living = self.lives.values().filter_map(Life::owner);
                    (is_new && !users::has_room(&mut living, owner)).then_some(users::LIVING)
                }
                Err(Later::Full(_)) if is_new => Some(users::MOST),
                Err(Later::Full(due) | Later::Hurried(due)) => {
                    self.adoptions.groups.remember(cgroup, &group, contid);
                    self.adoptions.users.wait(since_boot, group, contid, due);
                    return;
                }
            };
            if let Some(limit) = full {
                self.counters.lives_turned_away += 1;
                self.say_full(2, "users-containers", limit);
                return;
            }
        }
        self.adoptions.groups.remember(cgroup, &group, contid);
        if is_under_way {
            return;
        }
        self.adoptions.under_way.insert(group.key().to_owned());
        self.generation = now.boottime_ns.max(self.generation + 1);
        let label = Label { contid, generation: self.generation };
        let outside = by.map_or(0, |(_, mount)| mount);
        let first = by.map(|(id, _)| id);
        self.acts.push_back(Act::Adopt(Box::new(Adoption { group, label, first, outside })));
    }

    /// Groups that were put off, where it is time.
    pub(super) fn adopt_due(&mut self, now: Moment) {
        for (group, first) in self.adoptions.users.take_due(since_boot(now)) {
            self.adopt(now, group, first, None, 0);
        }
    }

    /// Not all of a group could be looked at in the time that there was: the rest is, later.
    pub fn handle_cut_short(&mut self, now: Moment, group: Group, id: ContId) {
        let now = since_boot(now);
        self.adoptions.users.wait(now, group, id, now + LATER);
    }

    /// The processes that were labelled, each as it was right before; `own` is whoever did it.
    pub fn handle_adopted(
        &mut self,
        now: Moment,
        adoption: Adoption,
        adopted: &[Sighting],
        own: &Caller,
    ) {
        let Adoption { group, label: Label { contid, generation }, first, outside } = adoption;
        self.adoptions.under_way.remove(group.key());
        let (how, confidence) = match first {
            Some(_) => ("attached", Confidence::Certain),
            None => ("listed", Confidence::Inferred),
        };
        let is_new = !self.lives.contains_key(&contid);
        // A user's runtime has namespaces of its own, which are not the container's.
        let is_outside = outside == self.adoptions.host || !group.is_in_a_place_of_root();
        let is_runtimes = first.is_some() && is_outside;
        let Some(oldest) = adopted.iter().min_by_key(|one| one.id.start_ns) else {
            if is_new {
                // All of it ended before it could be labelled.
                let record = report::found(contid, &group, how, 0);
                self.record(vec![record], Confidence::Inferred);
                self.acts.push_back(Act::Describe { contid, group });
            }
            return;
        };
        let mut records = vec![report::set(oldest.id.pid, ContId::UNSET, contid, own, true)];
        if is_new {
            let mut life = Life::new(now, ContId::UNSET, &oldest.image, oldest.id.pid);
            life.description = described_by(&group);
            if is_runtimes {
                // Its own are not made yet.
                life.namespaces = Namespaces::default();
            }
            let Life { namespaces, cgroup, .. } = life;
            records.push(report::begun(contid, oldest.id.pid, ContId::UNSET, namespaces, cgroup));
            self.lives.insert(contid, life);
            self.belongs(group.clone(), contid);
        }
        records.push(report::found(contid, &group, how, adopted.len()));
        self.revision += 1;
        self.counters.set += 1;
        self.record(records, confidence);
        if let Some(life) = self.lives.get_mut(&contid)
            && is_runtimes
            && outside != life.namespaces.mount
        {
            let until = since_boot(now) + ON_THE_WAY;
            life.entering = Some((outside, u64::try_from(until.as_nanos()).unwrap_or(u64::MAX)));
        }
        for one in adopted {
            self.adoptions.groups.remember(one.image.cgroup, &group, contid);
            let id = self.same(one.id).unwrap_or(one.id);
            if !self.ended.has(id) {
                let network = one.image.namespaces.network;
                // Since when it was there is not known.
                let member = Member { contid, generation, network, seen: one.at_ns };
                self.put(id, member, id.start_ns);
            }
        }
        if is_new {
            self.acts.push_back(Act::Describe { contid, group });
        }
    }

    /// What the runtime's files say of the container of this group, which may have ended; none where there is none
    /// that does. What a hook said goes before it.
    pub fn handle_found(&mut self, id: ContId, group: &Group, found: Option<Description>) {
        let found = found.filter(Description::fits).unwrap_or_default();
        let description = match self.lives.get_mut(&id) {
            Some(life) => {
                life.description = life.description.or(&found);
                self.revision += 1;
                life.description.clone()
            }
            None => described_by(group).or(&found),
        };
        let Description { runtime, id: _, name, image, digest } = &description;
        let open = [("runtime", runtime), ("name", name), ("image", image), ("digest", digest)];
        let open = open.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| *key);
        let unknown = open.collect::<Vec<_>>().join(",");
        let record = report::described(id, &description, &unknown);
        self.record(vec![record], Confidence::Inferred);
    }

    /// From now on whoever comes into this group belongs to that container.
    pub(super) fn belongs(&mut self, group: Group, contid: ContId) {
        let before = self.adoptions.name(&group, contid);
        if let Some(life) = before.and_then(|before| self.lives.get_mut(&before)) {
            life.group = None;
        }
        if let Some(life) = self.lives.get_mut(&contid) {
            let cgroup = if group.hierarchy == 0 { life.cgroup } else { 0 };
            self.adoptions.groups.remember(cgroup, &group, contid);
            life.group = Some(group);
        }
    }

    /// The identifier of a container for which nobody gave one: what it has already, or `first`, or the next
    /// that no other has. `id` is its runtime's for it.
    #[must_use]
    pub fn number(&self, first: ContId, id: Option<&str>, group: Option<&Group>) -> ContId {
        if let Some(known) = group.and_then(|group| self.adoptions.named.get(group.key())) {
            return *known;
        }
        let mut number = first;
        let is_others = |number| {
            self.lives.get(&number).is_some_and(|life| {
                let is_elsewhere = life
                    .group
                    .as_ref()
                    .is_some_and(|of| group.is_some_and(|group| group.key() != of.key()));
                is_elsewhere || life.description.id.as_deref() != id
            })
        };
        while is_others(number) || !number.is_set() {
            number = ContId(number.0.wrapping_add(1) & (u64::MAX >> 1));
        }
        number
    }

    /// The container of a control group of the unified hierarchy, by its number.
    #[must_use]
    pub fn in_group(&self, cgroup: u64) -> Option<ContId> {
        self.adoptions.groups.get(cgroup)
    }
}

/// What the group alone says. One that may not be root's is called by its path: its name says nothing.
fn described_by(group: &Group) -> Description {
    let cut = |text: &str| text.get(..text.floor_char_boundary(LONGEST_TEXT)).map(str::to_owned);
    if !group.is_in_a_place_of_root() {
        return Description { id: cut(&group.path), ..Description::default() };
    }
    let name = (!is_unique(&group.id)).then(|| cut(&group.id)).flatten();
    Description {
        runtime: group.runtime.clone(),
        id: cut(&group.id),
        name,
        ..Description::default()
    }
}
