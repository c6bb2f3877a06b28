//! The door of a process that is not the writer: entries go out in order, one number
//! comes back for all that are durable.

use std::io::{self, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::frame::{self, Frame};
use super::{DoorError, IDLE, Shared, Standing, State};
use crate::Class;

/// How many bytes of entries go into one write.
const BATCH: usize = 256 << 10;

/// How often at most entries are sent that nobody waits for.
const SEND: Duration = Duration::from_millis(50);

/// How long the writer may take to say that it is there.
const GREETING: Duration = Duration::from_secs(10);

/// Why the connection ended.
pub(super) enum End {
    /// Everything handed in is settled and the door is closing.
    Done,
    /// The writer is gone; somebody else becomes it.
    Broken,
}

/// Sends what waits until the connection breaks or all is done.
pub(super) fn run(shared: &Shared, stream: &UnixStream) -> Result<End, DoorError> {
    let Ok(mut reader) = stream.try_clone().map(BufReader::new) else { return Ok(End::Broken) };
    let mut buffer = Vec::new();
    if !greet(shared, stream, &mut reader, &mut buffer)? {
        return Ok(End::Broken);
    }
    // A writer that answers is something that moved.
    shared.change(|state| state.standing = Standing::Client);
    let broken = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let listener =
            std::thread::Builder::new().name("door-answers".into()).spawn_scoped(scope, || {
                listen(shared, &mut reader, &mut buffer);
                broken.store(true, Ordering::SeqCst);
                // Wakes the sender, in the kernel or before the queue.
                let _ = stream.shutdown(Shutdown::Both);
                drop(shared.state());
                shared.work.notify_all();
            });
        if listener.is_err() {
            return Ok(End::Broken);
        }
        let end = send(shared, stream, &broken);
        // Lets the listener end, which the scope waits for.
        let _ = stream.shutdown(Shutdown::Both);
        Ok(end)
    })
}

/// Says hello; whether somebody answers.
fn greet(
    shared: &Shared,
    mut stream: &UnixStream,
    reader: &mut BufReader<UnixStream>,
    buffer: &mut Vec<u8>,
) -> Result<bool, DoorError> {
    let hello = Frame::Hello { version: frame::VERSION, client: shared.client };
    let mut out = Vec::new();
    hello.write(&mut out);
    let answer = stream
        .set_read_timeout(Some(GREETING))
        .and_then(|()| stream.write_all(&out))
        .and_then(|()| Frame::next(reader, buffer))
        .and_then(|answer| stream.set_read_timeout(None).map(|()| answer));
    match answer {
        Ok(Some(Frame::Welcome { version: frame::VERSION })) => Ok(true),
        Ok(Some(Frame::Welcome { version })) => Err(DoorError::Version { version }),
        // Another kind of frame, a timeout or an end: not a writer that works.
        Ok(_) | Err(_) => Ok(false),
    }
}

fn listen(shared: &Shared, reader: &mut BufReader<UnixStream>, buffer: &mut Vec<u8>) {
    loop {
        match Frame::next(reader, buffer) {
            Ok(Some(Frame::Durable { seq })) => {
                shared.change(|state| state.outbox.settle(seq));
                // The sender may wait for the last one to be settled.
                shared.work.notify_all();
            }
            Ok(Some(Frame::Refused { seq, refusal, reason })) => shared.change(|state| {
                let class = state.outbox.class(seq).unwrap_or(Class::Rest);
                state.outbox.refuse(seq, class, refusal, reason);
            }),
            Ok(Some(Frame::Note { note })) => {
                shared.change(|state| state.put_note(state.notes.asked, &note));
                shared.work.notify_all();
            }
            Ok(_) => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn send(shared: &Shared, mut stream: &UnixStream, broken: &AtomicBool) -> End {
    let mut sent = 0;
    // Frames that take longer than anybody waits are for a writer that hangs.
    if stream.set_write_timeout(Some(shared.options.patience)).is_err() {
        return End::Broken;
    }
    let mut asked = 0;
    let mut out = Vec::new();
    loop {
        out.clear();
        shared.turn();
        let mut state = shared.state();
        loop {
            if broken.load(Ordering::SeqCst) {
                return End::Broken;
            }
            let (closing, now) = (state.closing, Instant::now());
            state.outbox.push_gap(now, closing);
            let mut limit = IDLE;
            if state.outbox.after(sent).next().is_some() {
                limit = if closing { Duration::ZERO } else { state.pace.left(now, SEND) };
            }
            if limit.is_zero() {
                sent = write_batch(&state, sent, &mut out);
                if state.outbox.after(sent).next().is_none() {
                    state.pace.went(now);
                }
            }
            if state.notes.wanted > asked && state.outbox.is_empty() {
                asked = state.notes.wanted;
                state.notes.asked = asked;
                Frame::Checkpoint.write(&mut out);
            }
            if !out.is_empty() {
                break;
            }
            if state.is_finished() {
                return End::Done;
            }
            state = shared.wait_for_work(state, limit);
            shared.turn();
        }
        drop(state);
        if stream.write_all(&out).is_err() {
            return End::Broken;
        }
    }
}

/// Adds the entries after `sent`, as many as go into one write; the last one's number.
fn write_batch(state: &State, mut sent: u64, out: &mut Vec<u8>) -> u64 {
    for item in state.outbox.after(sent) {
        frame::write_entry(out, item.seq, item.class, &item.packed);
        sent = item.seq;
        if out.len() >= BATCH {
            break;
        }
    }
    sent
}
