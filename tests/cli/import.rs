//! `veritrail trail import` and `verify`: odd sources, odd directories, full disks, and how each ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const OURS: &str = env!("CARGO_BIN_EXE_veritrail");

/// Runs a shell script in a directory of its own; `$V` is the binary.
fn shell(dir: &Path, script: &str) -> Output {
    Command::new("sh").args(["-c", script]).current_dir(dir).env("V", OURS).output().unwrap()
}

/// The exit status of one call, and what it said on standard error.
fn ends(dir: &Path, script: &str) -> (i32, String) {
    let output = shell(dir, script);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn log(events: u32) -> String {
    let event = |n| format!("type=USER msg=audit(1700000000.000:{n}): pid={n} op=test res=0\n");
    (1..=events).map(event).collect()
}

#[test]
fn every_source_is_read_once_to_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("log"), log(300)).unwrap();
    let good = (0, String::new());
    assert_eq!(ends(dir.path(), "$V trail import t log"), good);
    assert_eq!(ends(dir.path(), "mkfifo f; cat log > f & $V trail import t f"), good);
    let own = "t/segments/00000000000000000000.log";
    assert_eq!(ends(dir.path(), &format!("$V trail import t {own}")), good);
    assert_eq!(ends(dir.path(), "$V trail import t /proc/version"), good);
    let output = shell(dir.path(), "$V trail verify t --json");
    let said = String::from_utf8(output.stdout).unwrap();
    // 300 and VT_IMPORT, again, the 602 of the segment and VT_IMPORT, one line and VT_IMPORT.
    assert!(said.contains("\"signed\":1207,\"unsigned\":0,\"torn\":0,"), "{said}");
    let (code, said) = ends(dir.path(), "$V trail import other log . 2>&1 >/dev/null; exit $?");
    assert_eq!((code, said), (6, String::new()));
    let (code, said) = ends(dir.path(), "$V trail import other log missing");
    let expected =
        "veritrail: cannot read missing\n  because: No such file or directory (os error 2)\n";
    assert_eq!((code, said), (6, expected.to_owned()));
    assert!(!dir.path().join("other/id").exists(), "nothing is made for a file that is not there");
}

#[test]
fn what_cannot_be_verified_ends_as_it_should() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("log"), log(3)).unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    assert_eq!(ends(dir.path(), "$V trail import t log; cp -a t future; cp -a t dead").0, 0);
    fs::write(dir.path().join("dead/open"), "boot 1\n").unwrap();
    let grown = "$V trail import future log && cp future/checkpoint later";
    assert_eq!(ends(dir.path(), grown).0, 0);
    let table = [
        ("t", 0),
        ("dead", 0),
        ("t --checkpoint t/checkpoint", 0),
        ("future --checkpoint t/checkpoint", 0),
        ("t --checkpoint later", 4),
        ("t --anchors later", 4),
        ("t --checkpoint /dev/null", 5),
        ("t --anchors /dev/null", 5),
        ("t --anchors /dev/zero", 5),
        ("t --anchors log", 5),
        ("t --anchors missing", 6),
        ("t --public-key log", 5),
        ("empty", 5),
        ("missing", 5),
        ("log", 5),
    ];
    for (args, code) in table {
        let (found, said) = ends(dir.path(), &format!("$V trail verify {args}"));
        assert_eq!(found, code, "{args}: {said}");
    }
}

#[test]
fn a_directory_for_everybody_is_no_place_for_a_trail() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("log"), log(3)).unwrap();
    fs::create_dir(dir.path().join("t")).unwrap();
    fs::set_permissions(dir.path().join("t"), fs::Permissions::from_mode(0o1777)).unwrap();
    let expected = "veritrail: trail t\n  because: everybody may write to the trail's directory\n  \
                    hint: take that right away (chmod o-w) or choose another directory\n";
    assert_eq!(ends(dir.path(), "$V trail import t log"), (3, expected.to_owned()));
}

#[test]
fn a_full_disk_ends_an_import_and_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("log"), log(20_000)).unwrap();
    // The mount is of a namespace that ends with the shell.
    let mount = "unshare -m sh -c 'mount -t tmpfs -o size=1m none m";
    if !shell(dir.path(), &format!("mkdir m && {mount}'")).status.success() {
        eprintln!("SKIPPED: a_full_disk_ends_an_import_and_costs_nothing: needs root to mount");
        return;
    }
    let script = "
        say() { echo \"$1 $?\"; }
        $V trail import m/t log; say import
        $V trail verify m/t; say verify
        $V trail import m/t log; say again
        $V trail verify m/t; say verify
        mount -o remount,size=100m m
        $V trail import m/t log; say larger
        $V trail verify m/t; say verify
        mount -o remount,ro m
        $V trail import m/t log; say read-only
        $V trail verify m/t; say verify";
    let output = shell(dir.path(), &format!("{mount}; {script}' | grep -E '^[a-z-]+ [0-9]$'"));
    let expected =
        "import 6\nverify 0\nagain 6\nverify 0\nlarger 0\nverify 0\nread-only 6\nverify 0\n";
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{said}");
    let full = "veritrail: trail m/t\n  because: the trail's disk has no room left\n";
    assert_eq!(said.matches(full).count(), 2, "{said}");
}
