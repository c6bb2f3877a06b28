//! Container identifiers as a user has them: the file in the tree, the verbs, and what the trail says.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::auditing::Auditing;
use crate::bench::{Agent, Bench, LIFE, has_fuse, number, soon};

const UNSET: &str = "18446744073709551615";

/// An agent that labels; none, visibly, where this machine lets nobody.
pub(crate) fn start(test: &str, bench: &Bench, more: &[&str]) -> Option<Agent> {
    start_for(LIFE, test, bench, more)
}

/// The same with another life.
pub(crate) fn start_for(life: &str, test: &str, bench: &Bench, more: &[&str]) -> Option<Agent> {
    if !rustix::process::geteuid().is_root() || !has_fuse() {
        eprintln!("SKIPPED: {test}: needs root and FUSE");
        return None;
    }
    let agent = bench.start_for(life, more);
    if !labels(bench) {
        eprintln!("SKIPPED: {test}: this kernel does not let us label tasks");
        return None;
    }
    Some(agent)
}

fn labels(bench: &Bench) -> bool {
    soon("its programs", || {
        bench.status()["programs"].as_array().is_some_and(|all| !all.is_empty())
    });
    let status = bench.status();
    let mut programs = status["programs"].as_array().unwrap().iter();
    programs.any(|program| program["name"] == "labels" && program["state"] == "attached")
}

/// Containers of other tests are none of ours.
pub(crate) const BPF_ONLY: &str = "[agent]\nsources = [\"bpf\"]\n[containers]\ngroups = false\n";

/// The file of a process's identifier.
pub(crate) fn file(bench: &Bench, pid: u32) -> PathBuf {
    bench.path(&format!("run/fs/proc/{pid}/audit_containerid"))
}

fn get(bench: &Bench, pid: u32) -> String {
    fs::read_to_string(file(bench, pid)).unwrap()
}

pub(crate) fn set(bench: &Bench, pid: u32, text: &str) -> Result<(), Errno> {
    let written = OpenOptions::new().write(true).truncate(true).open(file(bench, pid));
    written.and_then(|mut file| file.write_all(text.as_bytes())).map_err(errno)
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap()
}

/// A process that waits for a line, then does the rest of the script; killed when it is dropped.
pub(crate) struct Waiting(pub(crate) Child);

