//! The programs by name, and what the kernel counts of them.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::text::decimal;

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Program {
    /// Processes that begin.
    Fork,
    /// Processes that run another program.
    Exec,
    /// Processes that end.
    Exit,
    /// Tasks that enter other namespaces (setns(2), unshare(2)).
    Namespaces,
    /// Calls that change the clock.
    Clock,
    /// What these change, in the kernel's own values.
    ClockValues,
    /// Where [`Program::Clock`] cannot be had: the same by the tracepoints of system calls.
    ClockCalls,
    /// Where [`Program::Namespaces`] cannot be had: the same by the tracepoints of the system calls.
    NamespaceCalls,
    /// The network namespaces of packets that `iptables -j AUDIT` has recorded, by the numbers of their records.
    PacketsXt,
    /// The same of nft's `log level audit`.
    PacketsNft,
    /// The audit container id of a task, which its children have too ([`Labels`](super::Labels)). It tells
    /// no event: the others tell the id.
    Labels,
    /// Processes that come into another control group.
    Groups,
}

impl Program {
    /// All of them.
    pub const ALL: [Program; 12] = [
        Program::Fork,
        Program::Exec,
        Program::Exit,
        Program::Namespaces,
        Program::Clock,
        Program::ClockValues,
        Program::ClockCalls,
        Program::NamespaceCalls,
        Program::PacketsXt,
        Program::PacketsNft,
        Program::Labels,
        Program::Groups,
    ];

    /// The number that `events.h` gives it.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Program::Fork => 1,
            Program::Exec => 2,
            Program::Exit => 3,
            Program::Namespaces => 4,
            Program::Clock => 5,
            Program::ClockValues => 6,
            Program::ClockCalls => 7,
            Program::Labels => 8,
            Program::PacketsXt => 9,
            Program::PacketsNft => 10,
            Program::NamespaceCalls => 11,
            Program::Groups => 12,
        }
    }

    /// The program of a number.
    #[must_use]
    pub fn of_number(number: u32) -> Option<Program> {
        Self::ALL.into_iter().find(|program| program.number() == number)
    }

    /// Its name for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Program::Fork => "fork",
            Program::Exec => "exec",
            Program::Exit => "exit",
            Program::Namespaces => "namespaces",
            Program::Clock => "clock",
            Program::ClockValues => "clock-values",
            Program::ClockCalls => "clock-calls",
            Program::NamespaceCalls => "namespace-calls",
            Program::PacketsXt => "packets-xt",
            Program::PacketsNft => "packets-nft",
            Program::Labels => "labels",
            Program::Groups => "groups",
        }
    }

    /// The one that it stands in for: it costs every system call, and runs only where that one cannot.
    pub(super) fn stands_in_for(self) -> Option<Program> {
        match self {
            Program::ClockCalls => Some(Program::Clock),
            Program::NamespaceCalls => Some(Program::Namespaces),
            _ => None,
        }
    }

    /// The one without which it has nothing to add to.
    pub(super) fn adds_to(self) -> Option<Program> {
        (self == Program::ClockValues).then_some(Program::Clock)
    }

    /// Whether something is not heard of where a call in it fails. Labels are told by the others, and a packet's
    /// record comes from the kernel itself.
    #[must_use]
    pub fn can_lose(self) -> bool {
        !matches!(self, Program::Labels | Program::PacketsXt | Program::PacketsNft)
    }

    /// Its functions in the object. A program of several tells its event only with all of them; two programs
    /// may share one.
    pub(super) fn functions(self) -> &'static [&'static str] {
        match self {
            Program::Fork => &["veritrail_fork"],
            Program::Exec => &["veritrail_exec"],
            Program::Exit => &["veritrail_exit"],
            Program::Namespaces => &["veritrail_setns", "veritrail_unshare"],
            Program::Clock => &[
                "veritrail_clock_set",
                "veritrail_clock_was_set",
                "veritrail_clock_adjust",
                "veritrail_clock_was_adjusted",
            ],
            // Which of them is loaded says the kernel.
            Program::ClockValues => &["veritrail_clock_values", "veritrail_clock_values_of"],
            Program::NamespaceCalls => &["veritrail_namespaces_called"],
            Program::PacketsXt => {
                &["veritrail_packet_xt", "veritrail_packet_xt_done", "veritrail_packet_told"]
            }
            Program::PacketsNft => {
                &["veritrail_packet_nft", "veritrail_packet_nft_done", "veritrail_packet_told"]
            }
            Program::Labels => &["veritrail_inherit"],
            Program::Groups => &["veritrail_attach", "veritrail_begin_elsewhere"],
            Program::ClockCalls => {
                &["veritrail_clock_call_1", "veritrail_clock_call_2", "veritrail_clock_called"]
            }
        }
    }

    /// What is not known without it.
    #[must_use]
    pub fn consequence(self) -> &'static str {
        match self {
            Program::Fork => "processes are known from /proc only, and short ones not at all",
            Program::Exec => "the program a process runs is known from /proc only",
            Program::Exit => "that a process has ended is seen late",
            Program::Namespaces => {
                "a process in other namespaces is seen there when it runs another program, or ends"
            }
            Program::Clock => {
                "calls of 32 bits and the kernel's own that change the clock are seen by what they did"
            }
            Program::ClockValues => {
                "the values that steer the clock before a change are those of the last reading"
            }
            Program::ClockCalls => {
                "who changes the clock is known where an audit rule matches the call"
            }
            Program::NamespaceCalls => {
                "a process in other namespaces is seen there when it runs another program, or ends"
            }
            Program::PacketsXt => {
                "whose network namespace a packet of iptables' AUDIT was in is inferred from its addresses"
            }
            Program::PacketsNft => {
                "whose network namespace a packet of nft's log was in is inferred from its addresses"
            }
            Program::Labels => "no process can be given an audit container id",
            Program::Groups => {
                "containers that no hook registers, and programs run in one, are found every 5 s"
            }
        }
    }
}

