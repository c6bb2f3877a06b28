//! A day's events: the agent's memory does not grow with them, and nothing is lost.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use crate::auditing::Auditing;
use crate::bench::{Bench, number, soon};

/// The memory that a process has for itself, in KiB.
fn anonymous(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse().unwrap())
}

#[test]
fn the_memory_of_a_day_is_that_of_an_hour() {
    let test = "the_memory_of_a_day_is_that_of_an_hour";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let (rounds, of) =
        if std::env::var_os("VERITRAIL_LONG").is_some() { (100, 20_000) } else { (5, 10_000) };
    let bench = Bench::new();
    let agent = bench.start_for("3000", &[]);
    let mut seen = Vec::new();
    for round in 1..=rounds {
        auditing.send("day", of);
        let due = (round * of) as u64;
        let taken = || {
            let count = |key| bench.source("audit", key).as_u64().unwrap();
            count("messages") + count("lost") >= due
        };
        soon("the messages of this round", taken);
        seen.push(agent.family().into_iter().map(anonymous).sum::<u64>());
    }
    let began = Instant::now();
    assert_eq!(agent.stop(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(15));
    let lost: u64 = bench.gaps("audit").iter().map(|gap| number(gap, "records")).sum();
    let stored = stored(&bench);
    let sent = (rounds * of) as u64;
    assert_eq!(stored + lost, sent, "{stored} stored, {lost} lost");
    let early = seen[..seen.len().div_ceil(5)].iter().max().unwrap();
    let late = seen[seen.len() - seen.len().div_ceil(5)..].iter().min().unwrap();
    println!(
        "{sent} events: {early} KiB early, {late} KiB late, {} at most",
        seen.iter().max().unwrap()
    );
    assert!(*early > 0);
    assert!(*late <= early + 8192, "from {early} to {late} KiB: {seen:?}");
    assert!(seen.iter().all(|kib| *kib < 64 << 10), "{seen:?}");
    bench.trail_is_good();
}

/// How many of the messages are stored.
fn stored(bench: &Bench) -> u64 {
    let mut stored = 0;
    for entry in fs::read_dir(bench.path("trail/segments")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|is| is != "log") {
            continue;
        }
        let mut lines = BufReader::new(File::open(path).unwrap());
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).unwrap() > 0 {
            stored += u64::from(line.starts_with(b"type=TRUSTED_APP "));
            line.clear();
        }
    }
    stored
}
