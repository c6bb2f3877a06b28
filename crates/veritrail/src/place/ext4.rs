//! What the superblock of ext4 tells that no call does: where the journal lies.
//!
//! ```text
//!   0x18 log2(block size) - 10    0x38 magic 0xEF53     0xe0 journal's inode
//!   0xfd backup type, 1: what follows at 0x10c is the journal's i_block[15]
//!
//!   i_block: magic 0xF30A, entries, max, depth (16 bits each), generation
//!            { first logical block (32), length (16), start high (16), start low (32) } ...
//! ```
//! (Documentation/filesystems/ext4/super.rst, inodes.rst.)

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Where the superblock is, and how long.
const START: u64 = 1024;
const LENGTH: usize = 1024;

/// The stretches of the device that the journal has; none where it has none of its own, or its map
/// does not fit into the superblock.
pub(super) fn journal(device: &File) -> io::Result<Vec<Range<u64>>> {
    let mut superblock = [0; LENGTH];
    device.read_exact_at(&mut superblock, START)?;
    Ok(parse(&superblock).unwrap_or_default())
}

fn parse(superblock: &[u8]) -> Option<Vec<Range<u64>>> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(*superblock.get(at..)?.first_chunk()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(*superblock.get(at..)?.first_chunk()?));
    const MAP: usize = 0x10c;
    let is_ext4 = u16_at(0x38)? == 0xEF53;
    let has_map = superblock.get(0xfd) == Some(&1) && u32_at(0xe0)? != 0;
    let has_extents = u16_at(MAP)? == 0xF30A && u16_at(MAP + 6)? == 0;
    if !(is_ext4 && has_map && has_extents) {
        return None;
    }
    // 64 KiB is the largest block.
    let block = 1024_u64 << u32_at(0x18)?.min(6);
    let entries = usize::from(u16_at(MAP + 2)?.min(4));
    let extent = |entry: usize| {
        let at = MAP + 12 * (entry + 1);
        // A length above 32768 stands for blocks that were never written.
        let length = match u16_at(at + 4)? {
            length @ 0..=0x8000 => length,
            length => length - 0x8000,
        };
        let start = u64::from(u16_at(at + 6)?) << 32 | u64::from(u32_at(at + 8)?);
        let first = start.checked_mul(block)?;
        Some(first..first.checked_add(u64::from(length).checked_mul(block)?)?)
    };
    (0..entries).map(extent).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn superblock() -> Vec<u8> {
        let mut bytes = vec![0; LENGTH];
        let mut put = |at: usize, with: &[u8]| bytes[at..at + with.len()].copy_from_slice(with);
        put(0x18, &[2]);
        put(0x38, &[0x53, 0xef]);
        put(0xe0, &[8]);
        put(0xfd, &[1]);
        put(0x10c, &[0x0a, 0xf3, 2, 0, 4, 0, 0, 0]);
        put(0x118, &[0, 0, 0, 0, 0, 4, 0, 0, 100, 0, 0, 0]);
        put(0x124, &[0, 4, 0, 0, 1, 0x80, 1, 0, 7, 0, 0, 0]);
        bytes
    }

    #[test]
    fn extents_are_read() {
        let second = ((1 << 32) + 7) * 4096;
        assert_eq!(
            parse(&superblock()).unwrap(),
            [409_600..409_600 + 1024 * 4096, second..second + 4096]
        );
        for (at, byte) in [(0x38, 0), (0xfd, 0), (0xe0, 0), (0x10c, 0), (0x112, 1)] {
            let mut other = superblock();
            other[at] = byte;
            assert_eq!(parse(&other), None, "{at:#x}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(damage in proptest::collection::vec((0..LENGTH, any::<u8>()), 0..8)) {
            let mut bytes = superblock();
            for (at, byte) in damage {
                bytes[at] = byte;
            }
            for range in parse(&bytes).unwrap_or_default() {
                prop_assert!(range.start <= range.end);
            }
            prop_assert_eq!(parse(&bytes[..LENGTH / 4]), None);
        }
    }
}
