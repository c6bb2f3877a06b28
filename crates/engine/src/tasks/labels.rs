//! Which container a process belongs to, by time.
//!
//! A label changes only when one is set, and each set has a number of its own, its generation, which
//! grows: what an event tells of an older set than the newest that is known came late, and changes
//! nothing. A set that was taken back ([`Aborted`]) leaves its generation in the children that were born
//! meanwhile; they belong to where the set's target belonged before.

use std::collections::{BTreeMap, VecDeque};

use record::units::ContId;

/// The label that a task carries in the kernel, inherited by what it forks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    /// The container.
    pub contid: ContId,
    /// The number of the set that gave it; 0: none did.
    pub generation: u64,
}

impl Label {
    /// What a task has that nobody labelled.
    pub const UNSET: Label = Label { contid: ContId::UNSET, generation: 0 };
}

/// Sets that were taken back: their generation, and which container their target was in before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aborted {
    before: BTreeMap<u64, ContId>,
    order: VecDeque<u64>,
}

/// Sets taken back that are remembered. Only who may label tasks can make more.
const ABORTED: usize = 1024;

impl Aborted {
    /// It was taken back. True where an older one was forgotten for it.
    pub(crate) fn push(&mut self, generation: u64, before: ContId) -> bool {
        if self.before.insert(generation, before).is_none() {
            self.order.push_back(generation);
        }
        if self.order.len() <= ABORTED {
            return false;
        }
        self.order.pop_front().is_some_and(|oldest| self.before.remove(&oldest).is_some())
    }

    /// The label as it counts.
    pub(crate) fn resolve(&self, label: Label) -> Label {
        match self.before.get(&label.generation) {
            Some(before) => Label { contid: *before, ..label },
            None => label,
        }
    }

    /// All of them, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, ContId)> {
        self.order
            .iter()
            .filter_map(|generation| Some((*generation, *self.before.get(generation)?)))
    }
}

/// The newest, and the one before it: whoever asks does so within seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Labels {
    newest: Option<(u64, Label)>,
    before: Option<Box<(u64, Label)>>,
}

impl Labels {
    /// It had this one at that time, and from then on unless a newer one is known.
    pub(super) fn saw(&mut self, since: u64, label: Label) {
        match &mut self.newest {
            None => self.newest = Some((since, label)),
            Some((known_since, known)) if known.generation == label.generation => {
                *known_since = (*known_since).min(since);
            }
            Some((known_since, known)) if known.generation < label.generation => {
                self.before = Some(Box::new((*known_since, *known)));
                self.newest = Some((since, label));
            }
            Some((known_since, _)) => {
                let is_nearer = |before: &(u64, Label)| before.1.generation < label.generation;
                if since < *known_since && self.before.as_deref().is_none_or(is_nearer) {
                    self.before = Some(Box::new((since, label)));
                }
            }
        }
    }

    /// The one of that time, or the oldest there is, and whether it is of that time.
    pub(super) fn at(&self, at: u64) -> Option<(ContId, bool)> {
        let (since, newest) = self.newest.as_ref()?;
        if *since <= at {
            return Some((newest.contid, true));
        }
        match self.before.as_deref() {
            Some((since, label)) => Some((label.contid, *since <= at)),
            None => Some((newest.contid, false)),
        }
    }

    /// A set was taken back.
    pub(super) fn abort(&mut self, generation: u64, before: ContId) {
        let newest = self.newest.as_mut().map(|(_, label)| label);
        let older = self.before.as_deref_mut().map(|(_, label)| label);
        for label in newest.into_iter().chain(older) {
            if label.generation == generation {
                label.contid = before;
            }
        }
    }
}
