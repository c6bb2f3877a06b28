//! Building a tree from its leaves, in memory that does not grow with it.

use super::Geometry;
use crate::{BlockHasher, MAX_DIGEST_SIZE};

/// Hash blocks of a level that are hashed side by side.
const BATCH: usize = 16;

/// Builds a hash tree from the digests of the data blocks, given in order.
///
/// Holds sixteen hash blocks per level, so an image of any size takes the same
/// memory. Finished hash blocks leave through a closure called with level,
/// index in the level and bytes: lower levels first, each level in order. Their
/// place on disk is [`Geometry::level_start`] plus the index.
#[derive(Debug)]
pub struct Builder {
    geometry: Geometry,
    hasher: BlockHasher,
    open: Vec<Open>,
    /// Leaf digests taken.
    taken: u64,
    root: [u8; MAX_DIGEST_SIZE],
}

/// The hash blocks of a level that have not left yet; the last may be unfinished.
#[derive(Debug)]
struct Open {
    /// Room for a batch.
    bytes: Vec<u8>,
    /// Digests in it.
    used: usize,
    /// Index in the level of its first block.
    index: u64,
}

/// A tree could not be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError<E> {
    /// The closure refused a hash block.
    #[error(transparent)]
    Emit(E),
    /// More or fewer digests came than the geometry has data blocks: the data changed its size.
    #[error("the hash tree is for {expected} data blocks but got digests of {given}")]
    Count {
        /// Data blocks of the geometry.
        expected: u64,
        /// Digests given; with too many, up to the end of the surplus call.
        given: u64,
    },
}

impl Builder {
    /// A builder for a tree whose hash blocks `hasher` hashes.
    ///
    /// # Panics
    /// When the hasher's digests are not of the geometry's size.
    pub fn new(geometry: &Geometry, hasher: &BlockHasher) -> Self {
        assert_eq!(
            geometry.digest_size(),
            hasher.digest_size(),
            "digests of two sizes in one tree"
        );
        let open = (0..geometry.levels())
            .map(|_| Open { bytes: vec![0; BATCH * geometry.hash_block_size()], used: 0, index: 0 })
            .collect();
        Self {
            geometry: geometry.clone(),
            hasher: hasher.clone(),
            open,
            taken: 0,
            root: [0; MAX_DIGEST_SIZE],
        }
    }

    /// Takes digests of the next data blocks, packed without gaps.
    ///
    /// # Panics
    /// When `digests` is not a whole number of digests.
    pub fn push<E>(
        &mut self,
        digests: &[u8],
        emit: &mut impl FnMut(usize, u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), BuildError<E>> {
        let size = self.geometry.digest_size();
        assert!(digests.len().is_multiple_of(size), "{} bytes of digests", digests.len());
        let given = self.taken.saturating_add((digests.len() / size) as u64);
        let expected = self.geometry.data_blocks();
        if given > expected {
            return Err(BuildError::Count { expected, given });
        }
        for digest in digests.chunks_exact(size) {
            self.put(0, digest, emit)?;
        }
        self.taken = given;
        Ok(())
    }

    /// Closes the open blocks from the lowest level up and gives the root hash.
    ///
    /// Without data blocks that is all zeros, as fs-verity has it for an empty file.
    pub fn finish<E>(
        mut self,
        emit: &mut impl FnMut(usize, u64, &[u8]) -> Result<(), E>,
    ) -> Result<Vec<u8>, BuildError<E>> {
        let (expected, given) = (self.geometry.data_blocks(), self.taken);
        if given != expected {
            return Err(BuildError::Count { expected, given });
        }
        for level in 0..self.open.len() {
            if self.open[level].used > 0 {
                self.close(level, emit)?;
            }
        }
        Ok(self.root[..self.geometry.digest_size()].to_vec())
    }

    /// Puts a digest into the open blocks of a level; above the top it is the root.
    fn put<E>(
        &mut self,
        level: usize,
        digest: &[u8],
        emit: &mut impl FnMut(usize, u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), BuildError<E>> {
        let Some(open) = self.open.get_mut(level) else {
            self.root[..digest.len()].copy_from_slice(digest);
            return Ok(());
        };
        let per_block = self.geometry.per_block();
        let block = open.used / per_block * self.geometry.hash_block_size();
        let slot = self.geometry.slot(open.used % per_block);
        open.bytes[block..][slot].copy_from_slice(digest);
        open.used += 1;
        if open.used == BATCH * per_block {
            self.close(level, emit)?;
        }
        Ok(())
    }

    /// Emits the open blocks of a level and passes their digests up.
    fn close<E>(
        &mut self,
        level: usize,
        emit: &mut impl FnMut(usize, u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), BuildError<E>> {
        let (size, digest_size) = (self.geometry.hash_block_size(), self.geometry.digest_size());
        let open = &mut self.open[level];
        let count = open.used.div_ceil(self.geometry.per_block());
        let blocks = &mut open.bytes[..count * size];

        let mut digests = [0; BATCH * MAX_DIGEST_SIZE];
        let digests = &mut digests[..count * digest_size];
        self.hasher.hash_blocks(blocks, size, digests);
        for block in blocks.chunks_exact(size) {
            emit(level, open.index, block).map_err(BuildError::Emit)?;
            open.index += 1;
        }
        blocks.fill(0);
        open.used = 0;
        for digest in digests.chunks_exact(digest_size) {
            self.put(level + 1, digest, emit)?;
        }
        Ok(())
    }
}
