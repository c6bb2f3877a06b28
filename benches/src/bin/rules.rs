//! What it costs to ask 50 rules about an event of a system call.

use benches::{Amount, Bench, contestant};
use policy::audit::{Change, Context, Decision, Facts, List, Rule, decide};
use record::Line;
use record::tables::syscall::Machine;

/// Users of no machine.
struct Nobody;

impl Context for Nobody {
    fn machine(&self) -> Machine {
        Machine::X86_64
    }
    fn uid(&self, _: &str) -> Option<u32> {
        None
    }
    fn gid(&self, _: &str) -> Option<u32> {
        None
    }
    fn is_directory(&self, _: &[u8]) -> bool {
        false
    }
}

const EVENT: [&str; 4] = [
    "type=SYSCALL msg=audit(1782900000.000:1000): arch=c000003e syscall=257 success=yes exit=3 a0=ffffff9c \
     a1=7ffd1000 a2=80000 a3=0 items=1 ppid=500 pid=777 auid=1000 uid=1000 gid=1000 euid=0 suid=0 fsuid=0 egid=0 \
     sgid=0 fsgid=0 tty=pts0 ses=3 comm=\"cat\" exe=\"/usr/bin/cat\" subj=unconfined key=7665697472616C01636F6E",
    "type=CWD msg=audit(1782900000.000:1000): cwd=\"/home/user\"",
    "type=PATH msg=audit(1782900000.000:1000): item=0 name=\"/etc/shadow\" inode=4711 dev=fe:00 mode=0100640 ouid=0 \
     ogid=42 rdev=00:00 nametype=NORMAL cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0",
    "type=PROCTITLE msg=audit(1782900000.000:1000): proctitle=636174002F6574632F736861646F77",
];

/// Forty-nine that do not match, and one that does.
fn rules() -> Vec<Rule> {
    let mut lines: Vec<String> = (0..49)
        .map(|at| match at % 4 {
            0 => format!(
                "-a always,exit -F arch=b64 -S openat,execve -F exit=-EACCES -F uid={at} -k k{at}"
            ),
            1 => format!("-a always,exit -F arch=b64 -S connect,bind -F saddr_fam=2 -k k{at}"),
            2 => format!(
                "-a always,exit -F arch=b64 -F perm=wa -F auid>=1000 -F auid!=unset -k k{at}"
            ),
            _ => {
                format!("-a always,exit -F arch=b64 -S openat -F contid={at} -F success=0 -k k{at}")
            }
        })
        .collect();
    lines.push("-a always,exit -F arch=b64 -S openat -F path=/etc/shadow -k shadow".into());
    let parsed = lines.iter().filter_map(|line| Change::parse(line, &Nobody).ok());
    parsed.map(|change| change.rule().clone()).collect()
}

const EVENTS: usize = 20_000;

fn main() {
    let mut bench = Bench::from_args("rules");
    let rules = rules();
    let lines = || EVENT.iter().filter_map(|line| Line::parse(line.as_bytes()).ok());
    let facts = Facts::of_call(lines());
    let found = |decided: Decision| matches!(decided, Decision::Rule { at: 49, .. });
    bench.contest(
        "50 rules, the last one matches",
        Amount::items("events", EVENTS),
        vec![
            contestant("read the records only", || {
                let read = |_: &usize| Facts::of_call(lines()).names().len() == 1;
                (0..EVENTS).filter(read).count() as u64
            }),
            contestant("rules only", || {
                (0..EVENTS).filter(|_| found(decide(&rules, List::Exit, &facts))).count() as u64
            }),
            contestant("records and rules", || {
                let decided = |_: &usize| decide(&rules, List::Exit, &Facts::of_call(lines()));
                (0..EVENTS).filter(|at| found(decided(at))).count() as u64
            }),
        ],
    );
}
