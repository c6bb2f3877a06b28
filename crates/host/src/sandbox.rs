//! What a process of ours gives up before it touches bytes that others wrote.

use std::collections::BTreeMap;
use std::{fs, io};

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// A capability or a set of them (capabilities(7)).
pub use rustix::thread::CapabilitySet as Capabilities;

/// Lets the kernel kill this process as soon as the *thread* that started it ends. `parent` is the
/// process number of that parent, which it has to tell (an argument, an environment variable):
/// a parent that ended before this call is noticed by it.
///
/// # Errors
/// `NotConnected` where the parent is gone already.
pub fn die_with_parent(parent: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if std::os::unix::process::parent_id() == parent {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::NotConnected, "the parent process has ended"))
}

/// Gives up every capability that is not in `keep`: effective, permitted, inheritable, and with
/// them ambient. The bounding set stays, so a program that is executed with file capabilities (or
/// as root) may still get others.
///
/// # Errors
/// Where other threads run: capabilities are each thread's own, and those would keep theirs.
pub fn keep_capabilities(keep: Capabilities) -> io::Result<()> {
    alone()?;
    let now = rustix::thread::capabilities(None)?;
    let kept = CapabilitySets {
        effective: now.permitted & keep,
        permitted: now.permitted & keep,
        inheritable: now.inheritable & keep,
    };
    Ok(rustix::thread::set_capabilities(None, kept)?)
}

/// Confines this process, which reads what others wrote (disks, trees, parity) and serves it, to
/// the descriptors that it has: nothing can be opened, executed, connected, traced or gained any
/// more.
///
/// No capability in any set, no_new_privs, not dumpable, no core, and a list of system calls
/// beyond which everything is refused (see `ALLOWED`). Threads started later inherit all of it.
///
/// A refused call answers EPERM. The process is not killed for it: a library that tries something
/// new (a file of settings, a clock) would then take a mounted device down, while an attacker
/// gains as little from an error as from a death.
///
/// # Errors
/// Where other threads run already, or the kernel knows no seccomp filters. The process may be
/// partly confined then and had better end.
pub fn confine_volume() -> io::Result<()> {
    alone()?;
    drop_all_capabilities()?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    for filter in filters()? {
        seccompiler::apply_filter(&filter).map_err(io::Error::other)?;
    }
    Ok(())
}

/// An error unless this is the process's only thread.
fn alone() -> io::Result<()> {
    match fs::read_dir("/proc/self/task")?.count() {
        1 => Ok(()),
        threads => Err(io::Error::other(format!(
            "a process confines itself before it starts threads, and this one has {threads}"
        ))),
    }
}

