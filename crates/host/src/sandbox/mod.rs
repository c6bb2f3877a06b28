//! What a process of ours gives up before it touches bytes that others wrote.
//!
//! | process | filter | file |
//! |---|---|---|
//! | volume of a served device | a list of what is allowed: the descriptors that it has | volume.rs |
//! | writer of the trail | a list of what is allowed: files, unix sockets | writer.rs |
//! | agent, doorkeeper | a list of what is refused | service.rs |

mod service;
mod volume;
mod writer;

pub use service::{confine_agent, confine_doorkeeper};
pub use volume::confine_volume;
pub use writer::{Writer, confine_writer};

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

/// Uses only the capabilities in `effective` from now on; the others that it has it can take back, and
/// hands them to what it executes.
///
/// # Errors
/// Where other threads run: capabilities are each thread's own, and those would go on to use theirs.
pub fn use_capabilities(effective: Capabilities) -> io::Result<()> {
    alone()?;
    use_in_thread(effective)
}

/// Does `work` with capabilities that it has and does not use otherwise; in this thread only.
///
/// # Errors
/// Where the kernel refuses it.
pub fn with_capabilities<T>(more: Capabilities, work: impl FnOnce() -> T) -> io::Result<T> {
    let before = rustix::thread::capabilities(None)?.effective;
    use_in_thread(before | more)?;
    let done = work();
    use_in_thread(before)?;
    Ok(done)
}

fn use_in_thread(effective: Capabilities) -> io::Result<()> {
    let now = rustix::thread::capabilities(None)?;
    let used = CapabilitySets { effective: now.permitted & effective, ..now };
    Ok(rustix::thread::set_capabilities(None, used)?)
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

/// Gives up all but `keep`, in every set and for whatever is executed later.
fn drop_capabilities(keep: Capabilities) -> io::Result<()> {
    let may_bound = rustix::thread::capabilities(None)?.effective.contains(CapabilitySet::SETPCAP);
    // Who may not touch the bounding set gains nothing from it either: no_new_privs follows.
    let dropped = (0..64).map(|bit| CapabilitySet::from_bits_retain(1 << bit));
    for capability in dropped.filter(|one| may_bound && !keep.contains(*one)) {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Behind the last that this kernel knows.
            Err(Errno::INVAL) => break,
            dropped => dropped?,
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let kept = rustix::thread::capabilities(None)?.permitted & keep;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: none };
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

const PROT_EXEC: u64 = libc::PROT_EXEC as u64;
const CLONE_NEW_NAMESPACE: u64 = 0x7e02_0080;
const CLONE_THREAD: u64 = (libc::CLONE_THREAD | libc::CLONE_VM) as u64;

/// What every process of ours needs, whatever the arguments.
const COMMON: &[i64] = &[
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

/// What every process of ours needs with some arguments only.
const COMMON_RESTRICTED: &[(i64, Argument)] = &[
    // No memory becomes a program.
    (libc::SYS_mmap, Argument::Bits { at: 2, mask: PROT_EXEC, bits: 0 }),
    (libc::SYS_mprotect, Argument::Bits { at: 2, mask: PROT_EXEC, bits: 0 }),
    // A thread of this process, in its own namespaces.
    (
        libc::SYS_clone,
        Argument::Bits { at: 0, mask: CLONE_THREAD | CLONE_NEW_NAMESPACE, bits: CLONE_THREAD },
    ),
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
    (libc::SYS_prctl, Argument::OneOf(0, &[libc::PR_SET_NAME as u64])),
];

/// A list of calls that are allowed; all others answer EPERM.
///
/// The process is not killed for one: a library that tries something new (a file of settings, a
/// clock) would then take a mounted device or the trail down, while an attacker gains as little from
/// an error as from a death.
struct Allowed {
    calls: &'static [i64],
    restricted: &'static [(i64, Argument)],
}

impl Allowed {
    /// The filters, in the order they are applied.
    fn filters(&self) -> io::Result<[BpfProgram; 2]> {
        let mut allowed: BTreeMap<i64, Vec<SeccompRule>> =
            COMMON.iter().chain(self.calls).map(|call| (*call, Vec::new())).collect();
        for (call, argument) in COMMON_RESTRICTED.iter().chain(self.restricted) {
            allowed.insert(*call, rules(*argument)?);
        }
        // Signals to this process only.
        let own = SeccompCondition::new(
            0,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Eq,
            u64::from(std::process::id()),
        );
        let own =
            SeccompRule::new(vec![own.map_err(io::Error::other)?]).map_err(io::Error::other)?;
        allowed.insert(libc::SYS_tgkill, vec![own]);
        Ok([without_clone3()?, program(allowed, refused(Errno::PERM), SeccompAction::Allow)?])
    }
}

/// glibc takes ENOSYS, and nothing else, for a kernel without clone3, and goes on with clone, whose
/// flags a filter can see. A filter has one answer, so this is one of its own; of two answers the
/// kernel takes the stricter.
fn without_clone3() -> io::Result<BpfProgram> {
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    program(unknown, SeccompAction::Allow, refused(Errno::NOSYS))
}

fn refused(errno: Errno) -> SeccompAction {
    SeccompAction::Errno(errno.raw_os_error().cast_unsigned())
}

/// Neither traced nor dumped: what it holds in memory is for nobody else.
fn close_up() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

fn apply(filters: &[BpfProgram]) -> io::Result<()> {
    filters
        .iter()
        .try_for_each(|filter| seccompiler::apply_filter(filter))
        .map_err(io::Error::other)
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
    fn the_filters_compile_and_no_call_is_listed_twice() {
        for allowed in [volume::ALLOWED, writer::ALLOWED, writer::ALLOWED_KERNEL] {
            for filter in allowed.filters().unwrap() {
                assert!(!filter.is_empty() && filter.len() < 4096, "{}", filter.len());
            }
            let restricted = COMMON_RESTRICTED.iter().chain(allowed.restricted);
            let calls = COMMON.iter().chain(allowed.calls).chain(restricted.map(|(call, _)| call));
            let all: Vec<_> = calls.collect();
            let once: std::collections::BTreeSet<_> = all.iter().collect();
            assert_eq!(all.len(), once.len());
        }
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
