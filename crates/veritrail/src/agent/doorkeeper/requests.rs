//! Calls on attributes of the tree, which the agent judges: passed on, and answered when it has.
//!
//! ```text
//!  a process ── write(2) ──▶ doorkeeper ── Asked ──▶ agent ── its record is durable ─┐
//!      ◀──────────────────────── reply ◀──────────────── Answered ◀──────────────────┘
//! ```
//!
//! Whoever calls waits, and may keep the request open by standing still: how many wait has an end, and
//! so has the time. What cannot be answered fails with EAGAIN; whether it was done is in the trail.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use host::fuse::Errno;
use host::fuse_tree::{Caller, Operation, Reply};

use super::wire::{Answered, Asked};
use crate::agent::peer::Peer;

/// A call on the label of a task.
#[derive(Debug)]
pub(super) struct Request {
    /// The task whose label it is, as the path names it.
    pub(super) target: u32,
    /// When that one started, in clock ticks since boot.
    pub(super) started: u64,
    pub(super) caller: Caller,
    pub(super) operation: Operation,
    pub(super) reply: Reply,
}

/// Requests that wait at once, and of one peer.
const MOST: usize = 256;
const MOST_OF_ONE: usize = 64;

/// How long one waits. The trail answers within a second, or is not written at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// Those that wait, by number.
#[derive(Debug, Default)]
pub(super) struct Requests {
    waiting: BTreeMap<u64, (Instant, Peer, Reply)>,
    last: u64,
}

impl Requests {
    /// What the agent is to be asked; none where too many wait, and then it has failed.
    pub(super) fn ask(&mut self, now: Instant, request: Request) -> Option<Asked> {
        let Request { target, started, caller, operation, reply } = request;
        let peer = Peer::of(caller.uid, caller.tid);
        if !has_room(self.waiting.values().map(|(_, peer, _)| peer), &peer) {
            return None;
        }
        self.last += 1;
        self.waiting.insert(self.last, (now + PATIENCE, peer, reply));
        let write = match operation {
            Operation::Read => None,
            Operation::Write { offset, bytes } => Some((offset, bytes)),
        };
        let Caller { tid, boottime_ns, .. } = caller;
        Some(Asked { id: self.last, target, started, caller: tid, asked_ns: boottime_ns, write })
    }

    /// The agent has answered. One that has waited too long has failed already.
    pub(super) fn answer(&mut self, answered: Answered) {
        let Some((.., reply)) = self.waiting.remove(&answered.id) else { return };
        match answered.outcome {
            Ok(value) => reply.done(&value),
            Err(errno) => reply.failed(Errno::from_raw_os_error(errno.clamp(1, 4095))),
        }
    }

    /// Lets those fail that have waited too long.
    pub(super) fn look(&mut self, now: Instant) {
        while let Some(oldest) = self.waiting.first_entry()
            && oldest.get().0 <= now
        {
            oldest.remove();
        }
    }

    /// Nobody will answer those that wait.
    pub(super) fn abandon(&mut self) {
        self.waiting.clear();
    }
}

/// Whether one more of this peer may wait.
fn has_room<'a>(waiting: impl ExactSizeIterator<Item = &'a Peer>, peer: &Peer) -> bool {
    waiting.len() < MOST && waiting.filter(|other| *other == peer).count() < MOST_OF_ONE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_the_room() {
        let of = |uid| Peer::of(uid, 0);
        let mut waiting = vec![of(1); MOST_OF_ONE - 1];
        assert!(has_room(waiting.iter(), &of(1)));
        waiting.push(of(1));
        assert!(!has_room(waiting.iter(), &of(1)) && has_room(waiting.iter(), &of(2)));
        waiting.extend((2..).map(of).take(MOST - MOST_OF_ONE));
        assert!(!has_room(waiting.iter(), &of(0)));
    }
}
