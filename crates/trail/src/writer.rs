//! Appends to a trail.
//!
//! ```text
//!  append ─▶ segment's buffer ─▶ sync: write, fdatasync ─▶ acknowledged
//!                  │                                          │ each second
//!                  └─▶ hashes ─▶ tree                         └─▶ hashes, checkpoint
//! ```
//!
//! What an error means: after [`Error::Full`] and [`Error::Entry`] the writer goes on; any other
//! one stops it for good, because what a disk holds after a failed fdatasync cannot be asked. The
//! remedy is to open the trail again: recovery copies what is whole into a new file.

use std::collections::HashMap;
use std::path::Path;

use record::Line;
use record::names::RecordType;
use record::units::LeafIndex;

use crate::checkpoint::Checkpoint;
use crate::compose::Composer;
use crate::entry::{Class, Entry, Lines, Stamp, Ticket};
use crate::error::Error;
use crate::growing::{Growing, replace};
use crate::layout::{self, TILE};
use crate::leaf::{Frame, Tail, frame};
use crate::merkle::{Range, leaf_hash};
use crate::note::{PublicKey, SecretKey};
use crate::recover::{Recovered, Resumed};
use crate::store::{Mode, Room, Store};

/// Bytes after which a segment is left for the next one.
pub(crate) const SEGMENT: u64 = 64 << 20;

/// Bytes of the disk that are kept for [`Class::Integrity`], or a quarter of it if that is less:
/// as many as a segment has, because recovery copies one.
const RESERVE: u64 = SEGMENT;

/// Nanoseconds between two checkpoints of a trail that grows.
const PERIOD: u64 = 1_000_000_000;

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is this leaf (the first of them if it is long), durable after the next sync.
    New(LeafIndex),
    /// Its ticket has been used: it is in the trail already, durable after the next sync.
    Known,
}

/// The one that appends. Whoever makes one holds the trail's lock.
pub struct Writer<S: Store> {
    store: S,
    key: SecretKey,
    composer: Composer,
    segment: Growing<S::File>,
    /// Those of the segment's leaves.
    hashes: Growing<S::File>,
    /// Those of the trail's tiles.
    upper: Growing<S::File>,
    tree: Range,
    limit: u64,
    durable: u64,
    signed: u64,
    note: String,
    /// When that was signed, in nanoseconds since boot.
    signed_at: u64,
    clients: Clients,
    /// Bytes that may be appended below [`Class::Integrity`] before the disk is asked again.
    room: u64,
    /// Bytes of the disk that are kept for [`Class::Integrity`]; none: as many as [`RESERVE`] says.
    reserve: Option<u64>,
    /// The same, of this disk.
    kept: u64,
    stopped: bool,
}

impl<S: Store> Writer<S> {
    /// Opens a trail, recovering it first if it was not closed. `boot` is the kernel's
    /// `boot_id`; it goes into the mark of an open trail and into `VT_BOOT` of our own records.
    ///
    /// # Errors
    /// [`Error::Tampered`], [`Error::NoTrail`], [`Error::Unusable`] for the key, I/O.
    pub fn open(store: S, boot: &str, now: Stamp) -> Result<(Writer<S>, Recovered), Error> {
        crate::recover::open(store, boot, now)
    }

    pub(crate) fn resume(
        store: S,
        key: SecretKey,
        (note, checkpoint): (String, Checkpoint),
        resumed: Resumed<S::File>,
        boot: &str,
        now: Stamp,
    ) -> Writer<S> {
        let Resumed { segment, hashes, upper, tree, history } = resumed;
        Writer {
            store,
            key,
            composer: Composer::new(boot, history.kernel),
            segment,
            hashes,
            upper,
            durable: tree.size(),
            tree,
            limit: SEGMENT,
            signed: checkpoint.size,
            note,
            signed_at: now.boottime_ns,
            clients: history.clients,
            room: 0,
            reserve: None,
            kept: 0,
            stopped: false,
        }
    }

    /// Sets after how many bytes a segment is left for the next one; 64 MiB at first.
    pub fn limit_segments(&mut self, bytes: u64) {
        self.limit = bytes;
    }

    /// Sets how many bytes of the disk are kept for [`Class::Integrity`]; none: a quarter of it, at most
    /// 64 MiB.
    pub fn keep_for_integrity(&mut self, bytes: Option<u64>) {
        self.reserve = bytes;
        self.room = 0;
    }

    /// Takes an entry. It is neither durable nor visible to readers before [`Writer::sync`].
    ///
    /// # Errors
    /// [`Error::Full`] and [`Error::Entry`]: nothing was taken. [`Error::Stopped`], I/O.
    pub fn append(&mut self, entry: &Entry<'_>, now: Stamp) -> Result<Appended, Error> {
        self.guard(|writer| writer.take(entry, now))
    }

