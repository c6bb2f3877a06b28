//! Attempts of those who may not. Whoever is refused can try again at once, and what is recorded of it takes
//! the room of other violations: so each caller has some told one by one in a second, and the rest is
//! counted and told as one.

use std::collections::BTreeMap;
use std::time::Duration;

use record::units::ContId;
use record::write::Body;

use super::lives::Caller;
use super::{Moment, Record, since_boot};

/// So many of one caller are told one by one in a second.
const EACH: u32 = 16;

/// So many callers are told apart in a second; the others count as one.
const CALLERS: usize = 64;

const SECOND: Duration = Duration::from_secs(1);

/// Who was refused: what the kernel says of it, as it could choose any name. Root of a container could choose any of
/// many users, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Container(ContId),
    User(u32),
}

/// Those of the second that goes on.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    began: Duration,
    callers: BTreeMap<Option<Who>, u32>,
}

impl Refusals {
    /// Counts one; whether it is told by itself.
    pub(super) fn admits(&mut self, now: Moment, caller: &Caller) -> bool {
        if self.due().is_none() && since_boot(now) >= self.began + SECOND {
            *self = Refusals { began: since_boot(now), callers: BTreeMap::new() };
        }
        let who = Some(match caller.contid {
            contid if contid.is_set() => Who::Container(contid),
            _ => Who::User(caller.uid),
        });
        let is_full = self.callers.len() >= CALLERS && !self.callers.contains_key(&who);
        let count = self.callers.entry(if is_full { None } else { who }).or_default();
        *count = count.saturating_add(1);
        *count <= EACH
    }

    /// When what was only counted is to be told; none where all was told.
    pub(super) fn due(&self) -> Option<Duration> {
        self.callers.values().any(|count| *count > EACH).then(|| self.began + SECOND)
    }

    /// What was only counted, if it is time.
    pub(super) fn take(&mut self, now: Moment) -> Vec<Record> {
        if self.due().is_none_or(|due| due > since_boot(now)) {
            return Vec::new();
        }
        let callers = std::mem::take(&mut self.callers);
        let untold = callers.into_iter().filter(|(_, count)| *count > EACH);
        untold.map(|(who, count)| ("VT_GAP", body(who, count - EACH))).collect()
    }
}

fn body(who: Option<Who>, refused: u32) -> Body {
    let body = Body::new().word("source", "refusals");
    let body = match who {
        Some(Who::Container(contid)) => body.word("contid", contid),
        Some(Who::User(uid)) => body.word("uid", uid).word("contid", ContId::UNSET),
        None => body,
    };
    body.word("records", refused).word("count", "exact")
}
