//! Names and ends: who may have a name, who may end a device, and when.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

use crate::bench::{BLOCK, Bench, Ran, golden, has, read_once, soon};

const ROOT: &str = "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";

fn good() -> Ran {
    Ran { status: 0, out: String::new(), err: String::new() }
}

#[test]
fn a_device_in_use_is_not_closed() {
    let Some(bench) = Bench::new("a_device_in_use_is_not_closed") else { return };
    let image = bench.golden("v-sha256.hash", ROOT);
    let device = bench.open("v", &image, &[]);
    let user = File::open(&device).unwrap();
    let ran = bench.verity(&["close", "v"]);
    assert_eq!((ran.status, ran.out.as_str()), (3, ""));
    assert_eq!(ran.err.lines().next(), Some("veritrail: Device v is still in use."));
    assert!(ran.err.contains("\n  hint: "), "{}", ran.err);
    assert_eq!(read_once(&user, 0, BLOCK).unwrap().len(), BLOCK);
    assert_eq!(bench.status("v")["state"], "active");
    drop(user);
    bench.close("v");
    assert_eq!(bench.left(), Vec::<String>::new());
    assert_eq!(bench.bodies("DM_CTRL").len(), 2);
}

#[test]
fn a_deferred_end_comes_with_the_last_user() {
    let Some(bench) = Bench::new("a_deferred_end_comes_with_the_last_user") else { return };
    let image = bench.golden("v-sha256.hash", ROOT);
    let device = bench.open("v", &image, &[]);
    let user = File::open(&device).unwrap();
    assert_eq!(bench.verity(&["close", "v", "--deferred"]), good());
    assert_eq!(bench.status("v")["state"], "deferred");
    assert_eq!(bench.verity(&["close", "v", "--cancel-deferred"]), good());
    assert_eq!(bench.status("v")["state"], "active");
    drop(user);
    std::thread::sleep(std::time::Duration::from_millis(400));
    assert_eq!(bench.status("v")["state"], "active");
    let user = File::open(&device).unwrap();
    assert_eq!(bench.verity(&["close", "v", "--deferred"]), good());
    assert_eq!(read_once(&user, 0, BLOCK).unwrap().len(), BLOCK);
    drop(user);
    soon(5, "the deferred end", || bench.left().is_empty());
    // Nobody uses it: at once.
    bench.open("v", &image, &[]);
    assert_eq!(bench.verity(&["close", "v", "--deferred"]), good());
    assert_eq!(bench.left(), Vec::<String>::new());
    assert_eq!(bench.bodies("DM_CTRL").len(), 4);
    bench.trail_is_good();
}

#[test]
fn what_is_not_there_is_not_closed() {
    let Some(bench) = Bench::new("what_is_not_there_is_not_closed") else { return };
    for arguments in [&["close", "v"][..], &["close", "v", "--deferred"]] {
        let ran = bench.verity(arguments);
        assert_eq!((ran.status, ran.out.as_str()), (2, ""));
        assert_eq!(ran.err.lines().next(), Some("veritrail: Device v is not active."));
    }
    assert_eq!(bench.verity(&["status", "v"]).status, 1);
}

