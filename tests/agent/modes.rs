//! Whether the agent is the audit daemon: what it sets and puts back, and that nothing is lost or doubled when
//! another process takes the place.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use host::audit::{Control, Error, Stream};
use rustix::process::Signal;

use crate::auditing::Auditing;
use crate::bench::{Agent, Bench, number, soon};
use crate::losses::stored;

const OWN: [&str; 2] = ["--audit-mode", "own"];

/// Set when this goes, by a panic too.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn pid(agent: &Agent) -> u32 {
    agent.pid.as_raw_nonzero().get().cast_unsigned()
}

/// The states that the agent has recorded.
fn states(bench: &Bench) -> Vec<String> {
    let bodies = bench.bodies("VT_AGENT");
    let state = |body: &String| {
        let word = body.split(' ').find_map(|word| word.strip_prefix("state="));
        word.map(str::to_owned)
    };
    bodies.iter().filter_map(state).collect()
}

#[test]
fn in_own_mode_it_is_the_daemon_and_puts_back_what_it_set() {
    let test = "in_own_mode_it_is_the_daemon_and_puts_back_what_it_set";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    auditing.control.set_enabled(false).unwrap();
    auditing.control.set_backlog_limit(100).unwrap();
    let before = auditing.control.status().unwrap();
    let bench = Bench::new();
    bench.write("config", "[audit]\nbacklog_limit = 5000\nbacklog_wait_time = 1234\n");
    let agent = bench.start(&["--config", "config", OWN[0], OWN[1]]);
    assert!(agent.says("; own: as configured"), "{:?}", agent.said);
    let during = auditing.control.status().unwrap();
    assert_eq!(during.pid, pid(&agent));
    assert_eq!((during.enabled, during.backlog_limit, during.backlog_wait_time), (1, 5000, 1234));
    auditing.send("own", 100);
    soon("the last", || bench.source("audit", "messages").as_u64() >= Some(100));
    soon("its state", || bench.status()["audit"]["daemon"] == pid(&agent));
    assert_eq!(bench.status()["audit"]["own"], true);
    assert_eq!(agent.stop(), Some(0));
    let after = auditing.control.status().unwrap();
    assert_eq!((after.pid, after.enabled, after.backlog_limit), (0, 0, 100));
    assert_eq!(after.backlog_wait_time, before.backlog_wait_time);
    assert_eq!(stored(&bench, "own").len(), 100);
    assert_eq!(bench.bodies("VT_GAP"), [""; 0]);
    assert_eq!(states(&bench), ["started", "audit-own", "audit-restored", "stopped"]);
    let own = bench.bodies("VT_AGENT").remove(1);
    assert!(own.contains(" backlog_limit=100-5000 backlog_wait_time="), "{own}");
    assert!(own.ends_with("-1234 enabled=0-1"), "{own}");
    bench.trail_is_good();
}

/// A limit that the kernel does not take is told, and is no reason to hear nothing.
#[test]
fn a_limit_that_is_refused_leaves_auditing_on() {
    let test = "a_limit_that_is_refused_leaves_auditing_on";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let before = auditing.control.status().unwrap().backlog_wait_time;
    if auditing.control.set_backlog_wait_time(600_000).is_ok() {
        auditing.control.set_backlog_wait_time(before).unwrap();
        eprintln!("SKIPPED: {test}: a kernel of 1000 Hz takes all that a configuration may say");
        return;
    }
    auditing.control.set_enabled(false).unwrap();
    auditing.control.set_backlog_limit(100).unwrap();
    let bench = Bench::new();
    bench.write("config", "[audit]\nbacklog_limit = 5000\nbacklog_wait_time = 600000\n");
    let agent = bench.start(&["--config", "config", OWN[0], OWN[1]]);
    let during = auditing.control.status().unwrap();
    assert_eq!((during.enabled, during.backlog_limit), (1, 5000));
    assert_eq!(during.backlog_wait_time, before);
    auditing.send("own", 10);
    soon("the last", || stored(&bench, "own").len() == 10);
    assert_eq!(agent.stop(), Some(0));
    let after = auditing.control.status().unwrap();
    assert_eq!((after.enabled, after.backlog_limit, after.backlog_wait_time), (0, 100, before));
    let own = bench.bodies("VT_AGENT").remove(1);
    assert!(own.contains(" backlog_limit=100-5000 enabled=0-1 unchanged="), "{own}");
    assert!(own.contains("wait time"), "{own}");
}

