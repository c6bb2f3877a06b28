//! Numbers of processes that are used again at once.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::auditing::Auditing;
use crate::bench::Bench;
use crate::containers::{Waiting, set, start};

/// The last number that was given to a process of this namespace: the next one gets the one behind it, if
/// that is free.
const LAST: &str = "/proc/sys/kernel/ns_last_pid";

/// A process of a container ends, and one of no container gets its number at once.
#[test]
fn a_number_that_is_used_again_is_not_taken_for_the_one_before() {
    let test = "a_number_that_is_used_again_is_not_taken_for_the_one_before";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    let Some(agent) = start(test, &bench, &["--audit-mode", "coexist"]) else { return };
    if fs::OpenOptions::new().write(true).open(LAST).is_err() {
        eprintln!("SKIPPED: {test}: nobody may choose the next process's number here ({LAST})");
        return;
    }
    crate::rules::add(&mut auditing.control, "-a always,exit -F arch=b64 -S execve -k reuse");
    let mut inside = Waiting::new("while read line; do /bin/true & echo $!; wait $!; echo; done");
    set(&bench, inside.pid(), "77").unwrap();
    inside.go();
    let mut said = BufReader::new(inside.0.stdout.take().unwrap()).lines();
    let mut reused = 0;
    for _ in 0..200 {
        inside.go();
        let number: u32 = said.next().unwrap().unwrap().parse().unwrap();
        // It is gone.
        said.next().unwrap().unwrap();
        fs::OpenOptions::new()
            .write(true)
            .open(LAST)
            .and_then(|mut last| last.write_all((number - 1).to_string().as_bytes()))
            .unwrap();
        let mut next = Command::new("/bin/true").spawn().unwrap();
        reused += u32::from(next.id() == number);
        next.wait().unwrap();
    }
    let theirs = inside.pid().to_string();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(agent.stop(), Some(0));
    let ran = bench.veritrail(&["search", "--trail", "trail", "--json", "-k", "reuse"]);
    let (mut certain, mut ambiguous, mut wrong) = (0, 0, Vec::new());
    for line in ran.out.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let records = event["records"].as_array().unwrap();
        let of = |kind: &str| records.iter().find(|record| record["type"] == kind);
        let Some(call) = of("SYSCALL") else { continue };
        let is_theirs = call["fields"]["ppid"] == theirs.as_str();
        let whose = of("CONTAINER_ID").map(|record| record.to_string()).unwrap_or_default();
        match whose.contains("ambiguous") {
            true => ambiguous += 1,
            false if whose.contains("77") == is_theirs => certain += 1,
            false => wrong.push(format!("{} {whose}", event["serial"])),
        }
    }
    eprintln!(
        "{reused} of 200 numbers used again; {certain} events certain, {ambiguous} ambiguous"
    );
    assert!(reused > 20, "{reused}");
    assert!(wrong.is_empty(), "{} wrong: {:?}", wrong.len(), wrong.first());
    // Audit's stamps are of a tick: which of two in one tick it was, they do not tell.
    assert!(certain > 0 && certain + ambiguous >= 400, "{certain} {ambiguous}");
    bench.trail_is_good();
}
