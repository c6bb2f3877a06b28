//! What programs in the kernel tell of processes.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::bench::{Bench, number, soon};

/// Whether this machine lets us load programs; says so where it does not.
fn can_load(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: {test}: needs root");
        return false;
    }
    let bench = Bench::new();
    let ran = bench.veritrail(&["doctor", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let programs =
        found["findings"].as_array().unwrap().iter().find(|f| f["name"] == "BPF programs");
    let seen = programs.unwrap()["seen"].as_str().unwrap().to_owned();
    let loads = seen.starts_with("fork, exec, exit");
    if !loads {
        eprintln!("SKIPPED: {test}: programs that load here: {seen}");
    }
    loads
}

/// A shell that makes that many processes, each of which runs true(1).
fn shell(processes: u32) {
    let script = format!("n=0; while [ $n -lt {processes} ]; do n=$((n+1)); /bin/true; done");
    assert!(Command::new("/bin/sh").args(["-c", &script]).status().unwrap().success());
}

fn count(bench: &Bench, key: &str) -> u64 {
    bench.source("bpf", key).as_u64().unwrap()
}

#[test]
fn the_agent_hears_every_process_and_loses_none() {
    if !can_load("the_agent_hears_every_process_and_loses_none") {
        return;
    }
    let bench = Bench::new();
    bench.write("config", "[agent]\nsources = [\"bpf\"]\n[bpf]\nstatistics = true\n");
    let agent = bench.start(&["--config", "config"]);
    assert!(agent.says("bpf: listening: fork, exec, exit"), "{:?}", agent.said);
    shell(300);
    soon("the last event", || count(&bench, "messages") >= 900);
    assert_eq!(count(&bench, "lost"), 0);
    let status = bench.status();
    let programs = status["programs"].as_array().unwrap();
    for name in ["fork", "exec", "exit"] {
        let program = programs.iter().find(|program| program["name"] == name).unwrap();
        assert_eq!((&program["state"], &program["lost"]), (&"attached".into(), &0.into()));
    }
    soon("the runs", || {
        let status = bench.status();
        status["programs"]
            .as_array()
            .unwrap()
            .iter()
            .any(|program| program["name"] == "exec" && program["runs"].as_u64() >= Some(300))
    });
    let kept = bench.status()["tasks"]["kept"].as_u64().unwrap();
    assert!(kept > 5, "{kept}");
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bench.bodies("VT_GAP"), [""; 0]);
}

#[test]
fn what_is_told_while_no_agent_runs_waits_for_the_next() {
    if !can_load("what_is_told_while_no_agent_runs_waits_for_the_next") {
        return;
    }
    let bench = Bench::new();
    bench.write("config", "[agent]\nsources = [\"bpf\"]\n");
    let agent = bench.start(&["--config", "config"]);
    let first = bench.status()["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap();
    kill_process(Pid::from_raw(first).unwrap(), Signal::KILL).unwrap();
    shell(100);
    soon("the events that waited", || {
        let ran = bench.veritrail(&["agent", "status", "--json", "--run-dir", "run"]);
        let status: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_default();
        let sources = status["sources"].as_array().cloned().unwrap_or_default();
        status["pid"] != first
            && sources
                .iter()
                .any(|one| one["name"] == "bpf" && one["messages"].as_u64() >= Some(300))
    });
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bench.gaps("bpf"), [""; 0]);
}

#[test]
fn events_that_find_no_room_are_a_gap_with_their_number() {
    if !can_load("events_that_find_no_room_are_a_gap_with_their_number") {
        return;
    }
    let bench = Bench::new();
    let config = "[agent]\nsources = [\"bpf\"]\n[bpf]\nring_bytes = 4096\nstatistics = true\n";
    bench.write("config", config);
    let agent = bench.start(&["--config", "config"]);
    for pid in agent.family() {
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::STOP).unwrap();
    }
    shell(200);
    for pid in agent.family() {
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::CONT).unwrap();
    }
    soon("the loss", || count(&bench, "lost") > 500);
    assert_eq!(agent.stop(), Some(0));
    let gaps = bench.gaps("bpf");
    assert!(!gaps.is_empty());
    assert!(gaps.iter().all(|gap| gap.contains(" count=exact from=")), "{gaps:?}");
    let told: u64 = gaps.iter().map(|gap| number(gap, "records")).sum();
    let states = bench.bodies("VT_AGENT");
    // bpf=MESSAGES/EVENTS/LOST
    let counts = states.last().unwrap().split(" bpf=").nth(1).unwrap();
    let lost = counts.split([' ', '/']).nth(2).unwrap();
    assert_eq!(told.to_string(), lost, "{gaps:?} {states:?}");
    bench.trail_is_good();
}
