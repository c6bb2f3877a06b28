//! How a check goes and what the last one found, for people and for machines.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;

use engine::scrub::{Backend, Counts, Ended, Last, Module, Pass, State, Verdict};
use jiff::Timestamp;
use serde::Serialize;

use super::store::{Key, Known, Store};
use crate::outcome::Failure;

/// What is known of one device.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    name: String,
    module: Option<Module>,
    backend: Option<Backend>,
    state: Now,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<Pass>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Judged>,
    /// Why nothing else is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    unusable: Option<String>,
}

/// The last check, and what it comes to.
#[derive(Clone, Debug, Serialize)]
struct Judged {
    verdict: Verdict,
    #[serde(flatten)]
    last: Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Now {
    /// It is being checked.
    Running,
    /// A check was stopped.
    Stopped,
    /// A check failed.
    Failed,
    /// A check ended without a word: it was killed, or the machine went down.
    Interrupted,
    /// Nothing is under way.
    Idle,
}

impl Report {
    /// None where nothing is known.
    pub(crate) fn read(store: &Store, key: &Key) -> Result<Option<Report>, Failure> {
        let running = store.is_running(key);
        Ok(match store.read(key)? {
            Known::Nothing => None,
            Known::State(state) => Some(Report::of(*state, running)),
            Known::Unusable(error) => Some(Report {
                name: key.as_str().to_owned(),
                module: None,
                backend: None,
                state: if running { Now::Running } else { Now::Idle },
                pass: None,
                last: None,
                unusable: Some(error.to_string()),
            }),
        })
    }

    /// The same, where not to know is no failure of whoever asks.
    pub(crate) fn find(state_dir: Option<&Path>, key: &Key) -> Option<Report> {
        Report::read(&Store::locate(state_dir).ok()?, key).ok()?
    }

    fn of(state: State, running: bool) -> Report {
        let State { subject, pass, last, .. } = state;
        let now = match &pass {
            _ if running => Now::Running,
            None => Now::Idle,
            Some(pass) => match pass.ended {
                None => Now::Interrupted,
                Some(Ended::Stopped) => Now::Stopped,
                Some(Ended::Failed) => Now::Failed,
            },
        };
        let last = last.map(|last| Judged { verdict: last.counts.verdict(), last });
        Report {
            name: subject.name,
            module: Some(subject.module),
            backend: Some(subject.backend),
            state: now,
            pass,
            last,
            unusable: None,
        }
    }

    /// Whether the last check that came to its end, or the one that is under way, found a violation.
    pub(crate) fn is_violated(&self) -> bool {
        let now = self.pass.as_ref().is_some_and(|pass| pass.counts.violations() > 0);
        now || self.last.as_ref().is_some_and(|last| last.verdict == Verdict::Violation)
    }

    /// In a line or two.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let name = &self.name;
        if let Some(why) = &self.unusable {
            return writeln!(out, "{name}: what was noted cannot be used: {why}");
        }
        match (&self.pass, self.state) {
            (Some(pass), Now::Running) => writeln!(out, "{name}: {}", going(pass))?,
            (Some(pass), Now::Failed) => {
                let why = pass.reason.as_deref().unwrap_or("nobody knows why");
                writeln!(out, "{name}: failed at {}: {why}", percent(pass))?;
            }
            (Some(pass), Now::Interrupted) => {
                writeln!(out, "{name}: interrupted at {}{}", percent(pass), bad(&pass.counts))?;
            }
            (Some(pass), Now::Stopped) => writeln!(out, "{name}: {}", stop(pass))?,
            _ => {}
        }
        match self.last_line() {
            Some(line) => writeln!(out, "{name}: last check {line}"),
            None if self.pass.is_none() => writeln!(out, "{name}: never checked"),
            None => Ok(()),
        }
    }

    /// When the last check was, and what it found.
    pub(crate) fn last_line(&self) -> Option<String> {
        let Judged { last, .. } = self.last.as_ref()?;
        Some(format!("{}: {}", moment(last.finished), finding(last)))
    }

    /// The same, or how far the first one is.
    pub(crate) fn line(&self) -> String {
        match (self.last_line(), &self.pass) {
            (Some(line), _) => line,
            (None, Some(pass)) => {
                format!("never, {} of the first one is done{}", percent(pass), bad(&pass.counts))
            }
            (None, None) => "never".into(),
        }
    }
}

