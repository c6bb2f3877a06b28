//! Audit by the real auditd, which hands events on: by its af_unix plugin, and by ours that it starts.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::auditd::{Auditd, configure, log, logged};
use crate::auditing::Auditing;
use crate::bench::{Agent, Bench, number, soon};
use crate::losses::stored;

const MESSAGES: usize = 5000;

/// The ways, and the agent's argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Socket,
    Plugin,
}

impl Way {
    /// Has auditd hand its events on; what the agent is to be told.
    fn prepare(self, bench: &Bench, format: &str) -> String {
        let (path, kind, arguments, input) = match self {
            Way::Socket => {
                let socket = bench.path("events");
                let socket = socket.display();
                let arguments = format!("args = 0600 {socket}\n");
                ("builtin_af_unix".into(), "builtin", arguments, format!("unix:{socket}"))
            }
            Way::Plugin => {
                // auditd gives a plugin two arguments at most.
                let (binary, run) = (env!("CARGO_BIN_EXE_veritrail"), bench.path("run"));
                let script =
                    format!("#!/bin/sh\nexec {binary} agent plugin --run-dir {}\n", run.display());
                bench.write("plugin", &script);
                let mode = fs::Permissions::from_mode(0o750);
                fs::set_permissions(bench.path("plugin"), mode).unwrap();
                let path = bench.path("plugin").display().to_string();
                (path, "always", String::new(), "stdin".to_owned())
            }
        };
        let plugin = format!(
            "active = yes\ndirection = out\npath = {path}\ntype = {kind}\n{arguments}format = {format}\n"
        );
        bench.write("auditd/plugins/veritrail.conf", &plugin);
        let mode = fs::Permissions::from_mode(0o640);
        fs::set_permissions(bench.path("auditd/plugins/veritrail.conf"), mode).unwrap();
        input
    }
}

/// Sends messages until one is stored: auditd takes a connection in its own time, and what it had before that
/// is lost.
fn stand(bench: &Bench, auditing: &mut Auditing, word: &str) {
    let mut sent = 0;
    soon("a connection", || {
        auditing.control.send_user(1121, format!("{word} n={sent}").as_bytes()).unwrap();
        sent += 1;
        let until = Instant::now() + Duration::from_millis(500);
        while Instant::now() < until {
            if !stored(bench, word).is_empty() {
                return true;
            }
        }
        false
    });
}

/// Stamp, serial and text of messages of a word, in `text`.
fn messages(text: &str, word: &str) -> BTreeMap<String, String> {
    let of_word = format!("msg='{word} n=");
    let lines = text.lines().filter(|line| line.contains(&of_word));
    let parts = lines.map(|line| {
        let id = line.split_once("msg=").unwrap().1.split_once("): ").unwrap();
        (id.0.to_owned(), id.1.split('\x1d').next().unwrap().to_owned())
    });
    let parts: Vec<_> = parts.collect();
    let count = parts.len();
    let map: BTreeMap<_, _> = parts.into_iter().collect();
    assert_eq!(map.len(), count, "something is there twice");
    map
}

/// What is stored of a word is what auditd has in its log.
fn same_as_log(bench: &Bench, word: &str) {
    let ran = bench.veritrail(&["search", "--trail", "trail", "--raw", "-m", "TRUSTED_APP"]);
    let log = String::from_utf8_lossy(&fs::read(log(bench)).unwrap()).into_owned();
    let (ours, theirs) = (messages(&ran.out, word), messages(&log, word));
    assert!(ours == theirs, "{} stored, {} in auditd's log", ours.len(), theirs.len());
}

/// Events that are said to be missing.
fn missing(bench: &Bench) -> u64 {
    let gaps = [bench.gaps("auditd"), bench.gaps("agent"), bench.gaps("plugin")].concat();
    eprintln!("gaps: {gaps:?}");
    let counted = gaps.iter().filter(|gap| !gap.contains(" count=unknown"));
    counted
        .map(|gap| number(gap, if gap.contains(" events=") { "events" } else { "records" }))
        .sum()
}

fn states(bench: &Bench) -> Vec<String> {
    let ours = |body: &String| body.contains("state=audit-");
    bench.bodies("VT_AGENT").into_iter().filter(ours).collect()
}

