//! Processes that have ended, as what was before their end may be heard after it.

use std::collections::{BTreeSet, VecDeque};

use crate::tasks::{ProcessId, TICK_NS};

/// So many are remembered.
const ENDED: usize = 8192;

#[derive(Debug, Default)]
pub(super) struct Ended {
    /// In the order in which that was heard.
    order: VecDeque<(u64, ProcessId)>,
    set: BTreeSet<ProcessId>,
    forgotten: u64,
}

impl Ended {
    /// Whether it has, as far as `/proc` told when it began.
    pub(super) fn has(&self, id: ProcessId) -> bool {
        let first = ProcessId { start_ns: id.start_ns / TICK_NS * TICK_NS, ..id };
        let last = ProcessId { start_ns: first.start_ns.saturating_add(TICK_NS - 1), ..id };
        self.set.contains(&id) || (id == first && self.set.range(first..=last).next().is_some())
    }

    /// It has, at that time.
    pub(super) fn push(&mut self, at_ns: u64, id: ProcessId) {
        if !self.set.insert(id) {
            return;
        }
        self.order.push_back((at_ns, id));
        if self.order.len() > ENDED
            && let Some((at_ns, oldest)) = self.order.pop_front()
        {
            self.set.remove(&oldest);
            self.forgotten = self.forgotten.max(at_ns);
        }
    }

    /// Ends until then are not all remembered.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }
}
