//! The lists as they are meant: what an event of the kernel's comes to if all is asked that is written.
//!
//! The kernel has asked its part already, and a record bears the keys of the rule that it found. So of the exit
//! list only this is left to ask:
//!
//! ```text
//!   in front of the rule that the kernel found   what the engine alone evaluates: else the kernel had found that
//!   the rule                                     its conditions that no kernel knows
//!   behind it                                    all of each rule, which the kernel has not looked at
//! ```

use std::collections::{HashMap, HashSet};

use policy::audit::{Decision, Facts, List, Rule, decide};

use super::plan::{Planned, Way};

/// A rule of the exit list.
#[derive(Debug)]
struct Entry {
    /// As it is written; none asks for nothing.
    whole: Option<Rule>,
    /// What is left to ask where the kernel has found it.
    rest: Option<Rule>,
    /// The rule that the kernel has for it; none has it for what the engine alone evaluates.
    in_kernel: Option<Rule>,
    /// It may have been found, and the record bear the keys of one behind it: the kernel replaces keys only by
    /// others, and looks at rules of files when it has been through the list.
    is_silent: bool,
}

/// Where to begin for the keys of a record.
#[derive(Clone, Copy, Debug)]
struct Begin {
    at: usize,
    /// The kernel has one rule with these keys: what it asks holds.
    is_one: bool,
}

/// The lists.
#[derive(Debug, Default)]
pub(crate) struct Meant {
    calls: Vec<Entry>,
    /// By the keys of a record, in one piece.
    begins: HashMap<Vec<u8>, Begin>,
    /// Of the lists for messages, what can still be decided of one that the kernel let pass.
    messages: Vec<Rule>,
}

impl Meant {
    /// Of the kernel's rules, in its order, and of what is planned, in the order of [`super::plan::in_order`].
    pub(super) fn new(kernel: &[Rule], planned: &[&Planned]) -> Meant {
        let mut meant = Meant::default();
        for standing in interleave(kernel, planned, List::Exit) {
            let entry = Entry::of(&standing);
            if let Some(rule) = &entry.in_kernel {
                let at = meant.calls.len();
                meant
                    .begins
                    .entry(keys(rule))
                    .and_modify(|begin| {
                        let first = meant.calls.get(begin.at);
                        begin.is_one &= first.and_then(|one| one.in_kernel.as_ref()) == Some(rule);
                    })
                    .or_insert(Begin { at, is_one: true });
            }
            meant.calls.push(entry);
        }
        for list in [List::User, List::Exclude] {
            meant.messages.extend(interleave(kernel, planned, list).into_iter().filter_map(
                |standing| {
                    let (whole, is_in_kernel) = standing.rule()?;
                    // Of those that would have kept it back the kernel found none.
                    let says_no =
                        list == List::Exclude || whole.action() == policy::audit::Action::Never;
                    (!is_in_kernel || !says_no).then(|| whole.clone())
                },
            ));
        }
        meant
    }

    /// What a call comes to for which the kernel found a rule with these keys, in one piece; and the rule that
    /// decides, where one does.
    pub(crate) fn of_call(&self, keys: &[u8], facts: &Facts<'_>) -> (Decision, Option<&Rule>) {
        let begin = self.begins.get(keys).copied();
        let found = begin.filter(|begin| begin.is_one);
        let found = found.and_then(|begin| self.calls.get(begin.at)?.in_kernel.as_ref());
        let at = begin.map_or(0, |begin| begin.at);
        let left =
            self.calls.iter().enumerate().filter_map(|(number, entry)| match &entry.in_kernel {
                Some(_) if number < at && !entry.is_silent => None,
                Some(rule) if found == Some(rule) => entry.rest.as_ref(),
                _ => entry.whole.as_ref(),
            });
        let decided = decide(left.clone(), List::Exit, facts);
        let by = match decided {
            Decision::Rule { at, .. } => left.clone().nth(at),
            Decision::Nothing | Decision::CannotTell { .. } => None,
        };
        (decided, by)
    }

    /// What a rule for messages that the kernel does not know makes of one: of these there may be one.
    pub(crate) fn of_message(&self, list: List, facts: &Facts<'_>) -> Decision {
        decide(&self.messages, list, facts)
    }
}

impl Entry {
    fn of(standing: &Standing<'_>) -> Entry {
        match standing {
            Standing::Others(rule) => Entry {
                rest: Some(rule.beyond_kernels()),
                is_silent: rule.is_of_files() && rule.keys().next().is_none(),
                whole: Some(Rule::clone(rule)),
                in_kernel: Some(Rule::clone(rule)),
            },
            Standing::Ours(planned) => {
                let whole = standing.rule().map(|(rule, _)| rule);
                Entry {
                    rest: whole.map(Rule::beyond_kernels),
                    whole: whole.cloned(),
                    in_kernel: planned.way.in_kernel().cloned(),
                    is_silent: false,
                }
            }
        }
    }
}

