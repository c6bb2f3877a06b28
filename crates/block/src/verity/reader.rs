//! Reading a verity device as it is asked for, and failing as the kernel does.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use record::place::DeviceId;
use record::units::{DataBlock, HashBlock};
use record::violation::{EventOp, Violation};

use super::finding::{Blocks, Fault, Finding};
use super::health::Health;
use super::layout::Layout;
use super::volume::Volume;
use crate::access::ReadAt;

/// A volume that is read block by block, by any number of threads.
///
/// A request is answered whole or not at all: it stops at its first bad block. A hash block
/// that was verified is kept (as long as there is room); one that was not fails every read
/// through it anew. Linux 6.12, `drivers/md/dm-verity-target.c`. The kernel's second look at a
/// data block that does not match is for buffers that their reader changes meanwhile, which
/// ours are not.
#[derive(Debug)]
pub struct Device<D, H> {
    volume: Volume<D, H>,
    cache: Mutex<Cache>,
    health: Mutex<Health>,
}

/// Why a request got no data.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The data is not what the root hash promises. This is what we exist for.
    #[error("data block {} cannot be trusted", .0.block)]
    Refused(Refused),
    /// The disk did not answer. Says nothing about integrity.
    #[error("cannot read the {role} device at byte {offset}")]
    Io {
        /// `data` or `hash`.
        role: &'static str,
        /// Where the read began.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// A request that begins past the end, or between blocks.
    #[error("no such place: {count} bytes from byte {offset} on, of {size}")]
    Outside {
        /// Where the request begins.
        offset: u64,
        /// How long it is.
        count: usize,
        /// The size of the device, in bytes.
        size: u64,
    },
}

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The data block that was being looked up.
    pub block: DataBlock,
    /// What is really bad: that data block, or the hash block on its path.
    pub finding: Finding,
    /// Whether this was the hundredth refusal.
    pub saturated: bool,
}

impl Refused {
    /// The kernel's records of this, in its order: at the hundredth refusal first
    /// `max-corrupted-errors`, of the verity device; then the violation, of the data device
    /// (even if a hash block is to blame).
    pub fn violations(
        &self,
        data_device: DeviceId,
        verity_device: DeviceId,
    ) -> impl Iterator<Item = Violation> {
        let saturated = self
            .saturated
            .then(|| Violation::new(EventOp::MaxCorruptedErrors, verity_device, self.block.0));
        saturated.into_iter().chain(self.finding.violation(data_device, self.block))
    }
}

/// Hash blocks that a device keeps, in bytes.
const CACHE: usize = 8 * 1024 * 1024;

impl<D: ReadAt, H: ReadAt> Device<D, H> {
    /// Begins to serve `volume`.
    #[must_use]
    pub fn new(volume: Volume<D, H>) -> Device<D, H> {
        let room = (CACHE / volume.layout.hash_block_size().as_usize()).max(64);
        Device { volume, cache: Mutex::new(Cache::new(room)), health: Mutex::default() }
    }

