//! The agent's rules in the kernel: there while it runs, under its key, beside those of others.

use std::fs;

use host::audit::Control;
use policy::audit::Rule;
use record::tables::syscall::Machine;
use rustix::process::{Signal, kill_process};

use crate::auditing::Auditing;
use crate::bench::{Bench, soon};

/// Rules of another tool: of each list, one watched directory among them.
const STRANGERS: [&str; 4] = [
    "-a always,exit -F arch=b64 -S acct -k theirs",
    "-w /etc -p wa -k veritrail-not",
    "-a never,user -F uid=12345",
    "-a always,exclude -F msgtype=1199",
];

pub(crate) fn add(control: &mut Control, line: &str) {
    struct Here;
    impl policy::audit::Context for Here {
        fn machine(&self) -> Machine {
            Machine::from_name(std::env::consts::ARCH.as_bytes()).unwrap()
        }
        fn uid(&self, _: &str) -> Option<u32> {
            None
        }
        fn gid(&self, _: &str) -> Option<u32> {
            None
        }
        fn is_directory(&self, path: &[u8]) -> bool {
            path == b"/etc"
        }
    }
    let change = policy::audit::Change::parse(line, &Here).unwrap();
    control.add_rule(&change.rule().to_wire()).unwrap();
}

/// The kernel's rules: those of others byte by byte, and ours in auditctl's words.
fn rules(control: &mut Control) -> (Vec<Vec<u8>>, Vec<String>) {
    let (mut others, mut ours) = (Vec::new(), Vec::new());
    for wire in control.rules().unwrap() {
        let text = Rule::from_wire(&wire).unwrap().to_text(Machine::X86_64);
        let marked = text.contains("key=test-rules") || text.contains("-k test-rules");
        if marked || text.contains("pid!=1986359924") {
            ours.push(text);
        } else {
            others.push(wire);
        }
    }
    (others, ours)
}

/// The doorkeeper, the agent, the writer.
const PROCESSES: usize = 3;

fn family(agent: &crate::bench::Agent) -> Vec<u32> {
    // The first is what runs them.
    let family = agent.family().split_off(1);
    assert_eq!(family.len(), PROCESSES, "{family:?}");
    family
}

fn bench(files: &[(&str, &str)]) -> Bench {
    let bench = Bench::new();
    fs::create_dir(bench.path("rules.d")).unwrap();
    for (name, text) in files {
        bench.write(&format!("rules.d/{name}"), text);
    }
    let dir = bench.path("rules.d");
    bench.write(
        "rules.toml",
        &format!("[rules]\ndir = \"{}\"\nkey = \"test-rules\"\n", dir.display()),
    );
    bench
}

const CONFIG: [&str; 2] = ["--config", "rules.toml"];

#[test]
fn rules_are_there_while_it_runs_and_those_of_others_are_untouched() {
    let test = "rules_are_there_while_it_runs_and_those_of_others_are_untouched";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let control = &mut auditing.control;
    for line in STRANGERS {
        add(control, line);
    }
    let before = control.rules().unwrap();
    let bench = bench(&[
        (
            "10-b.rules",
            "-a always,exit -F arch=b64 -S swapoff -k b\n-a always,exclude -F msgtype=1198\n",
        ),
        (
            "2-a.rules",
            "# first\n-D\n-b 9999\n-w /etc/hostname -p wa -k a -k x\n-a always,exit -F uidd=0\n",
        ),
        ("ignored.txt", "-w /etc/passwd\n"),
    ]);
    let agent = bench.start(&CONFIG);
    let (others, ours) = rules(control);
    assert_eq!(others, before);
    let (never, ours) = ours.split_at(PROCESSES);
    for pid in family(&agent) {
        let about = format!("-a never,exit -S all -F pid={pid} -F exe=/");
        assert!(never.iter().any(|rule| rule.starts_with(&about)), "{pid}: {never:?}");
    }
    assert_eq!(
        ours,
        [
            "-w /etc/hostname -p wa -k test-rules -k a -k x",
            "-a always,exit -F arch=b64 -S swapoff -F key=test-rules -F key=b",
            "-a always,exclude -F msgtype=1198 -F pid!=1986359924",
        ]
    );
    assert_ne!(control.status().unwrap().backlog_limit, 9999, "a setting was changed");
    let told = bench.bodies("VT_RULE");
    let says = |state: &str, what: &str| {
        told.iter().any(|body| body.starts_with(&format!("state={state} ")) && body.contains(what))
    };
    assert!(says("installed", "10-b.rules:1"), "{told:#?}");
    assert!(says("refused", "2-a.rules:2"), "{told:#?}");
    assert!(says("refused", "2-a.rules:3"), "{told:#?}");
    assert!(says("refused", "2-a.rules:5:19"), "{told:#?}");
    soon("the status", || bench.status()["rules"]["in_kernel"] == 3 + PROCESSES);
    assert_eq!(bench.status()["rules"]["refused"], 3);

    // A file more, and one less.
    fs::remove_file(bench.path("rules.d/10-b.rules")).unwrap();
    bench.write("rules.d/3.rules", "-w /etc/group -p wa\n");
    kill_process(agent.doorkeeper, Signal::HUP).unwrap();
    soon("the new rule", || {
        rules(control).1[PROCESSES..]
            == [
                "-w /etc/hostname -p wa -k test-rules -k a -k x",
                "-w /etc/group -p wa -k test-rules",
            ]
    });
    assert_eq!(rules(control).0, before);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(control.rules().unwrap(), before);
    // Those of the first files, for the new order, and at the end two and those about processes.
    let removed = bench.bodies("VT_RULE");
    assert_eq!(
        removed.iter().filter(|body| body.starts_with("state=removed ")).count(),
        5 + PROCESSES
    );
    bench.trail_is_good();
}

