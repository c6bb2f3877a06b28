//! A folder with images, a run directory and a trail, and nothing of it left behind.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const BLOCK: usize = 4096;

/// When a test has hung, in seconds: its servers are killed, so that its reads fail.
const HUNG: u64 = 90;

/// Of one command, in seconds.
const PATIENCE: &str = "30";

pub(crate) fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/devices");
    fs::read(folder.join(name)).unwrap()
}

pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(len);
    bytes
}

/// Whether everything named can be run; says what cannot.
pub(crate) fn has(test: &str, programs: &[&str]) -> bool {
    for program in programs {
        let mut command = Command::new(program);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        if command.status().is_err() {
            eprintln!("SKIPPED: {test}: {program} is not installed");
            return false;
        }
    }
    true
}

pub(crate) fn long() -> bool {
    std::env::var_os("VERITRAIL_LONG").is_some()
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran {
            status: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

/// An event of a trail: its records as `TYPE body`, and the fields behind them.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) records: Vec<String>,
    pub(crate) tail: String,
}

impl Event {
    /// The body of its first record of this type.
    pub(crate) fn body(&self, kind: &str) -> Option<&str> {
        self.records.iter().find_map(|record| record.strip_prefix(kind)?.strip_prefix(' '))
    }

    /// The value of `key=` behind its records.
    pub(crate) fn tail(&self, key: &str) -> Option<&str> {
        self.tail.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
}

/// What an image is opened with.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) data: String,
    pub(crate) hash: String,
    pub(crate) root: String,
}

pub(crate) struct Bench {
    folder: TempDir,
    /// Held as long as the test runs.
    _watched: Sender<()>,
}

impl Bench {
    /// None, and a line about it, where nothing can be served.
    pub(crate) fn new(test: &str) -> Option<Bench> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: {test}: needs root");
            return None;
        }
        if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/fuse") {
            eprintln!("SKIPPED: {test}: /dev/fuse: {error}");
            return None;
        }
        let folder = TempDir::new().unwrap();
        let (watched, dog) = channel::<()>();
        let path = folder.path().to_owned();
        std::thread::spawn(move || {
            if dog.recv_timeout(Duration::from_secs(HUNG)) == Err(RecvTimeoutError::Timeout) {
                eprintln!("hung: ending the servers below {}", path.display());
                clear(&path);
            }
        });
        Some(Bench { folder, _watched: watched })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn run_dir(&self) -> String {
        self.path("run").to_str().unwrap().to_owned()
    }

    pub(crate) fn device(&self, name: &str) -> PathBuf {
        self.path("run/devices").join(name)
    }

    /// Overwrites 8 bytes.
    pub(crate) fn corrupt(&self, name: &str, at: u64) {
        let file = OpenOptions::new().write(true).open(self.path(name)).unwrap();
        file.write_all_at(b"CORRUPT!", at).unwrap();
    }

    /// The golden data, and the hash file named.
    pub(crate) fn golden(&self, hash: &str, root: &str) -> Image {
        self.write("data", &golden("vdata-64x4k.img"));
        self.write("hash", &golden(hash));
        Image { data: "data".into(), hash: "hash".into(), root: root.into() }
    }

    /// An image of these bytes.
    pub(crate) fn image(&self, name: &str, bytes: &[u8]) -> Image {
        let (hash, root) = (format!("{name}.hash"), format!("{name}.root"));
        self.write(name, bytes);
        let ran = self.veritrail(&["verity", "format", name, &hash, "--root-hash-file", &root]);
        assert_eq!(ran.status, 0, "{}", ran.err);
        let root = fs::read_to_string(self.path(&root)).unwrap().trim_end().to_owned();
        Image { data: name.into(), hash, root }
    }

    /// The binary in the folder, with an end.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.timed(env!("CARGO_BIN_EXE_veritrail"), arguments)
    }

    /// Any program in the folder, with an end.
    pub(crate) fn timed<S: AsRef<OsStr>>(&self, program: &str, arguments: &[S]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", PATIENCE, program]).args(arguments);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn veritrail(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    /// `verity open|close|status` in our run directory.
    pub(crate) fn verity(&self, arguments: &[&str]) -> Ran {
        self.veritrail(&[&["verity"], arguments, &["--run-dir", &self.run_dir()]].concat())
    }

    pub(crate) fn try_open(&self, name: &str, image: &Image, more: &[&str]) -> Ran {
        let Image { data, hash, root } = image;
        let trail = self.path("trail");
        let trail = if more.contains(&"--trail") {
            vec![]
        } else {
            vec!["--trail", trail.to_str().unwrap()]
        };
        self.verity(&[&["open", data, name, hash, root], trail.as_slice(), more].concat())
    }

    /// Opens, and gives the device file.
    pub(crate) fn open(&self, name: &str, image: &Image, more: &[&str]) -> PathBuf {
        let ran = self.try_open(name, image, more);
        let device = self.device(name);
        assert_eq!((ran.status, ran.out), (0, format!("{}\n", device.display())), "{}", ran.err);
        device
    }

    pub(crate) fn close(&self, name: &str) {
        let ran = self.verity(&["close", name]);
        assert_eq!(ran, Ran { status: 0, out: String::new(), err: String::new() });
    }

    pub(crate) fn status(&self, name: &str) -> Value {
        let ran = self.verity(&["status", name, "--json"]);
        serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"))
    }

    /// The processes of a device: keeper and volume.
    pub(crate) fn servers(&self, name: &str) -> (i32, i32) {
        let status = self.status(name);
        let pid = |key: &str| i32::try_from(status[key].as_i64().unwrap()).unwrap();
        (pid("pid"), pid("volume_pid"))
    }

    /// All events of the trail.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events_of("trail")
    }

    pub(crate) fn events_of(&self, trail: &str) -> Vec<Event> {
        let ran = self.veritrail(&["search", "--trail", trail, "--raw"]);
        assert!(ran.status <= 1 && ran.err.is_empty(), "{ran:?}");
        let mut events: Vec<(String, Event)> = Vec::new();
        for line in ran.out.lines() {
            let (line, tail) = line.split_once('\x1d').unwrap_or((line, ""));
            let rest = line.strip_prefix("type=").unwrap();
            let (kind, rest) = rest.split_once(' ').unwrap();
            let (stamp, body) = rest.split_once(": ").unwrap();
            let record = format!("{kind} {body}");
            match events.last_mut().filter(|(of, _)| of == stamp) {
                Some((_, event)) => event.records.push(record),
                None => {
                    let event = Event { records: vec![record], tail: String::new() };
                    events.push((stamp.to_owned(), event));
                }
            }
            if !tail.is_empty() {
                events.last_mut().unwrap().1.tail = tail.to_owned();
            }
        }
        events.into_iter().map(|(_, event)| event).collect()
    }

    /// The bodies of all records of one type. The number of the device is `M`, once for all.
    pub(crate) fn bodies(&self, kind: &str) -> Vec<String> {
        let events = self.events();
        let dev = events
            .iter()
            .filter_map(|event| event.body("DM_CTRL"))
            .find_map(|body| body.split(' ').find(|word| word.starts_with("dev=0:")))
            .map(|word| format!("{word} "));
        let bodies = events.iter().filter_map(|event| event.body(kind));
        bodies
            .map(|body| match &dev {
                Some(dev) => body.replace(dev, "dev=M "),
                None => body.to_owned(),
            })
            .collect()
    }

    /// The DM_EVENT records as `op sector`.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.bodies("DM_EVENT")
            .iter()
            .map(|body| {
                let rest =
                    body.strip_prefix("module=verity op=").unwrap_or_else(|| panic!("{body}"));
                let rest = rest.strip_suffix(" res=0").unwrap_or_else(|| panic!("{body}"));
                let (op, rest) = rest.split_once(" dev=M ").unwrap_or_else(|| panic!("{body}"));
                format!("{op} {}", rest.strip_prefix("sector=").unwrap())
            })
            .collect()
    }

    /// What is left of the devices: mounts, processes, loop devices, files.
    pub(crate) fn left(&self) -> Vec<String> {
        let folder = self.folder.path();
        let mut left: Vec<String> = mounts(folder).iter().map(|m| format!("mount {m}")).collect();
        left.extend(servers(folder).iter().map(|pid| format!("process {pid}")));
        left.extend(loops(folder).iter().map(|l| format!("loop {l}")));
        if let Ok(entries) = fs::read_dir(self.path("run/devices")) {
            left.extend(entries.map(|entry| format!("file {:?}", entry.unwrap().file_name())));
        }
        left
    }

    pub(crate) fn trail_is_good(&self) {
        let ran = self.veritrail(&["trail", "verify", "trail"]);
        assert_eq!(ran.status, 0, "{ran:?}");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        clear(self.folder.path());
    }
}

