//! What auditctl's options ask for, done as it does it.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use host::audit::{Control, OnFailure, Status};
use policy::audit::{Change, Context, InKernel, Rule, Setting, Signal, Statement};
use rustix::process::Pid;
use rustix::thread::CapabilitySet;

use super::list::{has, listed};
use super::{message, refused};
use crate::outcome::{Failure, Kind, Outcome};
use crate::rules::{Fault, Here, Placed, RulesFile, Trust, warn};
use crate::verbs::search::Host;

/// `AUDIT_USER`: what -m sends.
const USER: u16 = 1005;

const USAGE: &str = "usage: auditctl OPTION...
  -a LIST,ACTION      append a rule: user task exit exclude filesystem io_uring; always never
  -A LIST,ACTION      the same in front of the others
  -d LIST,ACTION      delete the rule
  -S CALL             of these system calls, by name or number
  -F FIELD=VALUE      where this holds (= != < <= > >= & &=)
  -C FIELD=FIELD      where these are equal (= !=)
  -w PATH, -W PATH    watch a file or directory, or do not
  -p rwxa             for reading, writing, executing, changing attributes
  -k KEY              what the records are found by
  -l [-i | -k KEY]    list rules
  -D [-k KEY]         delete rules
  -R FILE             do what is in the file; -c and -i in it go on behind errors
  -s [-i]             status
  -e 0|1|2            off, on, locked until the next boot
  -f 0|1|2            where a record is lost: nothing, log, panic
  -b N, -r N          records that may wait; records in a second
  --backlog_wait_time N   how long who makes one then sleeps
  --reset-lost, --reset_backlog_wait_time_actual   counters to zero
  --loginuid-immutable    login uids cannot be set again
  -m TEXT             send a message
  -t                  trim watched trees
  -q MOUNT,SUBTREE    watch the subtree as the mount
  --signal SIGNAL     to the audit daemon
  -v, -h              version, help";

/// Does what a command line says, without the name of the program.
pub(super) fn run(
    words: &[OsString],
    as_auditctl: bool,
    out: &mut dyn Write,
) -> Result<Outcome, Failure> {
    if words.is_empty() {
        writeln!(out, "{USAGE}")?;
        return Ok(Outcome::No);
    }
    if as_auditctl && !may_ask(words) {
        say("You must be root to run this program.");
        return Err(Failure::passed_on(NO_RIGHT));
    }
    let bytes: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let line = Statement::line(&bytes)
        .ok_or_else(|| Failure::new(Kind::Usage, "one of the words is empty"))?;
    let here = Here::find()?;
    let statement = match Statement::parse(&line, &here) {
        Ok(statement) => statement,
        Err(error) => {
            let fault = Fault::new("command line", 1, &line, &error);
            let mut text = Vec::new();
            // Writing to memory does not fail.
            let _ = fault.print(&mut text);
            let text = String::from_utf8_lossy(&text).trim_end().to_owned();
            if as_auditctl && fault.is_passed_over {
                say(&text);
                return Ok(Outcome::Good);
            }
            return Err(Failure::new(Kind::Usage, text));
        }
    };
    match &statement {
        // What stands on no line asks the kernel for nothing.
        Statement::Nothing | Statement::Continue | Statement::Ignore => return Ok(Outcome::Good),
        Statement::Help => {
            writeln!(out, "{USAGE}")?;
            return Err(Failure::passed_on(255));
        }
        Statement::Version => {
            writeln!(out, "auditctl of veritrail {}", env!("CARGO_PKG_VERSION"))?;
            return Ok(Outcome::Good);
        }
        _ => {}
    }
    warn("command line", &statement, &here);
    let mut control = Control::open().map_err(refused)?;
    if as_auditctl && changes_rules(&statement) && control.status().map_err(refused)?.is_locked() {
        say("The audit system is in immutable mode, no rule changes allowed");
        return Ok(Outcome::Good);
    }
    let mut performer = Performer::new(here, control);
    match &statement {
        Statement::Read(path) => performer.read(Path::new(OsStr::from_bytes(path)), out),
        statement => performer.perform(statement, out),
    }
}

/// What auditctl exits with where it lacks a right.
const NO_RIGHT: u8 = 4;

/// Whether auditctl goes on: with the right to change audit, or for what it does without.
fn may_ask(words: &[OsString]) -> bool {
    let capable = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::AUDIT_CONTROL));
    let is_root = rustix::process::geteuid().is_root();
    let is_free = |word: &OsString| word == "-h" || word == "--help" || (word == "-l" && is_root);
    capable || matches!(words, [word] if is_free(word))
}