/// The devices of this name, or path, of which something is known.
pub(crate) fn named(store: &Store, known: &[Key], operand: &OsStr) -> Result<Vec<Key>, Failure> {
    let Some(name) = operand.to_str() else { return Ok(Vec::new()) };
    let absolute = std::path::absolute(name).ok();
    let mut keys = Vec::new();
    for key in known {
        if let Known::State(state) = store.read(key)? {
            let path = state.subject.name.as_str();
            if path == name || absolute.as_deref() == Some(path.as_ref()) {
                keys.push(key.clone());
            }
        }
    }
    Ok(keys)
}

/// What a check begins with.
pub(crate) fn beginning(name: &str, pass: &Pass, note: Option<&str>) -> String {
    let note = note.map(|note| format!("{note}; ")).unwrap_or_default();
    if pass.next == 0 {
        format!("{name}: {note}check of {} begun", size(bytes(pass.blocks, pass.unit)))
    } else {
        format!("{name}: {note}check goes on from {}{}", percent(pass), bad(&pass.counts))
    }
}

/// How a check goes.
fn going(pass: &Pass) -> String {
    let mut line = format!("checking, {}", percent(pass));
    if let Some(rate) = rate(pass.bytes, pass.milliseconds) {
        let left = bytes(pass.blocks - pass.next, pass.unit) / rate.max(1);
        line += &format!(", {}/s, {} left", size(rate), duration(left));
    }
    line + &bad(&pass.counts)
}

/// How a check stopped.
pub(crate) fn stop(pass: &Pass) -> String {
    format!("stopped at {}{}; the next check goes on from there", percent(pass), bad(&pass.counts))
}

/// What a check found, and what it took.
pub(crate) fn finding(last: &Last) -> String {
    let verdict = match last.counts.verdict() {
        Verdict::Good => "good",
        Verdict::Correctable => "correctable",
        Verdict::Unreadable => "not all could be read",
        Verdict::Violation => "VIOLATED",
    };
    let through = match last.access {
        engine::scrub::Access::Direct => "",
        engine::scrub::Access::Buffered => ", through the page cache",
    };
    let whole = size(bytes(last.blocks, last.unit));
    let took = duration(last.milliseconds.div_ceil(1000));
    format!("{verdict}, {whole} in {took}{through}{}", bad(&last.counts))
}

fn bad(counts: &Counts) -> String {
    let kinds = [
        (counts.bad, "bad"),
        (counts.bad_hash, "bad in the tree"),
        (counts.unverifiable, "unverifiable below those"),
        (counts.correctable, "correctable"),
        (counts.correctable_hash, "correctable in the tree"),
        (counts.unreadable, "unreadable"),
        (counts.unreadable_hash, "unreadable in the tree"),
        (counts.unreachable, "unreachable below those"),
    ];
    let words: Vec<String> = kinds
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if words.is_empty() { String::new() } else { format!("; blocks: {}", words.join(", ")) }
}

fn percent(pass: &Pass) -> String {
    let done = u128::from(pass.next) * 1000 / u128::from(pass.blocks.max(1));
    let whole = size(bytes(pass.blocks, pass.unit));
    format!("{}.{} % of {whole}", done / 10, done % 10)
}

fn bytes(blocks: u64, unit: u32) -> u64 {
    blocks.saturating_mul(unit.into())
}

fn rate(bytes: u64, milliseconds: u64) -> Option<u64> {
    let rate = (u128::from(bytes) * 1000).checked_div(milliseconds.into())?;
    u64::try_from(rate).ok()
}

/// In the unit that leaves one to four digits before the point.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut power = 0;
    while power + 1 < UNITS.len() && bytes >> (10 * (power + 2)) > 0 {
        power += 1;
    }
    let tenths = u128::from(bytes) * 10 / (1 << (10 * (power + 1)));
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[power])
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} days {hours} h"),
    }
}

fn moment(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1024, "1.0 KiB"),
            (1_048_575, "1023.9 KiB"),
            (52_428_800, "50.0 MiB"),
            (107_374_182_400, "100.0 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (seconds, text) in
            [(59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (180_000, "2 days 2 h")]
        {
            assert_eq!(duration(seconds), text);
        }
    }
}