fn clear(folder: &Path) {
    let mounted: Vec<String> = mounts(folder);
    for point in mounted.iter().rev().filter(|point| !point.contains("/run/devices/")) {
        // What cannot be cleared shows when the folder cannot be removed.
        let _ = rustix::mount::unmount(point.as_str(), UnmountFlags::DETACH);
    }
    for device in loops(folder) {
        let _ = Command::new("timeout").args(["10", "losetup", "-d", &device]).status();
    }
    for pid in servers(folder) {
        kill(pid);
    }
    for point in mounts(folder).iter().rev() {
        let _ = rustix::mount::unmount(point.as_str(), UnmountFlags::DETACH);
    }
}

pub(crate) fn kill(pid: i32) {
    // It may have ended by itself.
    let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}

/// Mount points below a folder, in the order of mounting.
fn mounts(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| Path::new(point).starts_with(folder)).map(str::to_owned).collect()
}

/// Servers that were started for a folder: keepers, and volumes as their children.
fn servers(folder: &Path) -> Vec<i32> {
    let folder = folder.to_str().unwrap();
    let mut pids = Vec::new();
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let cmdline = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let cmdline = String::from_utf8_lossy(&cmdline);
        if cmdline.contains(folder) && cmdline.contains("--keeper") {
            pids.push(pid);
        } else if let Some((_, parent)) = cmdline.split_once("serve-volume\0") {
            parents.push((pid, parent.trim_end_matches('\0').parse::<i32>().unwrap()));
        }
    }
    let volumes: Vec<i32> =
        parents.iter().filter(|(_, parent)| pids.contains(parent)).map(|(pid, _)| *pid).collect();
    pids.extend(volumes);
    pids
}

