//! System call names by architecture, both ways.

use super::{Named, name_of};

/// Declares the table of one architecture from `number name` pairs.
macro_rules! syscalls {
    ($($number:literal $name:ident),* $(,)?) => {
        pub(super) const CALLS: crate::tables::Named = &[$(($number, stringify!($name))),*];
    };
}
use syscalls;

mod aarch64;
mod arm;
mod i386;
mod riscv64;
mod x86_64;

/// An architecture as audit names it. Its constant (`AUDIT_ARCH_*`) is the ELF
/// machine with 0x8000_0000 for 64 bits and 0x4000_0000 for little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Machine {
    /// `x86_64`; 0xc000003e, x32 calls included.
    X86_64,
    /// `i386`, 0x40000003.
    I386,
    /// `aarch64`, 0xc00000b7.
    Aarch64,
    /// `arm`, 0x40000028.
    Arm,
    /// `riscv64`, 0xc00000f3.
    Riscv64,
    /// `ppc64le`, 0xc0000015; named only.
    Ppc64le,
    /// `ppc64`, 0x80000015; named only.
    Ppc64,
    /// `ppc`, 0x00000014; named only.
    Ppc,
    /// `s390x`, 0x80000016; named only.
    S390x,
    /// `s390`, 0x00000016; named only.
    S390,
}

const MACHINES: &[(Machine, u32, &str)] = &[
    (Machine::X86_64, 0xc000_003e, "x86_64"),
    (Machine::I386, 0x4000_0003, "i386"),
    (Machine::Aarch64, 0xc000_00b7, "aarch64"),
    (Machine::Arm, 0x4000_0028, "arm"),
    (Machine::Riscv64, 0xc000_00f3, "riscv64"),
    (Machine::Ppc64le, 0xc000_0015, "ppc64le"),
    (Machine::Ppc64, 0x8000_0015, "ppc64"),
    (Machine::Ppc, 0x0000_0014, "ppc"),
    (Machine::S390x, 0x8000_0016, "s390x"),
    (Machine::S390, 0x0000_0016, "s390"),
];

/// Spellings of the kernel for calls that audit userspace calls otherwise.
const ALIASES: &[(&str, &str)] = &[
    ("pread64", "pread"),
    ("pwrite64", "pwrite"),
    ("pread", "pread64"),
    ("pwrite", "pwrite64"),
    ("kexec_load", "sys_kexec_load"),
    ("sched_rr_get_interval_time64", "sched_rr_get_interval64"),
    ("getdents64", "getdents"),
    ("fstat", "newfstat"),
    ("umount", "umount2"),
];

impl Machine {
    /// The machine of an `arch=` value (already a number).
    #[must_use]
    pub fn from_audit_arch(arch: u32) -> Option<Machine> {
        MACHINES.iter().find(|(_, known, _)| *known == arch).map(|(machine, ..)| *machine)
    }

    /// The machine called `name`: audit's names, `uname -m`, and `b64`/`b32` for
    /// the two of x86.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Machine> {
        Some(match name {
            b"b64" | b"amd64" => Machine::X86_64,
            b"b32" | b"i486" | b"i586" | b"i686" => Machine::I386,
            b"arm64" => Machine::Aarch64,
            b"armeb" | b"armv5tejl" | b"armv5tel" | b"armv6l" | b"armv7l" => Machine::Arm,
            _ => MACHINES.iter().find(|(.., known)| known.as_bytes() == name)?.0,
        })
    }

    /// Audit's number for it (`AUDIT_ARCH_*`).
    #[must_use]
    pub fn audit_arch(self) -> u32 {
        MACHINES.iter().find(|(machine, ..)| *machine == self).map_or(0, |(_, arch, _)| *arch)
    }

    /// Audit's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        MACHINES.iter().find(|(machine, ..)| *machine == self).map_or("", |(.., name)| name)
    }

    fn calls(self) -> Named {
        match self {
            Machine::X86_64 => x86_64::CALLS,
            Machine::I386 => i386::CALLS,
            Machine::Aarch64 => aarch64::CALLS,
            Machine::Arm => arm::CALLS,
            Machine::Riscv64 => riscv64::CALLS,
            Machine::Ppc64le | Machine::Ppc64 | Machine::Ppc | Machine::S390x | Machine::S390 => {
                &[]
            }
        }
    }

    /// The name of system call `number`; none where the table or the machine has
    /// none.
    #[must_use]
    pub fn syscall(self, number: u32) -> Option<&'static str> {
        name_of(self.calls(), number)
    }

    /// Whether this machine's calls are listed here.
    #[must_use]
    pub fn has_syscalls(self) -> bool {
        !self.calls().is_empty()
    }

    /// The number of the call that `text` names, as in `ausearch -sc openat`: a
    /// name, the kernel's other spelling of it, or the number itself.
    #[must_use]
    pub fn syscall_number(self, text: &[u8]) -> Option<u32> {
        if !text.is_empty() && text.len() <= 9 && text.iter().all(u8::is_ascii_digit) {
            return Some(text.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')));
        }
        let find = |name: &[u8]| {
            self.calls()
                .iter()
                .find(|(_, known)| known.as_bytes() == name)
                .map(|(number, _)| *number)
        };
        find(text).or_else(|| {
            let other = ALIASES.iter().filter(|(from, _)| from.as_bytes() == text);
            other.filter_map(|(_, to)| find(to.as_bytes())).next()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_names_lead_back() {
        for (machine, arch, name) in MACHINES {
            let calls = machine.calls();
            assert!(calls.windows(2).all(|pair| pair[0].0 < pair[1].0), "{name}");
            for (number, call) in calls {
                assert_eq!(machine.syscall_number(call.as_bytes()), Some(*number), "{name} {call}");
            }
            assert_eq!(Machine::from_audit_arch(*arch), Some(*machine));
            assert_eq!(Machine::from_name(name.as_bytes()), Some(*machine));
            assert_eq!(machine.audit_arch(), *arch);
        }
    }

    #[test]
    fn calls_are_found_by_name_number_and_the_kernels_spelling() {
        let cases: &[(Machine, &[u8], Option<u32>)] = &[
            (Machine::X86_64, b"openat", Some(257)),
            (Machine::Aarch64, b"openat", Some(56)),
            (Machine::I386, b"openat", Some(295)),
            (Machine::Arm, b"openat", Some(322)),
            (Machine::Riscv64, b"openat", Some(56)),
            (Machine::X86_64, b"59", Some(59)),
            (Machine::X86_64, b"pread64", Some(17)),
            (Machine::Aarch64, b"fstat", Some(80)),
            (Machine::X86_64, b"mseal", Some(462)),
            (Machine::X86_64, b"no_such_call", None),
            (Machine::X86_64, b"", None),
            (Machine::S390x, b"openat", None),
        ];
        for (machine, text, number) in cases {
            assert_eq!(machine.syscall_number(text), *number, "{machine:?} {text:?}");
        }
        assert_eq!(Machine::X86_64.syscall(59), Some("execve"));
        assert_eq!(Machine::X86_64.syscall(400), None);
    }
}
