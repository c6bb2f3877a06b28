//! The records of audit as they are made.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::batch::Batch;
use super::control::Control;
use super::error::{Capability, Error};
use super::message::{self, ReplyBody, Setting, kind, replies, request};
use super::socket::Socket;
use crate::wait::{any_readable, readable};

/// The records of audit, each once, in the kernel's order.
///
/// Nothing flows while auditing is off ([`Control::set_enabled`]), nor to a multicast reader in
/// another network namespace than the initial one; the kernel tells neither.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    batch: Batch,
    role: Role,
    /// Records since the count of drops was read.
    unchecked: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Beside a daemon or without one. The kernel waits for nobody: what does not fit the buffer
    /// is dropped. With the drops told of so far, modulo 2^32.
    Multicast { told: u32 },
    /// The audit daemon. The kernel keeps what does not fit and tries again, so a drop at this
    /// socket is no loss; what it cannot keep either is in [`Status::lost`](super::Status::lost).
    Registered,
    /// A reader that can become the audit daemon, or was.
    Spare,
}

/// What [`Stream::recv`] came back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<'b> {
    /// A record: its type and its text, `audit(SECONDS.MILLIS:SERIAL): …`, without a NUL.
    Record {
        /// The number of its type.
        kind: u16,
        /// Its bytes.
        text: &'b [u8],
    },
    /// So many records more were not received: dropped for want of room in the socket's buffer,
    /// or longer than any is.
    Lost(u64),
    /// A process wants to be the audit daemon and will be refused, since we answered; ourselves
    /// where we cease to be it.
    Contested {
        /// That process, in this PID namespace.
        pid: u32,
    },
    /// A message that is no record: not from the kernel, or a refusal of its own. It was thrown
    /// away.
    Foreign {
        /// The sender's netlink port, most often its process; 0 is the kernel.
        port: u32,
    },
    /// Nothing came in time.
    TimedOut,
}

impl Stream {
    /// How many records may come before drops are looked for that were not announced: between
    /// the announcement and the moment when the buffer is empty the kernel drops in silence.
    const CHECK_EVERY: u32 = 64;

    /// Reads beside the audit daemon, if there is one: every record from now on. Needs
    /// CAP_AUDIT_READ. The kernel writes a record of it (EVENT_LISTENER), and one at the end.
    ///
    /// `receive_buffer_bytes` is how much may wait to be read, bookkeeping excluded; without
    /// CAP_NET_ADMIN at most net.core.rmem_max.
    ///
    /// # Errors
    /// Where it may not, or the kernel has no audit.
    pub fn multicast(receive_buffer_bytes: usize) -> Result<Self, Error> {
        /// `AUDIT_NLGRP_READLOG`.
        const READLOG: u32 = 1;
        let doing = "read audit records";
        let errno = |errno| Error::of(doing, errno, Capability::Read);
        let socket = Socket::open().map_err(errno)?;
        socket.set_receive_buffer(receive_buffer_bytes).map_err(errno)?;
        socket.bind(READLOG).map_err(errno)?;
        // Drops can be counted, or it is said now.
        socket.dropped().map_err(Error::io(doing))?;
        Ok(Self {
            socket,
            batch: Batch::default(),
            role: Role::Multicast { told: 0 },
            unchecked: 0,
        })
    }

    /// Becomes the audit daemon: whoever makes records waits rather than lose one, and the kernel
    /// no longer prints them to its log. Ends with [`Stream::close`] or on drop. Needs
    /// CAP_AUDIT_CONTROL and the initial PID namespace.
    ///
    /// # Errors
    /// As [`Stream::multicast`], and where there is a daemon.
    pub fn register(receive_buffer_bytes: usize) -> Result<Self, Error> {
        let mut stream = Self::spare(receive_buffer_bytes)?;
        stream.take_seat()?;
        Ok(stream)
    }

    /// A reader to which nothing comes until it [becomes the audit daemon](Stream::take_seat).
    /// Its buffer's size needs CAP_NET_ADMIN now and not then.
    ///
    /// # Errors
    /// Where the kernel has no audit.
    pub fn spare(receive_buffer_bytes: usize) -> Result<Self, Error> {
        let errno = |errno| Error::of("open a socket to audit", errno, Capability::Control);
        let socket = Socket::open().map_err(errno)?;
        socket.set_receive_buffer(receive_buffer_bytes).map_err(errno)?;
        socket.bind(0).map_err(errno)?;
        Ok(Self { socket, batch: Batch::default(), role: Role::Spare, unchecked: 0 })
    }

    /// Becomes the audit daemon, as [`Stream::register`]. What came when it was the daemon before
    /// has to be read first.
    ///
    /// # Errors
    /// As [`Stream::register`].
    pub fn take_seat(&mut self) -> Result<(), Error> {
        let doing = "become the audit daemon";
        let errno = |errno| Error::of(doing, errno, Capability::Control);
        let pid = rustix::process::getpid().as_raw_nonzero().get().cast_unsigned();
        send_pid(&self.socket, pid).map_err(errno)?;
        // No acknowledgement was asked for, so that records need not be told from it. The kernel
        // has acted when the call returns: where it refused, that is the first datagram.
        match first_answer(&self.socket).map_err(errno)? {
            None => {
                self.role = Role::Registered;
                Ok(())
            }
            Some(Errno::EXIST) => {
                let pid = Control::open().and_then(|mut control| control.status());
                Err(Error::DaemonExists { doing, pid: pid.map_or(0, |status| status.pid) })
            }
            Some(Errno::PERM) => Err(Control::denied(doing)),
            Some(refused) => Err(errno(refused)),
        }
    }

