//! Stock `ausearch -if SEGMENT` and `aureport -if SEGMENT` read a trail: as many events as in
//! the log that was imported, and our own.
//!
//! Each of our records counts as an event of its own: ausearch 3.0.9 does not know their
//! types, and ends an event at every record of a type it does not know.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;

const OURS: &str = env!("CARGO_BIN_EXE_veritrail");

/// The standard output of a stock tool; `None` where it is not installed.
fn stock(tool: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(tool).args(args).env("TZ", "UTC0").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Events as ausearch counts them.
fn searched(file: &str) -> Option<usize> {
    Some(stock("ausearch", &["-if", file])?.lines().filter(|line| *line == "----").count())
}

/// Events as aureport counts them.
fn reported(file: &str) -> Option<usize> {
    let report = stock("aureport", &["-if", file])?;
    let count = report.lines().find_map(|line| line.strip_prefix("Number of events: "));
    Some(count.map_or(0, |count| count.trim().parse().unwrap()))
}

/// The real logs in auditd's form: what a netlink capture has as `type=1300 audit(...)`.
fn real(node: bool, enriched: bool, end: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/audit");
    let mut logs: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    logs.sort();
    let mut text = String::new();
    for (number, log) in logs.iter().enumerate() {
        for line in fs::read_to_string(log).unwrap().lines() {
            let line = line.split_once("audit: ").map_or(line, |(_, line)| line);
            let (kind, rest) = line.strip_prefix("type=").unwrap().split_once(' ').unwrap();
            let kind = record::RecordType(kind.parse().unwrap());
            if node {
                text += &format!("node=host{number} ");
            }
            text += &format!("type={kind} msg={rest}");
            if enriched {
                text += "\u{1d}UID=\"root\" AUID=\"unset\"";
            }
            text += end;
        }
    }
    text
}

/// Events of many kinds, as a busy host writes them.
fn busy() -> String {
    let mut text = String::new();
    for n in 1..=2000 {
        let stamp = format!("audit({}.{:03}:{n})", 1_700_000_000 + n / 40, n * 7 % 1000);
        let task = "ppid=1 pid=77 auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 \
                    fsgid=0 tty=pts0 ses=3 comm=\"ls\" exe=\"/bin/ls\"";
        match n % 7 {
            0 => {
                text += &format!(
                    "type=USER_LOGIN msg={stamp}: pid=9 uid=0 auid=1000 ses=3 msg='op=login \
                 acct=\"root\" exe=\"/usr/sbin/sshd\" hostname=? addr=10.0.0.1 terminal=ssh \
                 res=success'\n"
                )
            }
            1 => {
                text += &format!(
                    "type=SERVICE_START msg={stamp}: pid=1 uid=0 auid=4294967295 ses=4294967295 \
                 msg='unit=cron comm=\"systemd\" exe=\"/lib/systemd/systemd\" hostname=? addr=? \
                 terminal=? res=success'\n"
                )
            }
            2 => {
                text += &format!(
                    "type=NETFILTER_PKT msg={stamp}: mark=0x0 saddr=::1 daddr=::1 proto=58\n"
                )
            }
            3 => {
                text += &format!(
                    "type=CONFIG_CHANGE msg={stamp}: auid=4294967295 ses=4294967295 op=add_rule \
                 key=\"k\" list=4 res=1\n"
                )
            }
            4 => {
                text += &format!(
                    "type=ANOM_ABEND msg={stamp}: auid=1 uid=0 gid=0 ses=1 pid=7 comm=\"x\" \
                 exe=\"/x\" sig=11 res=1\n"
                )
            }
            _ => {
                text += &format!(
                    "type=SYSCALL msg={stamp}: arch=c000003e syscall=59 success=yes exit=0 a0=1 \
                     a1=2 a2=3 a3=4 items=1 {task} key=\"exec\"\n\
                     type=EXECVE msg={stamp}: argc=2 a0=\"ls\" a1=\"-l\"\n\
                     type=CWD msg={stamp}: cwd=\"/root\"\n\
                     type=PATH msg={stamp}: item=0 name=\"/bin/ls\" inode=12 dev=fe:00 \
                     mode=0100755 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL cap_fp=0 cap_fi=0 \
                     cap_fe=0 cap_fver=0 cap_frootid=0\n\
                     type=PROCTITLE msg={stamp}: proctitle=6C73002D6C\n"
                );
            }
        }
    }
    text
}

#[test]
fn stock_tools_count_the_events_of_a_segment() {
    if stock("ausearch", &["--version"]).is_none() {
        eprintln!("SKIPPED: stock_tools_count_the_events_of_a_segment: ausearch is not installed");
        return;
    }
    let long = |n: usize| {
        let (stamp, command) = (1_700_000_000 + n, "61".repeat(n / 2));
        format!(
            "type=USER_CMD msg=audit({stamp}.000:{n}): pid=1 uid=0 auid=0 ses=1 msg='cwd=\"/\" \
             cmd={command} exe=\"/usr/bin/sudo\" terminal=pts/0 res=success'\n"
        )
    };
    let cases = [
        ("real", real(false, false, "\n")),
        ("ENRICHED", real(false, true, "\n")),
        ("node", real(true, false, "\n")),
        ("CRLF", real(false, false, "\r\n")),
        ("all of that", real(true, true, "\r\n")),
        ("busy", busy()),
        // The longest line that goes in as one, tail included, and some shorter ones.
        ("long", (8500..8720).step_by(10).map(long).collect()),
    ];
    for (name, text) in cases {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        fs::write(&log, &text).unwrap();
        let trail = dir.path().join("t");
        let import =
            Command::new(OURS).args(["trail", "import"]).arg(&trail).arg(&log).output().unwrap();
        assert!(import.status.success(), "{name}: {import:?}");
        let segment = trail.join("segments/00000000000000000000.log");
        let stored = fs::read(&segment).unwrap();
        let lines = stored.split(|&byte| byte == b'\n');
        assert_eq!(
            lines.clone().map(<[u8]>::len).max().filter(|&most| most > 8969),
            None,
            "{name}"
        );
        let ours = lines.filter(|line| line.windows(8).any(|w| w == b"type=VT_")).count();
        assert_eq!(ours, 1, "{name}: the record of the import");
        let (log, segment) = (log.to_str().unwrap(), segment.to_str().unwrap());
        let (before, after) = (searched(log).unwrap(), searched(segment).unwrap());
        assert!(before > 0, "{name}");
        assert_eq!(after - ours, before, "{name}: ausearch");
        let (before, after) = (reported(log).unwrap(), reported(segment).unwrap());
        assert!(before > 0, "{name}");
        assert_eq!(after - ours, before, "{name}: aureport");
    }
}

#[test]
fn a_line_that_is_too_long_starts_no_record() {
    if stock("ausearch", &["--version"]).is_none() {
        eprintln!("SKIPPED: a_line_that_is_too_long_starts_no_record: ausearch is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let forged = "type=USER_LOGIN msg=audit(1700000001.000:7): pid=1 res=success";
    // ausearch takes what follows byte 8,970 for a new record.
    let head = "type=USER msg=audit(1700000000.000:1): ";
    let text: String = (8960..8976)
        .map(|n| format!("{head}{}{forged}\n", "x".repeat(n - head.len())))
        .chain([format!("{head}a=1\u{1d}UID=\"root\"\u{1d}VT_LEAF=0\n")])
        .collect();
    fs::write(&log, text).unwrap();
    let trail = dir.path().join("t");
    let import =
        Command::new(OURS).args(["trail", "import"]).arg(&trail).arg(&log).output().unwrap();
    assert!(import.status.success(), "{import:?}");
    let logins = |file: &Path| {
        stock("ausearch", &["--raw", "-m", "USER_LOGIN", "-if", file.to_str().unwrap()])
    };
    assert_ne!(logins(&log).unwrap(), "", "the log itself fools ausearch");
    assert_eq!(logins(&trail.join("segments/00000000000000000000.log")).unwrap(), "");
}
