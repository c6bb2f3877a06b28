//! Beside the real auditd: it is started before and after the agent, stopped, started again and killed, and has
//! every message in its log meanwhile.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::auditing::Auditing;
use crate::bench::{Bench, soon};
use crate::losses::stored;

/// auditd with a configuration and a log of its own. Ended when it is dropped.
pub(crate) struct Auditd {
    process: Child,
}

/// Where it writes.
pub(crate) fn log(bench: &Bench) -> PathBuf {
    bench.path("auditd/audit.log")
}

/// A configuration of auditd in the bench's folder; false, visibly, where there is no auditd.
pub(crate) fn configure(bench: &Bench, test: &str) -> bool {
    if Command::new("auditd").arg("-v").output().is_err() {
        eprintln!("SKIPPED: {test}: no auditd");
        return false;
    }
    let plugins = bench.path("auditd/plugins");
    fs::create_dir_all(&plugins).unwrap();
    let config = format!(
        "local_events = yes\nwrite_logs = yes\nlog_file = {}\nlog_group = root\nlog_format = RAW\n\
         flush = NONE\nfreq = 0\nmax_log_file = 1000\nnum_logs = 0\npriority_boost = 0\n\
         name_format = NONE\nmax_log_file_action = IGNORE\nspace_left = 2\n\
         space_left_action = IGNORE\nadmin_space_left = 1\nadmin_space_left_action = IGNORE\n\
         disk_full_action = IGNORE\ndisk_error_action = IGNORE\nuse_libwrap = no\n\
         q_depth = 90000\noverflow_action = IGNORE\nplugin_dir = {}\n",
        log(bench).display(),
        plugins.display()
    );
    bench.write("auditd/auditd.conf", &config);
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(bench.path("auditd/auditd.conf"), mode).unwrap();
    true
}

impl Auditd {
    fn spawn(bench: &Bench) -> Auditd {
        let process = Command::new("timeout")
            .args(["-k", "1", "100", "auditd", "-n", "-c"])
            .arg(bench.path("auditd"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Auditd { process }
    }

    /// Starts it and waits until it is the audit daemon; its process.
    pub(crate) fn start(bench: &Bench, auditing: &mut Auditing) -> (Auditd, u32) {
        let auditd = Auditd::spawn(bench);
        let mut pid = 0;
        soon("auditd", || {
            let status = auditing.control.status().unwrap();
            pid = status.pid;
            pid != 0 && name(pid) == "auditd"
        });
        (auditd, pid)
    }

    /// How it ends by itself.
    fn ended(mut self) -> Option<i32> {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(20));
        }
        None
    }

    pub(crate) fn stop(mut self, pid: u32, signal: Signal) {
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Auditd {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.process.id().cast_signed()).unwrap();
        let _ = kill_process(pid, Signal::TERM);
        let _ = self.process.wait();
    }
}

fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

