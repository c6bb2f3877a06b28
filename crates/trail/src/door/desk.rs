//! The writer's desk: what this process and its clients hand in becomes durable here,
//! many entries with one sync.

use std::collections::HashMap;
use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use rustix::net::SendFlags;

use super::frame::{self, Frame, Refusal};
use super::outbox::{self, Item};
use super::{
    DoorError, IDLE, Incoming, Queue, Shared, Standing, State, client_name, pack::Unpacked, socket,
};
use crate::sinks::{Report, Sinks};
use crate::store::Disk;
use crate::{Class, Entry, Error, Lines, Own, Ticket, Writer};

/// How many clients are served at once; more are turned away and try again.
const CLIENTS: usize = 64;

/// How many bytes of clients' entries wait at most, over all clients.
const CAPACITY: usize = 16 << 20;

/// How long a client may take to say who it is.
const GREETING: Duration = Duration::from_secs(10);

/// How often at most entries that nobody waits for are written and synced.
const COMMIT: Duration = Duration::from_millis(100);

/// How many entries of one client are refused in one round: their answers fit its socket.
const RUN: usize = 512;

/// How long sinks may take for the last note.
const FAREWELL: Duration = Duration::from_secs(5);

/// What clients have sent and is not yet durable.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    queue: Queue,
    /// Of what is in the queue or being written.
    bytes: usize,
    /// Who wants a checkpoint.
    asking: Vec<Arc<Connection>>,
    closed: bool,
}

impl Inbox {
    /// Whether a client wants a checkpoint.
    pub(super) fn is_asked(&self) -> bool {
        !self.asking.is_empty()
    }
}

/// One client of ours.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    /// Its name, once it has said it.
    client: OnceLock<String>,
    /// One of its entries was refused. Nothing of it is taken until it has come anew:
    /// the trail knows the last number of a client only, and a number that is not there
    /// must not lie below one that is, or it would count as durable when it is sent again.
    /// Those right behind it that find no room either are refused with it.
    stopped: AtomicBool,
}

impl Connection {
    /// Sends a frame at once or not at all: a client that does not listen must not hold up
    /// the writer. It is cut off, comes back and asks again.
    fn send(&self, frame: &Frame) {
        self.send_all(std::slice::from_ref(frame));
    }

