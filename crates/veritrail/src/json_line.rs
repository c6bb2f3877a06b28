//! A question and its answer over a socket of ours: one line of JSON each way.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use host::peer::Peer;
use serde::{Deserialize, Serialize};

/// The longest question or answer, in bytes. A device has nine paths of 4096 bytes, each byte written
/// as six.
pub(crate) const LONGEST: u64 = 256 << 10;

/// How long a question may take to arrive, and an answer to be taken.
pub(crate) const PROMPT: Duration = Duration::from_secs(2);

/// Who asks. Only root and we ourselves may.
pub(crate) fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let peer = Peer::of(stream)?;
    let me = rustix::process::geteuid().as_raw();
    if peer.uid != me && peer.uid != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(peer)
}

/// Takes a question, with the process that asks; 0 where it is of another pid namespace.
pub(crate) fn listen<T: for<'de> Deserialize<'de>>(stream: &UnixStream) -> io::Result<(T, u32)> {
    let peer = peer(stream)?;
    stream.set_write_timeout(Some(PROMPT))?;
    let question = hear(Promptly::from_now_on(stream), LONGEST)?;
    Ok((question, peer.pid))
}

/// Says it to whoever asked.
pub(crate) fn answer(stream: &UnixStream, what: &impl Serialize) -> io::Result<()> {
    say(Promptly::from_now_on(stream), what)
}

/// Says it.
pub(crate) fn say(mut to: impl Write, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// A stream for as long as [`PROMPT`], however little goes over it at a time.
struct Promptly<'a>(&'a UnixStream, Instant);

impl Promptly<'_> {
    fn from_now_on(stream: &UnixStream) -> Promptly<'_> {
        Promptly(stream, Instant::now() + PROMPT)
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.1.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

/// Bytes that are written at once.
const PIECE: usize = 32 << 10;

impl Read for Promptly<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.set_read_timeout(self.left()?)?;
        self.0.read(buf)
    }
}

impl Write for Promptly<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.set_write_timeout(self.left()?)?;
        // The kernel waits as long for each buffer that it needs: this much takes one.
        self.0.write(buf.get(..PIECE).unwrap_or(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hears what the other end says, in at most `longest` bytes.
pub(crate) fn hear<T: for<'de> Deserialize<'de>>(from: impl Read, longest: u64) -> io::Result<T> {
    let mut line = Vec::new();
    BufReader::new(from).take(longest).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_trickles_has_no_longer_than_who_is_silent() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let trickle = std::thread::spawn(move || {
            while theirs.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let began = Instant::now();
        assert!(listen::<u32>(&ours).is_err());
        assert!(began.elapsed() < PROMPT + Duration::from_secs(1), "{:?}", began.elapsed());
        drop(ours);
        trickle.join().unwrap();
        // The other way: an answer that is taken byte by byte.
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let slow = std::thread::spawn(move || {
            while theirs.read(&mut [0; 65_536]).is_ok_and(|read| read > 0) {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let began = Instant::now();
        assert!(answer(&ours, &"x".repeat(16 << 20)).is_err());
        assert!(began.elapsed() < PROMPT + Duration::from_secs(1), "{:?}", began.elapsed());
        drop(ours);
        slow.join().unwrap();
    }
}
