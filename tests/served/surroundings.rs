//! Surroundings that are against us: what is no disk, what never answers, who gives up, and
//! directories that others prepared.

use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Instant;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, kill_process};

use crate::bench::{Bench, Image, noise, soon};

const ROOT: &str = "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";

fn fifo(bench: &Bench, name: &str) {
    let made = bench.timed("mkfifo", &[name]).status().unwrap();
    assert!(made.success());
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Its opening would wait for somebody who writes.
#[test]
fn a_fifo_is_no_disk() {
    let Some(bench) = Bench::new("a_fifo_is_no_disk") else { return };
    let image = bench.golden("v-sha256.hash", ROOT);
    fifo(&bench, "fifo");
    for (data, hash, more) in [
        ("fifo", "hash", &[][..]),
        ("data", "fifo", &[]),
        ("data", "hash", &["--fec-device", "fifo"]),
    ] {
        let image = Image { data: data.into(), hash: hash.into(), ..image.clone() };
        let began = Instant::now();
        let ran = bench.try_open("v", &image, more);
        assert_eq!((ran.status, ran.out.as_str()), (6, ""), "{ran:?}");
        assert!(ran.err.contains("it is neither a file nor a block device"), "{}", ran.err);
        assert!(began.elapsed().as_secs() < 10);
        assert_eq!(bench.left(), Vec::<String>::new());
    }
}

/// A server that still waits for a disk when who wanted it is killed ends, too.
#[test]
fn who_gives_up_leaves_no_server_behind() {
    let Some(bench) = Bench::new("who_gives_up_leaves_no_server_behind") else { return };
    let image = bench.image("below", &noise(1 << 20));
    let below = bench.open("below", &image, &[]);
    let (_, volume) = bench.servers("below");
    signal(volume, Signal::STOP);
    let hash = below.to_str().unwrap();
    let mut opening = bench
        .command(&["verity", "open", "below", "v", hash, ROOT, "--run-dir", &bench.run_dir()])
        .spawn()
        .unwrap();
    let processes = || bench.left().iter().filter(|left| left.starts_with("process")).count();
    soon(10, "the second server", || processes() == 3);
    // timeout(1) passes this one on.
    signal(i32::try_from(opening.id()).unwrap(), Signal::TERM);
    opening.wait().unwrap();
    soon(5, "the end of the second server", || processes() == 2);
    signal(volume, Signal::CONT);
    bench.close("below");
    assert_eq!(bench.left(), Vec::<String>::new());
}

/// The opening is on record already: so must be the end.
#[test]
fn a_device_that_nobody_waits_for_is_closed_on_record() {
    let test = "a_device_that_nobody_waits_for_is_closed_on_record";
    let Some(bench) = Bench::new(test) else { return };
    bench.golden("v-sha256.hash", ROOT);
    let (ours, theirs): (OwnedFd, OwnedFd) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    drop(ours);
    let run_dir = bench.run_dir();
    let words = ["verity", "--keeper", "open", "data", "v", "hash", ROOT];
    let more = ["--trail", "trail", "--run-dir", &run_dir];
    let mut keeper = bench.command(&[&words[..], &more].concat());
    keeper.stdin(File::from(theirs)).status().unwrap();
    let ends: Vec<String> = bench.bodies("DM_CTRL");
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert!(ends[0].contains(" op=ctr ") && ends[0].ends_with(" res=1"), "{ends:?}");
    assert!(ends[1].contains(" op=dtr ") && ends[1].ends_with(" res=1"), "{ends:?}");
    assert_eq!(bench.left(), Vec::<String>::new());
    bench.trail_is_good();
}

/// Without the trail it cannot be told that an earlier server was killed: then the next one that
/// can tells it.
#[test]
fn a_killed_server_is_told_of_by_the_next_that_can() {
    let test = "a_killed_server_is_told_of_by_the_next_that_can";
    let Some(bench) = Bench::new(test) else { return };
    let image = bench.golden("v-sha256.hash", ROOT);
    bench.open("v", &image, &[]);
    signal(bench.servers("v").0, Signal::KILL);
    bench.write("no-trail", b"a file");
    let ran = bench.try_open("v", &image, &["--trail", "no-trail"]);
    assert_ne!(ran.status, 0);
    bench.open("v", &image, &[]);
    bench.close("v");
    let gaps = bench.bodies("VT_GAP");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0].starts_with("source=device device=v opened="), "{gaps:?}");
}

/// What stands in a directory of devices is believed and acted upon, so nobody else may write there.
#[test]
fn a_directory_of_others_is_not_believed() {
    let Some(bench) = Bench::new("a_directory_of_others_is_not_believed") else { return };
    let image = bench.golden("v-sha256.hash", ROOT);
    fs::create_dir_all(bench.path("run/devices/.v")).unwrap();
    let devices = bench.path("run/devices");
    fifo(&bench, "run/devices/.v/status.json");
    // Nobody's but ours: read, and of no use.
    for verb in [&["status"][..], &["status", "v"]] {
        let ran = bench.verity(verb);
        assert_eq!((ran.status, ran.err.as_str()), (1, ""), "{ran:?}");
        assert!(ran.out.ends_with("/run/devices/v is inactive.\n"), "{}", ran.out);
    }
    for mode in [0o777, 0o1777, 0o770] {
        fs::set_permissions(&devices, Permissions::from_mode(mode)).unwrap();
        for verb in [&["status"][..], &["status", "v"], &["close", "v"]] {
            let ran = bench.verity(verb);
            assert_eq!((ran.status, ran.out.as_str()), (3, ""), "{verb:?}: {ran:?}");
            assert!(ran.err.contains("is not a directory that only you can change"), "{}", ran.err);
        }
        assert_eq!(bench.try_open("v", &image, &[]).status, 3);
    }
    fs::set_permissions(&devices, Permissions::from_mode(0o755)).unwrap();
    fs::remove_dir_all(devices.join(".v")).unwrap();
    symlink("/nowhere/at-all", devices.join(".v")).unwrap();
    let ran = bench.try_open("v", &image, &[]);
    assert_eq!((ran.status, ran.out.as_str()), (6, ""), "{ran:?}");
}

/// Readers are answered as before, and `status` says it before `close` has to.
#[test]
fn a_trail_that_is_taken_away_is_missed_by_status() {
    let Some(bench) = Bench::new("a_trail_that_is_taken_away_is_missed_by_status") else {
        return;
    };
    let image = bench.golden("v-sha256.hash", ROOT);
    let device = crate::bench::direct(&bench.open("v", &image, &[]));
    assert_eq!(bench.status("v")["lost_events"], 0);
    bench.corrupt("data", 40_960);
    fs::remove_dir_all(bench.path("trail")).unwrap();
    // A file that has no name any more still takes what is written, until the trail is signed.
    soon(10, "status tells", || {
        let error = crate::bench::read_once(&device, 40_960, 4096).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5));
        bench.status("v")["lost_events"].as_u64().unwrap() > 0
    });
    assert!(bench.verity(&["status", "v"]).out.contains("\n               cannot be written: "));
    drop(device);
    let ran = bench.verity(&["close", "v"]);
    assert_eq!((ran.status, ran.out.as_str()), (6, ""));
    assert!(ran.err.contains("records are lost at most"), "{}", ran.err);
    assert_eq!(bench.left(), Vec::<String>::new());
}
