//! Runs `ausearch -i` beside our interpretation, record by record.
//!
//! Two tables say where we mean to differ from audit userspace 3.0.9, and why:
//! [`TOKENS`] for single values over the whole corpus, [`RECORDS`] for whole
//! records, where the tool's side is checked too. Everything else must be equal.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use record::interpret::{EventContext, Interpreter, Names};
use record::tables::syscall::Machine;
use record::{Line, RecordType, Stamp};

/// A way in which a single value may differ: why, and a test of ours and theirs
/// (both `key=value`) in a line of ours.
type Token = (&'static str, fn(&str, &str, &str) -> bool);

const TOKENS: &[Token] = &[
    ("the name is newer than the tool, which shows the number", |ours, theirs, _| {
        let (ours, theirs) = (value(ours), value(theirs));
        !ours.starts_with("unknown-")
            && (theirs.starts_with("unknown-") || theirs.starts_with("0x") && is_name(ours))
    }),
    ("CLONE_PIDFD and MS_NOSYMFOLLOW are newer than the tool", |ours, theirs, _| {
        let known = |flag: &&str| !matches!(*flag, "CLONE_PIDFD" | "MS_NOSYMFOLLOW");
        let old: Vec<_> = value(ours).split('|').filter(known).collect();
        old.join("|") != value(ours) && old.join("|") == corrected(theirs)
    }),
    ("CLONE_STOPPED is CLONE_NEWCGROUP for long; IGPWR is a slip", |ours, theirs, _| {
        value(ours) == corrected(theirs)
    }),
    ("arm is little endian: armeb is the tool's first name for the number", |ours, theirs, _| {
        ours == "arch=arm" && theirs == "arch=armeb"
    }),
    (
        "Arm numbers four flags of open otherwise; the tool has the names of x86",
        |ours, theirs, line| {
            (line.contains("arch=arm ") || line.contains("arch=aarch64 "))
                && ours.contains("=O_")
                && theirs.contains("=O_")
        },
    ),
    ("an exit status is a number worth seeing", |ours, theirs, _| {
        ours.starts_with("a0=0x") && theirs == "a0=UNKNOWN"
    }),
    (
        "flags of clone are its first argument, not its third (so later versions)",
        |ours, theirs, line| {
            line.contains("syscall=clone ")
                && (ours.starts_with("a0=") && theirs.starts_with("a0=0x")
                    || ours.starts_with("a2=0x") && theirs.starts_with("a2="))
        },
    ),
    ("`action` is a verdict in netfilter's records only: IMA has one too", |ours, theirs, _| {
        ours.starts_with("action=") && theirs.starts_with("action=")
    }),
    ("what follows a NUL must not be hidden", |ours, theirs, _| {
        ours.split_once("\\000").is_some_and(|(shown, _)| shown == theirs)
    }),
    ("the tool keeps options of powerpc under numbers of its own", |ours, _, _| {
        ours.starts_with("a2=unknown-sockopt-name(0x7")
    }),
];

/// Two mistakes of the tool put right.
fn corrected(theirs: &str) -> String {
    let words = value(theirs).split('|').map(|word| match word {
        "CLONE_STOPPED" => "CLONE_NEWCGROUP",
        "IGPWR" => "SIGPWR",
        word => word,
    });
    words.collect::<Vec<_>>().join("|")
}

/// Records whose whole text differs: raw, ours, theirs, why.
const RECORDS: &[(&str, &str, &str, &str, &str)] = &[
    (
        "SYSCALL",
        "arch=c00000f3 syscall=56 success=yes exit=3 a0=ffffff9c a1=7f a2=0 a3=0 items=1",
        "arch=riscv64 syscall=openat success=yes exit=3 a0=AT_FDCWD a1=0x7f a2=O_RDONLY a3=0x0 items=1",
        "arch=unknown-elf-type(c00000f3) syscall=clone success=yes exit=3 a0=0xffffff9c a1=0x7f a2=0x0 a3=0x0 items=1",
        "the tool does not know riscv64 and falls back to the calls of its own machine",
    ),
    (
        "SYSCALL",
        "arch=c00000b7 syscall=56 success=yes exit=3 a0=ffffff9c a1=7f a2=8c000 a3=0 items=1",
        "arch=aarch64 syscall=openat success=yes exit=3 a0=AT_FDCWD a1=0x7f a2=O_RDONLY|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC a3=0x0 items=1",
        "arch=aarch64 syscall=openat success=yes exit=3 a0=AT_FDCWD a1=0x7f a2=O_RDONLY|O_DIRECT|O_CLOEXEC a3=0x0 items=1",
        "Arm numbers four flags otherwise; the tool has the names of x86 only",
    ),
    (
        "SYSCALL",
        "arch=c000003e syscall=16 success=yes exit=0 a0=3 a1=c138fd09 a2=0 a3=0 items=0",
        "arch=x86_64 syscall=ioctl success=yes exit=0 a0=0x3 a1=DM_TABLE_LOAD a2=0x0 a3=0x0 items=0",
        "arch=x86_64 syscall=ioctl success=yes exit=0 a0=0x3 a1=0xc138fd09 a2=0x0 a3=0x0 items=0",
        "requests of device mapper, loop devices and fs-verity are what veritrail is about",
    ),
    (
        "OPENAT2",
        "oflag=0100102 mode=0600 resolve=0x8",
        "oflag=O_RDWR|O_CREAT mode=000,600 resolve=RESOLVE_BENEATH",
        "oflag=O_RDWR|O_NOCTTY|__O_SYNC mode=000,600 resolve=RESOLVE_BENEATH",
        "the kernel prints these flags in octal, the tool reads hexadecimal",
    ),
    (
        "URINGOP",
        "uring_op=18 success=yes exit=3 items=1 ppid=1 pid=2 uid=0 gid=0",
        "uring_op=openat success=yes exit=3 items=1 ppid=1 pid=2 uid=root gid=root",
        "uring_op=18 success=yes exit=3 items=1 ppid=1 pid=2 uid=root gid=root",
        "later versions of the tool name the operation too",
    ),
    (
        "FANOTIFY",
        "resp=2 fan_type=0 fan_info=0 subj_trust=2 obj_trust=0",
        "resp=deny fan_type=0 fan_info=0 subj_trust=unknown obj_trust=no",
        "resp=deny fan_type=0 fan_info=0 subj_trust=2 obj_trust=0",
        "later versions of the tool name the trust too",
    ),
    (
        "INTEGRITY_DATA",
        "pid=1 uid=0 auid=0 ses=1 op=appraise_data cause=x comm=\"c\" name=\"n\" dev=\"d\" ino=1 res=0 errno=-13",
        "pid=1 uid=root auid=root ses=1 op=appraise_data cause=x comm=c name=n dev=\"d\" ino=1 res=no errno=EACCES(Permission denied)",
        "pid=1 uid=root auid=root ses=1 op=appraise_data cause=x comm=c name=n dev=\"d\" ino=1 res=no errno=-13",
        "the tool leaves error numbers of integrity records alone",
    ),
    (
        "SOCKADDR",
        "saddr=28000000D204000003000000",
        "saddr={ saddr_fam=vsock cid=3 port=1234 }",
        "saddr={ saddr_fam=vsock (unsupported) }",
        "addresses of virtual machines and packet sockets are of use to people with containers",
    ),
    (
        "SOCKADDR",
        "saddr=01000061620063",
        "saddr={ saddr_fam=local path=ab\\000c }",
        "saddr={ saddr_fam=local path=ab }",
        "an abstract name may hold a NUL; what follows must not be hidden",
    ),
    (
        "USER_CMD",
        "pid=1 uid=0 cmd=6C730072 x=1",
        "pid=1 uid=root cmd=ls\\000r x=1",
        "pid=1 uid=root cmd=ls x=1",
        "what follows a NUL must not be hidden",
    ),
    (
        "VIRT_CONTROL",
        "pid=1 uid=0 device=dev vm=\"v x=1",
        "pid=1 uid=root device=dev vm=v x=1",
        "pid=1 uid=root device=\u{fffd} vm=",
        "a word is no hexadecimal because it begins so; an open quote must not hide the rest",
    ),
    (
        "EXECVE",
        "argc=1 a0=ff",
        "argc=1 a0=ff",
        "argc=1 a0=\u{fffd}",
        "audit's encoders write upper-case digits; lower-case ones are a word",
    ),
    (
        "USER_LOGIN",
        "pid=1 uid=0 x=1 trailing words",
        "pid=1 uid=root x=1 trailing words",
        "pid=1 uid=root x=1",
        "the tool loses text behind the last field",
    ),
    (
        "CONFIG_CHANGE",
        "two words subj=u:r:t:s0:c1,c2 y=1",
        "two words subj=u:r:t:s0:c1,c2 y=1",
        "two words subj=u:r:t:s0:c1 c2 y=1",
        "the tool does not see a label behind text and cuts it at the comma",
    ),
    (
        "CONFIG_CHANGE",
        "auid=0 ses=1 op=\x1b[2Jx res=1",
        "auid=root ses=1 op=\\033[2Jx res=yes",
        "auid=root ses=1 op=\x1b[2Jx res=yes",
        "no log may steer the terminal; the tool escapes classified values only",
    ),
    (
        "TTY",
        "tty pid=9 uid=0 auid=0 ses=3 major=136 minor=0 comm=\"bash\" data=1B5B4D61",
        "tty pid=9 uid=root auid=root ses=3 major=136 minor=0 comm=bash data=<esc>,\"[Ma\"",
        "tty pid=9 uid=root auid=root ses=3 major=136 minor=0 comm=bash data=<mouse>,\"a\"",
        "only the keys of xterm and the Linux console have names here",
    ),
    (
        "CONTAINER_ID",
        "contid=18446744073709551615",
        "contid=unset",
        "contid=18446744073709551615",
        "the tool knows no container identifiers",
    ),
];

fn value(token: &str) -> &str {
    token.split_once('=').map_or(token, |(_, value)| value)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
}

/// Names as the tool finds them.
struct Host {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Host {
    fn read() -> Host {
        let read = |path: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let mut names = BTreeMap::new();
            for line in text.lines() {
                let mut parts = line.split(':');
                if let (Some(name), Some(Ok(id))) = (parts.next(), parts.nth(1).map(str::parse)) {
                    names.entry(id).or_insert_with(|| name.to_owned());
                }
            }
            names
        };
        Host { users: read("/etc/passwd"), groups: read("/etc/group") }
    }
}

impl Names for Host {
    fn user(&self, uid: u32) -> Option<Cow<'_, [u8]>> {
        self.users.get(&uid).map(|name| Cow::Borrowed(name.as_bytes()))
    }

    fn group(&self, gid: u32) -> Option<Cow<'_, [u8]>> {
        self.groups.get(&gid).map(|name| Cow::Borrowed(name.as_bytes()))
    }
}

