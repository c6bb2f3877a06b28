//! ioctl(2) with an argument whose type says which call it is for.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The argument of one ioctl.
///
/// # Safety
/// The call [`REQUEST`](Argument::REQUEST) must read and write no memory but the value itself and
/// what its typed references point to, and whatever the kernel may write must be a value of
/// the types.
pub(crate) unsafe trait Argument {
    /// The request's number.
    const REQUEST: libc::Ioctl;
}

/// Calls it.
///
/// # Errors
/// What the kernel answered; `ENOTTY` and `EOPNOTSUPP` where the file knows no such call.
pub(crate) fn call<A: Argument>(file: impl AsFd, argument: &mut A) -> io::Result<()> {
    let file = file.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and `Argument` promises
    // that this request touches nothing but the value that is borrowed here.
    let result = unsafe { libc::ioctl(file, A::REQUEST, std::ptr::from_mut(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
