//! How many datagrams the kernel dropped at a socket (SO_MEMINFO; linux/sock_diag.h).
//!
//! ENOBUFS says once that something was dropped and not how much, and nothing at all while the
//! queue stays full; this counter is the sum. `/proc/net/netlink` shows the same number for the
//! price of listing every socket of the system.

#![allow(unsafe_code, reason = "no library asks for SO_MEMINFO")]

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd};

/// `SK_MEMINFO_DROPS` and `SK_MEMINFO_VARS` of linux/sock_diag.h.
const DROPS: usize = 8;
const VARS: usize = 9;

/// Datagrams dropped since the socket was made, modulo 2^32.
///
/// # Errors
/// Where it is no socket, or the kernel is older than 4.12.
pub(crate) fn dropped(socket: impl AsFd) -> io::Result<u32> {
    let mut vars = [0_u32; VARS];
    let size = size_of_val(&vars);
    let mut length = libc::socklen_t::try_from(size).map_err(io::Error::other)?;
    // SAFETY: the descriptor is borrowed, so open; the kernel writes at most `length` bytes to
    // `vars`, which has as many, may hold any bits, and is aligned for the u32 that it holds.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            vars.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // Kernels before 4.12 know fewer variables.
    if usize::try_from(length) != Ok(size) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(vars[DROPS])
}