/// Collects records, each an event with a serial and a second of its own: the
/// tool keeps events open for two seconds and is slow with many.
#[derive(Default)]
struct Corpus {
    text: String,
    events: u32,
}

impl Corpus {
    fn add(&mut self, kind: &str, body: &str) {
        self.events += 1;
        let (serial, millis) = (self.events, self.events % 1000);
        let second = 1_795_300_000 + 3 * u64::from(serial);
        writeln!(self.text, "type={kind} msg=audit({second}.{millis:03}:{serial}): {body}")
            .expect("a String");
    }

    fn syscall(&mut self, machine: Machine, number: u32, exit: i64, [a0, a1, a2, a3]: [u64; 4]) {
        let arch = machine.audit_arch();
        let success = if exit < 0 { "no" } else { "yes" };
        self.add("SYSCALL", &format!("arch={arch:x} syscall={number} success={success} exit={exit} a0={a0:x} a1={a1:x} a2={a2:x} a3={a3:x} items=0 ppid=1 pid=2 auid=0 uid=1 gid=1 euid=65534 suid=0 fsuid=0 egid=0 sgid=54321 fsgid=0 tty=(none) ses=1 comm=\"a\" exe=\"/a\" key=(null)"));
    }
}

#[test]
fn records_read_as_the_tool_reads_them() {
    let mut corpus = Corpus::default();
    goldens(&mut corpus);
    every_syscall(&mut corpus);
    named_arguments(&mut corpus);
    random_syscalls(
        &mut corpus,
        if std::env::var_os("VERITRAIL_LONG").is_some() { 500_000 } else { 10_000 },
    );
    fields(&mut corpus);
    shapes(&mut corpus);
    addresses(&mut corpus);
    enriched(&mut corpus);

    let Some(theirs) = theirs(&corpus.text) else {
        return eprintln!("SKIPPED: records_read_as_the_tool_reads_them: no ausearch");
    };
    let ours = ours(&corpus.text);
    assert_eq!(ours.len(), theirs.len(), "every record comes back");
    let mut used = BTreeSet::new();
    let mut equal = 0;
    let mut wrong = Vec::new();
    for (serial, line) in &ours {
        let other = theirs.get(serial).map_or("(nothing)", String::as_str);
        if line == other {
            equal += 1;
        } else if let Some(reasons) = excused(line, other) {
            used.extend(reasons);
        } else {
            wrong.push(format!("ours   {line}\ntheirs {other}\n"));
        }
    }
    let unused: Vec<_> =
        TOKENS.iter().map(|(why, _)| *why).filter(|why| !used.contains(why)).collect();
    eprintln!(
        "{} records: {equal} equal, {} differ with a reason",
        ours.len(),
        ours.len() - equal - wrong.len()
    );
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong[..wrong.len().min(20)].concat());
    assert_eq!(unused, [""; 0], "deviations that never occur");
}

