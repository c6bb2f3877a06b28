//! Which containers are in a network namespace, with how many processes, and which were a moment ago.
//!
//! The kernel patches count tasks; here processes are counted, as threads are not told. A thread that
//! entered another namespace by itself is not seen.

use std::collections::{BTreeMap, VecDeque};

use record::units::ContId;

/// By the namespace's inode number. 0 is a namespace that is not known, and nobody is in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Networks {
    of: BTreeMap<u32, Vec<Present>>,
    /// In the order in which that was heard.
    left: VecDeque<Left>,
    /// Of those that left until then not all are remembered.
    forgotten: Option<u64>,
}

/// A container that is in a namespace.
#[derive(Clone, Copy, Debug)]
struct Present {
    id: ContId,
    processes: u32,
    since: u64,
}

/// A container that was.
#[derive(Clone, Copy, Debug)]
struct Left {
    network: u32,
    id: ContId,
    since: u64,
    until: u64,
}

/// Those that left are remembered so many at a time. Whoever asks does so within seconds.
const LEFT: usize = 8192;

/// That somebody left may be heard so much later than that others did.
const DISORDER_NS: u64 = 10_000_000_000;

impl Networks {
    /// A process of the container is in the namespace since then.
    pub(super) fn add(&mut self, network: u32, id: ContId, since: u64) {
        if network == 0 {
            return;
        }
        let list = self.of.entry(network).or_default();
        match list.iter_mut().find(|known| known.id == id) {
            Some(known) => {
                known.processes = known.processes.saturating_add(1);
                known.since = known.since.min(since);
            }
            None => list.push(Present { id, processes: 1, since }),
        }
    }

    /// One that was is no more, from then on.
    pub(super) fn remove(&mut self, network: u32, id: ContId, until: u64) {
        let Some(list) = self.of.get_mut(&network) else { return };
        let Some(at) = list.iter().position(|known| known.id == id) else { return };
        if list[at].processes > 1 {
            list[at].processes -= 1;
            return;
        }
        let Present { since, .. } = list.remove(at);
        if list.is_empty() {
            self.of.remove(&network);
        }
        self.left.push_back(Left { network, id, since, until });
        if self.left.len() > LEFT
            && let Some(oldest) = self.left.pop_front()
        {
            self.forgotten = self.forgotten.max(Some(oldest.until));
        }
    }

    /// Those that were in it at some time between the two, the one that came last first; none where that
    /// is not remembered any more.
    pub(super) fn list_of(&self, network: u32, from: u64, to: u64) -> Option<Vec<ContId>> {
        if self.forgotten.is_some_and(|forgotten| forgotten >= from) {
            return None;
        }
        let present = self.of.get(&network).into_iter().flatten();
        let present =
            present.filter(|known| known.since <= to).map(|known| (known.since, known.id));
        let was = |left: &&Left| left.network == network && left.until >= from && left.since <= to;
        let recent = |left: &&Left| left.until.saturating_add(DISORDER_NS) >= from;
        let left =
            self.left.iter().rev().take_while(recent).filter(was).map(|left| (left.since, left.id));
        let mut both: Vec<(u64, ContId)> = left.chain(present).collect();
        both.sort_by_key(|(since, _)| *since);
        let mut ids = Vec::new();
        for (_, id) in both.into_iter().rev() {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Some(ids)
    }
}
