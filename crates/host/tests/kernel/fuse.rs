//! Reads, errors, deaths and unmounts of a served file.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use host::channel::{Channel, Received};
use host::mount::{
    Detach, MountError, Options, State, attach, detach, device_number, is_mounted, state,
};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use crate::serving::{
    BLOCK, Device, FAILS, FAILS_WITH_EILSEQ, NAMES_READER, PANICS, SLOW, Served, pattern_range,
    runs, start,
};
use crate::spawn::{spawn, word};

fn errno(error: &std::io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

/// A size that reaches none of the blocks that fail.
const GOOD: Device<'static> =
    Device { direct_io: false, image: None, size: 90 * BLOCK + 777, mode: 0o444 };

const PAGE: usize = 4096;

/// [`GOOD`]'s size, for a buffer.
fn whole() -> usize {
    usize::try_from(GOOD.size).unwrap()
}

#[test]
fn the_mount_point_is_the_file() {
    if !runs("the_mount_point_is_the_file", &[]) {
        return;
    }
    let served = Served::new(GOOD);
    eprintln!("{}", served.agreement);
    let stat = fs::metadata(&served.point).unwrap();
    assert!(stat.is_file());
    assert_eq!((stat.len(), stat.mode() & 0o7777, stat.nlink()), (GOOD.size, 0o444, 1));
    assert_eq!((stat.uid(), stat.gid(), stat.mtime()), (0, 0, 0));
    let (major, minor) = device_number(&served.point).unwrap().unwrap();
    let dev = stat.dev();
    assert_eq!((rustix::fs::major(dev), rustix::fs::minor(dev)), (major, minor));
    assert_eq!(state(&served.point).unwrap(), State::Mounted);
    assert_eq!(fs::read(&served.point).unwrap(), pattern_range(0, whole()));
    // Nothing but reading.
    let refused = OpenOptions::new().write(true).open(&served.point).unwrap_err();
    assert_eq!(errno(&refused), Some(Errno::ROFS));
    // Mounting over it is refused.
    let again = attach(&served.point, Options::default()).unwrap_err();
    assert!(matches!(again, MountError::AlreadyMounted(_)), "{again}");
    // It ends when it is unmounted, and the file below comes back.
    let_go(&served.point);
    assert_eq!(served.word(), "unmounted");
    assert_eq!(state(&served.point).unwrap(), State::NotMounted);
    assert_eq!(fs::read(&served.point).unwrap(), b"");
    let gone = detach(&served.point, Detach::Now).unwrap_err();
    assert!(matches!(gone, MountError::NotMounted(_)), "{gone}");
}

#[test]
fn every_way_to_read_gives_the_same_bytes() {
    if !runs("every_way_to_read_gives_the_same_bytes", &["dd"]) {
        return;
    }
    for direct_io in [false, true] {
        let served = Served::new(Device { direct_io, ..GOOD });
        let file = File::open(&served.point).unwrap();
        for (from, len) in
            [(0, 1), (1, 4096), (4095, 2), (12_345, 70_001), (GOOD.size - 5, 5), (7, 300_000)]
        {
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, from).unwrap();
            assert!(bytes == pattern_range(from, len), "{len} at {from}");
        }
        // At the end: short, then nothing, however far.
        let mut bytes = [0; 64];
        assert_eq!(file.read_at(&mut bytes, GOOD.size - 5).unwrap(), 5);
        for beyond in [GOOD.size, GOOD.size + 1, u64::from(u32::MAX) + 1, i64::MAX as u64 - 64] {
            assert_eq!(file.read_at(&mut bytes, beyond).unwrap(), 0, "{beyond}");
        }
        assert!(file.read_at(&mut bytes, u64::MAX).is_err());
        let mut at_end = &file;
        assert_eq!(at_end.seek(SeekFrom::End(-3)).unwrap(), GOOD.size - 3);
        assert_eq!(at_end.read(&mut bytes).unwrap(), 3);
        // O_DIRECT, aligned and up to the end.
        let direct = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::DIRECT.bits().cast_signed())
            .open(&served.point)
            .unwrap();
        let mut all = Vec::new();
        let mut piece = vec![0; 1 << 20];
        loop {
            let read = direct.read_at(&mut piece, all.len() as u64).unwrap();
            if read == 0 {
                break;
            }
            all.extend_from_slice(&piece[..read]);
        }
        assert!(all == pattern_range(0, whole()));
        let beyond = Command::new("dd")
            .arg(format!("if={}", served.point.display()))
            .args(["bs=4096", "skip=200", "status=none"])
            .output()
            .unwrap();
        assert!(beyond.status.success() && beyond.stdout.is_empty(), "{beyond:?}");
    }
}

