//! What error correction covers, and where its parity lies.

use std::ops::Range;

use record::units::{DataBlock, HashBlock};

use super::code::Roots;
use crate::access::overlap;
use crate::verity::{BlockSize, Layout};

/// Why there can be no error correction with these numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AreaError {
    /// A number of parity bytes that the format does not have.
    #[error("{found} parity bytes per codeword, outside {}..={}", Roots::MIN, Roots::MAX)]
    Roots {
        /// The number given.
        found: u64,
    },
    /// Data and hash blocks of different sizes.
    #[error("data blocks of {data} and hash blocks of {hash} bytes: with FEC both must be equal")]
    BlockSizes {
        /// Size of a data block in bytes.
        data: BlockSize,
        /// Size of a hash block in bytes.
        hash: BlockSize,
    },
    /// An offset between sectors.
    #[error("FEC offset is {found} bytes, not a multiple of 512")]
    Offset {
        /// Its value, in bytes.
        found: u64,
    },
    /// What is covered ends before the tree does.
    #[error(
        "the tree ends at byte {tree_end}, what FEC covers of its device at byte {covered_end}"
    )]
    TreeNotCovered {
        /// Where the tree ends on the hash device, in bytes.
        tree_end: u64,
        /// Where the covered part of the hash device ends, in bytes.
        covered_end: u64,
    },
    /// Parity in the bytes of something else.
    #[error(
        "the FEC area (bytes {start}..{end}) overlaps the {what} area (bytes {what_start}..{what_end})"
    )]
    Overlap {
        /// `data` or `hash`.
        what: &'static str,
        /// Where that begins, in bytes.
        what_start: u64,
        /// Where that ends, in bytes.
        what_end: u64,
        /// Where the parity begins, in bytes.
        start: u64,
        /// Where the parity ends, in bytes.
        end: u64,
    },
    /// An area that ends beyond what a file can have.
    #[error("the FEC area ends beyond byte {}", i64::MAX)]
    TooLarge,
}

/// A block that error correction covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A block of the data device.
    Data(DataBlock),
    /// A block of the hash device: of the tree, or of what else lies behind it.
    Hash(HashBlock),
}

/// Which device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Data,
    Hash,
}

/// Where every covered block and its parity lie. Checked: no place in it overflows.
///
/// ```text
///   message    data blocks 0 .. D-1 | hash blocks hash_start .. covered end | zeros
///              '----------------------- N columns of `rounds` blocks ------------'
///
///              column 0     column 1           column N-1        parity, at the FEC offset
///   row 0      block 0      block rounds       ..                R bytes for each byte of the row
///   row 1      block 1      block rounds + 1   ..                R bytes for each ..
///   ..
///   row rounds-1
/// ```
///
/// A codeword is one byte of each block of a row, so a bad block costs each of its row's
/// codewords one byte. Linux 6.12, `Documentation/admin-guide/device-mapper/verity.rst`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    roots: Roots,
    offset: u64,
    block_size: BlockSize,
    data_blocks: u64,
    hash_start: u64,
    hash_blocks: u64,
    rounds: u64,
}

impl Area {
    /// Lays out the parity of an image at byte `offset` of the FEC device.
    ///
    /// All of the hash device from the tree on is covered, up to byte `covered_end`: the end of
    /// the device, or the FEC area where that lies on the same one. A block that is only partly
    /// before it is not covered.
    ///
    /// # Errors
    /// [`AreaError`].
    pub fn new(
        layout: &Layout,
        roots: u64,
        offset: u64,
        covered_end: u64,
    ) -> Result<Area, AreaError> {
        let (data, hash) = (layout.data_block_size(), layout.hash_block_size());
        if data != hash {
            return Err(AreaError::BlockSizes { data, hash });
        }
        let roots = Roots::new(roots).ok_or(AreaError::Roots { found: roots })?;
        if !offset.is_multiple_of(512) {
            return Err(AreaError::Offset { found: offset });
        }
        let tree = layout.tree_bytes();
        let covered = data.whole_blocks(covered_end);
        let hash_start = data.whole_blocks(tree.start);
        let tree_end = data.whole_blocks(tree.end);
        if covered < tree_end && !tree.is_empty() {
            return Err(AreaError::TreeNotCovered { tree_end: tree.end, covered_end });
        }
        let hash_blocks = covered.saturating_sub(hash_start);
        let blocks = layout.data_blocks().checked_add(hash_blocks).ok_or(AreaError::TooLarge)?;
        let rounds = blocks.div_ceil(roots.message().into());
        let area = Area {
            roots,
            offset,
            block_size: data,
            data_blocks: layout.data_blocks(),
            hash_start,
            hash_blocks,
            rounds,
        };
        // Message offsets, too: zeros behind the covered blocks end at most there.
        let symbols = rounds.checked_mul(super::code::SYMBOLS.into());
        let message = symbols.and_then(|blocks| data.offset(blocks));
        let end = rounds
            .checked_mul(roots.get().into())
            .and_then(|blocks| data.offset(blocks))
            .and_then(|bytes| bytes.checked_add(offset));
        if [message, end].iter().all(|end| end.is_some_and(|end| i64::try_from(end).is_ok())) {
            Ok(area)
        } else {
            Err(AreaError::TooLarge)
        }
    }

