//! What is shown of containers: figures of two looks, in their order.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use crate::agent::{Container, OverQuota, Status};

/// By what containers are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Sort {
    /// Events a second, then all of them
    Events,
    /// Violations
    Violations,
    /// Refused sets
    Refused,
    /// Processes
    Processes,
    /// Events over their quota
    Over,
    /// Bytes in the trail
    Bytes,
    /// What they are called, from a to z
    Name,
    /// Their identifiers, from 0 on
    Contid,
}

/// One look at all of them.
#[derive(Debug)]
pub(super) struct Frame<'s> {
    interval: Duration,
    sort: Sort,
    rows: Vec<Row<'s>>,
}

/// One container. What is of a second is in tenths.
#[derive(Debug)]
struct Row<'s> {
    container: &'s Container,
    events: u64,
    bytes: u64,
    over: u64,
}

/// A line of `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Told<'s> {
    time: Option<String>,
    interval_ms: u64,
    containers: Vec<Figures<'s>>,
}

#[derive(Debug, Serialize)]
struct Figures<'s> {
    contid: u64,
    parent: Option<u64>,
    name: Option<&'s str>,
    runtime: Option<&'s str>,
    id: Option<&'s str>,
    image: Option<&'s str>,
    processes: u32,
    events: u64,
    events_per_second: f64,
    violations: u64,
    refused: u64,
    over_quota: OverQuota,
    over_quota_per_second: f64,
    bytes: u64,
    bytes_per_second: f64,
}

impl<'s> Frame<'s> {
    /// Of what two looks that far apart have found; without the first nothing is known of a second.
    pub(super) fn new(
        before: Option<&Status>,
        now: &'s Status,
        interval: Duration,
        sort: Sort,
    ) -> Frame<'s> {
        // Another agent counts from nothing, and an identifier that is used again is another container.
        let before = before.filter(|before| {
            (before.pid, before.started, before.restarts) == (now.pid, now.started, now.restarts)
        });
        let known: HashMap<(u64, u64), &Container> = before
            .iter()
            .flat_map(|before| &before.containers)
            .map(|one| ((one.contid, one.since), one))
            .collect();
        let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        let mut rows: Vec<Row<'s>> = now
            .containers
            .iter()
            .map(|container| {
                let was = known.get(&(container.contid, container.since));
                // One that is new since then has done all of it since then.
                let a_second = |of: fn(&Container) -> u64| {
                    let was = was.map_or(0, |was| of(was));
                    let more = if before.is_some() { of(container).saturating_sub(was) } else { 0 };
                    more.saturating_mul(10_000).checked_div(millis).unwrap_or(0)
                };
                Row {
                    container,
                    events: a_second(|one| one.events),
                    bytes: a_second(|one| one.bytes),
                    over: a_second(|one| one.over_quota.events()),
                }
            })
            .collect();
        rows.sort_by(|a, b| sort.key(a).cmp(&sort.key(b)));
        Frame { interval, sort, rows }
    }

    /// As JSON has it, at that time in nanoseconds since 1970.
    pub(super) fn told(&self, realtime_ns: u64) -> Told<'_> {
        let time = jiff::Timestamp::from_nanosecond(i128::from(realtime_ns)).ok();
        Told {
            time: time.map(|time| format!("{time:.3}")),
            interval_ms: u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX),
            containers: self.rows.iter().map(Row::figures).collect(),
        }
    }

    /// Prints all of them.
    pub(super) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        self.lines().try_for_each(|line| writeln!(out, "{line}"))
    }

    /// The lines: all of ASCII, and nothing that moves a cursor.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let events: u64 = self.rows.iter().map(|row| row.events).sum();
        let over: u64 = self.rows.iter().map(|row| row.over).sum();
        let head = format!(
            "{} containers, {} events a second, {} held back; by {}",
            self.rows.len(),
            tenths(events),
            tenths(over),
            self.sort.word()
        );
        let titles = format!(
            "{:<20} {:>6} {:>9} {:>10} {:>5} {:>5} {:>8} {:>9} {:>8} {:>8}  NAME",
            "CONTID",
            "PROCS",
            "EVENTS/s",
            "EVENTS",
            "VIOL",
            "REF",
            "OVER/s",
            "OVER",
            "BYTES/s",
            "BYTES"
        );
        [head, titles].into_iter().chain(self.rows.iter().map(Row::line))
    }
}

