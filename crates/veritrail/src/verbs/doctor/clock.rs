//! What doctor finds about the clock: by what an agent here sees who changes it.

use host::audit;
use host::bpf::{Program, Report};
use policy::audit::{Action, List, Rule};
use record::tables::syscall::Machine;

use super::{Finding, State};

const CALLS: [&str; 4] = ["adjtimex", "clock_adjtime", "clock_settime", "settimeofday"];

/// By the best of the doors that are open: the kernel's functions, the calls' tracepoints, audit rules, and
/// where there is none the witness. `report` is none where nobody tried to load programs.
pub(super) fn changes(
    report: Option<&Report>,
    status: Result<&audit::Status, &audit::Error>,
    rules: Result<&[Vec<u8>], &audit::Error>,
) -> Finding {
    let runs = |program| report.is_some_and(|report| report.attached().any(|one| one == program));
    let found = |state, seen: &str, remedy: &'static str| Finding {
        name: "clock changes",
        state,
        seen: seen.to_owned(),
        purpose: "who sets or steers the clock",
        remedy: (!remedy.is_empty()).then(|| remedy.into()),
    };
    if report.is_none() {
        return found(State::Unknown, "not tried: only root loads programs", "run doctor as root");
    }
    if runs(Program::Clock) && runs(Program::ClockValues) {
        return found(State::Has, "by the kernel's functions (fentry): every call", "");
    }
    if runs(Program::Clock) {
        let seen = "by the kernel's functions (fentry): every call; the values before a change are those of the \
                    last reading";
        return found(State::Has, seen, "");
    }
    if runs(Program::ClockCalls) {
        let seen = "by the system calls' tracepoints; of calls of 32 bits only what they do";
        return found(State::Has, seen, "");
    }
    let matched = rules.is_ok_and(match_all_calls);
    match status {
        Ok(status) if status.is_on() && matched => {
            found(State::Has, "by the audit rules that are loaded: BPF is refused", "")
        }
        Ok(status) if status.is_on() && !status.is_locked() => found(
            State::Has,
            "by audit rules that the agent loads while it runs (rules.clock): BPF is refused",
            "",
        ),
        Ok(status) if status.is_on() => found(
            State::Lacks,
            "by what they do alone (the witness): BPF is refused, and audit is locked without rules for them",
            "load rules for adjtimex, clock_adjtime, settimeofday and clock_settime at boot, before -e 2",
        ),
        Ok(_) => found(
            State::Lacks,
            "by what they do alone (the witness): BPF is refused, and auditing is off",
            "auditctl -e 1, at every boot audit=1 on the kernel's command line; or what BPF programs needs",
        ),
        Err(_) => found(
            State::Lacks,
            "by what they do alone (the witness): BPF is refused, and audit does not answer",
            "run doctor as root in the initial user namespace; or what BPF programs needs",
        ),
    }
}

/// Whether the kernel is told to record every such call of this machine's own width.
fn match_all_calls(rules: &[Vec<u8>]) -> bool {
    let Some(machine) = Machine::from_name(std::env::consts::ARCH.as_bytes()) else { return false };
    let rules: Vec<Rule> = rules.iter().filter_map(|wire| Rule::from_wire(wire).ok()).collect();
    let records = |rule: &&Rule| rule.list() == List::Exit && rule.action() == Action::Always;
    CALLS.iter().all(|call| {
        let number = machine.syscall_number(call.as_bytes());
        let has =
            |number| rules.iter().filter(records).any(|rule| rule.syscalls().contains(number));
        number.is_some_and(has)
    })
}

#[cfg(test)]
mod tests {
    use host::bpf::{Pins, State as Loaded};
    use policy::audit::{Change, Statement};

    use super::*;
    use crate::rules::Here;

    fn report(attached: &[Program]) -> Report {
        let state = |program| match attached.contains(&program) {
            true => Loaded::Attached,
            false => Loaded::Missing("refused".into()),
        };
        let programs = Program::ALL.map(|program| (program, state(program))).into();
        Report { programs, no_statistics: None, pins: Pins::Off }
    }

    #[test]
    fn the_best_door_is_named_and_what_it_does_not_see() {
        let on = audit::Status { enabled: 1, ..Default::default() };
        let (off, locked) =
            (audit::Status { enabled: 0, ..on }, audit::Status { enabled: 2, ..on });
        let line =
            "-a always,exit -F arch=b64 -S adjtimex,clock_adjtime,settimeofday,clock_settime -k x";
        let loaded = match Statement::parse(line, &Here::find().unwrap()).unwrap() {
            Statement::Change(change) => match *change {
                Change::Append(rule) => vec![rule.to_wire()],
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        let none: Vec<Vec<u8>> = Vec::new();
        for (programs, status, rules, state, seen) in [
            (&[Program::Clock, Program::ClockValues][..], on, &none, State::Has, "every call"),
            (&[Program::Clock], off, &none, State::Has, "those of the last reading"),
            (&[Program::ClockCalls], off, &none, State::Has, "tracepoints; of calls of 32 bits"),
            (&[], on, &none, State::Has, "rules that the agent loads"),
            (&[], locked, &loaded, State::Has, "rules that are loaded"),
            (&[], locked, &none, State::Lacks, "locked"),
            (&[], off, &loaded, State::Lacks, "auditing is off"),
        ] {
            let found = changes(Some(&report(programs)), Ok(&status), Ok(rules));
            assert_eq!(found.state, state, "{found:?}");
            assert!(found.seen.contains(seen), "{found:?}");
            assert_eq!(found.remedy.is_some(), state == State::Lacks, "{found:?}");
        }
        let error = audit::Error::Unsupported { doing: "read audit's status" };
        assert_eq!(changes(None, Ok(&on), Ok(&none)).state, State::Unknown);
        assert_eq!(changes(Some(&report(&[])), Err(&error), Err(&error)).state, State::Lacks);
    }
}
