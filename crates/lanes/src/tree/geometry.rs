//! Sizes and positions in a hash tree; no bytes.

use std::ops::Range;

use crate::MAX_DIGEST_SIZE;

/// How the digests stand in a hash block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packing {
    /// Each digest in a slot of the next power of two, spare bytes zero: dm-verity hash type 1.
    /// For digests that are powers of two themselves also fs-verity.
    Padded,
    /// Digest after digest, the remainder of the block zero: dm-verity hash type 0.
    Packed,
}

/// The shape of a hash tree over a number of data blocks.
///
/// Hash blocks are counted from the tree's first block on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    data_blocks: u64,
    hash_block_size: usize,
    digest_size: usize,
    slot_size: usize,
    /// log2 of the digests in a hash block.
    fanout_bits: u32,
    /// Lowest level first.
    levels: Vec<Level>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    /// First hash block on disk.
    start: u64,
    blocks: u64,
}

/// Where a digest lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The level, 0 the lowest.
    pub level: usize,
    /// The hash block, counted within its level.
    pub index: u64,
    /// The same hash block, counted from the start of the tree on disk.
    pub hash_block: u64,
    /// Which digest in that block.
    pub slot: usize,
}

/// No tree can have the shape asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// The size of hash blocks is not a power of two.
    #[error("a hash block of {hash_block_size} bytes is not a power of two")]
    NotPowerOfTwo {
        /// Bytes.
        hash_block_size: usize,
    },
    /// A hash block must hold two digests, or the tree would not become narrower.
    #[error(
        "a hash block of {hash_block_size} bytes does not hold two digests of {digest_size} bytes"
    )]
    TooNarrow {
        /// Bytes.
        hash_block_size: usize,
        /// Bytes.
        digest_size: usize,
    },
    /// The tree's bytes do not fit into 63 bits, so no file or device could hold it.
    #[error("the hash tree of {data_blocks} data blocks is larger than any device")]
    TooLarge {
        /// Blocks.
        data_blocks: u64,
    },
}

impl Geometry {
    /// The tree over `data_blocks` blocks, whatever their size; sizes are in bytes.
    ///
    /// No or one data block gives a tree without levels.
    ///
    /// # Panics
    /// When `digest_size` is 0 or above [`MAX_DIGEST_SIZE`]: no algorithm has it.
    pub fn new(
        data_blocks: u64,
        hash_block_size: usize,
        digest_size: usize,
        packing: Packing,
    ) -> Result<Self, GeometryError> {
        assert!((1..=MAX_DIGEST_SIZE).contains(&digest_size), "no digest has {digest_size} bytes");
        if !hash_block_size.is_power_of_two() {
            return Err(GeometryError::NotPowerOfTwo { hash_block_size });
        }
        let fanout = hash_block_size / digest_size;
        if fanout < 2 {
            return Err(GeometryError::TooNarrow { hash_block_size, digest_size });
        }
        let fanout_bits = fanout.ilog2();
        let slot_size = match packing {
            Packing::Padded => hash_block_size >> fanout_bits,
            Packing::Packed => digest_size,
        };

        let too_large = GeometryError::TooLarge { data_blocks };
        let mut levels = Vec::new();
        let mut last = data_blocks.saturating_sub(1);
        while last > 0 {
            last >>= fanout_bits;
            levels.push(Level { start: 0, blocks: last + 1 });
        }
        let mut end = 0u64;
        for level in levels.iter_mut().rev() {
            level.start = end;
            end = end.checked_add(level.blocks).ok_or(too_large)?;
        }
        let bytes = end.checked_mul(hash_block_size as u64).ok_or(too_large)?;
        if i64::try_from(bytes).is_err() {
            return Err(too_large);
        }
        Ok(Self { data_blocks, hash_block_size, digest_size, slot_size, fanout_bits, levels })
    }

    /// Data blocks the tree stands on.
    pub fn data_blocks(&self) -> u64 {
        self.data_blocks
    }

    /// Bytes in a hash block.
    pub fn hash_block_size(&self) -> usize {
        self.hash_block_size
    }

    /// Bytes in a digest.
    pub fn digest_size(&self) -> usize {
        self.digest_size
    }

    /// Bytes from one digest to the next.
    pub fn slot_size(&self) -> usize {
        self.slot_size
    }

