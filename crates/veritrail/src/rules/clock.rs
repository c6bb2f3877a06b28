//! Rules of our own for the calls that change the clock, where no program in the kernel sees them.
//!
//! The kernel writes TIME_* in the event of a call that a rule matches. So the rules match every such call,
//! also one that fails: a caller whose struct cannot be written back is answered EFAULT, and has changed
//! the clock. Of the calls that changed nothing the engine keeps what somebody else's rule asks for.

use policy::audit::{Change, Context as _, Rule, Statement};

use super::Here;
use super::plan::{Planned, Way, marked};

/// Those of 64 and of 32 bits; a machine has some of them.
const CALLS: [(&str, &[&str]); 2] = [
    ("b64", &["adjtimex", "clock_adjtime", "clock_settime", "settimeofday"]),
    (
        "b32",
        &[
            "adjtimex",
            "clock_adjtime",
            "clock_adjtime64",
            "clock_settime",
            "clock_settime64",
            "settimeofday",
            "stime",
        ],
    ),
];

/// The key behind ours, by which `search -k` finds them.
const KEY: &str = "clock";

/// One rule for each width that this machine has.
pub(super) fn planned(here: &Here, key: &str) -> Vec<Planned> {
    CALLS.iter().filter_map(|(arch, calls)| of_width(here, arch, calls, key)).collect()
}

fn of_width(here: &Here, arch: &str, calls: &[&str], key: &str) -> Option<Planned> {
    let rule = |calls: &str| -> Option<Rule> {
        let line = format!("-a always,exit -F arch={arch} -S {calls} -k {KEY}");
        match Statement::parse(&line, here).ok()? {
            Statement::Change(change) => match *change {
                Change::Append(rule) => Some(rule),
                Change::Prepend(_) | Change::Delete(_) => None,
            },
            _ => None,
        }
    };
    let known: Vec<&str> = calls.iter().copied().filter(|call| rule(call).is_some()).collect();
    let rule = marked(&rule(&known.join(","))?, key).ok()?;
    let text = rule.to_text(here.machine());
    let way = Way::Sight(Box::new(rule));
    Some(Planned { place: String::new(), text, way, front: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::plan::is_ours;

    #[test]
    fn each_width_has_a_rule_of_ours_for_every_call() {
        let here = Here::find().unwrap();
        let planned = planned(&here, "ours");
        assert!(!planned.is_empty());
        for one in &planned {
            let Way::Sight(rule) = &one.way else { panic!("{one:?}") };
            assert!(is_ours(rule, "ours"), "{one:?}");
            assert!(one.text.ends_with(" -F key=ours -F key=clock"), "{one:?}");
        }
        if cfg!(target_arch = "x86_64") {
            let texts: Vec<&str> = planned.iter().map(|one| one.text.as_str()).collect();
            assert_eq!(
                texts,
                [
                    "-a always,exit -F arch=b64 -S adjtimex,settimeofday,clock_settime,clock_adjtime \
                     -F key=ours -F key=clock",
                    "-a always,exit -F arch=b32 -S stime,settimeofday,adjtimex,clock_settime,clock_adjtime,\
                     clock_settime64,clock_adjtime64 -F key=ours -F key=clock",
                ]
            );
        }
    }
}