    /// Refuses parity in bytes of the same device that are taken.
    ///
    /// # Errors
    /// [`AreaError::Overlap`].
    pub fn check_beside(&self, what: &'static str, taken: &Range<u64>) -> Result<(), AreaError> {
        let Range { start, end } = self.bytes();
        if overlap(&(start..end), taken) {
            let (what_start, what_end) = (taken.start, taken.end);
            return Err(AreaError::Overlap { what, what_start, what_end, start, end });
        }
        Ok(())
    }

    /// Parity bytes per codeword.
    #[must_use]
    pub fn roots(&self) -> Roots {
        self.roots
    }

    /// Size of a block, data and hash alike.
    #[must_use]
    pub fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// Blocks that are covered, data and hash together; `fec_blocks` in the kernel's table.
    #[must_use]
    pub fn covered(&self) -> u64 {
        self.data_blocks + self.hash_blocks
    }

    /// The bytes of the hash device that are covered.
    #[must_use]
    pub fn covered_hash_bytes(&self) -> Range<u64> {
        self.byte(self.hash_start)..self.byte(self.hash_start + self.hash_blocks)
    }

    /// Where the parity begins on the FEC device, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Blocks of the FEC device that the parity takes.
    #[must_use]
    pub fn parity_blocks(&self) -> u64 {
        self.rounds * u64::from(self.roots.get())
    }

    /// The bytes of all parity on the FEC device.
    #[must_use]
    pub fn bytes(&self) -> Range<u64> {
        self.parity_range(0..self.codewords())
    }

    /// Number of codewords: the bytes of a column.
    pub(super) fn codewords(&self) -> u64 {
        self.byte(self.rounds)
    }

    /// The parity of some codewords on the FEC device.
    pub(super) fn parity_range(&self, codewords: Range<u64>) -> Range<u64> {
        let roots = u64::from(self.roots.get());
        self.offset + codewords.start * roots..self.offset + codewords.end * roots
    }

    /// The row of a codeword.
    pub(super) fn row(&self, codeword: u64) -> u64 {
        self.block_size.whole_blocks(codeword)
    }

    /// The row and the column of a block, unless it is not covered.
    pub(super) fn place(&self, target: Target) -> Option<(u64, u8)> {
        let number = match target {
            Target::Data(block) => Some(block.0).filter(|number| *number < self.data_blocks),
            Target::Hash(block) => block
                .0
                .checked_sub(self.hash_start)
                .filter(|number| *number < self.hash_blocks)
                .map(|number| self.data_blocks + number),
        }?;
        // Below 255: there are as many rounds as that takes.
        Some((number % self.rounds, u8::try_from(number / self.rounds).ok()?))
    }

    /// The block in a row and column; none where the message is zeros.
    pub(super) fn block(&self, row: u64, column: u8) -> Option<Target> {
        self.block_at(row + u64::from(column) * self.rounds)
    }

    /// The message's block of that number.
    fn block_at(&self, number: u64) -> Option<Target> {
        if number < self.data_blocks {
            Some(Target::Data(DataBlock(number)))
        } else if number < self.covered() {
            Some(Target::Hash(HashBlock(number - self.data_blocks + self.hash_start)))
        } else {
            None
        }
    }

    /// Where the bytes of a column come from that belong to some codewords: at most two runs of
    /// bytes, of the data device and of the hash device; what follows them is zeros.
    pub(super) fn runs(
        &self,
        column: u8,
        codewords: &Range<u64>,
    ) -> impl Iterator<Item = (Role, Range<u64>)> + use<> {
        let base = u64::from(column) * self.codewords();
        let wanted = base + codewords.start..base + codewords.end;
        let data_end = self.byte(self.data_blocks);
        let (hash, hash_end) = (self.byte(self.hash_start), self.byte(self.covered()));
        let data = wanted.start..wanted.end.min(data_end);
        let tree = wanted.start.max(data_end)..wanted.end.min(hash_end);
        let shift = |at: u64| at - data_end + hash;
        let data = (data.start < data.end).then_some((Role::Data, data));
        let tree =
            (tree.start < tree.end).then(|| (Role::Hash, shift(tree.start)..shift(tree.end)));
        data.into_iter().chain(tree)
    }

    /// The byte of its device where block `number` begins.
    pub(super) fn byte(&self, number: u64) -> u64 {
        number << self.block_size.bytes().trailing_zeros()
    }
}
