//! The tree against a naive one, the golden trees of veritysetup, and absurd shapes.

#![allow(clippy::unwrap_used)] // Also in the functions that the tests share.

use std::convert::Infallible;

use lanes::{
    Algorithm, BlockHasher, SaltPosition,
    tree::{BuildError, Builder, Geometry, GeometryError, Packing},
};
use proptest::prelude::*;

/// A tree's bytes in disk order and its root, by the book: whole levels at once.
fn naive(
    hasher: &BlockHasher,
    leaves: &[Vec<u8>],
    hash_block_size: usize,
    slot_size: usize,
) -> (Vec<u8>, Vec<u8>) {
    let mut fanout = 1;
    while fanout * 2 * hasher.digest_size() <= hash_block_size {
        fanout *= 2;
    }
    let mut levels: Vec<Vec<u8>> = Vec::new();
    let mut digests = leaves.to_vec();
    while digests.len() > 1 {
        let blocks: Vec<Vec<u8>> = digests
            .chunks(fanout)
            .map(|chunk| {
                let mut block = Vec::new();
                for digest in chunk {
                    block.extend_from_slice(digest);
                    block.resize(block.len() + slot_size - digest.len(), 0);
                }
                block.resize(hash_block_size, 0);
                block
            })
            .collect();
        digests = blocks
            .iter()
            .map(|block| {
                let mut digest = vec![0; hasher.digest_size()];
                hasher.hash_one(block, &mut digest);
                digest
            })
            .collect();
        levels.push(blocks.concat());
    }
    levels.reverse();
    (levels.concat(), digests.concat())
}

/// A tree's bytes in disk order and its root, leaves pushed `step` at a time.
fn built(
    geometry: &Geometry,
    hasher: &BlockHasher,
    leaves: &[Vec<u8>],
    step: usize,
) -> (Vec<u8>, Vec<u8>) {
    let size = geometry.hash_block_size();
    let mut disk = vec![0xee; usize::try_from(geometry.bytes()).unwrap()];
    let mut next = vec![0; geometry.levels()];
    let mut emit = |level: usize, index: u64, block: &[u8]| {
        assert_eq!(index, next[level], "blocks of a level come in order, once each");
        next[level] += 1;
        let at = usize::try_from(geometry.level_start(level) + index).unwrap() * size;
        disk[at..at + size].copy_from_slice(block);
        Ok::<(), Infallible>(())
    };
    let mut builder = Builder::new(geometry, hasher);
    for leaves in leaves.chunks(step) {
        builder.push(&leaves.concat(), &mut emit).unwrap();
    }
    let root = builder.finish(&mut emit).unwrap();
    let blocks: Vec<u64> =
        (0..geometry.levels()).map(|level| geometry.level_blocks(level)).collect();
    assert_eq!(next, blocks, "every block of every level was given");
    (disk, root)
}

fn leaves(hasher: &BlockHasher, count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|leaf| {
            let mut digest = vec![0; hasher.digest_size()];
            hasher.hash_one(&leaf.to_le_bytes(), &mut digest);
            digest
        })
        .collect()
}

