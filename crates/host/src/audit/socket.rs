//! A netlink socket of audit's: whole datagrams to and from the kernel.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{
    set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, socket_recv_buffer_size,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recvfrom, sendto,
    socket_with,
};

use super::batch::Batch;

#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

/// A datagram as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    /// Its bytes, which are more than the buffer's where it was cut.
    pub(super) length: usize,
    /// The sender's port; 0 is the kernel.
    pub(super) port: u32,
}

impl Socket {
    pub(super) fn open() -> Result<Self, Errno> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        socket_with(family, kind, SocketFlags::CLOEXEC, Some(netlink::AUDIT)).map(Self)
    }

    /// Gets a port of its own, and all messages to `groups`.
    pub(super) fn bind(&self, groups: u32) -> Result<(), Errno> {
        bind(&self.0, &SocketAddrNetlink::new(0, groups))
    }

    /// Room for what is not read yet: beyond the system's limit where we may, else as much as
    /// that allows.
    pub(super) fn set_receive_buffer(&self, bytes: usize) -> Result<(), Errno> {
        match set_socket_recv_buffer_size_force(&self.0, bytes) {
            Err(Errno::PERM) => set_socket_recv_buffer_size(&self.0, bytes),
            done => done,
        }
    }

    /// What the kernel made of it: twice as much, since its own bookkeeping counts too.
    pub(super) fn receive_buffer(&self) -> Result<usize, Errno> {
        socket_recv_buffer_size(&self.0)
    }

    /// To the kernel, which has acted on it when this returns.
    pub(super) fn send(&self, message: &[u8]) -> Result<(), Errno> {
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::io::retry_on_intr(|| sendto(&self.0, message, SendFlags::empty(), &kernel))?;
        Ok(())
    }

    /// Takes the next datagram if there is one. ENOBUFS, once, where some were dropped.
    pub(super) fn take(&self, buf: &mut [u8]) -> Result<Option<Arrived>, Errno> {
        self.read(buf, RecvFlags::empty())
    }

    /// Takes as many as one call gives.
    pub(super) fn take_many(&self, batch: &mut Batch) -> Result<(), Errno> {
        batch.fill(self.as_fd())
    }

    /// Shows the next one, and leaves it there.
    pub(super) fn peek(&self, buf: &mut [u8]) -> Result<Option<Arrived>, Errno> {
        self.read(buf, RecvFlags::PEEK)
    }

    fn read(&self, buf: &mut [u8], flags: RecvFlags) -> Result<Option<Arrived>, Errno> {
        let flags = flags | RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        match rustix::io::retry_on_intr(|| recvfrom(&self.0, &mut *buf, flags)) {
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error),
            Ok((_, length, sender)) => {
                // Who has no address is not the kernel.
                let sender = sender.and_then(|any| SocketAddrNetlink::try_from(any).ok());
                Ok(Some(Arrived { length, port: sender.map_or(u32::MAX, |sender| sender.pid()) }))
            }
        }
    }

    /// Datagrams that were dropped since it was made, modulo 2^32.
    pub(super) fn dropped(&self) -> io::Result<u32> {
        crate::drops::dropped(self)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
