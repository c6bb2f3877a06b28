//! The agent and its doorkeeper: what they never need is refused, so that whoever gets hold of one has
//! less of the machine. A list of what is refused and not of what is allowed: they ask the kernel for
//! much, and what they start (a sink's program) for more.

use std::collections::BTreeMap;
use std::io;

use rustix::io::Errno;
use seccompiler::{BpfProgram, SeccompAction, SeccompRule};

use super::{Argument, alone, apply, program, refused, rules, without_clone3};

/// Refuses this process, and all that it starts, what no process of the agent needs: modules, another
/// kernel, other processes' memory, swap, ports. Sets no_new_privs.
///
/// # Errors
/// Where other threads run already, or the kernel knows no seccomp filters.
pub fn confine_doorkeeper() -> io::Result<()> {
    alone()?;
    apply(&[denied(NEVER, &[])?])
}

/// Refuses this process everything that an agent does not need once its sources are open: what
/// [`confine_doorkeeper`] refuses, and to execute, start processes, mount, load BPF programs, make
/// memory executable, use keys.
///
/// With `heir` it may have to become the doorkeeper: then it keeps what that needs, which is all of
/// these but keys.
///
/// # Errors
/// As [`confine_doorkeeper`].
pub fn confine_agent(heir: bool) -> io::Result<()> {
    alone()?;
    let own = denied(AGENT, &[])?;
    if heir {
        return apply(&[denied(NEVER, &[])?, own]);
    }
    let doorkeepers = denied(DOORKEEPERS, DOORKEEPERS_RESTRICTED)?;
    apply(&[without_clone3()?, denied(NEVER, &[])?, own, doorkeepers])
}

/// A filter that refuses these calls.
fn denied(calls: &[i64], restricted: &[(i64, Argument)]) -> io::Result<BpfProgram> {
    let mut denied: BTreeMap<i64, Vec<SeccompRule>> =
        calls.iter().map(|call| (*call, Vec::new())).collect();
    for (call, argument) in restricted {
        denied.insert(*call, rules(*argument)?);
    }
    program(denied, SeccompAction::Allow, refused(Errno::PERM))
}

/// What no process of the agent needs.
const NEVER: &[i64] = &[
    // Another kernel, or parts of one.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // Others' memory and descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Ways past what is checked elsewhere.
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_open_by_handle_at,
    libc::SYS_personality,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_vhangup,
    // The machine's ports.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// What only a doorkeeper needs, and one that may become it.
const DOORKEEPERS: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_perf_event_open,
];

/// `linux/bpf.h`: what makes a map, a program or a link, or finds others'.
const BPF_LOADING: &[u64] = &[
    0,  // BPF_MAP_CREATE
    5,  // BPF_PROG_LOAD
    8,  // BPF_PROG_ATTACH
    9,  // BPF_PROG_DETACH
    13, // BPF_PROG_GET_FD_BY_ID
    14, // BPF_MAP_GET_FD_BY_ID
    17, // BPF_RAW_TRACEPOINT_OPEN
    18, // BPF_BTF_LOAD
    28, // BPF_LINK_CREATE
    29, // BPF_LINK_UPDATE
    34, // BPF_LINK_DETACH
    36, // BPF_TOKEN_CREATE
];

const DOORKEEPERS_RESTRICTED: &[(i64, Argument)] = &[
    // A process of its own.
    (libc::SYS_clone, Argument::Bits { at: 0, mask: libc::CLONE_THREAD as u64, bits: 0 }),
    (libc::SYS_bpf, Argument::OneOf(0, BPF_LOADING)),
    // Memory that becomes a program, as the loader of one that is executed makes it.
    (libc::SYS_mmap, Argument::Bits { at: 2, mask: super::PROT_EXEC, bits: super::PROT_EXEC }),
    (libc::SYS_mprotect, Argument::Bits { at: 2, mask: super::PROT_EXEC, bits: super::PROT_EXEC }),
];

/// What an agent does not need in either case.
const AGENT: &[i64] = &[
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_mknodat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    libc::SYS_setsid,
    libc::SYS_setpgid,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile() {
        for (calls, restricted) in
            [(NEVER, &[][..]), (DOORKEEPERS, DOORKEEPERS_RESTRICTED), (AGENT, &[])]
        {
            let filter = denied(calls, restricted).unwrap();
            assert!(!filter.is_empty() && filter.len() < 4096, "{}", filter.len());
        }
    }
}
