//! What of the files of rules goes into the kernel, in which form, and what does not.

use policy::audit::{Change, Condition, Field, InKernel, List, Operator, Rule, Statement, Value};

/// The process that no rule of ours is about: its number is larger than any process's. On the lists
/// for messages a key would end the kernel's search, so that there `pid!=` this marks our rules.
pub(crate) const MARK: u32 = 0x7665_7274;

const NO_DELETE: &str = "the agent removes no rule but its own, and these by itself";

/// A rule of the files, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Where it is written, as `FILE:LINE`.
    pub(crate) place: String,
    /// As it is written.
    pub(crate) text: String,
    pub(crate) way: Way,
    /// In front of the others.
    pub(crate) front: bool,
}

/// What becomes of a line of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The kernel gets a rule for it.
    Kernel {
        /// With our mark.
        marked: Box<Rule>,
        /// As it is written: what the engine evaluates, where the kernel's is broader.
        whole: Option<Box<Rule>>,
    },
    /// The kernel gets it, with our mark, for records of a kind that is always kept; beside these it
    /// asks for nothing (clock.rs).
    Sight(Box<Rule>),
    /// The engine evaluates it alone.
    Engine(Box<Rule>),
    /// Nothing, for this reason.
    Refused(String),
}

impl Way {
    /// The rule that the kernel gets.
    pub(super) fn in_kernel(&self) -> Option<&Rule> {
        match self {
            Way::Kernel { marked, .. } | Way::Sight(marked) => Some(marked),
            Way::Engine(_) | Way::Refused(_) => None,
        }
    }

    /// The list that it stands on, wherever it is evaluated.
    pub(super) fn list(&self) -> Option<List> {
        match self {
            Way::Kernel { marked: rule, .. } | Way::Sight(rule) | Way::Engine(rule) => {
                Some(rule.list())
            }
            Way::Refused(_) => None,
        }
    }

    /// Whether the engine has to look at what comes of it.
    pub(super) fn is_for_engine(&self) -> bool {
        match self {
            Way::Kernel { whole, .. } => whole.is_some(),
            Way::Engine(_) | Way::Sight(_) => true,
            Way::Refused(_) => false,
        }
    }
}

impl Planned {
    /// What becomes of this line; none of what means nothing here.
    pub(crate) fn of(
        place: String,
        text: String,
        statement: &Statement,
        key: &str,
    ) -> Option<Planned> {
        let refused = |why: &str| Way::Refused(why.to_owned());
        let mut front = false;
        let way = match statement {
            Statement::Nothing | Statement::Continue | Statement::Ignore => return None,
            Statement::Change(change) => match &**change {
                Change::Append(rule) => way(rule, key),
                Change::Prepend(rule) => {
                    front = true;
                    way(rule, key)
                }
                Change::Delete(_) => refused(NO_DELETE),
            },
            Statement::DeleteAll { .. } => refused(NO_DELETE),
            Statement::Set(_) | Statement::FreezeLoginUid => {
                refused("the agent changes no setting for a rule: use veritrail.toml or auditctl")
            }
            _ => refused("this is no rule"),
        };
        Some(Planned { place, text, way, front })
    }
}

fn way(rule: &Rule, key: &str) -> Way {
    let (known, whole) = match rule.in_kernel() {
        InKernel::Whole => (rule.clone(), None),
        InKernel::Broader(broader) if broader.is_for_everything() => {
            return Way::Refused(
                "without contid and cont_..., which no kernel knows, it would record every call of every \
                 process: add -S or another condition"
                    .into(),
            );
        }
        InKernel::Broader(broader) => (*broader, Some(Box::new(rule.clone()))),
        InKernel::Nothing => return Way::Engine(Box::new(rule.clone())),
    };
    match marked(&known, key) {
        Ok(marked) => Way::Kernel { marked: Box::new(marked), whole },
        Err(why) => Way::Refused(why),
    }
}

/// The rule with our mark.
pub(crate) fn marked(rule: &Rule, key: &str) -> Result<Rule, String> {
    if !matches!(rule.list(), List::User | List::Exclude) {
        return rule.with_key(key.as_bytes()).map_err(|error| error.to_string());
    }
    if rule.keys().next().is_some() {
        return Err(format!("a key ends the kernel's search of the {} list", rule.list().name()));
    }
    if rule.conditions().is_empty() {
        return Err("the kernel matches nothing by a rule without conditions on this list".into());
    }
    rule.with_condition(mark()).map_err(|error| error.to_string())
}

