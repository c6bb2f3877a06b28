//! Data, tree and root hash together: what can be verified.

use std::io;

use lanes::BlockHasher;

use super::finding::Fault;
use super::layout::{HashArea, Layout};
use super::params::{BlockSize, Digest, ParamError, Params};
use crate::access::ReadAt;

/// A data device, a hash device and the root hash that both must lead to.
#[derive(Debug)]
pub struct Volume<D, H> {
    pub(super) data: D,
    pub(super) hash: H,
    pub(super) layout: Layout,
    pub(super) hasher: BlockHasher,
    pub(super) root: Digest,
}

/// Why a volume cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Parameters, layout and devices do not go together.
    #[error("the image cannot be used")]
    Params(#[from] ParamError),
    /// The disk did not answer.
    #[error("cannot tell the size of the hash device")]
    Io(#[from] io::Error),
}

impl<D: ReadAt, H: ReadAt> Volume<D, H> {
    /// Puts a volume together. Reads nothing yet, so a wrong root hash shows at the first read
    /// (as it does with the kernel), and a data device that is too short does so where it ends.
    ///
    /// # Errors
    /// When root hash, layout and hash device do not go together.
    pub fn open(
        data: D,
        hash: H,
        params: &Params,
        area: HashArea,
        root: &Digest,
    ) -> Result<Volume<D, H>, OpenError> {
        let algorithm = params.hash.algorithm();
        if root.as_bytes().len() != algorithm.digest_size() {
            return Err(OpenError::Params(ParamError::RootLength {
                found: root.as_bytes().len(),
                algorithm,
                expected: algorithm.digest_size(),
            }));
        }
        let layout = Layout::new(params, area)?;
        layout.check_hash_device(hash.size()?)?;
        Ok(Volume { data, hash, layout, hasher: params.hasher(), root: root.clone() })
    }
}

impl<D, H> Volume<D, H> {
    /// Where everything lies.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The root hash that all must lead to.
    #[must_use]
    pub fn root(&self) -> &Digest {
        &self.root
    }
}

/// Bytes that are read and hashed at once: few enough for a core's own cache, and enough
/// blocks to fill sixteen lanes.
const CHUNK: usize = 256 * 1024;

/// How many blocks make a chunk.
pub(super) fn chunk_blocks(block_size: BlockSize) -> usize {
    (CHUNK / block_size.as_usize()).max(16)
}

/// Reads runs of blocks and says which are not what they should be. Its memory is used again.
#[derive(Debug, Default)]
pub(super) struct Examiner {
    /// The blocks examined last.
    pub(super) bytes: Vec<u8>,
    digests: Vec<u8>,
}

impl Examiner {
    /// Reads blocks from byte `offset` of `source` on, as many as `expected` has digests, packed
    /// without gaps, and calls `fault` for each that is not as expected, in order: with its index,
    /// its bytes as far as there are any, and the digest it should have.
    pub(super) fn examine(
        &mut self,
        source: &impl ReadAt,
        hasher: &BlockHasher,
        block_size: BlockSize,
        offset: u64,
        expected: &[u8],
        mut fault: impl FnMut(usize, Fault, &mut [u8], &[u8]),
    ) {
        let size = block_size.as_usize();
        let digest_size = hasher.digest_size();
        let count = expected.len() / digest_size;
        self.bytes.resize(count * size, 0);
        self.digests.resize(count * digest_size, 0);
        let read = source.read_full(&mut self.bytes, offset);
        let whole = read.as_ref().is_ok_and(|read| *read == count * size);
        if whole {
            hasher.hash_blocks(&self.bytes, size, &mut self.digests);
            if self.digests == expected {
                return;
            }
        }
        let pairs =
            self.digests.chunks_exact_mut(digest_size).zip(expected.chunks_exact(digest_size));
        for (i, (block, (digest, expected))) in
            self.bytes.chunks_exact_mut(size).zip(pairs).enumerate()
        {
            let end = (i + 1) * size;
            let wrong = match &read {
                Ok(read) if *read >= end => None,
                Ok(_) => Some(Fault::Missing),
                // Somewhere in the run; each block is asked for by itself.
                Err(_) => match source.read_full(block, offset + (i * size) as u64) {
                    Ok(read) if read == size => None,
                    Ok(_) => Some(Fault::Missing),
                    Err(error) => Some(Fault::unreadable(&error)),
                },
            };
            let wrong = wrong.or_else(|| {
                if !whole {
                    hasher.hash_one(block, digest);
                }
                (digest != expected).then_some(Fault::Mismatch)
            });
            if let Some(wrong) = wrong {
                fault(i, wrong, block, expected);
            }
        }
    }
}