/// The reasons why the tokens of two lines may differ; none if one may not.
fn excused(line: &str, theirs: &str) -> Option<Vec<&'static str>> {
    let (ours, theirs): (Vec<_>, Vec<_>) = (line.split(' ').collect(), theirs.split(' ').collect());
    if ours.len() != theirs.len() {
        return None;
    }
    let differing = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs);
    differing
        .map(|(ours, theirs)| {
            TOKENS.iter().find(|(_, same)| same(ours, theirs, line)).map(|(why, _)| *why)
        })
        .collect()
}

#[test]
fn records_differ_where_we_mean_it() {
    let mut corpus = Corpus::default();
    for (kind, body, ..) in RECORDS {
        corpus.add(kind, body);
    }
    let ours = ours(&corpus.text);
    let theirs = theirs(&corpus.text);
    if theirs.is_none() {
        eprintln!("SKIPPED: records_differ_where_we_mean_it: no ausearch, only our side checked");
    }
    for ((serial, line), (kind, _, expected, of_tool, why)) in ours.iter().zip(RECORDS) {
        let body = |line: &str| line.split_once(") : ").map_or("", |(_, body)| body).to_owned();
        assert_eq!(body(line), *expected, "{kind}: {why}");
        if let Some(theirs) = &theirs {
            let line = theirs.get(serial).map_or("(nothing)", String::as_str);
            assert_eq!(body(line), *of_tool, "the tool, {kind}: {why}");
        }
    }
}