impl Waiting {
    /// `sh` itself, which has no child until it is let go.
    pub(crate) fn new(then: &str) -> Waiting {
        let script = format!("read line; {then}");
        let mut command = Command::new("/bin/sh");
        Waiting(
            command
                .args(["-c", &script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn go(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// What it says until it ends.
    pub(crate) fn output(mut self) -> String {
        self.go();
        let mut said = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        self.0.wait().unwrap();
        said
    }

    fn children(&self) -> Vec<u32> {
        let pid = self.pid();
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        text.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ops(bench: &Bench, op: &str) -> Vec<String> {
    let wanted = format!("op={op} ");
    let ops = bench.bodies("CONTAINER_OP").into_iter();
    ops.filter(|body| body.starts_with(&wanted)).collect()
}

#[test]
fn an_identifier_is_set_read_inherited_and_its_end_is_told_once() {
    let test = "an_identifier_is_set_read_inherited_and_its_end_is_told_once";
    let bench = Bench::new();
    bench.write("config", BPF_ONLY);
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    let tree = bench.path("run/fs");
    let mut container =
        Waiting::new("for n in 1 2 3; do (sh -c 'sleep 60' & sleep 60) & done; read line; kill 0");
    let pid = container.pid();
    assert_eq!(get(&bench, pid), UNSET);
    set(&bench, pid, "123456\n").unwrap();
    // It is on record before the writer goes on.
    let told = ops(&bench, "set");
    let own = std::process::id();
    let began = format!("op=set opid={pid} old-contid={UNSET} contid=123456 pid={own} auid=");
    assert!(told.len() == 1 && told[0].starts_with(&began), "{told:?}");
    assert!(told[0].ends_with(" res=1"), "{told:?}");
    assert_eq!(get(&bench, pid), "123456");
    container.go();
    soon("its children", || container.children().len() == 3);
    for child in container.children() {
        assert_eq!(get(&bench, child), "123456");
        let label =
            fs::read_to_string(tree.join(format!("proc/{child}/task/{child}/audit_containerid")));
        assert_eq!(label.unwrap(), "123456");
    }
    soon("its processes", || {
        let status = bench.status();
        status["containers"][0]["processes"].as_u64().is_some_and(|processes| processes >= 7)
    });
    let ran = bench.veritrail(&["container", "get", &pid.to_string(), "--run-dir", "run"]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(0), "123456\n"));
    let ran = bench.veritrail(&["container", "get", &own.to_string(), "--run-dir", "run"]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(1), "unset\n"));
    assert_eq!(ops(&bench, "drop"), [""; 0]);
    // All at once; the shell's group is ours, so by number.
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(of) = all.get(at).copied() {
        let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children"));
        let children = children.unwrap_or_default();
        all.extend(children.split_ascii_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
        at += 1;
    }
    for pid in all {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
        let _ = kill_process(pid, Signal::KILL);
    }
    drop(container);
    soon("the drop", || !ops(&bench, "drop").is_empty());
    thread::sleep(Duration::from_millis(500));
    let drops = ops(&bench, "drop");
    assert!(drops.len() == 1 && drops[0].contains(" old-contid=123456 "), "{drops:?}");
    assert_eq!(bench.status()["containers"], Value::Array(Vec::new()));
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}

/// The reference's section 9, errno for errno.
#[test]
fn what_may_not_be_set_fails_as_in_the_kernel_patches() {
    let test = "what_may_not_be_set_fails_as_in_the_kernel_patches";
    let bench = Bench::new();
    bench.write("config", BPF_ONLY);
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    let mut lone = Waiting::new("sleep 60 & read line");
    let pid = lone.pid();
    for (text, errno) in [
        (UNSET, Errno::INVAL),
        ("-1", Errno::INVAL),
        ("0x10", Errno::INVAL),
        ("1 2", Errno::INVAL),
        ("7\n\n", Errno::INVAL),
        ("18446744073709551616", Errno::RANGE),
        ("99999999999999999999999999999999999999999999", Errno::RANGE),
    ] {
        assert_eq!(set(&bench, pid, text), Err(errno), "{text:?}");
    }
    let opened = OpenOptions::new().write(true).open(file(&bench, pid)).unwrap();
    assert_eq!(opened.write_at(b"7", 7).map_err(errno), Err(Errno::INVAL));
    assert_eq!(get(&bench, pid), UNSET);
    for good in ["0", "+7\n", "18446744073709551614", "7"] {
        assert_eq!(set(&bench, pid, good), Ok(()), "{good:?}");
    }
    assert_eq!(get(&bench, pid), "7");
    // One that has a child; one that has threads; both.
    lone.go();
    soon("its child", || lone.children().len() == 1);
    assert_eq!(set(&bench, pid, "8"), Err(Errno::BUSY));
    let mut many =
        Command::new("timeout").args(["100", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let own = std::process::id();
    // This test's process has children and threads.
    assert_eq!(set(&bench, own, "8"), Err(Errno::BUSY));
    many.kill().unwrap();
    many.wait().unwrap();
    let threaded = agent.pid.as_raw_nonzero().get().cast_unsigned();
    assert_eq!(set(&bench, threaded, "8"), Err(Errno::ALREADY));
    assert_eq!(get(&bench, own), UNSET);
    // Gone between open and write.
    let mut gone = Waiting::new("true");
    let label = OpenOptions::new().write(true).open(file(&bench, gone.pid())).unwrap();
    gone.0.kill().unwrap();
    gone.0.wait().unwrap();
    assert_eq!((&label).write(b"7").map_err(errno), Err(Errno::SRCH));
    // Root of another user namespace has every capability there.
    let stranger = Waiting::new("true");
    for runner in [
        &["unshare", "-U", "-r"][..],
        &["setpriv", "--bounding-set=-audit_control", "--inh-caps=-audit_control"],
    ] {
        let script = format!("echo 9 | tee {}", file(&bench, stranger.pid()).display());
        let ran = Command::new(runner[0])
            .args(&runner[1..])
            .args(["sh", "-c", &script])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(!ran.status.success(), "{runner:?}: {said}");
        assert!(said.contains("not permitted") || said.contains("denied"), "{runner:?}: {said}");
        let script = format!("cat {}", file(&bench, stranger.pid()).display());
        let ran = Command::new(runner[0])
            .args(&runner[1..])
            .args(["sh", "-c", &script])
            .output()
            .unwrap();
        assert!(!ran.status.success() && ran.stdout.is_empty(), "{runner:?}");
    }
    assert_eq!(get(&bench, stranger.pid()), UNSET);
    // Whoever may not is on record, if he got as far as to the file.
    let refused = ops(&bench, "set").into_iter().filter(|body| body.ends_with("res=0")).count();
    assert!(refused >= 3, "{:?}", ops(&bench, "set"));
    // Nothing is made or removed in the tree.
    let proc = bench.path("run/fs/proc");
    assert_eq!(fs::create_dir(proc.join("x")).map_err(errno), Err(Errno::PERM));
    assert_eq!(fs::remove_file(file(&bench, pid)).map_err(errno), Err(Errno::PERM));
    assert!(fs::read_dir(&proc).unwrap().count() > 3);
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}

/// Every event of short-lived processes names their container, and no other event does.
#[test]
fn every_event_of_a_short_lived_process_is_its_containers() {
    let test = "every_event_of_a_short_lived_process_is_its_containers";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    let Some(agent) = start(test, &bench, &["--audit-mode", "coexist"]) else { return };
    let processes: u32 = if std::env::var_os("VERITRAIL_LONG").is_some() { 10_000 } else { 1500 };
    crate::rules::add(&mut auditing.control, "-a always,exit -F arch=b64 -S execve -k short");
    let script = format!("n=0; while [ $n -lt {processes} ]; do n=$((n+1)); /bin/true; done");
    let inside = Waiting::new(&script);
    let outside = Waiting::new(&script);
    // Else its own execve is of the tick in which it is labelled, which is rightly ambiguous.
    thread::sleep(Duration::from_millis(100));
    set(&bench, inside.pid(), "77").unwrap();
    let [theirs, of_none] = [&inside, &outside].map(|one| one.pid().to_string());
    thread::scope(|scope| {
        scope.spawn(|| inside.output());
        scope.spawn(|| outside.output());
    });
    soon("the last", || bench.source("audit", "events").as_u64() >= Some(u64::from(2 * processes)));
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(agent.stop(), Some(0));
    let ran = bench.veritrail(&["search", "--trail", "trail", "--json", "-k", "short"]);
    let (mut labelled, mut wrong) = (0, Vec::new());
    for line in ran.out.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let records = event["records"].as_array().unwrap();
        let of = |kind: &str| records.iter().find(|record| record["type"] == kind);
        let Some(call) = of("SYSCALL") else { continue };
        let parent = &call["fields"]["ppid"];
        let contid = of("CONTAINER_ID").map(|record| record["fields"]["contid"].clone());
        // What else runs on this machine may have begun before the agent knew all that runs.
        let is_in_doubt = contid == Some(UNSET.into()) && *parent != of_none.as_str();
        if *parent != theirs.as_str() {
            wrong.extend((contid.is_some() && !is_in_doubt).then_some(line));
        } else if contid == Some("77".into()) {
            labelled += 1;
        } else {
            wrong.push(line);
        }
    }
    let gaps = bench.bodies("VT_GAP");
    assert!(wrong.is_empty(), "{} wrong, {labelled} labelled, {gaps:?}: {wrong:#?}", wrong.len());
    assert!(labelled == processes || !gaps.is_empty(), "{labelled} of {processes}; {gaps:?}");
    bench.trail_is_good();
}

/// A set while its target forks: all that were born are in, or the set was refused and none is.
#[test]
fn a_set_that_races_with_forks_is_whole_or_not_at_all() {
    let test = "a_set_that_races_with_forks_is_whole_or_not_at_all";
    let bench = Bench::new();
    bench.write("config", BPF_ONLY);
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    let tries = if std::env::var_os("VERITRAIL_LONG").is_some() { 1000 } else { 100 };
    let (mut done, mut refused) = (0, 0);
    for n in 0..tries {
        // It waits for each child, and then does without one for about as long.
        let mut target = Waiting::new(
            "while :; do /bin/true; i=0; while [ $i -lt 500 ]; do i=$((i+1)); done; done",
        );
        target.go();
        thread::sleep(Duration::from_micros(300 * (n % 17)));
        let id = (1000 + n).to_string();
        let outcome = set(&bench, target.pid(), &id);
        for _ in 0..3 {
            for child in target.children() {
                let Ok(label) = fs::read_to_string(file(&bench, child)) else { continue };
                let wanted = if outcome.is_ok() { &id } else { UNSET };
                assert_eq!(label, *wanted, "{outcome:?}");
            }
        }
        match outcome {
            Ok(()) => done += 1,
            Err(errno) => {
                assert_eq!(errno, Errno::BUSY);
                assert_eq!(get(&bench, target.pid()), UNSET);
                refused += 1;
            }
        }
    }
    eprintln!("{done} set, {refused} refused");
    assert_eq!(agent.stop(), Some(0));
    let ops = ops(&bench, "set");
    assert_eq!(ops.iter().filter(|body| body.ends_with("res=1")).count(), done);
    assert_eq!(ops.iter().filter(|body| body.ends_with("res=0")).count(), refused);
    bench.trail_is_good();
}

/// By the verb, and by the socket.
#[test]
fn what_cannot_be_said_of_a_container_sets_nothing() {
    let test = "what_cannot_be_said_of_a_container_sets_nothing";
    let bench = Bench::new();
    bench.write("config", BPF_ONLY);
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    let container = Waiting::new("true");
    let (pid, long) = (container.pid(), "x".repeat(513));
    let words = ["container", "set", &pid.to_string(), "5", "--name", &long, "--run-dir", "run"];
    let ran = bench.veritrail(&words);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.err.contains("what a container is called has at most 512 bytes"), "{ran:?}");
    let stream = UnixStream::connect(bench.path("run/agent/control")).unwrap();
    let set = json!({"task": pid, "contid": 5, "description": {"name": long}});
    writeln!(&stream, "{}", json!({"container": {"set": set}})).unwrap();
    let said = std::io::read_to_string(&stream).unwrap();
    assert_eq!(said, "{\"errno\":22}\n");
    assert_eq!(get(&bench, pid), UNSET);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bench.bodies("CONTAINER_OP"), [""; 0]);
    bench.trail_is_good();
}

/// The agent is killed, and later all of it: labels and names stay.
#[test]
fn identifiers_outlive_the_agent() {
    let test = "identifiers_outlive_the_agent";
    let bench = Bench::new();
    bench.write("config", BPF_ONLY);
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    let mut container = Waiting::new("sleep 60 & read line");
    let pid = container.pid();
    let words = pid.to_string();
    let ran =
        bench.veritrail(&["container", "set", &words, "5", "--name", "web", "--run-dir", "run"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    agent.signal(Signal::KILL);
    container.go();
    soon("the next agent", || {
        // While there is none, nobody answers.
        let ran = bench.veritrail(&["agent", "status", "--json", "--run-dir", "run"]);
        let status: Value = serde_json::from_str(&ran.out).unwrap_or_default();
        status["restarts"] == 1 && status["containers"][0]["processes"] == 2
    });
    assert_eq!(bench.status()["containers"][0]["description"]["name"], "web");
    for child in container.children() {
        assert_eq!(get(&bench, child), "5");
    }
    assert_eq!(get(&bench, pid), "5");
    for child in container.children() {
        let child = rustix::process::Pid::from_raw(child.cast_signed()).unwrap();
        kill_process(child, Signal::KILL).unwrap();
    }
    drop(container);
    soon("the drop", || ops(&bench, "drop").len() == 1);
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}

/// Many processes of a container end at once.
#[test]
fn a_thousand_ends_are_one_drop() {
    let test = "a_thousand_ends_are_one_drop";
    let bench = Bench::new();
    bench.write("config", BPF_ONLY);
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    let script = "n=0; while [ $n -lt 1000 ]; do n=$((n+1)); read x < $0 & done; echo all; wait";
    let fifo = bench.path("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let mut child = Command::new("/bin/sh")
        .args(["-c", &format!("read line; {script}")])
        .arg(&fifo)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    set(&bench, child.id(), "9").unwrap();
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    soon("a thousand", || bench.status()["containers"][0]["processes"] == 1001);
    assert_eq!(ops(&bench, "drop"), [""; 0]);
    // All of them are let go by one open.
    drop(OpenOptions::new().write(true).open(&fifo).unwrap());
    child.wait().unwrap();
    soon("the drop", || !ops(&bench, "drop").is_empty());
    thread::sleep(Duration::from_secs(1));
    let drops = ops(&bench, "drop");
    assert_eq!(drops.len(), 1, "{drops:?}");
    assert_eq!(number(&drops[0], "old-contid"), 9);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bench.bodies("VT_GAP"), [""; 0]);
    bench.trail_is_good();
}

/// A user message, and a signal from one container to another: each record names whose it is.
#[test]
fn senders_and_targets_are_told_apart() {
    let test = "senders_and_targets_are_told_apart";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    let Some(agent) = start(test, &bench, &["--audit-mode", "coexist"]) else { return };
    crate::rules::add(&mut auditing.control, "-a always,exit -F arch=b64 -S kill -k kill");
    let target = Waiting::new("true");
    // A number of ours: whoever may send messages may send it.
    let strange = "import socket,struct\n\
        text=b\"strange \\x1dUID=root\\0\"\n\
        audit=socket.socket(socket.AF_NETLINK,socket.SOCK_RAW,9)\n\
        audit.send(struct.pack(\"=IHHII\",16+len(text),2950,1,1,0)+text)";
    bench.write("strange.py", strange);
    let script = format!(
        "auditctl -m 'from a container'; python3 {}; kill -TERM {}",
        bench.path("strange.py").display(),
        target.pid()
    );
    let sender = Waiting::new(&script);
    set(&bench, target.pid(), "22").unwrap();
    set(&bench, sender.pid(), "11").unwrap();
    let said = sender.output();
    let told = |kind: &str, words: &str| {
        let found = bench.bodies(kind);
        found.iter().any(|body| body.starts_with(words))
    };
    soon("the subject", || told("CONTAINER_ID", "contid=11 VT_REF=subject"));
    let opid = format!("contid=22 VT_REF=opid:{}", target.pid());
    assert!(told("CONTAINER_ID", &opid), "{said} {:?}", bench.bodies("CONTAINER_ID"));
    // Nobody else is concerned by a message.
    let ran = bench.veritrail(&["search", "--trail", "trail", "--raw", "-m", "USER"]);
    assert!(ran.out.contains("from a container"), "{said} {ran:?}");
    let ran = bench.veritrail(&["search", "--trail", "trail", "--raw", "--contid", "11"]);
    assert!(ran.out.contains("from a container"), "{said} {ran:?}");
    // It is as much the container's, and what follows a 0x1D is not auditd's.
    assert!(ran.out.contains("type=UNKNOWN[2950] "), "{said} {ran:?}");
    assert!(ran.out.contains("msg='strange  UID=root'"), "{said} {ran:?}");
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}