proptest! {
    #[test]
    fn the_builder_equals_the_naive_tree(
        algorithm in prop::sample::select(Algorithm::ALL),
        packed in any::<bool>(),
        hash_bits in 7u32..13,
        count in 0usize..700,
        step in 1usize..100,
        salt in prop::collection::vec(any::<u8>(), 0..70),
    ) {
        let packing = if packed { Packing::Packed } else { Packing::Padded };
        let hasher = BlockHasher::new(algorithm, &salt, SaltPosition::Before);
        let geometry =
            Geometry::new(count as u64, 1 << hash_bits, algorithm.digest_size(), packing).unwrap();
        let leaves = leaves(&hasher, count);
        let (disk, root) = built(&geometry, &hasher, &leaves, step);
        if count == 0 {
            prop_assert_eq!((disk, root), (vec![], vec![0; algorithm.digest_size()]));
            return Ok(());
        }
        let (want_disk, want_root) = naive(&hasher, &leaves, 1 << hash_bits, geometry.slot_size());
        prop_assert_eq!(&root, &want_root);
        prop_assert!(disk == want_disk);

        // Each digest stands where its position says, and the tree verifies along every path.
        for block in [0, count / 3, count - 1] {
            let mut want = leaves[block].clone();
            for position in geometry.path(block as u64) {
                let at = usize::try_from(position.hash_block).unwrap() << hash_bits;
                let hash_block = &disk[at..at + (1 << hash_bits)];
                prop_assert_eq!(&hash_block[geometry.slot(position.slot)], &want[..]);
                prop_assert_eq!(
                    geometry.locate(position.hash_block),
                    Some((position.level, position.index))
                );
                prop_assert!(geometry.covered(position.level, position.index).contains(&(block as u64)));
                prop_assert!(position.slot < geometry.digests(position.level, position.index));
                hasher.hash_one(hash_block, &mut want);
            }
            prop_assert_eq!(want, root.clone());
        }
    }

    #[test]
    fn any_shape_has_a_consistent_geometry_or_none(
        data_blocks in prop_oneof![any::<u64>(), 0u64..5, (0u32..64).prop_map(|bits| 1 << bits)],
        hash_bits in 0u32..32,
        digest_size in 1usize..=64,
        packed in any::<bool>(),
    ) {
        let packing = if packed { Packing::Packed } else { Packing::Padded };
        let Ok(geometry) = Geometry::new(data_blocks, 1 << hash_bits, digest_size, packing) else {
            prop_assert!(1 << hash_bits < 2 * digest_size || data_blocks > 1 << 52);
            return Ok(());
        };
        prop_assert!(geometry.levels() <= 63);
        prop_assert!(geometry.bytes() < 1 << 63);
        prop_assert!(geometry.per_block() * geometry.slot_size() <= geometry.hash_block_size());
        let levels = geometry.levels();
        let mut end = 0;
        for level in (0..levels).rev() {
            prop_assert_eq!(geometry.level_start(level), end);
            let blocks = geometry.level_blocks(level);
            end += blocks;
            prop_assert_eq!(geometry.covered(level, 0).start, 0);
            prop_assert_eq!(geometry.covered(level, blocks - 1).end, data_blocks);
            if blocks > 1 {
                let middle = geometry.covered(level, 0).end;
                prop_assert_eq!(geometry.covered(level, 1).start, middle);
                prop_assert_eq!(geometry.position(middle - 1, level).index, 0);
                prop_assert_eq!(geometry.position(middle, level).index, 1);
                prop_assert_eq!(geometry.digests(level, 0), geometry.per_block());
            }
            let last = geometry.position(data_blocks - 1, level);
            prop_assert_eq!(last.index, blocks - 1);
            prop_assert_eq!(last.slot + 1, geometry.digests(level, blocks - 1));
        }
        prop_assert_eq!(geometry.blocks(), end);
        prop_assert_eq!(geometry.locate(end), None);
        prop_assert_eq!(levels == 0, data_blocks < 2);
        if levels > 0 {
            prop_assert_eq!(geometry.level_blocks(levels - 1), 1);
        }
    }
}

#[test]
fn shapes_that_cannot_be_are_refused() {
    let shape = |data_blocks, hash_block_size, digest_size| {
        Geometry::new(data_blocks, hash_block_size, digest_size, Packing::Padded).unwrap_err()
    };
    assert_eq!(shape(8, 4095, 32), GeometryError::NotPowerOfTwo { hash_block_size: 4095 });
    assert_eq!(shape(8, 0, 32), GeometryError::NotPowerOfTwo { hash_block_size: 0 });
    assert_eq!(shape(8, 64, 48), GeometryError::TooNarrow { hash_block_size: 64, digest_size: 48 });
    assert_eq!(shape(u64::MAX, 4096, 32), GeometryError::TooLarge { data_blocks: u64::MAX });
    assert_eq!(shape(1 << 60, 512, 64), GeometryError::TooLarge { data_blocks: 1 << 60 });
    assert!(Geometry::new(1 << 50, 512, 64, Packing::Padded).is_ok());
}

