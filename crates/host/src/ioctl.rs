//! ioctl(2): with an argument whose type says which call it is for, or with a number.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

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

/// `NS_GET_PARENT` of linux/nsfs.h.
const NAMESPACES_PARENT: libc::Ioctl = 0xb702;

/// The namespace that this one, of processes or users, was made in.
///
/// # Errors
/// EPERM where that is none that we may see; what the kernel answered.
pub(crate) fn parent_of(namespace: impl AsFd) -> io::Result<OwnedFd> {
    let file = namespace.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for as long as `namespace` is borrowed, and the call takes no argument.
    let parent = answered(unsafe { libc::ioctl(file, NAMESPACES_PARENT) })?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(parent) })
}

fn answered(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