#[test]
fn another_user_can_neither_ask_nor_close_nor_read() {
    let test = "another_user_can_neither_ask_nor_close_nor_read";
    if !has(test, &["setpriv"]) {
        return;
    }
    let Some(bench) = Bench::new(test) else { return };
    let image = bench.golden("v-sha256.hash", ROOT);
    let device = bench.open("v", &image, &[]);
    fs::set_permissions(bench.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let run_dir = bench.run_dir();
    let as_nobody = |arguments: &[&str]| {
        let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        Ran::of(bench.timed("setpriv", &[&user[..], arguments].concat()).output().unwrap())
    };
    let program = env!("CARGO_BIN_EXE_veritrail");
    if as_nobody(&[program, "--version"]).status != 0 {
        return eprintln!("SKIPPED: {test}: another user cannot run the binary where it is");
    }
    for verb in [&["close", "v"][..], &["close", "v", "--deferred"], &["status", "v"]] {
        let ran = as_nobody(&[&[program, "verity"], verb, &["--run-dir", &run_dir]].concat());
        assert_eq!((ran.status, ran.out.as_str()), (6, ""), "{verb:?}: {}", ran.err);
        assert!(ran.err.contains("Permission denied"), "{}", ran.err);
    }
    let ran = as_nobody(&["cat", device.to_str().unwrap()]);
    assert_ne!(ran.status, 0);
    assert!(ran.err.contains("Permission denied"), "{}", ran.err);
    assert!(fs::read(device).unwrap() == golden("vdata-64x4k.img"));
    bench.close("v");
}

#[test]
fn a_name_is_for_one_device() {
    let Some(bench) = Bench::new("a_name_is_for_one_device") else { return };
    let image = bench.golden("v-sha256.hash", ROOT);
    let device = bench.open("v", &image, &[]);
    let ran = bench.try_open("v", &image, &[]);
    assert_eq!((ran.status, ran.out.as_str()), (2, ""));
    assert_eq!(ran.err.lines().next(), Some("veritrail: Device v already exists."));
    assert!(fs::read(device).unwrap() == golden("vdata-64x4k.img"));
    let long = "x".repeat(128);
    for bad in ["", ".", "..", "../v", ".v", "a b", "a/b", "a\nb", "ä", &long] {
        let ran = bench.try_open(bad, &image, &[]);
        assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{bad:?}");
        assert_eq!(bench.verity(&["close", bad]).status, 2, "{bad:?}");
    }
    // Also those that are another program's in a shell or a path.
    let odd = ["#x", "+x=y:z@w", &long[..127]];
    for name in odd {
        assert!(fs::read(bench.open(name, &image, &[])).unwrap() == golden("vdata-64x4k.img"));
    }
    for name in odd {
        bench.close(name);
    }
    bench.close("v");
    assert_eq!(bench.left(), Vec::<String>::new());
}

/// Killed at any moment of an opening, whoever asked for it leaves a device or nothing, and what
/// was opened was closed.
#[test]
fn an_opening_without_its_caller_comes_to_an_end() {
    let Some(bench) = Bench::new("an_opening_without_its_caller_comes_to_an_end") else { return };
    let image = bench.golden("v-sha256.hash", ROOT);
    let (run_dir, trail) = (bench.run_dir(), bench.path("trail"));
    bench.open("first", &image, &[]);
    let opening = ["verity", "open", "data", "v", "hash", ROOT, "--run-dir", &run_dir, "--trail"];
    let others = bench.left().len();
    for turn in 0..if crate::bench::long() { 200 } else { 30 } {
        let mut caller = std::process::Command::new(env!("CARGO_BIN_EXE_veritrail"))
            .args(opening)
            .arg(&trail)
            .current_dir(bench.folder())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(turn % 40));
        caller.kill().unwrap();
        caller.wait().unwrap();
        soon(10, "a device or nothing", || {
            let left = bench.left().len();
            left == others || bench.verity(&["close", "v"]).status == 0
        });
        soon(10, "the end", || bench.left().len() == others);
    }
    bench.close("first");
    let ctrl = bench.bodies("DM_CTRL");
    let of = |op: &str| ctrl.iter().filter(|body| body.contains(op)).count();
    assert_eq!(of(" op=ctr "), of(" op=dtr "));
    assert_eq!(bench.bodies("VT_GAP"), Vec::<String>::new());
    bench.trail_is_good();
}

/// Two at once for one name: one has it.
#[test]
fn of_many_that_want_a_name_one_has_it() {
    let Some(bench) = Bench::new("of_many_that_want_a_name_one_has_it") else { return };
    let image = bench.golden("v-sha256.hash", ROOT);
    let codes: Vec<i32> = std::thread::scope(|scope| {
        let opening = || bench.try_open("v", &image, &[]).status;
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(opening)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let count = |code| codes.iter().filter(|one| **one == code).count();
    assert_eq!((count(0), count(2)), (1, 5), "{codes:?}");
    assert!(fs::read(bench.device("v")).unwrap() == golden("vdata-64x4k.img"));
    bench.close("v");
    assert_eq!(bench.left(), Vec::<String>::new());
    assert_eq!(bench.bodies("DM_CTRL").len(), 2);
}