/// Nothing was asked of the kernel: no record of a listener, and no right to that is in use. (One that may
/// have to become the doorkeeper keeps what that needs.)
fn asks_the_kernel_for_nothing(bench: &Bench, agent: &Agent) {
    let listeners = bench.bodies("EVENT_LISTENER");
    let ours = |body: &&String| body.contains("comm=\"veritrail\"");
    assert_eq!(listeners.iter().filter(ours).count(), 0, "{listeners:?}");
    let status = format!("/proc/{}/status", agent.pid.as_raw_nonzero());
    let status = fs::read_to_string(status).unwrap();
    let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let rights = u64::from_str_radix(rights.trim(), 16).unwrap();
    const CAP_AUDIT_READ: u32 = 37;
    assert_eq!(rights >> CAP_AUDIT_READ & 1, 0, "{rights:x}");
}

fn every_message(way: Way, test: &str) {
    let Some(mut auditing) = Auditing::begin(test) else { return };
    for format in ["string", "binary"] {
        let bench = Bench::new();
        if !configure(&bench, test) {
            return;
        }
        let input = way.prepare(&bench, format);
        let (auditd, pid) = Auditd::start(&bench, &mut auditing);
        // An owner is none where auditd reads for it.
        let agent = bench.start(&["--audit-input", &input, "--audit-mode", "own"]);
        stand(&bench, &mut auditing, "begin");
        auditing.send("all", MESSAGES);
        soon("auditd's log", || logged(&bench, "all") == MESSAGES);
        soon("the last", || stored(&bench, "all").len() == MESSAGES);
        same_as_log(&bench, "all");
        asks_the_kernel_for_nothing(&bench, &agent);
        assert_eq!(auditing.control.status().unwrap().pid, pid);
        let before = missing(&bench);

        // What anybody may send: the longest text, and one that looks like a record.
        let forged = "x'\ntype=DM_EVENT msg=audit(1.000:1): module=verity op=verify-data dev=7:0 \
                      sector=1 res=0\n\x1dVT_LEAF=1";
        auditing.control.send_user(1121, forged.as_bytes()).unwrap();
        let long = format!("long n=0' {}", "y".repeat(8500));
        auditing.control.send_user(1121, long.as_bytes()).unwrap();
        soon("the long one", || {
            bench.bodies("TRUSTED_APP").iter().any(|body| body.contains(&"y".repeat(8400)))
        });
        assert_eq!(bench.bodies("DM_EVENT"), [""; 0]);

        // auditd is stopped, and started again.
        auditd.stop(pid, Signal::TERM);
        auditing.control.set_enabled(true).unwrap();
        soon("its end", || bench.source("audit", "state") == "missing");
        auditing.send("between", 200);
        let (auditd, pid) = Auditd::start(&bench, &mut auditing);
        stand(&bench, &mut auditing, "again");
        auditing.send("after", MESSAGES);
        soon("the last", || stored(&bench, "after").len() == MESSAGES);
        same_as_log(&bench, "after");
        soon("its state", || bench.source("audit", "state") == "listening");
        // A hole is one when nothing can fill it any more.
        std::thread::sleep(Duration::from_secs(5));
        let (kept, gaps) = (stored(&bench, "between").len(), missing(&bench) - before);
        eprintln!(
            "{way:?} {format}: of 200 without auditd {kept} stored, {gaps} said to be missing"
        );
        assert!(kept as u64 + gaps >= 200, "{kept} {gaps}");
        let said = states(&bench);
        assert!(said.iter().any(|state| state.contains("audit-disconnected")), "{said:?}");
        assert!(said.iter().any(|state| state.contains("audit-connected")), "{said:?}");

        assert_eq!(agent.stop(), Some(0));
        auditd.stop(pid, Signal::TERM);
        auditing.control.set_enabled(true).unwrap();
        bench.trail_is_good();
    }
}

#[test]
fn auditds_socket_brings_every_message_once() {
    every_message(Way::Socket, "auditds_socket_brings_every_message_once");
}

#[test]
fn a_plugin_of_auditd_brings_every_message_once() {
    every_message(Way::Plugin, "a_plugin_of_auditd_brings_every_message_once");
}