#[test]
fn rules_that_another_tool_takes_away_come_back_and_it_is_told() {
    let test = "rules_that_another_tool_takes_away_come_back_and_it_is_told";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let control = &mut auditing.control;
    let bench = bench(&[("1.rules", "-w /etc/hostname -p wa -k a\n-a never,user -F uid=54321\n")]);
    let agent = bench.start(&CONFIG);
    let before = rules(control).1;
    assert_eq!(before.len(), 2 + PROCESSES);
    // What auditctl -D does, with which every set of rules from Debian begins.
    for wire in control.rules().unwrap() {
        control.delete_rule(&wire).unwrap();
    }
    add(control, STRANGERS[0]);
    soon("our rules", || rules(control).1.len() == before.len());
    let (others, mut after) = rules(control);
    assert_eq!(others.len(), 1);
    let mut before = before;
    // Those about our processes in whatever order.
    before.sort();
    after.sort();
    assert_eq!(after, before);
    soon("the status", || bench.status()["rules"]["in_kernel"] == 2 + PROCESSES);
    let told = bench.bodies("VT_RULE");
    let gone =
        |body: &&String| body.starts_with("state=removed ") && body.contains("somebody else");
    assert_eq!(told.iter().filter(gone).count(), 2 + PROCESSES, "{told:#?}");
    let installed = |body: &&String| body.starts_with("state=installed ");
    assert_eq!(told.iter().filter(installed).count(), 2 * (2 + PROCESSES), "{told:#?}");
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(rules(control).1, [""; 0]);
}

#[test]
fn what_a_killed_agent_left_is_taken_over_or_removed() {
    let test = "what_a_killed_agent_left_is_taken_over_or_removed";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let control = &mut auditing.control;
    add(control, STRANGERS[0]);
    let before = control.rules().unwrap();
    let bench = bench(&[("1.rules", "-w /etc/hostname -p wa -k a\n-a never,user -F uid=54321\n")]);
    bench.start(&CONFIG).kill();
    let (others, left) = rules(control);
    assert_eq!((others, left.len()), (before.clone(), 2 + PROCESSES), "{left:?}");

    let agent = bench.start(&CONFIG);
    let (others, ours) = rules(control);
    assert_eq!((others, ours.len()), (before.clone(), 2 + PROCESSES), "{ours:?}");
    for pid in family(&agent) {
        let own = format!("pid={pid} ");
        assert!(ours.iter().any(|rule| rule.contains(&own)), "{ours:?}");
    }
    let told = bench.bodies("VT_RULE");
    let taken = told.iter().filter(|body| body.starts_with("state=taken-over ")).count();
    assert_eq!(taken, 2, "{told:#?}");
    agent.kill();

    // The files say something else now.
    bench.write("rules.d/1.rules", "-w /etc/group -p wa\n");
    let agent = bench.start(&CONFIG);
    let (others, ours) = rules(control);
    assert_eq!((others, ours.len()), (before.clone(), 1 + PROCESSES), "{ours:?}");
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(control.rules().unwrap(), before);
}