/// Records as kernels and tools wrote them: captures, and one of many types each.
fn goldens(corpus: &mut Corpus) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let captures = ["audit", "samples"].iter().flat_map(|part| {
        let folder = std::fs::read_dir(root.join(part)).expect("goldens");
        folder.map(|entry| std::fs::read(entry.expect("an entry").path()).expect("a golden"))
    });
    for bytes in captures {
        for raw in bytes.split(|byte| *byte == b'\n').filter(|raw| !raw.is_empty()) {
            let line = Line::parse(raw).expect("a record");
            // The tool swallows an EOE that ends no event, and drops AVCs of AppArmor.
            let dropped =
                line.record_type() == RecordType::EOE || line.body().starts_with(b"apparmor=");
            if !dropped {
                let body = String::from_utf8_lossy(line.body());
                corpus.add(&line.record_type().to_string(), &body);
            }
        }
    }
}

fn every_syscall(corpus: &mut Corpus) {
    const ALL: u64 = u64::MAX;
    const ARGUMENTS: &[[u64; 4]] = &[
        [0, 0, 0, 0],
        [1, 1, 1, 1],
        [2, 2, 2, 2],
        [0xffff_ff9c, 0x7ffd_1234_5678, 0x241, 0x1a4],
        [3, 0x5401, 6, 0x22],
        [0x17, 0x15, 0xb, 0x32],
        [0x4206, 0x29, 0x10, 0xffff_ffff],
        [0xf, 0x107, 0x12, 0x1021],
        [0x003d_0f00, 0x11, 0x9c00, 0x8000_0000_0000],
        [ALL, ALL, ALL, ALL],
        [0x10, 0x8c001, 0xffff_ff9c, 0x1_0000_0000],
    ];
    for machine in [Machine::X86_64, Machine::I386, Machine::Aarch64, Machine::Arm] {
        for number in 0..=450 {
            for arguments in ARGUMENTS {
                corpus.syscall(machine, number, 0, *arguments);
            }
        }
    }
}

