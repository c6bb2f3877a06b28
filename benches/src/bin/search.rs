//! Searching a log by scan: `veritrail search` against the stock `ausearch`, as programs.
//!
//! The log is made here, in the shape that a host with rules on files and programs has:
//! events of a system call with their files, programs' messages and a few integrity
//! events, 300 events a second. `SEARCH_MIB` is its size (default 256), which the page
//! cache should hold; reading it with nothing done is a contestant too.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use benches::{Amount, Bench, contestant};

fn main() {
    let mut bench = Bench::from_args("search");
    let mib: usize = std::env::var("SEARCH_MIB").ok().and_then(|t| t.parse().ok()).unwrap_or(256);
    let dir = std::env::temp_dir().join(format!("veritrail-bench-search-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("the temporary directory can be written to");
    let log = dir.join("audit.log");
    let size = make(&log, mib << 20);
    let ours = sibling("veritrail");
    bench.note(format_args!("{} MiB, {}", size >> 20, ours.display()));
    for query in [
        "-m INTEGRITY_DATA",
        "-k identity",
        "-f /etc/shadow -sv no",
        "-p 4242",
        "-x /usr/bin/cat -ui 1000",
        "-ts 01/01/2026 00:05:00 -te 01/01/2026 00:05:10",
    ] {
        let ours = |program: &Path, first: &[&str]| {
            let mut command = Command::new(program);
            command.args(first).arg("-if").arg(&log).args(query.split(' ')).arg("--raw");
            events(command)
        };
        let mut contestants = Vec::new();
        if Command::new("ausearch").arg("--version").output().is_ok() {
            // Its dates are those of the locale.
            contestants.push(contestant("ausearch", || {
                let args = query.replace("/2026", "/26");
                let mut command = Command::new("ausearch");
                command.env("LC_ALL", "C").arg("-if").arg(&log).args(args.split(' ')).arg("--raw");
                events(command)
            }));
        } else {
            bench.note("ausearch is not installed: no peer");
        }
        let binary = sibling("veritrail");
        contestants.push(contestant("veritrail search", move || ours(&binary, &["search"])));
        bench.contest(query, Amount::bytes(size), contestants);
    }
    bench.contest(
        "the machine: reading the log",
        Amount::bytes(size),
        vec![contestant("read", || read(&log))],
    );
    // Nothing else lies in it.
    let _ = fs::remove_dir_all(&dir);
}

/// A program built beside this one.
fn sibling(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("a running program has a path");
    let path = here.with_file_name(name);
    assert!(path.exists(), "build it first: cargo build --release -p {name}");
    path
}

/// Runs a search; a sum over what it printed, so that both must print the same lines.
fn events(mut command: Command) -> u64 {
    let output = command.env("TZ", "UTC0").stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = output.expect("the program runs");
    output.stdout.iter().fold(output.stdout.len() as u64, |sum, byte| sum + u64::from(*byte))
}

fn read(path: &Path) -> u64 {
    let mut file = File::open(path).expect("the log was made here");
    let mut buffer = vec![0; 1 << 20];
    let mut sum = 0;
    loop {
        match file.read(&mut buffer).expect("the log can be read") {
            0 => return sum,
            count => sum += count as u64 + u64::from(buffer[count - 1]),
        }
    }
}

/// Writes a log of at least `size` bytes; how many it has.
fn make(path: &Path, size: usize) -> usize {
    const COMMANDS: [&str; 6] = ["cat", "sshd", "cron", "bash", "systemd", "python3"];
    const FILES: [&str; 5] = [
        "/etc/passwd",
        "/etc/shadow",
        "/usr/lib/libc.so.6",
        "/home/alice/notes",
        "/proc/self/stat",
    ];
    let file = File::create(path).expect("the temporary directory can be written to");
    let mut out = BufWriter::new(file);
    let mut written = 0;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut text = String::new();
    for number in 0_u64.. {
        if written >= size {
            break;
        }
        // 300 events a second from the first of January 2026 on.
        let (second, milli) = (1_767_225_600 + number / 300, number % 300 * 10 / 3);
        let id = format!("audit({second}.{milli:03}:{})", 1000 + number);
        let comm = COMMANDS[usize::try_from(random(6)).unwrap_or(0)];
        let name = FILES[usize::try_from(random(5)).unwrap_or(0)];
        let uid = [0, 0, 1000, 33][usize::try_from(random(4)).unwrap_or(0)];
        let (pid, inode) = (100 + random(30_000), random(1 << 24));
        let (success, exit) = if random(5) == 0 { ("no", -13) } else { ("yes", 3) };
        let key = if random(500) == 0 { "\"identity\"" } else { "\"access\"" };
        text.clear();
        match random(1000) {
            0 => text.push_str(&format!(
                "type=INTEGRITY_DATA msg={id}: pid={pid} uid=0 auid=1000 ses=3 op=appraise_data cause=invalid-hash comm=\"{comm}\" name=\"{name}\" dev=\"sda2\" ino={inode} res=0 errno=0\n"
            )),
            1..=200 => text.push_str(&format!(
                "type=USER_ACCT msg={id}: pid={pid} uid=0 auid=4294967295 ses=4294967295 msg='op=PAM:accounting grantors=pam_unix acct=\"alice\" exe=\"/usr/sbin/{comm}\" hostname=? addr=192.0.2.7 terminal=cron res=success'\n"
            )),
            _ => text.push_str(&format!(
                "type=SYSCALL msg={id}: arch=c000003e syscall=257 success={success} exit={exit} a0=ffffff9c a1=7ffd{inode:x} a2=80000 a3=0 items=1 ppid=1 pid={pid} auid=1000 uid={uid} gid={uid} euid={uid} suid={uid} fsuid={uid} egid={uid} sgid={uid} fsgid={uid} tty=pts0 ses=3 comm=\"{comm}\" exe=\"/usr/bin/{comm}\" key={key}\n\
                 type=CWD msg={id}: cwd=\"/home/alice\"\n\
                 type=PATH msg={id}: item=0 name=\"{name}\" inode={inode} dev=fe:00 mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0\n\
                 type=PROCTITLE msg={id}: proctitle=707974686F6E33002D63\n"
            )),
        }
        out.write_all(text.as_bytes()).expect("the temporary directory has room");
        written += text.len();
    }
    out.flush().expect("the temporary directory has room");
    written
}
