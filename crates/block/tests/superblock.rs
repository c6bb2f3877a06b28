//! Any bytes may stand where a superblock should.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use block::verity::{HashArea, Layout, ParamError, SUPERBLOCK_SIZE, Superblock, SuperblockError};
use proptest::prelude::*;

fn golden() -> [u8; SUPERBLOCK_SIZE] {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/devices/v-sha512-1k512.hash");
    fs::read(path).unwrap()[..SUPERBLOCK_SIZE].try_into().unwrap()
}

/// What a fuzzer calls: no panic; what is accepted is written back the same but for bytes that
/// the format says nothing about, and reads again as the same; and it can be laid out or is refused.
fn any_bytes(bytes: &[u8]) {
    if let Ok(superblock) = Superblock::read(bytes) {
        let written = superblock.to_bytes();
        assert_eq!(written[..0x20], bytes[..0x20]);
        assert_eq!(written[0x40..0x52], bytes[0x40..0x52]);
        let again = Superblock::read(&written).unwrap();
        assert_eq!(again.to_bytes(), written);
        assert_eq!(again.params.salt, superblock.params.salt);
        for offset in [0, 512, u64::MAX - 511] {
            if let Ok(layout) =
                Layout::new(&superblock.params, HashArea { offset, superblock: true })
            {
                assert!(layout.tree_bytes().start >= offset + 512);
                assert!(i64::try_from(layout.tree_bytes().end).is_ok());
                assert!(i64::try_from(layout.data_bytes()).is_ok());
            }
        }
    }
}

proptest! {
    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        any_bytes(&bytes);
    }

    /// Random bytes are never a superblock; a good one with some bytes changed often is.
    #[test]
    fn changed_bytes(
        changes in prop::collection::vec((0..0x60usize, any::<u8>()), 0..4),
        numbers in prop::option::of((any::<u64>(), 0..30u32, 0..30u32)),
    ) {
        let mut bytes = golden();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        if let Some((data_blocks, data, hash)) = numbers {
            bytes[0x40..0x44].copy_from_slice(&(1u32 << data).to_le_bytes());
            bytes[0x44..0x48].copy_from_slice(&(1u32 << hash).to_le_bytes());
            bytes[0x48..0x50].copy_from_slice(&data_blocks.to_le_bytes());
        }
        any_bytes(&bytes);
    }
}

#[test]
fn a_golden_superblock_is_written_as_it_was_read() {
    assert_eq!(Superblock::read(&golden()).unwrap().to_bytes(), golden());
}

#[test]
fn every_wrong_field_is_named() {
    let cases: &[(usize, &[u8], &str)] = &[
        (0, b"LUKS", "the superblock's signature is \"LUKSty\\x00\\x00\", not \"verity\\0\\0\""),
        (8, &[2], "the superblock's version is 2, outside 1..=1"),
        (12, &[2], "the superblock's hash type is 2, outside 0..=1"),
        (80, &[1, 1], "the superblock's salt size is 257, outside 0..=256"),
    ];
    for (at, change, expected) in cases {
        let mut bytes = golden();
        bytes[*at..at + change.len()].copy_from_slice(change);
        assert_eq!(Superblock::read(&bytes).unwrap_err().to_string(), *expected);
    }

    let mut bytes = golden();
    bytes[0x20..0x40].fill(b'x');
    let error = Superblock::read(&bytes).unwrap_err();
    assert_eq!(error, SuperblockError::Algorithm { found: vec![b'x'; 32] });
    assert!(error.to_string().ends_with(
        "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\" is none of sha1, sha224, sha256, sha384, sha512, \
         sha3-224, sha3-256, sha3-384, sha3-512, blake2b-160, blake2b-256, blake2b-384, blake2b-512, \
         blake2s-128, blake2s-160, blake2s-224, blake2s-256, rmd160"
    ));

    for (at, field) in [(0x40, "data block size"), (0x44, "hash block size")] {
        for size in [0u32, 1, 511, 513, 1 << 20, u32::MAX] {
            let mut bytes = golden();
            bytes[at..at + 4].copy_from_slice(&size.to_le_bytes());
            assert_eq!(
                Superblock::read(&bytes),
                Err(SuperblockError::Params(ParamError::BlockSize { field, found: size.into() }))
            );
        }
    }
    assert_eq!(Superblock::read(&golden()[..511]), Err(SuperblockError::Short { found: 511 }));
}

#[test]
fn sizes_that_no_file_can_have_are_refused() {
    let cases = [
        (0, 0, ParamError::NoData),
        (u64::MAX, 0, ParamError::TooLarge { area: "data" }),
        (1 << 54, 0, ParamError::TooLarge { area: "data" }),
        (64, 100, ParamError::HashOffset { found: 100 }),
        (64, 1 << 63, ParamError::TooLarge { area: "hash" }),
        (64, (1 << 63) - 2048, ParamError::TooLarge { area: "hash" }),
        (64, u64::MAX - 511, ParamError::TooLarge { area: "hash" }),
    ];
    for (data_blocks, offset, expected) in cases {
        let mut params = Superblock::read(&golden()).unwrap().params;
        params.data_blocks = data_blocks;
        let area = HashArea { offset, superblock: true };
        assert_eq!(Layout::new(&params, area).unwrap_err(), expected, "{data_blocks} {offset}");
    }
}

#[test]
fn a_tree_on_the_data_device_lies_behind_the_data() {
    // 256 blocks of 1024 bytes, hash blocks of 512, 37 of them.
    let params = Superblock::read(&golden()).unwrap().params;
    let cases = [
        (HashArea { offset: 262_144, superblock: true }, Ok(())),
        (HashArea { offset: 262_144, superblock: false }, Ok(())),
        (HashArea { offset: 261_632, superblock: true }, Err((261_632, 262_144 + 37 * 512))),
        (HashArea { offset: 0, superblock: false }, Err((0, 37 * 512))),
        (HashArea { offset: 1024, superblock: true }, Err((1024, 1536 + 37 * 512))),
    ];
    for (area, expected) in cases {
        let layout = Layout::new(&params, area).unwrap();
        let expected = expected.map_err(|(hash_start, hash_end)| ParamError::Overlap {
            data_end: 262_144,
            hash_start,
            hash_end,
        });
        assert_eq!(layout.check_one_device(), expected, "{area:?}");
    }
}
