//! Follows a trail that grows, with nothing but the right to read it, and gives nothing that a crash
//! could take back.
//!
//! ```text
//!  segments/  0000.log ······· 4096.log ─────────────┐
//!             durable: there is a next one            │ Durable: its length, then fdatasync
//!                                                     ▼
//!  Follower ── whole events up to there, or what retention has taken away
//! ```

use std::io;

use record::units::LeafIndex;

use crate::error::Error;
use crate::reader::Reader;
use crate::scan::{Segment, segments};
use crate::store::{File as _, Store};

/// An event is gathered up to this many bytes of its leaves; what follows is given as an event of its
/// own.
const LONGEST: usize = 4 << 20;

/// How far a trail is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The first leaf of the newest segment; all segments before it are durable to their end.
    first: u64,
    /// Bytes of that segment.
    bytes: u64,
    /// Another one: recovery may have put another file in the place of the segment.
    generation: u64,
}

/// Makes sure of how far a trail is durable.
///
/// It asks the disk itself, by an fdatasync of what it has open for reading. So it needs no word from
/// the writer, which may be another process, and an error that it is told the writer is told as well.
pub struct Durable<S: Store> {
    store: S,
    open: Option<(Segment, S::File)>,
    extent: Extent,
}

impl<S: Store> Durable<S> {
    /// Of the trail in `store`.
    #[must_use]
    pub fn new(store: S) -> Durable<S> {
        Durable { store, open: None, extent: Extent::default() }
    }

    /// Makes durable what has been written by now, and says how far that is. `anew`: there may be
    /// another segment, or another file in the place of this one.
    ///
    /// # Errors
    /// I/O. What is behind the last extent is then not known to be durable.
    pub fn advance(&mut self, anew: bool) -> Result<Extent, Error> {
        if anew || self.open.is_none() {
            let Some(newest) = segments(&self.store)?.pop() else { return Ok(self.extent) };
            let file = match self.store.open(&newest.path) {
                // Retention or recovery has been faster; there will be another call.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.extent),
                other => other.map_err(Error::io("open", &newest.path))?,
            };
            self.extent.generation += 1;
            (self.extent.first, self.extent.bytes) = (newest.first, 0);
            self.open = Some((newest, file));
        }
        let Some((segment, file)) = &mut self.open else { return Ok(self.extent) };
        let bytes = file.len().map_err(Error::io("read", &segment.path))?;
        if bytes != self.extent.bytes {
            file.sync().map_err(Error::io("sync", &segment.path))?;
            self.extent.bytes = bytes;
        }
        Ok(self.extent)
    }
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed<'a> {
    /// An event.
    Event {
        /// Its first leaf.
        first: LeafIndex,
        /// The leaf behind its last.
        next: LeafIndex,
        /// Its lines, each LF-ended.
        bytes: &'a [u8],
    },
    /// Leaves that are not there any more.
    Gap {
        /// The first of them.
        first: LeafIndex,
        /// The first that is there again.
        next: LeafIndex,
    },
    /// Nothing yet.
    End,
}

/// Reads whole events in order, up to what is durable. What it gives has not been verified.
pub struct Follower<S: Store + Clone> {
    store: S,
    reader: Reader<S>,
    /// The first leaf that has not been given out.
    next: u64,
    /// Its event's bytes, as far as they have been read, and the leaf behind them.
    bytes: Vec<u8>,
    gathered: u64,
    /// The reader stands at a leaf that was not durable when it was found.
    held: bool,
    given: bool,
    generation: u64,
}

impl<S: Store + Clone> Follower<S> {
    /// Begins at leaf `from`.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open(store: S, from: LeafIndex) -> Result<Follower<S>, Error> {
        let reader = Reader::open(store.clone(), from)?;
        Ok(Follower {
            store,
            reader,
            next: from.0,
            bytes: Vec::new(),
            gathered: from.0,
            held: false,
            given: false,
            generation: 0,
        })
    }

    /// Begins behind the last leaf of `extent`.
    ///
    /// # Errors
    /// As [`Reader::open`] and [`Reader::next`].
    pub fn open_at_end(store: S, extent: Extent) -> Result<Follower<S>, Error> {
        let mut follower = Follower::open(store, LeafIndex(extent.first))?;
        while let Some(leaf) = follower.reader.next()? {
            follower.held = !covers(extent, leaf.segment_first, leaf.offset, leaf.bytes.len());
            if follower.held {
                break;
            }
            follower.next = leaf.index.0 + 1;
        }
        follower.gathered = follower.next;
        follower.generation = extent.generation;
        Ok(follower)
    }

    /// The first leaf that has not been given out.
    #[must_use]
    pub fn position(&self) -> LeafIndex {
        LeafIndex(self.next)
    }

    /// The leaf behind the last one of the trail that was seen: less than [`position`](Self::position)
    /// where the trail has not grown to that yet.
    #[must_use]
    pub fn end(&self) -> LeafIndex {
        self.reader.position()
    }

    /// What comes next, of what lies in `extent`.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub fn next(&mut self, extent: Extent) -> Result<Followed<'_>, Error> {
        if std::mem::take(&mut self.given) {
            self.bytes.clear();
        }
        if self.generation != extent.generation {
            // What was gathered, or is held, need not be what lies there now.
            self.generation = extent.generation;
            self.reopen()?;
        }
        loop {
            if !self.held && self.reader.next()?.is_none() {
                // The newest segment is one that is not reached: a part before it has gone.
                let at = self.reader.position().0;
                if extent.first > at
                    && let Some(again) = self.first_behind(at)?
                {
                    let first = LeafIndex(self.next);
                    self.next = again;
                    self.reopen()?;
                    return Ok(Followed::Gap { first, next: LeafIndex(again) });
                }
                return Ok(Followed::End);
            }
            let Some(leaf) = self.reader.current() else { return Ok(Followed::End) };
            self.held = !covers(extent, leaf.segment_first, leaf.offset, leaf.bytes.len());
            if self.held {
                return Ok(Followed::End);
            }
            self.bytes.extend_from_slice(leaf.bytes);
            self.gathered = leaf.index.0 + 1;
            if !leaf.more || self.bytes.len() > LONGEST {
                break;
            }
        }
        let first = LeafIndex(self.next);
        self.next = self.gathered;
        self.given = true;
        Ok(Followed::Event { first, next: LeafIndex(self.next), bytes: &self.bytes })
    }

    fn reopen(&mut self) -> Result<(), Error> {
        self.reader = Reader::open(self.store.clone(), LeafIndex(self.next))?;
        self.bytes.clear();
        self.gathered = self.next;
        self.held = false;
        Ok(())
    }

    /// The beginning of the first segment behind leaf `at` which is there, unless that of `at` is.
    fn first_behind(&self, at: u64) -> Result<Option<u64>, Error> {
        let first = segments(&self.store)?.into_iter().map(|segment| segment.first);
        Ok(first.filter(|first| *first >= at && *first > self.next).min())
    }
}

fn covers(extent: Extent, segment: u64, offset: u64, bytes: usize) -> bool {
    segment < extent.first || (segment == extent.first && offset + bytes as u64 <= extent.bytes)
}
