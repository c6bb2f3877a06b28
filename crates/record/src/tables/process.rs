//! Names that belong to processes: signals, limits, capabilities, clone, ptrace,
//! prctl, bpf and the like (`linux/*.h`).

use super::Named;

/// Declares tables of `number NAME` pairs.
macro_rules! named {
    ($($(#[$doc:meta])* $table:ident: { $($number:literal $name:ident),* $(,)? })*) => {
        $($(#[$doc])* pub const $table: Named = &[$(($number, stringify!($name))),*];)*
    };
}

named! {
    /// Commands of `bpf`.
    BPF: {
        0 BPF_MAP_CREATE, 1 BPF_MAP_LOOKUP_ELEM, 2 BPF_MAP_UPDATE_ELEM, 3 BPF_MAP_DELETE_ELEM,
        4 BPF_MAP_GET_NEXT_KEY, 5 BPF_PROG_LOAD, 6 BPF_OBJ_PIN, 7 BPF_OBJ_GET, 8 BPF_PROG_ATTACH,
        9 BPF_PROG_DETACH, 10 BPF_PROG_TEST_RUN, 11 BPF_PROG_GET_NEXT_ID, 12 BPF_MAP_GET_NEXT_ID,
        13 BPF_PROG_GET_FD_BY_ID, 14 BPF_MAP_GET_FD_BY_ID, 15 BPF_OBJ_GET_INFO_BY_FD,
        16 BPF_PROG_QUERY, 17 BPF_RAW_TRACEPOINT_OPEN, 18 BPF_BTF_LOAD, 19 BPF_BTF_GET_FD_BY_ID,
        20 BPF_TASK_FD_QUERY, 21 BPF_MAP_LOOKUP_AND_DELETE_ELEM, 22 BPF_MAP_FREEZE,
        23 BPF_BTF_GET_NEXT_ID, 24 BPF_MAP_LOOKUP_BATCH, 25 BPF_MAP_LOOKUP_AND_DELETE_BATCH,
        26 BPF_MAP_UPDATE_BATCH, 27 BPF_MAP_DELETE_BATCH, 28 BPF_LINK_CREATE, 29 BPF_LINK_UPDATE,
        30 BPF_LINK_GET_FD_BY_ID, 31 BPF_LINK_GET_NEXT_ID, 32 BPF_ENABLE_STATS,
        33 BPF_ITER_CREATE, 34 BPF_LINK_DETACH, 35 BPF_PROG_BIND_MAP, 36 BPF_TOKEN_CREATE,
    }
    /// Capabilities, as audit spells them.
    CAPABILITIES: {
        0 chown, 1 dac_override, 2 dac_read_search, 3 fowner, 4 fsetid, 5 kill, 6 setgid,
        7 setuid, 8 setpcap, 9 linux_immutable, 10 net_bind_service, 11 net_broadcast,
        12 net_admin, 13 net_raw, 14 ipc_lock, 15 ipc_owner, 16 sys_module, 17 sys_rawio,
        18 sys_chroot, 19 sys_ptrace, 20 sys_pacct, 21 sys_admin, 22 sys_boot, 23 sys_nice,
        24 sys_resource, 25 sys_time, 26 sys_tty_config, 27 mknod, 28 lease, 29 audit_write,
        30 audit_control, 31 setfcap, 32 mac_override, 33 mac_admin, 34 syslog, 35 wake_alarm,
        36 block_suspend, 37 audit_read, 38 perfmon, 39 bpf, 40 checkpoint_restore,
    }
    /// Clocks.
    CLOCKS: {
        0 CLOCK_REALTIME, 1 CLOCK_MONOTONIC, 2 CLOCK_PROCESS_CPUTIME_ID,
        3 CLOCK_THREAD_CPUTIME_ID, 4 CLOCK_MONOTONIC_RAW, 5 CLOCK_REALTIME_COARSE,
        6 CLOCK_MONOTONIC_COARSE, 7 CLOCK_BOOTTIME, 8 CLOCK_REALTIME_ALARM,
        9 CLOCK_BOOTTIME_ALARM, 10 CLOCK_SGI_CYCLE, 11 CLOCK_TAI,
    }
    /// Bits of `clone`, `unshare` and `setns`.
    CLONE_FLAGS: {
        0x100 CLONE_VM, 0x200 CLONE_FS, 0x400 CLONE_FILES, 0x800 CLONE_SIGHAND,
        0x1000 CLONE_PIDFD, 0x2000 CLONE_PTRACE, 0x4000 CLONE_VFORK, 0x8000 CLONE_PARENT,
        0x10000 CLONE_THREAD, 0x20000 CLONE_NEWNS, 0x40000 CLONE_SYSVSEM, 0x80000 CLONE_SETTLS,
        0x100000 CLONE_PARENT_SETTID, 0x200000 CLONE_CHILD_CLEARTID, 0x400000 CLONE_DETACHED,
        0x800000 CLONE_UNTRACED, 0x1000000 CLONE_CHILD_SETTID, 0x2000000 CLONE_NEWCGROUP,
        0x4000000 CLONE_NEWUTS, 0x8000000 CLONE_NEWIPC, 0x10000000 CLONE_NEWUSER,
        0x20000000 CLONE_NEWPID, 0x40000000 CLONE_NEWNET, 0x80000000 CLONE_IO,
    }
    /// Execution domains that fit the low byte of a personality.
    PERSONALITIES: {
        0 PER_LINUX, 6 PER_BSD, 8 PER_LINUX32, 12 PER_RISCOS, 15 PER_OSF4, 16 PER_HPUX,
    }
    /// Options of `prctl`.
    PRCTL: {
        1 PR_SET_PDEATHSIG, 2 PR_GET_PDEATHSIG, 3 PR_GET_DUMPABLE, 4 PR_SET_DUMPABLE,
        5 PR_GET_UNALIGN, 6 PR_SET_UNALIGN, 7 PR_GET_KEEPCAPS, 8 PR_SET_KEEPCAPS, 9 PR_GET_FPEMU,
        10 PR_SET_FPEMU, 11 PR_GET_FPEXC, 12 PR_SET_FPEXC, 13 PR_GET_TIMING, 14 PR_SET_TIMING,
        15 PR_SET_NAME, 16 PR_GET_NAME, 19 PR_GET_ENDIAN, 20 PR_SET_ENDIAN, 21 PR_GET_SECCOMP,
        22 PR_SET_SECCOMP, 23 PR_CAPBSET_READ, 24 PR_CAPBSET_DROP, 25 PR_GET_TSC, 26 PR_SET_TSC,
        27 PR_GET_SECUREBITS, 28 PR_SET_SECUREBITS, 29 PR_SET_TIMERSLACK, 30 PR_GET_TIMERSLACK,
        31 PR_TASK_PERF_EVENTS_DISABLE, 32 PR_TASK_PERF_EVENTS_ENABLE, 33 PR_MCE_KILL,
        34 PR_MCE_KILL_GET, 35 PR_SET_MM, 36 PR_SET_CHILD_SUBREAPER, 37 PR_GET_CHILD_SUBREAPER,
        38 PR_SET_NO_NEW_PRIVS, 39 PR_GET_NO_NEW_PRIVS, 40 PR_GET_TID_ADDRESS,
        41 PR_SET_THP_DISABLE, 42 PR_GET_THP_DISABLE, 43 PR_MPX_ENABLE_MANAGEMENT,
        44 PR_MPX_DISABLE_MANAGEMENT, 45 PR_SET_FP_MODE, 46 PR_GET_FP_MODE, 47 PR_CAP_AMBIENT,
        50 PR_SVE_SET_VL, 51 PR_SVE_GET_VL, 52 PR_GET_SPECULATION_CTRL,
        53 PR_SET_SPECULATION_CTRL, 54 PR_PAC_RESET_KEYS, 55 PR_SET_TAGGED_ADDR_CTRL,
        56 PR_GET_TAGGED_ADDR_CTRL, 57 PR_SET_IO_FLUSHER, 58 PR_GET_IO_FLUSHER,
        59 PR_SET_SYSCALL_USER_DISPATCH, 60 PR_PAC_SET_ENABLED_KEYS, 61 PR_PAC_GET_ENABLED_KEYS,
        62 PR_SCHED_CORE, 63 PR_SME_SET_VL, 64 PR_SME_GET_VL, 65 PR_SET_MDWE, 66 PR_GET_MDWE,
        67 PR_SET_MEMORY_MERGE, 68 PR_GET_MEMORY_MERGE, 1398164801 PR_SET_VMA,
        1499557217 PR_SET_PTRACER,
    }
    /// Requests of `ptrace`, with the numbers of x86.
    PTRACE: {
        0 PTRACE_TRACEME, 1 PTRACE_PEEKTEXT, 2 PTRACE_PEEKDATA, 3 PTRACE_PEEKUSER,
        4 PTRACE_POKETEXT, 5 PTRACE_POKEDATA, 6 PTRACE_POKEUSER, 7 PTRACE_CONT, 8 PTRACE_KILL,
        9 PTRACE_SINGLESTEP, 12 PTRACE_GETREGS, 13 PTRACE_SETREGS, 14 PTRACE_GETFPREGS,
        15 PTRACE_SETFPREGS, 16 PTRACE_ATTACH, 17 PTRACE_DETACH, 18 PTRACE_GETFPXREGS,
        19 PTRACE_SETFPXREGS, 24 PTRACE_SYSCALL, 25 PTRACE_GET_THREAD_AREA,
        26 PTRACE_SET_THREAD_AREA, 30 PTRACE_ARCH_PRCTL, 31 PTRACE_SYSEMU,
        32 PTRACE_SYSEMU_SINGLESTEP, 33 PTRACE_SINGLEBLOCK, 16896 PTRACE_SETOPTIONS,
        16897 PTRACE_GETEVENTMSG, 16898 PTRACE_GETSIGINFO, 16899 PTRACE_SETSIGINFO,
        16900 PTRACE_GETREGSET, 16901 PTRACE_SETREGSET, 16902 PTRACE_SEIZE,
        16903 PTRACE_INTERRUPT, 16904 PTRACE_LISTEN, 16905 PTRACE_PEEKSIGINFO,
        16906 PTRACE_GETSIGMASK, 16907 PTRACE_SETSIGMASK, 16908 PTRACE_SECCOMP_GET_FILTER,
        16909 PTRACE_SECCOMP_GET_METADATA, 16910 PTRACE_GET_SYSCALL_INFO,
        16911 PTRACE_GET_RSEQ_CONFIGURATION,
    }
    /// Resource limits.
    RLIMITS: {
        0 RLIMIT_CPU, 1 RLIMIT_FSIZE, 2 RLIMIT_DATA, 3 RLIMIT_STACK, 4 RLIMIT_CORE, 5 RLIMIT_RSS,
        6 RLIMIT_NPROC, 7 RLIMIT_NOFILE, 8 RLIMIT_MEMLOCK, 9 RLIMIT_AS, 10 RLIMIT_LOCKS,
        11 RLIMIT_SIGPENDING, 12 RLIMIT_MSGQUEUE, 13 RLIMIT_NICE, 14 RLIMIT_RTPRIO,
        15 RLIMIT_RTTIME,
    }
    /// Scheduling policies.
    SCHED: {
        0 SCHED_OTHER, 1 SCHED_FIFO, 2 SCHED_RR, 3 SCHED_BATCH, 5 SCHED_IDLE, 6 SCHED_DEADLINE,
        7 SCHED_EXT,
    }
    /// Signals below the real-time ones; the null signal of `kill` is `SIG0`.
    SIGNALS: {
        0 SIG0, 1 SIGHUP, 2 SIGINT, 3 SIGQUIT, 4 SIGILL, 5 SIGTRAP, 6 SIGABRT, 7 SIGBUS, 8 SIGFPE,
        9 SIGKILL, 10 SIGUSR1, 11 SIGSEGV, 12 SIGUSR2, 13 SIGPIPE, 14 SIGALRM, 15 SIGTERM,
        16 SIGSTKFLT, 17 SIGCHLD, 18 SIGCONT, 19 SIGSTOP, 20 SIGTSTP, 21 SIGTTIN, 22 SIGTTOU,
        23 SIGURG, 24 SIGXCPU, 25 SIGXFSZ, 26 SIGVTALRM, 27 SIGPROF, 28 SIGWINCH, 29 SIGIO,
        30 SIGPWR, 31 SIGSYS,
    }
    /// Operations of `io_uring` (`uring_op`).
    URING: {
        0 nop, 1 readv, 2 writev, 3 fsync, 4 read_fixed, 5 write_fixed, 6 poll_add, 7 poll_remove,
        8 sync_file_range, 9 sendmsg, 10 recvmsg, 11 timeout, 12 timeout_remove, 13 accept,
        14 async_cancel, 15 link_timeout, 16 connect, 17 fallocate, 18 openat, 19 close,
        20 files_update, 21 statx, 22 read, 23 write, 24 fadvise, 25 madvise, 26 send, 27 recv,
        28 openat2, 29 epoll_ctl, 30 splice, 31 provide_buffers, 32 remove_buffers, 33 tee,
        34 shutdown, 35 renameat, 36 unlinkat, 37 mkdirat, 38 symlinkat, 39 linkat, 40 msg_ring,
        41 fsetxattr, 42 setxattr, 43 fgetxattr, 44 getxattr, 45 socket, 46 uring_cmd, 47 send_zc,
        48 sendmsg_zc,
    }
}

/// Actions of a seccomp filter, the data bits cut off.
pub const SECCOMP: Named = &[
    (0x0, "kill"),
    (0x30000, "trap"),
    (0x50000, "errno"),
    (0x7fc00000, "user-notify"),
    (0x7ff00000, "trace"),
    (0x7ffc0000, "log"),
    (0x7fff0000, "allow"),
];
