//! `veritrail search`: what it prints, where it looks, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const OURS: &str = env!("CARGO_BIN_EXE_veritrail");

const CTR: &str = "type=DM_CTRL msg=audit(1795298401.800:7): module=verity op=ctr ppid=155 pid=177 auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=4294967295 comm=\"veritysetup\" exe=\"/sbin/veritysetup\" dev=253:0 error_msg='success' res=1";
const CALL: &str = "type=SYSCALL msg=audit(1795298401.800:7): arch=c000003e syscall=16 success=yes exit=0 a0=3 a1=c138fd09 a2=1 a3=0 items=0 ppid=155 pid=177 auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=4294967295 comm=\"veritysetup\" exe=\"/sbin/veritysetup\" key=(null)";
const DATA: &str = "type=DM_EVENT msg=audit(1795298401.916:8): module=verity op=verify-data dev=7:1 sector=10 res=0";
const OLD: &str = "type=UNKNOWN[1337] msg=audit(1795298402.000:9): module=integrity op=integrity-checksum dev=253:0 sector=2856 res=0";
const WHOLE: &str = "type=DM_EVENT msg=audit(1795298404.024:107): module=verity op=max-corrupted-errors dev=253:0 sector=? res=0";
const IPE: &str = "type=IPE_ACCESS msg=audit(1795298405.067:120): ipe_op=EXECUTE ipe_hook=MMAP enforcing=1 pid=2241 comm=\"ld-linux.so\" path=\"/deny/lib/libc.so.6\" dev=\"sda2\" ino=14549020 rule=\"DEFAULT action=DENY\"";
const INSIDE: &str = "type=NETFILTER_PKT msg=audit(1795298406.000:130): mark=0x12345555 saddr=127.0.0.1 daddr=127.0.0.1 proto=1";
const LIST: &str = "type=CONTAINER_ID msg=audit(1795298406.000:130): contid=42,^7,9";

fn log() -> String {
    [CTR, CALL, DATA, OLD, WHOLE, IPE, INSIDE, LIST, ""].join("\n")
}

fn run(program: &Path, args: &[&str], stdin: Option<&str>) -> Output {
    let mut child = Command::new(program)
        .args(args)
        .env("TZ", "UTC0")
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if let Some(text) = stdin {
        // It may stop reading early.
        let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    }
    child.wait_with_output().unwrap()
}

fn search(args: &str, stdin: &str) -> (i32, String, String) {
    let args: Vec<&str> = ["search"].into_iter().chain(args.split_whitespace()).collect();
    let output = run(Path::new(OURS), &args, Some(stdin));
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn our_own_criteria_find_what_stock_tools_cannot() {
    let table: &[(&str, &[&str])] = &[
        ("-m DM_CTRL", &[CTR, CALL]),
        ("-m dm_event", &[DATA, OLD, WHOLE]),
        ("-m 1339", &[DATA, OLD, WHOLE]),
        ("-m 1337", &[OLD]),
        ("-m IPE_ACCESS,CONTAINER_ID", &[IPE, INSIDE, LIST]),
        ("-m LATER_THAN_US", &[]),
        ("--op verify-data", &[DATA]),
        ("--op verify", &[]),
        ("--op ctr -sv yes", &[CTR, CALL]),
        ("--device 7:1", &[DATA]),
        ("--device 253:0", &[CTR, CALL, OLD, WHOLE]),
        ("--device 253:0 --op integrity-checksum", &[OLD]),
        ("--device sda2", &[IPE]),
        ("--sector 10", &[DATA]),
        ("--sector 0-2855", &[DATA]),
        ("--sector 10-2856", &[DATA, OLD]),
        ("--sector 11-", &[OLD]),
        ("--sector -10", &[DATA]),
        ("--device 253:0 --sector 10", &[]),
        ("--contid 42", &[INSIDE, LIST]),
        ("--contid 9", &[INSIDE, LIST]),
        ("--contid 7", &[]),
        ("-p 2241", &[IPE]),
        ("-f libc", &[IPE]),
        ("-sv no", &[DATA, OLD, WHOLE]),
        ("-ts 1795298402 -te 1795298404", &[OLD, WHOLE]),
        ("-ts 2026-11-21T22:00:05Z", &[IPE, INSIDE, LIST]),
        ("-ts 11/21/2026 22:00:02 -te 2026-11-21 22:00:03", &[OLD]),
        ("-a 107", &[WHOLE]),
        ("-sc ioctl", &[CTR, CALL]),
        ("-ui root -ul unset", &[CTR, CALL]),
        ("-e 0 -x veritysetup", &[CTR, CALL]),
        ("--just-one", &[CTR, CALL]),
    ];
    for (args, lines) in table {
        let (code, out, err) = search(&format!("{args} --raw"), &log());
        assert_eq!(out.lines().collect::<Vec<_>>(), *lines, "{args}: {err}");
        assert_eq!(code, i32::from(lines.is_empty()), "{args}: {err}");
        assert_eq!(err, "", "{args}");
    }
}

#[test]
fn records_stand_in_order_of_arrival_and_the_link_reverses_them() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("ausearch");
    symlink(OURS, &link).unwrap();
    let own = search("--op ctr", &log()).1;
    assert_eq!(own, format!("----\ntime->Sat Nov 21 22:00:01 2026\n{CTR}\n{CALL}\n"));
    let linked = run(&link, &["-m", "DM_CTRL"], Some(&log()));
    let linked = String::from_utf8(linked.stdout).unwrap();
    assert_eq!(linked, format!("----\ntime->Sat Nov 21 22:00:01 2026\n{CALL}\n{CTR}\n"));
}