/// Whether auditctl does nothing, and is content, where audit is locked (-e 2).
fn changes_rules(statement: &Statement) -> bool {
    matches!(statement, Statement::Change(_) | Statement::Read(_))
}

fn say(what: &str) {
    // Nobody is left to tell if standard error is gone.
    let _ = writeln!(io::stderr(), "{what}");
}

/// Where in which file something stands.
pub(super) fn in_line(file: &str, placed: &Placed) -> String {
    format!("{file}:{}: {}", placed.line, placed.text)
}

/// Does it to the running kernel.
pub(super) struct Performer {
    here: Here,
    control: Control,
}

impl Performer {
    pub(super) fn new(here: Here, control: Control) -> Performer {
        Performer { here, control }
    }

    pub(super) fn perform(
        &mut self,
        statement: &Statement,
        out: &mut dyn Write,
    ) -> Result<Outcome, Failure> {
        match statement {
            Statement::Nothing | Statement::Continue | Statement::Ignore => {}
            Statement::Change(change) => self.change(change)?,
            Statement::DeleteAll { key } => self.delete_all(key.as_deref(), out)?,
            Statement::Set(settings) => {
                for setting in settings {
                    self.set(*setting).map_err(refused)?;
                }
                print_status(&self.control.status().map_err(refused)?, false, out)?;
            }
            Statement::List { key, interpret } => self.list(key.as_deref(), *interpret, out)?,
            Statement::Status { interpret } => {
                print_status(&self.control.status().map_err(refused)?, *interpret, out)?;
                let features = self.control.features().map_err(refused)?;
                let locked = if features.locked & 2 == 0 { "unlocked" } else { "locked" };
                writeln!(out, "loginuid_immutable {} {locked}", (features.on >> 1) & 1)?;
            }
            Statement::Message(text) => {
                self.control.send_user(USER, &message::sent(text)).map_err(refused)?;
            }
            Statement::Trim => self.control.trim().map_err(refused)?,
            Statement::Equivalent { mount, subtree } => {
                self.control.make_equivalent(mount, subtree).map_err(refused)?;
            }
            Statement::ResetLost => {
                let lost = self.control.reset_lost().map_err(refused)?;
                let _ = writeln!(io::stderr(), "lost: {lost}");
            }
            Statement::ResetWaited => {
                let waited = self.control.reset_waited().map_err(refused)?;
                let _ = writeln!(io::stderr(), "backlog_wait_time_actual: {waited}");
            }
            Statement::FreezeLoginUid => self.control.freeze_login_uids().map_err(refused)?,
            Statement::Signal(signal) => self.signal(*signal)?,
            Statement::Read(_) => {
                return Err(Failure::new(Kind::Usage, "-R stands only on a command line"));
            }
            Statement::Version | Statement::Help => {
                return Err(Failure::new(Kind::Usage, "this stands only on a command line"));
            }
        }
        Ok(Outcome::Good)
    }

    /// -R: line by line until one is wrong, or behind it too where -c or -i was before.
    fn read(&mut self, path: &Path, out: &mut dyn Write) -> Result<Outcome, Failure> {
        let file = match RulesFile::read(path, Trust::Owner) {
            Ok(file) => file,
            Err(failure) => {
                failure.print(&mut io::stderr());
                return Ok(Outcome::No);
            }
        };
        let here = self.here;
        let (mut goes_on, mut forgives, mut failed) = (false, false, false);
        for line in file.statements(&here) {
            match line {
                Ok(placed) => {
                    placed.warn(&file.name, &here);
                    goes_on |= placed.statement == Statement::Continue;
                    forgives |= placed.statement == Statement::Ignore;
                    match self.perform(&placed.statement, out) {
                        Ok(_) => continue,
                        Err(failure) => {
                            failure.print(&mut io::stderr());
                            let _ = writeln!(io::stderr(), "  in {}", in_line(&file.name, &placed));
                        }
                    }
                }
                Err(fault) => {
                    let _ = fault.print(&mut io::stderr());
                    if fault.is_passed_over {
                        continue;
                    }
                }
            }
            failed = true;
            if !goes_on && !forgives {
                break;
            }
        }
        Ok(if failed && !forgives { Outcome::No } else { Outcome::Good })
    }

    fn change(&mut self, change: &Change) -> Result<(), Failure> {
        if change.rule().in_kernel() != InKernel::Whole {
            let what = "this kernel does not know contid and cont_..., and evaluates no rule that has them";
            let hint = "put the rule into /etc/veritrail/rules.d: the agent evaluates it";
            return Err(Failure::new(Kind::Environment, what).hint(hint));
        }
        match change {
            Change::Append(rule) => self.control.add_rule(&rule.to_wire()),
            Change::Prepend(rule) => self.control.add_rule(&rule.to_wire_in_front()),
            Change::Delete(rule) => self.control.delete_rule(&rule.to_wire()),
        }
        .map_err(refused)
    }

