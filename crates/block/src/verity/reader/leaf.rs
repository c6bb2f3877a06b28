//! The way from a data block to the digest it must have.

use std::iter;
use std::ops::Range;
use std::sync::Arc;

use record::units::{DataBlock, HashBlock};

use super::{Device, Notice, ReadError};
use crate::access::ReadAt;
use crate::verity::finding::Blocks;

/// A hash block of the lowest level.
pub(super) struct Leaf {
    /// The data blocks whose digests it holds.
    pub(super) covers: Range<u64>,
    /// Nothing where the root hash is the digest of the only data block.
    bytes: Option<Arc<[u8]>>,
}

impl<D: ReadAt, H: ReadAt> Device<D, H> {
    /// The digest that a data block under `leaf` must have.
    pub(super) fn wanted<'a>(&'a self, leaf: &'a Leaf, block: DataBlock) -> &'a [u8] {
        match &leaf.bytes {
            None => self.volume.root.as_bytes(),
            Some(bytes) => {
                let geometry = self.layout().geometry();
                &bytes[geometry.slot(geometry.position(block.0, 0).slot)]
            }
        }
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
            _ if self.layout().geometry().levels() == 0 => {
                Leaf { covers: 0..self.layout().data_blocks(), bytes: None }
            }
            _ => self.look_up(block, notice)?,
        };
        Ok(at_hand.insert(leaf))
    }

    /// The hash block that holds the digest of a data block: from the lowest on its path that was
    /// verified before, or the root hash, down.
    fn look_up(&self, block: DataBlock, notice: &mut dyn FnMut(Notice)) -> Result<Leaf, ReadError> {
        let geometry = self.layout().geometry();
        let place = |level| {
            let index = geometry.position(block.0, level).index;
            (self.layout().hash_block(level, index), index)
        };
        let kept = (0..geometry.levels())
            .find_map(|level| Some((level, self.cache.find(place(level).0)?)));
        let (mut above, mut bytes) = match kept {
            Some((level, bytes)) => {
                self.tally.hash_hits.add(1);
                (level, Some(bytes))
            }
            None => (geometry.levels(), None),
        };
        while above > 0 {
            let level = above - 1;
            let want = match &bytes {
                None => self.volume.root.as_bytes(),
                Some(bytes) => &bytes[geometry.slot(geometry.position(block.0, above).slot)],
            };
            let (place, index) = place(level);
            bytes = Some(self.fetch(block, level, place, index, want, notice)?);
            above = level;
        }
        Ok(Leaf { covers: geometry.covered(0, place(0).1), bytes })
    }

    /// Reads a hash block and keeps it if it is good.
    fn fetch(
        &self,
        block: DataBlock,
        level: usize,
        place: HashBlock,
        index: u64,
        want: &[u8],
        notice: &mut dyn FnMut(Notice),
    ) -> Result<Arc<[u8]>, ReadError> {
        let layout = self.layout();
        let offset = layout.hash_range(&(place..place)).start;
        let size = layout.hash_block_size().as_usize();
        let mut bytes: Arc<[u8]> = iter::repeat_n(0, size).collect();
        self.tally.hash_reads.add(1);
        let buf = Arc::get_mut(&mut bytes).expect("nobody else knows of it yet");
        let read = self.volume.hash.read_full(buf, offset);
        match self.fault(&bytes, read, want) {
            None => {
                self.cache.insert(place, bytes.clone());
                Ok(bytes)
            }
            Some(bad) => {
                let covers = layout.geometry().covered(level, index);
                let covers = DataBlock(covers.start)..DataBlock(covers.end);
                let blocks = place..HashBlock(place.0 + 1);
                let blocks = Blocks::Hash { level, blocks, covers };
                self.pass_over(bad, "hash", offset, block, blocks, notice)?;
                Ok(bytes)
            }
        }
    }
}