#[test]
fn a_builder_counts_its_digests() {
    let hasher = BlockHasher::new(Algorithm::Sha256, b"", SaltPosition::Before);
    let geometry = Geometry::new(3, 4096, 32, Packing::Padded).unwrap();
    let mut emit = |_: usize, _: u64, _: &[u8]| Err("disk full");

    let mut builder = Builder::new(&geometry, &hasher);
    builder.push(&[1; 64], &mut emit).unwrap();
    assert_eq!(builder.push(&[1; 64], &mut emit), Err(BuildError::Count { expected: 3, given: 4 }));
    assert_eq!(builder.finish(&mut emit), Err(BuildError::Count { expected: 3, given: 2 }));

    let mut builder = Builder::new(&geometry, &hasher);
    builder.push(&[1; 96], &mut emit).unwrap();
    assert_eq!(builder.finish(&mut emit), Err(BuildError::Emit("disk full")));
}

/// A tree that `veritysetup format` wrote; parameters from tests/golden/devices/README.md.
struct Golden {
    file: &'static str,
    algorithm: Algorithm,
    packing: Packing,
    data_block_size: usize,
    hash_block_size: usize,
    salt: &'static [u8],
    root: &'static str,
}

#[test]
fn the_golden_trees_come_out_byte_for_byte() {
    use Algorithm::{Sha1, Sha256, Sha512};
    use Packing::{Packed, Padded};
    let golden = |file, algorithm, packing, data_block_size, hash_block_size, salt, root| Golden {
        file,
        algorithm,
        packing,
        data_block_size,
        hash_block_size,
        salt,
        root,
    };
    #[rustfmt::skip]
    let cases = [
        golden("v-sha256", Sha256, Padded, 4096, 4096,
            &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31],
            "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15"),
        golden("v-nosalt", Sha256, Padded, 4096, 4096, &[],
            "07d905d8fcaa7ebade256623ee5f6499600e94d5a7ed241d77172fc156edadb3"),
        golden("v-sha1-t0", Sha1, Packed, 4096, 4096,
            &[0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99],
            "d48390c62074ad16085bf641e861938efa17581f"),
        golden("v-sha1-t1", Sha1, Padded, 4096, 4096,
            &[0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99],
            "f3f99771c193298ca97b7eedd2c592b1b0241a25"),
        golden("v-sha512-1k512", Sha512, Padded, 1024, 512, &[0x5a],
            "9580272a638395a09352a7fc441a9bafbc1007a1d739e3a3760cc9d6048c2536d8226e2466b271f9711ee5b28de12b3a00672013408dc4f072006f64f29db902"),
        golden("v-sha256-d512-h1k", Sha256, Padded, 512, 1024, &[0x0b, 0xad, 0xca, 0xfe],
            "90655735a0ef747bba6ef06a02af374403325dc27593b7ef8156e105fc192777"),
        golden("v-nosb", Sha256, Padded, 4096, 4096, &[0x12, 0x34],
            "d4d1d6840f838e03c624471254b8e013d2719cea4f945b5167607abd8347845e"),
        golden("v-fec13-1k", Sha256, Padded, 1024, 1024, &[0xfe, 0xed],
            "982823c77c5360d77b63b09a22b8cafee795db6a1e2efcf0d2b9fdb64f7c28e1"),
    ];
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/devices");
    let data = std::fs::read(format!("{directory}/vdata-64x4k.img")).unwrap();
    for case in cases {
        let position = match case.packing {
            Padded => SaltPosition::Before,
            Packed => SaltPosition::After,
        };
        let hasher = BlockHasher::new(case.algorithm, case.salt, position);
        let size = hasher.digest_size();
        let blocks = data.len() / case.data_block_size;
        let mut digests = vec![0; blocks * size];
        hasher.hash_blocks(&data, case.data_block_size, &mut digests);
        let leaves: Vec<Vec<u8>> = digests.chunks(size).map(<[u8]>::to_vec).collect();
        let geometry =
            Geometry::new(blocks as u64, case.hash_block_size, size, case.packing).unwrap();
        let (disk, root) = built(&geometry, &hasher, &leaves, 7);

        let hex: String = root.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, case.root, "root of {}", case.file);
        let file = std::fs::read(format!("{directory}/{}.hash", case.file)).unwrap();
        // The tree ends the file; a superblock of one hash block or more may stand before it.
        assert!(file.ends_with(&disk), "tree of {}", case.file);
    }
}
