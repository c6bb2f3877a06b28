//! What doctor finds about BPF: which of our programs this kernel takes, and how it runs them.

use host::bpf::{Program, Programs, Report, State as Loaded, Wanted};

use super::{Finding, Machine, State, finding};

const PROGRAMS: &str = "BPF programs";
const PROGRAMS_FOR: &str = "who a process was that has ended, and what it ran";

/// Loads our programs for a moment, which is the only way to know: seccomp, lockdown and the
/// verifier are asked by nothing else. Audit records that (type BPF). None where we are not root.
pub(super) fn load() -> Option<Report> {
    // The smallest ring: nobody reads it.
    let wanted = Wanted { ring_bytes: 4096, ..Wanted::default() };
    rustix::process::geteuid().is_root().then(|| Programs::load(&wanted).1)
}

/// Which of them this kernel takes.
pub(super) fn programs(report: Option<&Report>) -> Finding {
    match report {
        Some(report) => judge(&report.programs),
        None => Finding {
            name: PROGRAMS,
            state: State::Unknown,
            seen: "not tried: only root loads them".into(),
            purpose: PROGRAMS_FOR,
            remedy: Some("run doctor as root".into()),
        },
    }
}

fn judge(programs: &[(Program, Loaded)]) -> Finding {
    let attached = programs.iter().filter(|(_, state)| *state == Loaded::Attached);
    let attached: Vec<_> = attached.map(|(program, _)| program.word()).collect();
    let refused = programs.iter().filter_map(|(program, state)| match state {
        Loaded::Missing(why) => Some((program, why)),
        Loaded::Attached | Loaded::Off => None,
    });
    let mut seen = if attached.is_empty() { "none runs".into() } else { attached.join(", ") };
    let mut without = Vec::new();
    for (program, why) in refused {
        seen.push_str(&format!("; {} is refused: {why}", program.word()));
        without.push(format!("without {}, {}", program.word(), program.consequence()));
    }
    let state = if without.is_empty() { State::Has } else { State::Lacks };
    let remedy = "a kernel of 5.15 or newer with CONFIG_DEBUG_INFO_BTF and CONFIG_FUNCTION_TRACER, CAP_BPF and \
                  CAP_PERFMON, and no lockdown=confidentiality";
    let remedy = format!("{remedy} ({})", without.join("; "));
    let remedy = (state != State::Has).then(|| remedy.into());
    Finding { name: PROGRAMS, state, seen, purpose: PROGRAMS_FOR, remedy }
}

/// Whether others than root may load programs.
pub(super) fn unprivileged(machine: &Machine) -> Finding {
    let file = "/proc/sys/kernel/unprivileged_bpf_disabled";
    let purpose = "programs in the kernel that only root could put there";
    setting(machine, "BPF for root", file, purpose, |value| match value {
        "0" => Err("sysctl kernel.unprivileged_bpf_disabled=2"),
        _ => Ok(()),
    })
}

/// Whether programs are compiled.
pub(super) fn jit(machine: &Machine) -> Finding {
    let file = "/proc/sys/net/core/bpf_jit_enable";
    let purpose = "programs that cost less than a microsecond a process";
    setting(machine, "BPF JIT", file, purpose, |value| match value {
        "0" => Err("sysctl net.core.bpf_jit_enable=1"),
        _ => Ok(()),
    })
}

/// Whether the kernel times every run.
pub(super) fn statistics(machine: &Machine) -> Finding {
    let file = "/proc/sys/kernel/bpf_stats_enabled";
    let purpose = "programs that nobody times, each run some 50 ns cheaper (bpf.statistics times them while the \
                   agent runs)";
    setting(machine, "BPF untimed", file, purpose, |value| match value {
        "0" => Ok(()),
        _ => Err("sysctl kernel.bpf_stats_enabled=0"),
    })
}

/// A sysctl, and what to do about its value.
fn setting(
    machine: &Machine,
    name: &'static str,
    file: &'static str,
    purpose: &'static str,
    judge: impl FnOnce(&str) -> Result<(), &'static str>,
) -> Finding {
    let Some(text) = machine.text(file) else {
        return Finding {
            name,
            state: State::Unknown,
            seen: format!("{file} cannot be read"),
            purpose,
            remedy: Some("run doctor as root, on a kernel with CONFIG_BPF_SYSCALL".into()),
        };
    };
    let judged = judge(text.trim());
    let seen = format!("{file} is {}", text.trim());
    finding(name, judged.is_ok(), seen, purpose, judged.err().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_program_is_named_with_what_is_lost() {
        let all = |state: &Loaded| Program::ALL.map(|program| (program, state.clone()));
        let found = judge(&all(&Loaded::Attached));
        assert_eq!((found.state, found.seen.starts_with("fork, exec, exit")), (State::Has, true));
        let found = judge(&all(&Loaded::Missing("no".into())));
        assert_eq!(found.state, State::Lacks);
        assert!(found.seen.starts_with("none runs; fork is refused: no; exec"), "{}", found.seen);
        let remedy = found.remedy.unwrap();
        assert!(remedy.contains(Program::Exit.consequence()), "{remedy}");
    }

    #[test]
    fn settings_are_judged() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::new(folder.path());
        for look in [unprivileged, jit, statistics] {
            assert_eq!(look(&machine).state, State::Unknown);
        }
        let kernel = folder.path().join("proc/sys/kernel");
        std::fs::create_dir_all(&kernel).unwrap();
        for (value, expected) in [("0\n", State::Lacks), ("1\n", State::Has), ("2\n", State::Has)] {
            std::fs::write(kernel.join("unprivileged_bpf_disabled"), value).unwrap();
            assert_eq!(unprivileged(&machine).state, expected, "{value}");
        }
        for (value, expected) in [("0\n", State::Has), ("1\n", State::Lacks)] {
            std::fs::write(kernel.join("bpf_stats_enabled"), value).unwrap();
            assert_eq!(statistics(&machine).state, expected, "{value}");
        }
    }
}
