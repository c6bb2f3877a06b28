//! `auditctl` of audit userspace 3.0.9 and our rules, asked the same of the same kernel.
//!
//! Compared are the exit status, what is printed on standard output, and the rules that the kernel
//! then has, byte for byte. Where ours is otherwise on purpose, the case says how and why.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use host::audit::{Control, Received, Stream};
use policy::audit::{Rule, Value};
use record::tables::syscall::Machine;

#[path = "../../crates/host/tests/audit/auditing.rs"]
mod auditing;

use auditing::Auditing;

const OURS: &str = env!("CARGO_BIN_EXE_veritrail");

/// Our binary under the name `auditctl`, and room for files of rules.
struct Peers {
    dir: tempfile::TempDir,
    auditing: Auditing,
    /// What was not the same.
    wrong: Vec<String>,
}

/// What a run came to.
#[derive(PartialEq, Eq)]
struct Came {
    status: i32,
    printed: String,
    rules: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Came {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |wire: &Vec<u8>| Rule::from_wire(wire).map(|rule| rule.to_text(Machine::X86_64));
        let rules: Vec<_> = self.rules.iter().map(text).collect();
        write!(f, "status {}, printed {:?}, rules {rules:?}", self.status, self.printed)
    }
}

impl Peers {
    fn begin(test: &str) -> Option<Peers> {
        if Command::new("auditctl").arg("-v").output().is_err() {
            eprintln!("SKIPPED: {test}: auditctl is not installed (Debian: apt install auditd)");
            return None;
        }
        let auditing = Auditing::begin(test)?;
        let dir = tempfile::tempdir().unwrap();
        symlink(OURS, dir.path().join("auditctl")).unwrap();
        Some(Peers { dir, auditing, wrong: Vec::new() })
    }

    fn ours(&self) -> PathBuf {
        self.dir.path().join("auditctl")
    }

    fn file(&self, text: &str) -> String {
        let path = self.dir.path().join("x.rules");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs it where the kernel has the rules of `before` and no other.
    fn run(&mut self, program: &str, before: &[&str], words: &[&str]) -> Came {
        clear(&mut self.auditing.control);
        for line in before {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(call("auditctl", &words).0, 0, "{line}");
        }
        let (status, printed) = call(program, words);
        let rules = self.auditing.control.rules().unwrap();
        clear(&mut self.auditing.control);
        Came { status, printed: steady(&printed), rules }
    }

    fn same(&mut self, before: &[&str], words: &[&str]) {
        let ours = self.ours();
        let ours = self.run(ours.to_str().unwrap(), before, words);
        let theirs = self.run("auditctl", before, words);
        if ours != theirs {
            let rules = before.len();
            let words = words.join(" ");
            self.wrong
                .push(format!("{words} behind {rules} rules:\n ours {ours:?}\n theirs {theirs:?}"));
        }
    }

    fn end(self) {
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
    }
}

fn call(program: &str, words: &[&str]) -> (i32, String) {
    let output = Command::new("timeout")
        .arg("20")
        .arg(program)
        .args(words)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).unwrap())
}

fn clear(control: &mut Control) {
    for rule in control.rules().unwrap() {
        control.delete_rule(&rule).unwrap();
    }
}

