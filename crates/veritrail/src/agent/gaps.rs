//! What was not heard, until it is on record: every loss becomes a `VT_GAP`.
//!
//! Losses of one source within a second become one record, so that a flood is not answered with
//! another one.

use std::collections::BTreeMap;
use std::time::Duration;

use record::units::ContId;
use record::write::Body;
use trail::Class;

use super::containers::{Limit, Over};
use super::inbox::Lost;
use super::quota::Owner;

/// Where something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// In the socket of the audit stream: its buffer was full.
    Audit,
    /// In the kernel, before the stream: its own counter `lost` has risen.
    Kernel,
    /// The same where the agent hears by multicast: the counter counts also what the kernel could not deliver
    /// to the audit daemon, or keeps for none any more, which has come.
    Delivery,
    /// On the way by auditd, which hands events on: nobody was connected, or its queue was full. Events,
    /// by the kernel's serials.
    Auditd,
    /// In our plugin of auditd: it had no room for more while no agent took what it has.
    Plugin,
    /// In the ring of the kernel log: it was overwritten before it was read.
    Kmsg,
    /// In the socket of device events.
    Uevent,
    /// In the kernel, on the way from programs that tell of processes: their ring was full.
    Bpf,
    /// On the way to those who find out what lies at a place: too many places at once, or one of which
    /// nothing was to be learnt in ten seconds.
    Explain,
}

impl Place {
    fn word(self) -> &'static str {
        match self {
            Place::Audit => "audit",
            Place::Kernel | Place::Delivery => "kernel",
            Place::Auditd => "auditd",
            Place::Plugin => "plugin",
            Place::Kmsg => "kmsg",
            Place::Uevent => "uevent",
            Place::Bpf => "bpf",
            Place::Explain => "explain",
        }
    }
}

/// What is to be told.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// Records by place; none where nobody counts them. With the time before, in milliseconds since
    /// 1970, at which the source was last heard, and that of the last loss.
    places: BTreeMap<Place, (Option<u64>, [u64; 2])>,
    inbox: Lost,
    inbox_span: Option<[u64; 2]>,
    /// Events over their quota, by whose they are; those of no known owner, or of too many, by none.
    quota: BTreeMap<Option<Owner>, (u64, [u64; 2])>,
    /// The same of containers.
    containers: BTreeMap<(ContId, Limit), HeldBack>,
    /// Which of these is told of next.
    next: Option<(ContId, Limit)>,
    refused: u64,
    told: Option<Duration>,
}

/// What of a container's was held back.
#[derive(Clone, Copy, Debug)]
struct HeldBack {
    keyed: u64,
    rest: u64,
    bytes: u64,
    span: [u64; 2],
}

/// Owners that are told of by themselves, in a second.
const MOST_OWNERS: usize = 16;

/// Containers that are told of in a second. What is left is told later, and no container's is ever told as
/// another's.
const MOST_CONTAINERS: usize = 256;

/// How long losses are gathered.
const TOGETHER: Duration = Duration::from_secs(1);

impl Gaps {
    /// So many records were lost; none: nobody knows how many. `span` are the times between which it
    /// was, in milliseconds since 1970.
    pub(super) fn note(&mut self, place: Place, records: Option<u64>, span: [u64; 2]) {
        let [from, to] = span;
        let (count, [begin, end]) = self.places.entry(place).or_insert((Some(0), [from, to]));
        *count = count.zip(records).map(|(sum, more)| sum.saturating_add(more));
        *begin = from.min(*begin);
        *end = to.max(*end);
    }

    /// Our own queue had no room for these.
    pub(super) fn note_inbox(&mut self, (lost, span): (Lost, Option<[u64; 2]>)) {
        for (sum, more) in self.inbox.iter_mut().zip(lost) {
            *sum += more;
        }
        let both = self.inbox_span.zip(span);
        let joined = both.map(|([a, b], [c, d])| [a.min(c), b.max(d)]);
        self.inbox_span = joined.or(self.inbox_span).or(span);
    }

    /// So many events of the rest were over their owner's quota.
    pub(super) fn note_quota(&mut self, owner: Option<Owner>, events: u64, span: [u64; 2]) {
        let full = self.quota.len() >= MOST_OWNERS && !self.quota.contains_key(&owner);
        let owner = if full { None } else { owner };
        let [from, to] = span;
        let (count, [begin, end]) = self.quota.entry(owner).or_insert((0, span));
        *count += events;
        (*begin, *end) = (from.min(*begin), to.max(*end));
    }