/// Loop devices on files below a folder.
fn loops(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let backing = fs::read_to_string(entry.path().join("loop/backing_file"));
        if backing.is_ok_and(|backing| Path::new(backing.trim_end()).starts_with(folder)) {
            found.push(format!("/dev/{}", entry.file_name().to_str().unwrap()));
        }
    }
    found
}

/// The file so that every read reaches the server.
pub(crate) fn direct(path: &Path) -> File {
    let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap();
    OpenOptions::new().read(true).custom_flags(flags).open(path).unwrap()
}

/// One read(2).
pub(crate) fn read_once(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; len];
    let read = file.read_at(&mut buf, offset)?;
    buf.truncate(read);
    Ok(buf)
}

/// The numbers of the pieces that fail with EIO when all of a device is read directly, piece by
/// piece; the others are compared with what they have to be.
pub(crate) fn refused(path: &Path, piece: usize, good: &[u8]) -> Vec<u64> {
    let file = direct(path);
    let mut refused = Vec::new();
    for (number, good) in (0..).zip(good.chunks(piece)) {
        match read_once(&file, number * piece as u64, good.len()) {
            Ok(bytes) => assert!(bytes == good, "piece {number} is wrong"),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(5), "{error}");
                refused.push(number);
            }
        }
    }
    refused
}

/// Tells others to stop, also where a test fails.
pub(crate) struct Stop<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until it is so, for at most some seconds.
pub(crate) fn soon(seconds: u64, what: &str, so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !so() {
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
