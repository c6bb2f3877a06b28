//! auditd's plugin: takes events at standard input to the agent.
//!
//! ```text
//!  auditd ── stdin ──▶ reader ──▶ queue, 16 MiB ──▶ sender ── agent/dispatch ──▶ agent
//! ```
//!
//! The agent's own standard input is the doorkeeper's, and auditd would end an agent with itself; so this is a
//! process of its own, which has no rights and keeps nothing. While no agent takes what it has, it waits in the
//! queue; what finds no room is counted, and the count sent in its place.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use host::peer::Peer;
use host::sandbox::{self, Capabilities};
use record::Stamp;
use record::dispatch::{DispatchError, Dropped, Message, Reader, Writer};
use signal_hook::consts::{SIGHUP, SIGTERM};

use super::home::Home;
use super::sources::{DISPATCH_SOCKET, millis};
use crate::outcome::{Failure, Kind};
use crate::run_dir::near;

/// Bytes that may wait for an agent.
const ROOM: usize = 16 << 20;

/// The wait before it is looked for an agent again.
const AGAIN: Duration = Duration::from_millis(200);

/// How long an agent may take nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long is gone on when auditd has ended, or said that this is to end.
const LAST: Duration = Duration::from_secs(3);

/// What was read and not sent.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Those that found no room behind what waits.
    dropped: Option<Dropped>,
    /// Nothing more comes, since then; with why, where that is wrong.
    ended: Option<(Instant, Result<(), String>)>,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in what is sent for a record, or counts it.
    fn put(&self, message: Vec<u8>) {
        let mut state = self.state();
        // A count stands where the records are missing: nothing comes behind it before it is on its way.
        if state.dropped.is_none() && state.bytes + message.len() <= ROOM {
            state.bytes += message.len();
            state.waiting.push_back(message);
        } else {
            let now = Stamp { millis: millis() };
            let none = Dropped { records: 0, span: [now, now] };
            let dropped = state.dropped.get_or_insert(none);
            dropped.records += 1;
            dropped.span[1] = now;
        }
        drop(state);
        self.changed.notify_one();
    }

    fn end(&self, how: Result<(), String>) {
        self.state().ended.get_or_insert((Instant::now(), how));
        self.changed.notify_one();
    }

    /// Takes the oldest, waiting for one no longer than that; none also where none can come.
    fn take(&self, patience: Duration) -> Option<Vec<u8>> {
        let state = self.state();
        let nothing = |state: &mut State| {
            state.waiting.is_empty() && state.dropped.is_none() && state.ended.is_none()
        };
        let waited = self.changed.wait_timeout_while(state, patience, nothing);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if let Some(message) = state.waiting.pop_front() {
            state.bytes -= message.len();
            return Some(message);
        }
        let mut message = Vec::new();
        state.dropped.take()?.push_to(&mut message);
        Some(message)
    }

    /// How it ended, if it did and nothing is left or the time for the rest is over.
    fn is_over(&self, holds: bool) -> Option<Result<(), String>> {
        let state = self.state();
        let (since, how) = state.ended.clone()?;
        let empty = !holds && state.waiting.is_empty() && state.dropped.is_none();
        (empty || since.elapsed() >= LAST).then_some(how)
    }
}

/// Takes events to the agent of this run directory until auditd ends, or says so.
pub(crate) fn relay(home: &Home) -> Result<(), Failure> {
    let failed = |what: &str, error: io::Error| {
        Failure::new(Kind::Io, format!("cannot {what}")).because(error)
    };
    // The socket is of our own user.
    sandbox::keep_capabilities(Capabilities::empty())
        .map_err(|error| failed("give up rights", error))?;
    let told = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGTERM, Arc::clone(&told))?;
    // auditd has read its configuration again, which says nothing to us.
    signal_hook::flag::register(SIGHUP, Arc::new(AtomicBool::new(false)))?;
    let queue = Arc::new(Queue::default());
    let theirs = Arc::clone(&queue);
    std::thread::Builder::new()
        .name("stdin".into())
        .spawn(move || theirs.end(read_all(&theirs)))
        .map_err(|error| failed("start a thread", error))?;
    match send_all(&queue, home, &told) {
        Ok(()) => Ok(()),
        Err(why) => {
            let what = "standard input is not what auditd writes to a plugin";
            Err(Failure::new(Kind::Unusable, what).because(why))
        }
    }
}

/// Takes what auditd writes. It never waits for the agent: auditd would wait for us.
fn read_all(queue: &Queue) -> Result<(), String> {
    let mut stdin = io::stdin().lock();
    let mut reader = Reader::new(Writer::Auditd, Vec::new());
    let mut buf = vec![0; 64 << 10];
    loop {
        let length = match stdin.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.to_string()),
        };
        reader.push(buf.get(..length).unwrap_or_default());
        let said = |error: DispatchError| error.to_string();
        while let Some(message) = reader.next().map_err(said)? {
            // Nobody but us tells of drops.
            let Message::Record(record) = message else { continue };
            let mut sent = Vec::new();
            record.push_to(&mut sent);
            queue.put(sent);
        }
    }
}

fn send_all(queue: &Queue, home: &Home, told: &AtomicBool) -> Result<(), String> {
    let mut agent: Option<UnixStream> = None;
    let mut held: Option<Vec<u8>> = None;
    loop {
        if told.load(Ordering::Relaxed) {
            queue.end(Ok(()));
        }
        if let Some(how) = queue.is_over(held.is_some()) {
            return how;
        }
        let Some(stream) = &mut agent else {
            agent = meet(home).ok();
            if agent.is_none() {
                std::thread::sleep(AGAIN);
            }
            continue;
        };
        held = held.or_else(|| queue.take(AGAIN));
        let Some(message) = &held else { continue };
        match stream.write_all(message) {
            Ok(()) => held = None,
            // All of it again, to the next one: of a part of a message nothing is taken.
            Err(_) => agent = None,
        }
    }
}

/// Connects to the agent, which must be our own user's or root's.
fn meet(home: &Home) -> io::Result<UnixStream> {
    let stream = near(home.path(), |dir| UnixStream::connect(dir.join(DISPATCH_SOCKET)))?;
    if ![0, rustix::process::geteuid().as_raw()].contains(&Peer::of(&stream)?.uid) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_in_its_place() {
        let queue = Queue::default();
        let message = vec![7; ROOM / 4];
        for _ in 0..6 {
            queue.put(message.clone());
        }
        assert_eq!(queue.is_over(false), None);
        assert!((0..4).all(|_| queue.take(Duration::ZERO).as_ref() == Some(&message)));
        // Not behind what comes later.
        queue.put(message.clone());
        let mut reader = Reader::new(Writer::Plugin, Vec::new());
        reader.push(&queue.take(Duration::ZERO).unwrap());
        let Ok(Some(Message::Dropped(dropped))) = reader.next() else { panic!("no count") };
        assert_eq!(dropped.records, 3);
        queue.put(vec![1]);
        assert_eq!(queue.take(Duration::ZERO), Some(vec![1]));
        assert_eq!(queue.take(Duration::ZERO), None);
        queue.put(vec![2]);
        queue.end(Ok(()));
        queue.end(Err("later".into()));
        assert_eq!(queue.is_over(false), None);
        assert_eq!(queue.take(Duration::ZERO), Some(vec![2]));
        assert_eq!(queue.is_over(true), None);
        assert_eq!(queue.is_over(false), Some(Ok(())));
    }
}