    /// An event of a container was over its quota, at `at` in milliseconds since 1970.
    pub(super) fn note_container(&mut self, over: &Over, at: u64) {
        let none = HeldBack { keyed: 0, rest: 0, bytes: 0, span: [at, at] };
        let held_back = self.containers.entry((over.contid, over.limit)).or_insert(none);
        *(if over.class == Class::Rest { &mut held_back.rest } else { &mut held_back.keyed }) += 1;
        held_back.bytes += over.bytes;
        let [begin, end] = &mut held_back.span;
        (*begin, *end) = (at.min(*begin), at.max(*end));
    }

    /// What is told of containers now, each in its turn.
    fn take_containers(&mut self, most: usize) -> Vec<Body> {
        let mut later = match self.next {
            Some(next) => self.containers.split_off(&next),
            None => BTreeMap::new(),
        };
        let mut bodies = Vec::new();
        while bodies.len() < most
            && let Some(((contid, limit), held_back)) =
                later.pop_first().or_else(|| self.containers.pop_first())
        {
            let HeldBack { keyed, rest, bytes, span } = held_back;
            let body = Body::new()
                .word("source", "quota")
                .word("contid", contid)
                .word("limit", limit.word())
                .word("keyed", keyed)
                .word("rest", rest)
                .word("bytes", bytes)
                .word("count", "exact");
            bodies.push(spanned(body, span));
        }
        self.next =
            later.first_key_value().or(self.containers.first_key_value()).map(|(key, _)| *key);
        self.containers.append(&mut later);
        bodies
    }

    /// No trail takes so many events: they are longer than an entry can be.
    pub(super) fn note_refused(&mut self, events: u64) {
        self.refused += events;
    }

    /// The bodies of what is to be told, if it is time; `closing`: there is no later.
    pub(super) fn due(&mut self, now: Duration, closing: bool) -> Vec<Body> {
        let none = self.places.is_empty()
            && self.inbox == Lost::default()
            && self.quota.is_empty()
            && self.containers.is_empty()
            && self.refused == 0;
        let early = self.told.is_some_and(|told| now.saturating_sub(told) < TOGETHER);
        if none || (early && !closing) {
            return Vec::new();
        }
        self.told = Some(now);
        let of_place = |(place, (records, [from, to])): (Place, (Option<u64>, [u64; 2]))| {
            let body = Body::new().word("source", place.word());
            let body = match records {
                Some(events) if place == Place::Auditd => {
                    body.word("events", events).word("count", "at-most")
                }
                Some(records) => {
                    let count = if place == Place::Delivery { "at-most" } else { "exact" };
                    body.word("records", records).word("count", count)
                }
                None => body.word("count", "unknown"),
            };
            spanned(body, [from, to])
        };
        let mut bodies: Vec<Body> =
            std::mem::take(&mut self.places).into_iter().map(of_place).collect();
        for (owner, (events, span)) in std::mem::take(&mut self.quota) {
            let body = Body::new().word("source", "quota");
            let body = match owner {
                Some(Owner { auid, uid }) => body.word("auid", auid).word("uid", uid),
                None => body,
            };
            bodies.push(spanned(body.word("rest", events).word("count", "exact"), span));
        }
        let most = if closing { usize::MAX } else { MOST_CONTAINERS };
        bodies.extend(self.take_containers(most));
        let lost = std::mem::take(&mut self.inbox);
        let span = self.inbox_span.take();
        if lost != Lost::default() {
            let [integrity, keyed, rest] = lost;
            let body = Body::new()
                .word("source", "inbox")
                .word("integrity", integrity)
                .word("keyed", keyed)
                .word("rest", rest)
                .word("count", "exact");
            bodies.push(match span {
                Some(span) => spanned(body, span),
                None => body,
            });
        }
        let refused = std::mem::take(&mut self.refused);
        if refused > 0 {
            let body = Body::new().word("source", "entry").word("events", refused);
            bodies.push(body.word("count", "exact"));
        }
        bodies
    }
}

