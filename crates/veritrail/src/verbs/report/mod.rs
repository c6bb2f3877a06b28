//! `veritrail report`: what is on record, summed up.

mod tally;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use record::EventId;
use serde::Serialize;

use self::tally::{Counts, TYPES, Tally, Unregistered};
use super::search::{Bound, Clock, Manner, Meant, Sources, events, meant};
use super::trail::print_json;
use crate::json::{Text, time};
use crate::lives::{Life, Lives, TEXTS};
use crate::outcome::{Failure, Kind, Outcome};

/// The reports that there are.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Containers(ContainersArgs),
}

impl Verb {
    /// Does it.
    pub(crate) fn run(&self, clock: &Clock, out: &mut dyn Write) -> Result<Outcome, Failure> {
        match self {
            Verb::Containers(args) => args.run(clock, out),
        }
    }
}

/// What happened in each container: events by type, violations, what was refused, drift, gaps
///
/// One report for each life of an identifier, in the order in which they began: an identifier may be used
/// again. Events are counted for every container that they name, by the type of their first record;
/// `attributed` says how sure that is (docs/formats/containers.md). Violations are DM_EVENT, INTEGRITY_* that
/// failed, denials of IPE and VT_FEC; `failed` are system calls, `refused` sets of an identifier. Gaps are
/// losses while it lived, whosever the lost events were. Containers that a hook could not register stand at the
/// end. The trail is read twice, so that a pipe cannot be reported on. Exits 1 when there is no container.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail report containers
  veritrail report containers --contid web --start today
  veritrail report containers --trail /srv/trail --json | jq 'select(.violations != {}) | .name'")]
pub(crate) struct ContainersArgs {
    /// Read this trail instead of /var/log/veritrail
    #[arg(long, value_name = "DIR", conflicts_with = "input")]
    trail: Option<PathBuf>,
    /// Read this audit log, or audit.log and its rotated files in this directory, instead of a trail
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Only this one: its identifier, name, or runtime's id, as for search
    #[arg(long, value_name = "N|NAME")]
    contid: Option<String>,
    /// Count events from this time on (the forms of search)
    #[arg(long, num_args = 1..=2, value_names = ["DATE", "TIME"])]
    start: Vec<String>,
    /// Up to this time
    #[arg(long, num_args = 1..=2, value_names = ["DATE", "TIME"])]
    end: Vec<String>,
    /// Print one JSON object for each
    #[arg(long)]
    json: bool,
}

/// One container (docs/formats/containers.md).
#[derive(Default, Serialize)]
struct Row<'a> {
    contid: Option<String>,
    name: Option<Text<'a>>,
    runtime: Option<Text<'a>>,
    id: Option<Text<'a>>,
    image: Option<Text<'a>>,
    digest: Option<Text<'a>>,
    parent: Option<String>,
    began: Option<String>,
    ended: Option<String>,
    by: Option<By<'a>>,
    first: Option<String>,
    last: Option<String>,
    events: u64,
    types: BTreeMap<String, u64>,
    attributed: BTreeMap<String, u64>,
    violations: BTreeMap<String, u64>,
    failed: u64,
    refused: u64,
    drift: BTreeMap<String, u64>,
    over_quota: BTreeMap<String, u64>,
    gaps: usize,
    /// Why no hook could register it.
    unregistered: Option<Text<'a>>,
}

#[derive(Serialize)]
struct By<'a> {
    pid: u32,
    comm: Text<'a>,
}

impl ContainersArgs {
    fn run(&self, clock: &Clock, out: &mut dyn Write) -> Result<Outcome, Failure> {
        let span = [self.bound(Bound::Start, clock)?, self.bound(Bound::End, clock)?];
        let (trails, inputs) = (self.trail.as_slice(), self.input.as_slice());
        let sources = Sources::find(trails, inputs, true, Manner::Own)?;
        if let Some(why) = sources.why_not_twice() {
            return Err(Failure::new(Kind::Usage, why).hint("give a trail or a file"));
        }
        let wanted = self.contid.as_ref().map(|word| meant(word, &sources)).transpose()?;
        let mut lives = Lives::new(None);
        sources.lines(Lives::may_tell, |place, line| lives.line(place, line))?;
        let mut tally = Tally::new(lives.all());
        events(&sources, &TYPES, span, |event| tally.event(event))?;
        tally.finish();
        let is_wanted = |one: &Life| match &wanted {
            None => true,
            Some(wanted) => wanted.iter().any(|meant| match meant {
                Meant::Identifier(contid) => *contid == one.contid.0,
                Meant::Life(life) => **life == *one,
            }),
        };
        let mut any = false;
        let mut tell = |row: Row<'_>| {
            any = true;
            if self.json { print_json(out, &row) } else { Ok(print(&row, out)?) }
        };
        let timed = span.iter().any(Option::is_some);
        for (life, counts) in lives.all().iter().zip(&tally.counts) {
            if is_wanted(life) && (counts.events > 0 || !timed) {
                tell(of_life(life, counts, &tally))?;
            }
        }
        for (contid, counts) in &tally.strangers {
            if wanted.as_ref().is_none_or(|wanted| wanted.contains(&Meant::Identifier(*contid))) {
                let row = Row { contid: Some(contid.to_string()), ..of_counts(counts, &tally) };
                tell(row)?;
            }
        }
        for one in tally.unregistered.iter().filter(|_| wanted.is_none()) {
            tell(of_unregistered(one))?;
        }
        let untold = lives.untold + tally.untold;
        if untold > 0 {
            // Nobody is left to tell if standard error is gone.
            let _ = writeln!(
                io::stderr(),
                "veritrail: {untold} containers, events and gaps found no room and are not counted"
            );
        }
        if !any && !self.json {
            writeln!(out, "no container is on record")?;
        }
        Ok(if any { Outcome::Good } else { Outcome::No })
    }

    fn bound(&self, bound: Bound, clock: &Clock) -> Result<Option<i64>, Failure> {
        let words = match bound {
            Bound::Start => &self.start,
            Bound::End => &self.end,
        };
        let moment = (!words.is_empty()).then(|| bound.parse(words, clock)).transpose();
        moment.map_err(|error| Failure::new(Kind::Usage, error.to_string()))
    }
}