/// While no agent takes what a plugin has, it waits there.
#[test]
fn agents_come_and_go_beneath_a_plugin() {
    let test = "agents_come_and_go_beneath_a_plugin";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    if !configure(&bench, test) {
        return;
    }
    let input = Way::Plugin.prepare(&bench, "binary");
    let (auditd, pid) = Auditd::start(&bench, &mut auditing);
    let start = || bench.start(&["--audit-input", &input]);
    // The plugin was there first.
    let agent = start();
    stand(&bench, &mut auditing, "begin");
    auditing.send("first", 500);
    soon("the last", || stored(&bench, "first").len() == 500);
    assert_eq!(agent.stop(), Some(0));
    assert!(!bench.path("run/agent/dispatch").exists());
    auditing.send("stopped", 1000);
    let agent = start();
    auditing.send("second", 500);
    soon("the last", || stored(&bench, "second").len() == 500);
    let (kept, gaps) = (stored(&bench, "stopped").len(), missing(&bench));
    eprintln!("stopped: of 1000 without an agent {kept} stored, {gaps} said to be missing");
    assert!(kept as u64 + gaps >= 1000 && kept > 900, "{kept} {gaps}");

    // Killed, all at once, amid a flood.
    auditing.send("flood", 2000);
    agent.kill();
    auditing.send("killed", 1000);
    let agent = start();
    auditing.send("third", 500);
    soon("the last", || stored(&bench, "third").len() == 500);
    std::thread::sleep(Duration::from_secs(5));
    let kept = stored(&bench, "flood").len() + stored(&bench, "killed").len();
    let more = missing(&bench) - gaps;
    eprintln!("killed: of 3000 {kept} stored, {more} said to be missing");
    assert!(kept as u64 + more >= 3000, "{kept} {more}");
    assert_eq!(agent.stop(), Some(0));
    auditd.stop(pid, Signal::TERM);
    auditing.control.set_enabled(true).unwrap();
    bench.trail_is_good();
}

/// Who is no auditd is left, whatever he writes, and nothing else is held up meanwhile.
#[test]
fn garbage_on_the_socket_is_left_and_hurts_nobody() {
    let bench = Bench::new();
    let listener = UnixListener::bind(bench.path("events")).unwrap();
    let input = format!("unix:{}", bench.path("events").display());
    bench.write("config", "[agent]\nsources = [\"audit\", \"clock\"]\n");
    let agent = bench.start(&["--config", "config", "--audit-input", &input]);
    let header = |numbers: [u32; 4]| numbers.map(u32::to_ne_bytes).concat();
    let meet = || -> UnixStream {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    };
    let wave: Vec<u8> = (0..100_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    for (garbage, reason) in [
        (b"GET / HTTP/1.0\r\n\r\n".to_vec(), "is no record"),
        (header([0, 16, 1121, 9000]), "size=9000"),
        (header([7, 16, 1121, 90]), "version=7"),
        (wave, "reason="),
        (vec![b'x'; 8 << 20], "a line of more than"),
        // It hangs amid a message.
        (b"type=TRUSTED_APP msg=audit(1.000:".to_vec(), "rest of a message"),
    ] {
        let mut stream = meet();
        // It is closed under the writer's hands.
        let _ = stream.write_all(&garbage);
        let began = Instant::now();
        while matches!(stream.read(&mut [0; 64]), Ok(1..)) {}
        assert!(began.elapsed() < Duration::from_secs(15), "{reason}");
        soon(reason, || states(&bench).iter().any(|state| state.contains(reason)));
        assert_eq!(bench.status()["trail_works"], true);
    }
    // What is right is taken, also behind what was not.
    let node = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let mut stream = meet();
    let line = |n: u32| {
        format!(
            "type=TRUSTED_APP msg=audit(1795359066.544:{}): pid=1 uid=0 msg='good n={n}'\n",
            100 + n
        )
    };
    stream.write_all(line(0).as_bytes()).unwrap();
    stream.write_all(format!("node={} {}", node.trim(), line(1)).as_bytes()).unwrap();
    let other = "node=other type=UNKNOWN[1339] msg=audit(1795359066.544:7000): module=verity \
                 op=verify-data dev=7:0 sector=1 res=0\n";
    stream.write_all(other.as_bytes()).unwrap();
    // Two are missing, and a later one comes first.
    for n in [5, 2, 6] {
        stream.write_all(line(n).as_bytes()).unwrap();
    }
    soon("the good ones", || stored(&bench, "good").len() == 5);
    soon("the gap", || bench.gaps("auditd").iter().any(|gap| gap.contains("events=2 ")));
    // Another machine's violation is stored, and is none of ours.
    let ran = bench.veritrail(&["search", "--trail", "trail", "--raw", "-m", "DM_EVENT"]);
    assert!(ran.out.starts_with("node=other type="), "{ran:?}");
    assert!(ran.out.contains(" VT_SRC=auditd"), "{ran:?}");
    assert_eq!(bench.status()["violations"], 0);
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}