    /// Makes all that was taken durable and says how long the trail is now: every leaf below
    /// may be acknowledged.
    ///
    /// # Errors
    /// [`Error::Full`]: what was taken may become durable by a later call. Any other failure
    /// is never tried again on the same file: [`Error::Stopped`] ever after.
    pub fn sync(&mut self) -> Result<LeafIndex, Error> {
        self.guard(Writer::make_durable)
    }

    /// Signs what was taken since the last checkpoint, if a second has passed since then
    /// (and syncs first). Gives the new checkpoint, for the sinks.
    ///
    /// # Errors
    /// As [`Writer::sync`].
    pub fn checkpoint(&mut self, now: Stamp) -> Result<Option<&str>, Error> {
        if self.poll_timeout().is_none_or(|due| now.boottime_ns < due) {
            return Ok(None);
        }
        self.guard(|writer| writer.sign(now))?;
        Ok(Some(&self.note))
    }

    /// Syncs, signs and closes. A closed trail ends exactly at its checkpoint. Gives that.
    ///
    /// # Errors
    /// As [`Writer::sync`]; the trail then stays open and will be recovered.
    pub fn close(mut self, now: Stamp) -> Result<String, Error> {
        self.guard(|writer| {
            writer.sign(now)?;
            let (open, root) = (Path::new(layout::OPEN), Path::new(""));
            writer.store.remove(open).map_err(Error::io("remove", open))?;
            writer.store.sync_dir(root).map_err(Error::io("sync", root))
        })?;
        Ok(self.note)
    }

    /// Leaves that are durable.
    #[must_use]
    pub fn durable(&self) -> LeafIndex {
        LeafIndex(self.durable)
    }

    /// The index that the next leaf will have.
    #[must_use]
    pub fn next_leaf(&self) -> LeafIndex {
        LeafIndex(self.tree.size())
    }

    /// The last number that a client has used, as far as this trail remembers: at most
    /// 4,096 clients, after an opening those of the last two
    /// segments.
    #[must_use]
    pub fn seen(&self, client: &str) -> Option<u64> {
        self.clients.seen(client)
    }

