//! `veritrail demo`: the main job, whole.

use std::process::Command;

/// The demo checks each of its own steps; here it is held to the order of its records.
#[test]
fn the_demo_goes_as_it_must_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let output = Command::new("timeout")
        .args(["60", env!("CARGO_BIN_EXE_veritrail"), "demo"])
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let records: Vec<&str> = text
        .lines()
        .filter(|line| line.contains(" dev=0:0 "))
        .filter_map(|line| line.split("op=").nth(1)?.split(' ').next())
        .take(5)
        .collect();
    let expected =
        ["verify-data", "verify-data", "max-corrupted-errors", "verify-data", "verify-data"];
    assert_eq!(records, expected, "{text}");
    assert!(text.contains("proven: leaf 99 of "), "{text}");
    if text.contains("no device can be served here") {
        println!("SKIPPED: the demo's served device: FUSE is not usable here");
    } else {
        assert!(text.contains(": Input/output error"), "{text}");
        assert!(text.contains("answer=EIO"), "{text}");
    }
    assert!(text.trim_end().ends_with("(exit 4)"), "{text}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}