/// Each argument that has names, over a range of values and all single bits.
fn named_arguments(corpus: &mut Corpus) {
    const CALLS: &[(&str, &[usize])] = &[
        ("access", &[1]),
        ("bpf", &[0]),
        ("chmod", &[1]),
        ("chown", &[1, 2]),
        ("clock_settime", &[0]),
        ("clone", &[0, 2]),
        ("epoll_ctl", &[1]),
        ("exit_group", &[0]),
        ("faccessat", &[2]),
        ("fchmodat", &[2]),
        ("fcntl", &[1]),
        ("ioctl", &[1]),
        ("kill", &[1]),
        ("lseek", &[2]),
        ("mknod", &[1]),
        ("mmap", &[2, 3]),
        ("mount", &[3]),
        ("mprotect", &[2]),
        ("mq_open", &[1]),
        ("open", &[1]),
        ("openat", &[2]),
        ("personality", &[0]),
        ("prctl", &[0]),
        ("ptrace", &[0]),
        ("recvfrom", &[3]),
        ("recvmsg", &[2]),
        ("rt_sigaction", &[0]),
        ("sched_setscheduler", &[1]),
        ("setresuid", &[0, 1, 2]),
        ("setrlimit", &[0]),
        ("setsockopt", &[1]),
        ("shmget", &[2]),
        ("socket", &[0, 1, 2]),
        ("tgkill", &[2]),
        ("tkill", &[1]),
        ("umount2", &[1]),
        ("unshare", &[0]),
    ];
    for (call, indexes) in CALLS {
        let number = Machine::X86_64.syscall_number(call.as_bytes()).expect("a call");
        for index in *indexes {
            let bits = (0..64).map(|bit| 1 << bit);
            let ranges = [
                0..140u64,
                0xfe..0x120,
                0x3f8..0x410,
                0x4200..0x4210,
                0x4b30..0x4b40,
                0x5400..0x5424,
            ];
            for value in ranges.into_iter().flatten().chain(bits) {
                let mut arguments = [0; 4];
                arguments[*index] = value;
                corpus.syscall(
                    Machine::X86_64,
                    number,
                    -i64::try_from(value & 0xff).expect("small"),
                    arguments,
                );
            }
        }
    }
    for level in [0, 1, 6, 17, 41, 263, 270] {
        for option in 0..130 {
            corpus.syscall(Machine::X86_64, 54, 0, [3, level, option, 0]);
        }
    }
    for a0 in 0..80 {
        for (machine, call) in
            [(Machine::I386, "socketcall"), (Machine::I386, "ipc"), (Machine::X86_64, "prctl")]
        {
            let number = machine.syscall_number(call.as_bytes()).expect("a call");
            corpus.syscall(machine, number, 0, [a0, 5, 0, 0]);
        }
    }
    for a1 in 0..12 {
        for a2 in [0, 1, 2, 0x64] {
            corpus.syscall(Machine::X86_64, 72, 0, [3, a1, a2, 0]);
        }
    }
}