fn spanned(body: Body, [from, to]: [u64; 2]) -> Body {
    let stamp = |millis| record::Stamp { millis };
    body.word("from", stamp(from)).word("to", stamp(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_of_a_second_are_one_record_for_each_place() {
        let mut gaps = Gaps::default();
        let second = Duration::from_secs(1);
        assert!(gaps.due(second, true).is_empty());
        gaps.note(Place::Audit, Some(3), [1000, 2000]);
        let texts = |gaps: &mut Gaps, now, closing| {
            let text = |body: Body| String::from_utf8(body.as_bytes().to_vec()).unwrap();
            gaps.due(now, closing).into_iter().map(text).collect::<Vec<_>>()
        };
        assert_eq!(
            texts(&mut gaps, second, false),
            ["source=audit records=3 count=exact from=1.000 to=2.000"]
        );
        gaps.note(Place::Audit, Some(3), [2000, 3000]);
        gaps.note(Place::Audit, Some(4), [2500, 4000]);
        gaps.note(Place::Kmsg, Some(4), [1, 2]);
        gaps.note(Place::Kmsg, None, [1, 2]);
        gaps.note_inbox(([0, 1, 1], Some([5000, 6000])));
        gaps.note_inbox(([0, 0, 1], Some([5500, 7000])));
        let owner = Some(Owner { auid: 1000, uid: 33 });
        gaps.note_quota(owner, 3, [1000, 2000]);
        gaps.note_quota(None, 1, [1, 1]);
        gaps.note_quota(owner, 4, [500, 1500]);
        assert_eq!(texts(&mut gaps, second * 3 / 2, false), [""; 0]);
        assert_eq!(
            texts(&mut gaps, second * 3 / 2, true),
            [
                "source=audit records=7 count=exact from=2.000 to=4.000",
                "source=kmsg count=unknown from=0.001 to=0.002",
                "source=quota rest=1 count=exact from=0.001 to=0.001",
                "source=quota auid=1000 uid=33 rest=7 count=exact from=0.500 to=2.000",
                "source=inbox integrity=0 keyed=1 rest=2 count=exact from=5.000 to=7.000",
            ]
        );
        assert!(gaps.due(9 * second, false).is_empty());
    }

    #[test]
    fn containers_are_told_of_by_their_own_number_each_in_its_turn() {
        let mut gaps = Gaps::default();
        let over = |contid, limit, class| Over { contid: ContId(contid), limit, class, bytes: 10 };
        gaps.note_container(&over(7, Limit::Events, Class::Rest), 2000);
        gaps.note_container(&over(7, Limit::Events, Class::Keyed), 1000);
        gaps.note_container(&over(7, Limit::Events, Class::Rest), 1500);
        gaps.note_container(&over(7, Limit::Bytes, Class::Keyed), 9000);
        let texts = |gaps: &mut Gaps, second| {
            let text = |body: Body| String::from_utf8(body.as_bytes().to_vec()).unwrap();
            gaps.due(Duration::from_secs(second), false).into_iter().map(text).collect::<Vec<_>>()
        };
        assert_eq!(
            texts(&mut gaps, 1),
            [
                "source=quota contid=7 limit=events keyed=1 rest=2 bytes=30 count=exact from=1.000 to=2.000",
                "source=quota contid=7 limit=bytes keyed=1 rest=0 bytes=10 count=exact from=9.000 to=9.000",
            ]
        );
        // More than are told in a second, and those that were told come again: nobody waits for ever.
        let mut told = BTreeMap::new();
        let most = MOST_CONTAINERS as u64;
        for second in 2..8 {
            for contid in 0..2 * most + 9 {
                gaps.note_container(&over(contid, Limit::Events, Class::Rest), 1000);
            }
            let texts = texts(&mut gaps, second);
            assert_eq!(texts.len(), MOST_CONTAINERS);
            for text in texts {
                let contid = text.split(' ').nth(1).unwrap().to_owned();
                let rest = text.split(" rest=").nth(1).unwrap().split(' ').next().unwrap();
                *told.entry(contid).or_insert(0) += rest.parse::<u64>().unwrap();
            }
        }
        assert_eq!(told.len() as u64, 2 * most + 9);
        let left: u64 = gaps.containers.values().map(|held_back| held_back.rest).sum();
        assert_eq!(told.values().sum::<u64>() + left, 6 * (2 * most + 9));
    }
}
