//! Datagrams of a netlink socket, many with one call. While audit has rules each call costs the caller twice
//! what it does itself, since the kernel asks of every one whether it is to be recorded.

#![allow(unsafe_code, reason = "no library makes recvmmsg(2)")]

use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;

use rustix::io::Errno;

use super::socket::Arrived;

/// As many are taken at once, as the call counts them and as we do.
const AT_ONCE: libc::c_uint = 32;
const MOST: usize = AT_ONCE as usize;

/// The bytes of one that are kept. Holds any record of the kernel's (`MAX_AUDIT_MESSAGE_LENGTH` is 8970).
const EACH: usize = 16 << 10;

/// Rows do not begin at multiples of a page, or all their first bytes would share one set of the cache.
const ROW: usize = EACH + 64;

/// Bytes of a sender's address.
const ADDRESS: libc::socklen_t = 12;
const _: () = assert!(size_of::<libc::sockaddr_nl>() == ADDRESS as usize);

const NOTHING: Arrived = Arrived { length: 0, port: 0 };

/// What came with the last call. Memory is touched as far as something came.
#[derive(Debug)]
pub(super) struct Batch {
    rows: Vec<u8>,
    arrived: [Arrived; MOST],
    filled: usize,
    next: usize,
}

impl Default for Batch {
    fn default() -> Batch {
        Batch { rows: vec![0; MOST * ROW], arrived: [NOTHING; MOST], filled: 0, next: 0 }
    }
}

impl Batch {
    /// Whether all that came was given out.
    pub(super) fn is_empty(&self) -> bool {
        self.next == self.filled
    }

    /// The next one, and its bytes: none where it is longer than what is kept of one.
    pub(super) fn next(&mut self) -> Option<(Arrived, Option<&[u8]>)> {
        let arrived = *self.arrived.get(..self.filled)?.get(self.next)?;
        let at = self.next * ROW;
        self.next += 1;
        let whole = (arrived.length <= EACH).then(|| self.rows.get(at..at + arrived.length));
        Some((arrived, whole.flatten()))
    }

    /// Takes what waits at the socket, all that came before having been given out. ENOBUFS, once, where some
    /// were dropped; EAGAIN where nothing waits.
    pub(super) fn fill(&mut self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        (self.filled, self.next) = (0, 0);
        // SAFETY: these are integers and pointers, of which zero is a value.
        let (mut senders, mut parts, mut heads): (
            [libc::sockaddr_nl; MOST],
            [libc::iovec; MOST],
            [libc::mmsghdr; MOST],
        ) = unsafe { zeroed() };
        let of = self.rows.chunks_exact_mut(ROW).zip(&mut senders).zip(&mut parts);
        for (head, ((row, sender), part)) in heads.iter_mut().zip(of) {
            *part = libc::iovec { iov_base: row.as_mut_ptr().cast(), iov_len: EACH };
            let head = &mut head.msg_hdr;
            head.msg_name = (&raw mut *sender).cast();
            head.msg_namelen = ADDRESS;
            (head.msg_iov, head.msg_iovlen) = (part, 1);
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        let taken = loop {
            // SAFETY: the descriptor is borrowed, so open. Of the heads, as many as are said, each points to an
            // address and a part of its own, which point to `EACH` bytes of a row of their own; all of it lives
            // until after the call, and nothing else is written.
            let taken = unsafe {
                libc::recvmmsg(socket.as_raw_fd(), heads.as_mut_ptr(), AT_ONCE, flags, null_mut())
            };
            match usize::try_from(taken) {
                Ok(taken) => break taken,
                Err(_) => match Errno::from_io_error(&std::io::Error::last_os_error()) {
                    Some(Errno::INTR) => {}
                    error => return Err(error.unwrap_or(Errno::IO)),
                },
            }
        };
        for (arrived, (head, sender)) in self.arrived.iter_mut().zip(heads.iter().zip(&senders)) {
            // Who has no address is not the kernel.
            let is_known = head.msg_hdr.msg_namelen == ADDRESS
                && i32::from(sender.nl_family) == libc::AF_NETLINK;
            let port = if is_known { sender.nl_pid } else { u32::MAX };
            *arrived = Arrived { length: head.msg_len as usize, port };
        }
        self.filled = taken.min(MOST);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn what_waits_is_given_out_in_order_and_what_is_cut_is_told_apart() {
        let (from, to) = UnixDatagram::pair().unwrap();
        let mut batch = Batch::default();
        assert_eq!(batch.fill(to.as_fd()), Err(Errno::AGAIN));
        assert!(batch.is_empty() && batch.next().is_none());
        let long = vec![7; EACH + 1];
        let sent = [&b"one"[..], b"", &long[..EACH], &long, b"last"];
        for datagram in sent {
            from.send(datagram).unwrap();
        }
        batch.fill(to.as_fd()).unwrap();
        for datagram in sent {
            let (arrived, bytes) = batch.next().unwrap();
            // A pair has no addresses.
            assert_eq!(arrived, Arrived { length: datagram.len(), port: u32::MAX });
            assert_eq!(bytes, Some(datagram).filter(|datagram| datagram.len() <= EACH));
        }
        assert!(batch.is_empty() && batch.next().is_none());
    }

    #[test]
    fn what_is_more_than_one_call_takes_comes_with_the_next() {
        let (from, to) = UnixDatagram::pair().unwrap();
        to.set_nonblocking(true).unwrap();
        let mut batch = Batch::default();
        let (mut sent, mut seen) = (0_u32, 0_u32);
        // As many wait at once as the system lets (net.unix.max_dgram_qlen).
        from.set_nonblocking(true).unwrap();
        while sent < 100 || seen < sent {
            while sent < 100 && from.send(&sent.to_le_bytes()).is_ok() {
                sent += 1;
            }
            batch.fill(to.as_fd()).unwrap();
            while let Some((_, bytes)) = batch.next() {
                assert_eq!(bytes, Some(&seen.to_le_bytes()[..]));
                seen += 1;
            }
        }
        assert_eq!(seen, 100);
    }
}
