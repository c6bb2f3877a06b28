//! What each container brings into the trail, and how much of that it may: a share of its own, so that one that
//! floods neither fills the disk nor pushes out what others have to say (docs/formats/agent.md, Quotas).
//!
//! ```text
//!  class 2 ─▶ its events a second ─┐
//!  class 1 ─▶ its events a second ─┴▶ its bytes a day ─▶ trail
//!  class 0 ─────────────────────────▶ counted there, and never held back
//! ```
//!
//! Each class has a bucket of its own, as a container that floods with what nobody asked for could else hide what
//! a rule's key asks for; for the same reason the last quarter of a day's bytes is class 1's. Containers made in
//! one draw on the share of the outermost: whoever may make some would have any number of shares else.
//!
//! Only an event that is known to be a container's is held back; what is in doubt passes.

use std::collections::HashMap;
use std::time::Duration;

use engine::containers::LIVES;
use record::Line;
use record::units::ContId;
use record::view::is_violation;
use trail::Class;

use super::super::bucket::{Bucket, Rate};
use super::super::heard::Heard;
use crate::config::ContainerQuota;

/// What an event counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) class: Class,
    pub(super) bytes: u64,
    violation: bool,
}

impl Weight {
    pub(super) fn of(heard: &Heard) -> Weight {
        let line = |line: &Vec<u8>| line.len() as u64 + 1;
        let mut lines = heard.lines.iter().filter_map(|line| Line::parse(line).ok());
        Weight {
            class: heard.class,
            bytes: heard.lines.iter().map(line).sum(),
            violation: heard.class == Class::Integrity && lines.any(|line| is_violation(&line)),
        }
    }
}

/// An event that is a container's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agent) struct Charge {
    pub(super) contid: ContId,
    /// The outermost of those that it was made in.
    pub(super) root: ContId,
    pub(super) weight: Weight,
}

/// What a share has no more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::agent) enum Limit {
    Events,
    Bytes,
}

impl Limit {
    pub(in crate::agent) fn word(self) -> &'static str {
        match self {
            Limit::Events => "events",
            Limit::Bytes => "bytes",
        }
    }
}

/// An event that is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agent) struct Over {
    pub(in crate::agent) contid: ContId,
    pub(in crate::agent) limit: Limit,
    pub(in crate::agent) class: Class,
    pub(in crate::agent) bytes: u64,
}

/// What a container has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::agent) struct Counts {
    /// Of which it is known that they are its, in the trail.
    pub(in crate::agent) events: u64,
    pub(in crate::agent) bytes: u64,
    pub(in crate::agent) violations: u64,
    /// Held back: of class 1, of class 2, and their bytes.
    pub(in crate::agent) over: [u64; 3],
}

/// Shares of their own; the rest has one together.
const MOST: usize = LIVES;

/// How often shares that nobody draws on are looked for, where there is no room.
const SWEEP: Duration = Duration::from_secs(1);

/// What of a container's bytes is kept for class 1: one part of so many.
const KEPT: u64 = 4;

#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    rest: Option<Rate>,
    keyed: Option<Rate>,
    bytes: Option<Rate>,
}

#[derive(Clone, Copy, Debug)]
struct Share {
    rest: Option<Bucket>,
    keyed: Option<Bucket>,
    bytes: Option<Bucket>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Accounts {
    quota: ContainerQuota,
    limits: Limits,
    shares: HashMap<ContId, Share>,
    others: Share,
    swept: Duration,
    counts: HashMap<ContId, Counts>,
}

impl Accounts {
    /// Without a limit.
    pub(super) fn new() -> Accounts {
        let limits = Limits::default();
        Accounts {
            quota: ContainerQuota::default(),
            limits,
            shares: HashMap::new(),
            others: Share::new(&limits, Duration::ZERO),
            swept: Duration::ZERO,
            counts: HashMap::new(),
        }
    }

    /// From now on each may bring so much.
    pub(super) fn limit(&mut self, quota: ContainerQuota, now: Duration) {
        if quota == self.quota {
            return;
        }
        let rate = |rate: Option<u32>| rate.map(Rate::events);
        self.quota = quota;
        self.limits = Limits {
            rest: rate(quota.rest),
            keyed: rate(quota.keyed),
            bytes: quota.bytes.map(Rate::bytes_per_day),
        };
        self.shares.clear();
        self.others = Share::new(&self.limits, now);
    }

    /// Whether there is something that they may not.
    pub(super) fn is_limited(&self) -> bool {
        self.quota != ContainerQuota::default()
    }