fn of_counts<'a>(counts: &Counts, tally: &Tally<'_>) -> Row<'a> {
    Row {
        first: counts.span.and_then(|span| moment(span[0])),
        last: counts.span.and_then(|span| moment(span[1])),
        events: counts.events,
        types: counts.types.clone(),
        attributed: counts.sure.clone(),
        violations: counts.violations.clone(),
        failed: counts.failed,
        refused: counts.refused,
        drift: counts.drift.clone(),
        over_quota: counts.over_quota.clone(),
        gaps: counts.span.map_or(0, |span| tally.gaps_between(span)),
        ..Row::default()
    }
}

fn of_life<'a>(life: &'a Life, counts: &Counts, tally: &Tally<'_>) -> Row<'a> {
    let from = if life.is_begun { life.first.id.millis } else { 0 };
    let to = life.ended.or(life.next).map_or(u64::MAX, |end| end.id.millis);
    let row = Row {
        contid: Some(life.contid.to_string()),
        parent: life.parent.filter(|id| id.is_set()).map(|id| id.to_string()),
        began: life.is_begun.then(|| time(life.first.id)).flatten(),
        ended: life.ended.and_then(|end| time(end.id)),
        by: life.by.as_ref().map(|(pid, comm)| By { pid: *pid, comm: Text(comm) }),
        gaps: tally.gaps_between([from, to]),
        ..of_counts(counts, tally)
    };
    described(row, &life.texts)
}

fn of_unregistered(one: &Unregistered) -> Row<'_> {
    let row =
        Row { first: moment(one.millis), unregistered: Some(Text(&one.reason)), ..Row::default() };
    described(row, &one.texts)
}

fn described<'a>(row: Row<'a>, texts: &'a [Option<Vec<u8>>; TEXTS.len()]) -> Row<'a> {
    let [runtime, id, name, image, digest] = texts.each_ref().map(|text| text.as_deref().map(Text));
    Row { name, runtime, id, image, digest, ..row }
}

fn moment(millis: u64) -> Option<String> {
    time(EventId { millis, serial: 0 })
}

fn print(row: &Row<'_>, out: &mut dyn Write) -> io::Result<()> {
    // A container chose these: none of it reaches the terminal's controls.
    let shown =
        |text: &Option<Text<'_>>| text.as_ref().map(|text| text.0.escape_ascii().to_string());
    let or = |text: Option<String>, none: &str| text.unwrap_or_else(|| none.to_owned());
    let contid = or(row.contid.clone(), "(no identifier)");
    writeln!(out, "{contid}  {}", or(shown(&row.name), "-"))?;
    let texts = [("", &row.runtime), ("id ", &row.id), ("image ", &row.image), ("", &row.digest)];
    let texts: Vec<String> = texts
        .iter()
        .filter_map(|(what, text)| shown(text).map(|text| format!("{what}{text}")))
        .collect();
    if !texts.is_empty() {
        writeln!(out, "  {}", texts.join("  "))?;
    }
    if let Some(reason) = &row.unregistered {
        let at = or(row.first.clone(), "?");
        return writeln!(out, "  not registered {at}: {}", reason.0.escape_ascii());
    }
    let by = row.by.as_ref().map(|by| format!(" by {} ({})", by.comm.0.escape_ascii(), by.pid));
    let parent = row.parent.as_ref().map(|parent| format!(" in {parent}"));
    let ended = row.ended.as_ref().map(|ended| format!(", ended {ended}"));
    let began = or(row.began.clone(), "before what is on record");
    writeln!(out, "  began {began}{}{}{}", or(by, ""), or(parent, ""), or(ended, ""))?;
    let span = row.first.as_ref().zip(row.last.as_ref());
    let span = span.map(|(first, last)| format!(", {first} to {last}"));
    writeln!(out, "  events {}{}{}", row.events, words(": ", &row.types), or(span, ""))?;
    for (what, counted) in [
        ("attributed", &row.attributed),
        ("violations", &row.violations),
        ("drift", &row.drift),
        ("over its quota", &row.over_quota),
    ] {
        if !counted.is_empty() {
            writeln!(out, "  {what}{}", words(" ", counted))?;
        }
    }
    for (what, counted) in [
        ("system calls failed", row.failed),
        ("sets refused", row.refused),
        ("gaps while it lived", row.gaps as u64),
    ] {
        if counted > 0 {
            writeln!(out, "  {what} {counted}")?;
        }
    }
    Ok(())
}

/// `A 3, B 1`, the most first.
fn words(before: &str, counted: &BTreeMap<String, u64>) -> String {
    let mut order: Vec<(&String, &u64)> = counted.iter().collect();
    order.sort_by_key(|(_, number)| std::cmp::Reverse(**number));
    let words: Vec<String> = order.iter().map(|(word, n)| format!("{word} {n}")).collect();
    if words.is_empty() { String::new() } else { format!("{before}{}", words.join(", ")) }
}