fn mark() -> Condition {
    Condition { field: Field::Pid, operator: Operator::NotEqual, value: Value::Number(MARK) }
}

/// Whether a rule of the kernel's is one that an agent with this key installed.
pub(crate) fn is_ours(rule: &Rule, key: &str) -> bool {
    match rule.list() {
        List::User | List::Exclude => rule.conditions().last() == Some(&mark()),
        _ => rule.keys().next() == Some(key.as_bytes()),
    }
}

/// The order in which they stand if they are added one after the other: what was put in front before what was put
/// behind.
pub(crate) fn in_order(planned: &[Planned]) -> Vec<&Planned> {
    let (front, behind): (Vec<&Planned>, Vec<&Planned>) = planned.iter().partition(|one| one.front);
    front.into_iter().rev().chain(behind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Here;

    fn planned(line: &str) -> Planned {
        let statement = Statement::parse(line, &Here::find().unwrap()).unwrap();
        Planned::of("x.rules:1".into(), line.into(), &statement, "ours").unwrap()
    }

    #[test]
    fn what_the_kernel_gets_of_a_line() {
        use policy::audit::Context as _;
        let machine = Here::find().unwrap().machine();
        for (line, kernel) in [
            ("-w /etc/passwd -p wa", "-w /etc/passwd -p wa -k ours"),
            ("-w /etc/passwd -p wa -k pw -k x", "-w /etc/passwd -p wa -k ours -k pw -k x"),
            (
                "-a always,exit -F key=b -F uid=3 -k c",
                "-a always,exit -S all -F uid=3 -F key=ours -F key=b -F key=c",
            ),
            ("-a never,user -F uid=3", "-a never,user -F uid=3 -F pid!=1986359924"),
            (
                "-a always,exclude -F msgtype=PROCTITLE",
                "-a always,exclude -F msgtype=PROCTITLE -F pid!=1986359924",
            ),
            (
                "-a always,exit -S open -F contid=5 -F uid=3 -k c",
                "-a always,exit -S open -F uid=3 -F key=ours -F key=c",
            ),
            (
                "-a always,exit -S open -F cont_dir=/srv -F contid=set -F perm=w -k c",
                "-a always,exit -S open -F perm=w -F key=ours -F key=c",
            ),
        ] {
            let Way::Kernel { marked, whole } = planned(line).way else { panic!("{line}") };
            assert_eq!(marked.to_text(machine), kernel, "{line}");
            assert_eq!(whole.is_some(), line.contains("cont"), "{line}");
            // On the lists for messages nothing says which agent's it is.
            let of_messages = line.contains(",user") || line.contains(",exclude");
            assert!(is_ours(&marked, "ours"), "{line}");
            assert_eq!(is_ours(&marked, "other"), of_messages, "{line}");
        }
        let lines =
            ["-a always,exit -S open", "-A always,exit -S read", "-A never,exit -F contid=5"];
        let all = lines.map(planned);
        let order: Vec<&str> = in_order(&all).iter().map(|one| one.text.as_str()).collect();
        assert_eq!(order, [lines[2], lines[1], lines[0]]);
        for line in [
            "-a never,exit -F contid=5",
            "-a never,exit -F cont_exe=/usr/bin/noisy",
            "-a never,user -F contid=5",
            "-a always,exclude -F contid>5",
        ] {
            assert!(matches!(planned(line).way, Way::Engine(_)), "{line}");
        }
    }

    #[test]
    fn what_is_not_done_says_why() {
        for (line, why) in [
            ("-D", "no rule but its own"),
            ("-d always,exit -S open", "no rule but its own"),
            ("-D -k x", "no rule but its own"),
            ("-e 2", "no setting"),
            ("-b 8192 -f 2", "no setting"),
            ("-l", "no rule"),
            ("-a always,exit -F contid=5", "every call of every process"),
            ("-a always,exit -F cont_path=/etc/shadow", "every call of every process"),
            ("-a always,exit -F arch=b64 -F contid!=5 -k x", "every call of every process"),
            ("-a always,exclude", "matches nothing"),
        ] {
            let Way::Refused(reason) = planned(line).way else { panic!("{line}") };
            assert!(reason.contains(why), "{line}: {reason}");
        }
        let long = format!("-w /etc/passwd -k {}", "x".repeat(252));
        assert!(matches!(planned(&long).way, Way::Refused(_)));
    }
}
