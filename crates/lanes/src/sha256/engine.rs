//! Which kernels work together on this CPU, and how many blocks each gets.

use super::{Group, Salted, portable::Portable};
use crate::Path;

/// The working state of `N` lanes: word `i` of every lane stands in row `i`.
pub(crate) type State<const N: usize> = [[u32; N]; 8];

/// The compression function over `N` messages side by side.
///
/// A value of an implementing type is the proof that the CPU has the instructions.
pub(crate) trait Compress<const N: usize>: Copy {
    /// Takes the lanes, all of the same whole number of 64-byte chunks, into the state.
    fn compress(self, state: &mut State<N>, lanes: &[&[u8]; N]);
}

/// A path with the kernels for its left-over blocks.
#[derive(Clone, Copy)]
pub(crate) struct Engine {
    path: Path,
}

impl Engine {
    pub(crate) fn best() -> Self {
        Self { path: Path::best() }
    }

    /// The engine of a path, if this CPU has it.
    pub(crate) fn for_path(path: Path) -> Option<Self> {
        (path == Path::Portable).then_some(Self { path })
    }

    pub(super) fn hash(
        self,
        salted: &Salted,
        blocks: &[u8],
        block_size: usize,
        size: usize,
        out: &mut [u8],
    ) {
        let mut group = Group::new(salted, Portable, block_size);
        for (block, digest) in blocks.chunks_exact(block_size).zip(out.chunks_exact_mut(size)) {
            group.hash(&[block], size, digest);
        }
    }

    pub(super) fn hash_one(self, salted: &Salted, block: &[u8], out: &mut [u8]) {
        Group::new(salted, Portable, block.len()).hash(&[block], out.len(), out);
    }
}
