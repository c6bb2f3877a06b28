//! Words to the service manager (sd_notify(3)): a datagram to the socket in `NOTIFY_SOCKET`.
//!
//! Each function says whether there was anybody to tell.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The device can be read.
///
/// # Errors
/// Where the socket named in the environment does not take the datagram.
pub fn ready() -> io::Result<bool> {
    tell("READY=1", Patience::Wait)
}

/// One line for people, shown by `systemctl status`. Line feeds become blanks. Where the manager
/// is behind with its messages, it is not waited for.
///
/// # Errors
/// As [`ready`], and `WouldBlock`.
pub fn status(text: &str) -> io::Result<bool> {
    tell(&format!("STATUS={}", text.replace('\n', " ")), Patience::Leave)
}

/// The device is being closed.
///
/// # Errors
/// As [`status`].
pub fn stopping() -> io::Result<bool> {
    tell("STOPPING=1", Patience::Leave)
}

/// What to do where the manager's queue is full.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// It matters that this arrives.
    Wait,
    /// Something else matters more, such as a reader that waits.
    Leave,
}

fn tell(word: &str, patience: Patience) -> io::Result<bool> {
    let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return Ok(false);
    };
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(&name)?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "NOTIFY_SOCKET is no path")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(patience == Patience::Leave)?;
    socket.send_to_addr(word.as_bytes(), &address)?;
    Ok(true)
}
