//! What a confined process can still do, tried by one.
//!
//! Without the usual harness: that starts a thread for each test, and a process confines itself
//! while it has only one.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails.

#[path = "kernel/spawn.rs"]
mod spawn;

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use host::channel::{Channel, Received};
use host::fuse::{Attributes, Content, Reader, serve};
use host::mount::{Detach, Options, attach, detach};
use host::sandbox::{
    Capabilities, Writer, confine_agent, confine_doorkeeper, confine_volume, confine_writer,
    die_with_parent, keep_capabilities,
};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::spawn::{ROLE, spawn, word};

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("a_confined_process_has_its_descriptors_and_nothing_else", confined),
    ("a_confined_volume_serves_its_device", a_confined_volume_serves_its_device),
    (
        "a_writer_has_files_and_unix_sockets_and_nothing_else",
        a_writer_has_files_and_unix_sockets_and_nothing_else,
    ),
    ("an_agent_executes_and_mounts_nothing_but_as_an_heir", an_agent),
    ("capabilities_are_kept_by_name", capabilities_are_kept_by_name),
    ("a_volume_ends_with_its_keeper", a_volume_ends_with_its_keeper),
];

fn main() {
    let Ok(role) = env::var(ROLE) else {
        for (name, test) in TESTS {
            test();
            println!("test {name} ... ok");
        }
        println!("test result: ok. {} passed; 0 failed", TESTS.len());
        return;
    };
    let channel = Channel::from_stdin().unwrap();
    match role.as_str() {
        "confined" => be_confined(&channel),
        "volume" => be_volume(&channel),
        "writer" => be(&channel, be_writer),
        "agent" => be(&channel, || be_agent(false)),
        "heir" => be(&channel, || be_agent(true)),
        "doorkeeper" => be(&channel, be_doorkeeper),
        "kept" => be_kept(&channel),
        "parent" => be_parent(&channel),
        "orphan" => be_orphan(&channel),
        other => panic!("no role {other}"),
    }
}

/// A file to read, once as root (if we are it) and once as somebody else.
fn confined() {
    let mut runners: Vec<&[&str]> = vec![&[]];
    if rustix::process::geteuid().is_root() {
        runners.push(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    }
    for runner in runners {
        let (mut child, channel) = spawn("confined", runner);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"what is in the file").unwrap();
        channel.send(b"go", &[file.as_fd()]).unwrap();
        let word = word(&channel);
        assert_eq!(word, "confined", "{runner:?}");
        // Another process may not look into it, unless it may look into any.
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().to_owned()
        };
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(line(set), "0000000000000000", "{set} {runner:?}");
        }
        if runner.is_empty() && rustix::process::geteuid().is_root() {
            assert_eq!(line("CapBnd:"), "0000000000000000");
        }
        assert_eq!((&*line("NoNewPrivs:"), &*line("Seccomp:")), ("1", "2"));
        channel.send(b"end", &[]).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

/// The life of the confined process. It says what went wrong, since nothing else can hear it.
fn be_confined(channel: &Channel) {
    let mut buf = [0; 16];
    let Received::Message { fds, .. } = channel.recv(&mut buf, None).unwrap() else { return };
    let file = File::from(fds.into_iter().next().unwrap());
    let folder = env::temp_dir();
    confine_volume().unwrap();
    let word = match tried(&file, &folder) {
        Ok(()) => "confined".to_owned(),
        Err(what) => what,
    };
    channel.send(word.as_bytes(), &[]).unwrap();
    let _ = channel.recv(&mut buf, Some(Duration::from_secs(20)));
}