/// How many messages `WORD n=` auditd has written.
pub(crate) fn logged(bench: &Bench, word: &str) -> usize {
    let text = fs::read(log(bench)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().filter(|line| line.contains(&format!("msg='{word} n="))).count()
}

#[test]
fn auditd_has_its_place_and_every_message_while_agents_come_and_go() {
    let test = "auditd_has_its_place_and_every_message_while_agents_come_and_go";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    const FLOOD: usize = 50_000;
    for (mode, buffer) in [("auto", 64 << 20), ("coexist", 4096), ("own", 64 << 20)] {
        let bench = Bench::new();
        if !configure(&bench, test) {
            return;
        }
        let (auditd, pid) = Auditd::start(&bench, &mut auditing);
        bench
            .write("config", &format!("[agent]\nsources = [\"audit\"]\naudit_buffer = {buffer}\n"));
        let arguments = ["--config", "config", "--audit-mode", mode];
        let agent = bench.start(&arguments);
        assert!(agent.says("; coexist: "), "{mode} {:?}", agent.said);
        auditing.send("all", FLOOD);
        let count = |key: &str| bench.source("audit", key).as_u64().unwrap();
        soon("the last", || count("messages") + count("lost") >= FLOOD as u64);
        // Another one, killed; and one that stops.
        agent.kill();
        let agent = bench.start(&arguments);
        assert_eq!(agent.stop(), Some(0));
        assert_eq!(auditing.control.status().unwrap().pid, pid, "{mode}");
        soon("auditd's log", || logged(&bench, "all") == FLOOD);
        let kept = stored(&bench, "all").len();
        let gaps = bench.bodies("VT_GAP");
        let audit = bench.gaps("audit");
        let lost: u64 = audit.iter().map(|gap| crate::bench::number(gap, "records")).sum();
        eprintln!("{mode}, {buffer}: {kept} stored, {lost} in gaps; auditd {FLOOD}");
        // Killed a moment after the last came, the agent may not have said all of its losses.
        let killed = bench.gaps("agent");
        let unsaid: u64 = killed.iter().map(|gap| crate::bench::number(gap, "events")).sum();
        assert!(kept as u64 + lost + unsaid >= FLOOD as u64, "{gaps:?}");
        assert!(auditing.control.status().unwrap().is_on());
        auditd.stop(pid, Signal::TERM);
        auditing.control.set_enabled(true).unwrap();
        bench.trail_is_good();
    }
}

#[test]
fn auditd_started_after_an_owner_fails_once_and_then_has_everything() {
    let test = "auditd_started_after_an_owner_fails_once_and_then_has_everything";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    if !configure(&bench, test) {
        return;
    }
    let agent = bench.start(&["--audit-mode", "own"]);
    auditing.send("before", 1000);
    let failed = Auditd::spawn(&bench).ended();
    assert!(failed.is_some_and(|code| code != 0), "{failed:?}");
    auditing.send("between", 1000);
    let (auditd, pid) = Auditd::start(&bench, &mut auditing);
    auditing.send("after", 1000);
    soon("auditd's log", || logged(&bench, "after") == 1000);
    // Restarted, and killed.
    auditd.stop(pid, Signal::TERM);
    auditing.control.set_enabled(true).unwrap();
    auditing.send("without", 500);
    let (auditd, pid) = Auditd::start(&bench, &mut auditing);
    auditing.send("again", 1000);
    soon("auditd's log", || logged(&bench, "again") == 1000);
    auditd.stop(pid, Signal::KILL);
    auditing.send("killed", 500);
    assert_eq!(agent.stop(), Some(0));
    for (word, messages) in [
        ("before", 1000),
        ("between", 1000),
        ("after", 1000),
        ("without", 500),
        ("again", 1000),
        ("killed", 500),
    ] {
        assert_eq!(stored(&bench, word).len(), messages, "{word}");
    }
    assert_eq!(bench.bodies("VT_GAP"), [""; 0]);
    let states = bench.bodies("VT_AGENT");
    let asked = |body: &&String| body.contains("asked to be the audit daemon");
    assert_eq!(states.iter().filter(asked).count(), 1, "{states:?}");
    bench.trail_is_good();
}

/// What anybody may send: the longest text, and one that looks like a record.
#[test]
fn long_and_forged_messages_are_one_record_each() {
    let test = "long_and_forged_messages_are_one_record_each";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    for mode in ["coexist", "own"] {
        let bench = Bench::new();
        let agent = bench.start(&["--audit-mode", mode]);
        let forged = "x'\ntype=DM_EVENT msg=audit(1.000:1): module=verity op=verify-data dev=7:0 \
                      sector=1 res=0\ntype=VT_GAP msg=audit(1.000:2): source=audit\n\x1dVT_LEAF=1";
        auditing.control.send_user(1121, forged.as_bytes()).unwrap();
        let long = format!("long n=0' {}", "y".repeat(8500));
        auditing.control.send_user(1121, long.as_bytes()).unwrap();
        auditing.send("last", 1);
        soon("the last", || stored(&bench, "last").len() == 1);
        assert_eq!(bench.status()["violations"], 0);
        assert_eq!(agent.stop(), Some(0));
        assert_eq!(bench.bodies("DM_EVENT"), [""; 0]);
        assert_eq!(bench.bodies("VT_GAP"), [""; 0]);
        let bodies = bench.bodies("TRUSTED_APP");
        assert!(bodies.iter().any(|body| body.contains(&"y".repeat(8400))), "{mode}");
        assert!(bodies.iter().any(|body| body.contains("module=verity op=verify-data")), "{mode}");
        bench.trail_is_good();
    }
}
