//! ioctl(2): with an argument whose type says which call it is for, or with a number.

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
    answered(unsafe { libc::ioctl(file, A::REQUEST, std::ptr::from_mut(argument)) }).map(drop)
}

/// The calls of `linux/loop.h` whose argument is a number, or nothing: never an address.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum LoopCall {
    SetFd = 0x4c00,
    ClearFd = 0x4c01,
    ControlGetFree = 0x4c82,
}

/// Calls it, and returns what it returned.
///
/// # Errors
/// What the kernel answered.
pub(crate) fn call_with(
    file: impl AsFd,
    call: LoopCall,
    number: libc::c_int,
) -> io::Result<libc::c_int> {
    let file = file.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and none of these calls
    // takes its argument for an address.
    answered(unsafe { libc::ioctl(file, call as libc::Ioctl, number) })
}

fn answered(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
