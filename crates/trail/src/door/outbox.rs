//! What this process has handed in and does not yet know to be durable.
//!
//! Entries leave at the front when they are durable, and stay until then whoever the
//! writer is: a broken connection costs sending them again, never losing them.

use std::collections::{BTreeMap, VecDeque};

use std::time::{Duration, Instant};

use super::DoorError;
use super::frame::{Refusal, class_number};
use super::pack::pack;
use crate::{Class, Entry, Lines, Own};

/// How many entries were lost, by class.
type Lost = [u64; 3];

/// How many bytes of entries wait at most in one process.
pub(super) const CAPACITY: usize = 16 << 20;

/// What an entry costs beside its packed: the queue's own memory, so that ten million
/// empty entries are not free.
const OVERHEAD: usize = 64;

/// One entry on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) seq: u64,
    pub(super) class: Class,
    pub(super) packed: Vec<u8>,
}

impl Item {
    pub(super) fn cost(&self) -> usize {
        cost(&self.packed)
    }
}

fn cost(packed: &[u8]) -> usize {
    packed.len() + OVERHEAD
}

/// Whether a queue of `capacity` that holds `bytes` takes `more`: a quarter is kept for
/// the first class (design section 4, Priorities), and an empty queue takes anything.
pub(super) fn admits(bytes: usize, more: usize, class: Class, capacity: usize) -> bool {
    let limit = if class == Class::Integrity { capacity } else { capacity - capacity / 4 };
    bytes == 0 || bytes + more <= limit
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// In order of `seq`, which is the order of submission.
    waiting: VecDeque<Item>,
    bytes: usize,
    /// The last number given to an entry.
    last: u64,
    /// Everything up to here is durable or refused.
    settled: u64,
    refused: BTreeMap<u64, DoorError>,
    lost: Lost,
    /// The gap record that is on its way, what it says, and when it was made.
    gap: Option<(u64, Lost, Instant)>,
    /// Whether the last chance to tell was taken.
    closing: bool,
}

/// How long at least between two gap records: on a full disk they are refused as well.
const GAP_INTERVAL: Duration = Duration::from_secs(1);

impl Outbox {
    /// Everything up to here is durable or refused.
    pub(super) fn settled(&self) -> u64 {
        self.settled
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.settled == self.last
    }

    /// How many were lost, or are if this ends now: neither durable nor told in a gap record that is.
    pub(super) fn unaccounted(&self) -> u64 {
        let told = |(seq, lost, _): &(u64, Lost, Instant)| (*seq > self.settled).then_some(*lost);
        let untold = self.gap.as_ref().and_then(told).unwrap_or_default();
        self.last - self.settled + self.lost.iter().chain(&untold).sum::<u64>()
    }

    /// Whether there is room for an entry.
    pub(super) fn admits(&self, class: Class, packed: &[u8]) -> bool {
        admits(self.bytes, cost(packed), class, CAPACITY)
    }

    /// Takes an entry and gives it its number.
    pub(super) fn push(&mut self, class: Class, packed: Vec<u8>) -> u64 {
        self.last += 1;
        let item = Item { seq: self.last, class, packed };
        self.bytes += item.cost();
        self.waiting.push_back(item);
        self.last
    }

    /// Counts an entry that found no room.
    pub(super) fn drop_one(&mut self, class: Class) {
        self.lost[usize::from(class_number(class))] += 1;
    }

    /// Hands in a record of what was lost, if something was and it is time; it is time when the
    /// door is `closing`, once.
    pub(super) fn push_gap(&mut self, now: Instant, closing: bool) {
        let early = |(_, _, made): &(u64, Lost, Instant)| now - *made < GAP_INTERVAL;
        let last = closing && !std::mem::replace(&mut self.closing, closing);
        if self.lost == [0; 3] || (!last && self.gap.as_ref().is_some_and(early)) {
            return;
        }
        let lost = std::mem::take(&mut self.lost);
        let [integrity, keyed, rest] = lost;
        let body =
            format!("source=queue integrity={integrity} keyed={keyed} rest={rest} count=exact");
        let own = [Own { kind: "VT_GAP", body: body.as_bytes() }];
        let entry =
            Entry { class: Class::Integrity, ticket: None, lines: Lines::Own(&own), tail: &[] };
        let seq = pack(&entry).ok().map(|packed| self.push(Class::Integrity, packed));
        self.gap = seq.map(|seq| (seq, lost, now));
    }

    /// Whether something waits that nobody has taken.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The entries after `seq`, oldest first.
    pub(super) fn after(&self, seq: u64) -> impl Iterator<Item = &Item> {
        let start = self.waiting.partition_point(|item| item.seq <= seq);
        self.waiting.range(start..)
    }

    /// Moves all entries out for the writer in this very process, which settles them or
    /// takes everything down with it. They count as waiting until they are settled.
    pub(super) fn take(&mut self) -> VecDeque<Item> {
        std::mem::take(&mut self.waiting)
    }

    /// Entries that were taken are settled.
    pub(super) fn settle_taken(&mut self, seq: u64, bytes: usize) {
        self.bytes -= bytes;
        self.settled = self.settled.max(seq);
    }

    /// Everything up to `seq` is durable. A number never given out says nothing.
    pub(super) fn settle(&mut self, seq: u64) {
        while let Some(item) = self.waiting.pop_front_if(|item| item.seq <= seq) {
            self.bytes -= item.cost();
        }
        self.settled = self.settled.max(seq.min(self.last));
    }

