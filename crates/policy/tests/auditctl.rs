//! Rules of ours in the running kernel, against the same rules loaded by the stock tool.

#![allow(clippy::unwrap_used)] // Also in the functions that the tests share.

use std::process::Command;

use host::audit::{Control, Error};
use policy::audit::{Change, Condition, Context, Field, Rule};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

#[path = "../../host/tests/audit/auditing.rs"]
mod auditing;
mod here;

use auditing::Auditing;
use here::Here;

/// The stock tool, at most ten seconds; whether it was content, and what it printed.
fn auditctl(args: &[&str]) -> (bool, String) {
    let output = Command::new("timeout").arg("10").arg("auditctl").args(args).output().unwrap();
    let said = |bytes| String::from_utf8(bytes).unwrap();
    let content = output.status.success();
    (content, if content { said(output.stdout) } else { said(output.stderr) })
}

fn begin(test: &str) -> Option<Auditing> {
    if Command::new("auditctl").arg("-v").output().is_err() {
        eprintln!("SKIPPED: {test}: no auditctl (package auditd)");
        return None;
    }
    Auditing::begin(test)
}

fn clear(control: &mut Control) {
    for rule in control.rules().unwrap() {
        control.delete_rule(&rule).unwrap();
    }
}

/// What `auditctl -l` of 3.0.9 prints otherwise, and why is in policy's print.rs.
fn is_printed_otherwise(rule: &Rule) -> bool {
    let field = |condition: &Condition| condition.field;
    let fields: Vec<Field> = rule.conditions().iter().map(field).collect();
    let text = rule.to_text(Here.machine());
    let perm = fields.iter().position(|field| *field == Field::Perm);
    let only_a_watch = fields
        .iter()
        .all(|field| matches!(field, Field::Perm | Field::Path | Field::Dir | Field::Key));
    fields.contains(&Field::FileType)
        || text.contains("-F exe!=")
        || text.contains("-F arch=aarch64")
        || fields.iter().skip(1).any(|field| *field == Field::Arch)
        || (perm.is_some() && only_a_watch && !text.starts_with("-w"))
}

/// Adds the line's rule in both ways, and compares what the kernel then lists and the tool prints.
fn compare(control: &mut Control, line: &str) -> Result<(), TestCaseError> {
    let change = Change::parse(line, &Here);
    let change = change.map_err(|error| TestCaseError::fail(format!("{line}: {error}")))?;
    let rule = change.rule();
    let wire = match &change {
        Change::Prepend(rule) => rule.to_wire_in_front(),
        _ => rule.to_wire(),
    };
    let ours = control.add_rule(&wire);
    let listed = control.rules().unwrap();
    let (_, printed) = auditctl(&["-l"]);
    clear(control);

    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (theirs, said) = auditctl(&words);
    let expected = control.rules().unwrap();
    let (_, expected_text) = auditctl(&["-l"]);
    clear(control);

    prop_assert_eq!(ours.is_ok(), theirs, "{}: ours {:?}, theirs {}", line, ours, said);
    let differ =
        |(at, both): (usize, (&u8, &u8))| (both.0 != both.1).then_some((at, *both.0, *both.1));
    let first = |rules: &[Vec<u8>]| rules.first().cloned().unwrap_or_default();
    let (one, other) = (first(&listed), first(&expected));
    let differences: Vec<_> = one.iter().zip(&other).enumerate().filter_map(differ).collect();
    prop_assert!(listed == expected, "{}: the kernel holds another rule: {:?}", line, differences);
    prop_assert_eq!(&printed, &expected_text, "{}", line);
    if theirs {
        prop_assert_eq!(&listed, &[rule.to_wire()], "{}", line);
        let read = Rule::from_wire(&listed[0]).unwrap();
        prop_assert_eq!(&read, rule);
        if !is_printed_otherwise(rule) {
            prop_assert_eq!(read.to_text(Here.machine()), printed.trim_end());
        }
    }
    Ok(())
}

