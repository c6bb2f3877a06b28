//! Words to the service manager (sd_notify(3)): a datagram to the socket in `NOTIFY_SOCKET`.
//!
//! Each function says whether there was anybody to tell.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Whether there is a manager that wants to be told.
#[must_use]
pub fn is_listening() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some_and(|name| !name.is_empty())
}

/// How often the manager wants to hear [`watchdog`] at least; none where it does not
/// (sd_watchdog_enabled(3)).
#[must_use]
pub fn watchdog_period() -> Option<Duration> {
    let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
    let pid = env::var_os("WATCHDOG_PID").is_some();
    if pid && number("WATCHDOG_PID") != Some(std::process::id().into()) {
        return None;
    }
    number("WATCHDOG_USEC").filter(|micros| *micros > 0).map(Duration::from_micros)
}

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

/// It lives, and does what it is there for.
///
/// # Errors
/// As [`status`].
pub fn watchdog() -> io::Result<bool> {
    tell("WATCHDOG=1", Patience::Leave)
}

/// The configuration is being read again; [`ready`] follows.
///
/// # Errors
/// As [`status`].
pub fn reloading() -> io::Result<bool> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"), Patience::Leave)
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
