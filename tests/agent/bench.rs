//! A folder with a run directory and a trail, agents in it, and nothing left behind.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::auditing::Auditing;

/// No agent lives longer unless a test says so, in seconds.
pub(crate) const LIFE: &str = "100";

/// No test waits longer for anything of its own.
const PATIENCE: Duration = Duration::from_secs(60);

impl Auditing {
    /// Sends messages `WORD n=0`, `WORD n=1` ... as TRUSTED_APP.
    pub(crate) fn send(&mut self, word: &str, messages: usize) {
        for n in 0..messages {
            self.control.send_user(1121, format!("{word} n={n}").as_bytes()).unwrap();
        }
    }
}

/// Waits until it is so.
pub(crate) fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what} has not come");
        thread::sleep(Duration::from_millis(20));
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) struct Bench {
    folder: TempDir,
    /// Our binary, and what runs it.
    program: Vec<String>,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let program = vec![env!("CARGO_BIN_EXE_veritrail").to_owned()];
        Bench { folder: TempDir::new().unwrap(), program }
    }

    /// From now on our binary is run so, and by somebody else.
    pub(crate) fn run_by(&mut self, runner: &[&str]) {
        // Ours may lie where he may not go.
        let copy = self.path("veritrail");
        fs::copy(env!("CARGO_BIN_EXE_veritrail"), &copy).unwrap();
        let words = runner.iter().map(|word| (*word).to_owned());
        self.program = words.chain([copy.to_str().unwrap().to_owned()]).collect();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// A command of ours in the folder, with an end.
    pub(crate) fn veritrail(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "60"]).args(&self.program).args(arguments);
        let output = command.current_dir(self.folder.path()).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { status: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Starts an agent and waits until it is ready.
    pub(crate) fn start(&self, more: &[&str]) -> Agent {
        self.start_for(LIFE, more)
    }

    /// The same with another life.
    pub(crate) fn start_for(&self, life: &str, more: &[&str]) -> Agent {
        let began = Instant::now();
        let mut child = Command::new("timeout")
            .args(["-k", "1", life])
            .args(&self.program)
            .args(["agent", "run", "--trail", "trail", "--run-dir", "run"])
            .args(more)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(self.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let mut said = Vec::new();
            while let Some(Ok(line)) = lines.next() {
                let is_ready = line.starts_with("ready");
                said.push(line);
                if is_ready {
                    break;
                }
            }
            let _ = sender.send(said);
            // The pipe stays open as long as the agent lives.
            while let Some(Ok(_)) = lines.next() {}
        });
        let said = receiver.recv_timeout(Duration::from_secs(20)).unwrap();
        let errors = fs::read_to_string(self.path("stderr")).unwrap();
        assert!(said.last().is_some_and(|line| line.starts_with("ready")), "{said:?} {errors}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        let status = self.status();
        let (pid, doorkeeper) = (pid_of(&status["pid"]), pid_of(&status["doorkeeper"]));
        Agent { child, pid, doorkeeper, writer: pid_of(&status["writer"]["pid"]), said }
    }

    /// The same that does not wait, and is run by nobody else.
    pub(crate) fn launch(&self) -> Child {
        Command::new(env!("CARGO_BIN_EXE_veritrail"))
            .args(["agent", "run", "--trail", "trail", "--run-dir", "run"])
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    pub(crate) fn status(&self) -> Value {
        let ran = self.veritrail(&["agent", "status", "--json", "--run-dir", "run"]);
        serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"))
    }

    /// What a source has counted.
    pub(crate) fn source(&self, name: &str, key: &str) -> Value {
        let status = self.status();
        let sources = status["sources"].as_array().unwrap();
        sources.iter().find(|source| source["name"] == name).unwrap()[key].clone()
    }

    /// The stored lines of one record type: what follows `audit(...): `, without the tail.
    pub(crate) fn bodies(&self, kind: &str) -> Vec<String> {
        let ran = self.veritrail(&["search", "--trail", "trail", "--raw", "-m", kind]);
        assert!(ran.status == Some(0) || ran.status == Some(1), "{ran:?}");
        let wanted = format!("type={kind} ");
        let body = |line: &str| {
            let line = line.split('\x1d').next().unwrap();
            line.strip_prefix(&wanted).map(|rest| rest.split_once(": ").unwrap().1.to_owned())
        };
        ran.out.lines().filter_map(body).collect()
    }

    /// The gaps of a source: their bodies.
    pub(crate) fn gaps(&self, source: &str) -> Vec<String> {
        let source = format!("source={source} ");
        self.bodies("VT_GAP").into_iter().filter(|body| body.starts_with(&source)).collect()
    }

    pub(crate) fn mounts(&self) -> Vec<String> {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let folder = self.folder.path().to_str().unwrap();
        let point = |line: &str| line.split(' ').nth(4).unwrap().to_owned();
        text.lines().map(point).filter(|point| point.starts_with(folder)).collect()
    }

    /// Processes of ours that live: those whose folder this is.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let here = |pid: Pid| {
            let at = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()));
            at.is_ok_and(|at| at == self.folder.path())
        };
        let all = fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
        pids.filter(|pid| here(*pid)).collect()
    }

    pub(crate) fn trail_is_good(&self) {
        let ran = self.veritrail(&["trail", "verify", "trail"]);
        assert_eq!(ran.status, Some(0), "{ran:?}");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ = kill_process(pid, Signal::KILL);
        }
        for point in self.mounts() {
            let _ = rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// A process's number in a status.
fn pid_of(value: &Value) -> Pid {
    Pid::from_raw(i32::try_from(value.as_i64().unwrap()).unwrap()).unwrap()
}

/// An agent that runs; killed when it is dropped.
pub(crate) struct Agent {
    child: Child,
    /// The process that listens, as it was at the beginning.
    pub(crate) pid: Pid,
    /// The one that is the service's.
    pub(crate) doorkeeper: Pid,
    /// The one that writes the trail, as it was at the beginning.
    pub(crate) writer: Pid,
    pub(crate) said: Vec<String>,
}

impl Agent {
    /// To the process that listens.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Ends it as a service manager does; its exit status.
    pub(crate) fn stop(mut self) -> Option<i32> {
        kill_process(self.doorkeeper, Signal::TERM).unwrap();
        let began = Instant::now();
        let status = self.child.wait().unwrap().code();
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        status
    }

    /// Kills all of its processes at once, and returns when they are gone.
    pub(crate) fn kill(mut self) {
        self.kill_all();
        self.child.wait().unwrap();
    }

    fn kill_all(&self) {
        // Neither starts it another, nor takes another its place.
        let _ = kill_process(self.doorkeeper, Signal::STOP);
        // The first runs them, and ends with them.
        for pid in self.family().into_iter().skip(1) {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Its processes, and what runs them.
    pub(crate) fn family(&self) -> Vec<u32> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            let Some(pid) = pid else { continue };
            // Behind the name: its state and its parent.
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let rest = stat.rsplit_once(") ").map(|(_, rest)| rest);
            let parent = rest.and_then(|rest| rest.split(' ').nth(1)?.parse::<u32>().ok());
            parents.extend(parent.map(|parent| (pid, parent)));
        }
        let mut family = vec![self.child.id()];
        let mut at = 0;
        while let Some(of) = family.get(at).copied() {
            family.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|one| one.0));
            at += 1;
        }
        family
    }

    pub(crate) fn says(&self, what: &str) -> bool {
        self.said.iter().any(|line| line.contains(what))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill_all();
        }
        let _ = self.child.wait();
    }
}

/// A number in a record: `key=N`.
pub(crate) fn number(body: &str, key: &str) -> u64 {
    let value = body.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {key} in {body}")).parse().unwrap()
}

/// Whether a tree can be mounted.
pub(crate) fn has_fuse() -> bool {
    OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok()
}
