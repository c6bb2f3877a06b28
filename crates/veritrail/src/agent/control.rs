//! The agent's socket: one JSON line each way (docs/formats/agent.md).
//!
//! Each question is a thread's, which takes no longer than [`json_line::PROMPT`] to hear it, and as long to
//! answer. Where all are taken, whoever holds most of them loses his oldest: who says nothing, or one byte now
//! and then, keeps nobody else waiting.

use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use trail::Class;

use super::containers::{self, Inquiry};
use super::extent::Extent;
use super::inbox;
use super::peer::Peer;
use super::sources::Input;
use super::status::{Board, Status};
use crate::{clock, json_line};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Question {
    /// How is it?
    Status,
    /// Which container is a task in, or is to be.
    Container(containers::Question),
}

/// The longest answer, in bytes: ten thousand devices, sixteen thousand containers.
const LONGEST: u64 = 64 << 20;

/// Questions that are heard and answered at a time; each answer may be megabytes.
const MOST: usize = 8;

/// Those who ask at the moment.
#[derive(Debug, Default)]
struct Seats(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    by: BTreeMap<u64, (Peer, UnixStream)>,
    last: u64,
}

/// One of them, until this is dropped.
#[derive(Debug)]
struct Seat {
    seats: Arc<Seats>,
    number: u64,
}

impl Seats {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat for who asks by this stream.
    fn take(self: &Arc<Seats>, peer: Peer, stream: &UnixStream) -> io::Result<Seat> {
        let stream = stream.try_clone()?;
        let mut taken = self.taken();
        if taken.by.len() >= MOST
            && let Some((_, (_, stream))) =
                taken.yielding().and_then(|one| taken.by.remove_entry(&one))
        {
            // Whoever listens to it hears its end.
            let _ = stream.shutdown(Shutdown::Both);
        }
        taken.last += 1;
        let number = taken.last;
        taken.by.insert(number, (peer, stream));
        Ok(Seat { seats: Arc::clone(self), number })
    }
}

impl Taken {
    /// The oldest seat of those who have most.
    fn yielding(&self) -> Option<u64> {
        let mut counts: BTreeMap<&Peer, usize> = BTreeMap::new();
        for (peer, _) in self.by.values() {
            *counts.entry(peer).or_default() += 1;
        }
        let most = counts.values().max()?;
        let has_most = |peer| counts.get(peer) == Some(most);
        self.by.iter().find(|(_, (peer, _))| has_most(peer)).map(|(number, _)| *number)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken().by.remove(&self.number);
    }
}

/// Answers whoever asks until the listener is shut down; or lets the decision loop answer.
pub(super) fn answer_all(listener: &UnixListener, board: &Board, inbox: &Arc<inbox::Inbox<Input>>) {
    let seats = Arc::new(Seats::default());
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // No descriptor is left; there may be one in a moment.
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        let Ok(peer) = json_line::peer(&stream) else { continue };
        let peer = Peer::of(peer.uid, peer.pid);
        let Ok(seat) = seats.take(peer, &stream) else { continue };
        let (board, inbox) = (board.clone(), Arc::clone(inbox));
        let thread = std::thread::Builder::new().name("question".into());
        // Where there is no thread for it, it is not answered.
        let _ = thread.spawn(move || {
            answer(stream, &board, &inbox);
            drop(seat);
        });
    }
}

fn answer(stream: UnixStream, board: &Board, inbox: &inbox::Inbox<Input>) {
    let (question, caller) = match json_line::listen(&stream) {
        Ok((Question::Container(question), caller)) => (question, caller),
        Ok((Question::Status, _)) => return say_status(&stream, board),
        Err(_) => return,
    };
    let asked_ns = clock::now().boottime_ns;
    // Where it finds no room, it is not answered.
    let question = question.in_our_numbers(caller);
    let started = question.started();
    let inquiry = Inquiry { question, started, caller, asked_ns, stream };
    inbox.try_offer(Class::Integrity, 4096, Input::Inquiry(inquiry));
}

fn say_status(stream: &UnixStream, board: &Board) {
    let mut status = board.lock().clone();
    status.extent = Extent::of(Path::new(&status.trail));
    // Whoever asked may have gone.
    let _ = json_line::answer(stream, &status);
}

/// Asks the agent behind this socket; none if there is none.
pub(super) fn ask(socket: &Path) -> io::Result<Option<Status>> {
    ask_one(socket, &Question::Status)
}

/// Asks about a container.
pub(super) fn ask_of_container(
    socket: &Path,
    question: &containers::Question,
) -> io::Result<Option<containers::Told>> {
    ask_one(socket, &Question::Container(question.clone()))
}

fn ask_one<T: DeserializeOwned>(socket: &Path, question: &Question) -> io::Result<Option<T>> {
    let stream = match UnixStream::connect(socket) {
        Err(error)
            if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused]
                .contains(&error.kind()) =>
        {
            return Ok(None);
        }
        stream => stream?,
    };
    stream.set_write_timeout(Some(json_line::PROMPT))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    json_line::say(&stream, question)?;
    json_line::hear(&stream, LONGEST).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_most_seats_makes_room() {
        let seats = Arc::new(Seats::default());
        let mut held = Vec::new();
        let mut take = |uid| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            held.push((seats.take(Peer::of(uid, 0), &ours).unwrap(), theirs));
            held.len() - 1
        };
        let one = take(1);
        let flood: Vec<usize> = (0..100).map(|_| take(2)).collect();
        let other = take(3);
        let is_there = |at: usize| seats.taken().by.contains_key(&held[at].0.number);
        assert!(is_there(one) && is_there(other));
        let kept = flood.iter().filter(|at| is_there(**at)).count();
        assert_eq!((kept, seats.taken().by.len()), (MOST - 2, MOST));
        assert!(flood.iter().rev().take(kept).all(|at| is_there(*at)), "the oldest goes");
        // It is told so.
        let told: Result<u8, _> = json_line::hear(&held[flood[0]].1, 10);
        assert_eq!(told.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        held.clear();
        assert!(seats.taken().by.is_empty());
    }
}
