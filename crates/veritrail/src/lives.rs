//! The lives of containers, as records tell of them: which identifier, from when to when, and what its runtime
//! called it. Pure.
//!
//! ```text
//!  CONTAINER_OP set, VT_CONTAINER begun ──▶ described ──▶ CONTAINER_OP drop ┄┄▶ the same identifier again
//!  ╰─────────────────────────────── what is this life's ───────────────────────╯
//! ```
//!
//! An identifier may be used again: what stands before the beginning of its next life is of this one, as records
//! come a moment after its end too.

use std::collections::HashMap;

use record::units::ContId;
use record::view::{ContainerOp, View};
use record::{EventId, Line, RecordType};

/// A moment of what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Grows as it is read: the leaf in a trail, the line in a log.
    pub(crate) place: u64,
    pub(crate) id: EventId,
}

/// What a runtime says of a container, in the order of VT_CONTAINER.
pub(crate) const TEXTS: [&str; 5] = ["runtime", "id", "name", "image", "digest"];

/// A life of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) contid: ContId,
    /// What told of it first.
    pub(crate) first: Moment,
    /// Whether that is its beginning; else that is not in what was read.
    pub(crate) is_begun: bool,
    /// Its last process has gone.
    pub(crate) ended: Option<Moment>,
    /// The same identifier begins another life.
    pub(crate) next: Option<Moment>,
    /// The container of whoever set it.
    pub(crate) parent: Option<ContId>,
    /// Whoever set it: its process and its name.
    pub(crate) by: Option<(u32, Vec<u8>)>,
    /// Its first process.
    opid: u32,
    /// As [`TEXTS`] names them.
    pub(crate) texts: [Option<Vec<u8>>; TEXTS.len()],
}

impl Life {
    /// What it is called, if anything.
    pub(crate) fn name(&self) -> Option<&[u8]> {
        self.texts[2].as_deref()
    }

    /// Its runtime's id for it, if it has one.
    pub(crate) fn runtime_id(&self) -> Option<&[u8]> {
        self.texts[1].as_deref()
    }

    /// Whether this one begins when that one has ended, or so soon before that is heard.
    fn follows(&self, before: &Life) -> bool {
        let Some(end) = before.ended.or(before.next) else { return false };
        end.place <= self.first.place || end.id.millis < self.first.id.millis + END_IS_HEARD_MS
    }

    /// Whether an event at this place, or where there is none with this stamp, is in this life.
    pub(crate) fn has(&self, place: Option<u64>, millis: u64) -> bool {
        let is_behind = |moment: &Moment| match place {
            Some(place) => moment.place <= place,
            None => moment.id.millis <= millis,
        };
        (!self.is_begun || is_behind(&self.first))
            && !self.next.is_some_and(|next| is_behind(&next))
    }
}

/// So long after the end of a container it may be told.
const END_IS_HEARD_MS: u64 = 2000;

/// Lives that are kept at once: four times as many containers as live at once on a machine.
const MOST: usize = 65_536;

/// The lives of containers, in the order in which they began.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    lives: Vec<Life>,
    /// The latest life of each identifier, in `lives`.
    latest: HashMap<u64, usize>,
    /// Only lives of this name are wanted.
    wanted: Option<Vec<u8>>,
    /// Lives that found no room.
    pub(crate) untold: u64,
}

