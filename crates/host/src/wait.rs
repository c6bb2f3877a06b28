//! Waiting for a descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// True when a read would not block: something, an error or the end is there. At most `timeout`
/// (`None`: as long as it takes).
///
/// # Errors
/// EINVAL for more seconds than the kernel counts.
pub(crate) fn readable(fd: impl AsFd, timeout: Option<Duration>) -> io::Result<bool> {
    any_readable(&[fd.as_fd()], timeout)
}

/// The same of several.
pub(crate) fn any_readable(of: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<bool> {
    let until = timeout.map(|timeout| Instant::now().checked_add(timeout).ok_or(Errno::INVAL));
    let until = until.transpose()?;
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map(Timespec::try_from).transpose();
        let left = left.map_err(|_| Errno::INVAL)?;
        let mut fds: Vec<_> = of.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        match poll(&mut fds, left.as_ref()) {
            Err(Errno::INTR) => {}
            ready => return Ok(ready? > 0),
        }
    }
}