#[test]
fn an_error_is_an_error_and_never_a_short_read() {
    if !runs("an_error_is_an_error_and_never_a_short_read", &[]) {
        return;
    }
    // With the page cache each failing page is EIO to its reader, whatever the server said.
    for (direct_io, block, want) in [
        (true, FAILS, Errno::IO),
        (true, FAILS_WITH_EILSEQ, Errno::ILSEQ),
        (true, PANICS, Errno::IO),
        (false, FAILS, Errno::IO),
        (false, PANICS, Errno::IO),
    ] {
        let served = Served::new(Device { direct_io, ..Device::default() });
        let file = File::open(&served.point).unwrap();
        let mut bytes = [0; PAGE];
        for _ in 0..3 {
            let failed = file.read_at(&mut bytes, block * BLOCK).unwrap_err();
            assert_eq!(errno(&failed), Some(want), "block {block}, direct {direct_io}");
            let failed = file.read_at(&mut bytes[..1], (block + 1) * BLOCK - 1).unwrap_err();
            assert_eq!(errno(&failed), Some(want), "block {block}, direct {direct_io}");
        }
        for neighbour in [block - 1, block + 1] {
            file.read_exact_at(&mut bytes, neighbour * BLOCK).unwrap();
            assert!(bytes[..] == pattern_range(neighbour * BLOCK, bytes.len()));
        }
        // A large read: what comes before the bad block (page cache), or nothing at all.
        let mut large = vec![0; 64 * PAGE];
        let from = (block - 10) * BLOCK;
        match file.read_at(&mut large, from) {
            Ok(read) => {
                assert!(!direct_io && read <= 10 * PAGE, "{read}");
                assert!(large[..read] == pattern_range(from, read));
            }
            Err(failed) => assert_eq!(errno(&failed), Some(want)),
        }
    }
}

#[test]
fn a_killed_server_leaves_readers_an_error_at_once() {
    if !runs("a_killed_server_leaves_readers_an_error_at_once", &[]) {
        return;
    }
    let mut served = Served::new(Device { direct_io: true, ..Device::default() });
    let file = File::open(&served.point).unwrap();
    let mut bytes = [0; 16];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let waiting = {
        let file = file.try_clone().unwrap();
        std::thread::spawn(move || file.read_at(&mut [0; 16], SLOW * BLOCK))
    };
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    served.kill();
    // The one that waits, the one that has it open, the one that opens it.
    let waited = waiting.join().unwrap().unwrap_err();
    assert!(matches!(errno(&waited), Some(Errno::CONNABORTED | Errno::NOTCONN)), "{waited}");
    let read = file.read_at(&mut bytes, 0).unwrap_err();
    assert_eq!(errno(&read), Some(Errno::NOTCONN));
    let opened = File::open(&served.point).unwrap_err();
    assert_eq!(errno(&opened), Some(Errno::NOTCONN));
    assert_eq!(state(&served.point).unwrap(), State::Dead);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    // The number is still known, a second mount is refused, and it can be taken away.
    assert!(device_number(&served.point).unwrap().is_some());
    let again = attach(&served.point, Options::default()).unwrap_err();
    assert!(matches!(again, MountError::AlreadyMounted(_)), "{again}");
    drop(file);
    let_go(&served.point);
    let connection = attach(&served.point, Options { others: true, ..Options::default() }).unwrap();
    drop(connection);
    assert_eq!(state(&served.point).unwrap(), State::Dead);
}