    /// The entry `seq` will never be durable. Call before it is settled.
    pub(super) fn refuse(&mut self, seq: u64, class: Class, refusal: Refusal, reason: String) {
        // One that was told and is sent again is lost once.
        if seq > self.last || self.refused.contains_key(&seq) {
            return;
        }
        let error = match refusal {
            Refusal::Entry => DoorError::Refused { reason },
            Refusal::NoRoom => {
                match self.gap {
                    Some((gap, lost, _)) if gap == seq => {
                        self.lost = std::array::from_fn(|class| self.lost[class] + lost[class]);
                    }
                    _ => self.drop_one(class),
                }
                DoorError::NoRoom
            }
        };
        self.refused.insert(seq, error);
        // Refusals that nobody asks for must not fill the memory.
        while self.refused.len() > 1024 {
            self.refused.pop_first();
        }
    }

    /// The class of an entry that waits.
    pub(super) fn class(&self, seq: u64) -> Option<Class> {
        self.after(seq.saturating_sub(1)).next().filter(|item| item.seq == seq).map(|i| i.class)
    }

    /// The first entry from `seq` on that was refused.
    pub(super) fn first_refusal(&self, seq: u64) -> Option<&DoorError> {
        self.refused.range(seq..).next().map(|(_, error)| error)
    }

    /// Why the entry was refused.
    pub(super) fn refusal(&self, seq: u64) -> Option<&DoorError> {
        self.refused.get(&seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_kept_for_the_first_class() {
        let mut outbox = Outbox::default();
        let packed = vec![b'x'; (1 << 20) - OVERHEAD];
        let mut taken = [0; 2];
        for (class, taken) in [Class::Rest, Class::Integrity].into_iter().zip(&mut taken) {
            while outbox.admits(class, &packed) {
                outbox.push(class, packed.clone());
                *taken += 1;
            }
        }
        assert_eq!(taken, [12, 4]);
        outbox.settle(16);
        assert!(outbox.is_empty());
        assert!(outbox.admits(Class::Rest, &vec![0; 2 * CAPACITY]), "or it would wait for ever");
    }

    #[test]
    fn what_is_settled_leaves_and_what_is_not_is_sent_again() {
        let mut outbox = Outbox::default();
        for packed in ["a", "b", "c", "d"] {
            outbox.push(Class::Rest, packed.into());
        }
        let seqs = |outbox: &Outbox, after| outbox.after(after).map(|i| i.seq).collect::<Vec<_>>();
        assert_eq!(seqs(&outbox, 0), [1, 2, 3, 4]);
        outbox.settle(2);
        assert_eq!((outbox.settled, outbox.last), (2, 4));
        assert_eq!(seqs(&outbox, 0), [3, 4]);
        assert_eq!(seqs(&outbox, 3), [4]);
        outbox.settle(1);
        outbox.refuse(4, Class::Rest, Refusal::Entry, "no".into());
        outbox.settle(u64::MAX);
        assert_eq!((outbox.settled(), outbox.bytes), (4, 0));
        let refusal = outbox.refusal(4).unwrap().to_string();
        assert_eq!(refusal, "the entry cannot be appended: no");
        assert!(outbox.refusal(3).is_none());
    }

    #[test]
    fn what_was_lost_is_said_until_it_is_durable() {
        let gap = |outbox: &Outbox| {
            let packed = outbox.after(0).last().unwrap().packed.clone();
            String::from_utf8(packed[2 + 4 + 1..].to_vec()).unwrap()
        };
        let mut outbox = Outbox::default();
        let start = Instant::now();
        outbox.push_gap(start, false);
        assert!(!outbox.has_waiting(), "nothing was lost");
        outbox.drop_one(Class::Keyed);
        outbox.drop_one(Class::Rest);
        outbox.drop_one(Class::Rest);
        outbox.push_gap(start, false);
        assert_eq!(gap(&outbox), "VT_GAPsource=queue integrity=0 keyed=1 rest=2 count=exact");
        outbox.refuse(1, Class::Integrity, Refusal::NoRoom, String::new());
        outbox.settle(1);
        outbox.push_gap(start + GAP_INTERVAL / 2, false);
        assert!(!outbox.has_waiting(), "not so soon");
        outbox.push_gap(start + GAP_INTERVAL, false);
        assert_eq!(gap(&outbox), "VT_GAPsource=queue integrity=0 keyed=1 rest=2 count=exact");
        outbox.settle(2);
        outbox.push_gap(start + 3 * GAP_INTERVAL, false);
        assert!(!outbox.has_waiting(), "said and durable");
        assert_eq!(outbox.unaccounted(), 0);
    }

    #[test]
    fn a_door_that_closes_tells_at_once_what_was_lost_but_not_for_ever() {
        let mut outbox = Outbox::default();
        let start = Instant::now();
        outbox.drop_one(Class::Integrity);
        outbox.push_gap(start, false);
        outbox.settle(1);
        outbox.drop_one(Class::Integrity);
        outbox.drop_one(Class::Integrity);
        assert_eq!(outbox.unaccounted(), 2);
        outbox.push_gap(start, true);
        assert!(outbox.has_waiting(), "there is no later");
        outbox.refuse(2, Class::Integrity, Refusal::NoRoom, String::new());
        outbox.settle(2);
        outbox.push_gap(start, true);
        assert!(!outbox.has_waiting(), "or a full disk keeps the process for ever");
        assert_eq!(outbox.unaccounted(), 2);
    }
}