#[test]
fn what_a_killed_agent_set_the_next_one_puts_back() {
    let test = "what_a_killed_agent_set_the_next_one_puts_back";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    auditing.control.set_enabled(false).unwrap();
    auditing.control.set_backlog_limit(100).unwrap();
    // Another one that owns, and one that does not.
    for mode in ["own", "coexist"] {
        let bench = Bench::new();
        bench.start(&OWN).kill();
        let left = auditing.control.status().unwrap();
        assert_eq!((left.enabled, left.backlog_limit), (1, 8192), "{mode}");
        let agent = bench.start(&["--audit-mode", mode]);
        let now = auditing.control.status().unwrap();
        let owned = mode == "own";
        assert_eq!((now.enabled, now.pid == pid(&agent)), (owned.into(), owned), "{mode}");
        assert_eq!(agent.stop(), Some(0));
        let after = auditing.control.status().unwrap();
        assert_eq!((after.enabled, after.backlog_limit), (0, 100), "{mode}");
        assert!(!bench.path("run/agent/audit.json").exists(), "{mode}");
        assert!(states(&bench).contains(&"audit-restored".to_owned()), "{:?}", states(&bench));
    }
}

/// Somebody else's setting is not undone.
#[test]
fn what_somebody_else_has_set_since_stays() {
    let test = "what_somebody_else_has_set_since_stays";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    auditing.control.set_enabled(false).unwrap();
    auditing.control.set_backlog_limit(100).unwrap();
    let bench = Bench::new();
    let agent = bench.start(&OWN);
    auditing.control.set_backlog_limit(333).unwrap();
    assert_eq!(agent.stop(), Some(0));
    let after = auditing.control.status().unwrap();
    assert_eq!((after.enabled, after.backlog_limit), (0, 333));
}

