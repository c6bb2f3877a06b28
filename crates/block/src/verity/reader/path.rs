//! The way down to the digest that a block must have.

use std::iter;
use std::ops::Range;
use std::sync::Arc;

use record::units::{DataBlock, HashBlock};

use super::{Bad, Device, Notice, ReadError};
use crate::access::ReadAt;
use crate::fec::Target;
use crate::verity::finding::{Blocks, Finding};

/// A hash block of the lowest level.
pub(super) struct Leaf {
    /// The data blocks whose digests it holds.
    pub(super) covers: Range<u64>,
    /// Nothing where the root hash is the digest of the only data block.
    bytes: Option<Arc<[u8]>>,
}

/// A hash block on the way to a data block.
struct Step {
    block: DataBlock,
    level: usize,
    /// In its level.
    index: u64,
    place: HashBlock,
}

impl<D: ReadAt, H: ReadAt> Device<D, H> {
    /// The digest that a data block under `leaf` must have.
    pub(super) fn wanted<'a>(&'a self, leaf: &'a Leaf, block: DataBlock) -> &'a [u8] {
        self.digest_in(leaf.bytes.as_ref(), block, 0)
    }

    /// Sees to it that `at_hand` is the leaf of a data block.
    pub(super) fn leaf<'a>(
        &self,
        block: DataBlock,
        at_hand: &'a mut Option<Leaf>,
        notice: &mut dyn FnMut(Notice),
    ) -> Result<&'a Leaf, ReadError> {
        let leaf = match at_hand.take() {
            Some(leaf) if leaf.covers.contains(&block.0) => leaf,
            _ => {
                let bytes = self.descend(block, 0, |step, want| self.fetch(step, want, notice))?;
                let geometry = self.layout().geometry();
                let covers = match &bytes {
                    None => 0..geometry.data_blocks(),
                    Some(_) => geometry.covered(0, geometry.position(block.0, 0).index),
                };
                Leaf { covers, bytes }
            }
        };
        Ok(at_hand.insert(leaf))
    }

    /// Whether a block is known not to be what the tree says. Where the way to its digest is itself
    /// not good nothing is known, and nobody is told: this is not about a read of that block.
    pub(super) fn is_known_bad(&self, other: Target, bytes: &[u8]) -> bool {
        let geometry = self.layout().geometry();
        let (block, holder) = match other {
            Target::Data(block) => (block, 0),
            Target::Hash(place) => match self.layout().locate(place) {
                Some((level, index)) => {
                    (DataBlock(geometry.covered(level, index).start), level + 1)
                }
                // Something else that lies behind the tree.
                None => return false,
            },
        };
        let quietly = |step: &Step, want: &[u8]| {
            let (bytes, bad) = self.read_hash_block(step, want);
            if bad.is_some() {
                return Err(());
            }
            self.cache.insert(step.place, bytes.clone());
            Ok(bytes)
        };
        self.descend(block, holder, quietly).is_ok_and(|holder_bytes| {
            let want = self.digest_in(holder_bytes.as_ref(), block, holder);
            self.fault(bytes, Ok(bytes.len()), want).is_some()
        })
    }

    /// The digest on the way to a data block that `holder` holds, a hash block of that level, or the
    /// root hash above the highest.
    fn digest_in<'a>(
        &'a self,
        holder: Option<&'a Arc<[u8]>>,
        block: DataBlock,
        level: usize,
    ) -> &'a [u8] {
        let geometry = self.layout().geometry();
        match holder {
            None => self.volume.root.as_bytes(),
            Some(bytes) => &bytes[geometry.slot(geometry.position(block.0, level).slot)],
        }
    }

    /// Goes down to the hash block of level `to` on the way to a data block, from the lowest that
    /// was verified before, or the root hash; `fetch` is told what digest each must have. Gives
    /// nothing where that level is above the highest, so that the root hash is what holds the
    /// digest.
    fn descend<E>(
        &self,
        block: DataBlock,
        to: usize,
        mut fetch: impl FnMut(&Step, &[u8]) -> Result<Arc<[u8]>, E>,
    ) -> Result<Option<Arc<[u8]>>, E> {
        let geometry = self.layout().geometry();
        let step = |level| {
            let index = geometry.position(block.0, level).index;
            Step { block, level, index, place: self.layout().hash_block(level, index) }
        };
        let top = geometry.levels();
        let kept = (to..top).find_map(|level| Some((level, self.cache.find(step(level).place)?)));
        let (mut level, mut bytes) = match kept {
            Some((level, bytes)) => {
                self.tally.hash_hits.add(1);
                (level, Some(bytes))
            }
            None => (top, None),
        };
        while level > to {
            let want = self.digest_in(bytes.as_ref(), block, level);
            bytes = Some(fetch(&step(level - 1), want)?);
            level -= 1;
        }
        Ok(bytes)
    }

    /// Reads a hash block, puts it right if need and parity be, and keeps it if it is good.
    fn fetch(
        &self,
        step: &Step,
        want: &[u8],
        notice: &mut dyn FnMut(Notice),
    ) -> Result<Arc<[u8]>, ReadError> {
        let (mut bytes, bad) = self.read_hash_block(step, want);
        let Some(bad) = bad else {
            self.cache.insert(step.place, bytes.clone());
            return Ok(bytes);
        };
        let &Step { block, level, index, place } = step;
        let covers = self.layout().geometry().covered(level, index);
        let blocks = Blocks::Hash {
            level,
            blocks: place..HashBlock(place.0 + 1),
            covers: DataBlock(covers.start)..DataBlock(covers.end),
        };
        let buf = Arc::get_mut(&mut bytes).expect("nobody else knows of it yet");
        if let Some(errors) = self.correct(Target::Hash(place), want, buf) {
            // Of threads that do this at once, the first tells.
            if self.cache.insert(place, bytes.clone()) {
                self.tally.corrected.add(1);
                let finding = Finding { fault: bad.fault(), blocks };
                notice(Notice::Corrected { block, finding, errors });
            }
            return Ok(bytes);
        }
        let offset = self.layout().hash_range(&(place..place)).start;
        self.pass_over(bad, "hash", offset, block, blocks, notice)?;
        Ok(bytes)
    }

    /// Reads a hash block and says what is the matter with it.
    fn read_hash_block(&self, step: &Step, want: &[u8]) -> (Arc<[u8]>, Option<Bad>) {
        let size = self.layout().hash_block_size().as_usize();
        let mut bytes: Arc<[u8]> = iter::repeat_n(0, size).collect();
        self.tally.hash_reads.add(1);
        let offset = self.layout().hash_range(&(step.place..step.place)).start;
        let buf = Arc::get_mut(&mut bytes).expect("nobody else knows of it yet");
        let read = self.volume.hash.read_full(buf, offset);
        let bad = self.fault(&bytes, read, want);
        (bytes, bad)
    }
}
