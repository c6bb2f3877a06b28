//! The agent's audit rules: what the kernel is told, what is told of it, and what the engine decides
//! where the kernel cannot.

use policy::audit::{Action, Decision, Fact, Facts, List, Rule, decide};
use record::units::ContId;
use record::value::{Value, push_hex};
use record::write::Body;
use record::{Line, RecordType};
use serde::{Deserialize, Serialize};
use trail::{Class, Field};

use super::heard::Heard;
use super::journal::{Journal, OwnRecord};
use crate::config::Config;
use crate::rules::{Change, Installed, State, Way};

/// The tail of what we write ourselves.
const OURS: &[Field<'static>] = &[Field { name: "VT_SRC", value: "engine" }];

/// So many changes are told of one by one.
const TOLD: usize = 1000;

/// The rules of this agent.
pub(super) struct Rules {
    installed: Installed,
    /// The exit list as it is meant, and what of the lists for messages the engine evaluates; none
    /// where the kernel evaluates everything.
    engine: Option<Vec<Rule>>,
    /// Somebody has changed a rule since.
    stale: bool,
    key: Key,
    status: Status,
    clock: Clock,
}

/// Rules of our own for the calls that change the clock.
#[derive(Debug, Default)]
struct Clock {
    /// By the configuration.
    allowed: bool,
    /// Nothing else shows the calls.
    wanted: bool,
    /// Whether auditing was on when they were loaded or not: where it is off they would be good for nothing,
    /// and it is not for us to switch it on beside somebody else.
    auditing: bool,
    /// Why there are none, or the kernel has not all of them.
    lacking: Option<String>,
}

/// How the rules are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The first key of what is ours in the kernel.
    pub(crate) key: String,
    /// Rules of ours in the kernel.
    pub(crate) in_kernel: u64,
    /// Rules that the engine evaluates.
    pub(crate) in_engine: u64,
    pub(crate) refused: u64,
    /// The first of these, and why.
    pub(crate) first_refusal: Option<String>,
    /// Events that the kernel's rules ask for and ours, as they are written, do not.
    pub(crate) dropped: u64,
    /// Events of which this cannot be told; they are kept.
    pub(crate) undecided: u64,
}

/// Our key as records have it.
struct Key {
    /// Alone.
    plain: Vec<u8>,
    /// With others behind it, in hexadecimal.
    with_others: Vec<u8>,
}

impl Key {
    fn new(key: &str) -> Key {
        let mut with_others = Vec::new();
        push_hex(&mut with_others, key.as_bytes());
        push_hex(&mut with_others, &[Rule::KEY_SEPARATOR]);
        Key { plain: key.as_bytes().to_vec(), with_others }
    }

    fn is_in(&self, call: &Line<'_>) -> bool {
        match call.fields().find_value(b"key") {
            Some(Value::Quoted(key)) => key == self.plain,
            Some(Value::Literal(key)) => key.starts_with(&self.with_others),
            Some(Value::Single(_)) | None => false,
        }
    }
}

impl Rules {
    /// Of this configuration.
    pub(super) fn new(config: &Config) -> Rules {
        let key = config.rules_key();
        Rules {
            installed: Installed::open(config.rules_dir(), key),
            engine: None,
            stale: false,
            key: Key::new(key),
            status: Status { key: key.to_owned(), ..Status::default() },
            clock: Clock { allowed: config.has_clock_rules(), ..Clock::default() },
        }
    }

    /// Whether calls that change the clock are to be seen by rules from the next load on.
    pub(super) fn want_clock(&mut self, wanted: bool) {
        self.clock.wanted = wanted;
    }

    /// Whether that auditing is on now, or off, asks for another load.
    pub(super) fn depends_on_auditing(&self, on: bool) -> bool {
        self.clock.wanted && self.clock.allowed && self.clock.auditing != on
    }

    /// Why the calls that change the clock are not seen by rules, where they are to be.
    pub(super) fn clock_is_unseen(&self) -> Option<&str> {
        self.clock.lacking.as_deref().filter(|_| self.clock.wanted)
    }