impl Sort {
    fn word(self) -> &'static str {
        match self {
            Sort::Events => "events",
            Sort::Violations => "violations",
            Sort::Refused => "refused",
            Sort::Processes => "processes",
            Sort::Over => "over",
            Sort::Bytes => "bytes",
            Sort::Name => "name",
            Sort::Contid => "contid",
        }
    }

    /// What comes first is least.
    fn key<'r>(self, row: &'r Row<'_>) -> (Reverse<[u64; 2]>, &'r str, u64) {
        let Container { contid, events, bytes, violations, refused, over_quota, processes, .. } =
            row.container;
        let (most, text) = match self {
            Sort::Events => ([row.events, *events], ""),
            Sort::Violations => ([*violations, *events], ""),
            Sort::Refused => ([*refused, *events], ""),
            Sort::Processes => ([u64::from(*processes), *events], ""),
            Sort::Over => ([row.over, over_quota.events()], ""),
            Sort::Bytes => ([row.bytes, *bytes], ""),
            Sort::Name => ([0; 2], row.name()),
            Sort::Contid => ([0; 2], ""),
        };
        (Reverse(most), text, *contid)
    }
}

impl<'s> Row<'s> {
    fn name(&self) -> &'s str {
        let description = &self.container.description;
        let names = [&description.name, &description.id, &description.image];
        names.into_iter().flatten().next().map_or("-", String::as_str)
    }

    fn line(&self) -> String {
        let Container { contid, events, bytes, violations, refused, over_quota, processes, .. } =
            self.container;
        format!(
            "{contid:<20} {processes:>6} {:>9} {events:>10} {violations:>5} {refused:>5} {:>8} {:>9} {:>8} {:>8}  {}",
            tenths(self.events),
            tenths(self.over),
            over_quota.events(),
            size(self.bytes / 10),
            size(*bytes),
            shown(self.name())
        )
    }

    fn figures(&self) -> Figures<'_> {
        let one = self.container;
        let description = &one.description;
        Figures {
            contid: one.contid,
            parent: one.parent,
            name: description.name.as_deref(),
            runtime: description.runtime.as_deref(),
            id: description.id.as_deref(),
            image: description.image.as_deref(),
            processes: one.processes,
            events: one.events,
            events_per_second: a_tenth_of(self.events),
            violations: one.violations,
            refused: one.refused,
            over_quota: one.over_quota,
            over_quota_per_second: a_tenth_of(self.over),
            bytes: one.bytes,
            bytes_per_second: a_tenth_of(self.bytes),
        }
    }
}

fn a_tenth_of(tenths: u64) -> f64 {
    f64::from(u32::try_from(tenths).unwrap_or(u32::MAX)) / 10.0
}

