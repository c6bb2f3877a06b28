//! A question and its answer over a socket of ours: one line of JSON each way.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use serde::{Deserialize, Serialize};

/// The longest question or answer, in bytes. A device has nine paths of 4096 bytes, each byte written
/// as six.
pub(crate) const LONGEST: u64 = 256 << 10;

/// How long a question may take to arrive, and an answer to be taken.
pub(crate) const PROMPT: Duration = Duration::from_secs(2);

/// Takes a question, with the process that asks. Only root and we ourselves may.
pub(crate) fn listen<T: for<'de> Deserialize<'de>>(stream: &UnixStream) -> io::Result<(T, u32)> {
    stream.set_read_timeout(Some(PROMPT))?;
    stream.set_write_timeout(Some(PROMPT))?;
    let peer = socket_peercred(stream)?;
    let me = rustix::process::geteuid();
    if peer.uid != me && !peer.uid.is_root() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok((hear(stream, LONGEST)?, peer.pid.as_raw_nonzero().get().unsigned_abs()))
}

/// Says it.
pub(crate) fn say(mut stream: &UnixStream, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Hears what the other end says, in at most `longest` bytes.
pub(crate) fn hear<T: for<'de> Deserialize<'de>>(
    stream: &UnixStream,
    longest: u64,
) -> io::Result<T> {
    let mut line = Vec::new();
    BufReader::new(stream).take(longest).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&line)?)
}
