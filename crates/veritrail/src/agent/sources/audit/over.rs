//! Events of class 2 over the quota of whose they are: left out, and told of by a count.

use std::collections::BTreeMap;
use std::time::Duration;

use trail::Class;

use super::{Input, MARK, millis};
use crate::agent::heard::Heard;
use crate::agent::quota::{Owner, Quota};

/// Owners that are told of by themselves.
const MOST: usize = 16;

/// What was left out and is not told of yet.
pub(super) struct Over {
    quota: Quota,
    /// How many, and between which times in milliseconds since 1970.
    events: BTreeMap<Option<Owner>, (u64, [u64; 2])>,
    told: Duration,
}

impl Over {
    pub(super) fn new(rest_per_second: Option<u32>) -> Over {
        let quota = Quota::new(rest_per_second);
        Over { quota, events: BTreeMap::new(), told: Duration::ZERO }
    }

    /// Whether there is room for an event; one without is counted.
    pub(super) fn admits(&mut self, heard: &Heard, now: Duration) -> bool {
        if heard.class != Class::Rest || self.quota.admits(heard.owner, now) {
            return true;
        }
        let full = self.events.len() >= MOST && !self.events.contains_key(&heard.owner);
        let now = millis();
        let owner = if full { None } else { heard.owner };
        let (events, [_, last]) = self.events.entry(owner).or_insert((0, [now, now]));
        *events += 1;
        *last = now.max(*last);
        false
    }

    /// What is to be told, if it is time.
    pub(super) fn due(&mut self, now: Duration) -> impl Iterator<Item = Input> + use<> {
        let is_due = now.saturating_sub(self.told) >= MARK;
        if is_due {
            self.told = now;
        }
        is_due.then(|| self.rest()).into_iter().flatten()
    }

    /// What is to be told.
    pub(super) fn rest(&mut self) -> impl Iterator<Item = Input> + use<> {
        let events = std::mem::take(&mut self.events).into_iter();
        events.map(|(owner, (events, span))| Input::OverQuota { owner, events, span })
    }
}
