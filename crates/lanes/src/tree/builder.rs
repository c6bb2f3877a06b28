//! Building a tree from its leaves, in memory that does not grow with it.

use super::Geometry;
use crate::{BlockHasher, MAX_DIGEST_SIZE};

/// Builds a hash tree from the digests of the data blocks, given in order.
///
/// Holds one open hash block per level, so an image of any size takes the same
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

/// The unfinished hash block of a level.
#[derive(Debug)]
struct Open {
    bytes: Vec<u8>,
    /// Slots in use.
    used: usize,
    /// Index in the level.
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
            .map(|_| Open { bytes: vec![0; geometry.hash_block_size()], used: 0, index: 0 })
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

    /// Puts a digest into the open block of a level; above the top it is the root.
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
        open.bytes[self.geometry.slot(open.used)].copy_from_slice(digest);
        open.used += 1;
        if open.used == self.geometry.per_block() {
            self.close(level, emit)?;
        }
        Ok(())
    }

    /// Emits the open block of a level and passes its digest up.
    fn close<E>(
        &mut self,
        level: usize,
        emit: &mut impl FnMut(usize, u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), BuildError<E>> {
        let open = &mut self.open[level];
        emit(level, open.index, &open.bytes).map_err(BuildError::Emit)?;
        let mut digest = [0; MAX_DIGEST_SIZE];
        let digest = &mut digest[..self.geometry.digest_size()];
        self.hasher.hash_one(&open.bytes, digest);
        open.bytes.fill(0);
        open.used = 0;
        open.index += 1;
        self.put(level + 1, digest, emit)
    }
}