/// What the kernel counts of a program's runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Runs while counting was on (`Wanted::statistics`, or the sysctl kernel.bpf_stats_enabled).
    pub runs: u64,
    /// Nanoseconds that they took.
    pub run_time_ns: u64,
    /// Runs left out because the program was running on that processor already: each a lost event.
    pub missed: u64,
}

impl Statistics {
    /// Of the program behind this descriptor (`/proc/self/fdinfo`, which needs no right).
    pub(super) fn read(program: impl AsFd) -> io::Result<Statistics> {
        let text = fdinfo(program)?;
        Ok(Statistics {
            runs: field(&text, b"run_cnt:").unwrap_or(0),
            run_time_ns: field(&text, b"run_time_ns:").unwrap_or(0),
            missed: field(&text, b"recursion_misses:").unwrap_or(0),
        })
    }

    /// Both sums.
    pub(super) fn plus(self, other: Statistics) -> Statistics {
        Statistics {
            runs: self.runs.saturating_add(other.runs),
            run_time_ns: self.run_time_ns.saturating_add(other.run_time_ns),
            missed: self.missed.saturating_add(other.missed),
        }
    }

    /// Nanoseconds per run, rounded up; none without a run.
    #[must_use]
    pub fn per_run_ns(self) -> Option<u64> {
        (self.runs > 0).then(|| self.run_time_ns.div_ceil(self.runs))
    }
}

/// What the kernel says of a descriptor.
pub(super) fn fdinfo(fd: impl AsFd) -> io::Result<Vec<u8>> {
    std::fs::read(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()))
}

/// The number in the line that begins so.
pub(super) fn field(text: &[u8], name: &[u8]) -> Option<u64> {
    let line = text.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(name))?;
    decimal(line.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_what_the_kernel_says() {
        let text = b"pos:\t0\nrun_time_ns:\t1234\nrun_cnt:\t5\nrecursion_misses:\t0\n";
        assert_eq!(field(text, b"run_cnt:"), Some(5));
        assert_eq!(field(text, b"cnt:"), None);
        assert_eq!(field(b"run_cnt:\tx", b"run_cnt:"), None);
        let statistics = Statistics { runs: 5, run_time_ns: 1234, missed: 0 };
        assert_eq!(statistics.per_run_ns(), Some(247));
        assert_eq!(Statistics::default().per_run_ns(), None);
    }

    #[test]
    fn every_program_has_a_number_of_its_own() {
        for program in Program::ALL {
            assert_eq!(Program::of_number(program.number()), Some(program));
        }
        assert_eq!(Program::of_number(0), None);
    }
}