    /// Digests in a full hash block, a power of two.
    pub fn per_block(&self) -> usize {
        1 << self.fanout_bits
    }

    /// Levels above the data; 0 for no or one data block, and never more than the kernel's 63.
    pub fn levels(&self) -> usize {
        self.levels.len()
    }

    /// Hash blocks of a level.
    ///
    /// # Panics
    /// When there is no such level (this and the other methods that take one).
    pub fn level_blocks(&self, level: usize) -> u64 {
        self.levels[level].blocks
    }

    /// First hash block of a level, counted from the start of the tree on disk.
    pub fn level_start(&self, level: usize) -> u64 {
        self.levels[level].start
    }

    /// Hash blocks of all levels.
    pub fn blocks(&self) -> u64 {
        // Level 0 is the last on disk.
        self.levels.first().map_or(0, |level| level.start + level.blocks)
    }

    /// Bytes of all levels; below 2^63.
    pub fn bytes(&self) -> u64 {
        self.blocks() * self.hash_block_size as u64
    }

    /// Where, in `level`, the digest stands that covers a data block: at level 0 the block's own
    /// digest, above it that of the hash block below.
    ///
    /// # Panics
    /// When the data block is not below [`Self::data_blocks`].
    pub fn position(&self, data_block: u64, level: usize) -> Position {
        assert!(data_block < self.data_blocks, "data block {data_block} of {}", self.data_blocks);
        let covered = self.shift(data_block, level);
        let slot = covered & (self.per_block() as u64 - 1);
        let index = covered >> self.fanout_bits;
        Position {
            level,
            index,
            hash_block: self.levels[level].start + index,
            slot: usize::try_from(slot).expect("a slot is below the fan-out, a usize"),
        }
    }

    /// The positions from the data block's own digest up to the one in the top block.
    pub fn path(&self, data_block: u64) -> impl DoubleEndedIterator<Item = Position> + '_ {
        (0..self.levels()).map(move |level| self.position(data_block, level))
    }

    /// Level and index in it of a hash block counted from the start of the tree on disk.
    pub fn locate(&self, hash_block: u64) -> Option<(usize, u64)> {
        let level = self.levels.iter().position(|level| level.start <= hash_block)?;
        let index = hash_block - self.levels[level].start;
        (index < self.levels[level].blocks).then_some((level, index))
    }

    /// The data blocks whose digests depend on a hash block.
    ///
    /// # Panics
    /// When the level has no such block.
    pub fn covered(&self, level: usize, index: u64) -> Range<u64> {
        assert!(index < self.levels[level].blocks, "hash block {index} of level {level}");
        let first = self.unshift(index, level + 1);
        let end = self.unshift(index + 1, level + 1).min(self.data_blocks);
        first..end
    }

    /// Digests in a hash block: [`Self::per_block`], or fewer in the last of a level.
    ///
    /// # Panics
    /// When the level has no such block.
    pub fn digests(&self, level: usize, index: u64) -> usize {
        assert!(index < self.levels[level].blocks, "hash block {index} of level {level}");
        let below = if level == 0 { self.data_blocks } else { self.levels[level - 1].blocks };
        let left = below - (index << self.fanout_bits);
        usize::try_from(left).map_or(self.per_block(), |left| left.min(self.per_block()))
    }

    /// The bytes of a slot's digest within its hash block.
    pub fn slot(&self, slot: usize) -> Range<usize> {
        let at = slot * self.slot_size;
        at..at + self.digest_size
    }

    fn shift(&self, block: u64, levels: usize) -> u64 {
        // A level may cover more blocks than a u64 counts: then everything is block 0.
        u32::try_from(levels)
            .ok()
            .and_then(|levels| block.checked_shr(levels.checked_mul(self.fanout_bits)?))
            .unwrap_or(0)
    }

    fn unshift(&self, index: u64, levels: usize) -> u64 {
        let bits =
            u32::try_from(levels).ok().and_then(|levels| levels.checked_mul(self.fanout_bits));
        match bits {
            Some(bits) if index.leading_zeros() >= bits => index.checked_shl(bits).unwrap_or(0),
            _ if index == 0 => 0,
            _ => u64::MAX,
        }
    }
}
