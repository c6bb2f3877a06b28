//! As much of HTTP/1.1 as one page takes: a bounded request, one answer, and the connection is closed.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Bytes of a request, headers included.
const LONGEST: usize = 8 << 10;

/// How long a client may take to ask, and to take the answer.
const PROMPT: Duration = Duration::from_secs(5);

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Page { body: bool },
    Elsewhere,
    OtherMethod,
    Nonsense,
}

/// A client.
pub(super) struct Connection {
    stream: Stream,
    until: Instant,
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Connection {
    pub(super) fn unix(client: UnixStream) -> io::Result<Connection> {
        Ok(Connection { stream: Stream::Unix(client), until: Instant::now() + PROMPT })
    }

    pub(super) fn tcp(client: TcpStream) -> io::Result<Connection> {
        Ok(Connection { stream: Stream::Tcp(client), until: Instant::now() + PROMPT })
    }

    /// Says that there are too many.
    pub(super) fn turn_away(mut self) {
        self.until = Instant::now() + Duration::from_millis(100);
        self.say("503 Service Unavailable", b"too many clients\n", true);
    }

    /// Hears the request and answers it. A client that is slow is left where he is.
    pub(super) fn answer(mut self, page: impl FnOnce() -> String) {
        match self.hear() {
            Some(Asked::Page { body }) => self.say("200 OK", page().as_bytes(), body),
            Some(Asked::Elsewhere) => self.say("404 Not Found", b"there is /metrics\n", true),
            Some(Asked::OtherMethod) => self.say("405 Method Not Allowed", b"there is GET\n", true),
            Some(Asked::Nonsense) => self.say("400 Bad Request", b"this is no request\n", true),
            None => {}
        }
    }

    /// The request, as far as its blank line.
    fn hear(&mut self) -> Option<Asked> {
        let mut request = Vec::new();
        let mut part = [0; 1024];
        loop {
            if let Some(end) = memchr::memmem::find(&request, b"\r\n\r\n") {
                return Some(asked(request.get(..end)?));
            }
            if request.len() > LONGEST {
                return Some(Asked::Nonsense);
            }
            let left = self.left()?;
            let read = match &mut self.stream {
                Stream::Unix(client) => {
                    client.set_read_timeout(Some(left)).ok()?;
                    client.read(&mut part)
                }
                Stream::Tcp(client) => {
                    client.set_read_timeout(Some(left)).ok()?;
                    client.read(&mut part)
                }
            };
            match read {
                Ok(0) => return None,
                Ok(length) => request.extend_from_slice(part.get(..length)?),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    fn say(&mut self, status: &str, body: &[u8], with_body: bool) {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let body = if with_body { body } else { &[] };
        let _ = self.write(head.as_bytes()).and_then(|()| self.write(body));
        // What the client still sends would turn the close into a reset, which takes the answer back.
        match &self.stream {
            Stream::Unix(client) => drop(client.shutdown(std::net::Shutdown::Write)),
            Stream::Tcp(client) => drop(client.shutdown(std::net::Shutdown::Write)),
        }
        self.until = self.until.min(Instant::now() + Duration::from_millis(200));
        let mut part = [0; 1024];
        while let Some(left) = self.left() {
            let read = match &mut self.stream {
                Stream::Unix(client) => {
                    client.set_read_timeout(Some(left)).and_then(|()| client.read(&mut part))
                }
                Stream::Tcp(client) => {
                    client.set_read_timeout(Some(left)).and_then(|()| client.read(&mut part))
                }
            };
            if read.is_err() || read.is_ok_and(|length| length == 0) {
                return;
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = self.left().ok_or(io::ErrorKind::TimedOut)?;
            let written = match &mut self.stream {
                Stream::Unix(client) => {
                    client.set_write_timeout(Some(left))?;
                    client.write(bytes)
                }
                Stream::Tcp(client) => {
                    client.set_write_timeout(Some(left))?;
                    client.write(bytes)
                }
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The time that this client has left; none when it is up.
    fn left(&self) -> Option<Duration> {
        self.until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}

/// What the first line of `head` asks for.
fn asked(head: &[u8]) -> Asked {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Asked::Nonsense;
    };
    if !version.starts_with(b"HTTP/1.") {
        return Asked::Nonsense;
    }
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    match (method, path) {
        (b"GET", b"/metrics") => Asked::Page { body: true },
        (b"HEAD", b"/metrics") => Asked::Page { body: false },
        (b"GET" | b"HEAD", _) => Asked::Elsewhere,
        (method, _) if !method.is_empty() && method.iter().all(u8::is_ascii_uppercase) => {
            Asked::OtherMethod
        }
        _ => Asked::Nonsense,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_its_first_line() {
        for (head, expected) in [
            (&b"GET /metrics HTTP/1.1\r\nHost: a"[..], Asked::Page { body: true }),
            (b"GET /metrics?a=b HTTP/1.0", Asked::Page { body: true }),
            (b"HEAD /metrics HTTP/1.1", Asked::Page { body: false }),
            (b"GET / HTTP/1.1", Asked::Elsewhere),
            (b"POST /metrics HTTP/1.1", Asked::OtherMethod),
            (b"GET /metrics", Asked::Nonsense),
            (b"GET /metrics HTTP/2", Asked::Nonsense),
            (b"GET  /metrics HTTP/1.1", Asked::Nonsense),
            (b"\x16\x03\x01 a HTTP/1.1", Asked::Nonsense),
            (b"", Asked::Nonsense),
        ] {
            assert_eq!(asked(head), expected, "{}", head.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_none(head in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = asked(&head);
        }
    }
}