    /// Where everything lies.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.volume.layout
    }

    /// What the device has told about itself so far.
    #[must_use]
    pub fn health(&self) -> Health {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads whole data blocks, as many as `buf` has room for, from `first` on.
    ///
    /// # Errors
    /// [`ReadError::Refused`] at the first block that is not what was promised, which counts as one
    /// mismatch; what `buf` then holds is not to be used.
    pub fn read(&self, first: DataBlock, buf: &mut [u8]) -> Result<(), ReadError> {
        let layout = &self.volume.layout;
        let size = layout.data_block_size().as_usize();
        let offset = layout.data_block_size().offset(first.0);
        let end = offset.and_then(|offset| offset.checked_add(buf.len() as u64));
        let (Some(offset), true, true) = (
            offset,
            end.is_some_and(|end| end <= layout.data_bytes()),
            buf.len().is_multiple_of(size),
        ) else {
            return Err(ReadError::Outside {
                offset: offset.unwrap_or(u64::MAX),
                count: buf.len(),
                size: layout.data_bytes(),
            });
        };
        let read = self.volume.data.read_full(buf, offset).map_err(|source| ReadError::Io {
            role: "data",
            offset,
            source,
        })?;

        // All digests first, then the blocks together: what precedes the first that has no digest.
        let (expected, stop) = self.expected(first, buf.len() / size);
        let known = expected.len() / self.volume.hasher.digest_size();
        if let Some(refused) = self.first_bad(first, &buf[..known * size], read, &expected) {
            return Err(self.refuse(refused.0, refused.1));
        }
        match stop {
            None => Ok(()),
            Some(Stop::Bad(block, finding)) => Err(self.refuse(block, finding)),
            Some(Stop::Io(offset, source)) => Err(ReadError::Io { role: "hash", offset, source }),
        }
    }

    fn first_bad(
        &self,
        first: DataBlock,
        blocks: &[u8],
        read: usize,
        expected: &[u8],
    ) -> Option<(DataBlock, Finding)> {
        let size = self.volume.layout.data_block_size().as_usize();
        let digest_size = self.volume.hasher.digest_size();
        let mut digests = vec![0; expected.len()];
        self.volume.hasher.hash_blocks(blocks, size, &mut digests);
        let mismatch = digests
            .chunks_exact(digest_size)
            .zip(expected.chunks_exact(digest_size))
            .position(|(digest, expected)| digest != expected);
        let missing = (read < blocks.len()).then_some(read / size);
        let (place, fault) = match (mismatch, missing) {
            (Some(bad), Some(gone)) if bad < gone => (bad, Fault::Mismatch),
            (_, Some(gone)) => (gone, Fault::Missing),
            (Some(bad), None) => (bad, Fault::Mismatch),
            (None, None) => return None,
        };
        let block = DataBlock(first.0 + place as u64);
        let blocks = Blocks::Data(block..DataBlock(block.0 + 1));
        Some((block, Finding { fault, blocks }))
    }

    fn refuse(&self, block: DataBlock, finding: Finding) -> ReadError {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, saturated) = health.after_mismatch();
        *health = next;
        ReadError::Refused(Refused { block, finding, saturated })
    }

    /// The digests that `count` data blocks from `first` on must have, as far as they can be told.
    fn expected(&self, first: DataBlock, count: usize) -> (Vec<u8>, Option<Stop>) {
        let geometry = self.volume.layout.geometry();
        let mut expected = Vec::with_capacity(count * geometry.digest_size());
        if geometry.levels() == 0 {
            if count > 0 {
                expected.extend_from_slice(self.volume.root.as_bytes());
            }
            return (expected, None);
        }
        let mut lowest: Option<(u64, Arc<[u8]>)> = None;
        for block in first.0..first.0 + count as u64 {
            let position = geometry.position(block, 0);
            let at_hand = lowest.take().filter(|(index, _)| *index == position.index);
            let bytes = match at_hand {
                Some((_, bytes)) => bytes,
                None => match self.lowest(DataBlock(block)) {
                    Ok(bytes) => bytes,
                    Err(stop) => return (expected, Some(stop)),
                },
            };
            expected.extend_from_slice(&bytes[geometry.slot(position.slot)]);
            lowest = Some((position.index, bytes));
        }
        (expected, None)
    }

    /// The verified hash block that holds the digest of a data block.
    fn lowest(&self, block: DataBlock) -> Result<Arc<[u8]>, Stop> {
        let layout = &self.volume.layout;
        let geometry = layout.geometry();
        let mut want: Arc<[u8]> = self.volume.root.as_bytes().into();
        let mut found: Option<Arc<[u8]>> = None;
        for position in geometry.path(block.0).rev() {
            let place = layout.hash_block(position.level, position.index);
            let bytes = match self.cached(place) {
                Some(bytes) => bytes,
                None => {
                    let bytes = self.fetch(block, position.level, position.index, &want)?;
                    self.cache
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(place, bytes.clone());
                    bytes
                }
            };
            want = bytes[geometry.slot(position.slot)].into();
            found = Some(bytes);
        }
        Ok(found.expect("a tree has at least one level here"))
    }

    fn cached(&self, place: HashBlock) -> Option<Arc<[u8]>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).find(place)
    }

    fn fetch(
        &self,
        block: DataBlock,
        level: usize,
        index: u64,
        want: &[u8],
    ) -> Result<Arc<[u8]>, Stop> {
        let layout = &self.volume.layout;
        let place = layout.hash_block(level, index);
        let offset = layout.hash_range(&(place..place)).start;
        let mut bytes = vec![0; layout.hash_block_size().as_usize()];
        let read = self
            .volume
            .hash
            .read_full(&mut bytes, offset)
            .map_err(|source| Stop::Io(offset, source))?;
        let mut digest = vec![0; want.len()];
        let fault = if read < bytes.len() {
            Some(Fault::Missing)
        } else {
            self.volume.hasher.hash_one(&bytes, &mut digest);
            (digest != want).then_some(Fault::Mismatch)
        };
        match fault {
            None => Ok(bytes.into()),
            Some(fault) => {
                let covers = layout.geometry().covered(level, index);
                let covers = DataBlock(covers.start)..DataBlock(covers.end);
                let blocks = place..HashBlock(place.0 + 1);
                let blocks = Blocks::Hash { level, blocks, covers };
                Err(Stop::Bad(block, Finding { fault, blocks }))
            }
        }
    }
}

/// Why no further digests could be told.
enum Stop {
    Bad(DataBlock, Finding),
    Io(u64, io::Error),
}

/// Verified hash blocks; the one not used for longest makes room.
#[derive(Debug)]
struct Cache {
    room: usize,
    clock: u64,
    blocks: HashMap<HashBlock, (u64, Arc<[u8]>)>,
    by_use: BTreeMap<u64, HashBlock>,
}

impl Cache {
    fn new(room: usize) -> Cache {
        Cache { room, clock: 0, blocks: HashMap::new(), by_use: BTreeMap::new() }
    }

    fn find(&mut self, place: HashBlock) -> Option<Arc<[u8]>> {
        let (used, bytes) = self.blocks.get_mut(&place)?;
        self.by_use.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.by_use.insert(self.clock, place);
        Some(bytes.clone())
    }

    fn insert(&mut self, place: HashBlock, bytes: Arc<[u8]>) {
        self.clock += 1;
        if let Some((used, _)) = self.blocks.insert(place, (self.clock, bytes)) {
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.clock, place);
        while self.blocks.len() > self.room {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.blocks.remove(&oldest);
        }
    }
}
