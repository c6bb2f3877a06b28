//! `timeline` over logs of the kernel's alone.

use std::process::Command;

/// What it prints of this log, with its exit status.
fn timeline(log: &str, more: &[&str]) -> (Option<i32>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    std::fs::write(&path, log).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_veritrail"))
        .args(["timeline", "--input", path.to_str().unwrap()])
        .args(more)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text.lines().map(str::to_owned).collect())
}

/// On 2026-11-22 the clock is set a year on, and back after a minute.
#[test]
fn a_range_is_of_corrected_times() {
    let log = "type=USER msg=audit(1795341600.000:1): pid=1 msg='before'\n\
               type=TIME_INJOFFSET msg=audit(1795341610.000:2): sec=31536000 nsec=0\n\
               type=USER msg=audit(1826877620.000:3): pid=1 msg='between'\n\
               type=TIME_INJOFFSET msg=audit(1826877670.000:4): sec=-31536000 nsec=0\n\
               type=USER msg=audit(1795341680.000:5): pid=1 msg='after'\n";
    let day = ["--start", "2026-11-22", "10:00", "--end", "2026-11-22", "10:01"];
    let (status, rows) = timeline(log, &day);
    assert_eq!((status, rows.len()), (Some(0), 1), "{rows:?}");
    assert!(rows[0].contains("  step  +31536000.000000000 s"), "{rows:?}");
    let (status, rows) = timeline(log, &["--start", "2026-11-22", "10:01", "--end", "2026-11-23"]);
    assert_eq!((status, rows.len()), (Some(0), 1), "{rows:?}");
    assert!(rows[0].contains("  step  -31536000.000000000 s"), "{rows:?}");
    let next = ["--start", "2027-11-01", "--end", "2027-12-31"];
    assert_eq!(timeline(log, &next).0, Some(1), "nothing happened then");
    let (_, events) = timeline(log, &[&day[..], &["--events"]].concat());
    assert_eq!(events.len(), 3, "{events:?}");
}

#[test]
fn machines_are_told_apart() {
    let log = "node=a type=TIME_INJOFFSET msg=audit(1795341610.000:2): sec=7 nsec=0\n\
               node=b\x1b type=USER msg=audit(1795341611.000:2): pid=1 msg='x'\n\
               node=b type=TIME_INJOFFSET msg=audit(1795341612.000:3): sec=-5 nsec=0\n\
               type=TIME_INJOFFSET msg=audit(1795341613.000:3): sec=1 nsec=0\n";
    let (status, rows) = timeline(log, &[]);
    assert_eq!((status, rows.len()), (Some(0), 3), "{rows:?}");
    assert!(rows[0].contains("sum +7.000000000 s") && rows[0].ends_with("  on a"), "{rows:?}");
    assert!(rows[1].contains("sum -5.000000000 s") && rows[1].ends_with("  on b"), "{rows:?}");
    assert!(rows[2].contains("sum +1.000000000 s") && !rows[2].contains("  on "), "{rows:?}");
    let (_, rows) = timeline(log, &["--json"]);
    assert!(rows[0].contains("\"node\":\"a\"") && rows[2].contains("\"node\":null"), "{rows:?}");
    let (_, events) = timeline(log, &["--events"]);
    let on_b = events.iter().filter(|line| line.ends_with("  on b")).count();
    assert_eq!((events.len(), on_b), (4, 1), "{events:?}");
    assert!(!events.concat().contains('\x1b'), "{events:?}");
}
