//! What events say of each container, counted. Pure, and as large as the containers are many, not the trail.

use std::collections::{BTreeMap, HashMap};

use record::view::{ContainerOp, View, is_violation};
use record::{Line, RecordType};

use crate::lives::{Life, TEXTS};
use crate::verbs::search::{containers, place};

/// The types of records that a report is made of.
pub(super) const TYPES: [RecordType; 4] = [
    RecordType::CONTAINER_ID,
    RecordType::CONTAINER_OP,
    RecordType::VT_CONTAINER,
    RecordType::VT_GAP,
];

/// What was counted of one life of a container, or of one that was seen in events alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Events that concern it.
    pub(super) events: u64,
    /// The times of the first and the last of them, in ms since 1970.
    pub(super) span: Option<[u64; 2]>,
    /// The same by the type of their first record.
    pub(super) types: BTreeMap<String, u64>,
    /// By how sure it is that they are its.
    pub(super) sure: BTreeMap<String, u64>,
    /// Violations by the type of the record that tells of each.
    pub(super) violations: BTreeMap<String, u64>,
    /// System calls that failed.
    pub(super) failed: u64,
    /// Sets of this identifier, or of another for a process of it, that were refused.
    pub(super) refused: u64,
    /// Kinds of namespaces that a process of it has left.
    pub(super) drift: BTreeMap<String, u64>,
    /// Events over its quota by class, and their bytes.
    pub(super) over_quota: BTreeMap<String, u64>,
}

/// A container that a hook could not register.
#[derive(Clone, Debug)]
pub(super) struct Unregistered {
    pub(super) millis: u64,
    pub(super) reason: Vec<u8>,
    pub(super) texts: [Option<Vec<u8>>; TEXTS.len()],
}

/// Words of others that are counted apart, in one map; what comes behind is `other`.
const MOST_WORDS: usize = 64;
/// Identifiers without a life on record that are counted apart.
const MOST_STRANGERS: usize = 4096;
/// Gaps, and containers that were not registered, that are kept.
const MOST_GAPS: usize = 65_536;

/// All of it.
#[derive(Debug)]
pub(super) struct Tally<'l> {
    lives: &'l [Life],
    /// The lives of each identifier, in their order.
    by_id: HashMap<u64, Vec<usize>>,
    /// As `lives`.
    pub(super) counts: Vec<Counts>,
    /// Identifiers that no record says the beginning of.
    pub(super) strangers: BTreeMap<u64, Counts>,
    pub(super) unregistered: Vec<Unregistered>,
    /// When something began to be lost, and when that ended, ms since 1970; each in its order once sorted.
    lost_from: Vec<u64>,
    lost_to: Vec<u64>,
    /// Events of containers, gaps, and failed registrations for which there was no room.
    pub(super) untold: u64,
}

impl<'l> Tally<'l> {
    pub(super) fn new(lives: &'l [Life]) -> Tally<'l> {
        let mut by_id: HashMap<u64, Vec<usize>> = HashMap::new();
        for (at, life) in lives.iter().enumerate() {
            by_id.entry(life.contid.0).or_default().push(at);
        }
        let counts = vec![Counts::default(); lives.len()];
        Tally {
            lives,
            by_id,
            counts,
            strangers: BTreeMap::new(),
            unregistered: Vec::new(),
            lost_from: Vec::new(),
            lost_to: Vec::new(),
            untold: 0,
        }
    }

    /// Takes an event.
    pub(super) fn event(&mut self, event: &[Line<'_>]) {
        for line in event {
            if line.record_type() == RecordType::VT_GAP {
                self.gap(line);
            }
        }
        // One that nobody is in is none.
        let mut ids: Vec<u64> =
            event.iter().flat_map(containers).filter(|id| *id != u64::MAX).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return;
        }
        let (leaf, millis) = place(event);
        let seen = Seen::of(event, millis);
        for id in ids {
            let of_id = self.by_id.get(&id).map_or(&[][..], Vec::as_slice);
            // The last of the lives that it may be in: what was said before the first is the first's.
            let last = of_id.iter().rev().find(|at| self.lives[**at].has(leaf, millis));
            let counts = match last.or(of_id.first()) {
                Some(at) => self.counts.get_mut(*at),
                None if self.strangers.contains_key(&id)
                    || self.strangers.len() < MOST_STRANGERS =>
                {
                    Some(self.strangers.entry(id).or_default())
                }
                None => None,
            };
            match counts {
                Some(counts) => counts.add(&seen, id),
                None => self.untold += 1,
            }
        }
    }

    fn gap(&mut self, line: &Line<'_>) {
        let fields = || line.fields();
        let millis = |key: &[u8]| {
            let text = str::from_utf8(fields().find_value(key)?.text()).ok()?;
            let (seconds, millis) = text.split_once('.')?;
            seconds.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(millis.parse().ok()?)
        };
        let text = |key: &[u8]| fields().find_value(key)?.untrusted().map(|text| text.into_owned());
        let told = line.stamp().millis;
        let (from, to) = (millis(b"from").unwrap_or(told), millis(b"to").unwrap_or(told));
        let is_hook = fields().find_value(b"source").is_some_and(|v| v.text() == b"oci-hook");
        if self.lost_from.len() + self.unregistered.len() >= MOST_GAPS {
            self.untold += 1;
        } else if is_hook {
            let texts = TEXTS.map(|name| text(name.as_bytes()));
            let reason = text(b"reason").unwrap_or_default();
            self.unregistered.push(Unregistered { millis: from, reason, texts });
        } else {
            self.lost_from.push(from);
            self.lost_to.push(to.max(from));
        }
    }

    /// There is no further event.
    pub(super) fn finish(&mut self) {
        self.lost_from.sort_unstable();
        self.lost_to.sort_unstable();
    }

    /// How many losses there were between two times, once all events are in.
    pub(super) fn gaps_between(&self, [from, to]: [u64; 2]) -> usize {
        let begun = self.lost_from.partition_point(|at| *at <= to);
        begun - self.lost_to.partition_point(|at| *at < from).min(begun)
    }
}

/// What one event says, of whomever.
struct Seen<'e, 'a> {
    event: &'e [Line<'a>],
    millis: u64,
    kind: String,
    violation: Option<String>,
    failed: bool,
    op: Option<ContainerOp<'a>>,
}

