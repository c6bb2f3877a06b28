//! Which data blocks were good once, for `check_at_most_once`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use record::units::DataBlock;

/// Bits of a page, which takes 4 KiB.
const PAGE_BITS: u64 = 512 * 64;

/// A bit per data block. Pages come into being with their first bit, so a large device of which
/// little is read costs little.
#[derive(Debug)]
pub(super) struct Seen {
    pages: Box<[OnceLock<Box<[AtomicU64]>>]>,
}

impl Seen {
    /// The most blocks there can be: the kernel's own limit, and 256 MiB when all were read.
    pub(super) const MAX_BLOCKS: u64 = i32::MAX as u64;

    /// No bit is set; none where there are more than [`Seen::MAX_BLOCKS`].
    pub(super) fn new(blocks: u64) -> Option<Seen> {
        let pages = (blocks <= Self::MAX_BLOCKS).then(|| blocks.div_ceil(PAGE_BITS))?;
        Some(Seen { pages: (0..pages).map(|_| OnceLock::new()).collect() })
    }

    pub(super) fn has(&self, block: DataBlock) -> bool {
        let (page, word, bit) = place(block);
        self.pages[page].get().is_some_and(|page| page[word].load(Ordering::Relaxed) & bit != 0)
    }

    pub(super) fn set(&self, block: DataBlock) {
        let (page, word, bit) = place(block);
        let page = self.pages[page]
            .get_or_init(|| (0..PAGE_BITS / 64).map(|_| AtomicU64::new(0)).collect());
        page[word].fetch_or(bit, Ordering::Relaxed);
    }
}

/// Page, word in it, bit in that.
fn place(block: DataBlock) -> (usize, usize, u64) {
    let index = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    (index(block.0 / PAGE_BITS), index(block.0 % PAGE_BITS / 64), 1 << (block.0 % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_block_has_a_bit_of_its_own() {
        let blocks = 3 * PAGE_BITS + 5;
        let seen = Seen::new(blocks).expect("few enough");
        let marked = |block: u64| block.is_multiple_of(7) || block + 1 == blocks;
        for block in (0..blocks).filter(|&block| marked(block)) {
            seen.set(DataBlock(block));
        }
        for block in 0..blocks {
            assert_eq!(seen.has(DataBlock(block)), marked(block), "{block}");
        }
    }

    #[test]
    fn the_kernels_limit_is_ours() {
        assert!(Seen::new(Seen::MAX_BLOCKS + 1).is_none());
        let seen = Seen::new(Seen::MAX_BLOCKS).expect("as many as there can be");
        let last = DataBlock(Seen::MAX_BLOCKS - 1);
        seen.set(last);
        assert!(seen.has(last) && !seen.has(DataBlock(0)));
        assert_eq!(seen.pages.iter().filter(|page| page.get().is_some()).count(), 1);
    }
}
