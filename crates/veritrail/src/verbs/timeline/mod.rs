//! `veritrail timeline`: what the clock did, and events in the order in which they happened.

mod fold;
mod gather;
mod late;

use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use record::stored::tail_value;
use record::units::LeafIndex;
use record::view::NtpValue;
use record::{EventId, Line};
use serde::Serialize;
use trail::{Disk, Reader};

use self::fold::{Row, Total, rows};
use self::gather::{Gathered, Who, stamp};
use crate::config::default_trail;
use crate::json::Text;
use crate::outcome::{Failure, Kind, Outcome};
use crate::verbs::search::{Bound, Clock, read_line};
use crate::verbs::trail::from_trail;

/// What the clock did: each step and slew with the times before and after, and by whom
///
/// Reads changes of the clock (TIME_INJOFFSET, TIME_ADJNTPVAL, VT_CLOCK) in the order of the trail, which no
/// change of the clock touches. Slews that one program made one after the other are one row with their totals,
/// unless --all. With --events it lists every event in the order in which it happened, and its time as
/// the clock would have had it that is there after the last step of its boot. Works on logs of the
/// kernel without records of ours too. Exits 1 when there is nothing to show.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail timeline
  veritrail timeline --all --start today
  veritrail timeline --events --start 2026-11-22 10:00 --end 2026-11-22 11:00
  veritrail timeline --trail /srv/trail --json | jq 'select(.kind == \"step\")'
  veritrail timeline --input /var/log/audit/audit.log

A time range is compared with corrected times. Units of the kernel's values: offset, adjust in ns and us
of correction asked for, freq in ppm, tick in us, tai in s, status in bits.")]
pub(crate) struct TimelineArgs {
    /// Read this trail instead of /var/log/veritrail
    #[arg(long, value_name = "DIR", conflicts_with = "input")]
    trail: Option<PathBuf>,
    /// Read this audit log instead of a trail; - is standard input
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// From this time on (the forms of search)
    #[arg(long, num_args = 1..=2, value_names = ["DATE", "TIME"])]
    start: Vec<String>,
    /// Up to this time
    #[arg(long, num_args = 1..=2, value_names = ["DATE", "TIME"])]
    end: Vec<String>,
    /// Every slew, a row each
    #[arg(long)]
    all: bool,
    /// Every event, in the order in which it happened, with its corrected time
    #[arg(long)]
    events: bool,
    /// Print one JSON object for each row
    #[arg(long)]
    json: bool,
}

/// A time range, ns since 1970, both ends included.
#[derive(Clone, Copy)]
struct Range {
    from: i128,
    to: i128,
}

impl Range {
    fn has(self, time: i128) -> bool {
        (self.from..=self.to).contains(&time)
    }
}

/// Does it.
pub(crate) fn run(args: &TimelineArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let range = args.range(&Clock::read())?;
    let source = args.source()?;
    let mut gathered = Gathered::default();
    source.lines(|node, line| {
        gathered.line(node, line);
        Ok(())
    })?;
    gathered.finish();
    let shown = if args.events {
        events(&source, &gathered, range, args.json, out)?
    } else {
        changes(&gathered, range, args, out)?
    };
    Ok(if shown { Outcome::Good } else { Outcome::No })
}

impl TimelineArgs {
    fn range(&self, clock: &Clock) -> Result<Range, Failure> {
        let bound = |bound: Bound, words: &[String]| {
            if words.is_empty() {
                return Ok(None);
            }
            let millis = bound.parse(words, clock);
            millis.map(Some).map_err(|error| Failure::new(Kind::Usage, error.to_string()))
        };
        let from = bound(Bound::Start, &self.start)?;
        let to = bound(Bound::End, &self.end)?;
        Ok(Range {
            from: from.map_or(i128::MIN, |millis| i128::from(millis) * 1_000_000),
            to: to.map_or(i128::MAX, |millis| i128::from(millis) * 1_000_000 + 999_999),
        })
    }

