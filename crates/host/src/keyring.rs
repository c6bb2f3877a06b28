//! Keys for the kernel (`keyrings(7)`).

#![allow(unsafe_code, reason = "no library adds keys")]

use std::ffi::CString;
use std::io;

/// `KEY_SPEC_THREAD_KEYRING` of `linux/keyctl.h`.
const THREAD_KEYRING: libc::c_long = -1;

/// Puts bytes under a name where this thread, and what the kernel does in its name, finds them: as a key
/// of type `user` in the thread's own keyring, which ends with it.
///
/// # Errors
/// EINVAL for a description with a NUL or bytes too many, or what the kernel answered.
pub fn add_user_key(description: &str, payload: &[u8]) -> io::Result<()> {
    let description = CString::new(description)?;
    // SAFETY: type and description are NUL-terminated and the payload has as many bytes as is said;
    // the kernel reads them and keeps no reference.
    let key = unsafe {
        libc::syscall(
            libc::SYS_add_key,
            c"user".as_ptr(),
            description.as_ptr(),
            payload.as_ptr(),
            payload.len(),
            THREAD_KEYRING,
        )
    };
    if key < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