    fn delete_all(&mut self, key: Option<&[u8]>, out: &mut dyn Write) -> Result<(), Failure> {
        for wire in self.control.rules().map_err(refused)? {
            let wanted = match key {
                None => true,
                // What is no rule here has no key that was asked for.
                Some(key) => Rule::from_wire(&wire).is_ok_and(|rule| has(&rule, key)),
            };
            if wanted {
                self.control.delete_rule(&wire).map_err(refused)?;
            }
        }
        self.list(key, false, out)
    }

    fn list(
        &mut self,
        key: Option<&[u8]>,
        interpret: bool,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let rules = listed(&mut self.control)?;
        if rules.is_empty() {
            writeln!(out, "No rules")?;
        }
        let (machine, host) = (self.here.machine(), Host::default());
        for rule in rules.iter().filter(|rule| key.is_none_or(|key| has(rule, key))) {
            let text = match interpret {
                true => rule.to_names(machine, &host),
                false => rule.to_text(machine),
            };
            writeln!(out, "{text}")?;
        }
        Ok(())
    }

    fn set(&mut self, setting: Setting) -> Result<(), host::audit::Error> {
        match setting {
            Setting::Enabled(2) => self.control.lock(),
            Setting::Enabled(on) => self.control.set_enabled(on != 0),
            Setting::Failure(0) => self.control.set_failure(OnFailure::Silent),
            Setting::Failure(1) => self.control.set_failure(OnFailure::Print),
            Setting::Failure(_) => self.control.set_failure(OnFailure::Panic),
            Setting::RateLimit(per_second) => self.control.set_rate_limit(per_second),
            Setting::BacklogLimit(records) => self.control.set_backlog_limit(records),
            Setting::BacklogWaitTime(jiffies) => self.control.set_backlog_wait_time(jiffies),
        }
    }

    fn signal(&mut self, signal: Signal) -> Result<(), Failure> {
        let daemon = self.control.status().map_err(refused)?.pid;
        let Some(pid) = i32::try_from(daemon).ok().and_then(Pid::from_raw) else {
            let _ = writeln!(io::stderr(), "veritrail: there is no audit daemon");
            return Ok(());
        };
        let signal = match signal {
            Signal::Term => rustix::process::Signal::TERM,
            Signal::Hup => rustix::process::Signal::HUP,
            Signal::Usr1 => rustix::process::Signal::USR1,
            Signal::Usr2 => rustix::process::Signal::USR2,
            Signal::Cont => rustix::process::Signal::CONT,
        };
        rustix::process::kill_process(pid, signal).map_err(|errno| {
            let what = format!("cannot signal the audit daemon, process {daemon}");
            Failure::new(Kind::Io, what).because(io::Error::from(errno))
        })
    }
}

fn print_status(status: &Status, interpret: bool, out: &mut dyn Write) -> io::Result<()> {
    let named = |number: u32, names: [&str; 3]| {
        let name = usize::try_from(number).ok().and_then(|at| names.get(at).copied());
        match name.filter(|_| interpret) {
            Some(name) => name.to_owned(),
            None => number.to_string(),
        }
    };
    let enabled = named(status.enabled, ["disable", "enabled", "enabled+immutable"]);
    writeln!(out, "enabled {enabled}")?;
    writeln!(out, "failure {}", named(status.failure, ["silent", "printk", "panic"]))?;
    for (name, number) in [
        ("pid", status.pid),
        ("rate_limit", status.rate_limit),
        ("backlog_limit", status.backlog_limit),
        ("lost", status.lost),
        ("backlog", status.backlog),
        ("backlog_wait_time", status.backlog_wait_time),
        ("backlog_wait_time_actual", status.backlog_wait_time_actual),
    ] {
        writeln!(out, "{name} {number}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_audit_is_locked_only_what_changes_rules_is_passed_over() {
        let here = Here::find().unwrap();
        for (line, expected) in [
            ("-a always,exit -S execve", true),
            ("-A always,exit", true),
            ("-d always,exit", true),
            ("-w /etc", true),
            ("-W /etc", true),
            ("-R /etc/audit/audit.rules", true),
            ("-D", false),
            ("-l", false),
            ("-b 64", false),
        ] {
            let statement = Statement::parse(line, &here).unwrap();
            assert_eq!(changes_rules(&statement), expected, "{line}");
        }
    }
}