#[test]
fn rules_of_every_kind_are_the_stock_tools() {
    let Some(mut auditing) = begin("rules_of_every_kind_are_the_stock_tools") else { return };
    let folder = std::env::temp_dir();
    let here = folder.to_str().unwrap();
    let lines = [
        "-a exit,always -S 1",
        "-A always,exit",
        "-a always,task",
        "-a never,task -F uid=33 -F pers=0",
        "-a always,user",
        "-a never,user -F uid=0 -F msgtype>=1100 -F msgtype<1200",
        "-a always,exclude -F msgtype=PROCTITLE",
        "-a never,exclude -F exe=/bin/true -F subj_type=x",
        "-a never,filesystem -F fstype=tracefs -k traces",
        "-a always,exit -F arch=b64 -S openat,open -F success=0 -F auid>=1000 -F auid!=unset -k k1",
        "-a always,exit -F arch=b32 -S open,fstat -F exit=-EACCES -F a0=0x10 -F a1&3 -F a2&=020 -k two -k three",
        "-a always,exit -F arch!=b32 -S all -F a3!=-1",
        "-a always,exit -F arch=aarch64 -S 56 -F exit!=-EINVAL",
        "-w /etc/passwd -p wa -k passwd",
        "-w /etc/ -p rwxa",
        "-w /nowhere-at-all",
        "-w / -p x",
        "-w /etc/passwd -p xw -F uid=0",
        "-a always,exit -F path=/etc/passwd -F perm=r",
        "-a always,exit -F perm=r -F dir=/etc",
        "-a never,exit -F dir=/etc/ -F perm=wa -k k",
        "-a always,exit -F perm=wa",
        "-a always,exit -F dir=/usr -F perm=x -F uid!=root",
        "-a always,exit -F arch=b64 -S execve -C euid!=uid -C gid=obj_gid -F euid=0",
        "-a always,exit -F exe=/bin/true -F arch=b64 -S execve",
        "-a always,exit -F exe!=/bin/true -k not-true",
        "-a always,exit -F filetype=dir -F filetype!=socket",
        "-a always,exit -F devmajor>=8 -F devminor&3 -F inode!=55",
        "-a always,exit -F pers=8 -F ppid=1 -F pid=5 -F sessionid=unset -F saddr_fam=10",
        "-a always,exit -F subj_user=a -F subj_role!=b -F obj_lev_low>=s0 -F obj_user=x",
        "-a always,exit -F gid=root -F egid=1 -F sgid=2 -F fsgid=3 -F suid=4 -F fsuid=5 -F obj_uid=6 -F obj_gid=7",
        "-a always,exit -S open -F key=b -F uid=3 -k c",
        "-a always,exit -S rseq,424,1000",
        "-a always,exit -F exit>=ENOENT -F exit=-4095 -F exit=0 -F exit=-133 -F exit=-EHWPOISON",
        // The kernel refuses these, from either.
        "-a always,exit -F path=/nowhere/at/all",
        "-a always,exit -F exe=/nowhere/at/all -k k",
        "-a always,exit -F dir=/nowhere-at-all",
    ];
    for line in lines {
        compare(&mut auditing.control, line).unwrap();
    }
    compare(&mut auditing.control, &format!("-w {here} -p wa -k here")).unwrap();
}

#[test]
fn every_errno_call_and_type_has_the_stock_tools_name() {
    let Some(mut auditing) = begin("every_errno_call_and_type_has_the_stock_tools_name") else {
        return;
    };
    let control = &mut auditing.control;
    let mut lines: Vec<String> = Vec::new();
    for from in (1..=135).step_by(45) {
        let exits: String = (from..from + 45).map(|code| format!(" -F exit=-{code}")).collect();
        lines.push(format!("-a always,exit{exits}"));
    }
    // Calls that are younger than the tool have a name only here.
    for (arch, calls) in [("b64", (0..335).chain(424..440)), ("b32", (0..223).chain(224..440))] {
        let calls: Vec<String> = calls.map(|number: u32| number.to_string()).collect();
        lines.push(format!("-a always,exit -F arch={arch} -S {}", calls.join(",")));
    }
    let is_young = |kind: &u32| matches!(kind, 1329 | 1338 | 1339 | 1420..=1426);
    let types: Vec<u32> = (1100..1930).filter(|kind| !is_young(kind)).collect();
    for types in types.chunks(60) {
        let types: String = types.iter().map(|kind| format!(" -F msgtype={kind}")).collect();
        lines.push(format!("-a always,exclude{types}"));
    }
    for line in lines {
        compare(control, &line).unwrap();
    }
}

