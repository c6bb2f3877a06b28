//! One failure, seen by up to three sources: told once.
//!
//! For each failure the kernel may write a log line, send a device event and write an audit record;
//! any of them can be missing (rate limit, the first hundred only, auditing off, a full buffer) and
//! they arrive in any order. Failures repeat: a block that is read twice fails twice. So this is a
//! matching of multisets and not a flag per block:
//!
//! ```text
//!              kmsg   uevent  audit
//!   failure 1   x       x       x        one occurrence, complete
//!   failure 2           x       x        the log was rate limited
//!   failure 3           x                the audit record was lost: told from the device event
//! ```
//!
//! A sighting joins the oldest occurrence of the same device, kind and number that this source has
//! not seen yet and that is near enough in time; else it is a failure of its own.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use record::EventId;
use record::violation::EventOp;

use super::DeviceNumber;
use crate::attribute::Fault;

/// Occurrences that are held at once. Beyond, the one that would be decided first is decided early.
const MOST: usize = 8192;

/// Of them, those that a sighting must be compared with.
const MOST_OF_A_KEY: usize = 256;

/// Log line and device event of one failure are sent by the kernel one after the other.
const NEAR: Duration = Duration::from_millis(500);

/// An audit record may come so much later: it waits for the end of its event.
const LATE: Duration = Duration::from_secs(10);

/// Who saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Witness {
    Audit(EventId),
    Uevent,
    Kmsg,
}

/// What happened at most once per line of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    op: EventOp,
    /// [`NO_DEVICE`] for what the kernel log tells without one.
    dev: DeviceNumber,
    /// None for hash blocks: the audit record names another number than the others.
    number: Option<u64>,
}

/// Stands for a device that the source does not name.
pub(crate) const NO_DEVICE: DeviceNumber = (0, 0);

impl Key {
    fn of(fault: &Fault) -> Key {
        let op = fault.op;
        match op {
            EventOp::VerifyMetadata => Key { op, dev: fault.dev, number: None },
            EventOp::MacJournal | EventOp::MacSuperblock | EventOp::IntegrityReplayJournal => {
                Key { op, dev: NO_DEVICE, number: None }
            }
            _ => Key { op, dev: fault.dev, number: fault.number },
        }
    }
}

#[derive(Clone, Debug)]
struct Occurrence {
    first: Duration,
    fault: Fault,
    audit: Option<EventId>,
    uevent: bool,
    kmsg: bool,
    /// When it is to be told from what has been seen; none once it was.
    decide: Option<Duration>,
    told: bool,
    forget: Duration,
    /// Data blocks below its hash block, where that is known.
    covers: Option<Range<u64>>,
}

/// What is known about a failure when its time is up.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) fault: Fault,
    /// The kernel's own event, if it came.
    pub(crate) audit: Option<EventId>,
    pub(crate) uevent: bool,
    /// It was told from another source, and the kernel's own event came only then.
    pub(crate) told: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Sightings {
    open: HashMap<Key, Vec<(u64, Occurrence)>>,
    /// By the time of what is next to do about it.
    times: BTreeMap<(Duration, u64), Key>,
    next: u64,
    early: VecDeque<Decided>,
}

impl Sightings {
    /// Notes a sighting. What it opens is decided after `wait`; a failure that gets its audit record
    /// is decided at once.
    pub(crate) fn note(
        &mut self,
        now: Duration,
        witness: Witness,
        fault: Fault,
        covers: Option<Range<u64>>,
        wait: Duration,
    ) {
        let key = Key::of(&fault);
        let list = self.open.entry(key).or_default();
        if let Some((id, one)) =
            list.iter_mut().find(|(_, one)| one.takes(now, witness, &fault, covers.as_ref()))
        {
            let before = (one.next_time(), *id);
            one.join(now, witness, &fault, covers);
            let after = (one.next_time(), *id);
            self.times.remove(&before);
            self.times.insert(after, key);
            return;
        }
        let id = self.next;
        self.next += 1;
        let one = Occurrence::new(now, witness, fault, covers, wait);
        self.times.insert((one.next_time(), id), key);
        list.push((id, one));
        let oldest_of_key = list.first().filter(|_| list.len() > MOST_OF_A_KEY);
        let early = match oldest_of_key {
            Some((id, one)) => Some((one.next_time(), *id)),
            None if self.times.len() > MOST => self.times.keys().next().copied(),
            None => None,
        };
        if let Some((time, id)) = early {
            let decided = self.take(time, id);
            self.early.extend(decided);
        }
    }

    /// Whether nothing is being matched.
    pub(crate) fn is_empty(&self) -> bool {
        self.times.is_empty() && self.early.is_empty()
    }