    /// Counts an event, and says whether it is held back. One that is in the trail already only counts.
    pub(super) fn admit(&mut self, charge: &Charge, is_there: bool, now: Duration) -> Option<Over> {
        let Charge { contid, root, weight: Weight { class, bytes, violation } } = *charge;
        let limit = self.draw(root, class, bytes, is_there, now);
        if let Some(counts) = self.counts_of(contid) {
            match (limit, class) {
                (None, _) => {
                    counts.events += 1;
                    counts.bytes += bytes;
                }
                (Some(_), class) => {
                    let [keyed, rest, all] = &mut counts.over;
                    *(if class == Class::Rest { rest } else { keyed }) += 1;
                    *all += bytes;
                }
            }
            counts.violations += u64::from(violation);
        }
        limit.map(|limit| Over { contid, limit, class, bytes })
    }

    /// What could not be read was its too.
    pub(super) fn violation(&mut self, contid: ContId) {
        if let Some(counts) = self.counts_of(contid) {
            counts.violations += 1;
        }
    }

    pub(super) fn counts(&self, contid: ContId) -> Counts {
        self.counts.get(&contid).copied().unwrap_or_default()
    }

    /// Forgets what was counted of those that live no more.
    pub(super) fn keep(&mut self, lives: impl Fn(ContId) -> bool) {
        self.counts.retain(|contid, _| lives(*contid));
    }

    fn counts_of(&mut self, contid: ContId) -> Option<&mut Counts> {
        let has_room = self.counts.len() < 2 * MOST || self.counts.contains_key(&contid);
        has_room.then(|| self.counts.entry(contid).or_default())
    }

    fn draw(
        &mut self,
        root: ContId,
        class: Class,
        bytes: u64,
        is_there: bool,
        now: Duration,
    ) -> Option<Limit> {
        if !self.is_limited() {
            return None;
        }
        let limits = self.limits;
        let share = self.share(root, now);
        let events = match class {
            Class::Integrity => None,
            Class::Keyed => limits.keyed.zip(share.keyed.as_mut()),
            Class::Rest => limits.rest.zip(share.rest.as_mut()),
        };
        let mut events = events;
        let mut size = limits.bytes.zip(share.bytes.as_mut());
        if !is_there && class != Class::Integrity {
            if let Some((rate, bucket)) = &mut events
                && !bucket.holds(rate, 1, now)
            {
                return Some(Limit::Events);
            }
            if let Some((rate, bucket)) = &mut size {
                let kept = if class == Class::Rest { rate.most() / KEPT } else { 0 };
                if !bucket.holds(rate, bytes + kept, now) {
                    return Some(Limit::Bytes);
                }
            }
        }
        if let Some((rate, bucket)) = &mut events {
            bucket.take(rate, 1);
        }
        if let Some((rate, bucket)) = &mut size {
            bucket.take(rate, bytes);
        }
        None
    }

    fn share(&mut self, root: ContId, now: Duration) -> &mut Share {
        let limits = self.limits;
        let is_full = self.shares.len() >= MOST && !self.shares.contains_key(&root);
        if is_full && now.saturating_sub(self.swept) >= SWEEP {
            self.swept = now;
            self.shares.retain(|_, share| !share.is_full(&limits, now));
        }
        if is_full && self.shares.len() >= MOST {
            return &mut self.others;
        }
        self.shares.entry(root).or_insert_with(|| Share::new(&limits, now))
    }
}

impl Share {
    fn new(limits: &Limits, now: Duration) -> Share {
        let bucket = |rate: &Option<Rate>| rate.map(|rate| Bucket::new(&rate, now));
        Share {
            rest: bucket(&limits.rest),
            keyed: bucket(&limits.keyed),
            bytes: bucket(&limits.bytes),
        }
    }