    /// Has the kernel follow what the files say now. `own` are this agent's processes, as audit numbers
    /// them.
    pub(super) fn load(&mut self, own: &[u32], journal: &mut Journal) {
        let why_no_clock = self.why_no_clock();
        let changes = self.installed.load(own, self.clock.wanted && why_no_clock.is_none());
        tell(&changes, journal);
        let refused: Vec<&Change> =
            changes.iter().filter(|change| change.state == State::Refused).collect();
        self.status.refused = refused.len() as u64;
        self.status.first_refusal = refused.first().map(|change| {
            let place = if change.place.is_empty() { &change.rule } else { &change.place };
            format!("{place}: {}", change.reason.as_deref().unwrap_or_default())
        });
        let evaluated = self.installed.planned().iter().filter(|planned| match &planned.way {
            Way::Kernel { whole, .. } => whole.is_some(),
            Way::Engine(_) => true,
            Way::Sight(_) | Way::Refused(_) => false,
        });
        self.status.in_engine = evaluated.count() as u64;
        self.clock.lacking = why_no_clock.or_else(|| {
            let refused = refused.iter().find(|change| self.installed.is_for_clock(&change.rule));
            refused.map(|change| change.reason.clone().unwrap_or_default())
        });
        self.refresh();
    }

    /// Why the clock's calls are not to be seen by rules.
    fn why_no_clock(&mut self) -> Option<String> {
        let auditing = self.installed.is_auditing();
        self.clock.auditing = auditing == Ok(true);
        match auditing {
            _ if !self.clock.allowed => Some("rules.clock is off".into()),
            Ok(true) => None,
            Ok(false) => Some("auditing is off".into()),
            Err(why) => Some(why),
        }
    }

    /// Takes our rules out of the kernel. What they asked for until then is still on its way, and judged by them.
    pub(super) fn remove(&mut self, journal: &mut Journal) {
        tell(&self.installed.remove(), journal);
        self.status.in_kernel = self.installed.in_kernel() as u64;
    }

    /// Follows what others have changed meanwhile.
    pub(super) fn tick(&mut self) {
        if std::mem::take(&mut self.stale) {
            self.installed.count();
            self.refresh();
        }
    }

    pub(super) fn status(&self) -> Status {
        self.status.clone()
    }

    /// What is to become of an event. What somebody else asked for is kept, and what is in doubt.
    pub(super) fn judge(&mut self, heard: &Heard, whose: Whose) -> Verdict {
        let Some(rules) = &self.engine else { return Verdict::Keep };
        let lines = || heard.lines.iter().filter_map(|line| Line::parse(line).ok());
        if lines().any(|line| line.record_type() == RecordType::CONFIG_CHANGE) {
            self.stale = true;
        }
        if heard.class == Class::Integrity {
            return Verdict::Keep;
        }
        let decided = match lines().find(|line| line.record_type() == RecordType::SYSCALL) {
            Some(call) if self.key.is_in(&call) => {
                decide(rules, List::Exit, &with_container(Facts::of_call(lines()), whose))
            }
            Some(_) => return Verdict::Keep,
            None => {
                let mut all = lines();
                let (Some(message), None) = (all.next(), all.next()) else { return Verdict::Keep };
                match of_message(rules, &message, whose) {
                    Decision::Nothing => return Verdict::Keep,
                    decided => decided,
                }
            }
        };
        match decided {
            Decision::Rule { action: Action::Always, .. } => Verdict::Keep,
            Decision::Rule { action: Action::Never, .. } | Decision::Nothing => {
                self.status.dropped += 1;
                Verdict::Drop
            }
            Decision::CannotTell { missing, .. }
                if whose == Whose::NotYet && missing.is_beyond_kernels() =>
            {
                Verdict::Wait
            }
            Decision::CannotTell { .. } => {
                self.status.undecided += 1;
                Verdict::Keep
            }
        }
    }

    fn refresh(&mut self) {
        self.engine = self.installed.for_engine();
        self.status.in_kernel = self.installed.in_kernel() as u64;
        if self.clock.wanted && self.clock.lacking.is_none() && !self.installed.sees_clock() {
            self.clock.lacking = Some("somebody has removed our rules".into());
        }
    }
}