    /// When [`Sightings::poll`] next has something.
    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        if !self.early.is_empty() {
            return Some(Duration::ZERO);
        }
        self.times.keys().next().map(|(time, _)| *time)
    }

    /// The next failure whose time is up.
    pub(crate) fn poll(&mut self, now: Duration) -> Option<Decided> {
        if let Some(decided) = self.early.pop_front() {
            return Some(decided);
        }
        loop {
            let (time, id) = self.times.keys().next().copied().filter(|(time, _)| *time <= now)?;
            if let Some(decided) = self.decide(time, id) {
                return Some(decided);
            }
        }
    }

    /// Decides an occurrence and keeps it for sightings to come, or forgets one that was decided.
    fn decide(&mut self, time: Duration, id: u64) -> Option<Decided> {
        let key = *self.times.get(&(time, id))?;
        let one = self.open.get_mut(&key)?.iter_mut().find(|(other, _)| *other == id);
        match one {
            Some((_, one)) if one.decide.is_some() && one.forget > time => {
                let decided = one.decided();
                one.decide = None;
                let after = one.next_time();
                self.times.remove(&(time, id));
                self.times.insert((after, id), key);
                Some(decided)
            }
            _ => self.take(time, id),
        }
    }

    /// Forgets an occurrence; gives it if it was not decided yet.
    fn take(&mut self, time: Duration, id: u64) -> Option<Decided> {
        let key = self.times.remove(&(time, id))?;
        let list = self.open.get_mut(&key)?;
        let at = list.iter().position(|(other, _)| *other == id)?;
        let (_, one) = list.remove(at);
        if list.is_empty() {
            self.open.remove(&key);
        }
        one.decide.is_some().then(|| one.decided())
    }
}

impl Occurrence {
    fn new(
        now: Duration,
        witness: Witness,
        fault: Fault,
        covers: Option<Range<u64>>,
        wait: Duration,
    ) -> Occurrence {
        let audit = match witness {
            Witness::Audit(event) => Some(event),
            _ => None,
        };
        Occurrence {
            first: now,
            fault,
            audit,
            uevent: witness == Witness::Uevent,
            kmsg: witness == Witness::Kmsg,
            decide: Some(now + wait),
            told: false,
            forget: now + wait + if audit.is_some() { NEAR } else { LATE },
            covers,
        }
    }

    fn join(&mut self, now: Duration, witness: Witness, fault: &Fault, covers: Option<Range<u64>>) {
        self.fault.hash_block = self.fault.hash_block.or(fault.hash_block);
        self.fault.mapped = self.fault.mapped.or(fault.mapped);
        if self.fault.dev == NO_DEVICE {
            self.fault.dev = fault.dev;
        }
        self.covers = self.covers.take().or(covers);
        match witness {
            Witness::Uevent => self.uevent = true,
            Witness::Kmsg => self.kmsg = true,
            Witness::Audit(event) => {
                self.audit = Some(event);
                self.fault.number = fault.number;
                self.told = self.decide.is_none();
                self.decide = Some(now);
            }
        }
        // All is here that was waited for: which device, and which hash block.
        let metadata = self.fault.op == EventOp::VerifyMetadata;
        let complete = self.uevent || (metadata && self.kmsg);
        if self.audit.is_some() && self.decide.is_some() && complete {
            self.decide = Some(now);
        }
    }

    fn next_time(&self) -> Duration {
        self.decide.unwrap_or(self.forget)
    }

    fn decided(&self) -> Decided {
        Decided { fault: self.fault, audit: self.audit, uevent: self.uevent, told: self.told }
    }

    /// Whether a sighting can be of this failure.
    fn takes(
        &self,
        now: Duration,
        witness: Witness,
        fault: &Fault,
        covers: Option<&Range<u64>>,
    ) -> bool {
        let (free, near) = match witness {
            Witness::Audit(_) => (self.audit.is_none(), now < self.forget),
            Witness::Uevent => (!self.uevent, now <= self.first + NEAR),
            Witness::Kmsg => (!self.kmsg, now <= self.first + NEAR),
        };
        let agree = |ours: Option<u64>, theirs: Option<u64>| {
            ours.zip(theirs).is_none_or(|(ours, theirs)| ours == theirs)
        };
        let mapped =
            self.fault.mapped.zip(fault.mapped).is_none_or(|(ours, theirs)| ours == theirs);
        // The data block that was looked up hangs below the hash block that is bad.
        let asked = self.fault.number.or(fault.number);
        let below = self.covers.as_ref().or(covers).zip(asked).is_none_or(|(covers, asked)| {
            fault.op != EventOp::VerifyMetadata || covers.contains(&asked)
        });
        let device =
            self.fault.dev == fault.dev || self.fault.dev == NO_DEVICE || fault.dev == NO_DEVICE;
        free && near && device && agree(self.fault.hash_block, fault.hash_block) && below && mapped
    }
}