/// A zone by name is looked up where the system keeps them, for reading and for printing.
#[test]
fn the_time_zone_is_the_one_that_tz_names() {
    const ZONE: &str = "America/New_York";
    if !Path::new("/usr/share/zoneinfo").join(ZONE).exists() {
        eprintln!("SKIPPED: the_time_zone_is_the_one_that_tz_names: no time zones are installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    fs::write(&path, log()).unwrap();
    let output = Command::new(OURS)
        .args(["search", "-te", "11/21/2026", "17:00:01", "-m", "DM_EVENT", "--input"])
        .arg(&path)
        .env("TZ", ZONE)
        .output()
        .unwrap();
    let want = format!("----\ntime->Sat Nov 21 17:00:01 2026\n{DATA}\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), want);
}

#[test]
fn numbers_become_names_with_a_date_that_sorts() {
    let (code, out, err) = search("--op verify-data -i", &log());
    let want = "----\ntype=DM_EVENT msg=audit(2026-11-21 22:00:01.916:8) : module=verity op=verify-data dev=7:1 sector=10 res=no \n";
    assert_eq!((code, &*out, &*err), (0, want, ""));
}

#[test]
fn json_is_one_object_for_each_event() {
    let (code, out, _) = search("--op verify-data --json", &log());
    assert_eq!(code, 0);
    let event: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(event["serial"], 8);
    assert_eq!(event["time"], "2026-11-21T22:00:01.916Z");
    assert_eq!(event["leaf"], serde_json::Value::Null);
    assert_eq!(event["records"][0]["number"], 1339);
    assert_eq!(event["records"][0]["raw"], DATA);
}

#[test]
fn what_is_no_record_is_counted_and_said() {
    let text = format!("{DATA}\nnot a record\n\ntype=SYSCALL msg=audit(x:1): a\n{WHOLE}");
    let (code, out, err) = search("-m DM_EVENT --raw", &text);
    assert_eq!((code, out), (0, format!("{DATA}\n{WHOLE}\n")));
    let at = DATA.len() + 1;
    assert_eq!(
        err,
        format!(
            "veritrail: 2 lines are no records; the first is in standard input, at byte {at}: \
             no `type=NAME` followed by `audit(` (at byte 0 of the line)\n"
        )
    );
    let (code, out, err) = search("--raw", "neither\nof these\n");
    assert_eq!((code, &*out), (5, ""));
    assert!(err.contains("veritrail: the input is not an audit log\n"), "{err}");
}

#[test]
fn nothing_found_is_one_and_mistakes_are_not() {
    let (code, out, err) = search("-m DM_EVENT -k nothing", &log());
    assert_eq!((code, &*out, &*err), (1, "", "<no matches>\n"));
    for (args, code, message) in [
        (
            "-ts lunch",
            2,
            "veritrail: `lunch` is not a time: no such word or date\n  hint: a time is now, recent,",
        ),
        ("-m DM-EVENT", 2, "veritrail: `DM-EVENT` is not a record type\n"),
        ("-m DM_EVENT,", 2, "veritrail: `` is not a record type\n"),
        ("--sector -", 2, "error: invalid value '-'"),
        ("-sc fly", 2, "veritrail: no system call of"),
        ("-e EFLY", 2, "veritrail: `EFLY` is neither a number nor the name of an errno\n"),
        (
            "-ui nobody-we-know",
            2,
            "veritrail: no user is called `nobody-we-know` on this machine\n",
        ),
        ("--raw -i", 2, "veritrail: one of --raw, --interpret and --json at most\n"),
        ("--sector 9-1", 2, "error: invalid value '9-1'"),
        ("-if /nonexistent/audit.log", 6, "veritrail: cannot open /nonexistent/audit.log\n"),
        ("--trail /nonexistent", 5, "veritrail: trail /nonexistent\n"),
    ] {
        let (found, out, err) = search(args, &log());
        assert_eq!((found, &*out), (code, ""), "{args}: {err}");
        assert!(err.starts_with(message), "{args}: {err}");
    }
}

#[test]
fn the_link_ends_as_ausearch_does() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("ausearch");
    symlink(OURS, &link).unwrap();
    for (args, code) in [
        (&["-m", "DM_EVENT"][..], 0),
        (&["-m", "SYSCALL", "-k", "nothing"], 1),
        (&["-ts", "lunch"], 1),
        (&["--nonsense"], 1),
        (&[], 1),
        (&["--version"], 0),
        (&["-v"], 0),
        (&["-if", "/nonexistent"], 1),
    ] {
        let output = run(&link, args, Some(&log()));
        assert_eq!(output.status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn a_directory_is_read_from_the_oldest_log_on() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("audit.log.2", CTR), ("audit.log.1", CALL), ("audit.log", DATA)] {
        fs::write(dir.path().join(name), format!("{text}\n")).unwrap();
    }
    let path = dir.path().to_str().unwrap();
    let (code, out, _) = search(&format!("-if {path} -m ALL --raw"), "");
    assert_eq!((code, out), (0, format!("{CTR}\n{CALL}\n{DATA}\n")));
}

#[test]
fn a_trail_is_searched_with_its_places() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("audit.log");
    let long = format!(
        "type=USER_CMD msg=audit(1795298407.000:140): pid=1 msg='cmd=\"{}\"'",
        "x".repeat(20_000)
    );
    fs::write(&source, log() + &long + "\n").unwrap();
    let trail = dir.path().join("trail");
    let args = ["trail", "import", trail.to_str().unwrap(), source.to_str().unwrap()];
    let imported = run(Path::new(OURS), &args, None);
    assert_eq!(imported.status.code(), Some(0), "{}", String::from_utf8_lossy(&imported.stderr));
    let trail = trail.to_str().unwrap();

    let (code, out, err) = search(&format!("--trail {trail} --op verify-data --raw"), "");
    assert_eq!((code, &*err), (0, ""));
    assert!(out.starts_with(&format!("{DATA}\u{1d}VT_LEAF=")), "{out}");
    // Without its tail it is what was imported.
    let (_, out, _) = search(&format!("--trail {trail} --op verify-data"), "");
    assert_eq!(out, format!("----\ntime->Sat Nov 21 22:00:01 2026\n{DATA}\n"));
    let (_, out, _) = search(&format!("--trail {trail} --op verify-data --json"), "");
    let event: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(event["records"][0]["raw"], DATA);
    assert!(event["leaf"].is_u64(), "{event}");
    let (_, out, _) = search(&format!("--trail {trail} -m USER_CMD --raw"), "");
    assert_eq!(out, long + "\n");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let text = log().repeat(20_000);
    let mut child = Command::new(OURS)
        .args(["search", "-m", "ALL", "--raw", "--input", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}
