//! Names of numbers: system calls, errors, flags, options. Facts of the kernel's
//! and the C library's interface, spelled as audit userspace prints them.
//!
//! Every table is sorted by number, which a test checks and [`name_of`] needs.

pub mod errno;
pub mod file;
pub mod keys;
pub mod net;
pub mod process;
pub mod syscall;

/// The names of single numbers, ascending.
pub type Named = &'static [(u32, &'static str)];

/// The name of `number` in a table that is sorted by number.
#[must_use]
pub fn name_of(table: Named, number: u32) -> Option<&'static str> {
    table.binary_search_by_key(&number, |(known, _)| *known).ok().map(|at| table[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_sorted_and_has_no_number_twice() {
        let tables: &[(&str, Named)] = &[
            ("bpf", process::BPF),
            ("capabilities", process::CAPABILITIES),
            ("clocks", process::CLOCKS),
            ("clone", process::CLONE_FLAGS),
            ("personalities", process::PERSONALITIES),
            ("prctl", process::PRCTL),
            ("ptrace", process::PTRACE),
            ("rlimits", process::RLIMITS),
            ("sched", process::SCHED),
            ("seccomp", process::SECCOMP),
            ("signals", process::SIGNALS),
            ("uring", process::URING),
            ("access", file::ACCESS),
            ("epoll", file::EPOLL),
            ("fcntl", file::FCNTL),
            ("ioctl", file::IOCTL),
            ("ipc", file::IPC_CALLS),
            ("lists", file::LISTS),
            ("lookup", file::LOOKUP_FLAGS),
            ("mmap", file::MMAP_FLAGS),
            ("mount", file::MOUNT_FLAGS),
            ("open", file::OPEN_FLAGS),
            ("prot", file::PROT),
            ("resolve", file::RESOLVE),
            ("seek", file::SEEK),
            ("shm", file::SHM_FLAGS),
            ("umount", file::UMOUNT_FLAGS),
            ("families", net::FAMILIES),
            ("hooks", net::HOOKS),
            ("icmp", net::ICMP),
            ("ip6", net::IP6_OPTIONS),
            ("ip", net::IP_OPTIONS),
            ("levels", net::SOCKET_LEVELS),
            ("message flags", net::MESSAGE_FLAGS),
            ("netfilter", net::NETFILTER_FAMILIES),
            ("packet", net::PACKET_OPTIONS),
            ("protocols", net::PROTOCOLS),
            ("socket calls", net::SOCKET_CALLS),
            ("socket options", net::SOCKET_OPTIONS),
            ("socket types", net::SOCKET_TYPES),
            ("tcp", net::TCP_OPTIONS),
            ("udp", net::UDP_OPTIONS),
            ("verdicts", net::VERDICTS),
        ];
        for (name, table) in tables {
            assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0), "{name}");
        }
    }
}