    /// When, in nanoseconds since boot, [`Writer::checkpoint`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        (self.tree.size() > self.signed).then_some(self.signed_at.saturating_add(PERIOD))
    }

    /// The last checkpoint, a signed note.
    #[must_use]
    pub fn latest_checkpoint(&self) -> &str {
        &self.note
    }

    /// The trail's public key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        self.key.public()
    }

    fn guard<T>(
        &mut self,
        work: impl FnOnce(&mut Writer<S>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.stopped {
            return Err(Error::Stopped);
        }
        let done = work(self);
        self.stopped = match &done {
            Ok(_) | Err(Error::Full { .. } | Error::Entry(_)) => false,
            Err(_) => true,
        };
        done
    }

    fn take(&mut self, entry: &Entry<'_>, now: Stamp) -> Result<Appended, Error> {
        if let Some(Ticket { client, seq }) = entry.ticket
            && self.clients.seen(client).is_some_and(|seen| seq <= seen)
        {
            return Ok(Appended::Known);
        }
        let first = self.tree.size();
        if first.is_multiple_of(TILE) && self.segment.len() >= self.limit {
            self.rotate()?;
        }
        self.keep_reserve(entry)?;
        self.segment.relieve()?;
        self.hashes.relieve()?;
        self.upper.relieve()?;

        let start = self.segment.pending.len();
        let composed = self.composer.compose(&mut self.segment.pending, entry, first, now);
        // What is written is what will be read back, or it is not written.
        let framed = composed.and_then(|()| count(&self.segment.pending[start..], first));
        if let Err(error) = framed {
            self.segment.pending.truncate(start);
            return Err(error);
        }
        let mut at = start;
        while let Frame::Whole { len, .. } = frame(&self.segment.pending[at..]) {
            let hash = leaf_hash(&self.segment.pending[at..at + len]);
            self.hashes.pending.extend_from_slice(&hash);
            if let Some(tile) = self.tree.push(hash) {
                self.upper.pending.extend_from_slice(&tile);
            }
            at += len;
        }
        if let Some(Ticket { client, seq }) = entry.ticket {
            self.clients.note(client, seq, first);
        }
        Ok(Appended::New(LeafIndex(first)))
    }

    fn make_durable(&mut self) -> Result<LeafIndex, Error> {
        if self.durable < self.tree.size() {
            self.segment.sync()?;
            self.durable = self.tree.size();
            // Others use the disk as well.
            self.room = 0;
        }
        Ok(LeafIndex(self.durable))
    }

    /// Whether an entry is refused because only the reserve is left.
    pub(crate) fn is_short_for(&mut self, entry: &Entry<'_>) -> Result<bool, Error> {
        match self.keep_reserve(entry) {
            Ok(()) => Ok(false),
            Err(Error::Full { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Refuses what is not of the first class where only its reserve is left (design section 4,
    /// "Priorities").
    fn keep_reserve(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        if entry.class == Class::Integrity {
            return Ok(());
        }
        let bytes = match entry.lines {
            Lines::Own(records) | Lines::Beside { records, .. } => {
                records.iter().map(|record| record.body.len()).sum()
            }
            Lines::Foreign { lines, .. } => lines.iter().map(|line| line.len()).sum::<usize>(),
        } as u64;
        // The rest goes first: a quarter more is kept for what has a key.
        let margin = |reserve: u64| if entry.class == Class::Rest { reserve / 4 } else { 0 };
        let set = self.reserve.unwrap_or(RESERVE);
        if self.room <= bytes + margin(set) {
            let Room { free, total } =
                self.store.room().map_err(Error::io("ask for room in", Path::new(".")))?;
            let held =
                [&self.segment, &self.hashes, &self.upper].map(|file| file.pending.len() as u64);
            // Where one is set, it is what somebody wants, however small the disk.
            let reserve = self.reserve.unwrap_or((total / 4).min(RESERVE));
            self.kept = reserve;
            self.room = free.saturating_sub(reserve).saturating_sub(held.iter().sum());
        }
        if self.room <= bytes + margin(self.kept) {
            return Err(Error::Full { path: self.segment.path.clone() });
        }
        // Tails and hashes are bytes too; the next sync asks anew.
        self.room = self.room.saturating_sub(bytes * 2 + 256);
        Ok(())
    }

    /// Leaves the segment, which is durable from its first to its last byte before there is a
    /// next one: so a crash can only ever tear the last.
    fn rotate(&mut self) -> Result<(), Error> {
        self.make_durable()?;
        self.hashes.sync()?;
        let first = LeafIndex(self.tree.size());
        let hashes = Growing::create(&self.store, layout::leaf_hashes(first))?;
        let segment = Growing::create(&self.store, layout::segment(first))?;
        let directory = Path::new(layout::SEGMENTS);
        self.store.sync_dir(directory).map_err(Error::io("sync", directory))?;
        (self.segment, self.hashes) = (segment, hashes);
        Ok(())
    }

    pub(crate) fn sign(&mut self, now: Stamp) -> Result<(), Error> {
        self.make_durable()?;
        if self.signed < self.tree.size() {
            self.hashes.sync()?;
            self.upper.sync()?;
            let note = Checkpoint::of(self.key.public().name(), &self.tree).sign(&self.key);
            replace(&self.store, Path::new(layout::CHECKPOINT), note.as_bytes(), Mode::Public)?;
            self.signed = self.tree.size();
            self.note = note;
        }
        self.signed_at = now.boottime_ns;
        Ok(())
    }

    pub(crate) fn store(&self) -> &S {
        &self.store
    }

    /// The segment got its name.
    pub(crate) fn named(&mut self, segment: std::path::PathBuf) {
        self.segment.path = segment;
    }
}

/// Leaves in `bytes`, all whole and in their places.
fn count(bytes: &[u8], first: u64) -> Result<u64, Error> {
    let mut at = 0;
    let mut next = first;
    while at < bytes.len() {
        let Frame::Whole { len, tail } = frame(&bytes[at..]) else {
            return Err(Error::Entry("what it would be stored as is not a leaf".to_owned()));
        };
        if tail.index != next || (at + len < bytes.len()) != tail.more {
            return Err(Error::Entry("a line of it would end a leaf".to_owned()));
        }
        at += len;
        next += 1;
    }
    Ok(next - first)
}

/// What the leaves of a trail say to who goes on with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) clients: Clients,
    /// The newest serial that the running kernel, or an earlier one, gave an event.
    pub(crate) kernel: u32,
}

impl History {
    /// Takes note of leaf number `index`.
    pub(crate) fn note(&mut self, index: u64, bytes: &[u8], tail: Option<Tail<'_>>) {
        let Some(tail) = tail else { return };
        if let Some(ticket) = tail.ticket() {
            self.clients.note(ticket.client, ticket.seq, index);
        }
        // Pieces of a line have a serial of ours.
        if tail.field("VT_SRC") == Some(b"kernel")
            && let Some(line) = bytes.split(|&byte| byte == b'\n').next()
            && let Ok(line) = Line::parse_stored(line)
            && line.record_type() != RecordType::VT_LINE
        {
            self.kernel = line.serial();
        }
    }
}

/// The last number of each client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clients {
    last: HashMap<String, (u64, u64)>,
}

impl Clients {
    /// As many are remembered; the one that has not appended for longest is forgotten first.
    pub(crate) const MOST: usize = 4096;

    pub(crate) fn seen(&self, client: &str) -> Option<u64> {
        self.last.get(client).map(|&(seq, _)| seq)
    }

    pub(crate) fn note(&mut self, client: &str, seq: u64, leaf: u64) {
        if let Some(last) = self.last.get_mut(client) {
            *last = (seq, leaf);
            return;
        }
        if self.last.len() == Clients::MOST {
            let oldest = self.last.iter().min_by_key(|(_, (_, leaf))| *leaf);
            if let Some(oldest) = oldest.map(|(client, _)| client.clone()) {
                self.last.remove(&oldest);
            }
        }
        self.last.insert(client.to_owned(), (seq, leaf));
    }
}