    fn is_full(&mut self, limits: &Limits, now: Duration) -> bool {
        let full = |rate: &Option<Rate>, bucket: &mut Option<Bucket>| {
            rate.zip(bucket.as_mut()).is_none_or(|(rate, bucket)| bucket.is_full(&rate, now))
        };
        full(&limits.rest, &mut self.rest)
            && full(&limits.keyed, &mut self.keyed)
            && full(&limits.bytes, &mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn limited(rest: u32, keyed: u32, bytes: u64) -> Accounts {
        let some = |rate| Some(rate).filter(|rate| *rate > 0);
        let quota = ContainerQuota {
            rest: some(rest),
            keyed: some(keyed),
            bytes: Some(bytes).filter(|bytes| *bytes > 0),
        };
        let mut accounts = Accounts::new();
        accounts.limit(quota, Duration::ZERO);
        accounts
    }

    fn charge(contid: u64, root: u64, class: Class, bytes: u64) -> Charge {
        let weight = Weight { class, bytes, violation: false };
        Charge { contid: ContId(contid), root: ContId(root), weight }
    }

    #[test]
    fn a_container_that_floods_is_held_back_and_no_other() {
        let mut accounts = limited(100, 0, 0);
        let mut passed = 0;
        for milli in 0..60_000 {
            let now = Duration::from_millis(milli);
            let over = accounts.admit(&charge(1, 1, Class::Rest, 10), false, now);
            passed += u64::from(over.is_none());
            if milli % 50 == 0 {
                assert_eq!(accounts.admit(&charge(2, 2, Class::Rest, 10), false, now), None);
                // What the other classes of the same one bring is not touched by it.
                for class in [Class::Keyed, Class::Integrity] {
                    assert_eq!(accounts.admit(&charge(1, 1, class, 10), false, now), None);
                }
            }
        }
        // A burst of ten seconds and a minute, to the event.
        assert_eq!(passed, 6_999);
        let counts = accounts.counts(ContId(1));
        assert_eq!(counts.over, [0, 60_000 - passed, (60_000 - passed) * 10]);
        assert_eq!(counts.events, passed + 2 * 1200);
        assert_eq!(accounts.counts(ContId(2)).over, [0; 3]);
    }

    #[test]
    fn what_is_made_in_a_container_has_no_share_of_its_own() {
        let mut accounts = limited(1, 0, 0);
        let passed = (0..1000).filter(|n| {
            let of = charge(10 + n, 1, Class::Rest, 1);
            accounts.admit(&of, false, Duration::ZERO).is_none()
        });
        assert_eq!(passed.count(), 10);
        assert_eq!(accounts.counts(ContId(500)).over, [0, 1, 1], "each is told by its own name");
    }

    #[test]
    fn bytes_are_a_days_and_their_last_quarter_is_for_what_a_key_asks_for() {
        let mut accounts = limited(0, 0, 4 * MIB);
        let now = Duration::from_secs(9);
        let mut add = |class, is_there| {
            accounts.admit(&charge(1, 1, class, MIB / 2), is_there, now).map(|over| over.limit)
        };
        for _ in 0..6 {
            assert_eq!(add(Class::Rest, false), None);
        }
        assert_eq!(add(Class::Rest, false), Some(Limit::Bytes));
        assert_eq!([add(Class::Keyed, false), add(Class::Keyed, false)], [None; 2]);
        assert_eq!(add(Class::Keyed, false), Some(Limit::Bytes));
        // These are never held back, nor what is in the trail already.
        assert_eq!([add(Class::Integrity, false), add(Class::Rest, true)], [None; 2]);
        let hours = now + Duration::from_secs(6 * 3600);
        let mut add = |class| {
            accounts.admit(&charge(1, 1, class, MIB / 2), false, hours).map(|over| over.limit)
        };
        // A quarter of a day later a quarter is there.
        assert_eq!([add(Class::Rest), add(Class::Keyed)], [Some(Limit::Bytes), None]);
    }

    #[test]
    fn shares_and_counts_are_bounded_and_room_is_made_by_the_silent() {
        let mut accounts = limited(1, 0, 0);
        let now = Duration::from_secs(5);
        let most = MOST as u64;
        for id in 0..2 * most + 50 {
            accounts.admit(&charge(id, id, Class::Rest, 1), false, now);
        }
        assert_eq!((accounts.shares.len(), accounts.counts.len()), (MOST, 2 * MOST));
        // Those without a share have one together, which is used up.
        let of = charge(3 * most, 3 * most, Class::Rest, 1);
        assert!(accounts.admit(&of, false, now).is_some());
        assert_eq!(accounts.admit(&of, false, now + Duration::from_secs(11)), None);
        assert_eq!(accounts.shares.len(), 1);
        accounts.keep(|id| id == ContId(7));
        assert_eq!(accounts.counts.len(), 1);
        // Another limit begins anew; the same one changes nothing.
        accounts.limit(accounts.quota, now);
        assert_eq!(accounts.shares.len(), 1);
        accounts.limit(ContainerQuota::default(), now);
        assert!(accounts.shares.is_empty() && !accounts.is_limited());
    }
}