    /// The same with several in one piece: each that is sent alone takes room in the socket for hundreds of
    /// bytes.
    fn send_all(&self, frames: &[Frame]) {
        let mut out = Vec::new();
        for frame in frames {
            frame.write(&mut out);
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if rustix::net::send(&self.stream, &out, flags) != Ok(out.len()) {
            self.cut();
        }
    }

    fn cut(&self) {
        // It may have gone by itself.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Writes until the door is closed. Returns when the trail is closed and the lock free.
pub(super) fn run(shared: &Shared, lock: socket::Lock) -> Result<(), DoorError> {
    let now = shared.options.now;
    let (mut writer, recovered) =
        Writer::open(Disk::new(&shared.dir), &shared.options.boot, now())?;
    writer.keep_for_integrity(shared.options.reserve);
    let listener =
        socket::listen(&shared.dir, &lock).map_err(DoorError::io("listen at trail.sock"))?;
    let reports = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&reports);
    let report = move |report| theirs.lock().unwrap_or_else(PoisonError::into_inner).push(report);
    let sinks =
        Sinks::start(&shared.options.sinks, &report).map_err(DoorError::io("start the sinks"))?;
    if !recovered.closed {
        // The last writer may have died between signing and telling.
        sinks.offer(writer.latest_checkpoint().as_bytes());
    }
    let connections = Connections::default();
    shared.change(|state| {
        state.inbox = Inbox::default();
        state.standing = Standing::Writer;
    });
    let mut desk = Desk { shared, writer: &mut writer, sinks: &sinks, reports: &reports };
    let served = std::thread::scope(|scope| {
        let (listener, connections) = (&listener, &connections);
        let accept = std::thread::Builder::new()
            .name("door-accept".into())
            .spawn_scoped(scope, || accept(shared, listener, connections, scope))
            .map_err(DoorError::io("start a thread"));
        let served = accept.and_then(|_| desk.serve());
        // Nobody new, and nobody in the middle of a frame: what is in the inbox is all.
        let _ = socket::forget(&shared.dir);
        let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
        connections.close();
        shared.state().inbox.closed = true;
        shared.room.notify_all();
        let served = served.and_then(|()| desk.round().map(drop));
        connections.cut();
        served
    });
    served?;
    let note = writer.close(now())?;
    sinks.offer(note.as_bytes());
    drop(lock);
    shared.change(|state| state.put_note(state.notes.wanted, note.as_bytes()));
    sinks.close(FAREWELL);
    Ok(())
}

struct Desk<'a> {
    shared: &'a Shared,
    writer: &'a mut Writer<Disk>,
    sinks: &'a Sinks,
    reports: &'a Mutex<Vec<Report>>,
}

/// What became of an entry, apart from what stops the writer.
type Fate = Result<(), (Refusal, String)>;

impl Desk<'_> {
    /// Rounds of taking, appending, syncing and answering, until the door closes.
    fn serve(&mut self) -> Result<(), DoorError> {
        loop {
            let mut state = self.shared.state();
            loop {
                let closing = state.closing;
                state.outbox.push_gap(Instant::now(), closing);
                if state.is_finished() {
                    return state.failed.clone().map_or(Ok(()), Err);
                }
                let (due, commit) = (self.due(), state.commit(Instant::now()));
                if commit.into_iter().chain(due).any(|left| left.is_zero())
                    || (due.is_none() && state.wants_note())
                {
                    break;
                }
                let limit = commit.into_iter().chain(due).fold(IDLE, Duration::min);
                state = self.shared.wait_for_work(state, limit);
                self.shared.turn();
            }
            drop(state);
            self.shared.turn();
            self.round()?;
        }
    }

    /// How long until the next checkpoint; `None` if all is signed.
    fn due(&self) -> Option<Duration> {
        let now = (self.shared.options.now)().boottime_ns;
        Some(Duration::from_nanos(self.writer.poll_timeout()?.saturating_sub(now)))
    }

    fn round(&mut self) -> Result<(), DoorError> {
        let mut state = self.shared.state();
        let own = state.outbox.take();
        let theirs = std::mem::take(&mut state.inbox.queue);
        state.pace.went(Instant::now());
        drop(state);

        let client = client_name(self.shared.client);
        let mut refused = Vec::new();
        let mut own_bytes = 0;
        for item in &own {
            own_bytes += item.cost();
            if let Err((refusal, reason)) = self.append(&client, item)? {
                refused.push((item.seq, item.class, refusal, reason));
            }
        }
        let mut answers: HashMap<*const Connection, (Arc<Connection>, u64)> = HashMap::new();
        let mut refusals: HashMap<*const Connection, (Arc<Connection>, Vec<Frame>)> =
            HashMap::new();
        let mut their_bytes = 0;
        for Incoming { from, item } in &theirs {
            their_bytes += item.cost();
            if from.stopped.load(Ordering::Relaxed) {
                continue;
            }
            let fate = match refusals.get(&Arc::as_ptr(from)) {
                Some((_, refused)) if refused.len() >= RUN => None,
                Some(_) => self.refuse(item)?,
                None => {
                    // Entries come after the name.
                    let client = from.client.get().map_or("", String::as_str);
                    Some(self.append(client, item)?)
                }
            };
            let Some(fate) = fate else {
                from.stopped.store(true, Ordering::Relaxed);
                continue;
            };
            if let Err((refusal, reason)) = fate {
                if refusal != Refusal::NoRoom {
                    from.stopped.store(true, Ordering::Relaxed);
                }
                let frame = Frame::Refused { seq: item.seq, refusal, reason };
                let refused = refusals.entry(Arc::as_ptr(from));
                refused.or_insert_with(|| (Arc::clone(from), Vec::new())).1.push(frame);
            }
            let answer = answers.entry(Arc::as_ptr(from));
            let answer = answer.or_insert_with(|| (Arc::clone(from), 0));
            answer.1 = answer.1.max(item.seq);
        }
        for (from, _) in refusals.values() {
            from.stopped.store(true, Ordering::Relaxed);
        }
        self.report()?;
        if self.writer.next_leaf() > self.writer.durable() {
            self.writer.sync()?;
        }
        // From here on all of it is durable.
        for (to, frames) in refusals.values() {
            to.send_all(frames);
        }
        for (to, seq) in answers.values() {
            to.send(&Frame::Durable { seq: *seq });
        }
        for (to, _) in refusals.values() {
            to.cut();
        }
        if let Some(note) = self.writer.checkpoint((self.shared.options.now)())? {
            self.sinks.offer(note.as_bytes());
        }
        let signed = self.writer.poll_timeout().is_none();
        let note = self.writer.latest_checkpoint().as_bytes();
        let mut asking = Vec::new();
        self.shared.change(|state| {
            for (seq, class, refusal, reason) in refused {
                state.outbox.refuse(seq, class, refusal, reason);
            }
            if let Some(last) = own.back() {
                state.outbox.settle_taken(last.seq, own_bytes);
            }
            state.inbox.bytes -= their_bytes;
            if signed {
                asking = std::mem::take(&mut state.inbox.asking);
                if state.outbox.is_empty() && state.notes.wanted > state.notes.made {
                    state.put_note(state.notes.wanted, note);
                }
            }
        });
        for to in asking {
            to.send(&Frame::Note { note: note.to_vec() });
        }
        Ok(())
    }