    fn source(&self) -> Result<Source, Failure> {
        match &self.input {
            Some(path) if path.as_os_str() == "-" => {
                let mut text = Vec::new();
                std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut text)?;
                Ok(Source::Text(text))
            }
            Some(path) => Ok(Source::Log(path.clone())),
            None => {
                let trail = self.trail.clone().map_or_else(default_trail, Ok)?;
                Ok(Source::Trail(trail))
            }
        }
    }
}

/// What is read, twice where events are listed.
enum Source {
    Trail(PathBuf),
    Log(PathBuf),
    Text(Vec<u8>),
}

impl Source {
    /// Hands on every record in its order, with its machine: empty for the one that none is named for. What
    /// is no record is passed over: `search` counts them.
    fn lines(
        &self,
        mut each: impl FnMut(&[u8], &Line<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self {
            Source::Trail(dir) => {
                let failed = |error| from_trail(dir, error);
                let mut reader = Reader::open(Disk::new(dir), LeafIndex(0)).map_err(failed)?;
                while let Some(leaf) = reader.next().map_err(failed)? {
                    let lines = leaf.bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
                    // Whatever auditd calls it, that is this machine.
                    let is_here = lines.clone().next_back().is_some_and(is_of_kernel);
                    for line in lines {
                        if let Ok(line) = Line::parse_stored(line) {
                            let node = line.node().filter(|_| !is_here).unwrap_or_default();
                            each(node, &line)?;
                        }
                    }
                }
                Ok(())
            }
            Source::Log(path) => {
                let failed = |error| cannot_read(path, error);
                let mut log = BufReader::new(std::fs::File::open(path).map_err(failed)?);
                let mut line = Vec::new();
                while read_line(&mut log, &mut line).map_err(failed)? {
                    if let Ok(line) = Line::parse(&line) {
                        each(line.node().unwrap_or_default(), &line)?;
                    }
                }
                Ok(())
            }
            Source::Text(text) => {
                for line in text.split(|b| *b == b'\n') {
                    if let Ok(line) = Line::parse(line) {
                        each(line.node().unwrap_or_default(), &line)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// Whether a leaf's last line says that this machine's kernel wrote it.
fn is_of_kernel(last: &[u8]) -> bool {
    let line = Line::parse_stored(last);
    let tail = line.as_ref().ok().and_then(Line::own_tail);
    tail.and_then(|tail| tail_value(tail, "VT_SRC")) == Some(b"kernel")
}

fn cannot_read(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(Kind::Io, format!("cannot read {}", path.display())).because(error)
}

/// One row as JSON (docs/formats/clock.md).
#[derive(Serialize)]
struct Shown<'a> {
    kind: &'static str,
    /// Of the row's first and last change.
    first: Option<String>,
    last: Option<String>,
    old: Option<String>,
    new: Option<String>,
    old_ns: String,
    new_ns: String,
    step_ns: String,
    cumulative_ns: String,
    count: u64,
    values: Vec<Valued>,
    call: Option<&'a str>,
    by: Option<&'a str>,
    pid: Option<u32>,
    auid: Option<u32>,
    uid: Option<u32>,
    comm: Option<Text<'a>>,
    exe: Option<Text<'a>>,
    confidence: Option<&'a str>,
    leaf: Option<u64>,
    node: Option<Text<'a>>,
}

#[derive(Serialize)]
struct Valued {
    op: &'static str,
    count: u64,
    old: i64,
    new: i64,
    sum: String,
}

fn changes(
    gathered: &Gathered,
    range: Range,
    args: &TimelineArgs,
    out: &mut dyn Write,
) -> Result<bool, Failure> {
    let meant = gathered.changes.iter().filter(|change| range.has(change.corrected));
    let rows = rows(meant, !args.all);
    for row in &rows {
        if args.json {
            serde_json::to_writer(&mut *out, &shown(row)).map_err(std::io::Error::from)?;
            writeln!(out)?;
        } else {
            print(row, out)?;
        }
    }
    if rows.is_empty() && !args.json {
        writeln!(out, "no change of the clock is on record")?;
    }
    Ok(!rows.is_empty())
}

fn shown<'a>(row: &Row<'a>) -> Shown<'a> {
    let (first, last) = (row.first, row.last);
    let valued = |total: &Total| Valued {
        op: total.op.word(),
        count: total.count,
        old: total.old,
        new: total.new,
        sum: total.sum.to_string(),
    };
    Shown {
        kind: if first.step == 0 { "slew" } else { "step" },
        first: time(first.old),
        last: time(last.new),
        old: time(first.old),
        new: time(last.new),
        old_ns: first.old.to_string(),
        new_ns: last.new.to_string(),
        step_ns: first.step.to_string(),
        cumulative_ns: last.cumulative.to_string(),
        count: row.count,
        values: row.totals.iter().map(valued).collect(),
        call: first.call.as_deref(),
        by: first.by.as_deref(),
        pid: last.who.pid,
        auid: first.who.auid,
        uid: first.who.uid,
        comm: first.who.comm.as_deref().map(Text),
        exe: first.who.exe.as_deref().map(Text),
        confidence: last.confidence.as_deref(),
        leaf: first.leaf,
        node: Some(Text(&first.node)).filter(|node| !node.0.is_empty()),
    }
}

fn print(row: &Row<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let (first, last) = (row.first, row.last);
    let moment = |ns| time(ns).unwrap_or_else(|| format!("{ns} ns"));
    if first.step == 0 {
        write!(out, "{}  slew  ", moment(first.old))?;
        let totals: Vec<String> = row.totals.iter().map(in_units).collect();
        write!(out, "{}", totals.join("; "))?;
        if row.count > 1 {
            write!(out, "  ({} changes until {})", row.count, moment(last.new))?;
        }
    } else {
        write!(out, "{}  step  {}", moment(first.old), seconds(first.step))?;
        write!(out, "  to {}", moment(first.new))?;
        for total in &row.totals {
            write!(out, "; {}", in_units(total))?;
        }
    }
    write!(out, "  sum {}  by {}", seconds(last.cumulative), by(row))?;
    if let Some(call) = &first.call {
        write!(out, " ({call})")?;
    }
    if !first.node.is_empty() {
        write!(out, "  on {}", first.node.escape_ascii())?;
    }
    match last.confidence.as_deref() {
        None | Some("certain") => writeln!(out)?,
        Some(confidence) => writeln!(out, "  {confidence}")?,
    }
    Ok(())
}

/// A program's name for a terminal, which it chose itself.
fn by(row: &Row<'_>) -> String {
    let Who { pid, auid, uid, comm, exe } = &row.last.who;
    let name = exe.as_ref().or(comm.as_ref()).map(|name| name.escape_ascii().to_string());
    let Some(name) = name else {
        return row.first.by.clone().unwrap_or_else(|| "unknown".to_owned());
    };
    let mut text = name;
    if let Some(pid) = pid {
        text.push_str(&format!(" pid {pid}"));
    }
    if let Some(uid) = uid {
        text.push_str(&format!(" uid {uid}"));
    }
    match auid {
        Some(u32::MAX) => text.push_str(" auid unset"),
        Some(auid) => text.push_str(&format!(" auid {auid}")),
        None => {}
    }
    text
}

/// A value as people count it.
fn in_units(total: &Total) -> String {
    let Total { op, old, new, .. } = *total;
    match op {
        NtpValue::Freq => {
            // 2^32 of the kernel's units are 1 ns a second, and 1000 of these 1 ppm.
            let ppm = |value: i64| value as f64 / 4_294_967_296_000.0;
            format!("freq {:+.6} to {:+.6} ppm", ppm(old), ppm(new))
        }
        NtpValue::Adjust => format!("adjust {old} to {new} us, {} us in all", total.sum),
        NtpValue::Tick => format!("tick {old} to {new} us"),
        NtpValue::Tai => format!("tai {old} to {new} s"),
        NtpValue::Status => format!("status {old:#x} to {new:#x}"),
        NtpValue::Offset => format!("offset {old} to {new}"),
    }
}

/// `+1.500000000 s`.
fn seconds(ns: i128) -> String {
    let sign = if ns < 0 { '-' } else { '+' };
    let ns = ns.unsigned_abs();
    format!("{sign}{}.{:09} s", ns / 1_000_000_000, ns % 1_000_000_000)
}

/// RFC 3339 in UTC; none for a time that no calendar has.
fn time(ns: i128) -> Option<String> {
    Timestamp::from_nanosecond(ns).ok().map(|time| format!("{time:.9}"))
}

/// An event of `--events` as JSON.
#[derive(Serialize)]
struct Happened<'a> {
    /// Corrected.
    time: Option<String>,
    /// As the clock had it.
    stamped: Option<String>,
    correction_ns: String,
    serial: u32,
    node: Option<Text<'a>>,
    types: &'a [String],
}

/// An event: its place, its boot, who wrote it, its stamp and serial, the types of its records.
type Told = (u64, usize, Vec<u8>, EventId, Vec<String>);

/// Lists every event in its order, a line each.
fn events(
    source: &Source,
    gathered: &Gathered,
    range: Range,
    json: bool,
    out: &mut dyn Write,
) -> Result<bool, Failure> {
    let mut order = Gathered::default();
    let mut open: Option<Told> = None;
    let mut any = false;
    let mut tell = |event: Told| -> Result<(), Failure> {
        let (ordinal, boot, node, id, types) = event;
        let correction = gathered.correction(ordinal, boot);
        let corrected = stamp(id).saturating_add(correction);
        // What we say beside an event of the kernel is said of an event that was listed.
        let beside = types.iter().all(|kind| kind == "VT_CLOCK" || kind == "VT_PLACE");
        if !range.has(corrected) || beside {
            return Ok(());
        }
        any = true;
        if json {
            let happened = Happened {
                time: time(corrected),
                stamped: time(stamp(id)),
                correction_ns: correction.to_string(),
                serial: id.serial,
                node: Some(Text(&node)).filter(|node| !node.0.is_empty()),
                types: &types,
            };
            serde_json::to_writer(&mut *out, &happened).map_err(std::io::Error::from)?;
            writeln!(out)?;
        } else {
            let moment = |ns| time(ns).unwrap_or_else(|| format!("{ns} ns"));
            let note = if correction == 0 {
                String::new()
            } else {
                format!("  stamped {}", moment(stamp(id)))
            };
            let types = types.join(",");
            let on = match node.escape_ascii() {
                _ if node.is_empty() => String::new(),
                name => format!("  on {name}"),
            };
            writeln!(out, "{}  {}  {types}{note}{on}", moment(corrected), id.serial)?;
        }
        Ok(())
    };
    source.lines(|node, line| {
        order.line(node, line);
        let (ordinal, boot) = order.here();
        let kind = line.effective_type();
        let kind =
            kind.name().map_or_else(|| line.type_text().escape_ascii().to_string(), str::to_owned);
        match &mut open {
            Some((at, .., types)) if *at == ordinal => {
                if types.last() != Some(&kind) && types.len() < MOST_TYPES {
                    types.push(kind);
                }
            }
            _ => {
                let node = line.node().unwrap_or_default().to_vec();
                let next = (ordinal, boot, node, line.id(), vec![kind]);
                if let Some(event) = open.replace(next) {
                    tell(event)?;
                }
            }
        }
        Ok(())
    })?;
    if let Some(event) = open {
        tell(event)?;
    }
    Ok(any)
}

/// Of one event.
const MOST_TYPES: usize = 16;
