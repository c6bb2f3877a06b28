//! Whose an event is: the containers that its records name, and which of them somebody means.

use std::io::Write;

use record::{Fields, Line, RecordType};

use super::filter::digits;
use super::source::Sources;
use crate::json;
use crate::lives::{Life, Lives, Named};
use crate::outcome::{Failure, Kind};

/// A container that is searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meant {
    /// An identifier, whichever lives it had.
    Identifier(u64),
    /// One life of one.
    Life(Box<Life>),
}

impl Meant {
    pub(super) fn contid(&self) -> u64 {
        match self {
            Meant::Identifier(contid) => *contid,
            Meant::Life(life) => life.contid.0,
        }
    }
}

/// The containers that a record is about themselves; the parents that follow one behind carets are not.
pub(crate) fn containers<'a>(line: &Line<'a>) -> impl Iterator<Item = u64> + use<'a> {
    let kind = line.effective_type();
    let is_op = kind == RecordType::CONTAINER_OP;
    let tells = is_op
        || matches!(kind, RecordType::CONTAINER_ID | RecordType::VT_CONTAINER | RecordType::VT_GAP);
    let value = |key: &[u8], so: bool| so.then(|| line.fields().find_value(key)).flatten();
    let left = value(b"old-contid", is_op);
    let tagged = line.own_tail().and_then(|tail| Fields::new(tail).find_value(b"CONTID"));
    let listed = [value(b"contid", tells), tagged].into_iter().flatten();
    // Where nothing was left there is nothing to say.
    let left = left.into_iter().flat_map(|value| ids(value.text())).filter(|id| *id != u64::MAX);
    listed.flat_map(|value| ids(value.text())).chain(left)
}

fn ids(list: &[u8]) -> impl Iterator<Item = u64> {
    // `4^2^1`, an older spelling: what follows the first is ancestors.
    let own = |item| <[u8]>::split(item, |b| *b == b'^').next();
    list.split(|b| *b == b',').filter_map(own).filter_map(digits)
}

/// Where an event stands in its trail, and its time.
pub(crate) fn place(event: &[Line<'_>]) -> (Option<u64>, u64) {
    let millis = event.first().map_or(0, |line| line.stamp().millis);
    (event.iter().find_map(json::leaf).map(|leaf| leaf.0), millis)
}

/// Whether an event is of one of these.
pub(super) fn is_of(meant: &[Meant], event: &[Line<'_>]) -> bool {
    let (leaf, millis) = place(event);
    let here = |one: &&Meant| match one {
        Meant::Identifier(_) => true,
        Meant::Life(life) => life.has(leaf, millis),
    };
    let is_meant = |id| meant.iter().filter(here).any(|one| one.contid() == id);
    event.iter().flat_map(containers).any(is_meant)
}

/// Whom `word` means: a number the identifier, anything else a container that the records of its registration
/// call so.
pub(crate) fn meant(word: &str, sources: &Sources) -> Result<Vec<Meant>, Failure> {
    if word.bytes().all(|b| b.is_ascii_digit())
        && let Ok(contid) = word.parse()
    {
        return Ok(vec![Meant::Identifier(contid)]);
    }
    if let Some(why) = sources.why_not_twice() {
        let what = format!("no container can be looked up by the name `{word}`: {why}");
        return Err(Failure::new(Kind::Usage, what).hint("give its number, or name one trail"));
    }
    let mut lives = Lives::new(Some(word.as_bytes()));
    sources.lines(Lives::may_tell, |place, line| lives.line(place, line))?;
    if lives.untold > 0 {
        let _ = writeln!(
            std::io::stderr(),
            "veritrail: of {} containers nothing could be kept: `{word}` may be one of them",
            lives.untold
        );
    }
    match lives.named(word.as_bytes()) {
        Named::Nobody => {
            Err(Failure::new(Kind::Refused, format!("no container on record is called `{word}`"))
                .hint("`veritrail report containers` lists those that are"))
        }
        Named::Ambiguous(lives) => {
            let what = format!("`{word}` may be any of {} containers{}", lives.len(), list(&lives));
            Err(Failure::new(Kind::Usage, what)
                .hint("give the number, or more of the id; --start and --end do not choose one"))
        }
        Named::Lives(lives) => {
            if lives.len() > 1 {
                let _ = writeln!(
                    std::io::stderr(),
                    "veritrail: `{word}` was {} containers, one after the other{}",
                    lives.len(),
                    list(&lives)
                );
            }
            Ok(lives.into_iter().cloned().map(|life| Meant::Life(Box::new(life))).collect())
        }
    }
}

/// So many are listed one by one.
const LISTED: usize = 20;

/// A line for each, with its times.
fn list(lives: &[&Life]) -> String {
    let mut text = String::new();
    for life in lives.iter().take(LISTED) {
        let time = |moment: crate::lives::Moment| {
            json::time(moment.id).unwrap_or_else(|| "no time".to_owned())
        };
        let from = if life.is_begun { time(life.first) } else { "?".to_owned() };
        let to = life.ended.or(life.next).map_or_else(|| "now".to_owned(), time);
        let shown = |text: Option<&[u8]>| text.map_or("-".into(), |t| t.escape_ascii().to_string());
        let (name, id) = (shown(life.name()), shown(life.runtime_id()));
        text.push_str(&format!("\n  {}  {from} to {to}  name {name}, id {id}", life.contid));
    }
    if lives.len() > LISTED {
        text.push_str(&format!("\n  and {} more", lives.len() - LISTED));
    }
    text
}