    /// What becomes of an entry behind one that found no room; none where it may find some. It is not
    /// appended in either case.
    fn refuse(&mut self, item: &Item) -> Result<Option<Fate>, DoorError> {
        let Ok(unpacked) = Unpacked::read(&item.packed) else { return Ok(None) };
        let is_short = self.writer.is_short_for(&unpacked.entry(item.class, None))?;
        Ok(is_short.then(|| Err((Refusal::NoRoom, DoorError::NoRoom.to_string()))))
    }

    fn append(&mut self, client: &str, item: &Item) -> Result<Fate, DoorError> {
        let unpacked = match Unpacked::read(&item.packed) {
            Ok(unpacked) => unpacked,
            Err(error) => return Ok(Err((Refusal::Entry, error.to_string()))),
        };
        let entry = unpacked.entry(item.class, Some(Ticket { client, seq: item.seq }));
        match self.writer.append(&entry, (self.shared.options.now)()) {
            Ok(_) => Ok(Ok(())),
            Err(error @ Error::Entry(_)) => Ok(Err((Refusal::Entry, error.to_string()))),
            Err(error @ Error::Full { .. }) => Ok(Err((Refusal::NoRoom, error.to_string()))),
            Err(error) => Err(error.into()),
        }
    }

    /// Records what sinks began or ceased to do.
    fn report(&mut self) -> Result<(), DoorError> {
        let reports =
            std::mem::take(&mut *self.reports.lock().unwrap_or_else(PoisonError::into_inner));
        for report in reports {
            let body = report.to_body();
            let own = [Own { kind: "VT_SINK", body: &body }];
            let entry =
                Entry { class: Class::Integrity, ticket: None, lines: Lines::Own(&own), tail: &[] };
            match self.writer.append(&entry, (self.shared.options.now)()) {
                // A full disk keeps the checkpoint from changing too.
                Ok(_) | Err(Error::Full { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl State {
    /// How long what was handed in may wait until it is written; none where nothing was.
    fn commit(&self, now: Instant) -> Option<Duration> {
        let waits = self.outbox.has_waiting() || !self.inbox.queue.is_empty();
        let left = if self.closing { Duration::ZERO } else { self.pace.left(now, COMMIT) };
        waits.then_some(left)
    }
}

/// The clients that are connected.
#[derive(Default)]
struct Connections(Mutex<Connected>);

#[derive(Default)]
struct Connected {
    list: Vec<Arc<Connection>>,
    /// Nobody is let in any more.
    closed: bool,
}

impl Connected {
    fn tell(&self, pids: &Mutex<Vec<u32>>) {
        let now = self.list.iter().filter_map(|one| socket::peer(&one.stream).ok()).collect();
        *pids.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Connected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, connection: &Arc<Connection>, pids: &Mutex<Vec<u32>>) -> bool {
        let mut connected = self.lock();
        let room = !connected.closed && connected.list.len() < CLIENTS;
        if room {
            connected.list.push(Arc::clone(connection));
            connected.tell(pids);
        }
        room
    }

    fn remove(&self, connection: &Arc<Connection>, pids: &Mutex<Vec<u32>>) {
        let mut connected = self.lock();
        connected.list.retain(|other| !Arc::ptr_eq(other, connection));
        connected.tell(pids);
    }

    /// Lets nobody in any more and takes nothing more from those who are.
    fn close(&self) {
        let mut connected = self.lock();
        connected.closed = true;
        for connection in &connected.list {
            // It may have gone by itself.
            let _ = connection.stream.shutdown(Shutdown::Read);
        }
    }

    fn cut(&self) {
        for connection in &self.lock().list {
            connection.cut();
        }
    }
}

/// Lets clients in, each with a thread of its own, until the listener is shut down.
fn accept<'scope>(
    shared: &'scope Shared,
    listener: &UnixListener,
    connections: &'scope Connections,
    scope: &'scope Scope<'scope, '_>,
) {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(_) if connections.lock().closed => return,
            Err(_) => {
                // Out of descriptors or memory: others end sooner or later.
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if !socket::is_trusted(&stream, &shared.dir).unwrap_or(false) {
            continue;
        }
        let connection = Arc::new(Connection {
            stream,
            client: OnceLock::new(),
            stopped: AtomicBool::new(false),
        });
        if !connections.add(&connection, &shared.clients) {
            continue;
        }
        let theirs = Arc::clone(&connection);
        let client = std::thread::Builder::new().name("door-client".into());
        let started = client.spawn_scoped(scope, move || {
            // Ends with the client: what it says wrong is its own loss.
            let _ = listen(shared, &theirs);
            theirs.cut();
            connections.remove(&theirs, &shared.clients);
        });
        if started.is_err() {
            connections.remove(&connection, &shared.clients);
        }
    }
}

/// Takes what one client sends until it goes, errs, or the desk closes.
fn listen(shared: &Shared, connection: &Arc<Connection>) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(64 << 10, &connection.stream);
    let mut buffer = Vec::new();
    connection.stream.set_read_timeout(Some(GREETING))?;
    let Some(Frame::Hello { version: frame::VERSION, client }) =
        Frame::next(&mut reader, &mut buffer)?
    else {
        // Tells a client of another version what this one is.
        connection.send(&Frame::Welcome { version: frame::VERSION });
        return Ok(());
    };
    connection.stream.set_read_timeout(None)?;
    let _ = connection.client.set(client_name(client));
    connection.send(&Frame::Welcome { version: frame::VERSION });
    while let Some(frame) = Frame::next(&mut reader, &mut buffer)? {
        let mut state = shared.state();
        let mut wake = true;
        match frame {
            Frame::Entry { seq, class, packed } => {
                let item = Item { seq, class, packed };
                while !state.inbox.closed
                    && !outbox::admits(state.inbox.bytes, item.cost(), class, CAPACITY)
                {
                    state = shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if state.inbox.closed {
                    return Ok(());
                }
                state.inbox.bytes += item.cost();
                wake = state.pace.note(class, item.cost());
                state.inbox.queue.push_back(Incoming { from: Arc::clone(connection), item });
            }
            Frame::Checkpoint => {
                if !state.inbox.asking.iter().any(|other| Arc::ptr_eq(other, connection)) {
                    state.inbox.asking.push(Arc::clone(connection));
                }
            }
            // Frames that only a writer sends.
            _ => return Ok(()),
        }
        drop(state);
        if wake {
            shared.work.notify_one();
        }
    }
    Ok(())
}