/// Without the numbers that change by themselves.
fn steady(printed: &str) -> String {
    let mut text = String::new();
    for line in printed.lines() {
        match line.split_once(' ') {
            Some((name @ ("lost" | "backlog" | "backlog_wait_time_actual"), _)) => {
                text.push_str(name);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

const THREE: &[&str] = &[
    "-w /etc/passwd -p wa -k pw",
    "-w /etc/group -p wa -k group",
    "-a always,exit -F arch=b64 -S open -F key=pw -k other",
];

#[test]
fn every_option_does_what_auditctl_does() {
    let Some(mut peers) = Peers::begin("every_option_does_what_auditctl_does") else { return };
    for line in [
        // Rules.
        "-a always,exit",
        "-a exit,never -F pid=5",
        "-A always,exit -F arch=b64 -S openat,open -k a -k b",
        "-a always,exit -F arch=b64 -S open -S all -F success=0 -F exit=-EPERM",
        "-w /etc/passwd -p wa -k pw",
        "-w /etc/passwd",
        "-w /etc/",
        "-w /etc/../etc -p r",
        "-w //etc//x -p r",
        "-w /etc -S open",
        "-w /nonexistent/x -p r",
        "-W /etc/passwd -p wa -k pw",
        "-W /etc/passwd -p wa",
        "-W /etc/passwd",
        "-d always,exit -F arch=b64 -S open -F key=pw -k other",
        "-d always,exit -F arch=b64 -S open",
        "-a always,exit -C uid!=euid -C auid=obj_uid",
        "-a always,exit -F auid=-1 -F auid!=unset -F loginuid=0 -F sessionid=unset",
        "-a always,exit -F uid=root -F gid!=root -F a0=-1 -F a1&=0x7 -F inode=5 -F devmajor=8",
        "-a always,user -F uid=0",
        "-a always,task",
        "-a never,filesystem -F fstype=tracefs",
        "-a always,exclude -F msgtype=AVC",
        "-a always,exit -F exe=/bin/ls -k ls",
        "-a always,exit -F path=/etc/passwd -F perm=r -F auid>=1000",
        // What is none.
        "-a",
        "-a exit",
        "-a foo,bar",
        "-a always,entry",
        "-a possible,exit",
        "-a always,exit extra",
        "-a always,exit -a always,exit",
        "-a always,exit -F foo=1",
        "-a always,exit -F uid",
        "-a always,exit -F uid=",
        "-a always,exit -F =5",
        "-a always,exit -F uid==0",
        "-a always,exit -F uid<>0",
        "-a always,exit -F uid=nobody-of-this-name",
        "-a always,exit -F uid=unset",
        "-a always,exit -F uid&1",
        "-a always,exit -F auid>unset",
        "-a always,exit -F exit=-EFOO",
        "-a always,exit -F pid=abc",
        "-a always,exit -F perm=q",
        "-a always,exit -F arch=xx",
        "-a always,exit -F arch>b64",
        "-a always,exit -F arch=b64 -S nocall",
        "-a always,exit -F arch=b64 -S 9999",
        "-a always,exit -S open -F arch=b64",
        "-a always,exit -F msgtype=AVC",
        "-a always,exit -F filetype=xx",
        "-a always,exit -F fstype=tracefs",
        "-a always,exit -F path=relative",
        "-a always,exit -F exe=relative",
        "-a always,exit -F contid=1",
        "-a always,exit -C uid=gid",
        "-a always,exit -C uid",
        "-a always,exit -C uid>euid",
        "-a always,exit -C foo=euid",
        "-a always,user -C uid=euid",
        "-a always,user -S open",
        "-a always,task -S open",
        "-a never,filesystem -F fstype=nfs",
        "-w",
        "-w relative",
        "-w /etc -p zz",
        "-w /etc -p",
        "-w /etc -k",
        "-w /etc extra",
        "-w /x -w /y",
        "-W relative",
        "-k x",
        "-k k -w /etc",
        "-p r -w /etc",
        "-S open",
        "-F uid=0",
        "-C uid!=euid",
        "-x",
        "foo",
        "-k",
        "-e",
        "-R",
        "--signal",
        "-m",
        // Lists and deletes.
        "-l",
        "-l -i",
        "-l -k pw",
        "-l -k p",
        "-l -k nope",
        "-l -k",
        "-l foo",
        "-l -k a -k b",
        "-l -i -k pw",
        "-i -l",
        "-D",
        "-D -k pw",
        "-D -k p",
        "-D -k nope",
        "-D -k",
        "-D x",
        "-D -l",
        "-D -k a -k b",
        // State.
        "-s",
        "-s -i",
        "-s x",
        "-s -l",
        "-e 1",
        "-e 5",
        "-e x",
        "-e 1 x",
        "-e 1 -b 8192",
        "-f 1",
        "-f 3",
        "-b 8192",
        "-b x",
        "-b -1",
        "-r 0",
        "-r x",
        "--backlog_wait_time 15000",
        "--backlog_wait_time 999999999",
        "--reset-lost",
        "--reset_backlog_wait_time_actual",
        "-c",
        "-i",
        "-c -s",
        "-t",
        "-q /",
        "-q /nonexistent/a,/nonexistent/b",
        "-m hello",
        "-m a b",
        "--signal x",
        "--signal usr1",
        "--loginuid-immutablex",
        "-R /nonexistent",
        "-R a b",
        // As getopt takes them.
        "-aalways,exit -Farch=b64 -Sopen -kx",
        "-Aalways,exit -Cuid=euid",
        "-w/etc/passwd -pwa -kx",
        "-W/etc/passwd -pwa -kpw",
        "-S open -a always,exit",
        "-S open -S close -a always,exit -k x",
        "-S open -a always,exit -F arch=b64",
        "-S open -a always,task",
        "-S open -w /etc/passwd",
        "-S open -p wa -w /etc/passwd",
        "-S open -F uid=0 -a always,exit",
        "-S open -k x -a always,exit",
        "-S nope -a always,exit",
        "-a=always,exit",
        "-S= -a always,exit",
        "-a always,exit -F=uid=0",
        "-b8192",
        "-b 0x2000",
        "-b 020000",
        "-e1",
        "-e2x",
        "-f1",
        "-r0",
        "--backlog_wait_time=15000",
        "--backlog=15000",
        "--back 15000",
        "--reset-l",
        "--reset",
        "--reset_b",
        "--log=3",
        "--reset-lost=3",
        "--sig=usr1",
        "--signal=x",
        "--help",
        "-",
        "-R/tmp/none",
        "-q/nonexistent/a,/nonexistent/b",
        "-mhello",
        "-m a\tb",
        // In any case, and not.
        "-a always,exit -F AUID=0 -F Uid=1 -F LOGINUID=2",
        "-a always,exit -F auid=UNSET",
        "-a always,exit -F uid=ROOT",
        "-a always,exit -F exit=-eacces -F exit!=Eperm",
        "-a always,exit -S OPEN,OpenAt",
        "-a always,exit -S ALL",
        "-a always,exit -F arch=B64 -S OPEN",
        "-a always,exit -F arch=X86_64",
        "-a always,exit -F arch=I686",
        "-a never,filesystem -F fstype=TRACEFS",
        "-a always,EXIT",
        "-a ALWAYS,exit",
        "-a always,exclude -F msgtype=avc",
        "-a always,exit -C UID=EUID",
        "-a always,exit -F exe=/bin/ls -F KEY=x",
        "-a always,exit -S 0x3b",
        "-a always,exit -S 010",
        "-a always,exit -S -1",
        "-a always,exit -S +5",
        "-a always,exit -S 2048",
        "-a always,exit -S 99999999999",
        // What is passed over.
        "-a exit,possible",
        "-A user,possible",
        "-d exit,possible",
        "-a exit,possible -S nope",
        "-S open -a exit,possible",
        "-a possible,possible",
        "-a foo,possible",
        "-a exit,possible,x",
        // Keys where the kernel knows none.
        "-a never,user -F uid=0 -k x",
        "-a never,user -F uid=0 -F key=x",
        "-a never,exclude -F uid=0 -k x",
        "-a never,exclude -F exe=/bin/true -F key=x",
        // What is warned of.
        "-w /etc/pass* -p r",
        "-W /etc/pass?",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        for before in [&[][..], THREE] {
            peers.same(before, &words);
        }
    }
    // A rule twice, and one that is not there.
    for line in THREE {
        let words: Vec<&str> = line.split(' ').collect();
        peers.same(THREE, &words);
    }
    peers.same(THREE, &["-l"]);
    for rule in [
        "-a always,exit -F arch=b64 -S openat -F a0=-100 -F a2=0x241 -F a3=0644",
        "-a always,exit -F arch=b64 -S openat,open -F a0=-100",
        "-a always,exit -F arch=b64 -S openat -F a2&=0x40",
        "-a always,exit -S openat -F a2=0x4A",
        "-a always,exit -F arch=b64 -S setuid -F a0=0",
        "-a always,exit -F arch=b64 -S chmod -F a1=0777 -F a0=0xffffffff",
        "-a always,exit -F arch=b64 -S prctl -F a0=23 -F a1=21",
        "-a never,exit -F arch=b64 -S kill -F a1!=9 -F a0>1",
        "-a always,exit -F arch=b64 -S mmap -F a2=7 -F a3=0x22",
        "-a always,exit -F arch=b32 -S socketcall -F a0=5",
        "-a always,exit -F arch=aarch64 -S openat -F a2=0x40",
    ] {
        peers.same(&[rule], &["-l", "-i"]);
    }
    peers.auditing.control.set_enabled(false).unwrap();
    peers.same(&[], &["-s", "-i"]);
    peers.end();
}

/// What is asked without a right to it: the status, and the last line on standard error.
#[test]
fn without_the_capability_the_statuses_are_auditctls() {
    let test = "without_the_capability_the_statuses_are_auditctls";
    let Some(peers) = Peers::begin(test) else { return };
    let ours = peers.ours();
    for line in ["", "-l", "-l -i", "-s", "-h", "--help", "-v", "-x", "-w", "-a exit,possible"] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let run = |program: &str| {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set", "-audit_control", program]).args(&words);
            let output = command.stdin(Stdio::null()).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            (output.status.code(), said.contains("You must be root to run this program."))
        };
        assert_eq!(run(ours.to_str().unwrap()), run("auditctl"), "{line}");
    }
}

/// The same message to the kernel, but for who says it.
#[test]
fn a_message_says_who_sends_it_as_auditctl_does() {
    let test = "a_message_says_who_sends_it_as_auditctl_does";
    let Some(peers) = Peers::begin(test) else { return };
    let mut stream = Stream::multicast(1 << 20).unwrap();
    let mut heard = |program: &str, words: &[&str], on_terminal: bool| {
        let mut command = Command::new(if on_terminal { "script" } else { program });
        if on_terminal {
            command.args(["-qec", &format!("{program} {}", words.join(" ")), "/dev/null"]);
        } else {
            command.args(words);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{program} {output:?}");
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            let Received::Record { kind: 1005, text } =
                stream.recv(Some(Duration::from_secs(1))).unwrap()
            else {
                continue;
            };
            let text = String::from_utf8(text.to_vec()).unwrap();
            let (_, sent) = text.split_once(" msg=").unwrap();
            let (before, rest) = sent.split_once(" exe=\"").unwrap();
            let (_, behind) = rest.split_once("\" ").unwrap();
            // The number of a terminal is whichever is free.
            let behind = behind.replace(|one: char| one.is_ascii_digit(), "N");
            return format!("{before} {behind}");
        }
        panic!("nothing was heard");
    };
    let ours = peers.ours();
    let ours = ours.to_str().unwrap();
    for (text, on_terminal) in [("hello", false), ("say\"it'res=failed", false), ("hello", true)] {
        let words = ["-m", text];
        assert_eq!(heard(ours, &words, on_terminal), heard("auditctl", &words, on_terminal));
    }
}

#[test]
fn files_are_read_as_auditctl_reads_them() {
    let Some(mut peers) = Peers::begin("files_are_read_as_auditctl_reads_them") else { return };
    for text in [
        "",
        "# c\n\n-D\n-b 8192\n-f 1\n-w /etc/passwd -p wa -k pw\n-a always,exit -F arch=b64 -S open -k x\n",
        "-w /etc/passwd -p wa\n-w /etc/passwd -p wa\n-w /etc/group -p wa\n",
        "-w /etc/passwd -p wa\n-w /etc/nox/yy -p wa\n-w /etc/group -p wa\n",
        "-w /etc/passwd -p wa\n-w relative\n-w /etc/group -p wa\n",
        "-c\n-w /etc/passwd -p wa\n-w relative\n-w /etc/group -p wa\n",
        "-i\n-w /etc/passwd -p wa\n-w relative\n-w /etc/group -p wa\n",
        "-w /etc/group\n-c\n-w relative\n-w /etc/passwd\n",
        "-w /etc/group\n-i\n-w relative\n-w /etc/passwd\n",
        "-l\n",
        "-s\n-e 1\n-r 0",
        "-m hello there\n",
        "-w \"/etc/passwd\" -p wa -k \"a b\"\n",
        "-w /etc/passwd -p wa -k \"pw\"\n",
        "garbage\n-w /etc/group\n",
        "-x\n-w /etc/group\n",
        "-w /etc/group # comment\n",
        "-a exit,possible\n-w /etc/group -p r\n",
        "-Sopen -aalways,exit -kx\n-w/etc/group -pr\n-b8192\n-S close -a always,exit\n",
        "-w /etc/a\\ b -p r\n-w /etc/back\\slash -p r\n-w /etc/two\\\\slashes -p r\n",
        "-w /etc/dev-disk\\x2dby.mount -p r -k \\x41\n",
        "-w /etc/x -k a\\\\\\ b -k a\\\\\\\\b -k a\\\\\\b\n",
        "-w /etc/x -k a\\\n-w /etc/y -k a\\\\\n-w /etc/z -k \\\\x0a\n",
        "-w /etc/x -k a\\\\ b\n-w /etc/group\n",
        "-a always,exit -F path=/etc/group -F perm=r -F auid>=1000 -F auid!=unset -k x",
        "-D -k pw\n",
    ] {
        let file = peers.file(text);
        for before in [&[][..], THREE] {
            peers.same(before, &["-R", &file]);
        }
        peers.same(&[], &["-c", "-R", &file]);
        peers.same(&[], &["-R", &file, "-i"]);
    }
    // Who may have written it.
    let file = peers.file("-w /etc/group\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    peers.same(&[], &["-R", &file]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(&file, Some(12345), None).unwrap();
    peers.same(&[], &["-R", &file]);
    peers.same(&[], &["-R", "/etc"]);
    peers.same(&[], &["-R", "/dev/null"]);
    peers.end();
}

/// What is otherwise: the words, our exit status, theirs.
#[test]
fn what_is_otherwise_is_so_on_purpose() {
    let Some(mut peers) = Peers::begin("what_is_otherwise_is_so_on_purpose") else { return };
    for (line, ours, theirs) in [
        // A number that 32 bits do not hold is not cut.
        ("-a always,exit -F pid=99999999999", 255, 0),
        // A field that never matches on its list is said to.
        ("-a always,user -F euid=0", 255, 0),
        // No family is not the family 0.
        ("-a always,exit -F saddr_fam=inet", 255, 0),
        // A list of calls with an empty name in it.
        ("-a always,exit -F arch=b64 -S open,,close", 255, 0),
        // The number of a comparison is written with -C.
        ("-a always,exit -F field_compare=1", 255, 0),
        // A key on a list where the kernel knows none.
        ("-a never,user -F exe=/bin/true -k x", 255, 0),
        // Calls before a list that has none.
        ("-S open -a always,user", 255, 0),
        // A number with letters behind it.
        ("-a always,exit -S 1x", 255, 0),
        // What the kernel lists.
        ("-a always,exit -F perm!=r", 0, 255),
        // A key may stand alone.
        ("-a always,exit -F key=foo", 0, 255),
        // What 3.0.9 does not know.
        ("-a always,io_uring -S openat", 0, 255),
        ("-a always,exit -F loginuid_set=1", 0, 255),
        ("-a always,exit -F pid=-1", 0, 255),
        // More than the option takes.
        ("-t x", 255, 0),
        ("-tx", 255, 0),
        ("--", 255, 0),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let link = peers.ours();
        let came = peers.run(link.to_str().unwrap(), &[], &words);
        assert_eq!(came.status, ours, "{line}: ours");
        assert_eq!(peers.run("auditctl", &[], &words).status, theirs, "{line}: theirs");
    }
    // An indented comment, and tabs between words.
    let file = peers.file("   # c\n   -w /etc/group\t-p  wa\n");
    let link = peers.ours();
    assert_eq!(peers.run(link.to_str().unwrap(), &[], &["-R", &file]).status, 0);
    assert_eq!(peers.run("auditctl", &[], &["-R", &file]).status, 1);
    // Bytes that no line can have.
    let file = peers.file("-w /etc/a\\x0ab\\xff -p r\n");
    let came = peers.run(link.to_str().unwrap(), &[], &["-R", &file]);
    let first = Rule::from_wire(&came.rules[0]).unwrap();
    assert_eq!(first.conditions()[0].value, Value::Text(b"/etc/a\nb\xff".to_vec()));
    // A line that ends as on other systems; the tool watches a file whose name ends so.
    let file = peers.file("-w /etc/group -p r\r\n");
    let came = peers.run(link.to_str().unwrap(), &[], &["-R", &file]);
    assert_eq!(
        Rule::from_wire(&came.rules[0]).unwrap().to_text(Machine::X86_64),
        "-w /etc/group -p r"
    );
}

#[test]
fn under_our_own_name_the_statuses_are_ours() {
    let Some(mut peers) = Peers::begin("under_our_own_name_the_statuses_are_ours") else { return };
    let broken = peers.file("-w /etc/group -k g\n-a always,exit -F uidd=0\n");
    for (before, words, status, rules) in [
        (&[][..], &["-a", "always,exit", "-F", "pid=5", "-k", "k"][..], 0, 1),
        (THREE, &["-w", "/etc/passwd", "-p", "wa", "-k", "pw"], 1, 3),
        (&[], &["-a", "always,exit", "-F", "uidd=5"], 2, 0),
        (&[], &["-a", "always,exit", "-F", "contid=5"], 3, 0),
        (&[], &["-R", &broken], 1, 1),
        (&[], &["load", &broken], 5, 0),
        (&[], &["check", &broken], 1, 0),
        (THREE, &["list", "--key", "pw"], 0, 3),
    ] {
        let words: Vec<&str> = ["rules"].iter().chain(words).copied().collect();
        let came = peers.run(OURS, before, &words);
        assert_eq!((came.status, came.rules.len()), (status, rules), "{words:?}: {came:?}");
    }
    // What auditctl passes over is a fault here.
    for words in [&["-a", "exit,possible"][..], &["check", &peers.file("-a exit,possible\n")]] {
        let words: Vec<&str> = ["rules"].iter().chain(words).copied().collect();
        let status = if words.len() == 3 && words[1] == "-a" { 2 } else { 1 };
        assert_eq!(peers.run(OURS, &[], &words).status, status, "{words:?}");
    }
    let warned = peers.file("-w /etc/pass* -k p\n-a always,exit -S open -k o\n");
    let output = Command::new(OURS).args(["rules", "check", &warned]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(":1: warning: wildcard notation"), "{said}");
    assert!(said.contains(":2: warning: the 32-bit calls"), "{said}");
    let good = peers.file("-w /etc/group -k g\n-w /etc/group -k g\n-w /etc/passwd -k p\n");
    let came = peers.run(OURS, &["-w /etc/group -k g"], &["rules", "load", &good]);
    assert_eq!((came.status, came.rules.len()), (0, 2), "{came:?}");
    let came = peers.run(OURS, THREE, &["rules", "list", "--json", "--key", "other"]);
    assert!(came.printed.contains("\"keys\":[\"pw\",\"other\"]"), "{came:?}");
    assert!(came.printed.contains("\"list\":\"exit\""), "{came:?}");
    let broken = peers.file("-w /etc/group -k g\n-a always,exit -F uidd=0\n");
    let came = peers.run(OURS, &[], &["rules", "check", "--json", &broken]);
    assert!(came.printed.contains("\"line\":2,\"column\":19,\"length\":4"), "{came:?}");
    assert!(came.printed.contains("did you mean `uid`?"), "{came:?}");
}
