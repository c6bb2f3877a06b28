//! Processes that hold on to the agent's tree: open files and directories, calls that are never finished.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process_group, setrlimit};

use crate::bench::Bench;
use crate::containers::{BPF_ONLY, Waiting, file, set, start};

/// No call of others takes longer, on a machine that is busy with these.
const PROMPT: Duration = Duration::from_secs(5);

/// A shell and all that it starts, ended with it.
struct Hostile(Child);

impl Hostile {
    fn new(before: &[&str], script: &str) -> Hostile {
        let words = [before, &["sh", "-c", script]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Hostile(command.spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).unwrap();
        let _ = kill_process_group(group, signal);
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.0.wait();
    }
}

#[test]
fn who_holds_on_to_the_tree_keeps_nobody_else() {
    let test = "who_holds_on_to_the_tree_keeps_nobody_else";
    let _alone = crate::auditing::lock();
    let bench = Bench::new();
    bench.write("config", BPF_ONLY);
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    if limit.current.is_some_and(|most| most < 8000) {
        return eprintln!("SKIPPED: {test}: no 8,000 descriptors for one process here");
    }
    let label = file(&bench, std::process::id());
    let tree = bench.path("run/fs");
    // More than there is room for, of each kind; and a stream that was begun.
    let mut begun = fs::read_dir(tree.join("proc")).unwrap();
    begun.next().unwrap().unwrap();
    let files: Vec<File> = (0..3000).map(|_| File::open(&label).unwrap()).collect();
    let folders: Vec<File> = (0..3000).map(|_| File::open(tree.join("proc")).unwrap()).collect();

    // They write and read all the time, are killed amidst it, or stand still.
    let name = |pid: u32| file(&bench, pid).display().to_string();
    let victim = Waiting::new("true");
    let (theirs, proc) = (name(victim.pid()), tree.join("proc").display().to_string());
    let call = format!("echo 666 >{theirs}; cat {theirs}");
    let all = [
        (&["unshare", "-Ur"][..], format!("while :; do {call}; ls {proc}; done")),
        (&["unshare", "-Ur", "-p", "-f"], format!("while :; do {call}; done")),
        (&["setpriv", "--bounding-set=-audit_control"], format!("while :; do {call}; done")),
        (
            &["setpriv", "--bounding-set=-audit_control"],
            format!("while :; do timeout -s KILL 0.005 sh -c \"{call}\"; done"),
        ),
        (
            &["setpriv", "--bounding-set=-audit_control"],
            format!("ls -R {proc}; while :; do ls {proc}; done"),
        ),
    ];
    let hostile: Vec<Hostile> =
        all.iter().map(|(before, script)| Hostile::new(before, script)).collect();
    let far = OpenOptions::new().write(true).open(&theirs).unwrap();
    let mut slowest = Duration::ZERO;
    for n in 0..20_u64 {
        for (at, one) in hostile.iter().enumerate() {
            let stops = (at as u64 + n).is_multiple_of(3);
            one.signal(if stops { Signal::STOP } else { Signal::CONT });
        }
        for offset in [1, 4096, u64::from(u32::MAX), i64::MAX as u64 - 4096] {
            far.write_at(&[b'7'; 2048], offset).unwrap_err();
        }
        // Somebody else's container is made, asked for and listed.
        let began = Instant::now();
        let other = Waiting::new("true");
        set(&bench, other.pid(), &(100 + n).to_string()).unwrap();
        let took = began.elapsed();
        let read = fs::read_to_string(file(&bench, other.pid())).unwrap();
        assert_eq!(read, (100 + n).to_string());
        let listed = fs::read_dir(tree.join("proc")).unwrap();
        let own = other.pid().to_string();
        assert!(listed.flatten().any(|entry| entry.file_name().to_str() == Some(&own)));
        slowest = slowest.max(took).max(began.elapsed() - took);
        assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    }
    drop(hostile);
    eprintln!("the slowest call took {slowest:?}");
    // What is open stays what it is; a stream that nobody used makes room.
    let mut text = String::new();
    (&files[0]).read_to_string(&mut text).unwrap();
    assert_eq!(text, "18446744073709551615");
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "18446744073709551615");
    let rest: Result<Vec<_>, _> = begun.collect();
    assert!(rest.is_ok() || rest.unwrap_err().raw_os_error() == Some(116));
    drop((files, folders));
    assert_eq!(agent.stop(), Some(0));
    let others = bench
        .bodies("CONTAINER_OP")
        .into_iter()
        .filter(|body| body.starts_with("op=set ") && body.ends_with(" res=1"));
    assert_eq!(others.count(), 20);
    bench.trail_is_good();
}

/// Whoever says nothing at the agent's socket, or a byte now and then, keeps nobody else waiting.
#[test]
fn who_holds_on_to_the_socket_keeps_nobody_else() {
    let bench = Bench::new();
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: who_holds_on_to_the_socket_keeps_nobody_else: needs root");
        return;
    }
    bench.write("config", BPF_ONLY);
    let agent = bench.start(&["--config", "config"]);
    let control = bench.path("run/agent/control");
    let connect = || UnixStream::connect(&control).unwrap();
    let status = || {
        let began = Instant::now();
        assert_eq!(bench.status()["pid"], agent.pid.as_raw_nonzero().get());
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    };
    let (silent, mut trickling) = (connect(), connect());
    for _ in 0..20 {
        // It is let go of before long.
        if trickling.write_all(b" ").is_err() {
            break;
        }
        status();
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(trickling.write_all(b" ").is_err());
    let many: Vec<UnixStream> = (0..100).map(|_| connect()).collect();
    status();
    drop((silent, many));
    assert_eq!(agent.stop(), Some(0));
}