/// Which lives somebody means by a word.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Named<'a> {
    Nobody,
    /// One, or several that followed each other.
    Lives(Vec<&'a Life>),
    /// Several that it may be.
    Ambiguous(Vec<&'a Life>),
}

impl Lives {
    /// All of them, or those that somebody may mean by `wanted`.
    pub(crate) fn new(wanted: Option<&[u8]>) -> Lives {
        Lives { wanted: wanted.map(<[u8]>::to_vec), ..Lives::default() }
    }

    /// Whether a line may be one that [`Lives::line`] makes something of.
    pub(crate) fn may_tell(line: &[u8]) -> bool {
        memchr::memmem::find(line, b"contid=").is_some()
    }

    /// Takes the next record, which stands at this place.
    pub(crate) fn line(&mut self, place: u64, line: &Line<'_>) {
        let moment = Moment { place, id: line.id() };
        if let Ok(op) = ContainerOp::read(line) {
            self.op(moment, &op);
        } else if line.record_type() == RecordType::VT_CONTAINER {
            self.told(moment, line);
        }
    }

    fn op(&mut self, moment: Moment, op: &ContainerOp<'_>) {
        let old = op.old_contid.direct().next().filter(|id| id.is_set());
        let new = op.contid.direct().next().filter(|id| id.is_set());
        match (op.op, old, new) {
            (b"drop", Some(old), _) => {
                if let Some(life) = self.living(old) {
                    life.ended = Some(moment);
                }
            }
            // Later revisions of the patches say nothing of the result, and nothing at all of a refusal.
            (b"set", _, Some(new)) if op.res != Some(false) && self.living(new).is_none() => {
                let by = op.comm.and_then(|comm| comm.untrusted()).map(|comm| comm.into_owned());
                let by = op.pid.zip(by);
                self.open(new, moment, true, |life| (life.by, life.opid) = (by, op.opid));
            }
            _ => {}
        }
    }

    fn told(&mut self, moment: Moment, line: &Line<'_>) {
        let number = |name: &[u8]| {
            let text = str::from_utf8(line.fields().find_value(name)?.text()).ok()?;
            text.parse::<u64>().ok()
        };
        let Some(contid) = number(b"contid").map(ContId).filter(|id| id.is_set()) else { return };
        let state = line.fields().find_value(b"state").map(|state| state.text());
        match state {
            Some(b"begun") => {
                let opid = number(b"opid").and_then(|opid| u32::try_from(opid).ok()).unwrap_or(0);
                let parent = number(b"parent").map(ContId);
                match self.living(contid) {
                    // An agent that was killed may not have noted that it told this.
                    Some(life) if life.opid == opid => life.parent = parent,
                    _ => self.open(contid, moment, true, |life| {
                        (life.parent, life.opid) = (parent, opid);
                    }),
                }
            }
            Some(b"described") => {
                if !self.latest.contains_key(&contid.0) {
                    self.open(contid, moment, false, |_| {});
                }
                let Some(life) = self.latest(contid) else { return };
                for (text, name) in life.texts.iter_mut().zip(TEXTS) {
                    let value = line.fields().find_value(name.as_bytes());
                    if let Some(value) = value.and_then(|value| value.untrusted()) {
                        *text = Some(value.into_owned());
                    }
                }
            }
            _ => {}
        }
    }

    /// The latest life of an identifier.
    fn latest(&mut self, contid: ContId) -> Option<&mut Life> {
        self.lives.get_mut(*self.latest.get(&contid.0)?)
    }

    /// The same if it has not ended.
    fn living(&mut self, contid: ContId) -> Option<&mut Life> {
        self.latest(contid).filter(|life| life.ended.is_none())
    }

    fn open(&mut self, contid: ContId, first: Moment, is_begun: bool, set: impl FnOnce(&mut Life)) {
        if let Some(before) = self.latest(contid) {
            before.next = Some(first);
        }
        if self.lives.len() >= MOST {
            self.forget();
        }
        if self.lives.len() >= MOST {
            self.latest.remove(&contid.0);
            // What is said of one of these later is of a life that was counted.
            self.untold += u64::from(is_begun);
            return;
        }
        let mut life = Life {
            contid,
            first,
            is_begun,
            ended: None,
            next: None,
            parent: None,
            by: None,
            opid: 0,
            texts: [const { None }; TEXTS.len()],
        };
        set(&mut life);
        self.latest.insert(contid.0, self.lives.len());
        self.lives.push(life);
    }

    /// Forgets the lives that have ended and that nobody means.
    fn forget(&mut self) {
        let Some(wanted) = &self.wanted else { return };
        let is_meant = |life: &Life| {
            life.name() == Some(wanted)
                || life.runtime_id().is_some_and(|id| id.starts_with(wanted))
        };
        self.lives.retain(|life| life.ended.is_none() || is_meant(life));
        self.latest.clear();
        for (at, life) in self.lives.iter().enumerate() {
            self.latest.insert(life.contid.0, at);
        }
    }

    /// All that are known.
    pub(crate) fn all(&self) -> &[Life] {
        &self.lives
    }

    /// Whom somebody means by a name, a runtime's id, or the beginning of one.
    pub(crate) fn named(&self, word: &[u8]) -> Named<'_> {
        let is_it = |life: &&Life| life.name() == Some(word) || life.runtime_id() == Some(word);
        let lives: Vec<&Life> = self.lives.iter().filter(is_it).collect();
        if !lives.is_empty() {
            // They stand in the order in which they began.
            let follow = lives.windows(2).all(|pair| pair[1].follows(pair[0]));
            return if follow { Named::Lives(lives) } else { Named::Ambiguous(lives) };
        }
        let begins = |life: &&Life| life.runtime_id().is_some_and(|id| id.starts_with(word));
        let lives: Vec<&Life> = self.lives.iter().filter(begins).collect();
        match lives.split_first() {
            None => Named::Nobody,
            Some((first, rest)) if rest.iter().all(|l| l.runtime_id() == first.runtime_id()) => {
                Named::Lives(lives)
            }
            Some(_) => Named::Ambiguous(lives),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lives(wanted: Option<&str>, text: &str) -> Lives {
        let mut lives = Lives::new(wanted.map(str::as_bytes));
        for (place, line) in text.lines().enumerate() {
            let line = format!("type={line}");
            lives.line(place as u64, &Line::parse(line.as_bytes()).unwrap());
        }
        lives
    }

    fn ids(named: Named<'_>) -> (bool, Vec<(u64, u64)>) {
        let (is_sure, lives) = match named {
            Named::Nobody => (true, Vec::new()),
            Named::Lives(lives) => (true, lives),
            Named::Ambiguous(lives) => (false, lives),
        };
        (is_sure, lives.into_iter().map(|life| (life.contid.0, life.first.place)).collect())
    }

    const STORY: &str = "\
CONTAINER_OP msg=audit(1.000:1): op=set opid=9 old-contid=18446744073709551615 contid=5 pid=1 comm=\"sh\" res=1
VT_CONTAINER msg=audit(1.000:1): state=begun contid=5 opid=9 parent=4
VT_CONTAINER msg=audit(1.000:2): state=described contid=5 runtime=\"runc\" id=\"ab12\" name=\"web\"
CONTAINER_OP msg=audit(2.000:3): op=set opid=10 old-contid=18446744073709551615 contid=6 pid=1 comm=\"sh\" res=0
CONTAINER_OP msg=audit(3.000:4): op=drop opid=9 old-contid=5 contid=18446744073709551615 res=1
CONTAINER_OP msg=audit(4.000:5): op=set opid=11 old-contid=18446744073709551615 contid=7 pid=1 comm=\"sh\" res=1
VT_CONTAINER msg=audit(4.000:6): state=described contid=7 id=\"ab34\" name=\"web\"
CONTAINER_OP msg=audit(5.000:7): op=set opid=12 old-contid=18446744073709551615 contid=5 pid=1 comm=\"sh\" res=1
VT_CONTAINER msg=audit(5.000:8): state=described contid=5 id=\"cd\" name=\"db\"
VT_CONTAINER msg=audit(6.000:9): state=described contid=8 id=\"ce\" name=\"db\"
VT_CONTAINER msg=audit(7.000:10): state=begun contid=7 opid=11 parent=3
";

    #[test]
    fn an_identifier_has_lives_and_a_name_means_those_that_follow_each_other() {
        let lives = lives(None, STORY);
        let all: Vec<_> = lives.all().iter().map(|life| (life.contid.0, life.is_begun)).collect();
        assert_eq!(all, [(5, true), (7, true), (5, true), (8, false)]);
        let first = &lives.all()[0];
        assert_eq!(first.parent, Some(ContId(4)));
        assert_eq!(first.by, Some((1, b"sh".to_vec())));
        assert_eq!(first.ended.map(|end| end.place), Some(4));
        // The second telling of the same beginning is no other life.
        assert_eq!(lives.all()[1].parent, Some(ContId(3)));
        assert_eq!(ids(lives.named(b"web")), (true, vec![(5, 0), (7, 5)]));
        assert_eq!(ids(lives.named(b"ab1")), (true, vec![(5, 0)]));
        assert_eq!(ids(lives.named(b"ab")), (false, vec![(5, 0), (7, 5)]));
        assert_eq!(ids(lives.named(b"db")), (false, vec![(5, 7), (8, 9)]));
        assert_eq!(ids(lives.named(b"c")), (false, vec![(5, 7), (8, 9)]));
        assert_eq!(lives.named(b"x"), Named::Nobody);
    }

    #[test]
    fn what_stands_before_the_next_life_is_of_this_one() {
        let lives = lives(None, STORY);
        let [first, .., again, unseen] = lives.all() else { panic!() };
        for (place, is_first) in [(0, true), (4, true), (6, true), (7, false), (9, false)] {
            assert_eq!(first.has(Some(place), 0), is_first, "{place}");
            assert_eq!(again.has(Some(place), 0), !is_first, "{place}");
        }
        // In a log by the time.
        assert!(first.has(None, 4999) && !first.has(None, 5000) && !first.has(None, 999));
        assert!(unseen.has(Some(0), 0));
    }

    #[test]
    fn lives_that_nobody_means_make_room() {
        let mut text = String::new();
        for n in 0..MOST + 10 {
            let millis = n * 10;
            text.push_str(&format!(
                "CONTAINER_OP msg=audit({millis}.000:1): op=set opid=9 old-contid=-1 contid={n} pid=1 comm=\"sh\" res=1\n\
                 VT_CONTAINER msg=audit({millis}.000:2): state=described contid={n} id=\"i{n}\"\n\
                 CONTAINER_OP msg=audit({millis}.000:3): op=drop opid=9 old-contid={n} contid=-1 res=1\n"
            ));
        }
        let all = lives(None, &text);
        assert_eq!((all.all().len(), all.untold), (MOST, 10));
        let name = format!("i{}", MOST + 9);
        let some = lives(Some(&name), &text);
        assert!(some.untold == 0 && some.all().len() < 20);
        assert_eq!(ids(some.named(name.as_bytes())).1.len(), 1);
    }
}
