//! Where data and tree lie, in bytes.

use std::ops::Range;

use lanes::tree::{Geometry, GeometryError};
use record::units::{DataBlock, HashBlock};

use super::params::{BlockSize, ParamError, Params};
use super::superblock::SUPERBLOCK_SIZE;
use crate::access::overlap;

/// Where the hash area begins, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashArea {
    /// The byte of the hash device where it begins; a multiple of 512.
    pub offset: u64,
    /// Whether a superblock stands there, before the tree.
    pub superblock: bool,
}

impl Default for HashArea {
    fn default() -> HashArea {
        HashArea { offset: 0, superblock: true }
    }
}

/// Where every block of a verity image lies. Checked: no place in it overflows.
#[derive(Clone, Debug)]
pub struct Layout {
    geometry: Geometry,
    data_block_size: BlockSize,
    hash_block_size: BlockSize,
    area: HashArea,
    /// First block of the tree, in hash blocks of the hash device.
    hash_start: u64,
}

impl Layout {
    /// Lays an image out.
    ///
    /// # Errors
    /// [`ParamError::NoData`], [`ParamError::HashOffset`], [`ParamError::TooLarge`].
    pub fn new(params: &Params, area: HashArea) -> Result<Layout, ParamError> {
        if params.data_blocks == 0 {
            return Err(ParamError::NoData);
        }
        if !area.offset.is_multiple_of(512) {
            return Err(ParamError::HashOffset { found: area.offset });
        }
        let file_end = |area: &'static str, end: Option<u64>| {
            end.filter(|end| i64::try_from(*end).is_ok()).ok_or(ParamError::TooLarge { area })
        };
        file_end("data", params.data_block_size.offset(params.data_blocks))?;
        let geometry = Geometry::new(
            params.data_blocks,
            params.hash_block_size.as_usize(),
            params.hash.algorithm().digest_size(),
            params.hash_type.packing(),
        )
        .map_err(|error| match error {
            // A block has 512 bytes and a power of two, a digest at most 64.
            GeometryError::NotPowerOfTwo { .. }
            | GeometryError::TooNarrow { .. }
            | GeometryError::TooLarge { .. } => ParamError::TooLarge { area: "hash" },
        })?;
        let block = u64::from(params.hash_block_size.bytes());
        let hash_start = if area.superblock {
            file_end("hash", area.offset.checked_add(SUPERBLOCK_SIZE as u64))?.div_ceil(block)
        } else {
            area.offset / block
        };
        let end = geometry.blocks().checked_add(hash_start);
        file_end("hash", end.and_then(|end| end.checked_mul(block)))?;
        Ok(Layout {
            geometry,
            data_block_size: params.data_block_size,
            hash_block_size: params.hash_block_size,
            area,
            hash_start,
        })
    }

    /// Refuses a tree on the data device that does not lie behind the data.
    ///
    /// # Errors
    /// [`ParamError::Overlap`].
    pub fn check_one_device(&self) -> Result<(), ParamError> {
        let (data, hash) = (0..self.data_bytes(), self.hash_bytes());
        if hash.start < data.end || overlap(&data, &self.tree_bytes()) {
            return Err(ParamError::Overlap {
                data_end: data.end,
                hash_start: hash.start.min(self.tree_bytes().start),
                hash_end: hash.end,
            });
        }
        Ok(())
    }

    /// Refuses a hash device that ends before its tree.
    ///
    /// # Errors
    /// [`ParamError::HashTooSmall`].
    pub fn check_hash_device(&self, size: u64) -> Result<(), ParamError> {
        let tree = self.tree_bytes();
        if size < tree.end && !tree.is_empty() {
            return Err(ParamError::HashTooSmall { size, start: tree.start, end: tree.end });
        }
        Ok(())
    }

    /// The shape of the tree.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Number of data blocks.
    #[must_use]
    pub fn data_blocks(&self) -> u64 {
        self.geometry.data_blocks()
    }

    /// Size of a data block.
    #[must_use]
    pub fn data_block_size(&self) -> BlockSize {
        self.data_block_size
    }

    /// Size of a hash block.
    #[must_use]
    pub fn hash_block_size(&self) -> BlockSize {
        self.hash_block_size
    }

    /// Where the hash area begins, and with what.
    #[must_use]
    pub fn hash_area(&self) -> HashArea {
        self.area
    }

    /// Bytes of all data blocks.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.data_byte(self.data_blocks())
    }

    /// The byte of the data device where data block `number` begins, which may be the end.
    #[must_use]
    pub fn data_byte(&self, number: u64) -> u64 {
        number << self.data_block_size.bytes().trailing_zeros()
    }

    /// The bytes of some data blocks on the data device.
    #[must_use]
    pub fn data_range(&self, blocks: &Range<DataBlock>) -> Range<u64> {
        self.data_byte(blocks.start.0)..self.data_byte(blocks.end.0)
    }

    /// The bytes of some hash blocks on the hash device.
    #[must_use]
    pub fn hash_range(&self, blocks: &Range<HashBlock>) -> Range<u64> {
        let shift = self.hash_block_size.bytes().trailing_zeros();
        blocks.start.0 << shift..blocks.end.0 << shift
    }

    /// The bytes of the whole tree on the hash device; empty where one data block needs none.
    #[must_use]
    pub fn tree_bytes(&self) -> Range<u64> {
        self.hash_range(
            &(HashBlock(self.hash_start)..HashBlock(self.hash_start + self.geometry.blocks())),
        )
    }

    /// The bytes of superblock and tree on the hash device.
    #[must_use]
    pub fn hash_bytes(&self) -> Range<u64> {
        let tree = self.tree_bytes();
        if self.area.superblock { self.area.offset..tree.end } else { tree }
    }

    /// A hash block by its level and index there, counted from the start of the hash device.
    #[must_use]
    pub fn hash_block(&self, level: usize, index: u64) -> HashBlock {
        HashBlock(self.hash_start + self.geometry.level_start(level) + index)
    }

    /// The level and index of a hash block that is counted from the start of the hash device;
    /// none for one outside the tree.
    #[must_use]
    pub fn locate(&self, block: HashBlock) -> Option<(usize, u64)> {
        self.geometry.locate(block.0.checked_sub(self.hash_start)?)
    }
}