fn random_syscalls(corpus: &mut Corpus, count: u32) {
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..count {
        let number = u32::try_from(random() % 451).expect("small");
        let exit = i64::try_from(random() % 300).expect("small") - 200;
        let arguments = [(); 4].map(|()| random() >> (random() % 64));
        corpus.syscall(Machine::X86_64, number, exit, arguments);
    }
}

fn fields(corpus: &mut Corpus) {
    const KINDS: &[&str] = &[
        "PATH",
        "CONFIG_CHANGE",
        "USER_AUTH",
        "ANOM_ABEND",
        "NETFILTER_CFG",
        "MQ_OPEN",
        "ADD_GROUP",
        "TRUSTED_APP",
        "CRYPTO_KEY_USER",
        "EXECVE",
        "FANOTIFY",
    ];
    const NAMES: &[&str] = &[
        "auid",
        "uid",
        "gid",
        "ogid",
        "old-auid",
        "ses",
        "old-ses",
        "oses",
        "exit",
        "mode",
        "res",
        "result",
        "success",
        "sig",
        "sigev_signo",
        "list",
        "perm",
        "capability",
        "cap_fp",
        "pe",
        "family",
        "hook",
        "icmptype",
        "proto",
        "per",
        "code",
        "oflag",
        "flags",
        "resolve",
        "ioctlcmd",
        "resp",
        "prom",
        "nl-mcgrp",
        "macproto",
        "items",
        "pid",
        "arch",
        "addr",
        "id",
        "a0",
        "a1",
        "dev",
        "inode",
        "cap_fver",
        "new_gid",
        "obj_uid",
        "daddr",
    ];
    const NUMBERS: &[&str] = &[
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8",
        "9",
        "10",
        "11",
        "13",
        "17",
        "31",
        "32",
        "64",
        "100",
        "132",
        "255",
        "256",
        "262",
        "1000",
        "65534",
        "4294967294",
        "4294967295",
        "-1",
        "-2",
        "0x10",
        "0100644",
        "040755",
        "0104755",
        "041777",
        "0120777",
        "060600",
        "020666",
        "010644",
        "0140755",
        "07777",
        "80000000",
        "?",
        "(null)",
        "yes",
        "no",
        "success",
        "failed",
        "0000000000003FFF",
        "000001FFFFFFFFFF",
        "7FFF0000",
        "50001",
        "0800",
        "0806",
    ];
    const STRINGS: &[&str] = &[
        "comm",
        "exe",
        "name",
        "path",
        "cwd",
        "file",
        "key",
        "cmd",
        "dir",
        "vm",
        "device",
        "proctitle",
        "ocomm",
        "grp",
        "info",
        "subj",
        "obj",
        "tty",
        "op",
        "data",
        "hash",
        "acct",
        "watch",
        "sw",
        "root_dir",
        "cgroup",
    ];
    const TEXTS: &[&str] = &[
        "\"bash\"",
        "\"\"",
        "(null)",
        "(none)",
        "6261736820",
        "2F746D702F78",
        "00414243",
        "?",
        "x",
        "\"a'b\"",
        "0A1B5B",
        "610162",
        "\"a(b)\"",
        "10",
        "08",
        "C3A9",
        "\"\u{e9}\"",
        "\"a\\b$c\"",
    ];
    for kind in KINDS {
        // Arguments of EXECVE are strings, whatever their name.
        let names = if *kind == "EXECVE" { &[] } else { NAMES };
        for name in names {
            for value in NUMBERS {
                corpus.add(kind, &format!("x=1 {name}={value} end=1"));
            }
        }
        for name in STRINGS {
            for value in TEXTS {
                // Here the tool reads behind its buffer.
                if (*name, *value) != ("proctitle", "00414243") {
                    corpus.add(kind, &format!("x=1 {name}={value} end=1"));
                }
            }
        }
    }
    for value in ["18446744073709551615", "18446744073709551616", "-9223372036854775809"] {
        for name in ["uid", "perm", "prom", "mode", "sig", "list", "exit", "cap_fp", "code", "res"]
        {
            corpus.add("PATH", &format!("x=1 {name}={value} end=1"));
        }
    }
    for code in
        (0..0x8000_0000u32).step_by(0x0001_0000).filter(|code| code & 0x00ff_0000 != 0).take(600)
    {
        corpus.add("SECCOMP", &format!("auid=0 uid=0 gid=0 ses=1 pid=7 comm=\"c\" exe=\"/c\" sig=31 arch=c000003e syscall=59 compat=0 ip=0x7f code={code:#x}"));
    }
    for mode in (0..=0o177_777u32).step_by(0o71) {
        corpus.add("PATH", &format!("item=0 name=\"n\" mode=0{mode:o} nametype=NORMAL"));
    }
}