#[test]
fn a_signal_in_a_read_wedges_nothing() {
    if !runs("a_signal_in_a_read_wedges_nothing", &["timeout", "dd"]) {
        return;
    }
    let served = Served::new(Device { direct_io: true, ..Device::default() });
    for signal in ["INT", "TERM", "KILL"] {
        let skip = format!("skip={SLOW}");
        let input = format!("if={}", served.point.display());
        let start = Instant::now();
        let _ = Command::new("timeout")
            .args(["-s", signal, "0.3", "dd", &input, "bs=4096", "count=1", &skip])
            .args(["of=/dev/null", "status=none"])
            .status()
            .unwrap();
        assert!(start.elapsed() < Duration::from_secs(6), "{signal}: {:?}", start.elapsed());
        let file = File::open(&served.point).unwrap();
        let mut bytes = [0; 100];
        file.read_exact_at(&mut bytes, 50).unwrap();
        assert!(bytes[..] == pattern_range(50, 100));
    }
    // A killed reader's request keeps the file open until the server has answered it.
    let_go(&served.point);
    assert_eq!(served.word(), "unmounted");
}

/// A mount that is gone when this is, also where a test fails.
struct Gone<'a>(&'a Path);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let _ = detach(self.0, Detach::Lazy);
    }
}

/// Unmounts what nobody uses any more, or will not in a moment: a process that another test starts
/// has our open files until it runs its program.
fn let_go(point: &Path) {
    let start = Instant::now();
    while let Err(error) = detach(point, Detach::Now) {
        assert!(matches!(error, MountError::Busy(_)), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10), "{error}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_mount_in_use_is_busy_and_leaves_lazily() {
    if !runs("a_mount_in_use_is_busy_and_leaves_lazily", &[]) {
        return;
    }
    let served = Served::new(GOOD);
    let file = File::open(&served.point).unwrap();
    let busy = detach(&served.point, Detach::Now).unwrap_err();
    assert!(matches!(busy, MountError::Busy(_)) && busy.remedy().is_some(), "{busy}");
    detach(&served.point, Detach::Lazy).unwrap();
    assert!(!is_mounted(&served.point).unwrap());
    // Who has it open reads on.
    let mut bytes = [0; 100];
    file.read_exact_at(&mut bytes, 70_000).unwrap();
    assert!(bytes[..] == pattern_range(70_000, 100));
    drop(file);
    assert_eq!(served.word(), "unmounted");
}

#[test]
fn a_reader_is_known_by_its_thread() {
    if !runs("a_reader_is_known_by_its_thread", &["setpriv", "dd"]) {
        return;
    }
    for direct_io in [true, false] {
        let served = Served::new(Device { direct_io, ..Device::default() });
        let point = served.point.clone();
        let thread = std::thread::spawn(move || {
            let file = File::open(point).unwrap();
            let mut name = [0; 12];
            file.read_exact_at(&mut name, NAMES_READER * BLOCK).unwrap();
            (rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned(), name)
        });
        let (tid, name) = thread.join().unwrap();
        assert_eq!(name, named(tid, 0, 0), "direct {direct_io}");
    }
    let served = Served::new(Device { direct_io: true, ..Device::default() });
    // The folder is root's alone, so the file comes open.
    let other = Command::new("setpriv")
        .args(["--reuid=1234", "--regid=4321", "--clear-groups", "dd", "bs=4096", "count=1"])
        .args([&format!("skip={NAMES_READER}"), "status=none"])
        .stdin(File::open(&served.point).unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let tid = other.id();
    let output = other.wait_with_output().unwrap();
    assert_eq!(output.stdout[..12], named(tid, 1234, 4321));
}

fn named(tid: u32, uid: u32, gid: u32) -> [u8; 12] {
    let bytes: Vec<u8> = [tid, uid, gid].into_iter().flat_map(u32::to_le_bytes).collect();
    bytes.try_into().unwrap()
}

#[test]
fn a_program_runs_from_the_device() {
    if !runs("a_program_runs_from_the_device", &["echo"]) {
        return;
    }
    // Its pages are mapped, not read.
    let program = fs::canonicalize("/bin/echo").unwrap();
    for direct_io in [false, true] {
        let device = Device { direct_io, image: Some(&program), mode: 0o555, ..GOOD };
        let served = Served::new(device);
        let output = Command::new(&served.point).arg("mapped").output().unwrap();
        assert_eq!(output.stdout, b"mapped\n", "direct {direct_io}: {output:?}");
    }
}

#[test]
fn the_kernel_checks_the_mode() {
    if !runs("the_kernel_checks_the_mode", &["setpriv", "cat"]) {
        return;
    }
    for (mode, may) in [(0o400, false), (0o444, true)] {
        let served = Served::new(Device { mode, ..GOOD });
        let folder = served.point.parent().unwrap();
        fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "cat"])
            .arg(&served.point)
            .output()
            .unwrap();
        assert_eq!(output.status.success(), may, "{mode:o}");
        assert_eq!(output.stdout.len(), if may { whole() } else { 0 });
    }
}

