//! The writer of the trail: it holds the signing key, and takes entries from whoever may send them.

use std::io;

use rustix::fs::{Gid, Uid};

use super::{Allowed, Argument, Capabilities, alone, apply, close_up, drop_capabilities};

/// What a writer needs beside files and unix sockets.
#[derive(Clone, Copy, Debug)]
pub struct Writer {
    /// Whose files it makes: numbers of a user and a group; none where it stays who it is.
    pub owner: Option<(u32, u32)>,
    /// It starts programs (sinks), which need what no list of ours knows.
    pub starts_programs: bool,
    /// What it keeps of its capabilities; none, but for a sink that the kernel wants one for.
    pub keep: Capabilities,
}

/// Confines this process to files and unix sockets: nothing can be executed, traced, mounted, sent
/// to another host or gained any more. Threads started later inherit all of it.
///
/// No capability but those it keeps, no_new_privs, not dumpable, no core, and a list of system calls
/// beyond which everything answers EPERM (see `ALLOWED`). A writer that starts programs has all of
/// that but the list: a filter is the programs' too, and what `ssh` needs is not ours to know.
///
/// # Errors
/// Where other threads run already, another user's rights cannot be taken, or the kernel knows no
/// seccomp filters. The process may be partly confined then and had better end.
pub fn confine_writer(writer: &Writer) -> io::Result<()> {
    alone()?;
    if let Some((uid, gid)) = writer.owner {
        // Who takes another number loses what he does not say he keeps.
        if !writer.keep.is_empty() {
            rustix::thread::set_keep_capabilities(true)?;
        }
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(
            Gid::from_raw(gid),
            Gid::from_raw(gid),
            Gid::from_raw(gid),
        )?;
        rustix::thread::set_thread_res_uid(
            Uid::from_raw(uid),
            Uid::from_raw(uid),
            Uid::from_raw(uid),
        )?;
    }
    drop_capabilities(writer.keep)?;
    close_up()?;
    match (writer.starts_programs, writer.keep.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => apply(&ALLOWED.filters()?),
        (false, false) => apply(&ALLOWED_KERNEL.filters()?),
    }
}

/// Every call that it may make beside the common ones.
pub(super) const ALLOWED: Allowed = Allowed {
    calls: CALLS,
    restricted: &[
        (libc::SYS_socket, Argument::OneOf(0, &[libc::AF_UNIX as u64])),
        (libc::SYS_socketpair, Argument::OneOf(0, &[libc::AF_UNIX as u64])),
    ],
};

/// The same for one that talks to the kernel by netlink, with the capability that it keeps for that.
pub(super) const ALLOWED_KERNEL: Allowed = Allowed {
    calls: CALLS,
    restricted: &[
        (libc::SYS_socket, Argument::OneOf(0, &[libc::AF_UNIX as u64, libc::AF_NETLINK as u64])),
        (libc::SYS_socketpair, Argument::OneOf(0, &[libc::AF_UNIX as u64])),
    ],
};

const CALLS: &[i64] = &[
    // Files: the trail's, a sink's.
    libc::SYS_openat,
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    // Sockets, apart from socket and socketpair.
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_setsockopt,
    // The older forms, which aarch64 does not have.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
];
