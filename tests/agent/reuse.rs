//! Numbers of processes that are used again at once.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Duration;

use rustix::io::Errno;
use serde_json::Value;

use crate::auditing::Auditing;
use crate::bench::Bench;
use crate::containers::{BPF_ONLY, Waiting, file, set, start};

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

/// Whoever has the file of a process open has it of that process, as proc(5) has it, and not of the next one with its
/// number.
#[test]
fn an_open_file_is_not_of_the_next_process_with_the_number() {
    let test = "an_open_file_is_not_of_the_next_process_with_the_number";
    let bench = Bench::new();
    bench.write("config", BPF_ONLY);
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    if fs::OpenOptions::new().write(true).open(LAST).is_err() {
        eprintln!("SKIPPED: {test}: nobody may choose the next process's number here ({LAST})");
        return;
    }
    let mut reused = 0;
    for _ in 0..50 {
        let first = Waiting::new("true");
        let number = first.pid();
        let open =
            fs::OpenOptions::new().read(true).write(true).open(file(&bench, number)).unwrap();
        drop(first);
        // /proc tells times to a tick.
        std::thread::sleep(Duration::from_millis(20));
        fs::write(LAST, (number - 1).to_string()).unwrap();
        let next = Waiting::new("true");
        if next.pid() != number {
            continue;
        }
        reused += 1;
        let error = (&open).write_all(b"5").unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::SRCH));
        let error = open.read_at(&mut [0; 32], 0).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::SRCH));
        set(&bench, number, "6").unwrap();
        assert_eq!(fs::read_to_string(file(&bench, number)).unwrap(), "6");
        if reused == 3 {
            break;
        }
    }
    assert!(reused > 0, "no number was used again");
    assert_eq!(agent.stop(), Some(0));
    let ops = bench.bodies("CONTAINER_OP");
    assert!(ops.iter().all(|body| !body.contains(" contid=5 ")), "{ops:?}");
    bench.trail_is_good();
}

/// Two containers and something that is none, each in a pid namespace of its own where all programs get one and the same
/// number: what tells them apart is the number that the host gives.
#[test]
fn one_number_in_namespaces_of_their_own_is_taken_for_nobody_else() {
    let test = "one_number_in_namespaces_of_their_own_is_taken_for_nobody_else";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    let Some(agent) = start(test, &bench, &["--audit-mode", "coexist"]) else { return };
    crate::rules::add(&mut auditing.control, "-a always,exit -F arch=b64 -S execve -k inner");
    let names = ["inner71", "inner72", "inner0"];
    let run = |name: &str| {
        let program = bench.path(name);
        fs::copy(fs::canonicalize("/bin/sh").unwrap(), &program).unwrap();
        // The last of them are killed with their namespace.
        let script = format!(
            "n=0; while [ $n -lt 100 ]; do n=$((n+1)); echo 4999 >{LAST} || exit 9; {} -c \"echo \\$\\$\"; done; \
             for n in 1 2 3 4 5; do sleep 100 & done; exit 0",
            program.display()
        );
        Waiting::new(&format!("exec unshare -p -f --mount-proc /bin/sh -c '{script}'"))
    };
    let mut all = names.map(run);
    set(&bench, all[0].pid(), "71").unwrap();
    set(&bench, all[1].pid(), "72").unwrap();
    for one in &mut all {
        one.go();
    }
    for mut one in all {
        let said = std::io::read_to_string(one.0.stdout.take().unwrap()).unwrap();
        assert_eq!(one.0.wait().unwrap().code(), Some(0), "{said}");
        let reused = said.lines().filter(|line| *line == "5000").count();
        assert!(reused == 100, "{reused} of 100 had the number: {said}");
    }
    let drops = || {
        let ops = bench.bodies("CONTAINER_OP").into_iter();
        let mut drops: Vec<String> = ops.filter(|body| body.starts_with("op=drop ")).collect();
        drops.sort();
        drops
    };
    crate::bench::soon("both ends", || drops().len() >= 2);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(agent.stop(), Some(0));
    let drops = drops();
    assert_eq!(drops.len(), 2, "{drops:?}");
    for contid in ["71", "72"] {
        let whose = format!(" old-contid={contid} ");
        assert_eq!(drops.iter().filter(|body| body.contains(&whose)).count(), 1, "{drops:?}");
    }
    let ran = bench.veritrail(&["search", "--trail", "trail", "--json", "-k", "inner"]);
    let events = ran.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let events: Vec<Value> = events.collect();
    for (name, contid) in names.iter().zip([Some("71"), Some("72"), None]) {
        let exe = bench.path(name);
        let is_theirs = |event: &&Value| {
            let records = event["records"].as_array().unwrap();
            let call = records.iter().find(|record| record["type"] == "SYSCALL");
            call.is_some_and(|call| call["fields"]["exe"] == exe.to_str().unwrap())
        };
        let theirs: Vec<&Value> = events.iter().filter(is_theirs).collect();
        assert_eq!(theirs.len(), 100, "{name}");
        let wrong = theirs.iter().find(|event| event["contid"].as_str() != contid);
        assert!(wrong.is_none(), "{name}: {wrong:?}");
    }
    bench.trail_is_good();
}
