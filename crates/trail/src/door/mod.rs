//! The one door through which records enter a trail (design section 4, Trail writer).
//!
//! ```text
//!  submit ─▶ outbox ─▶ keeper ─┬─ has the lock: desk ─▶ Writer ─▶ segments, checkpoint ─▶ sinks
//!  wait_durable ◀── settled ◀──┤                  ▲
//!                              └─ has not: client ─ trail.sock ─▶ desk of another process
//! ```
//!
//! Whoever holds the trail's lock is its writer and serves `trail.sock`; every other
//! process sends there. When the writer goes, however it goes, one of the others takes
//! the lock and what was not acknowledged is sent again; the ticket of an entry
//! (`VT_SEQ=<client>:<seq>` in its tail) keeps it from being there twice. A process that
//! may not read the signing key never becomes the writer.
//!
//! Everything is bounded: a queue holds `outbox::CAPACITY` bytes, a quarter of them for
//! integrity records only; frames, clients and waits have limits too.
//!
//! A [`Role::Client`] never contends for the lock, whatever it may read: who writes is decided
//! elsewhere, and what is not durable is kept until somebody does.

mod client;
mod desk;
mod frame;
mod outbox;
mod pace;
mod pack;
mod socket;

use std::collections::VecDeque;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use outbox::Outbox;
use pace::Pace;

use crate::sinks::Sink;
use crate::{Disk, Entry, Error, PublicKey, Stamp, layout};

pub use frame::{Frame, FrameError, Refusal};
pub use pack::{PackError, Unpacked, pack};

/// How long a process of one verb waits where nothing moves.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a trail in `dir` unless there is one; its public key if it was made. Of several
/// processes that do this at once, one makes it.
///
/// # Errors
/// As [`create`](crate::create); [`DoorError::Exposed`].
pub fn create(dir: &Path, host: &str) -> Result<Option<PublicKey>, DoorError> {
    socket::check_entrance(dir)?;
    let exists = || dir.join(layout::ID).exists();
    if exists() {
        return Ok(None);
    }
    let made = DirBuilder::new().recursive(true).mode(0o750).create(dir);
    made.map_err(Error::io("make", Path::new(".")))?;
    let held = std::fs::File::open(dir).and_then(|held| {
        rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive)?;
        Ok(held)
    });
    let _held = held.map_err(Error::io("lock", Path::new(".")))?;
    if exists() {
        return Ok(None);
    }
    socket::check_place(dir)?;
    check_own(dir)?;
    Ok(Some(crate::create(&Disk::new(dir), host)?))
}

/// Refuses a directory that holds what no unfinished trail leaves: with the operands of a command in
/// the wrong order, a trail would be made among somebody's files.
fn check_own(dir: &Path) -> Result<(), Error> {
    let list = |error| Error::io("list", Path::new("."))(error);
    for entry in std::fs::read_dir(dir).map_err(list)? {
        let name = entry.map_err(list)?.file_name();
        let is_ours = name.to_str().is_some_and(|name| {
            layout::is_top(name.strip_suffix(".tmp").unwrap_or(name)) || socket::is_name(name)
        });
        if !is_ours {
            return Err(Error::Occupied { name: name.into() });
        }
    }
    Ok(())
}

/// How a door is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The clock. The door has threads of its own, so it asks instead of being told.
    pub now: fn() -> Stamp,
    /// The kernel's `boot_id`.
    pub boot: String,
    /// Where checkpoints go while this process is the writer.
    pub sinks: Vec<Sink>,
    /// Bytes of the disk that are kept for [`Class::Integrity`](crate::Class); none: a quarter of it, at
    /// most 64 MiB.
    pub reserve: Option<u64>,
    /// How long nothing may move before waiting is given up.
    pub patience: Duration,
    /// Whether this process may become the writer.
    pub role: Role,
}

/// What a door may become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// The writer, as soon as there is no other; until then its client.
    #[default]
    Any,
    /// Only ever a client: the signing key is never read here.
    Client,
    /// Only ever the writer: it has nothing to record itself, and waits while another process writes
    /// without being that one's client, which may end when it has none.
    Writer,
}

