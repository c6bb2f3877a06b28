//! A socket between two processes of ours that keeps the bounds of messages and carries
//! descriptors (unix(7), SOCK_SEQPACKET, SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};

use crate::wait::readable;

/// The most descriptors one message carries.
pub const MAX_DESCRIPTORS: usize = 32;

/// One end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// What [`Channel::recv`] came back with.
#[derive(Debug)]
pub enum Received {
    /// A whole message: its length in bytes, and its descriptors, each close-on-exec.
    Message {
        /// Bytes of the buffer that are the message.
        len: usize,
        /// In the sender's order.
        fds: Vec<OwnedFd>,
    },
    /// The other end is closed, and every message was taken.
    Closed,
    /// Nothing came in time.
    TimedOut,
}

impl Channel {
    /// Two connected ends, each close-on-exec.
    ///
    /// # Errors
    /// Where the process or the system has no descriptor left.
    pub fn pair() -> io::Result<(Self, Self)> {
        Self::pair_of(SocketType::SEQPACKET)
    }

    /// The same as a byte stream, which is what `fusermount3` speaks.
    pub(crate) fn stream_pair() -> io::Result<(Self, Self)> {
        Self::pair_of(SocketType::STREAM)
    }

    fn pair_of(kind: SocketType) -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// The end that a parent gave this process as its standard input. Descriptor 0 itself stays
    /// what it is; the other end therefore sees this one closed when the process ends, not
    /// before.
    ///
    /// # Errors
    /// Where standard input is no socket of this kind, or no descriptor is left.
    pub fn from_stdin() -> io::Result<Self> {
        let stdin = io::stdin();
        if rustix::net::sockopt::socket_type(&stdin)? != SocketType::SEQPACKET {
            return Err(Errno::PROTOTYPE.into());
        }
        Ok(Self(rustix::io::fcntl_dupfd_cloexec(&stdin, 3)?))
    }

    /// From now on a message is not sent (EAGAIN) that the other end, whose buffer is full, does not
    /// make room for in this time.
    ///
    /// # Errors
    /// EDOM for a time of zero or too long a time.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        Ok(set_socket_timeout(&self.0, Timeout::Send, Some(patience))?)
    }

    /// Sends one message with its descriptors; waits where the other end's buffer is full.
    ///
    /// # Errors
    /// EPIPE where the other end is closed (never a signal), EMSGSIZE where the message is longer
    /// than the socket's buffer, EINVAL for an empty message (which would read as the end) or
    /// more than [`MAX_DESCRIPTORS`].
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.is_empty() || fds.len() > MAX_DESCRIPTORS {
            return Err(Errno::INVAL.into());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::INVAL.into());
        }
        let sent = rustix::io::retry_on_intr(|| {
            sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
        })?;
        if sent == bytes.len() { Ok(()) } else { Err(Errno::MSGSIZE.into()) }
    }

    /// Takes the next message, waiting for it at most `timeout` (`None`: as long as it takes).
    ///
    /// # Errors
    /// EMSGSIZE where the message did not fit `buf` or brought more than [`MAX_DESCRIPTORS`]: it
    /// is lost, and its descriptors are closed.
    pub fn recv(&self, buf: &mut [u8], timeout: Option<Duration>) -> io::Result<Received> {
        if !readable(&self.0, timeout)? {
            return Ok(Received::TimedOut);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = rustix::io::retry_on_intr(|| {
            recvmsg(&self.0, &mut [IoSliceMut::new(buf)], &mut control, RecvFlags::CMSG_CLOEXEC)
        });
        let message = match message {
            // The other end was closed with something of ours unread in it.
            Err(Errno::CONNRESET) => return Ok(Received::Closed),
            message => message?,
        };
        let mut fds = Vec::new();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = part {
                fds.extend(rights);
            }
        }
        // Padding may leave room for one more than was asked for.
        let cut = message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
        if cut || fds.len() > MAX_DESCRIPTORS {
            return Err(Errno::MSGSIZE.into());
        }
        if message.bytes == 0 {
            return Ok(Received::Closed);
        }
        Ok(Received::Message { len: message.bytes, fds })
    }
}

impl From<OwnedFd> for Channel {
    /// Takes over a descriptor that is one end; nothing is checked.
    fn from(end: OwnedFd) -> Self {
        Self(end)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