fn tenths(tenths: u64) -> String {
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// In bytes, or the largest unit of 1024 of which there is one.
fn size(bytes: u64) -> String {
    let mut rest = bytes;
    for unit in ["", "K", "M", "G", "T"] {
        if rest < 10_240 {
            return format!("{rest}{unit}");
        }
        rest /= 1024;
    }
    format!("{rest}P")
}

/// A container chose this: it is letters of ASCII and nothing else, neither controls nor what writes backwards.
fn shown(text: &str) -> String {
    let escaped = |c: char| -> String {
        if c == ' ' || c.is_ascii_graphic() { c.into() } else { c.escape_default().collect() }
    };
    text.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn container(contid: u64, name: &str, events: u64) -> Container {
        let text = serde_json::json!({
            "contid": contid, "parent": null, "since": 5, "processes": 2, "registrar": null,
            "description": { "name": name }, "cgroup": 0, "group": null, "events": events, "bytes": events * 1000,
            "namespaces": { "user": 1, "mount": 1, "pid": 1, "network": 1 },
            "over_quota": { "keyed": 1, "rest": events / 2, "bytes": 9 },
        });
        serde_json::from_value(text).unwrap()
    }

    fn status(containers: Vec<Container>) -> Status {
        Status { pid: 7, started: 3, containers, ..Status::default() }
    }

    fn contids(frame: &Frame<'_>) -> Vec<u64> {
        frame.rows.iter().map(|row| row.container.contid).collect()
    }

    #[test]
    fn what_a_second_brings_is_of_the_same_life_and_the_same_agent() {
        let before = status(vec![container(1, "a", 100), container(2, "b", 5000)]);
        let mut now =
            status(vec![container(1, "a", 150), container(2, "b", 5000), container(3, "c", 7)]);
        let two = Duration::from_secs(2);
        let frame = Frame::new(Some(&before), &now, two, Sort::Events);
        assert_eq!(contids(&frame), [1, 3, 2]);
        let events: Vec<u64> = frame.rows.iter().map(|row| row.events).collect();
        assert_eq!(events, [250, 35, 0]);
        assert_eq!(frame.rows[0].bytes, 250_000);
        assert_eq!(frame.rows[0].over, 125);
        let told = serde_json::to_value(frame.told(1_700_000_000_000_000_000)).unwrap();
        assert_eq!(told["time"], "2023-11-14T22:13:20.000Z");
        assert_eq!(told["interval_ms"], 2000);
        assert_eq!(told["containers"][0]["events_per_second"], 25.0);
        assert_eq!(told["containers"][0]["over_quota"]["rest"], 75);
        // Before there was a look; after another agent began; of another life.
        let first = Frame::new(None, &now, Duration::ZERO, Sort::Events);
        assert!(first.rows.iter().all(|row| row.events == 0));
        assert_eq!(contids(&first), [2, 1, 3]);
        now.restarts = 1;
        let other = Frame::new(Some(&before), &now, two, Sort::Events);
        assert!(other.rows.iter().all(|row| row.events == 0));
        now.restarts = 0;
        now.containers[0].since = 6;
        let other = Frame::new(Some(&before), &now, two, Sort::Contid);
        assert_eq!((contids(&other), other.rows[0].events), (vec![1, 2, 3], 750));
    }

    #[test]
    fn each_order_has_its_own_first() {
        let mut all = vec![container(1, "c", 5), container(2, "b", 5), container(3, "a", 9)];
        all[0].violations = 1;
        all[1].refused = 1;
        all[1].processes = 9;
        let now = status(all);
        for (sort, first) in [
            (Sort::Events, 3),
            (Sort::Violations, 1),
            (Sort::Refused, 2),
            (Sort::Processes, 2),
            (Sort::Over, 3),
            (Sort::Bytes, 3),
            (Sort::Name, 3),
            (Sort::Contid, 1),
        ] {
            let frame = Frame::new(None, &now, Duration::ZERO, sort);
            assert_eq!(contids(&frame)[0], first, "{sort:?}");
        }
    }

    #[test]
    fn sizes_have_four_digits_at_most() {
        let sizes = [0, 10_239, 10_240, 1 << 30, 20 << 30, u64::MAX].map(size);
        assert_eq!(sizes, ["0", "10239", "10K", "1024M", "20G", "16383P"]);
    }

    proptest! {
        /// Whatever a container is called: printable letters on its own line, so that a byte is a column.
        #[test]
        fn no_name_moves_the_cursor(name in any::<String>()) {
            let now = status(vec![container(1, &name, 5), container(2, "\u{1b}[2J\u{202e}\n\r\t", 4)]);
            let frame = Frame::new(None, &now, Duration::ZERO, Sort::Events);
            let lines: Vec<String> = frame.lines().collect();
            prop_assert_eq!(lines.len(), 4);
            for line in lines {
                prop_assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "{line:?}");
            }
        }
    }
}