    /// Takes what comes next, waiting for it at most `timeout` (`None`: as long as it takes). To
    /// read all that is there, as after epoll: with a timeout of zero until
    /// [`Received::TimedOut`]; records that were taken with one wait here and not at the descriptor.
    ///
    /// A loss is told of when the kernel announces it, when the socket is empty, and once in 64
    /// records: the numbers add up, their place among the records is not exact.
    ///
    /// # Errors
    /// What recvmmsg(2), poll(2) or getsockopt(2) say.
    pub fn recv(&mut self, timeout: Option<Duration>) -> io::Result<Received<'_>> {
        let mut until = None;
        while self.batch.is_empty() {
            if self.unchecked >= Self::CHECK_EVERY
                && let Some(lost) = self.newly_lost()?
            {
                return Ok(lost);
            }
            match self.socket.take_many(&mut self.batch) {
                Ok(()) => {}
                Err(Errno::AGAIN) => {
                    if let Some(lost) = self.newly_lost()? {
                        return Ok(lost);
                    }
                    let left = timeout.map(|timeout| {
                        let now = Instant::now();
                        until.get_or_insert(now + timeout).saturating_duration_since(now)
                    });
                    if left == Some(Duration::ZERO) || !readable(&self.socket, left)? {
                        return Ok(Received::TimedOut);
                    }
                }
                Err(Errno::NOBUFS) => {
                    if let Some(lost) = self.newly_lost()? {
                        return Ok(lost);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.unchecked += 1;
        let Some((arrived, bytes)) = self.batch.next() else { return Ok(Received::TimedOut) };
        if arrived.port != 0 {
            return Ok(Received::Foreign { port: arrived.port });
        }
        // A record that is cut is as good as none.
        let record = bytes.and_then(message::record);
        let is_multicast = matches!(self.role, Role::Multicast { .. });
        Ok(match record {
            None => Received::Lost(1),
            // A refusal of what was asked for without wanting an answer.
            Some((kind, _)) if !is_multicast && message::is_answer(kind) => {
                Received::Foreign { port: 0 }
            }
            // Also the one by which the kernel asks us whether we are there when we release.
            Some((kind::REPLACE, payload)) if !is_multicast => {
                Received::Contested { pid: message::contender(payload) }
            }
            Some((kind, text)) => Received::Record { kind, text },
        })
    }

    /// The size of the socket's buffer as the kernel counts it, which is about twice what was
    /// asked for, or less where the system's limit is.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn receive_buffer(&self) -> io::Result<usize> {
        Ok(self.socket.receive_buffer()?)
    }

    /// Ends. Only of a registered reader is there anything to say: dropping it does the same in
    /// silence.
    ///
    /// # Errors
    /// Where the kernel does not take the message that releases it.
    pub fn close(mut self) -> Result<(), Error> {
        self.release()
    }

    /// Ceases to be the audit daemon. Nothing more comes, but what has come can still be read.
    ///
    /// # Errors
    /// As [`Stream::close`].
    pub fn release(&mut self) -> Result<(), Error> {
        self.leave_seat()
            .map_err(|errno| Error::of("cease to be the audit daemon", errno, Capability::Control))
    }

    fn leave_seat(&mut self) -> Result<(), Errno> {
        if self.role != Role::Registered {
            return Ok(());
        }
        self.role = Role::Spare;
        send_pid(&self.socket, 0)
    }

    /// Waits until there is something to read from one of them, at most `timeout`.
    ///
    /// # Errors
    /// What poll(2) says.
    pub fn wait(of: &[&Stream], timeout: Duration) -> io::Result<bool> {
        if of.iter().any(|stream| !stream.batch.is_empty()) {
            return Ok(true);
        }
        let fds: Vec<_> = of.iter().map(AsFd::as_fd).collect();
        any_readable(&fds, Some(timeout))
    }

    /// What was dropped at the socket since it was told.
    fn newly_lost(&mut self) -> io::Result<Option<Received<'static>>> {
        self.unchecked = 0;
        let Role::Multicast { told } = &mut self.role else { return Ok(None) };
        let dropped = self.socket.dropped()?;
        let lost = dropped.wrapping_sub(*told);
        *told = dropped;
        Ok((lost > 0).then(|| Received::Lost(lost.into())))
    }
}

impl AsFd for Stream {
    /// Readable when there is something to [`recv`](Stream::recv).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Where this fails, the kernel finds the socket closed with the next record.
        let _ = self.leave_seat();
    }
}

fn send_pid(socket: &Socket, pid: u32) -> Result<(), Errno> {
    let message = request(kind::SET, 0, 1, &Setting::Pid(pid).payload()).ok_or(Errno::INVAL)?;
    socket.send(&message)
}

/// The errno, where the first datagram is a refusal.
fn first_answer(socket: &Socket) -> Result<Option<Errno>, Errno> {
    // A refusal quotes the request.
    let mut buf = [0; 256];
    let Some(arrived) = socket.peek(&mut buf)? else { return Ok(None) };
    let datagram = buf.get(..arrived.length.min(buf.len())).unwrap_or_default();
    let is_answer = message::record(datagram).is_some_and(|(kind, _)| message::is_answer(kind));
    if arrived.port != 0 || !is_answer {
        return Ok(None);
    }
    let refusal = replies(datagram).find_map(|reply| match reply.ok()?.body {
        ReplyBody::Acknowledged(code) if code < 0 => {
            Some(Errno::from_raw_os_error(code.saturating_neg()))
        }
        _ => None,
    });
    Ok(Some(refusal.unwrap_or(Errno::BADMSG)))
}