#[test]
fn many_hostile_readers_wedge_nothing() {
    if !runs("many_hostile_readers_wedge_nothing", &["timeout", "dd"]) {
        return;
    }
    // With blocks that fail and panic, without those that only take long.
    let size = (SLOW - 50) * BLOCK + 1;
    let served = Served::new(Device { direct_io: true, size, ..Device::default() });
    let until = Instant::now() + Duration::from_secs(2);
    let readers: Vec<_> = (1u64..=32)
        .map(|seed| {
            let file = File::open(&served.point).unwrap();
            std::thread::spawn(move || {
                let mut random = seed;
                let mut buf = vec![0; 300_000];
                let (mut good, mut bad) = (0, 0);
                while Instant::now() < until {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    // Inside, far outside, anywhere; any length.
                    let offset = match random % 8 {
                        0 => random,
                        1 => i64::MAX as u64 - random % 100_000,
                        _ => (random >> 8) % size,
                    };
                    let len = usize::try_from(random >> 20).unwrap() % buf.len();
                    match file.read_at(&mut buf[..len], offset) {
                        Ok(read) => {
                            let left = size.saturating_sub(offset).min(len as u64);
                            assert_eq!(read as u64, left, "{len} at {offset}");
                            assert!(buf[..read] == pattern_range(offset, read)[..]);
                            good += 1;
                        }
                        Err(_) => bad += 1,
                    }
                }
                (good, bad)
            })
        })
        .collect();
    // And some that die in the middle of a read.
    while Instant::now() < until {
        let input = format!("if={}", served.point.display());
        let _ = Command::new("timeout")
            .args(["-s", "KILL", "0.02", "dd", &input, "bs=1M", "of=/dev/null", "status=none"])
            .stderr(Stdio::null())
            .status()
            .unwrap();
    }
    for reader in readers {
        let (good, bad) = reader.join().unwrap();
        assert!(good > 0 && bad > 0, "{good} good, {bad} bad");
    }
    let mut bytes = [0; 100];
    File::open(&served.point).unwrap().read_exact_at(&mut bytes, 9).unwrap();
    assert!(bytes[..] == pattern_range(9, 100));
}