#[test]
fn a_daemon_that_comes_fails_once_and_nothing_is_lost_or_doubled() {
    let test = "a_daemon_that_comes_fails_once_and_nothing_is_lost_or_doubled";
    let Some(auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    let agent = bench.start(&OWN);
    let (sent, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        // However this ends: the scope waits for the sender.
        let stop = Stop(&done);
        scope.spawn(|| {
            let mut control = Control::open().unwrap();
            while !done.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    let n = sent.fetch_add(1, Ordering::Relaxed);
                    control.send_user(1121, format!("switch n={n}").as_bytes()).unwrap();
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        thread::sleep(Duration::from_millis(300));
        let refused = Stream::register(1 << 20);
        // Asked who that is, the kernel may find that it has left already.
        let by = [0, pid(&agent)];
        assert!(
            matches!(&refused, Err(Error::DaemonExists { pid, .. }) if by.contains(pid)),
            "{refused:?}"
        );
        let mut daemon = None;
        soon("the seat", || {
            daemon = Stream::register(16 << 20).ok();
            daemon.is_some()
        });
        thread::sleep(Duration::from_millis(300));
        soon("its state", || bench.status()["audit"]["own"] == false);
        let us = std::process::id();
        soon("the daemon", || bench.status()["audit"]["daemon"] == us);
        drop(stop);
        drop(daemon);
    });
    let sent = sent.into_inner();
    soon("the last", || bench.source("audit", "messages").as_u64() >= Some(sent as u64));
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(stored(&bench, "switch").len(), sent);
    assert_eq!(bench.bodies("VT_GAP"), [""; 0]);
    assert_eq!(states(&bench)[..3], ["started", "audit-own", "audit-coexist"]);
    let left = bench.bodies("VT_AGENT").remove(2);
    let asked = format!("reason='process {} asked to be the audit daemon'", std::process::id());
    assert!(left.contains(&asked), "{left}");
    bench.trail_is_good();
    drop(auditing);
}

#[test]
fn beside_a_daemon_nothing_is_changed() {
    let test = "beside_a_daemon_nothing_is_changed";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let mut daemon = Stream::register(16 << 20).unwrap();
    let before = auditing.control.status().unwrap();
    for mode in ["auto", "coexist", "own"] {
        let bench = Bench::new();
        let agent = bench.start(&["--audit-mode", mode]);
        assert!(agent.says("; coexist: "), "{:?}", agent.said);
        auditing.send(mode, 500);
        soon("the last", || bench.source("audit", "messages").as_u64() >= Some(500));
        assert_eq!(auditing.control.status().unwrap().pid, std::process::id());
        assert_eq!(agent.stop(), Some(0));
        assert_eq!(stored(&bench, mode).len(), 500);
        assert!(!bench.path("run/agent/audit.json").exists());
    }
    let after = auditing.control.status().unwrap();
    assert_eq!(after.pid, before.pid);
    let limits = |s: &host::audit::Status| (s.enabled, s.backlog_limit, s.backlog_wait_time);
    assert_eq!(limits(&after), limits(&before));
    // The daemon has every message, and was never asked whether it is there.
    let mut messages = 0;
    loop {
        match daemon.recv(Some(Duration::from_millis(300))).unwrap() {
            host::audit::Received::Record { kind: 1121, .. } => messages += 1,
            host::audit::Received::Record { .. } => {}
            host::audit::Received::Contested { pid } => assert_ne!(pid, 0),
            host::audit::Received::TimedOut => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(messages, 1500);
}

/// All of it while the agent stands still for a while, so that both sockets are full.
#[test]
fn a_flood_in_own_mode_is_stored_or_counted() {
    let test = "a_flood_in_own_mode_is_stored_or_counted";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    const FLOOD: usize = 50_000;
    for (buffer, halts) in [(64 << 20, 5), (4096, 5)] {
        let bench = Bench::new();
        let config = format!("[agent]\nsources = [\"audit\"]\naudit_buffer = {buffer}\n");
        bench.write("config", &config);
        let agent = bench.start(&["--config", "config", OWN[0], OWN[1]]);
        for halt in 0..halts {
            agent.signal(Signal::STOP);
            auditing.send(&format!("a{halt}"), 1000);
            agent.signal(Signal::CONT);
            auditing.send(&format!("b{halt}"), FLOOD / halts - 1000);
        }
        let messages = || bench.source("audit", "messages").as_u64().unwrap();
        let lost = || bench.source("audit", "lost").as_u64().unwrap();
        soon("the last", || messages() + lost() >= FLOOD as u64);
        assert_eq!(agent.stop(), Some(0));
        let kept = bench.bodies("TRUSTED_APP").len();
        let distinct: usize = (0..halts)
            .map(|n| {
                stored(&bench, &format!("a{n}")).len() + stored(&bench, &format!("b{n}")).len()
            })
            .sum();
        assert_eq!(kept, distinct);
        let gaps = bench.gaps("audit");
        let lost: u64 = gaps.iter().map(|gap| number(gap, "records")).sum();
        eprintln!("buffer {buffer}: {kept} stored, {lost} in gaps, {:?}", bench.bodies("VT_GAP"));
        // Of audit's own records, as that of our registration, some may be among the lost.
        let (sum, flood) = (kept as u64 + lost, FLOOD as u64);
        assert!((flood..=flood + 4).contains(&sum), "{sum}: {gaps:?}");
        bench.trail_is_good();
        assert!(fs::metadata(bench.path("run/agent/audit.json")).is_err());
    }
}
