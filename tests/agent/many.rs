//! Many containers of many processes: what the agent needs for them, and that it tells the end of each once.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Pid;

use crate::bench::{Bench, number, soon};
use crate::containers::{BPF_ONLY, set, start_for};

/// KiB in memory.
fn resident(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Trees that end with the test, however it ends.
struct Trees(Vec<Child>);

impl Drop for Trees {
    fn drop(&mut self) {
        for tree in &mut self.0 {
            // Its children are of its group.
            let pid = i32::try_from(tree.id()).ok().and_then(Pid::from_raw).unwrap();
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            let _ = tree.wait();
        }
    }
}

/// 200 trees and 20,000 processes in `make test-long`.
#[test]
fn many_trees_fit_into_the_memory_that_is_promised() {
    let test = "many_trees_fit_into_the_memory_that_is_promised";
    let long = std::env::var_os("VERITRAIL_LONG").is_some();
    let (trees, processes) = if long { (200, 100) } else { (40, 25) };
    let limit = |path: &str| -> u64 { fs::read_to_string(path).unwrap().trim().parse().unwrap() };
    let room = limit("/proc/sys/kernel/pid_max").min(limit("/proc/sys/kernel/threads-max"));
    let free = fs::read_to_string("/proc/meminfo").unwrap();
    let free = free.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    let free: u64 = free.trim().trim_end_matches(" kB").parse().unwrap();
    let wanted = trees * processes;
    if room < wanted + 4000 || free / 256 < wanted {
        return eprintln!("SKIPPED: {test}: no room for {wanted} processes ({room}, {free} kB)");
    }
    let _alone = crate::auditing::lock();
    let bench = Bench::new();
    bench.write("config", BPF_ONLY);
    let Some(agent) = start_for("300", test, &bench, &["--config", "config"]) else {
        return;
    };
    let who = [("agent", agent.pid), ("doorkeeper", agent.doorkeeper), ("writer", agent.writer)];
    let before = who.map(|(_, pid)| resident(pid));
    let gate = bench.path("gate");
    mknodat(CWD, &gate, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let script = format!(
        "read line; n=1; while [ $n -lt {processes} ]; do n=$((n+1)); read x <$0 & done; wait"
    );
    let one = |_| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]).arg(&gate).stdin(Stdio::piped());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn().unwrap()
    };
    let mut all = Trees((0..trees).map(one).collect());
    let mut took = Vec::new();
    for (contid, tree) in (1000..).zip(&all.0) {
        let began = Instant::now();
        set(&bench, tree.id(), &contid.to_string()).unwrap();
        took.push(began.elapsed());
    }
    took.sort_unstable();
    let began = Instant::now();
    for tree in &mut all.0 {
        tree.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
    let counted = || {
        let status = bench.status();
        let containers = status["containers"].as_array().unwrap();
        containers.iter().filter_map(|one| one["processes"].as_u64()).sum::<u64>()
    };
    soon("all of them", || counted() == wanted);
    let known = began.elapsed();
    let full = who.map(|(_, pid)| resident(pid));
    // Whose what each of them does is is known.
    let tasks = bench.status()["tasks"].clone();
    assert!(tasks["kept"].as_u64() >= Some(wanted) && tasks["turned_away"] == 0, "{tasks}");
    // All are let go by one open.
    let began = Instant::now();
    drop(OpenOptions::new().write(true).open(&gate).unwrap());
    for tree in &mut all.0 {
        tree.wait().unwrap();
    }
    let drops =
        || bench.bodies("CONTAINER_OP").into_iter().filter(|body| body.starts_with("op=drop "));
    soon("their ends", || drops().count() as u64 >= trees);
    let ended = began.elapsed();
    std::thread::sleep(Duration::from_millis(500));
    let mut ids: Vec<u64> = drops().map(|body| number(&body, "old-contid")).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1000..1000 + trees).collect::<Vec<_>>());
    eprintln!(
        "{trees} trees, {wanted} processes: a label {:?} (median), {:?} (longest); all known after {known:?}, all ends told \
         after {ended:?}",
        took[took.len() / 2],
        took[took.len() - 1]
    );
    for (((name, _), before), full) in who.iter().zip(before).zip(full) {
        eprintln!("{name}: {before} kB before, {full} kB with them");
        assert!(full < 64 << 10, "{name}: {full} kB");
    }
    assert_eq!(bench.status()["containers"], serde_json::json!([]));
    assert_eq!(agent.stop(), Some(0));
    let gaps = bench.bodies("VT_GAP");
    assert!(gaps.is_empty(), "{gaps:?}");
    bench.trail_is_good();
}