/// How a door stands to the writer at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody writes, as far as this door knows: it looks for the lock or the socket.
    Looking,
    /// This process is the writer and lets clients in.
    Writer,
    /// Another process is, and was reached.
    Client,
}

/// The number of an entry that was handed in; of this door only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receipt(u64);

/// Why the door cannot be used any more, or an entry not be appended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DoorError {
    /// The trail cannot be written.
    #[error(transparent)]
    Trail(Arc<Error>),
    /// The door itself cannot work.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it did not work.
        source: Arc<io::Error>,
    },
    /// The writer is of a veritrail that speaks otherwise.
    #[error(
        "the trail's writer speaks version {version} of the protocol; this is version {}",
        frame::VERSION
    )]
    Version {
        /// What it speaks.
        version: u8,
    },
    /// The writer does not take the entry, whoever sends it.
    #[error("the entry cannot be appended: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// This user can neither write the trail nor reach who does.
    #[error(
        "user {uid} may neither read the trail's key nor reach its writer; user {owner} and root may"
    )]
    NotAllowed {
        /// Who we are.
        uid: u32,
        /// Whose the trail is.
        owner: u32,
    },
    /// Anybody may put files, links and keys into the trail's directory.
    #[error("everybody may write to the trail's directory")]
    Exposed,
    /// There is no room for the entry on the disk.
    #[error("the trail's disk has no room left")]
    NoRoom,
    /// Nobody writes the trail, or the one who does hangs.
    #[error("the trail's writer has not answered for {} s", .0.as_secs())]
    Silent(Duration),
}

impl From<Error> for DoorError {
    fn from(error: Error) -> DoorError {
        DoorError::Trail(Arc::new(error))
    }
}

impl DoorError {
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> DoorError {
        move |source| DoorError::Io { what, source: Arc::new(source) }
    }
}

/// The door of one process to one trail.
#[derive(Debug)]
pub struct Door {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
}

/// What the threads of a door share.
#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    options: Options,
    client: u64,
    state: Mutex<State>,
    /// The processes of the clients of this one, if it is the writer.
    clients: Mutex<Vec<u32>>,
    /// When the keeper last went on with its work, in milliseconds since `began`.
    turned: AtomicU64,
    began: Instant,
    /// Something to do for the keeper.
    work: Condvar,
    /// Room in a queue.
    room: Condvar,
    /// Something was settled, a note has come, or the door has failed.
    done: Condvar,
}

#[derive(Debug)]
struct State {
    outbox: Outbox,
    /// What the clients of this process, if it is the writer, have sent.
    inbox: desk::Inbox,
    /// Of what is in either and goes on from here, to the disk or to the writer.
    pace: Pace,
    notes: Notes,
    standing: Standing,
    /// When something last moved.
    moved: Instant,
    closing: bool,
    /// Why the keeper has ended, if it was not asked to.
    failed: Option<DoorError>,
    /// How the trail was closed, if this process was its writer.
    ended: bool,
}

/// Checkpoints that were asked for.
#[derive(Debug, Default)]
struct Notes {
    wanted: u64,
    /// Up to here the writer, in another process, has been asked.
    asked: u64,
    made: u64,
    latest: Vec<u8>,
}

