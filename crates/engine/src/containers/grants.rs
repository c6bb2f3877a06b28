//! Containers that may make others within themselves: what a configuration grants, and what the capability
//! `capcontid` of the kernel patches (V11) was to be.
//!
//! Whoever is granted something is known by his container, which no process can choose or leave. A program's
//! file or name would be the container's own to choose. What a grantee says of the containers that it makes is
//! never taken for what somebody else says: they are no grantees, and their names begin with the grant's.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use record::units::ContId;

use super::lives::{Caller, Description, LONGEST_TEXT, Life};
use super::set::Pending;
use super::{Containers, Moment, since_boot};
use crate::tasks::ProcessId;

/// What a container may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What records call it.
    pub name: String,
    /// Whose it is; of several containers of that name, each one's.
    pub container: Grantee,
    /// The identifiers that may be given.
    pub ids: RangeInclusive<u64>,
    /// Containers that may live under it at a time.
    pub most: usize,
}

/// Who is granted something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grantee {
    /// The container of this identifier.
    Contid(ContId),
    /// Those of this name or runtime's id.
    Called(String),
}

impl Grantee {
    fn is(&self, id: ContId, life: &Life) -> bool {
        match self {
            Grantee::Contid(contid) => *contid == id,
            Grantee::Called(text) => {
                let Description { id, name, .. } = &life.description;
                [id, name].into_iter().flatten().any(|said| said == text)
            }
        }
    }
}

/// What a grant says of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The identifier may be given.
    pub in_range: bool,
    /// Where the target is.
    pub place: Place,
    /// The identifier is somebody else's.
    pub is_taken: bool,
    /// Whether it would be one too many.
    pub room: Room,
}

/// Where a target is, as its writer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the writer's own container.
    Own,
    /// It is the writer.
    Writer,
    /// In a container that the writer's has made.
    Child,
    /// Anywhere else.
    Elsewhere,
}

/// Whether a grant has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It has.
    Yes,
    /// As many containers as may live under it do.
    Full,
    /// Too many were set a moment ago.
    Later,
}

/// Under one grant so many sets are done in so long a time: each is a record that is never held back.
const SETS: usize = 64;
const SETS_IN: Duration = Duration::from_secs(10);

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Grants {
    all: Vec<Grant>,
    /// By name: since then so many sets.
    done: BTreeMap<String, (Duration, usize)>,
}

impl Grants {
    /// A set is done under it.
    pub(super) fn note(&mut self, name: &str, now: Moment) {
        let (since, count) = self.done.entry(name.to_owned()).or_default();
        if since_boot(now).saturating_sub(*since) >= SETS_IN {
            (*since, *count) = (since_boot(now), 0);
        }
        *count += 1;
    }

    fn is_hurried(&self, name: &str, now: Moment) -> bool {
        self.done.get(name).is_some_and(|(since, count)| {
            *count >= SETS && since_boot(now).saturating_sub(*since) < SETS_IN
        })
    }
}

impl Containers {
    /// What is granted from now on; what was and is not any more is no more. Containers that were made under it
    /// stay what they are.
    pub fn handle_grants(&mut self, grants: Vec<Grant>) {
        self.grants.done.retain(|name, _| grants.iter().any(|grant| grant.name == *name));
        self.grants.all = grants;
    }

    /// The next identifier that this caller may give, where he is granted some.
    #[must_use]
    pub fn number_granted(&self, caller: &Caller) -> Option<ContId> {
        let grant = self.grant_of(caller)?;
        let is_free = |id: &ContId| !self.lives.contains_key(id) && !self.is_wanted(*id);
        grant.ids.clone().map(ContId).find(is_free)
    }

    /// What this caller is granted. Whoever may anyhow needs no grant.
    pub(super) fn grant_of(&self, caller: &Caller) -> Option<&Grant> {
        let life = self.lives.get(&caller.contid)?;
        let may_be = !caller.capable && caller.pid != 0 && life.grant.is_none();
        let mut grants = self.grants.all.iter().filter(|_| may_be);
        grants.find(|grant| grant.container.is(caller.contid, life))
    }

    /// What the grant says of giving `wanted` to a process of the container `at`.
    pub(super) fn granted(
        &self,
        now: Moment,
        grant: &Grant,
        caller: &Caller,
        (target, at): (ProcessId, ContId),
        wanted: ContId,
    ) -> Granted {
        let is_child =
            |id: ContId| self.lives.get(&id).is_some_and(|life| life.is_child_of(caller));
        let place = match at {
            _ if target.pid == caller.pid => Place::Writer,
            at if at == caller.contid => Place::Own,
            at if is_child(at) => Place::Child,
            _ => Place::Elsewhere,
        };
        let is_known = self.lives.contains_key(&wanted);
        let is_coming = |pending: &&Pending| pending.label.contid == wanted;
        let others = self.pending_of_grants().filter(|(of, _)| *of != caller.contid);
        let is_others = others.map(|(_, pending)| pending).any(|pending| is_coming(&pending));
        let under = self.lives.values().filter(|life| life.grant.as_ref() == Some(&grant.name));
        let coming = self.pending_of_grants().filter(|(_, pending)| {
            pending.grant.as_ref() == Some(&grant.name)
                && !self.lives.contains_key(&pending.label.contid)
        });
        let room = if self.grants.is_hurried(&grant.name, now) {
            Room::Later
        } else if !is_known && under.count() + coming.count() >= grant.most {
            Room::Full
        } else {
            Room::Yes
        };
        Granted {
            in_range: grant.ids.contains(&wanted.0),
            place,
            is_taken: (is_known && !is_child(wanted)) || is_others,
            room,
        }
    }

    /// What may be read under a grant: the writer's own container, and those that it has made.
    pub(super) fn may_read(&self, caller: &Caller, at: ContId) -> bool {
        let is_child = || self.lives.get(&at).is_some_and(|life| life.is_child_of(caller));
        self.grant_of(caller).is_some() && (at == caller.contid || is_child())
    }
}

impl Life {
    fn is_child_of(&self, caller: &Caller) -> bool {
        self.grant.is_some() && self.parent == caller.contid
    }
}

/// What a grantee says of a container of its own, so that nobody takes it for another one's: name and id begin
/// with the grant's name.
pub(super) fn marked(grant: &str, description: Description) -> Description {
    let mark = |text: Option<String>| {
        text.map(|text| {
            let mut text = format!("{grant}/{text}");
            text.truncate(text.floor_char_boundary(LONGEST_TEXT));
            text
        })
    };
    let Description { id, name, .. } = description;
    Description { id: mark(id), name: mark(name), ..description }
}
