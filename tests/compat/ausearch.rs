//! `ausearch` of audit userspace 3.0.9 and our search, asked the same of the same logs.
//!
//! Where the two differ on purpose (docs/specification.md has the list):
//! - ausearch takes the first record of an event for the whole of it when it does not
//!   know the type (DM_CTRL, IPE_ACCESS) or when the type is LOGIN; we join.
//! - ausearch drops events that it cannot parse (an AVC of AppArmor has no `tclass=`);
//!   we print what matches.
//! - ausearch looks for a process, a user or a result only in types that it knows.
//! - ausearch looks for `pid=` and `uid=` with `strstr`, so it finds `ppid=` in INTEGRITY
//!   records and `auid=` in ANOM_ABEND; we compare the field that was asked for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const OURS: &str = env!("CARGO_BIN_EXE_veritrail");
const STOCK: &str = "ausearch";

/// Whether the peer is here; says so where it is not.
fn peer(test: &str) -> bool {
    let there = Command::new(STOCK).arg("--version").output().is_ok_and(|o| o.status.success());
    if !there {
        eprintln!("SKIPPED: {test}: ausearch is not installed (Debian: apt install auditd)");
    }
    there
}

fn run(program: impl AsRef<OsStr>, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .env("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A directory with our binary under the name `ausearch`.
struct Link {
    dir: tempfile::TempDir,
}

impl Link {
    fn new() -> Link {
        let dir = tempfile::tempdir().unwrap();
        symlink(OURS, dir.path().join("ausearch")).unwrap();
        Link { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ausearch")
    }

    fn file(&self, name: &str, text: &[u8]) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// The kernel's records of the golden tests as auditd would have written them.
fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/audit").join(name);
    let text = fs::read_to_string(path).unwrap();
    let names = [
        ("1300", "SYSCALL"),
        ("1302", "PATH"),
        ("1305", "CONFIG_CHANGE"),
        ("1307", "CWD"),
        ("1309", "EXECVE"),
        ("1320", "EOE"),
        ("1327", "PROCTITLE"),
        ("1800", "INTEGRITY_DATA"),
        ("1802", "INTEGRITY_STATUS"),
        ("1804", "INTEGRITY_PCR"),
        ("1805", "INTEGRITY_RULE"),
        ("1807", "INTEGRITY_POLICY_RULE"),
    ];
    let mut out = String::new();
    for line in text.lines() {
        let Some(at) = line.find("type=") else { continue };
        let rest = &line[at + 5..];
        let (number, rest) = rest.split_once(' ').unwrap();
        let name = names.iter().find(|(known, _)| *known == number);
        let name =
            name.map_or_else(|| format!("UNKNOWN[{number}]"), |(_, name)| (*name).to_owned());
        out.push_str(&format!("type={name} msg={rest}\n"));
    }
    out.into_bytes()
}

/// A log as a busy host has it: system calls with their files, interleaved; programs'
/// messages; SELinux; nodes; ENRICHED tails; 2 seconds and 40 between events.
fn host() -> Vec<u8> {
    let mut out = String::new();
    let mut push = |line: String| {
        out.push_str(&line);
        out.push('\n');
    };
    let comms = ["cat", "sshd", "cron", "date"];
    let keys = ["\"time-change\"", "\"identity\"", "(null)", "6B6579310173656372657473"];
    for i in 0..400 {
        let second = 1_782_900_000_usize + i * i / 40;
        let id = format!("audit({second}.{:03}:{})", (i * 37) % 1000, 1000 + i);
        let comm = comms[i % 4];
        let uid = [0, 0, 1, 1000, 4_294_967_295_u64][i % 5];
        let auid = [0, 4_294_967_295_u64, 1000][i % 3];
        let (success, exit) = if i % 3 == 0 { ("no", "-13") } else { ("yes", "3") };
        let node = if i % 7 == 0 { "node=web1.example.com " } else { "" };
        let task = format!(
            "ppid={} pid={} auid={auid} uid={uid} gid={uid} euid=0 suid=0 fsuid=0 egid=0 sgid=0 \
             fsgid=0 tty=pts{} ses={} comm=\"{comm}\" exe=\"/usr/bin/{comm}\" \
             subj=system_u:system_r:{comm}_t:s0",
            i % 11 + 1,
            500 + i % 50,
            i % 3,
            if auid == 4_294_967_295 { 4_294_967_295 } else { i % 9 },
        );
        let enriched = if i % 5 == 0 {
            "\u{1d}ARCH=x86_64 SYSCALL=openat AUID=\"root\" UID=\"alice\" GID=\"root\" EUID=\"root\""
        } else {
            ""
        };
        match i % 8 {
            0..=3 => {
                let call = [257, 59, 42, 227][i % 4];
                push(format!(
                    "{node}type=SYSCALL msg={id}: arch=c000003e syscall={call} success={success} exit={exit} \
                     a0=ffffff9c a1=7ffd{i:x} a2=80000 a3=0 items=1 {task} key={}{enriched}",
                    keys[i / 8 % 4]
                ));
                if call == 59 {
                    push(format!(
                        "{node}type=EXECVE msg={id}: argc=2 a0=\"{comm}\" a1=2F746D702F6120{:02X}",
                        0x30 + i % 70
                    ));
                }
                if call == 42 {
                    let saddr = [
                        "020000357F0000350000000000000000",
                        "0A00003500000000000000000000000000000000000000010000000000",
                        "01002F72756E2F757365722F627573",
                    ][i / 8 % 3];
                    push(format!("{node}type=SOCKADDR msg={id}: saddr={saddr}"));
                }
                // Another event comes between the records of this one.
                push(format!(
                    "type=USER_ACCT msg=audit({second}.{:03}:{}): pid={} uid=0 auid={auid} ses=3 \
                     subj=system_u:system_r:crond_t:s0 msg='op=PAM:accounting grantors=pam_unix \
                     acct=\"alice\" exe=\"/usr/sbin/{comm}\" hostname=? addr=192.0.2.{} terminal=cron res={}'",
                    (i * 37 + 1) % 1000,
                    5000 + i,
                    900 + i % 9,
                    i % 250,
                    if i % 2 == 0 { "success" } else { "failed" }
                ));
                push(format!("{node}type=CWD msg={id}: cwd=\"/home/user{}\"", i % 4));
                let name = ["\"/etc/shadow\"", "\"./notes\"", "772F612062", "\"../x\""][i / 8 % 4];
                push(format!(
                    "{node}type=PATH msg={id}: item=0 name={name} inode=1{i} dev=fe:00 mode=0100644 ouid=0 ogid=0 \
                     rdev=00:00 obj=system_u:object_r:shadow_t:s0 nametype=NORMAL cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0"
                ));
                push(format!(
                    "{node}type=PROCTITLE msg={id}: proctitle=636174002F6574632F736861646F77"
                ));
            }
            4 => push(format!(
                "{node}type=USER_LOGIN msg={id}: pid={} uid=0 auid={auid} ses={} subj=system_u:system_r:sshd_t:s0 \
                 msg='op=login id={uid} exe=\"/usr/sbin/sshd\" hostname=host{i}.example.org addr=198.51.100.7 terminal=ssh res=success'",
                300 + i,
                i % 9
            )),
            5 => push(format!(
                "{node}type=CONFIG_CHANGE msg={id}: auid={auid} ses={} subj=unconfined_t op=add_rule key=\"time-change\" list=4 res={}",
                i % 9,
                i % 2
            )),
            6 => {
                push(format!(
                    "type=AVC msg={id}: avc:  denied  {{ read }} for  pid={} comm=\"{comm}\" name=\"shadow\" dev=\"sda2\" ino={i} \
                     scontext=system_u:system_r:{comm}_t:s0 tcontext=system_u:object_r:shadow_t:s0 tclass=file permissive=0",
                    500 + i % 50
                ));
                push(format!(
                    "type=SYSCALL msg={id}: arch=c000003e syscall=2 success=no exit=-13 a0=7fff a1=0 a2=0 a3=0 items=0 {task} key=(null)"
                ));
                push(format!("type=PROCTITLE msg={id}: proctitle=\"{comm}\""));
            }
            _ => push(format!(
                "type=ANOM_ABEND msg={id}: auid={uid} uid={uid} gid={uid} ses={} subj=u:r:t pid={} comm=\"{comm}\" \
                 exe=\"/usr/bin/{comm}\" sig=11 res=1",
                i % 9,
                500 + i % 50
            )),
        }
    }
    out.into_bytes()
}

/// Queries that both understand; `LOG` is the log.
const QUERIES: &[&str] = &[
    "-m SYSCALL",
    "-m ALL",
    "-m user_login,USER_ACCT",
    "-m 1309",
    "-m AVC -m ANOM_ABEND",
    "-m PATH -sv no",
    "-k time-change",
    "-k time",
    "-k time -w",
    "-k secrets",
    "-k key1 -sv yes",
    "-k (null)",
    "-p 517",
    "-pp 3",
    "-p 517 -m USER_LOGIN",
    "-x /usr/bin/cat",
    "-x cat",
    "-x cat -w",
    "-c sshd",
    "-c ssh -w",
    "-f /etc/shadow",
    "-f shadow",
    "-f /home/user1",
    "-f notes",
    "-f /home/user0/./notes",
    "-f bus",
    "-ui 0",
    "-ui 1000",
    "-ui root",
    "-ue 0",
    "-ul 1000",
    "-ul -1",
    "-ua 1000",
    "-gi 1",
    "-ge 0",
    "-ga 1000",
    "-sc 59",
    "-sc execve",
    "-sc openat -sv no",
    "--arch x86_64 -sc 257",
    "-e -13",
    "-e 3",
    "-sv yes",
    "-sv no",
    "--session 3",
    "--session -1",
    "-tm pts1",
    "-tm cron",
    "-hn 192.0.2.17",
    "-hn host",
    "-hn 127.0.0.53",
    "-hn ::1",
    "-n web1.example.com",
    "-n web1.example.com -n other",
    "-a 1042",
    "-a 999999",
    "-su cron_t",
    "-o shadow_t",
    "-se shadow_t",
    "-se sshd_t -w",
    "-ts 07/01/26 12:10:00",
    "-te 07/01/26 12:10:00",
    "-ts 07/01/26 12:05:00 -te 07/01/26 12:20:00 -sv no",
    "-ts 07/02/26",
    "--just-one -m SYSCALL",
    "-c cron -f shadow -sv no",
    "-m SYSCALL -l -k identity",
    "--eoe-timeout 5 -m SYSCALL",
];

/// `--raw` of ausearch ends every record of an event with a 0x1D if any of them has an
/// ENRICHED tail, also those that have none.
fn without_stray_separators(text: &[u8]) -> Vec<u8> {
    let lines = text.split_inclusive(|b| *b == b'\n');
    lines
        .flat_map(|line| {
            [
                line.strip_suffix(b"\x1d\n").unwrap_or(line),
                if line.ends_with(b"\x1d\n") { b"\n" } else { b"" },
            ]
            .concat()
        })
        .collect()
}

/// Queries about the logs of IMA, which ausearch knows less of.
const KERNEL_QUERIES: &[&str] = &[
    "-m ALL",
    "-m SYSCALL",
    "-m 1805",
    "-m INTEGRITY_RULE,INTEGRITY_POLICY_RULE",
    "-m INTEGRITY_STATUS -sv no",
    "-sc execve",
    "-sc execve -sv yes",
    "-x /m/tiny",
    "-c tiny",
    "-a 11",
    "-f nowhere",
    "-ts 11/21/26 22:46:40",
    "-ts 11/21/26 22:46:40 -te 11/21/26 22:47:00",
    "--just-one -m ALL",
];

/// Where ours and the peer's answer to one query differ.
fn difference(link: &Link, log: &str, query: &str, format: &str) -> Option<String> {
    let mut args: Vec<&str> = vec!["-if", log];
    args.extend(query.split(' '));
    if !format.is_empty() {
        args.push(format);
    }
    let stock = run(STOCK, &args);
    let ours = run(link.path(), &args);
    if stock.status.code() != ours.status.code() {
        let (stock, code) = (stock.status.code(), ours.status.code());
        let said = String::from_utf8_lossy(&ours.stderr);
        return Some(format!("{query} {format}: exit {stock:?}, ours {code:?} ({said})"));
    }
    let stock = Output { stdout: without_stray_separators(&stock.stdout), ..stock };
    if stock.stdout == ours.stdout && stock.stderr == ours.stderr {
        return None;
    }
    let (stock, ours) =
        (String::from_utf8_lossy(&stock.stdout), String::from_utf8_lossy(&ours.stdout));
    let first = stock.lines().zip(ours.lines()).find(|(a, b)| a != b);
    let counts = (stock.lines().count(), ours.lines().count());
    Some(format!("{query} {format}: lines {counts:?}, first difference {first:#?}"))
}

fn same_answers(test: &str, logs: &[(&str, Vec<u8>)], queries: &[&str], formats: &[&str]) {
    if !peer(test) {
        return;
    }
    let link = Link::new();
    let mut differences = Vec::new();
    for (name, text) in logs {
        let log = link.file(name, text);
        for query in queries {
            for format in formats {
                differences
                    .extend(difference(&link, &log, query, format).map(|d| format!("{name}: {d}")));
            }
        }
    }
    assert!(differences.is_empty(), "{}\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn a_busy_host_is_searched_alike() {
    let logs = [("host.log", host())];
    same_answers("a_busy_host_is_searched_alike", &logs, QUERIES, &["--raw", "", "-i"]);
}

#[test]
fn the_kernels_own_logs_are_searched_alike() {
    let names = [
        "appraise-enforce.log",
        "directio-violations.log",
        "events-with-syscall-rule.log",
        "kernel-log-form.log",
        "policy-file.log",
        "rule-hits.log",
    ];
    let logs: Vec<_> = names.iter().map(|name| (*name, golden(name))).collect();
    same_answers("the_kernels_own_logs_are_searched_alike", &logs, KERNEL_QUERIES, &["--raw", ""]);
}