impl Door {
    /// Opens the door of the trail in `dir`, which must be there
    /// ([`create`](crate::create) makes one). Returns before it is known who the writer is.
    ///
    /// # Errors
    /// [`Error::NoTrail`]; I/O.
    pub fn open(dir: &Path, options: Options) -> Result<Door, DoorError> {
        socket::check_entrance(dir)?;
        let id = std::fs::metadata(dir.join(layout::ID));
        if id.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Err(Error::NoTrail.into());
        }
        socket::check_place(dir)?;
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            options,
            client: random()?,
            state: Mutex::new(State {
                outbox: Outbox::default(),
                inbox: desk::Inbox::default(),
                pace: Pace::default(),
                notes: Notes::default(),
                standing: Standing::Looking,
                moved: Instant::now(),
                closing: false,
                failed: None,
                ended: false,
            }),
            clients: Mutex::default(),
            turned: AtomicU64::new(0),
            began: Instant::now(),
            work: Condvar::new(),
            room: Condvar::new(),
            done: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        let keeper = std::thread::Builder::new()
            .name("door".into())
            .spawn(move || keep(&theirs))
            .map_err(DoorError::io("start the trail's writer"))?;
        Ok(Door { shared, keeper: Some(keeper) })
    }

    /// Hands in an entry, waiting for room. Its ticket is the door's business: the one in
    /// `entry` is not looked at.
    ///
    /// # Errors
    /// [`DoorError::Refused`] for an entry that no trail takes; what made the door unusable.
    pub fn submit(&self, entry: &Entry<'_>) -> Result<Receipt, DoorError> {
        let packed = packed(entry)?;
        let mut state = self.shared.wait(&self.shared.room, |state| {
            state.outbox.admits(entry.class, &packed).then_some(())
        })?;
        Ok(self.push(&mut state, entry, packed))
    }

    /// Hands in an entry if there is room, and else counts it: the number of entries lost
    /// this way stands in a `VT_GAP` record before the next one that is not.
    ///
    /// # Errors
    /// As [`Door::submit`].
    pub fn offer(&self, entry: &Entry<'_>) -> Result<Option<Receipt>, DoorError> {
        let packed = packed(entry)?;
        let mut state = self.shared.state();
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        if !state.outbox.admits(entry.class, &packed) {
            state.outbox.drop_one(entry.class);
            return Ok(None);
        }
        state.outbox.push_gap(Instant::now(), false);
        Ok(Some(self.push(&mut state, entry, packed)))
    }

    fn push(&self, state: &mut State, entry: &Entry<'_>, packed: Vec<u8>) -> Receipt {
        let idle = state.outbox.is_empty();
        let wake = state.pace.note(entry.class, packed.len());
        let seq = state.outbox.push(entry.class, packed);
        if idle {
            state.moved = Instant::now();
        }
        if wake {
            self.shared.work.notify_one();
        }
        Receipt(seq)
    }

    /// Waits until an entry is durable.
    ///
    /// # Errors
    /// [`DoorError::Refused`], [`DoorError::NoRoom`] for this entry; what made the door
    /// unusable.
    pub fn wait_durable(&self, receipt: Receipt) -> Result<(), DoorError> {
        self.shared.hurry();
        let state = self
            .shared
            .wait(&self.shared.done, |state| (state.outbox.settled() >= receipt.0).then_some(()))?;
        state.outbox.refusal(receipt.0).map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Waits until every entry of this door is durable, from the one with `first` on.
    ///
    /// # Errors
    /// As [`Door::wait_durable`], for the first of them that was refused.
    pub fn wait_durable_from(&self, first: Receipt) -> Result<(), DoorError> {
        self.shared.hurry();
        let state =
            self.shared.wait(&self.shared.done, |state| state.outbox.is_empty().then_some(()))?;
        state.outbox.first_refusal(first.0).map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Why one of the entries from `first` on is not in the trail, if that is known yet. A door
    /// remembers its last 1,024 refusals.
    #[must_use]
    pub fn refusal_since(&self, first: Receipt) -> Option<DoorError> {
        self.shared.state().outbox.first_refusal(first.0).cloned()
    }

    /// Whether an entry is durable, without waiting. Refused entries count as settled here
    /// and are told apart by [`Door::wait_durable`].
    #[must_use]
    pub fn is_settled(&self, receipt: Receipt) -> bool {
        self.shared.state().outbox.settled() >= receipt.0
    }

    /// How many entries are lost at most if the door fails or closes now: those that are not durable
    /// yet, and those that found no room and stand in no durable gap record.
    #[must_use]
    pub fn unaccounted(&self) -> u64 {
        self.shared.state().outbox.unaccounted()
    }

    /// Whether the door cannot be used any more: what is unaccounted for is lost.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.shared.state().failed.is_some()
    }

    /// Why the door cannot be used any more.
    #[must_use]
    pub fn failure(&self) -> Option<DoorError> {
        self.shared.state().failed.clone()
    }

    /// How this door stands to the writer.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.shared.state().standing
    }

    /// Since when entries wait for a writer that does not answer; none where nothing waits.
    #[must_use]
    pub fn waits_since(&self) -> Option<Instant> {
        let state = self.shared.state();
        (!state.outbox.is_empty()).then_some(state.moved)
    }

    /// Whether a process is a client of this one, as the writer.
    #[must_use]
    pub fn has_client(&self, pid: u32) -> bool {
        self.shared.clients.lock().unwrap_or_else(PoisonError::into_inner).contains(&pid)
    }

    /// How long the thread that writes has been at one round of its work: a disk that does not answer
    /// keeps it.
    #[must_use]
    pub fn stalled(&self) -> Duration {
        let turned = Duration::from_millis(self.shared.turned.load(Ordering::Relaxed));
        self.shared.began.elapsed().saturating_sub(turned)
    }

    /// The signed note over everything that was handed in before, and perhaps more. Takes
    /// up to a second: the trail is signed that often.
    ///
    /// # Errors
    /// What made the door unusable.
    pub fn checkpoint(&self) -> Result<Vec<u8>, DoorError> {
        let mut state = self.shared.state();
        state.notes.wanted += 1;
        let wanted = state.notes.wanted;
        state.pace.hurry();
        state.moved = Instant::now();
        drop(state);
        self.shared.work.notify_one();
        let state = self
            .shared
            .wait(&self.shared.done, |state| (state.notes.made >= wanted).then_some(()))?;
        Ok(state.notes.latest.clone())
    }

    /// The name of this door in the `VT_SEQ` of its entries.
    #[must_use]
    pub fn client(&self) -> String {
        client_name(self.shared.client)
    }

    /// Waits until everything is durable and, if this process is the writer, signs and
    /// closes the trail.
    ///
    /// # Errors
    /// What made the door unusable: then what was not acknowledged may be lost.
    /// [`DoorError::NoRoom`] where entries found no room, nor the record that says so.
    pub fn close(mut self) -> Result<(), DoorError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), DoorError> {
        let Some(keeper) = self.keeper.take() else { return Ok(()) };
        let mut state = self.shared.state();
        state.closing = true;
        state.moved = Instant::now();
        drop(state);
        self.shared.work.notify_all();
        let outcome = self.shared.wait(&self.shared.done, |state| state.ended.then_some(()));
        let outcome = outcome.and_then(|state| match state.outbox.unaccounted() {
            0 => Ok(()),
            _ => Err(DoorError::NoRoom),
        });
        if let Err(error) = &outcome {
            // The keeper gives up as well.
            self.shared.fail(error.clone());
        }
        if keeper.join().is_err() {
            return Err(DoorError::Io {
                what: "run the trail's writer",
                source: Arc::new(io::Error::other("its thread panicked")),
            });
        }
        outcome
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Who wants to know how it ended calls `close`.
        let _ = self.end();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody waits for what was handed in.
    fn hurry(&self) {
        self.state().pace.hurry();
        self.work.notify_one();
    }

    /// Waits at `condvar` until `ready`, the door fails, or nothing has moved for too long.
    fn wait(
        &self,
        condvar: &Condvar,
        mut ready: impl FnMut(&mut State) -> Option<()>,
    ) -> Result<MutexGuard<'_, State>, DoorError> {
        let mut state = self.state();
        loop {
            if ready(&mut state).is_some() {
                return Ok(state);
            }
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            let Some(left) = self.options.patience.checked_sub(state.moved.elapsed()) else {
                return Err(DoorError::Silent(self.options.patience));
            };
            let left = left.max(Duration::from_millis(1));
            state = condvar.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The keeper waits for something to do, at most for `limit`.
    fn wait_for_work<'a>(
        &self,
        state: MutexGuard<'a, State>,
        limit: Duration,
    ) -> MutexGuard<'a, State> {
        self.work.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Changes the state and tells everybody who waits for it.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        state.moved = Instant::now();
        drop(state);
        self.room.notify_all();
        self.done.notify_all();
    }

    /// The keeper goes on with its work.
    fn turn(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.turned.store(millis, Ordering::Relaxed);
    }

    fn fail(&self, error: DoorError) {
        self.change(|state| {
            state.failed.get_or_insert(error);
        });
        self.work.notify_all();
    }
}

