//! Salted hashing of equal-sized blocks: the front of the crate.

use std::{fmt, sync::Arc};

use crate::{
    Algorithm, Path, PathUnavailable,
    library::{self, Single},
    sha256,
};

/// Where the salt stands in the hashed message.
///
/// dm-verity hash type 1 and fs-verity put it before the block, dm-verity hash
/// type 0 (Chrome OS) after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SaltPosition {
    /// `H(salt || block)`
    Before,
    /// `H(block || salt)`
    After,
}

/// Hashes blocks of one size with one algorithm and one salt.
///
/// Made once per device; a clone is cheap and threads may share one.
#[derive(Clone)]
pub struct BlockHasher {
    algorithm: Algorithm,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Lanes(Arc<sha256::Salted>),
    Single(Arc<dyn Single>),
}

impl BlockHasher {
    /// A hasher on the [best path](Path::best) of this CPU.
    ///
    /// The salt may have any length, none included.
    pub fn new(algorithm: Algorithm, salt: &[u8], position: SaltPosition) -> Self {
        Self::with_engine(algorithm, salt, position, sha256::Engine::best())
    }

    /// A hasher on a given path, to compare paths with each other.
    ///
    /// Algorithms other than SHA-256 and SHA-224 have no paths to choose from and take any.
    pub fn with_path(
        algorithm: Algorithm,
        salt: &[u8],
        position: SaltPosition,
        path: Path,
    ) -> Result<Self, PathUnavailable> {
        let engine = sha256::Engine::for_path(path).ok_or(PathUnavailable { path })?;
        Ok(Self::with_engine(algorithm, salt, position, engine))
    }

    fn with_engine(
        algorithm: Algorithm,
        salt: &[u8],
        position: SaltPosition,
        engine: sha256::Engine,
    ) -> Self {
        let lanes =
            |initial| Kind::Lanes(Arc::new(sha256::Salted::new(initial, salt, position, engine)));
        let kind = match algorithm {
            Algorithm::Sha256 => lanes(sha256::INITIAL_256),
            Algorithm::Sha224 => lanes(sha256::INITIAL_224),
            other => Kind::Single(library::single(other, salt, position)),
        };
        Self { algorithm, kind }
    }

    /// The algorithm given at the start.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Bytes in a digest.
    pub fn digest_size(&self) -> usize {
        self.algorithm.digest_size()
    }

    /// Hashes `blocks`, which is a whole number of blocks of `block_size` bytes, into `out`: one
    /// digest after the other, without gaps.
    ///
    /// Multiples of sixteen blocks use the vector unit best.
    ///
    /// # Panics
    /// When `blocks` is not a multiple of `block_size`, `block_size` is 0, or `out` is not exactly
    /// as long as the digests.
    pub fn hash_blocks(&self, blocks: &[u8], block_size: usize, out: &mut [u8]) {
        assert!(
            block_size > 0 && blocks.len().is_multiple_of(block_size),
            "{} bytes are no whole number of blocks of {block_size} bytes",
            blocks.len()
        );
        let size = self.digest_size();
        let count = blocks.len() / block_size;
        assert_eq!(out.len(), count * size, "room for {count} digests of {size} bytes");
        match &self.kind {
            Kind::Lanes(salted) => salted.hash(blocks, block_size, size, out),
            Kind::Single(single) => {
                for (block, digest) in
                    blocks.chunks_exact(block_size).zip(out.chunks_exact_mut(size))
                {
                    single.hash(block, digest);
                }
            }
        }
    }

    /// Hashes one block of any length, an empty one included, into `out`.
    ///
    /// # Panics
    /// When `out` is not exactly one digest long.
    pub fn hash_one(&self, block: &[u8], out: &mut [u8]) {
        let size = self.digest_size();
        assert_eq!(out.len(), size, "room for one digest");
        match &self.kind {
            Kind::Lanes(salted) => salted.hash_one(block, out),
            Kind::Single(single) => single.hash(block, out),
        }
    }
}

impl fmt::Debug for BlockHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockHasher").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