/// Bodies that are no plain list of fields.
fn shapes(corpus: &mut Corpus) {
    const BODIES: &[&str] = &[
        "x=a,b,c y=1",
        "x=a,b",
        "x=1 subj=u:r:t:s0:c1,c2 y=1",
        "x=1 obj=u:r:t:s0:c1,c2",
        "just words",
        "words then x=1",
        "avc:  denied  { read } for  pid=1 (x=2",
        "pid=1 msg='op=a b=\"c d\" res=yes'",
        "pid=1 msg='uid=0 id=1 res=yes'",
        "a=\"x\"b=2",
        "a='x y',b=2 c=3",
        "x=",
        "x= y=1",
        "=1 y=2",
        "x==1 y=2",
        "x=1 acct=root: y=1",
        "x=1 acct=\"root\": y=1",
        "x=1 \"y\"=2",
        "x=1 error_msg='Device must be readonly' res=0",
        "cause=signed policy required comm=\"h\" res=1",
        "rule=\"DEFAULT action=DENY\"",
        "uid=0 uid=1",
    ];
    for body in BODIES {
        for kind in ["USER_LOGIN", "LABEL_LEVEL_CHANGE", "CONFIG_CHANGE", "IPE_ACCESS"] {
            corpus.add(kind, body);
        }
    }
}

fn addresses(corpus: &mut Corpus) {
    // vsock (40), packet (17) and X.25 (9), ATM (8), AX.25 (3) cut short are RECORDS' business.
    for family in (0..27u16).chain(29..40).chain(41..45).filter(|family| *family != 17) {
        for length in [2usize, 3, 4, 6, 8, 12, 14, 15, 16, 20, 24, 26, 28, 32, 110, 128] {
            if matches!(family, 3 | 8 | 9) && length < 24 {
                continue;
            }
            let letters = (0..).map(|at| b'A' + at % 26);
            let bytes: Vec<u8> =
                family.to_le_bytes().into_iter().chain(letters).take(length).collect();
            corpus.add("SOCKADDR", &format!("saddr={}", hex(&bytes)));
        }
    }
    for address in [
        "02000016C0A80001",
        "02000016C0A800010000000000000000",
        "0A00001600000000000000000000000000000000000000010000000000",
        "0A0000160000000000000000000000000000FFFF0A00000100000000",
        "0A00001600000000000000000000000000000000010203040000000000",
        "0A0000160000000020010DB8000000000001000000000001",
        "0A0000160000000020010DB800000000000100000000000100000000",
        "0A0000160000000020010DB8000000010001000000000001000000000000",
        "01002F72756E2F78000000",
        "0100002F72756E2F78",
        "10000000E803000001000000",
        "0",
        "?",
    ] {
        corpus.add("SOCKADDR", &format!("saddr={address}"));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02X}").expect("a String");
        hex
    })
}