fn tried(file: &File, folder: &Path) -> Result<(), String> {
    let allowed = |what: &str, outcome: io::Result<()>| match outcome {
        Ok(()) => Ok(()),
        Err(error) => Err(format!("{what} is refused: {error}")),
    };
    let refused = |what: &str, outcome: Result<(), Errno>| match outcome {
        Err(Errno::PERM) => Ok(()),
        other => Err(format!("{what} is not refused: {other:?}")),
    };
    let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);

    let mut bytes = [0; 7];
    allowed("pread", file.read_exact_at(&mut bytes, 5))?;
    if &bytes != b"is in t" {
        return Err("other bytes".to_owned());
    }
    allowed("fstat", file.metadata().map(|_| ()))?;
    allowed("dup", file.try_clone().map(|_| ()))?;
    let sum = thread::Builder::new().name("worker".to_owned()).spawn(|| {
        let large = vec![1u8; 8 << 20];
        thread::sleep(Duration::from_millis(1));
        large.iter().map(|byte| u64::from(*byte)).sum::<u64>()
    });
    let sum = sum.map_err(|error| format!("a thread is refused: {error}"))?;
    if sum.join().ok() != Some(8 << 20) {
        return Err("a thread with another sum".to_owned());
    }
    // A panic is still caught.
    std::panic::set_hook(Box::new(|_| {}));
    if std::panic::catch_unwind(|| panic!("once")).is_ok() {
        return Err("no panic".to_owned());
    }

    refused("open to read", File::open("/etc/passwd").map(|_| ()).map_err(errno))?;
    refused("open to write", File::create(folder.join("x")).map(|_| ()).map_err(errno))?;
    refused("open of /dev/fuse", File::open("/dev/fuse").map(|_| ()).map_err(errno))?;
    refused(
        "openat",
        rustix::fs::openat(file, "x", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
            .map(|_| ()),
    )?;
    refused("unlink", std::fs::remove_file(folder.join("x")).map_err(errno))?;
    refused("chmod of a descriptor", rustix::fs::fchmod(file, rustix::fs::Mode::RWXU))?;
    refused("truncate of a descriptor", file.set_len(0).map_err(errno))?;
    refused("readlink", std::fs::read_link("/proc/self/exe").map(|_| ()).map_err(errno))?;
    refused("tcp", TcpListener::bind("127.0.0.1:0").map(|_| ()).map_err(errno))?;
    refused("udp", UdpSocket::bind("127.0.0.1:0").map(|_| ()).map_err(errno))?;
    refused("socketpair", UnixStream::pair().map(|_| ()).map_err(errno))?;
    refused("execve", Command::new("/bin/true").status().map(|_| ()).map_err(errno))?;
    refused("mount", rustix::mount::mount("none", folder, "tmpfs", MountFlags::empty(), None))?;
    // Without the fork before it.
    refused("execve alone", Err(errno(Command::new("/bin/true").exec())))?;
    refused("stat by path", std::fs::metadata("/etc/passwd").map(|_| ()).map_err(errno))?;
    refused("ioctl", rustix::io::ioctl_fionread(file).map(|_| ()))?;
    let mut page = memmap2::MmapMut::map_anon(4096).map_err(|e| format!("mmap is refused: {e}"))?;
    page.fill(0xc3);
    refused("mprotect to execute", page.make_exec().map(|_| ()).map_err(errno))?;
    let this = rustix::process::getpid();
    let init = Pid::from_raw(1).unwrap_or(this);
    refused("kill", rustix::process::kill_process(this, Signal::CONT))?;
    refused("pidfd_open", rustix::process::pidfd_open(init, PidfdFlags::empty()).map(|_| ()))?;
    refused(
        "ptrace",
        nix::sys::ptrace::attach(nix::unistd::Pid::from_raw(1))
            .map_err(|error| Errno::from_raw_os_error(error as i32)),
    )?;
    refused(
        "traceme",
        nix::sys::ptrace::traceme().map_err(|e| Errno::from_raw_os_error(e as i32)),
    )?;
    // What was given up does not come back.
    refused(
        "dumpable",
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable),
    )?;
    Ok(())
}

fn allowed<T>(what: &str, outcome: io::Result<T>) -> Result<T, String> {
    outcome.map_err(|error| format!("{what} is refused: {error}"))
}

fn refused<T>(what: &str, outcome: io::Result<T>) -> Result<(), String> {
    match outcome {
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => Ok(()),
        Err(error) => Err(format!("{what} is not refused but fails: {error}")),
        Ok(_) => Err(format!("{what} is not refused")),
    }
}

/// Says what went wrong, since nothing else can hear it.
fn be(channel: &Channel, life: impl FnOnce() -> Result<(), String>) {
    let word = life().err().unwrap_or_else(|| "as it should be".to_owned());
    channel.send(word.as_bytes(), &[]).unwrap();
}

fn lives(role: &str) {
    let (mut child, channel) = spawn(role, &[]);
    assert_eq!(word(&channel), "as it should be", "{role}");
    assert!(child.wait().unwrap().success());
}

fn a_writer_has_files_and_unix_sockets_and_nothing_else() {
    lives("writer");
}

