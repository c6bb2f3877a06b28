//! Which containers are in a network namespace, and with how many processes.
//!
//! The kernel patches count tasks; here processes are counted, as threads are not told. A thread that
//! entered another namespace by itself is not seen.

use std::collections::BTreeMap;

use record::units::ContId;

/// By the namespace's inode number. 0 is a namespace that is not known, and nobody is in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Networks {
    of: BTreeMap<u32, Vec<(ContId, u32)>>,
}

impl Networks {
    /// A process of the container is in the namespace.
    pub(super) fn add(&mut self, namespace: u32, id: ContId) {
        if namespace == 0 {
            return;
        }
        let list = self.of.entry(namespace).or_default();
        match list.iter_mut().find(|(known, _)| *known == id) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => list.push((id, 1)),
        }
    }

    /// One that was is no more.
    pub(super) fn remove(&mut self, namespace: u32, id: ContId) {
        let Some(list) = self.of.get_mut(&namespace) else { return };
        let Some(at) = list.iter().position(|(known, _)| *known == id) else { return };
        match &mut list[at].1 {
            count @ 2.. => *count -= 1,
            _ => {
                list.remove(at);
            }
        }
        if list.is_empty() {
            self.of.remove(&namespace);
        }
    }

    /// Those that are in it, the one that came last first.
    pub(super) fn list(&self, namespace: u32) -> Vec<ContId> {
        let list = self.of.get(&namespace).into_iter().flatten();
        list.rev().map(|(id, _)| *id).collect()
    }
}