impl<'e, 'a> Seen<'e, 'a> {
    fn of(event: &'e [Line<'a>], millis: u64) -> Seen<'e, 'a> {
        let failed = event.iter().any(|line| {
            line.record_type() == RecordType::SYSCALL
                && line.fields().find_value(b"success").is_some_and(|value| value.text() == b"no")
        });
        Seen {
            event,
            millis,
            kind: event.first().map_or_else(String::new, kind),
            violation: event.iter().find(|line| is_violation(line)).map(kind),
            failed,
            op: event.iter().find_map(|line| ContainerOp::read(line).ok()),
        }
    }
}

impl Counts {
    fn add(&mut self, seen: &Seen<'_, '_>, id: u64) {
        self.events += 1;
        let [first, last] = self.span.unwrap_or([seen.millis; 2]);
        self.span = Some([first.min(seen.millis), last.max(seen.millis)]);
        count(&mut self.types, &seen.kind);
        if let Some(violation) = &seen.violation {
            count(&mut self.violations, violation);
        }
        self.failed += u64::from(seen.failed);
        let is_refused = |op: &ContainerOp<'_>| op.op == b"set" && op.res == Some(false);
        self.refused += u64::from(seen.op.as_ref().is_some_and(is_refused));
        for line in seen.event.iter().filter(|line| containers(line).any(|of| of == id)) {
            let word = |key: &[u8]| line.fields().find_value(key).map(|value| value.text());
            match line.effective_type() {
                RecordType::CONTAINER_ID => {
                    let sure = word(b"VT_CONF").unwrap_or(b"certain");
                    count(&mut self.sure, &sure.escape_ascii().to_string());
                }
                RecordType::VT_CONTAINER if word(b"state") == Some(b"drift") => {
                    let namespace = word(b"ns").unwrap_or(b"?");
                    count(&mut self.drift, &namespace.escape_ascii().to_string());
                }
                RecordType::VT_GAP if word(b"source") == Some(b"quota") => {
                    for key in ["keyed", "rest", "bytes"] {
                        let number =
                            word(key.as_bytes()).and_then(|text| str::from_utf8(text).ok());
                        let number = number.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
                        if number > 0 {
                            let sum = self.over_quota.entry(key.to_owned()).or_default();
                            *sum = sum.saturating_add(number);
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

fn count(words: &mut BTreeMap<String, u64>, word: &str) {
    if let Some(number) = words.get_mut(word) {
        *number += 1;
        return;
    }
    let word = if words.len() < MOST_WORDS { word } else { "other" };
    *words.entry(word.to_owned()).or_default() += 1;
}

/// A record's type as it is shown.
fn kind(line: &Line<'_>) -> String {
    let kind = line.effective_type();
    let unnamed = || line.type_text().escape_ascii().take(64).map(char::from).collect();
    kind.name().map_or_else(unnamed, str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lives::Lives;

    fn lines(text: &str) -> Vec<Vec<u8>> {
        text.lines().map(|line| format!("type={line}").into_bytes()).collect()
    }

    #[test]
    fn each_life_has_what_concerned_it() {
        let story = lines(
            "CONTAINER_OP msg=audit(1.000:1): op=set opid=9 old-contid=-1 contid=5 pid=1 comm=\"sh\" res=1
CONTAINER_OP msg=audit(2.000:2): op=set opid=9 old-contid=5 contid=6 pid=1 comm=\"sh\" res=0
VT_CONTAINER msg=audit(3.000:3): state=drift contid=5 opid=9 ns=net old=1 new=2 comm=\"x\"
CONTAINER_OP msg=audit(4.000:4): op=drop opid=9 old-contid=5 contid=18446744073709551615 res=1
CONTAINER_OP msg=audit(9.000:9): op=set opid=8 old-contid=-1 contid=5 pid=1 comm=\"sh\" res=1",
        );
        fn parse(line: &[u8]) -> Line<'_> {
            Line::parse(line).unwrap()
        }
        let mut lives = Lives::new(None);
        for (at, line) in story.iter().enumerate() {
            lives.line(at as u64, &Line::parse(line).unwrap());
        }
        let mut tally = Tally::new(lives.all());
        for line in &story {
            tally.event(&[Line::parse(line).unwrap()]);
        }
        let call = lines(
            "SYSCALL msg=audit(2.500:10): arch=c000003e syscall=2 success=no exit=-13 pid=9
CONTAINER_ID msg=audit(2.500:10): contid=5,^7,8 VT_CONF=ambiguous",
        );
        tally.event(&call.iter().map(|line| parse(line)).collect::<Vec<_>>());
        let violation = lines(
            "DM_EVENT msg=audit(2.600:11): module=verity op=verify-data dev=7:1 sector=10 res=0
CONTAINER_ID msg=audit(2.600:11): contid=5 VT_CONF=inferred",
        );
        tally.event(&violation.iter().map(|line| parse(line)).collect::<Vec<_>>());
        let nobody =
            lines("CONTAINER_ID msg=audit(2.600:12): contid=18446744073709551615 VT_CONF=unknown");
        tally.event(&nobody.iter().map(|line| parse(line)).collect::<Vec<_>>());
        for gap in lines(
            "VT_GAP msg=audit(5.000:13): source=audit records=3 count=exact from=3.500 to=4.500
VT_GAP msg=audit(3.600:15): source=quota contid=5 limit=events keyed=0 rest=4 bytes=90 count=exact from=3.400 to=3.450
VT_GAP msg=audit(6.000:14): source=oci-hook reason='no agent' containers=1 count=exact runtime=\"runc\" id=\"ab\" from=5.000 to=5.000",
        ) {
            tally.event(&[parse(&gap)]);
        }
        tally.finish();
        let first = &tally.counts[0];
        let words = |words: &[(&str, u64)]| {
            words.iter().map(|(word, n)| ((*word).to_owned(), *n)).collect::<BTreeMap<_, _>>()
        };
        assert_eq!((first.events, first.span), (7, Some([1000, 4000])));
        assert_eq!(first.over_quota, words(&[("rest", 4), ("bytes", 90)]));
        let types = [
            ("CONTAINER_OP", 3),
            ("DM_EVENT", 1),
            ("SYSCALL", 1),
            ("VT_CONTAINER", 1),
            ("VT_GAP", 1),
        ];
        assert_eq!(first.types, words(&types));
        assert_eq!(first.violations, words(&[("DM_EVENT", 1)]));
        assert_eq!(first.sure, words(&[("ambiguous", 1), ("inferred", 1)]));
        assert_eq!(first.drift, words(&[("net", 1)]));
        assert_eq!((first.failed, first.refused), (1, 1));
        // The second life has its beginning alone, and what no set tells of is not a life.
        assert_eq!((tally.counts[1].events, tally.counts[1].refused), (1, 0));
        assert_eq!(tally.strangers.keys().collect::<Vec<_>>(), [&6, &8]);
        assert_eq!(tally.gaps_between([4000, 9000]), 1);
        assert_eq!(tally.gaps_between([4501, 9000]), 0);
        assert_eq!(tally.unregistered[0].reason, b"no agent");
        assert_eq!(tally.unregistered[0].texts[1].as_deref(), Some(&b"ab"[..]));
    }

    #[test]
    fn what_others_choose_has_bounds() {
        let mut tally = Tally::new(&[]);
        for id in 0..MOST_STRANGERS + 3 {
            let line = format!("type=T{id} msg=audit(1.000:1): x");
            let own = format!("type=CONTAINER_ID msg=audit(1.000:1): contid={id},9999999");
            tally.event(&[
                Line::parse(line.as_bytes()).unwrap(),
                Line::parse(own.as_bytes()).unwrap(),
            ]);
        }
        assert_eq!((tally.strangers.len(), tally.untold), (MOST_STRANGERS, 4));
        let all = &tally.strangers[&9_999_999];
        assert_eq!(all.types.len(), MOST_WORDS + 1);
        assert_eq!(all.types["other"], all.events - MOST_WORDS as u64);
    }
}