/// Somebody else's rule in the kernel, or one of ours, wherever it is evaluated.
enum Standing<'a> {
    Others(&'a Rule),
    Ours(&'a Planned),
}

impl<'a> Standing<'a> {
    /// As it is written, and whether the kernel has all or part of it; none for one that asks for nothing.
    fn rule(&self) -> Option<(&'a Rule, bool)> {
        match self {
            Standing::Others(rule) => Some((rule, true)),
            Standing::Ours(planned) => match &planned.way {
                Way::Kernel { marked, whole } => Some((whole.as_ref().unwrap_or(marked), true)),
                Way::Engine(rule) => Some((rule, false)),
                Way::Sight(_) | Way::Refused(_) => None,
            },
        }
    }
}

/// One list, ours among those of others: what the kernel has not got stands before the rule of ours behind it.
fn interleave<'a>(kernel: &'a [Rule], planned: &[&'a Planned], list: List) -> Vec<Standing<'a>> {
    let kernel: Vec<&Rule> = kernel.iter().filter(|rule| rule.list() == list).collect();
    let there: HashSet<&Rule> = kernel.iter().copied().collect();
    let ours: Vec<&Planned> =
        planned.iter().copied().filter(|one| one.way.list() == Some(list)).collect();
    let of_ours: HashSet<&Rule> = ours.iter().filter_map(|one| one.way.in_kernel()).collect();
    let is_there = |one: &&&Planned| one.way.in_kernel().is_none_or(|rule| there.contains(rule));
    let mut standing = Vec::with_capacity(kernel.len() + ours.len());
    let mut left = ours.as_slice();
    for rule in kernel {
        if !of_ours.contains(rule) {
            standing.push(Standing::Others(rule));
        } else if let Some(at) = left.iter().position(|one| one.way.in_kernel() == Some(rule)) {
            let (before, behind) = left.split_at(at + 1);
            standing.extend(before.iter().filter(is_there).map(|one| Standing::Ours(one)));
            left = behind;
        }
    }
    standing.extend(left.iter().filter(is_there).map(|one| Standing::Ours(one)));
    standing
}

/// The keys of a rule in one piece, as a record has them.
pub(crate) fn keys(rule: &Rule) -> Vec<u8> {
    rule.keys().collect::<Vec<_>>().join(&Rule::KEY_SEPARATOR)
}

#[cfg(test)]
mod tests {
    use policy::audit::{Action, Context as _, Fact, Statement};
    use record::Line;

    use super::*;
    use crate::rules::Here;
    use crate::rules::plan::in_order;

    fn planned(lines: &[&str]) -> Vec<Planned> {
        let of = |line: &&str| {
            let statement = Statement::parse(line, &Here::find().unwrap()).unwrap();
            Planned::of("x.rules:1".into(), (*line).into(), &statement, "ours").unwrap()
        };
        lines.iter().map(of).collect()
    }

    fn rule(line: &str) -> Rule {
        match Statement::parse(line, &Here::find().unwrap()).unwrap() {
            Statement::Change(change) => change.rule().clone(),
            other => panic!("{other:?}"),
        }
    }

    /// What a call of container `contid` comes to for which the kernel found a rule with these keys: the rule that
    /// asks for it.
    fn asked(kernel: &[Rule], ours: &[&str], keys: &str, contid: u64, name: &str) -> String {
        let planned = planned(ours);
        let meant = Meant::new(kernel, &in_order(&planned));
        let stamp = "msg=audit(1.000:2):";
        let text = [
            format!(
                "type=SYSCALL {stamp} arch=c000003e syscall=2 success=yes exit=3 a0=0 a1=1 a2=0 a3=0 items=1 ppid=1 \
                 pid=7 auid=0 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 ses=1 comm=\"x\" exe=\"/x\""
            ),
            format!("type=CWD {stamp} cwd=\"/\""),
            format!(
                "type=PATH {stamp} item=0 name=\"{name}\" inode=9 dev=fe:00 mode=0100644 ouid=0 ogid=0"
            ),
        ];
        let mut facts =
            Facts::of_call(text.iter().map(|line| Line::parse(line.as_bytes()).unwrap()));
        facts.container = Fact::Known(contid);
        let machine = Here::find().unwrap().machine();
        match meant.of_call(keys.replace(' ', "\u{1}").as_bytes(), &facts) {
            (Decision::Rule { action: Action::Always, .. }, by) => {
                String::from_utf8(super::keys(by.unwrap())).unwrap()
            }
            (Decision::Rule { action: Action::Never, .. }, by) => {
                format!("never: {}", by.unwrap().to_text(machine))
            }
            (Decision::CannotTell { missing, .. }, _) => format!("{missing:?}?"),
            (Decision::Nothing, _) => "nobody".into(),
        }
    }

    impl Meant {
        /// Of these of ours, under the key `ours`, and behind them these of others.
        pub(crate) fn of_lines(ours: &[&str], others: &[&str]) -> Meant {
            let mut kernel = loaded(&[], ours);
            kernel.extend(others.iter().map(|line| rule(line)));
            Meant::new(&kernel, &in_order(&planned(ours)))
        }
    }

    /// As the kernel has them: those of others first, then ours.
    fn loaded(others: &[&str], ours: &[&str]) -> Vec<Rule> {
        let planned = planned(ours);
        let mut rules: Vec<Rule> = others.iter().map(|line| rule(line)).collect();
        for rule in in_order(&planned).iter().filter_map(|one| one.way.in_kernel()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
        rules
    }

    #[test]
    fn rules_that_are_one_to_the_kernel_are_told_apart() {
        let ours = [
            "-a always,exit -F arch=b64 -S open -F cont_path=/etc/shadow -k files",
            "-a always,exit -F arch=b64 -S open -F cont_path=/etc/passwd -k files",
            "-a always,exit -F arch=b64 -S open -F contid=6 -k six",
        ];
        let kernel = loaded(&[], &ours);
        assert_eq!(kernel.len(), 2);
        let asked = |contid, name| asked(&kernel, &ours, "ours files", contid, name);
        assert_eq!(asked(5, "/etc/shadow"), "files");
        assert_eq!(asked(5, "/etc/passwd"), "files");
        assert_eq!(asked(5, "/etc/group"), "nobody");
        // The kernel finds the first alone, and the third asks for it.
        assert_eq!(asked(6, "/etc/group"), "six");
        assert_eq!(asked(6, "/etc/passwd"), "files");
    }

    #[test]
    fn what_the_kernel_has_asked_is_not_asked_again() {
        let ours = ["-a always,exit -F arch=b64 -S open -F perm=wa -F contid=5 -k mine"];
        // By the texts nobody knows whether this is the file.
        let watch = "-w /etc/hostname -p wa -k theirs";
        let before = loaded(&[watch], &ours);
        assert_eq!(asked(&before, &ours, "ours mine", 5, "/etc/group"), "mine");
        assert_eq!(asked(&before, &ours, "ours mine", 6, "/etc/group"), "nobody");
        // Behind ours the kernel has not looked.
        let mut behind = before.clone();
        behind.rotate_left(1);
        assert_eq!(asked(&behind, &ours, "ours mine", 6, "/etc/group"), "Path?");
        assert_eq!(asked(&behind, &ours, "ours mine", 6, "/etc/hostname"), "theirs");
        // One without a key may have been found after ours, whose key the record then has.
        let silent = loaded(&["-a always,exit -F path=/etc/hostname -F perm=wa"], &ours);
        assert_eq!(asked(&silent, &ours, "ours mine", 6, "/etc/hostname"), "");
        // Keys that no rule has any more: everything is asked.
        assert_eq!(asked(&before, &ours, "ours former", 5, "/etc/group"), "Path?");
    }

    #[test]
    fn in_front_is_in_front_for_the_engine_too() {
        let ours = [
            "-a always,exit -F arch=b64 -S open -k o",
            "-a always,exit -F arch=b64 -S unlink -F contid=7 -k u",
            "-A never,exit -F contid=5",
            "-A always,exit -F arch=b64 -S rename -k r",
        ];
        let kernel = loaded(&[], &ours);
        let asked = |keys, contid| asked(&kernel, &ours, keys, contid, "/x");
        assert_eq!(asked("ours o", 6), "ours\u{1}o");
        assert!(asked("ours o", 5).starts_with("never: "));
        // That in front of all stays there.
        assert_eq!(asked("ours r", 5), "ours\u{1}r");
        assert_eq!(asked("ours u", 6), "nobody");
        assert_eq!(asked("ours u", 7), "u");
    }

    #[test]
    fn a_message_that_a_rule_in_the_kernel_asks_for_is_nobodys_to_drop() {
        let line = "type=USER_CMD msg=audit(1.000:2): pid=7 uid=0 auid=0 ses=1 msg='x'";
        let line = Line::parse(line.as_bytes()).unwrap();
        let mut facts = Facts::of_message(&line);
        facts.container = Fact::Known(5);
        let ours = ["-a never,user -F contid=5", "-a always,exclude -F contid=5 -F msgtype=USER"];
        for (others, dropped) in [
            (&["-a always,user -F uid=0"][..], false),
            (&["-a always,user -F uid=1"], true),
            // It was let pass, whatever the texts say.
            (&["-a never,user -F uid=0"], true),
            (&[], true),
        ] {
            let planned = planned(&ours);
            let kernel = loaded(others, &ours);
            let decided = Meant::new(&kernel, &in_order(&planned)).of_message(List::User, &facts);
            let is_dropped = matches!(decided, Decision::Rule { action: Action::Never, .. });
            assert_eq!(is_dropped, dropped, "{others:?} {decided:?}");
        }
    }
}