#[test]
fn a_server_that_stands_still_is_not_dead() {
    if !runs("a_server_that_stands_still_is_not_dead", &[]) {
        return;
    }
    let served = Served::new(GOOD);
    let server = Pid::from_child(&served.server);
    rustix::process::kill_process(server, Signal::STOP).unwrap();
    let start = Instant::now();
    let found = state(&served.point).unwrap();
    let number = device_number(&served.point).unwrap();
    let took = start.elapsed();
    rustix::process::kill_process(server, Signal::CONT).unwrap();
    assert_eq!(found, State::Mounted);
    assert!(number.is_some() && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(fs::read(&served.point).unwrap().len(), whole());
}

#[test]
fn a_hundred_devices_leave_nothing_behind() {
    if !runs("a_hundred_devices_leave_nothing_behind", &[]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let point = folder.path().join("device");
    fs::write(&point, "").unwrap();
    let _gone = Gone(&point);
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    for round in 0..100 {
        let connection = attach(&point, Options { others: true, ..Options::default() }).unwrap();
        if round % 10 == 0 {
            let (mut server, channel) = spawn("server", &[]);
            start(&channel, connection, GOOD);
            let mut byte = [0];
            File::open(&point).unwrap().read_exact(&mut byte).unwrap();
            let_go(&point);
            assert_eq!(word(&channel), "unmounted");
            assert!(server.wait().unwrap().success());
        } else {
            // Never served at all.
            let_go(&point);
            drop(connection);
        }
        assert!(!is_mounted(&point).unwrap());
    }
    // Other tests have files open meanwhile.
    assert!(open() < before + 50);
}

#[test]
fn only_a_regular_file_is_mounted_on() {
    if !runs("only_a_regular_file_is_mounted_on", &[]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for point in [folder.path(), &link] {
        let error = attach(point, Options::default()).unwrap_err();
        assert!(matches!(error, MountError::NotAFile(_)), "{error}");
    }
    let missing = attach(&folder.path().join("none"), Options::default()).unwrap_err();
    assert!(matches!(missing, MountError::Io { .. }), "{missing}");
    assert!(attach(Path::new("/nonexistent/x"), Options::default()).is_err());
}

#[test]
fn whoever_is_not_root_mounts_by_fusermount3() {
    let test = "whoever_is_not_root_mounts_by_fusermount3";
    if !runs(test, &["fusermount3", "setpriv"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534)).unwrap();
    // A /dev/fuse as udev makes it, and one as the kernel does: `fusermount3` opens it with its
    // caller's permissions.
    for (role, mode) in [("nobody", "666"), ("nobody who may not open /dev/fuse", "600")] {
        // In a mount namespace of its own, since not every machine that runs tests has udev.
        let script = format!(
            "mount -t tmpfs -o mode=755 tmpfs /mnt && mknod -m {mode} /mnt/fuse c 10 229 && \
             mount --bind /mnt/fuse /dev/fuse && \
             exec setpriv --reuid=65534 --regid=65534 --clear-groups -- \"$@\""
        );
        let runner = ["unshare", "--mount", "--propagation=private", "sh", "-c", &script, "sh"];
        let (mut child, channel) = spawn(role, &runner);
        channel.send(folder.path().as_os_str().as_encoded_bytes(), &[]).unwrap();
        let word = word(&channel);
        let ended = child.wait().unwrap();
        assert!(ended.success() && word == "good", "{role}: {word}, {ended}");
    }
}

/// Where nobody but root may open `/dev/fuse`, that is what is said.
pub(crate) fn be_nobody_shut_out(channel: &Channel) {
    let point = folder_of(channel).join("another device");
    fs::write(&point, "").unwrap();
    let error = attach(&point, Options::default()).unwrap_err();
    assert!(error.remedy().is_some_and(|remedy| remedy.contains("0666")), "{error}");
    assert_eq!(state(&point).unwrap(), State::NotMounted);
    channel.send(b"good", &[]).unwrap();
}

fn folder_of(channel: &Channel) -> PathBuf {
    let mut buf = [0; 4096];
    let Received::Message { len, .. } = channel.recv(&mut buf, None).unwrap() else {
        panic!("no folder");
    };
    PathBuf::from(OsStr::from_bytes(&buf[..len]))
}

/// Mount, serve, read, busy, unmount, all as somebody else than root. Its folder comes by the
/// channel.
pub(crate) fn be_nobody(channel: &Channel) {
    assert!(!rustix::process::geteuid().is_root());
    let folder = folder_of(channel);
    let point = folder.join("a device, with \"marks\"\\");
    fs::write(&point, "").unwrap();
    let connection = attach(&point, Options::default()).unwrap();
    let (mut server, server_channel) = spawn("server", &[]);
    start(&server_channel, connection, GOOD);
    assert_eq!(state(&point).unwrap(), State::Mounted);
    assert!(device_number(&point).unwrap().is_some());
    assert!(fs::read(&point).is_ok_and(|bytes| bytes == pattern_range(0, whole())));
    let file = File::open(&point).unwrap();
    let busy = detach(&point, Detach::Now).unwrap_err();
    assert!(matches!(busy, MountError::Busy(_)), "{busy}");
    drop(file);
    let_go(&point);
    assert_eq!(word(&server_channel), "unmounted");
    server.wait().unwrap();
    // And once more lazily, with the server killed first.
    let connection = attach(&point, Options::default()).unwrap();
    let (mut server, server_channel) = spawn("server", &[]);
    start(&server_channel, connection, GOOD);
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(state(&point).unwrap(), State::Dead);
    detach(&point, Detach::Lazy).unwrap();
    assert_eq!(state(&point).unwrap(), State::NotMounted);
    // For others only where this machine's root permits it.
    match attach(&point, Options { others: true, ..Options::default() }) {
        Ok(connection) => {
            drop(connection);
            let_go(&point);
        }
        Err(error) => {
            let remedy = error.remedy().unwrap_or_default();
            assert!(remedy.contains("user_allow_other"), "{error}");
        }
    }
    // What is refused says by whom and why.
    let error = attach(Path::new("/etc/passwd"), Options::default()).unwrap_err();
    assert!(matches!(error, MountError::Fusermount { .. }), "{error}");
    channel.send(b"good", &[]).unwrap();
}
