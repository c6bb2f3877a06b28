//! One connection to auditd, or to its plugin of ours.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use host::peer::Peer;
use record::dispatch::{Message, Reader};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// Pieces that are read before others have their turn.
const TURN: usize = 16;

/// How long the rest of a message may take: auditd writes each at once.
const REST: Duration = Duration::from_secs(10);

/// The connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    reader: Reader,
    buf: Vec<u8>,
    /// Since when a part of a message waits for its rest.
    amid: Option<Instant>,
    /// The process at the other end, as we count processes.
    pub(super) peer: u32,
    /// A message has come.
    pub(super) has_spoken: bool,
}

impl Connection {
    /// Connects to the socket at `path`, and does not wait where nobody takes us.
    pub(super) fn to(path: &Path, reader: Reader) -> io::Result<Connection> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Connection::of(UnixStream::from(socket), reader)
    }

    /// The other end must be root's or our own user's: what it says is taken for the kernel's.
    pub(super) fn of(stream: UnixStream, reader: Reader) -> io::Result<Connection> {
        let Peer { uid, pid, .. } = Peer::of(&stream)?;
        if ![0, rustix::process::geteuid().as_raw()].contains(&uid) {
            let what = format!("it is not root but user {uid} that answers");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
        stream.set_nonblocking(true)?;
        let buf = vec![0; PIECE];
        Ok(Connection { stream, reader, buf, amid: None, peer: pid, has_spoken: false })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Gives what has come to `take`; whether there may be more at once. An error is why there will be no
    /// more.
    pub(super) fn read(&mut self, mut take: impl FnMut(&Message<'_>)) -> Result<bool, String> {
        for _ in 0..TURN {
            let length = match self.stream.read(&mut self.buf) {
                Ok(0) if self.reader.is_amid() => {
                    return Err("the other end closed it in the middle of a message".into());
                }
                Ok(0) => return Err("the other end closed it".into()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return match self.amid {
                        Some(since) if since.elapsed() >= REST => Err(format!(
                            "the rest of a message has not come in {} s",
                            REST.as_secs()
                        )),
                        _ => Ok(false),
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.to_string()),
            };
            self.reader.push(self.buf.get(..length).unwrap_or_default());
            while let Some(message) = self.reader.next().map_err(|error| error.to_string())? {
                self.has_spoken = true;
                take(&message);
            }
            self.amid = self.reader.is_amid().then(Instant::now);
        }
        Ok(true)
    }
}
