//! One reader: its filter, and its lines.

use std::io::{self, BufWriter, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use record::Line;
use record::units::LeafIndex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use trail::Disk;
use trail::export::lines;
use trail::follow::{Extent, Followed, Follower};

use super::filter::{Filter, From, JOIN_MS, Wanted};
use super::joiner::{Joined, Joiner};
use super::{Shared, Word};
use crate::json;
use crate::pieces::{Source, join_pieces};

/// How long the filter may take to arrive, and how long it may be, in bytes.
const PROMPT: Duration = Duration::from_secs(5);
const LONGEST: usize = 64 << 10;

/// How long a reader may take nothing before it is given up.
const STALLED: Duration = Duration::from_secs(30);

/// How often a reader that waits is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Bytes that are written at once.
const BUNCH: usize = 64 << 10;

/// Serves one reader to its end.
pub(super) fn serve(stream: &UnixStream, shared: &Shared) {
    let mut out = BufWriter::with_capacity(BUNCH, stream);
    let served = converse(stream, &mut out, shared);
    let told = match served {
        Ok(()) => out.flush(),
        Err(Ended::Gone(error)) => Err(error),
        Err(Ended::Refused(why)) => {
            shared.counts.refused.fetch_add(1, Ordering::Relaxed);
            write_word(&mut out, &Word::Error(why)).and_then(|()| out.flush())
        }
    };
    if told.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
        shared.counts.cut.fetch_add(1, Ordering::Relaxed);
    }
    // What could not be written is not tried again when the buffer is dropped.
    let _ = stream.shutdown(Shutdown::Both);
    let _ = out.into_parts();
}

/// Why it ended early.
enum Ended {
    /// It is not there, or takes nothing.
    Gone(io::Error),
    /// It is told why.
    Refused(String),
}

impl std::convert::From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::Gone(error)
    }
}

fn refused(error: impl std::fmt::Display) -> Ended {
    Ended::Refused(error.to_string())
}

fn converse(
    stream: &UnixStream,
    out: &mut BufWriter<&UnixStream>,
    shared: &Shared,
) -> Result<(), Ended> {
    stream.set_write_timeout(Some(STALLED))?;
    let line = first_line(stream)?;
    let wanted = Wanted::read(&line).map_err(Ended::Refused)?;
    let filter = wanted.check().map_err(Ended::Refused)?;
    let _wanting = shared.horizon.want();
    let beginning = shared.horizon.extent();
    let disk = Disk::new(&shared.trail);
    let follower = match wanted.from_leaf {
        From::Leaf(leaf) => Follower::open(disk, LeafIndex(leaf)),
        From::Now(_) | From::Unsaid => Follower::open_at_end(disk, beginning),
    };
    let follower = follower.map_err(refused)?;
    let window = Duration::from_millis(wanted.join_ms.unwrap_or(JOIN_MS));
    let joiner = Joiner::new(window, follower.position().0);
    let mut telling = Telling { out, filter, follower, joiner };
    telling.all(stream, shared, &wanted, beginning)
}

/// What a reader is told, and how far.
struct Telling<'a, 'b> {
    out: &'a mut BufWriter<&'b UnixStream>,
    filter: Filter,
    follower: Follower<Disk>,
    joiner: Joiner,
}

impl Telling<'_, '_> {
    fn all(
        &mut self,
        stream: &UnixStream,
        shared: &Shared,
        wanted: &Wanted,
        mut extent: Extent,
    ) -> Result<(), Ended> {
        let beat = wanted.heartbeat.map(Duration::from_secs);
        let mut spoke = None;
        let mut checked = false;
        loop {
            // Asked before the trail is: what it got last is there then.
            let stopping = shared.is_stopping();
            let told = self.tell(extent)?;
            if !std::mem::replace(&mut checked, true) {
                let (wanted, end) = (self.follower.position(), self.follower.end());
                if end < wanted {
                    let what = format!("the trail has no leaf {wanted}: it ends before leaf {end}");
                    return Err(Ended::Refused(what));
                }
            }
            let ends = stopping || wanted.follow == Some(false);
            let told = self.release(ends)? || told;
            if ends {
                let reason = if stopping { "the agent stops" } else { "that is all" };
                return self.end(reason);
            }
            let now = Instant::now();
            if told {
                spoke = Some(now);
            }
            if let Some(beat) = beat
                && spoke.is_none_or(|spoke| now.saturating_duration_since(spoke) >= beat)
            {
                let next = self.joiner.position();
                write_word(self.out, &Word::Heartbeat { next })?;
                spoke = Some(now);
            }
            self.out.flush()?;
            check(stream)?;
            let patience = self.joiner.due(now).unwrap_or(LOOK).min(LOOK);
            shared.horizon.wait_beyond(extent, patience);
            extent = shared.horizon.extent();
        }
    }

