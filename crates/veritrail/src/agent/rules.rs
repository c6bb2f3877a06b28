//! The agent's audit rules: what the kernel is told, what is told of it, and what the engine decides
//! where the kernel cannot.

use std::time::{Duration, Instant};

use policy::audit::{Action, Decision, Fact, Facts, List, Rule};
use record::units::ContId;
use record::write::Body;
use record::{Line, RecordType};
use serde::{Deserialize, Serialize};
use trail::{Class, Field};

use super::heard::Heard;
use super::journal::{Journal, OwnRecord};
use crate::config::Config;
use crate::rules::{Change, Installed, Meant, State, Way, keys};

/// The tail of what we write ourselves.
const OURS: &[Field<'static>] = &[Field { name: "VT_SRC", value: "engine" }];

/// So many changes are told of one by one.
const TOLD: usize = 1000;

/// How often it is looked whether our rules are still there: a removal is heard of only where auditing is on.
const LOOK: Duration = Duration::from_secs(30);

/// How often at most rules are brought back: another tool may do as we do.
const BACK: Duration = Duration::from_secs(10);

/// The rules of this agent.
pub(super) struct Rules {
    installed: Installed,
    /// What the engine has to ask; none where the kernel evaluates everything.
    engine: Option<Meant>,
    /// Somebody has changed a rule since.
    stale: bool,
    looked: Instant,
    loaded: Instant,
    key: Vec<u8>,
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

impl Rules {
    /// Of this configuration.
    pub(super) fn new(config: &Config) -> Rules {
        let key = config.rules_key();
        Rules {
            installed: Installed::open(config.rules_dir(), key),
            engine: None,
            stale: false,
            looked: Instant::now(),
            loaded: Instant::now(),
            key: key.as_bytes().to_vec(),
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
        self.loaded = Instant::now();
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

    /// Follows what others have changed meanwhile. True where rules of ours are to be loaded again: a tool that
    /// loads its own (augenrules, `auditctl -D`) takes away those of everybody.
    pub(super) fn tick(&mut self) -> bool {
        if std::mem::take(&mut self.stale) || self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            self.installed.count();
            self.refresh();
        }
        self.installed.has_lost() && self.loaded.elapsed() >= BACK
    }

    pub(super) fn status(&self) -> Status {
        self.status.clone()
    }

    /// What is to become of an event. What somebody else asked for is kept, and what is in doubt.
    pub(super) fn judge(&mut self, heard: &Heard, whose: Whose) -> Verdict {
        let lines = || heard.lines.iter().filter_map(|line| Line::parse(line).ok());
        self.stale |= heard.changes_rules;
        let Some(meant) = &self.engine else { return Verdict::KEEP };
        if heard.class == Class::Integrity {
            return Verdict::KEEP;
        }
        let (decided, asked_by) = match lines()
            .find(|line| line.record_type() == RecordType::SYSCALL)
        {
            Some(call) => {
                let value = call.fields().find_value(b"key");
                let found = value.and_then(|value| value.untrusted());
                let Some(found) = found else { return Verdict::KEEP };
                let Some(rest) = behind_mark(&found, &self.key) else { return Verdict::KEEP };
                let facts = with_container(Facts::of_call(lines()), whose);
                let (decided, by) = meant.of_call(&found, &facts);
                let asked_by = by.map(keys).and_then(|keys| {
                    let keys = behind_mark(&keys, &self.key).unwrap_or(&keys);
                    (keys != rest).then(|| keys.to_vec())
                });
                (decided, asked_by)
            }
            None => {
                let mut all = lines();
                let (Some(message), None) = (all.next(), all.next()) else { return Verdict::KEEP };
                match of_message(meant, &message, whose) {
                    Decision::Nothing => return Verdict::KEEP,
                    decided => (decided, None),
                }
            }
        };
        match decided {
            Decision::Rule { action: Action::Always, .. } => Verdict::Keep { asked_by },
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
                Verdict::KEEP
            }
        }
    }

    fn refresh(&mut self) {
        self.engine = self.installed.meant();
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep {
        /// The keys of the rule that asks for it, in one piece, where the record has those of another one.
        asked_by: Option<Vec<u8>>,
    },
    Drop,
    /// A rule asks for the container.
    Wait,
}

impl Verdict {
    pub(super) const KEEP: Verdict = Verdict::Keep { asked_by: None };
}

/// Of keys in one piece, those behind our mark; none where they are not ours.
fn behind_mark<'a>(keys: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    match keys.strip_prefix(mark)?.split_first() {
        None => Some(&[]),
        Some((&Rule::KEY_SEPARATOR, rest)) => Some(rest),
        Some(_) => None,
    }
}

fn with_container(mut facts: Facts<'_>, whose: Whose) -> Facts<'_> {
    if let (Fact::Unknown, Whose::Known(id, maker)) = (&facts.container, whose) {
        facts.container = Fact::Known(id.0);
        facts.made_by = maker.map(|maker| maker.0);
    }
    facts
}

/// A record that stands alone.
fn of_message(meant: &Meant, line: &Line<'_>, whose: Whose) -> Decision {
    let facts = with_container(Facts::of_message(line), whose);
    let excluded = meant.of_message(List::Exclude, &facts);
    let is_message = line.effective_type().is_user_message();
    match excluded {
        Decision::Nothing if is_message => meant.of_message(List::User, &facts),
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

    use super::*;

    /// With these of ours, and behind them these of others, as if they were loaded.
    fn rules(engine: Option<(&[&str], &[&str])>) -> Rules {
        Rules {
            installed: Installed::open(Path::new("/nowhere"), "ours"),
            engine: engine.map(|(ours, others)| Meant::of_lines(ours, others)),
            stale: false,
            looked: Instant::now(),
            loaded: Instant::now(),
            key: b"ours".to_vec(),
            status: Status::default(),
            clock: Clock::default(),
        }
    }

    impl Rules {
        fn keep(&mut self, heard: &Heard) -> bool {
            matches!(self.judge(heard, Whose::Unknown), Verdict::Keep { .. })
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
        let mut engine =
            rules(Some((&["-a always,exit -F arch=b64 -S open -F contid=5 -k k"], &[])));
        assert!(engine.keep(&call(ours, Some("5"))));
        assert!(!engine.keep(&call(ours, Some("6"))));
        assert!(engine.keep(&call(ours, None)), "nobody knows the container");
        assert!(engine.keep(&call("\"theirs\"", Some("6"))), "somebody else's");
        assert!(engine.keep(&call("(null)", Some("6"))));
        assert_eq!((engine.status.dropped, engine.status.undecided), (1, 1));
        // Without a rule for it, nothing is looked at.
        assert!(rules(None).keep(&call(ours, Some("6"))));
        // A broader rule of ours stands in front of another's, which would ask for it too.
        let mut both = rules(Some((
            &["-a always,exit -F arch=b64 -S open -F contid=5 -k k"],
            &["-a always,exit -F arch=b64 -S open -F uid=0 -k theirs"],
        )));
        let theirs = Verdict::Keep { asked_by: Some(b"theirs".to_vec()) };
        assert_eq!(both.judge(&call(ours, Some("6")), Whose::Unknown), theirs);
        assert_eq!(both.judge(&call(ours, Some("5")), Whose::Unknown), Verdict::KEEP);
        let mut never = rules(Some((
            &["-a never,exit -F contid=6", "-a always,exit -F arch=b64 -S open"],
            &[],
        )));
        assert!(!never.keep(&call("\"ours\"", Some("6"))));
        assert!(never.keep(&call("\"ours\"", Some("7"))));
    }

    #[test]
    fn a_rule_that_asks_for_the_container_waits_for_it() {
        let mut engine =
            rules(Some((&["-a always,exit -F arch=b64 -S open -F contid=5 -k k"], &[])));
        let heard = call("6F757273016B", None);
        assert_eq!(engine.judge(&heard, Whose::NotYet), Verdict::Wait);
        for (id, verdict) in
            [(ContId(5), Verdict::KEEP), (ContId(6), Verdict::Drop), (ContId::UNSET, Verdict::Drop)]
        {
            assert_eq!(engine.judge(&heard, Whose::Known(id, None)), verdict, "{id}");
        }
        assert_eq!(engine.judge(&heard, Whose::Unknown), Verdict::KEEP);
        assert_eq!((engine.status.dropped, engine.status.undecided), (2, 1));
    }

    #[test]
    fn a_rule_for_a_program_inside_containers_waits_for_the_container_too() {
        let line = "-a always,exit -F arch=b64 -S open -F cont_exe=/usr/bin/nc -k k";
        let mut engine = rules(Some((&[line], &[])));
        let heard = |exe: &str| {
            let mut heard = call("6F757273016B", None);
            heard.lines[0].extend(format!(" exe=\"{exe}\"").into_bytes());
            heard
        };
        for (exe, whose, verdict) in [
            ("/usr/bin/nc", Whose::NotYet, Verdict::Wait),
            ("/usr/bin/nc", Whose::Known(ContId(5), None), Verdict::KEEP),
            ("/usr/bin/nc", Whose::Known(ContId::UNSET, None), Verdict::Drop),
            ("/usr/bin/nc", Whose::Unknown, Verdict::KEEP),
            ("/usr/bin/cat", Whose::NotYet, Verdict::Drop),
        ] {
            assert_eq!(engine.judge(&heard(exe), whose), verdict, "{exe} {whose:?}");
        }
    }

    #[test]
    fn of_the_clocks_calls_those_are_kept_that_changed_it_or_somebody_asked_for() {
        // Ours for these calls asks for nothing of itself.
        let ours = "6F75727301636C6F636B";
        let mut engine = rules(Some((&[], &[])));
        assert!(!engine.keep(&call(ours, None)));
        let mut changed = call(ours, None);
        changed.class = Class::Integrity;
        assert!(engine.keep(&changed));
        let line = "-a always,exit -F arch=b64 -S open -F uid=0 -k theirs";
        let mut asked = rules(Some((&[], &[line])));
        assert!(asked.keep(&call(ours, None)));
    }

    #[test]
    fn a_message_is_dropped_only_where_a_rule_says_so() {
        let message = |text: &str| Heard::of_netlink(&[text]);
        let text = "type=USER_CMD msg=audit(1.000:2): pid=7 uid=0 auid=0 ses=1 msg='x'";
        let mut engine = rules(Some((
            &["-a never,user -F contid=5", "-a always,exclude -F contid=5 -F msgtype=USER"],
            &[],
        )));
        assert!(engine.keep(&message(text)));
        assert_eq!((engine.status.dropped, engine.status.undecided), (0, 1));
        assert!(!engine.stale);
        assert!(
            engine.keep(&message("type=CONFIG_CHANGE msg=audit(1.000:2): op=add_rule key=(null)"))
        );
        assert!(engine.stale);
    }
}
