//! Reading a verity device as it is asked for, and failing as the kernel does.

use std::io;
use std::ops::Range;

use lanes::MAX_DIGEST_SIZE;
use record::units::DataBlock;

use super::finding::{Blocks, Fault, Finding};
use super::health::Health;
use super::layout::Layout;
use super::params::ParamError;
use super::volume::Volume;
use super::walk::Mend;
use crate::access::ReadAt;
use crate::fec::{Corrector, Target};

mod answer;
mod cache;
mod path;
mod seen;
mod tally;

pub use answer::{Notice, ReadError, Refused};
use cache::Cache;
use path::Leaf;
use seen::Seen;
pub use tally::Counts;
use tally::Tally;

/// A volume that is read block by block, by any number of threads.
///
/// A request is answered whole or not at all: it stops at its first bad block. A hash block
/// that was verified is kept (as long as there is room); one that was not fails every read
/// through it anew. Linux 6.12, `drivers/md/dm-verity-target.c`. The kernel's second look at a
/// data block that does not match is for buffers that their reader changes meanwhile, which
/// ours are not.
///
/// A read that finds nothing wrong takes nothing from the heap, unless a hash block has to be
/// fetched; no lock is held while bytes are read, hashed or put right.
#[derive(Debug)]
pub struct Device<D, H> {
    volume: Volume<D, H>,
    policy: Policy,
    /// The digest of a block of zeros, if such blocks are not to be looked at.
    zero: Option<Box<[u8]>>,
    seen: Option<Seen>,
    corrector: Option<Corrector<D>>,
    cache: Cache,
    tally: Tally,
}

/// What the kernel's table line may ask for beside failing the read. To restart or panic is not a
/// matter of reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Delivers blocks that do not match as they are, and says so with [`Notice::Tolerated`]. Under a
    /// bad hash block the digests it holds are taken for true. What is not there at all (or the
    /// disk does not give) cannot be delivered and still fails the read.
    pub ignore_corruption: bool,
    /// Answers with zeros, without a look at the data, where the tree says that there are zeros.
    pub ignore_zero_blocks: bool,
    /// Looks at a data block until it was good once; later changes go unnoticed.
    pub check_at_most_once: bool,
}

/// Bytes of hash blocks that a device keeps if nothing is said.
const CACHE: usize = 8 * 1024 * 1024;

/// Bytes that are read and hashed at once, so that the second finds them in a core's own cache.
const CHUNK: usize = 128 * 1024;

/// Blocks that are hashed at once at most: their digests stand on the stack.
const MAX_BLOCKS: usize = 64;

impl<D: ReadAt, H: ReadAt> Device<D, H> {
    /// Begins to serve `volume`; every block is looked at in every read.
    #[must_use]
    pub fn new(volume: Volume<D, H>) -> Device<D, H> {
        let cache = Cache::new(CACHE, volume.layout.hash_block_size().as_usize());
        let (policy, tally) = (Policy::default(), Tally::default());
        Device { volume, policy, zero: None, seen: None, corrector: None, cache, tally }
    }

    /// Begins to serve `volume` as `policy` says.
    ///
    /// # Errors
    /// [`ParamError::TooManyToMark`] for `check_at_most_once` with more than 2^31-1 data blocks.
    pub fn with_policy(volume: Volume<D, H>, policy: Policy) -> Result<Device<D, H>, ParamError> {
        let mut device = Device::new(volume);
        device.policy = policy;
        if policy.check_at_most_once {
            let blocks = device.layout().data_blocks();
            let too_many = ParamError::TooManyToMark { blocks, most: Seen::MAX_BLOCKS };
            device.seen = Some(Seen::new(blocks).ok_or(too_many)?);
        }
        if policy.ignore_zero_blocks {
            let hasher = &device.volume.hasher;
            let mut digest = vec![0; hasher.digest_size()];
            hasher.hash_one(&vec![0; device.layout().data_block_size().as_usize()], &mut digest);
            device.zero = Some(digest.into());
        }
        Ok(device)
    }

    /// Puts bad blocks right before anybody is told of them. A data block anew in each read; a hash
    /// block once as long as it is kept. What is beyond correction fails the read as without.
    #[must_use]
    pub fn with_correction(mut self, corrector: Corrector<D>) -> Device<D, H> {
        self.corrector = Some(corrector);
        self
    }