/// What is known of the container of whoever did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// It will be.
    NotYet,
    /// It is this one, or none; and who made it under a grant.
    Known(ContId, Option<ContId>),
    /// Nobody knows, or not for certain.
    Unknown,
}

/// What is to become of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    Drop,
    /// A rule asks for the container.
    Wait,
}

fn with_container(mut facts: Facts<'_>, whose: Whose) -> Facts<'_> {
    if let (Fact::Unknown, Whose::Known(id, maker)) = (&facts.container, whose) {
        facts.container = Fact::Known(id.0);
        facts.made_by = maker.map(|maker| maker.0);
    }
    facts
}

/// A record that stands alone.
fn of_message(rules: &[Rule], line: &Line<'_>, whose: Whose) -> Decision {
    let facts = with_container(Facts::of_message(line), whose);
    let excluded = decide(rules, List::Exclude, &facts);
    let is_message = matches!(line.effective_type().0, 1005 | 1100..=1199 | 2100..=2999);
    match excluded {
        Decision::Nothing if is_message => decide(rules, List::User, &facts),
        excluded => excluded,
    }
}

fn tell(changes: &[Change], journal: &mut Journal) {
    for change in changes.iter().take(TOLD) {
        let mut body = Body::new().word("state", change.state.word());
        if !change.rule.is_empty() {
            body = body.untrusted("rule", change.rule.as_bytes());
        }
        if !change.place.is_empty() {
            body = body.untrusted("file", change.place.as_bytes());
        }
        if let Some(reason) = &change.reason {
            body = body.phrase("reason", reason);
        }
        journal.own(&[OwnRecord("VT_RULE", body)], OURS);
    }
    let untold = changes.len().saturating_sub(TOLD);
    if untold > 0 {
        let body = Body::new().word("state", "untold").word("rules", untold);
        journal.own(&[OwnRecord("VT_RULE", body)], OURS);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use policy::audit::Statement;

    use super::*;
    use crate::rules::Here;

    fn rule(line: &str) -> Rule {
        match Statement::parse(line, &Here::find().unwrap()).unwrap() {
            Statement::Change(change) => change.rule().clone(),
            other => panic!("{other:?}"),
        }
    }

    fn rules(engine: Option<&[&str]>) -> Rules {
        Rules {
            installed: Installed::open(Path::new("/nowhere"), "ours"),
            engine: engine.map(|lines| lines.iter().map(|line| rule(line)).collect()),
            stale: false,
            key: Key::new("ours"),
            status: Status::default(),
            clock: Clock::default(),
        }
    }

    impl Rules {
        fn keep(&mut self, heard: &Heard) -> bool {
            self.judge(heard, Whose::Unknown) == Verdict::Keep
        }
    }

    fn call(key: &str, contid: Option<&str>) -> Heard {
        let call = format!(
            "type=SYSCALL msg=audit(1.000:2): arch=c000003e syscall=2 success=yes exit=3 a0=0 a1=0 a2=0 a3=0 \
             items=0 ppid=1 pid=77 auid=0 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 ses=1 key={key}"
        );
        let record = contid.map(|id| format!("type=CONTAINER_ID msg=audit(1.000:2): contid={id}"));
        let lines: Vec<&str> = std::iter::once(&call).chain(&record).map(String::as_str).collect();
        let mut heard = Heard::of_netlink(&lines);
        // A record of a container counts as integrity; here it only says whose event it is.
        heard.class = Class::Keyed;
        heard
    }

    #[test]
    fn only_what_is_ours_alone_is_dropped_and_counted() {
        let ours = "6F757273016B";
        let mut engine = rules(Some(&["-a always,exit -F arch=b64 -S open -F contid=5 -k k"]));
        assert!(engine.keep(&call(ours, Some("5"))));
        assert!(!engine.keep(&call(ours, Some("6"))));
        assert!(engine.keep(&call(ours, None)), "nobody knows the container");
        assert!(engine.keep(&call("\"theirs\"", Some("6"))), "somebody else's");
        assert!(engine.keep(&call("(null)", Some("6"))));
        assert_eq!((engine.status.dropped, engine.status.undecided), (1, 1));
        // Without a rule for it, nothing is looked at.
        assert!(rules(None).keep(&call(ours, Some("6"))));
        // A broader rule of ours stands in front of another's, which would ask for it too.
        let mut both = rules(Some(&[
            "-a always,exit -F arch=b64 -S open -F contid=5 -k k",
            "-a always,exit -F arch=b64 -S open -F uid=0 -k theirs",
        ]));
        assert!(both.keep(&call(ours, Some("6"))));
        let mut never = rules(Some(&[
            "-a never,exit -F contid=6",
            "-a always,exit -F arch=b64 -S open -k ours",
        ]));
        assert!(!never.keep(&call("\"ours\"", Some("6"))));
        assert!(never.keep(&call("\"ours\"", Some("7"))));
    }

    #[test]
    fn a_rule_that_asks_for_the_container_waits_for_it() {
        let mut engine = rules(Some(&["-a always,exit -F arch=b64 -S open -F contid=5 -k k"]));
        let heard = call("6F757273016B", None);
        assert_eq!(engine.judge(&heard, Whose::NotYet), Verdict::Wait);
        for (id, verdict) in
            [(ContId(5), Verdict::Keep), (ContId(6), Verdict::Drop), (ContId::UNSET, Verdict::Drop)]
        {
            assert_eq!(engine.judge(&heard, Whose::Known(id, None)), verdict, "{id}");
        }
        assert_eq!(engine.judge(&heard, Whose::Unknown), Verdict::Keep);
        assert_eq!((engine.status.dropped, engine.status.undecided), (2, 1));
    }

    #[test]
    fn a_rule_for_a_program_inside_containers_waits_for_the_container_too() {
        let line = "-a always,exit -F arch=b64 -S open -F cont_exe=/usr/bin/nc -k k";
        let mut engine = rules(Some(&[line]));
        let heard = |exe: &str| {
            let mut heard = call("6F757273016B", None);
            heard.lines[0].extend(format!(" exe=\"{exe}\"").into_bytes());
            heard
        };
        for (exe, whose, verdict) in [
            ("/usr/bin/nc", Whose::NotYet, Verdict::Wait),
            ("/usr/bin/nc", Whose::Known(ContId(5), None), Verdict::Keep),
            ("/usr/bin/nc", Whose::Known(ContId::UNSET, None), Verdict::Drop),
            ("/usr/bin/nc", Whose::Unknown, Verdict::Keep),
            ("/usr/bin/cat", Whose::NotYet, Verdict::Drop),
        ] {
            assert_eq!(engine.judge(&heard(exe), whose), verdict, "{exe} {whose:?}");
        }
    }

    #[test]
    fn of_the_clocks_calls_those_are_kept_that_changed_it_or_somebody_asked_for() {
        // Ours for these calls asks for nothing of itself.
        let ours = "6F75727301636C6F636B";
        let mut engine = rules(Some(&[]));
        assert!(!engine.keep(&call(ours, None)));
        let mut changed = call(ours, None);
        changed.class = Class::Integrity;
        assert!(engine.keep(&changed));
        let mut asked = rules(Some(&["-a always,exit -F arch=b64 -S open -F uid=0 -k theirs"]));
        assert!(asked.keep(&call(ours, None)));
    }

    #[test]
    fn a_message_is_dropped_only_where_a_rule_says_so() {
        let message = |text: &str| Heard::of_netlink(&[text]);
        let text = "type=USER_CMD msg=audit(1.000:2): pid=7 uid=0 auid=0 ses=1 msg='x'";
        let mut engine = rules(Some(&[
            "-a never,user -F contid=5",
            "-a always,exclude -F contid=5 -F msgtype=USER",
        ]));
        assert!(engine.keep(&message(text)));
        assert_eq!((engine.status.dropped, engine.status.undecided), (0, 1));
        assert!(!engine.stale);
        assert!(
            engine.keep(&message("type=CONFIG_CHANGE msg=audit(1.000:2): op=add_rule key=(null)"))
        );
        assert!(engine.stale);
    }
}