fn be_writer() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let writer = Writer { owner: None, starts_programs: false, keep: Capabilities::empty() };
    confine_writer(&writer).map_err(|error| error.to_string())?;
    let path = |name: &str| folder.path().join(name);
    let mut file = allowed("a file", File::create(path("a.tmp")))?;
    allowed("write", file.write_all(b"x"))?;
    allowed("fdatasync", file.sync_data())?;
    allowed("truncate", file.set_len(0))?;
    allowed("flock", Ok(rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)))?
        .map_err(|errno| errno.to_string())?;
    allowed("rename", std::fs::rename(path("a.tmp"), path("a")))?;
    allowed("fsync of a directory", File::open(folder.path()).and_then(|dir| dir.sync_all()))?;
    allowed("statvfs", rustix::fs::statvfs(folder.path()).map_err(io::Error::from))?;
    let listener = allowed("a socket", std::os::unix::net::UnixListener::bind(path("s")))?;
    let client = allowed("to connect", UnixStream::connect(path("s")))?;
    let (server, _) = allowed("to accept", listener.accept())?;
    allowed("who it is", rustix::net::sockopt::socket_peercred(&server).map_err(io::Error::from))?;
    allowed("a timeout", client.set_read_timeout(Some(Duration::from_millis(1))))?;
    let joined = allowed("a thread", thread::Builder::new().spawn(|| 7))?.join();
    if joined.ok() != Some(7) {
        return Err("a thread with another answer".to_owned());
    }
    let init = Pid::from_raw(1).ok_or("no number")?;
    refused("tcp", TcpListener::bind("127.0.0.1:0"))?;
    refused("udp", UdpSocket::bind("127.0.0.1:0"))?;
    refused("execve", Command::new("/bin/true").status())?;
    refused("execve alone", Err::<(), _>(Command::new("/bin/true").exec()))?;
    let mount = rustix::mount::mount("none", folder.path(), "tmpfs", MountFlags::empty(), None);
    refused("mount", mount.map_err(io::Error::from))?;
    let killed = rustix::process::test_kill_process(init).map_err(io::Error::from);
    refused("kill", killed)?;
    let netlink = rustix::net::socket(
        rustix::net::AddressFamily::NETLINK,
        rustix::net::SocketType::RAW,
        None,
    );
    refused("netlink", netlink.map_err(io::Error::from))
}

fn an_agent() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!(
            "SKIPPED: an_agent_executes_and_mounts_nothing_but_as_an_heir: needs root"
        );
    }
    for role in ["agent", "heir", "doorkeeper"] {
        lives(role);
    }
}

/// What is refused to all of them, though they are root.
fn never() -> Result<(), String> {
    let init = nix::unistd::Pid::from_raw(1);
    let traced = nix::sys::ptrace::attach(init);
    refused("ptrace", traced.map_err(|error| io::Error::from_raw_os_error(error as i32)))?;
    refused("chroot", rustix::process::chroot("/").map_err(io::Error::from))
}

fn be_agent(heir: bool) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    confine_agent(heir).map_err(|error| error.to_string())?;
    never()?;
    allowed("a file", File::open("/etc/passwd"))?;
    allowed("a socket", TcpListener::bind("127.0.0.1:0"))?;
    let joined = allowed("a thread", thread::Builder::new().spawn(|| 7))?.join();
    if joined.ok() != Some(7) {
        return Err("a thread with another answer".to_owned());
    }
    let mount = || {
        rustix::mount::mount("none", folder.path(), "tmpfs", MountFlags::empty(), None)
            .map_err(io::Error::from)
    };
    if heir {
        allowed("mount", mount())?;
        allowed("umount", detach_now(folder.path()))?;
        return runs_true();
    }
    let mut page = allowed("memory", memmap2::MmapMut::map_anon(4096))?;
    page.fill(0xc3);
    refused("memory to execute", page.make_exec())?;
    refused("mount", mount())?;
    refused("umount", detach_now(folder.path()))?;
    refused("execve", Command::new("/bin/true").status())?;
    refused("execve alone", Err::<(), _>(Command::new("/bin/true").exec()))
}

fn detach_now(point: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(point, rustix::mount::UnmountFlags::empty())?)
}

fn be_doorkeeper() -> Result<(), String> {
    confine_doorkeeper().map_err(|error| error.to_string())?;
    never()?;
    runs_true()
}

fn runs_true() -> Result<(), String> {
    let ended = allowed("execve", Command::new("/bin/true").status())?;
    if ended.success() { Ok(()) } else { Err(format!("/bin/true: {ended}")) }
}

const SIZE: usize = 64 << 20;