    /// Keeps at most so many bytes of hash blocks, 8 MiB if nothing is said, though at least eight
    /// blocks.
    #[must_use]
    pub fn with_cache(mut self, bytes: usize) -> Device<D, H> {
        self.cache = Cache::new(bytes, self.layout().hash_block_size().as_usize());
        self
    }

    /// Where everything lies.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.volume.layout
    }

    /// What is served, and how.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// What the device has told about itself so far.
    #[must_use]
    pub fn health(&self) -> Health {
        self.tally.health()
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.tally.counts()
    }

    /// Reads whole data blocks, as many as `buf` has room for, from `first` on. `notice` is told of
    /// what went wrong without keeping the data from its reader.
    ///
    /// # Errors
    /// [`ReadError::Refused`] at the first block that is not what was promised, which counts as one
    /// mismatch; what `buf` then holds is not to be used. [`ReadError::Io`] when the disk does not
    /// give the first block that is not good.
    pub fn read(
        &self,
        first: DataBlock,
        buf: &mut [u8],
        notice: &mut dyn FnMut(Notice),
    ) -> Result<(), ReadError> {
        let size = self.layout().data_block_size();
        let offset = size.offset(first.0).unwrap_or(u64::MAX);
        self.check_range(offset, buf.len())?;
        if !buf.len().is_multiple_of(size.as_usize()) {
            return Err(self.outside(offset, buf.len()));
        }
        self.tally.reads.add(1);
        self.deliver(first, buf, &mut None, notice)
    }

    /// Reads any bytes of the device, from byte `offset` on. Blocks that are wanted in part go
    /// through `scratch`, whose memory is used again.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub fn read_at(
        &self,
        offset: u64,
        buf: &mut [u8],
        scratch: &mut Vec<u8>,
        notice: &mut dyn FnMut(Notice),
    ) -> Result<(), ReadError> {
        self.check_range(offset, buf.len())?;
        self.tally.reads.add(1);
        let block_size = self.layout().data_block_size();
        let size = block_size.as_usize();
        let mut leaf = None;
        let (mut at, mut left) = (offset, buf);
        while !left.is_empty() {
            let first = DataBlock(block_size.whole_blocks(at));
            // Where in its first block the request stands: below the size of a block.
            let skip = usize::try_from(at - self.layout().data_byte(first.0)).unwrap_or(0);
            let whole = if skip == 0 { left.len() - left.len() % size } else { 0 };
            let count = if whole > 0 { whole } else { left.len().min(size - skip) };
            let now;
            (now, left) = left.split_at_mut(count);
            if whole > 0 {
                self.deliver(first, now, &mut leaf, notice)?;
            } else {
                scratch.resize(size, 0);
                self.deliver(first, scratch, &mut leaf, notice)?;
                now.copy_from_slice(&scratch[skip..skip + count]);
            }
            at += count as u64;
        }
        Ok(())
    }

    fn outside(&self, offset: u64, count: usize) -> ReadError {
        ReadError::Outside { offset, count, size: self.layout().data_bytes() }
    }

    fn check_range(&self, offset: u64, count: usize) -> Result<(), ReadError> {
        match offset.checked_add(count as u64) {
            Some(end) if end <= self.layout().data_bytes() => Ok(()),
            _ => Err(self.outside(offset, count)),
        }
    }

    /// Fills `buf`, whole blocks of the device, piece by piece. `leaf` goes from piece to piece.
    fn deliver(
        &self,
        first: DataBlock,
        buf: &mut [u8],
        leaf: &mut Option<Leaf>,
        notice: &mut dyn FnMut(Notice),
    ) -> Result<(), ReadError> {
        let size = self.layout().data_block_size().as_usize();
        let chunk = (CHUNK / size).clamp(16, MAX_BLOCKS);
        let (mut at, mut left) = (first, buf);
        while !left.is_empty() {
            let most = at.0 + chunk.min(left.len() / size) as u64;
            let piece = self.piece(at, most, leaf, notice)?;
            let count = usize::try_from(piece.end - at.0).unwrap_or(usize::MAX);
            let now;
            (now, left) = left.split_at_mut(count * size);
            match piece.how {
                How::Zero => {
                    now.fill(0);
                    self.tally.unverified.add(count as u64);
                }
                How::Seen => self.again(at, now, leaf, notice)?,
                How::Verify => self.verify(at, now, leaf, notice)?,
            }
            at = DataBlock(piece.end);
        }
        Ok(())
    }

    /// What to do next, and for how many blocks: at least one, at most up to `most`.
    fn piece(
        &self,
        at: DataBlock,
        most: u64,
        leaf: &mut Option<Leaf>,
        notice: &mut dyn FnMut(Notice),
    ) -> Result<Piece, ReadError> {
        let run = |range: Range<u64>, like: &dyn Fn(DataBlock) -> bool| {
            range.clone().find(|&block| !like(DataBlock(block))).unwrap_or(range.end)
        };
        let mut most = most;
        if let Some(seen) = &self.seen {
            if seen.has(at) {
                return Ok(Piece {
                    how: How::Seen,
                    end: run(at.0..most, &|block| seen.has(block)),
                });
            }
            most = run(at.0..most, &|block| !seen.has(block));
        }
        let leaf = self.leaf(at, leaf, notice)?;
        most = most.min(leaf.covers.end);
        let Some(zero) = &self.zero else { return Ok(Piece { how: How::Verify, end: most }) };
        let is_zero = |block| *self.wanted(leaf, block) == **zero;
        Ok(if is_zero(at) {
            Piece { how: How::Zero, end: run(at.0..most, &is_zero) }
        } else {
            Piece { how: How::Verify, end: run(at.0..most, &|block| !is_zero(block)) }
        })
    }

    /// Delivers blocks that were good once.
    fn again(
        &self,
        first: DataBlock,
        buf: &mut [u8],
        leaf: &mut Option<Leaf>,
        notice: &mut dyn FnMut(Notice),
    ) -> Result<(), ReadError> {
        let size = self.layout().data_block_size().as_usize();
        let read = self.volume.data.read_full(buf, self.layout().data_byte(first.0));
        if read.is_ok_and(|read| read == buf.len()) {
            self.tally.unverified.add((buf.len() / size) as u64);
            return Ok(());
        }
        // What cannot be read is looked at as if for the first time.
        for (i, block) in buf.chunks_exact_mut(size).enumerate() {
            let at = DataBlock(first.0 + i as u64);
            self.leaf(at, leaf, notice)?;
            self.verify(at, block, leaf, notice)?;
        }
        Ok(())
    }

    /// Reads blocks that stand under one leaf, which is at hand, and compares.
    fn verify(
        &self,
        first: DataBlock,
        buf: &mut [u8],
        leaf: &Option<Leaf>,
        notice: &mut dyn FnMut(Notice),
    ) -> Result<(), ReadError> {
        let leaf = leaf.as_ref().expect("whoever calls has looked it up");
        let size = self.layout().data_block_size().as_usize();
        let digest_size = self.volume.hasher.digest_size();
        let count = buf.len() / size;
        let offset = self.layout().data_byte(first.0);
        let read = self.volume.data.read_full(buf, offset);
        if read.as_ref().is_ok_and(|read| *read == buf.len()) {
            let mut digests = [0; MAX_BLOCKS * MAX_DIGEST_SIZE];
            let digests = &mut digests[..count * digest_size];
            self.volume.hasher.hash_blocks(buf, size, digests);
            let good = |(i, digest): (usize, &[u8])| {
                digest == self.wanted(leaf, DataBlock(first.0 + i as u64))
            };
            if digests.chunks_exact(digest_size).enumerate().all(good) {
                for block in first.0..first.0 + count as u64 {
                    self.mark(DataBlock(block));
                }
                self.tally.verified.add(count as u64);
                return Ok(());
            }
        }
        self.judge(first, buf, &read, leaf, notice)
    }

    fn mark(&self, block: DataBlock) {
        if let Some(seen) = &self.seen {
            seen.set(block);
        }
    }

    /// Looks at blocks one by one, of which at least one is not as it should be. `read` is how
    /// reading them together ended.
    #[cold]
    fn judge(
        &self,
        first: DataBlock,
        buf: &mut [u8],
        read: &io::Result<usize>,
        leaf: &Leaf,
        notice: &mut dyn FnMut(Notice),
    ) -> Result<(), ReadError> {
        let size = self.layout().data_block_size().as_usize();
        for (i, bytes) in buf.chunks_exact_mut(size).enumerate() {
            let block = DataBlock(first.0 + i as u64);
            let offset = self.layout().data_byte(block.0);
            let read = match read {
                Ok(read) => Ok(read.saturating_sub(i * size).min(size)),
                // Somewhere among them; each is asked for by itself.
                Err(_) => self.volume.data.read_full(bytes, offset),
            };
            let bad = match self.fault(bytes, read, self.wanted(leaf, block)) {
                None => {
                    self.mark(block);
                    self.tally.verified.add(1);
                    continue;
                }
                Some(bad) => bad,
            };
            let blocks = Blocks::Data(block..DataBlock(block.0 + 1));
            if let Some(errors) = self.correct(Target::Data(block), self.wanted(leaf, block), bytes)
            {
                self.tally.corrected.add(1);
                let finding = Finding { fault: bad.fault(), blocks };
                notice(Notice::Corrected { block, finding, errors });
                continue;
            }
            self.pass_over(bad, "data", offset, block, blocks, notice)?;
        }
        Ok(())
    }

    /// What is the matter with a block of which `read` bytes could be read.
    fn fault(&self, bytes: &[u8], read: io::Result<usize>, want: &[u8]) -> Option<Bad> {
        match read {
            Err(source) => Some(Bad::Unreadable(source)),
            Ok(read) if read < bytes.len() => Some(Bad::Violation(Fault::Missing)),
            Ok(_) => {
                let mut digest = [0; MAX_DIGEST_SIZE];
                let digest = &mut digest[..want.len()];
                self.volume.hasher.hash_one(bytes, digest);
                (digest != want).then_some(Bad::Violation(Fault::Mismatch))
            }
        }
    }

    /// Puts a bad block right, and says how many of its bytes were wrong; `bytes` are left as they
    /// are if that cannot be done.
    fn correct(&self, target: Target, want: &[u8], bytes: &mut [u8]) -> Option<u64> {
        let corrector = self.corrector.as_ref()?;
        let mut right = vec![0; bytes.len()];
        let corrected = corrector.correct(
            &self.volume.data,
            &self.volume.hash,
            target,
            &mut |other, bytes| self.is_known_bad(other, bytes),
            &mut |bytes| self.fault(bytes, Ok(bytes.len()), want).is_none(),
            &mut right,
        )?;
        bytes.copy_from_slice(&right);
        Some(corrected.errors.into())
    }

    /// Fails because of a bad block, unless the policy says to go on.
    fn pass_over(
        &self,
        bad: Bad,
        role: &'static str,
        offset: u64,
        block: DataBlock,
        blocks: Blocks,
        notice: &mut dyn FnMut(Notice),
    ) -> Result<(), ReadError> {
        let fault = match bad {
            Bad::Violation(fault) => fault,
            Bad::Unreadable(source) => {
                self.tally.io_errors.add(1);
                return Err(ReadError::Io { role, block, offset, source });
            }
        };
        let finding = Finding { fault, blocks };
        let refused = Refused { block, finding, saturated: self.tally.mismatch() };
        if self.policy.ignore_corruption && fault == Fault::Mismatch {
            notice(Notice::Tolerated(refused));
            Ok(())
        } else {
            Err(ReadError::Refused(refused))
        }
    }
}

impl<D: ReadAt, H: ReadAt> Mend for Device<D, H> {
    fn mend(&self, target: Target, want: &[u8], block: &mut [u8]) -> Option<u64> {
        let errors = self.correct(target, want, block)?;
        if let Target::Hash(place) = target {
            // Other blocks may now be known to be bad.
            self.cache.insert(place, (&*block).into());
        }
        Some(errors)
    }
}

/// What is wrong with a block.
enum Bad {
    Violation(Fault),
    Unreadable(io::Error),
}

impl Bad {
    fn fault(&self) -> Fault {
        match self {
            Bad::Violation(fault) => *fault,
            Bad::Unreadable(error) => Fault::unreadable(error),
        }
    }
}

/// Data blocks, up to `end`, that are dealt with in one way.
struct Piece {
    how: How,
    end: u64,
}

enum How {
    Zero,
    Seen,
    Verify,
}
