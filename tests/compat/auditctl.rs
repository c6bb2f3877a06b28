//! `auditctl` of audit userspace 3.0.9 and our rules, asked the same of the same kernel.
//!
//! Compared are the exit status, what is printed on standard output, and the rules that the kernel
//! then has, byte for byte. Where ours is otherwise on purpose, the case says how and why.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use host::audit::Control;
use policy::audit::Rule;
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
        "-a always,exit -F perm!=r",
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
    peers.end();
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
        // A key may stand alone.
        ("-a always,exit -F key=foo", 0, 255),
        // What 3.0.9 does not know.
        ("-a always,io_uring -S openat", 0, 255),
        ("-a always,exit -F loginuid_set=1", 0, 255),
        ("-a always,exit -F pid=-1", 0, 255),
        // More than the option takes.
        ("-t x", 255, 0),
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