impl State {
    /// Whether the keeper has nothing left to do and was told to end.
    fn is_finished(&self) -> bool {
        self.failed.is_some()
            || (self.closing && self.outbox.is_empty() && self.notes.wanted == self.notes.made)
    }

    /// Whether somebody waits for a checkpoint over what is durable.
    fn wants_note(&self) -> bool {
        self.inbox.is_asked() || (self.outbox.is_empty() && self.notes.wanted > self.notes.made)
    }

    fn put_note(&mut self, upto: u64, note: &[u8]) {
        self.notes.made = self.notes.made.max(upto);
        self.notes.latest = note.to_vec();
    }
}

fn packed(entry: &Entry<'_>) -> Result<Vec<u8>, DoorError> {
    let refused = |reason: String| DoorError::Refused { reason };
    let packed = pack(entry).map_err(|error| refused(error.to_string()))?;
    if packed.len() > frame::MAX_ENTRY {
        let reason = format!("{} bytes; at most {} are possible", packed.len(), frame::MAX_ENTRY);
        return Err(refused(reason));
    }
    Ok(packed)
}

fn random() -> Result<u64, DoorError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| DoorError::Io {
        what: "draw a random number",
        source: Arc::new(io::Error::other(error)),
    })?;
    Ok(u64::from_le_bytes(bytes).max(1))
}