fn drop_all_capabilities() -> io::Result<()> {
    let may_bound = rustix::thread::capabilities(None)?.effective.contains(CapabilitySet::SETPCAP);
    // Who may not touch the bounding set gains nothing from it either: no_new_privs follows.
    for bit in (0..64).filter(|_| may_bound) {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Behind the last that this kernel knows.
            Err(Errno::INVAL) => break,
            dropped => dropped?,
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// What one argument of a call has to be.
#[derive(Clone, Copy)]
enum Argument {
    /// Equal to one of these, in its lower 32 bits.
    OneOf(u8, &'static [u64]),
    /// Of the bits `mask`, exactly `bits`.
    Bits { at: u8, mask: u64, bits: u64 },
}

/// Every call that a confined volume may make whatever its arguments.
const ALLOWED: &[i64] = &[
    // Descriptors that it has.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_fadvise64,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_getsockopt,
    libc::SYS_shutdown,
    libc::SYS_ppoll,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    // Memory, apart from mmap and mprotect.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Threads, apart from clone. (clone3 is answered ENOSYS by the other filter.)
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    // Signals to itself.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    // Time, read and waited for.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    // The older forms, which aarch64 does not have.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

const PROT_EXEC: u64 = libc::PROT_EXEC as u64;
const CLONE_NEW_NAMESPACE: u64 = 0x7e02_0080;
const CLONE_THREAD: u64 = (libc::CLONE_THREAD | libc::CLONE_VM) as u64;
const AT_EMPTY_PATH: u64 = libc::AT_EMPTY_PATH as u64;

/// Calls whose arguments are looked at.
const RESTRICTED: &[(i64, Argument)] = &[
    // No memory becomes a program.
    (libc::SYS_mmap, Argument::Bits { at: 2, mask: PROT_EXEC, bits: 0 }),
    (libc::SYS_mprotect, Argument::Bits { at: 2, mask: PROT_EXEC, bits: 0 }),
    // A thread of this process, in its own namespaces.
    (
        libc::SYS_clone,
        Argument::Bits { at: 0, mask: CLONE_THREAD | CLONE_NEW_NAMESPACE, bits: CLONE_THREAD },
    ),
    // Of a descriptor. (A path that comes along cannot be seen from here: a confined process can
    // look at attributes by path, never at contents.)
    (libc::SYS_statx, Argument::Bits { at: 2, mask: AT_EMPTY_PATH, bits: AT_EMPTY_PATH }),
    (libc::SYS_newfstatat, Argument::Bits { at: 3, mask: AT_EMPTY_PATH, bits: AT_EMPTY_PATH }),
    (
        libc::SYS_fcntl,
        Argument::OneOf(
            1,
            &[
                libc::F_GETFD as u64,
                libc::F_SETFD as u64,
                libc::F_GETFL as u64,
                libc::F_SETFL as u64,
                libc::F_DUPFD_CLOEXEC as u64,
            ],
        ),
    ),
    (libc::SYS_ioctl, Argument::OneOf(1, &[BLKGETSIZE64, FUSE_DEV_IOC_CLONE])),
    (libc::SYS_prctl, Argument::OneOf(0, &[libc::PR_SET_NAME as u64])),
];

/// `linux/fs.h`: `_IOR(0x12, 114, size_t)`.
const BLKGETSIZE64: u64 = 0x8008_1272;
/// `linux/fuse.h`: `_IOR(229, 0, uint32_t)`.
const FUSE_DEV_IOC_CLONE: u64 = 0x8004_e500;

/// The filters, in the order they are applied.
fn filters() -> io::Result<[BpfProgram; 2]> {
    // glibc takes ENOSYS, and nothing else, for a kernel without clone3, and goes on with clone,
    // whose flags a filter can see. A filter has one answer, so this is one of its own; of two
    // answers the kernel takes the stricter.
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    for (call, argument) in RESTRICTED {
        allowed.insert(*call, rules(*argument)?);
    }
    // Signals to this process only.
    let own = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        u64::from(std::process::id()),
    );
    let own = SeccompRule::new(vec![own.map_err(io::Error::other)?]).map_err(io::Error::other)?;
    allowed.insert(libc::SYS_tgkill, vec![own]);

    let errno = |errno: Errno| SeccompAction::Errno(errno.raw_os_error().cast_unsigned());
    Ok([
        program(unknown, SeccompAction::Allow, errno(Errno::NOSYS))?,
        program(allowed, errno(Errno::PERM), SeccompAction::Allow)?,
    ])
}

/// The rules of which one has to hold.
fn rules(argument: Argument) -> io::Result<Vec<SeccompRule>> {
    let conditions = match argument {
        Argument::Bits { at, mask, bits } => vec![SeccompCondition::new(
            at,
            SeccompCmpArgLen::Qword,
            SeccompCmpOp::MaskedEq(mask),
            bits,
        )],
        Argument::OneOf(at, values) => values
            .iter()
            .map(|value| {
                SeccompCondition::new(at, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, *value)
            })
            .collect(),
    };
    conditions
        .into_iter()
        .map(|condition| SeccompRule::new(vec![condition?]))
        .collect::<Result<_, _>>()
        .map_err(io::Error::other)
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> io::Result<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, otherwise, matched, arch).map_err(io::Error::other)?;
    BpfProgram::try_from(filter).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile() {
        for filter in filters().unwrap() {
            assert!(!filter.is_empty() && filter.len() < 4096, "{}", filter.len());
        }
    }

    #[test]
    fn no_call_is_listed_twice() {
        let calls = ALLOWED.iter().chain(RESTRICTED.iter().map(|(call, _)| call));
        let all: Vec<_> = calls.collect();
        let once: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(all.len(), once.len());
    }

    #[test]
    fn a_process_with_threads_is_not_confined() {
        // The test harness has several.
        let waiting = std::thread::spawn(std::thread::park);
        assert!(confine_volume().is_err());
        assert!(keep_capabilities(Capabilities::empty()).is_err());
        waiting.thread().unpark();
        waiting.join().unwrap();
    }
}