/// The whole way: mounted here, served there, where nothing else is left.
fn a_confined_volume_serves_its_device() {
    let test = "a_confined_volume_serves_its_device";
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
        return eprintln!("SKIPPED: {test}: needs root and /dev/fuse");
    }
    let folder = tempfile::tempdir().unwrap();
    let point = folder.path().join("device");
    std::fs::write(&point, "").unwrap();
    let connection = attach(&point, Options { others: true, ..Options::default() }).unwrap();
    let (mut child, channel) = spawn("volume", &[]);
    let (mut data, expected) = (tempfile::tempfile().unwrap(), vec![0xa5; SIZE]);
    data.write_all(&expected).unwrap();
    channel.send(b"go", &[connection.as_fd(), data.as_fd()]).unwrap();
    drop(connection);
    let agreement = word(&channel);
    assert!(std::fs::read(&point).unwrap() == expected);
    // By all its threads at once, past the page cache.
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let file = std::fs::OpenOptions::new()
                .read(true)
                .custom_flags(rustix::fs::OFlags::DIRECT.bits().cast_signed())
                .open(&point)
                .unwrap();
            thread::spawn(move || {
                let mut piece = vec![0; 1 << 20];
                for at in 0..SIZE as u64 >> 20 {
                    file.read_exact_at(&mut piece, at << 20).unwrap();
                    assert!(piece.iter().all(|byte| *byte == 0xa5));
                }
            })
        })
        .collect();
    for reader in readers {
        reader.join().unwrap();
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    println!("{agreement}; {}; {}", line("RssAnon:"), line("VmRSS:"));
    let anonymous = line("RssAnon:");
    let kib: u32 = anonymous.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 6 << 10, "{anonymous}");
    detach(&point, Detach::Now).unwrap();
    assert_eq!(word(&channel), "unmounted");
    assert!(child.wait().unwrap().success());
}

struct Image(File);

impl Content for Image {
    fn read(&self, _: Reader, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        self.0.read_exact_at(buf, offset).map_err(|_| Errno::IO)
    }
}

fn be_volume(channel: &Channel) {
    let mut buf = [0; 16];
    let Received::Message { fds, .. } = channel.recv(&mut buf, None).unwrap() else { return };
    let [connection, data] = <[OwnedFd; 2]>::try_from(fds).unwrap();
    confine_volume().unwrap();
    let attributes = Attributes {
        size: SIZE as u64,
        mode: 0o444,
        uid: 0,
        gid: 0,
        block_size: 4096,
        direct_io: false,
        threads: 4,
    };
    let session = serve(connection, attributes, Image(data.into())).unwrap();
    channel.send(format!("{:?}", session.agreement()).as_bytes(), &[]).unwrap();
    session.wait().unwrap();
    channel.send(b"unmounted", &[]).unwrap();
}

/// Of root's capabilities, one.
fn capabilities_are_kept_by_name() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: capabilities_are_kept_by_name: needs root");
    }
    let (mut child, channel) = spawn("kept", &[]);
    let word = word(&channel);
    child.wait().unwrap();
    assert_eq!(word, "CapabilitySet(AUDIT_WRITE) CapabilitySet(AUDIT_WRITE) CapabilitySet(0x0)");
}

fn be_kept(channel: &Channel) {
    keep_capabilities(Capabilities::AUDIT_WRITE).unwrap();
    let now = rustix::thread::capabilities(None).unwrap();
    let word = format!("{:?} {:?} {:?}", now.effective, now.permitted, now.inheritable);
    channel.send(word.as_bytes(), &[]).unwrap();
}

fn a_volume_ends_with_its_keeper() {
    let (mut parent, channel) = spawn("parent", &[]);
    let orphan: i32 = word(&channel).parse().unwrap();
    let orphan = Pid::from_raw(orphan).unwrap();
    rustix::process::kill_process(Pid::from_child(&parent), Signal::KILL).unwrap();
    parent.wait().unwrap();
    let start = Instant::now();
    while is_alive(orphan) {
        assert!(start.elapsed() < Duration::from_secs(5), "it outlives its parent");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Not a zombie that nobody waits for, either.
fn is_alive(pid: Pid) -> bool {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    std::fs::read_to_string(path)
        .is_ok_and(|text| text.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z")))
}

fn be_parent(channel: &Channel) {
    let (child, ours) = spawn("orphan", &[]);
    ours.send(std::process::id().to_string().as_bytes(), &[]).unwrap();
    assert_eq!(word(&ours), "bound");
    channel.send(child.id().to_string().as_bytes(), &[]).unwrap();
    thread::sleep(Duration::from_secs(30));
}

fn be_orphan(channel: &Channel) {
    let parent: u32 = word(channel).parse().unwrap();
    // A parent that is not ours has ended already.
    assert!(die_with_parent(parent + 1).is_err());
    die_with_parent(parent).unwrap();
    channel.send(b"bound", &[]).unwrap();
    thread::sleep(Duration::from_secs(30));
}