fn client_name(client: u64) -> String {
    format!("{client:016x}")
}

/// The keeper: writer or client, one after the other, until the door closes.
fn keep(shared: &Shared) {
    match keep_until_closed(shared) {
        Ok(()) => shared.change(|state| state.ended = true),
        Err(error) => shared.fail(error),
    }
}

fn keep_until_closed(shared: &Shared) -> Result<(), DoorError> {
    become_owner(&shared.dir).map_err(DoorError::io("become the owner of the trail"))?;
    let role = shared.options.role;
    let may_write = role != Role::Client && may_read(&shared.dir.join(layout::KEY));
    if !may_write {
        socket::check_access(&shared.dir)?;
    }
    let mut nap = NAP;
    loop {
        shared.turn();
        if shared.state().is_finished() {
            return Ok(());
        }
        if may_write {
            let lock = socket::Lock::try_take(&shared.dir);
            if let Some(lock) = lock.map_err(DoorError::io("lock the trail"))? {
                return desk::run(shared, lock);
            }
        }
        if role == Role::Writer {
            // Whoever is there writes; once is enough to know.
            if shared.state().standing == Standing::Looking && socket::connect(&shared.dir).is_ok()
            {
                shared.change(|state| state.standing = Standing::Client);
            }
        } else if let Ok(stream) = socket::connect(&shared.dir) {
            let trusted = socket::is_trusted(&stream, &shared.dir);
            if trusted.map_err(DoorError::io("see who the trail's writer is"))? {
                let end = client::run(shared, &stream)?;
                shared.state().standing = Standing::Looking;
                match end {
                    client::End::Done => return Ok(()),
                    client::End::Broken => nap = NAP,
                }
            }
        }
        // The writer is opening the trail, or has just gone.
        let state = shared.state();
        if !state.is_finished() {
            drop(shared.wait_for_work(state, nap));
        }
        nap = (nap * 2).min(LONGEST_NAP);
    }
}

/// How long the keeper sleeps when nothing happens. What nobody wakes it for, a gap to
/// tell or a report of a sink, is looked at then.
const IDLE: Duration = Duration::from_secs(1);

/// How long to wait before looking again for the lock or the socket.
const NAP: Duration = Duration::from_millis(1);
const LONGEST_NAP: Duration = Duration::from_millis(100);

/// Takes the uid and gid of the trail's owner where we are root and the owner is not, for
/// this thread and those it starts: what they make must be the owner's.
fn become_owner(dir: &Path) -> io::Result<()> {
    let owner = std::fs::metadata(dir)?;
    if owner.uid() == 0 || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_gid(rustix::fs::Gid::from_raw(owner.gid()))?;
    rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(owner.uid()))?;
    Ok(())
}

fn may_read(key: &Path) -> bool {
    // A key that is not there is the writer's error to report, not a reason to wait.
    !std::fs::File::open(key).is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
}

/// An entry of a client of this process.
#[derive(Debug)]
struct Incoming {
    from: Arc<desk::Connection>,
    item: outbox::Item,
}

type Queue = VecDeque<Incoming>;
