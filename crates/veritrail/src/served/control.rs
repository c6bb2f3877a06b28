//! What a keeper is asked, at its socket: one JSON line each way.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::directory::{Directory, Name};
use super::wire::Counts;
use crate::facts::Facts;
pub(crate) use crate::facts::State;
use crate::json_line::{self, LONGEST, PROMPT, hear, say};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Question {
    /// How is the device?
    Status,
    /// End it, unless somebody uses it.
    Close,
    /// End it as soon as nobody uses it any more.
    CloseDeferred,
    /// Do not end it after all.
    CancelDeferred,
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    Status(Box<Status>),
    /// The device is gone and its records are durable.
    Closed,
    /// The device will be closed when its last user is gone.
    Deferred,
    /// It will not.
    Cancelled,
    /// Somebody uses it.
    Busy,
    /// It could not be done.
    Failed(String),
}

/// What there is to say about a served device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    #[serde(flatten)]
    pub(crate) facts: Facts,
    pub(crate) trail: String,
    /// The keeper's process.
    pub(crate) pid: u32,
    /// The volume's.
    pub(crate) volume_pid: u32,
    /// Where the keeper has the files open, whatever their names mean by now.
    #[serde(default)]
    pub(crate) files: Option<Descriptors>,
    /// Seconds since 1970.
    pub(crate) opened: u64,
    pub(crate) counts: Option<Counts>,
    pub(crate) last_violation: Option<LastViolation>,
    /// Events that the trail could not take, at most, and that are not told of in it yet.
    #[serde(default)]
    pub(crate) lost_events: u64,
    /// Why the device is not active any more.
    pub(crate) ended: Option<String>,
}

/// Descriptors of the keeper's process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Descriptors {
    pub(crate) data: i32,
    pub(crate) hash: i32,
    pub(crate) fec: Option<i32>,
}

/// The last time that a block was not what was promised.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LastViolation {
    /// Seconds since 1970.
    pub(crate) time: u64,
    /// The body of its DM_EVENT.
    pub(crate) event: String,
    /// The body of its VT_READER.
    pub(crate) reader: String,
}

impl Status {
    pub(super) fn parse(text: &[u8]) -> Option<Status> {
        serde_json::from_slice(text).ok()
    }
}

/// How long a keeper takes at most to be gone once it answers no more.
pub(crate) const ENDING: Duration = Duration::from_secs(5);

/// How often to look whether it is.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// Asks the keeper of a device and waits for its answer, for a close as long as records need to
/// become durable. None if there is no keeper; one that ends before it answers is soon none.
pub(crate) fn ask(
    directory: &Directory,
    name: &Name,
    question: Question,
) -> io::Result<Option<Answer>> {
    let end = Instant::now() + ENDING;
    loop {
        let Some(stream) = directory.connect(name)? else { return Ok(None) };
        match put(&stream, question) {
            Err(error) if has_gone(&error) && Instant::now() < end => std::thread::sleep(LOOK),
            answer => return answer.map(Some),
        }
    }
}

fn has_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    [BrokenPipe, ConnectionReset, UnexpectedEof].contains(&error.kind())
}

fn put(stream: &UnixStream, question: Question) -> io::Result<Answer> {
    stream.set_write_timeout(Some(PROMPT))?;
    stream.set_read_timeout(Some(match question {
        Question::Close => trail::door::PATIENCE + Duration::from_secs(30),
        _ => Duration::from_secs(10),
    }))?;
    say(stream, &question)?;
    let answer = hear(stream, LONGEST).map_err(|error| match error.kind() {
        // What the system says to a time-out tells nobody anything.
        io::ErrorKind::WouldBlock => io::Error::new(
            io::ErrorKind::TimedOut,
            "it lives and does not answer (is it stopped, or its trail's disk?)",
        ),
        _ => error,
    })?;
    if matches!(answer, Answer::Closed) {
        // The keeper says so and ends; with it goes the last trace of the device.
        let _ = io::copy(&mut stream.take(LONGEST), &mut io::sink());
    }
    Ok(answer)
}

/// Takes a question, with the process that asks.
pub(super) fn listen(stream: &UnixStream) -> io::Result<(Question, u32)> {
    json_line::listen(stream)
}