fn enriched(corpus: &mut Corpus) {
    const TASK: &str = "arch=c000003e syscall=257 success=yes exit=3 a0=ffffff9c a1=1 a2=0 a3=0 items=1 ppid=1 pid=2 auid=1000 uid=0 gid=0 euid=0 tty=pts0 ses=1 comm=\"x\" exe=\"/x\" key=\"k\"";
    for tail in [
        "ARCH=x86_64 SYSCALL=open AUID=\"alice\" UID=\"bob\" GID=\"root\" EUID=6162",
        "ARCH=arm SYSCALL=unknown-syscall(257) UID=unknown(0)",
        "UID=\"first\" UID=\"second\"",
        "UID=\"first\"\x1dVT_LEAF=7 CONTID=9",
        "nothing here",
    ] {
        corpus.add("SYSCALL", &format!("{TASK}\x1d{tail}"));
    }
    corpus.add(
        "SOCKADDR",
        "saddr=020000017F0000010000000000000000\x1dSADDR={ saddr_fam=inet laddr=9.9.9.9 lport=1 }",
    );
    corpus.add("USER_LOGIN", "pid=1 uid=0 auid=7 ses=1 msg='op=login id=7 res=success'\x1dUID=\"u\" AUID=\"unknown-x\" ID=\"i\"");
    corpus.add("PATH", "item=0 name=\"x\" ouid=7 ogid=8\x1dOUID=\"o\" OGID=\"g\"");
}

/// Our lines by serial.
fn ours(text: &str) -> BTreeMap<u32, String> {
    let host = Host::read();
    let interpreter = Interpreter::new(&host);
    let mut out = Vec::new();
    let lines = text.split('\n').filter(|raw| !raw.is_empty());
    lines
        .map(|raw| {
            let line = Line::parse(raw.as_bytes()).expect("a record");
            out.clear();
            interpreter.line(&line, &EventContext::default(), &date, &mut out);
            (line.serial(), String::from_utf8_lossy(&out).trim_end().to_owned())
        })
        .collect()
}

/// The tool's lines by serial; none without the tool.
fn theirs(text: &str) -> Option<BTreeMap<u32, String>> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static FILES: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "veritrail-ausearch-{}-{}.log",
        std::process::id(),
        FILES.fetch_add(1, Ordering::Relaxed)
    );
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, text).expect("a file to write");
    let tool = Command::new("ausearch")
        .args(["-i", "-if"])
        .arg(&file)
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .output();
    std::fs::remove_file(&file).expect("a file to remove");
    let output = String::from_utf8_lossy(&tool.ok()?.stdout).into_owned();
    let lines = output.split('\n').map(str::trim_end).filter(|line| !matches!(*line, "" | "----"));
    Some(lines.map(|line| (serial(line).expect("a serial"), line.to_owned())).collect())
}

fn serial(line: &str) -> Option<u32> {
    let (stamp, _) = line.split_once("msg=audit(")?.1.split_once(')')?;
    stamp.rsplit_once(':')?.1.parse().ok()
}

/// `%x %T` of the C locale in UTC (civil date from days since 1970).
fn date(stamp: Stamp, out: &mut Vec<u8>) {
    let (days, second) = (stamp.millis / 86_400_000, stamp.millis / 1000 % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = (year + era * 400 + u64::from(month <= 2)) % 100;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let text = format!("{month:02}/{day:02}/{year:02} {hour:02}:{minute:02}:{second:02}");
    out.extend_from_slice(text.as_bytes());
}