    /// Tells what lies in `extent`; whether there was something.
    fn tell(&mut self, extent: Extent) -> Result<bool, Ended> {
        let mut told = false;
        loop {
            match self.follower.next(extent).map_err(refused)? {
                Followed::End => return Ok(told),
                Followed::Gap { first, next } => {
                    told = true;
                    release(&mut self.joiner, &self.filter, self.out, true)?;
                    self.joiner.pass(next.0);
                    let reason = "they are not in the trail any more".to_owned();
                    let last = next.0.saturating_sub(1);
                    write_word(self.out, &Word::Gap { first: first.0, last, reason })?;
                }
                Followed::Event { first, next, bytes } => {
                    let id = bytes.split(|byte| *byte == b'\n').next();
                    let id = id.and_then(|line| Line::parse_stored(line).ok());
                    let id = id.map(|line| line.id());
                    self.joiner.push(Instant::now(), (first.0, next.0), id, bytes);
                    told |= release(&mut self.joiner, &self.filter, self.out, false)?;
                }
            }
        }
    }

    fn release(&mut self, all: bool) -> Result<bool, Ended> {
        Ok(release(&mut self.joiner, &self.filter, self.out, all)?)
    }

    fn end(&mut self, reason: &str) -> Result<(), Ended> {
        let next = self.joiner.position();
        Ok(write_word(self.out, &Word::End { next, reason: reason.to_owned() })?)
    }
}

fn release(
    joiner: &mut Joiner,
    filter: &Filter,
    out: &mut dyn Write,
    all: bool,
) -> io::Result<bool> {
    let mut told = false;
    while let Some((next, event)) = joiner.pop(Instant::now(), all) {
        told |= write_event(out, filter, next, &event)?;
    }
    Ok(told)
}

/// An event as `search --json` prints it, and the leaf to go on with.
#[derive(Serialize)]
struct Told<'a> {
    next: u64,
    #[serde(flatten)]
    event: json::Event<'a>,
}

fn write_event(
    out: &mut dyn Write,
    filter: &Filter,
    next: u64,
    event: &Joined,
) -> io::Result<bool> {
    // No writer of trails writes what is no record; `trail verify` says whether it was signed.
    let Ok(stored) = lines(&event.bytes) else { return Ok(false) };
    let whole = join_pieces(&stored);
    let joined = match &whole {
        Some(whole) => whole.iter().filter_map(Source::line).collect(),
        None => stored,
    };
    if !filter.matches(&joined) {
        return Ok(false);
    }
    let leaf = joined.iter().rev().find_map(json::leaf).unwrap_or(LeafIndex(event.first));
    let Some(event) = json::Event::new(Some(leaf), &joined) else { return Ok(false) };
    serde_json::to_writer(&mut *out, &Told { next, event })?;
    out.write_all(b"\n")?;
    Ok(true)
}

fn write_word(out: &mut dyn Write, word: &Word) -> io::Result<()> {
    serde_json::to_writer(&mut *out, word)?;
    out.write_all(b"\n")
}

/// The first line, without its end, which the end of what is sent may be as well.
fn first_line(mut stream: &UnixStream) -> Result<Vec<u8>, Ended> {
    let until = Instant::now() + PROMPT;
    let mut line = Vec::new();
    let mut part = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Ended::Refused(format!("no filter came within {} s", PROMPT.as_secs())));
        }
        stream.set_read_timeout(Some(left))?;
        let count = match stream.read(&mut part) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        let read = part.get(..count).unwrap_or_default();
        if let Some(end) = memchr::memchr(b'\n', read) {
            if end + 1 < read.len() {
                return Err(Ended::Refused("more than one line came".to_owned()));
            }
            line.extend_from_slice(&read[..end]);
            return Ok(line);
        }
        line.extend_from_slice(read);
        if count == 0 {
            return Ok(line);
        }
        if line.len() > LONGEST {
            return Err(Ended::Refused(format!("the filter is longer than {LONGEST} bytes")));
        }
    }
}

/// Whether the reader is still there, and silent.
fn check(stream: &UnixStream) -> Result<(), Ended> {
    let mut fds = [PollFd::new(stream, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).map_err(io::Error::from)?;
    let [fd] = &fds;
    let gone = PollFlags::HUP | PollFlags::ERR;
    if fd.revents().intersects(gone) {
        return Err(Ended::Gone(io::ErrorKind::BrokenPipe.into()));
    }
    if fd.revents().contains(PollFlags::IN) {
        let mut byte = [0];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        // Nothing: only its sending has ended.
        if let Ok((1.., _)) = rustix::net::recv(stream, &mut byte, flags) {
            return Err(Ended::Refused("nothing is expected after the filter".to_owned()));
        }
    }
    Ok(())
}
