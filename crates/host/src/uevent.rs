//! What the kernel tells of devices (NETLINK_KOBJECT_UEVENT, group 1).
//!
//! ```text
//! change@/devices/virtual/block/dm-0 NUL ACTION=change NUL DM_TARGET=verity NUL …
//! ```
//!
//! Group 1 is the kernel's; anybody with CAP_NET_ADMIN can send to it all the same, so the sender is looked
//! at: the kernel's port is 0, and no process has that one.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SocketFlags, SocketType, bind,
    recvmsg, socket_with,
};

use crate::drops::dropped;
use crate::wait::readable;

/// An open socket.
#[derive(Debug)]
pub struct Uevents {
    socket: OwnedFd,
    buf: Vec<u8>,
    drops: Drops,
}

/// What [`Uevents::recv`] came back with.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A message of the kernel's, as it sent it.
    Message(&'a [u8]),
    /// So many were dropped, for they were not read in time; one that somebody else sent counts, too.
    Lost(u64),
    /// Nothing came in time.
    TimedOut,
}

/// The kernel's longest has 2048 bytes of variables and a path (`UEVENT_BUFFER_SIZE`).
const LONGEST: usize = 16 << 10;

/// The kernel's multicast group; udev's own is 2.
const KERNEL: u32 = 1;

impl Uevents {
    /// Listens, with this much room for what is not read yet; less where we may not have as much.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn open(receive_buffer_bytes: usize) -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(KOBJECT_UEVENT),
        )?;
        if set_socket_recv_buffer_size_force(&socket, receive_buffer_bytes).is_err() {
            set_socket_recv_buffer_size(&socket, receive_buffer_bytes)?;
        }
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
        let drops = Drops::of(&socket)?;
        Ok(Self { socket, buf: vec![0; LONGEST], drops })
    }

    /// Takes what comes next, waiting for it at most `timeout` (`None`: as long as it takes).
    ///
    /// # Errors
    /// What the kernel answered, but for a loss.
    pub fn recv(&mut self, timeout: Option<Duration>) -> io::Result<Received<'_>> {
        let len = loop {
            let mut control = RecvAncillaryBuffer::default();
            let mut space = [IoSliceMut::new(&mut self.buf)];
            match recvmsg(&self.socket, &mut space, &mut control, RecvFlags::empty()) {
                Ok(message) => {
                    let sender = message.address.map(SocketAddrNetlink::try_from);
                    if !matches!(sender, Some(Ok(sender)) if sender.pid() == 0) {
                        continue;
                    }
                    if message.flags.contains(ReturnFlags::TRUNC) {
                        return Ok(Received::Lost(1));
                    }
                    break message.bytes;
                }
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => {
                    self.drops.rising = true;
                    if let Some(lost) = self.drops.more(&self.socket)? {
                        return Ok(Received::Lost(lost));
                    }
                }
                Err(Errno::AGAIN) => {
                    // Until the queue was empty further ones were dropped without a word.
                    if self.drops.rising {
                        self.drops.rising = false;
                        if let Some(lost) = self.drops.more(&self.socket)? {
                            return Ok(Received::Lost(lost));
                        }
                    }
                    if !readable(&self.socket, timeout)? {
                        return Ok(Received::TimedOut);
                    }
                }
                Err(errno) => return Err(errno.into()),
            }
        };
        Ok(Received::Message(&self.buf[..len]))
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How many messages the kernel dropped, and was asked about.
#[derive(Debug)]
struct Drops {
    told: u32,
    /// Whether some were, and the queue was not empty since.
    rising: bool,
}

impl Drops {
    fn of(socket: &OwnedFd) -> io::Result<Self> {
        Ok(Self { told: dropped(socket)?, rising: false })
    }

    /// How many more since it was asked last.
    fn more(&mut self, socket: &OwnedFd) -> io::Result<Option<u64>> {
        let now = dropped(socket)?;
        let more = now.wrapping_sub(self.told);
        self.told = now;
        Ok((more > 0).then_some(u64::from(more)))
    }
}
