//! Beginning, end, and what can be asked in between.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::auditing::Auditing;
use crate::bench::{Bench, has_fuse, soon};

#[test]
fn it_makes_its_directories_says_ready_and_leaves_nothing_mounted() {
    let Some(mut auditing) =
        Auditing::begin("it_makes_its_directories_says_ready_and_leaves_nothing_mounted")
    else {
        return;
    };
    let bench = Bench::new();
    let agent = bench.start(&[]);
    assert!(agent.says("audit: listening: multicast"), "{:?}", agent.said);
    let mode = |path: &str| fs::metadata(bench.path(path)).unwrap().mode() & 0o777;
    assert_eq!((mode("run/agent"), mode("trail")), (0o700, 0o750));
    assert!(fs::metadata(bench.path("run/agent/control")).unwrap().file_type().is_socket());
    if has_fuse() {
        assert_eq!(fs::read_dir(bench.path("run/fs")).unwrap().count(), 2);
        assert_eq!(fs::read_dir(bench.path("run/fs/devices")).unwrap().count(), 0);
        let none = fs::read(bench.path("run/fs/devices/none")).unwrap_err();
        assert_eq!(none.raw_os_error(), Some(Errno::NOENT.raw_os_error()));
        let made = fs::write(bench.path("run/fs/devices/new"), "").unwrap_err();
        assert_eq!(made.raw_os_error(), Some(Errno::PERM.raw_os_error()));
    }
    auditing.send("hello there", 3);
    soon("the third message", || bench.bodies("TRUSTED_APP").len() == 3);
    let bodies = bench.bodies("TRUSTED_APP");
    assert!(bodies[2].contains("msg='hello there n=2'"), "{bodies:?}");
    soon("the count of them", || bench.source("audit", "events").as_u64() >= Some(3));
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bench.mounts(), [""; 0]);
    assert!(!bench.path("run/agent/control").exists());
    let states = bench.bodies("VT_AGENT");
    assert!(states[0].starts_with("state=started pid="), "{states:?}");
    assert!(states[0].contains(" sources=audit,"), "{states:?}");
    assert!(states[1].starts_with("state=stopped pid="), "{states:?}");
    assert!(states[1].ends_with(" drained=yes"), "{states:?}");
    bench.trail_is_good();
    let asked = bench.veritrail(&["agent", "status", "--run-dir", "run"]);
    assert_eq!(asked.status, Some(1), "{asked:?}");
    assert!(asked.out.starts_with("no agent in "), "{asked:?}");
}

/// A stop that comes while it begins is one.
#[test]
fn a_stop_at_any_moment_of_the_start_ends_it() {
    let Some(_auditing) = Auditing::begin("a_stop_at_any_moment_of_the_start_ends_it") else {
        return;
    };
    let mut early = 0;
    for delay in [0, 5, 10, 20, 40, 80, 120, 160, 240, 320, 480] {
        let bench = Bench::new();
        let mut child = bench.launch();
        let lock = bench.path("run/agent/lock");
        let until = Instant::now() + Duration::from_secs(10);
        while !lock.exists() {
            assert!(Instant::now() < until, "it does not begin");
        }
        thread::sleep(Duration::from_millis(delay));
        let doorkeeper = Pid::from_child(&child);
        kill_process(doorkeeper, Signal::TERM).unwrap();
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "after {delay} ms it does not end");
            thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(0), "after {delay} ms");
        assert_eq!((bench.mounts(), bench.processes()), (vec![], vec![]), "after {delay} ms");
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        early += usize::from(!said.contains("ready"));
        bench.trail_is_good();
    }
    assert!(early > 0, "it was always ready");
}

#[test]
fn a_run_directory_has_one_agent() {
    let Some(_auditing) = Auditing::begin("a_run_directory_has_one_agent") else { return };
    let bench = Bench::new();
    let agent = bench.start(&[]);
    let second = bench.veritrail(&["agent", "run", "--trail", "other", "--run-dir", "run"]);
    assert_eq!(second.status, Some(2), "{second:?}");
    assert!(second.err.contains("there is an agent in "), "{second:?}");
    assert!(!bench.path("other").exists(), "it made a trail before it looked");
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bench.start(&[]).stop(), Some(0));
}

#[test]
fn what_its_own_calls_cause_is_counted_and_not_kept() {
    let Some(mut auditing) = Auditing::begin("what_its_own_calls_cause_is_counted_and_not_kept")
    else {
        return;
    };
    let bench = Bench::new();
    let agent = bench.start(&[]);
    // Every write of a record would be a record.
    let ruled = std::process::Command::new("auditctl")
        .args(["-a", "always,exit", "-F", "arch=b64", "-S", "fdatasync", "-k", "mine"])
        .args(["-F", &format!("pid={}", agent.writer.as_raw_nonzero())])
        .output();
    let Ok(ruled) = ruled else {
        eprintln!("SKIPPED: what_its_own_calls_cause_is_counted_and_not_kept: no auditctl");
        return;
    };
    assert!(ruled.status.success(), "{ruled:?}");
    auditing.send("again", 5);
    soon("an event of its own", || bench.status()["own_events"].as_u64() > Some(0));
    agent.signal(Signal::TERM);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bench.bodies("SYSCALL").iter().filter(|b| b.contains("mine")).count(), 0);
    bench.trail_is_good();
}

#[test]
fn a_tree_that_a_killed_agent_left_is_dead_and_is_replaced() {
    let test = "a_tree_that_a_killed_agent_left_is_dead_and_is_replaced";
    let Some(_auditing) = Auditing::begin(test) else { return };
    if !has_fuse() {
        eprintln!("SKIPPED: {test}: /dev/fuse cannot be opened");
        return;
    }
    let bench = Bench::new();
    let tree = bench.path("elsewhere/tree");
    let mount = ["--mount", "elsewhere/tree"];
    bench.start(&mount).kill();
    let dead = fs::read_dir(&tree).unwrap_err();
    assert_eq!(dead.raw_os_error(), Some(Errno::NOTCONN.raw_os_error()));
    let agent = bench.start(&mount);
    assert!(fs::read_dir(tree.join("devices")).is_ok());
    assert_eq!(bench.mounts().len(), 1);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bench.mounts(), [""; 0]);
}
