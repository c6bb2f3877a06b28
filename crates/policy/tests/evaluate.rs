//! Our evaluation of rules against the kernel's: the same rules, the same calls.
//!
//! Each round loads a list of random rules, every one with a key of its own, and behind them one
//! that matches whatever the child does. So each call of the child makes one record, whose key says
//! which rule the kernel found first; ours is asked the same of the record.

#![allow(clippy::unwrap_used)] // Also in the functions that the tests share.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use host::audit::{Control, Received, Stream};
use policy::audit::{
    Change, Context, Decision, Fact, Facts, List, Matches, Rule, Syscalls, decide, matches,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use record::stored::push_netlink;
use record::tables::syscall::Machine;
use record::{Line, RecordType};

#[path = "../../host/tests/audit/auditing.rs"]
mod auditing;
mod here;

use auditing::Auditing;
use here::Here;

fn rule(line: &str) -> Rule {
    Change::parse(line, &Here).unwrap_or_else(|error| panic!("{line}: {error}")).rule().clone()
}

/// Makes the calls that it is told, each with its arguments, and says when it is done.
const CHILD: &str = r#"
$| = 1;
while (my $line = <STDIN>) {
    chomp $line;
    for my $call (split /;/, $line) {
        my @words = split / /, $call;
        my $number = shift @words;
        my @args = map { /^s:(.*)/ ? $1 . "\0" : /^h:(.*)/ ? pack("H*", $1) : $_ + 0 } @words;
        syscall($number + 0, @args);
    }
    print "done\n";
}
"#;

struct Caller {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Caller {
    fn start(test: &str) -> Option<Caller> {
        let child = Command::new("perl")
            .args(["-e", CHILD])
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            eprintln!("SKIPPED: {test}: no perl");
            return None;
        };
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut caller = Caller { child, to, from: BufReader::new(from) };
        caller.call("39");
        Some(caller)
    }

    fn call(&mut self, calls: &str) {
        writeln!(self.to, "{calls}").unwrap();
        let mut said = String::new();
        self.from.read_line(&mut said).unwrap();
        assert_eq!(said, "done\n");
    }

    fn groups(&self) -> Vec<u32> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        groups.split_whitespace().map(|group| group.parse().unwrap()).collect()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Records as lines, by serial, until the message with this text has come.
fn hear(stream: &mut Stream, end: &str) -> BTreeMap<u32, Vec<Vec<u8>>> {
    let mut events: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        match stream.recv(Some(Duration::from_millis(200))).unwrap() {
            Received::Record { kind, text } => {
                let mut line = Vec::new();
                push_netlink(&mut line, kind, text);
                if kind == 1121 && memchr_in(&line, end.as_bytes()) {
                    return events;
                }
                let Ok(parsed) = Line::parse(&line) else { continue };
                events.entry(parsed.serial()).or_default().push(line.clone());
            }
            Received::Lost(lost) => panic!("{lost} records were lost"),
            _ => {}
        }
    }
    panic!("the last message did not come");
}

fn memchr_in(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn clear(control: &mut Control) {
    for rule in control.rules().unwrap() {
        control.delete_rule(&rule).unwrap();
    }
}

/// What the child works with.
struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Ground {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("in/deep")).unwrap();
        fs::create_dir(at("out")).unwrap();
        for (name, mode, owner) in [
            ("in/a", 0o644, 0),
            ("in/deep/b", 0o600, 1000),
            ("out/c", 0o666, 1000),
            ("d", 0o4755, 33),
        ] {
            fs::write(at(name), "x").unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
            std::os::unix::fs::chown(at(name), Some(owner), Some(owner)).unwrap();
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Ground { dir }
    }

    fn at(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn inode(&self, name: &str) -> u64 {
        fs::symlink_metadata(self.dir.path().join(name)).unwrap().ino()
    }

    /// Calls with all kinds of arguments, that work and that do not, and leave all as it was.
    fn calls(&self) -> String {
        let [a, b, c, d, inn, none] =
            ["in/a", "in/deep/b", "out/c", "d", "in", "in/none"].map(|name| self.at(name));
        let (new, other) = (self.at("in/new"), self.at("out/other"));
        [
            format!("2 s:{a} 0 0"),
            format!("2 s:{a} 1 0"),
            format!("2 s:{none} 0 0"),
            format!("257 -100 s:{b} 2 0"),
            format!("257 -100 s:{c} 0 0"),
            format!("257 -100 s:{new} 65 420"),
            format!("87 s:{new}"),
            format!("87 s:{none}"),
            format!("83 s:{new} 448"),
            format!("84 s:{new}"),
            format!("83 s:{inn} 448"),
            format!("90 s:{d} 2541"),
            format!("90 s:{none} 420"),
            format!("268 -100 s:{b} 384"),
            format!("92 s:{d} 33 33"),
            format!("76 s:{c} 1"),
            format!("86 s:{d} s:{other}"),
            format!("82 s:{other} s:{new}"),
            format!("87 s:{new}"),
            format!("88 s:{a} s:{other}"),
            format!("89 s:{other} s:xxxxxxxx 8"),
            format!("87 s:{other}"),
            format!("191 s:{a} s:user.none 0 0"),
            format!("59 s:{none} 0 0"),
            // Others' ids, and what they may then.
            "119 -1 1000 -1".into(),
            "117 -1 1000 -1".into(),
            format!("2 s:{b} 0 0"),
            format!("2 s:{a} 1 0"),
            "117 -1 0 -1".into(),
            "119 -1 0 -1".into(),
            "117 -1 -1 1000".into(),
            "102".into(),
            "117 0 0 0".into(),
            // Sockets: of a family, and none.
            "41 1 1 0".into(),
            "41 99 1 0".into(),
            "42 99 h:01002f746d702f6e6f6e6500 12".into(),
            "42 99 h:0200003500000000000000000000000000 16".into(),
            "62 0 0".into(),
            "135 8".into(),
            format!("2 s:{a} 0 0"),
            "135 0".into(),
            "3 -1".into(),
            "3 3".into(),
            "3 4".into(),
            "3 5".into(),
            "3 6".into(),
            "3 7".into(),
            "3 8".into(),
            "3 9".into(),
            "39".into(),
        ]
        .join(";")
    }
}

/// A condition about what the child does.
fn condition(ground: &Ground, exe: &str) -> impl Strategy<Value = String> + use<> {
    let order = || prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="]);
    let equal = || prop::sample::select(vec!["=", "!="]);
    let every = || prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">=", "&", "&="]);
    let of = |names: &[&'static str]| prop::sample::select(names.to_vec());
    let ids =
        ["uid", "euid", "suid", "fsuid", "gid", "egid", "sgid", "fsgid", "obj_uid", "obj_gid"];
    let files = ["in/a", "in/deep/b", "out/c", "d"];
    let inodes: Vec<u64> = files.iter().map(|name| ground.inode(name)).collect();
    // The last one gets a second name, which is the same file to the kernel and another to us.
    let paths: Vec<String> = files[..3].iter().map(|name| ground.at(name)).collect();
    let dirs: Vec<String> = ["in", "in/deep", "out", ""]
        .iter()
        .map(|name| ground.at(name).trim_end_matches('/').to_owned())
        .collect();
    let device = fs::metadata(ground.dir.path()).unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let exe = exe.to_owned();
    prop_oneof![
        4 => (of(&ids), order(), prop::sample::select(vec![0, 33, 999, 1000]))
            .prop_map(|(field, sign, id)| format!("-F {field}{sign}{id}")),
        2 => equal().prop_map(|sign| format!("-F auid{sign}unset")),
        1 => (order(), prop::sample::select(vec![0, 1000])).prop_map(|(s, id)| format!("-F auid{s}{id}")),
        1 => equal().prop_map(|sign| format!("-F sessionid{sign}unset")),
        1 => (every(), prop::sample::select(vec![0, 8])).prop_map(|(s, n)| format!("-F pers{s}{n}")),
        1 => (equal(), of(&["b64", "b32"])).prop_map(|(s, arch)| format!("-F arch{s}{arch}")),
        4 => (order(), of(&["0", "1", "3", "-EPERM", "-ENOENT", "-EACCES", "-EBADF", "-EEXIST"]))
            .prop_map(|(sign, exit)| format!("-F exit{sign}{exit}")),
        3 => (order(), of(&["0", "1"])).prop_map(|(sign, yes)| format!("-F success{sign}{yes}")),
        4 => (of(&["a0", "a1", "a2", "a3"]), every(), of(&["0", "1", "2", "65", "-100", "-1", "1000", "420"]))
            .prop_map(|(field, sign, value)| format!("-F {field}{sign}{value}")),
        2 => (order(), prop::sample::select(vec![0, major]))
            .prop_map(|(sign, n)| format!("-F devmajor{sign}{n}")),
        2 => (every(), prop::sample::select(vec![0, minor]))
            .prop_map(|(sign, n)| format!("-F devminor{sign}{n}")),
        3 => (equal(), prop::sample::select(inodes)).prop_map(|(s, inode)| format!("-F inode{s}{inode}")),
        3 => prop::sample::select(paths).prop_map(|path| format!("-F path={path}")),
        3 => prop::sample::select(dirs).prop_map(|dir| format!("-F dir={dir}")),
        3 => "[rwxa]{1,3}".prop_map(|perm| format!("-F perm={perm}")),
        3 => (equal(), of(&["file", "dir", "link", "socket"]))
            .prop_map(|(sign, kind)| format!("-F filetype{sign}{kind}")),
        3 => (of(&["uid", "euid", "suid", "fsuid", "auid"]), equal(), of(&["obj_uid", "uid", "euid", "fsuid"]))
            .prop_map(|(one, sign, other)| format!("-C {one}{sign}{other}")),
        1 => (of(&["gid", "egid", "fsgid"]), equal(), of(&["obj_gid", "gid", "sgid"]))
            .prop_map(|(one, sign, other)| format!("-C {one}{sign}{other}")),
        1 => (equal(), prop::sample::select(vec![exe, "/bin/true".to_owned()]))
            .prop_map(|(sign, exe)| format!("-F exe{sign}{exe}")),
        2 => (order(), of(&["1", "2", "10"])).prop_map(|(s, family)| format!("-F saddr_fam{s}{family}")),
        1 => (order(), of(&["1", "1000"])).prop_map(|(sign, pid)| format!("-F ppid{sign}{pid}")),
    ]
}

/// One list of rules and what came of it.
#[derive(Default)]
struct Sums {
    events: usize,
    by_ours: usize,
    in_doubt: usize,
}

/// Loads the rules, has the child call, and compares for each record which rule decided.
fn compare(
    control: &mut Control,
    stream: &mut Stream,
    caller: &mut Caller,
    calls: &str,
    rules: &[Rule],
    sums: &mut Sums,
    round: usize,
) {
    clear(control);
    let mut loaded = Vec::new();
    for rule in rules {
        // Twice the same, or an empty mask: nothing to compare.
        if control.add_rule(&rule.to_wire()).is_ok() {
            loaded.push(rule.clone());
        }
    }
    let pid = caller.child.id();
    let all = rule(&format!("-a always,exit -F pid={pid} -k all"));
    control.add_rule(&all.to_wire()).unwrap();
    loaded.push(all);
    caller.call(calls);
    clear(control);
    let end = format!("the end of round {round}");
    control.send_user(1121, end.as_bytes()).unwrap();
    let groups = caller.groups();
    let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert!(exe.is_absolute());
    for lines in hear(stream, &end).values() {
        let lines: Vec<Line<'_>> = lines.iter().map(|line| Line::parse(line).unwrap()).collect();
        let Some(call) = lines.iter().find(|line| line.record_type() == RecordType::SYSCALL) else {
            continue;
        };
        let field = |key: &[u8]| call.fields().find_value(key).map(|value| value.text());
        if field(b"pid") != Some(pid.to_string().as_bytes()) {
            continue;
        }
        let key = str::from_utf8(field(b"key").unwrap()).unwrap();
        let mut facts = Facts::of_call(lines.iter().copied());
        facts.groups = Fact::Known(&groups);
        facts.resolved = true;
        sums.events += 1;
        let decided = decide(&loaded, List::Exit, &facts);
        let text = || {
            let records: Vec<_> =
                lines.iter().map(|line| String::from_utf8_lossy(line.raw()).into_owned()).collect();
            let rules: Vec<_> = loaded.iter().map(|rule| rule.to_text(Here.machine())).collect();
            format!(
                "{decided:?}, and the kernel says {key}\n{}\n{}",
                rules.join("\n"),
                records.join("\n")
            )
        };
        match decided {
            Decision::Rule { at, .. } => {
                let expected = loaded[at].keys().next().unwrap();
                assert_eq!(key.as_bytes(), expected, "{}", text());
                sums.by_ours += usize::from(key != "all");
            }
            Decision::Nothing => panic!("{}", text()),
            Decision::CannotTell { .. } => sums.in_doubt += 1,
        }
    }
}

#[test]
fn the_kernel_finds_the_rule_that_we_find() {
    let test = "the_kernel_finds_the_rule_that_we_find";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    if std::env::consts::ARCH != "x86_64" {
        eprintln!("SKIPPED: {test}: the calls are those of x86_64");
        return;
    }
    let Some(mut caller) = Caller::start(test) else { return };
    let mut stream = Stream::multicast(64 << 20).unwrap();
    let ground = Ground::new();
    let calls = ground.calls();
    let exe = fs::read_link(format!("/proc/{}/exe", caller.child.id())).unwrap();
    let pid = caller.child.id();
    let numbers = vec![
        2, 257, 87, 83, 84, 90, 268, 92, 76, 86, 82, 88, 89, 191, 59, 117, 119, 41, 42, 62, 135, 3,
    ];
    let call = prop_oneof![1 => Just("all".to_owned()), 2 => prop::collection::vec(prop::sample::select(numbers), 1..9)
        .prop_map(|all: Vec<u32>| all.iter().map(u32::to_string).collect::<Vec<_>>().join(","))];
    let conditions = prop::collection::vec(condition(&ground, exe.to_str().unwrap()), 0..4);
    let lists = prop::collection::vec((call, conditions), 1..7);
    let rounds = if std::env::var_os("VERITRAIL_LONG").is_some() { 2000 } else { 60 };
    // Others wait for the lock of audit.
    let until = Instant::now() + Duration::from_secs(rounds);
    let seed = std::env::var("VERITRAIL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("VERITRAIL_SEED={seed}");
    let mut runner =
        TestRunner::new(Config { rng_seed: RngSeed::Fixed(seed), ..Config::default() });
    let mut sums = Sums::default();
    let mut done = 0;
    for round in 0..usize::try_from(rounds).unwrap() {
        if Instant::now() > until {
            break;
        }
        done += 1;
        let mut rules = Vec::new();
        for (at, (call, conditions)) in
            lists.new_tree(&mut runner).unwrap().current().into_iter().enumerate()
        {
            let mut line = format!("-a always,exit -F pid={pid}");
            let mut end = format!(" -S {call}");
            for condition in conditions {
                // The architecture stands before the calls.
                let arch = condition.contains("arch");
                let (before, behind) = if arch { (&*condition, "") } else { ("", &*condition) };
                let longer = format!("{line} {before}{end} {behind} -k r{at}");
                if Change::parse(&longer, &Here).is_ok() {
                    if arch {
                        line = format!("{line} {condition}")
                    } else {
                        end = format!("{end} {condition}")
                    }
                }
            }
            rules.push(rule(&format!("{line}{end} -k r{at}")));
        }
        compare(&mut auditing.control, &mut stream, &mut caller, &calls, &rules, &mut sums, round);
    }
    let Sums { events, by_ours, in_doubt } = sums;
    eprintln!(
        "{done} lists, {events} calls, {by_ours} decided by a random rule, {in_doubt} cannot be told"
    );
    assert!(events >= done * 40, "{events} calls");
    assert!(by_ours * 10 > events, "{by_ours} of {events}");
    assert!(in_doubt * 10 < events, "{in_doubt} of {events}");
}

#[test]
fn never_before_always_and_a_watch_between_are_the_kernels() {
    let test = "never_before_always_and_a_watch_between_are_the_kernels";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let Some(mut caller) = Caller::start(test) else { return };
    let mut stream = Stream::multicast(16 << 20).unwrap();
    let ground = Ground::new();
    let (a, c) = (ground.at("in/a"), ground.at("out/c"));
    let pid = caller.child.id();
    let opens = format!("257 -100 s:{a} 0 0;257 -100 s:{c} 0 0;3 3;3 4");
    let all = format!("-a always,exit -F pid={pid} -S openat -k all");
    let watch = format!("-a always,exit -F pid={pid} -F path={a} -k watch");
    let never = format!("-a never,exit -F pid={pid} -F path={a}");
    let never_all = format!("-a never,exit -F pid={pid} -S openat");
    let front = format!("-A never,exit -F pid={pid} -F path={c}");
    // The rules in the order of adding, and the keys of the two calls; none: no record.
    let cases: [(&[&str], [Option<&str>; 2]); 8] = [
        (&[&watch, &all], [Some("watch"), Some("all")]),
        (&[&all, &watch], [Some("all"), Some("all")]),
        (&[&never, &all], [None, Some("all")]),
        (&[&all, &never], [Some("all"), Some("all")]),
        (&[&never_all, &all], [None, None]),
        (&[&never_all, &watch], [None, None]),
        (&[&watch, &never_all], [Some("watch"), None]),
        (&[&all, &front], [Some("all"), None]),
    ];
    for (round, (lines, expected)) in cases.into_iter().enumerate() {
        clear(&mut auditing.control);
        let mut order: Vec<Rule> = Vec::new();
        for line in lines {
            let rule = rule(line);
            if line.starts_with("-A") {
                auditing.control.add_rule(&rule.to_wire_in_front()).unwrap();
                order.insert(0, rule);
            } else {
                auditing.control.add_rule(&rule.to_wire()).unwrap();
                order.push(rule);
            }
        }
        let listed: Vec<Rule> = auditing
            .control
            .rules()
            .unwrap()
            .iter()
            .map(|wire| Rule::from_wire(wire).unwrap())
            .collect();
        assert_eq!(listed, order);
        caller.call(&opens);
        // The calls once more, with a rule that records them whatever else there is.
        clear(&mut auditing.control);
        let catch = rule(&format!("-a always,exit -F pid={pid} -S openat -k catch"));
        auditing.control.add_rule(&catch.to_wire()).unwrap();
        caller.call(&opens);
        clear(&mut auditing.control);
        let end = format!("the end of case {round}");
        auditing.control.send_user(1121, end.as_bytes()).unwrap();
        let events = hear(&mut stream, &end);
        let (mut kernel, mut ours) = ([None, None], Vec::new());
        for lines in events.values() {
            let lines: Vec<Line<'_>> =
                lines.iter().map(|line| Line::parse(line).unwrap()).collect();
            let Some(call) = lines.iter().find(|line| line.record_type() == RecordType::SYSCALL)
            else {
                continue;
            };
            let field = |key: &[u8]| call.fields().find_value(key).map(|value| value.text());
            if field(b"pid") != Some(pid.to_string().as_bytes()) {
                continue;
            }
            let key = field(b"key").unwrap();
            let key = str::from_utf8(key).unwrap().to_owned();
            let mut facts = Facts::of_call(lines.iter().copied());
            facts.resolved = true;
            if key == "catch" {
                ours.push(match decide(&order, List::Exit, &facts) {
                    Decision::Rule { at, action: policy::audit::Action::Always } => {
                        order[at].keys().next().map(|key| String::from_utf8(key.to_vec()).unwrap())
                    }
                    Decision::Rule { .. } | Decision::Nothing => None,
                    doubt @ Decision::CannotTell { .. } => panic!("{lines:?}: {doubt:?}"),
                });
            } else {
                let of_a = lines.iter().any(|line| memchr_in(line.raw(), b"/in/a"));
                kernel[usize::from(!of_a)] = Some(key);
            }
        }
        let expected = expected.map(|key| key.map(str::to_owned));
        assert_eq!(kernel, expected, "the kernel, {lines:?}");
        assert_eq!(ours, expected, "ours, {lines:?}");
    }
}

#[test]
fn perm_means_the_calls_that_the_kernel_means() {
    let Some(mut auditing) = Auditing::begin("perm_means_the_calls_that_the_kernel_means") else {
        return;
    };
    let control = &mut auditing.control;
    // Linux before 6.18 or so lacks these in its classes.
    let young = ["fchmodat2", "setxattrat", "removexattrat", "getxattrat", "listxattrat"];
    for (perm, class) in [("a", 2), ("r", 4), ("w", 6)] {
        for (arch, machine, twin) in [("b64", Machine::X86_64, 0), ("b32", Machine::I386, 1)] {
            if Here.machine() != Machine::X86_64 {
                continue;
            }
            clear(control);
            let members = rule(&format!("-a always,exit -S {}", 2047 - class - twin));
            control.add_rule(&members.to_wire()).unwrap();
            let listed = Rule::from_wire(&control.rules().unwrap()[0]).unwrap();
            let members: &Syscalls = listed.syscalls();
            let asked = rule(&format!("-a always,exit -F arch={arch} -F perm={perm}"));
            for number in 0..460 {
                let Some(name) = machine.syscall(number) else { continue };
                if name.starts_with("open") || name.starts_with("exec") || name == "socketcall" {
                    continue;
                }
                let mut facts = Facts::default();
                facts.arch = Fact::Known(machine.audit_arch());
                facts.call = Fact::Known(number);
                let ours = matches(&asked, &facts);
                if young.contains(&name) {
                    assert!(matches!(ours, Matches::CannotTell(_)), "{name}");
                    continue;
                }
                assert_eq!(ours == Matches::Yes, members.contains(number), "{arch} {perm} {name}");
            }
        }
    }
}