/// A condition that means something on the exit list.
fn condition() -> impl Strategy<Value = String> {
    let ids = "(uid|euid|suid|fsuid|gid|egid|sgid|fsgid|auid|obj_uid|obj_gid|pid|ppid|exit|success|\
               devmajor|sessionid)(=|!=|<|<=|>|>=)[0-9]{1,9}";
    prop_oneof![
        ids.prop_map(|text| format!("-F {text}")),
        "(a[0-3]|pers|devminor)(=|!=|<|<=|>|>=|&|&=)0x[0-9a-f]{1,7}"
            .prop_map(|text| format!("-F {text}")),
        "(exit)(=|!=|<|>)-[0-9]{1,3}".prop_map(|text| format!("-F {text}")),
        "auid!?=(unset|-1)".prop_map(|text| format!("-F {text}")),
        "(subj|obj)_(user|role|type)!?=[a-z_]{1,12}".prop_map(|text| format!("-F {text}")),
        "saddr_fam!?=([1-9]|[1-3][0-9])".prop_map(|text| format!("-F {text}")),
        "inode!?=[1-9][0-9]{0,8}".prop_map(|text| format!("-F {text}")),
        "perm=[rwxa]{1,4}".prop_map(|text| format!("-F {text}")),
        "filetype!?=(file|dir|socket|link|character|block|fifo)"
            .prop_map(|text| format!("-F {text}")),
        "(path=/etc/(passwd|group)|dir=/(etc|usr|usr/bin))".prop_map(|text| format!("-F {text}")),
        "exe!?=/bin/(true|false)".prop_map(|text| format!("-F {text}")),
        "(uid!?=(euid|suid|fsuid|auid|obj_uid)|gid!?=(egid|sgid|fsgid|obj_gid))"
            .prop_map(|text| format!("-C {text}")),
        "[A-Za-z0-9_.:,/@#%-]{1,20}".prop_map(|key| format!("-k {key}")),
    ]
}

#[test]
fn random_rules_are_the_stock_tools() {
    let Some(mut auditing) = begin("random_rules_are_the_stock_tools") else { return };
    let cases = if std::env::var_os("VERITRAIL_LONG").is_some() { 3000 } else { 100 };
    let calls = prop::collection::vec(0_u32..334, 1..6);
    let arch = prop::sample::select(vec!["", "-F arch=b64 ", "-F arch=b32 "]);
    let rules = (arch, calls, prop::collection::vec(condition(), 0..12));
    let mut runner = TestRunner::default();
    let mut left_out = 0;
    for _ in 0..cases {
        let (arch, calls, conditions) = rules.new_tree(&mut runner).unwrap().current();
        let calls: Vec<String> = calls.iter().map(u32::to_string).collect();
        let mut line = format!("-a always,exit {arch}-S {}", calls.join(","));
        for condition in conditions {
            let longer = format!("{line} {condition}");
            match Change::parse(&longer, &Here) {
                Ok(_) => line = longer,
                Err(_) => left_out += 1,
            }
        }
        compare(&mut auditing.control, &line).unwrap();
    }
    eprintln!("{cases} rules, {left_out} conditions left out that may not stand beside others");
}

#[test]
fn what_changes_nothing_is_said() {
    let Some(mut auditing) = begin("what_changes_nothing_is_said") else { return };
    let rule = Change::parse("-w /etc/passwd -p wa -k x", &Here).unwrap();
    let wire = rule.rule().to_wire();
    auditing.control.add_rule(&wire).unwrap();
    assert!(matches!(auditing.control.add_rule(&wire), Err(Error::RuleExists { .. })));
    // The same rule in the tool's words deletes it.
    let (content, said) = auditctl(&["-W", "/etc/passwd", "-p", "wa", "-k", "x"]);
    assert!(content, "{said}");
    assert!(matches!(auditing.control.delete_rule(&wire), Err(Error::NoSuchRule { .. })));
    // A rule of the kernel's classes comes back as their members.
    let mut classes = Change::parse("-a always,exit -S 2047", &Here).unwrap().rule().to_wire();
    auditing.control.add_rule(&classes).unwrap();
    let listed = Rule::from_wire(&auditing.control.rules().unwrap()[0]).unwrap();
    assert!(listed.syscalls().contains(83) && !listed.syscalls().contains(2047), "{listed:?}");
    classes.truncate(1039);
    assert!(matches!(auditing.control.add_rule(&classes), Err(Error::Refused { .. })));
}
