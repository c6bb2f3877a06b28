//! Forward error correction: the golden images, random damage up to what the code can bear and
//! beyond, and devices that are not what they should be.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use block::access::Memory;
use block::fec::{Area, AreaError, Corrected, Corrector, Counted, Target, count, encode};
use block::verity::{BlockSize, HashArea, HashName, HashType, Layout, Params, Salt, Superblock};
use proptest::prelude::*;
use record::units::{DataBlock, HashBlock};

const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/devices").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// An image with its parity.
struct Image {
    area: Area,
    data: Vec<u8>,
    hash: Vec<u8>,
    fec: Vec<u8>,
}

/// Hash file, FEC file, roots, FEC offset, hash offset.
const IMAGES: &[(&str, &str, u64, u64, u64)] = &[
    ("v-fec2.hash", "v-fec2.fec", 2, 0, 0),
    ("v-fec24.hash", "v-fec24.fec", 24, 0, 0),
    ("v-fec13-1k.hash", "v-fec13-1k.fec", 13, 0, 0),
    ("v-onefec.img", "v-onefec.img", 8, 270_336, 262_144),
];

fn image(name: &str) -> Image {
    let &(hash, fec, roots, offset, hash_offset) =
        IMAGES.iter().find(|image| image.0 == name).unwrap();
    let (hash, fec) = (golden(hash), golden(fec));
    let at = usize::try_from(hash_offset).unwrap();
    let params = Superblock::read(&hash[at..]).unwrap().params;
    let layout = Layout::new(&params, HashArea { offset: hash_offset, superblock: true }).unwrap();
    let (data, covered_end) = match name {
        "v-onefec.img" => (hash.clone(), offset),
        _ => (golden("vdata-64x4k.img"), hash.len() as u64),
    };
    let area = Area::new(&layout, roots, offset, covered_end).unwrap();
    Image { area, data, hash, fec }
}

impl Image {
    /// Tries to correct a block of `damaged`; where that works the bytes are those of this image.
    fn correct(&self, damaged: &Image, target: Target) -> Option<Corrected> {
        let size = self.area.block_size().as_usize();
        let block = |target: Target| {
            let (device, number) = match target {
                Target::Data(block) => (&self.data, block.0),
                Target::Hash(block) => (&self.hash, block.0),
            };
            &device[usize::try_from(number).unwrap() * size..][..size]
        };
        let mut out = vec![0x5a; size];
        let corrected = Corrector::new(damaged.area.clone(), &damaged.fec).correct(
            &damaged.data,
            &damaged.hash,
            target,
            &mut |other, bytes| {
                assert_ne!(other, target);
                bytes != block(other)
            },
            &mut |bytes| bytes == block(target),
            &mut out,
        );
        assert!(corrected.is_none() || out == block(target));
        corrected
    }

    fn copy(&self) -> Image {
        let Image { area, data, hash, fec } = self;
        Image { area: area.clone(), data: data.clone(), hash: hash.clone(), fec: fec.clone() }
    }
}

#[test]
fn parity_is_that_of_veritysetup() {
    for (name, ..) in IMAGES {
        let image = image(name);
        let bytes = image.area.bytes();
        let (start, end) =
            (usize::try_from(bytes.start).unwrap(), usize::try_from(bytes.end).unwrap());
        assert_eq!(end, image.fec.len(), "{name}");
        let fec = Memory::default();
        let mut seen = 0;
        encode(&image.data, &image.hash, &fec, &image.area, TWO, &mut |done| {
            assert!(done >= seen);
            seen = done;
        })
        .unwrap();
        assert_eq!(seen, image.area.covered() * u64::from(image.area.block_size().bytes()));
        assert!(fec.into_bytes()[start..] == image.fec[start..], "{name}");
    }
}

#[test]
fn golden_eight_bytes_of_block_10() {
    for name in ["v-fec2.hash", "v-fec24.hash", "v-onefec.img"] {
        let image = image(name);
        let mut damaged = image.copy();
        damaged.data[80 * 512 + 17..][..8].copy_from_slice(b"CORRUPT!");
        let corrected = image.correct(&damaged, Target::Data(DataBlock(10)));
        assert_eq!(corrected, Some(Corrected { errors: 8 }), "{name}");
    }
}

#[test]
fn golden_blocks_10_to_13() {
    // In one row of v-fec2 four blocks are more than it can bear, in v-fec24 they are not.
    for (name, errors) in [("v-fec2.hash", None), ("v-fec24.hash", Some(4096))] {
        let image = image(name);
        let mut damaged = image.copy();
        damaged.data[10 * 4096..14 * 4096].iter_mut().for_each(|byte| *byte ^= 0xa5);
        for block in 10..14 {
            let corrected = image.correct(&damaged, Target::Data(DataBlock(block)));
            assert_eq!(corrected, errors.map(|errors| Corrected { errors }), "{name} {block}");
        }
    }
}

#[test]
fn a_hash_block_is_corrected_as_data_is() {
    for (name, block) in [("v-fec24.hash", 1), ("v-fec13-1k.hash", 5), ("v-onefec.img", 65)] {
        let image = image(name);
        let mut damaged = image.copy();
        let size = image.area.block_size().as_usize();
        let at = usize::try_from(block).unwrap() * size;
        damaged.hash[at + 104..at + 112].copy_from_slice(b"CORRUPT!");
        let corrected = image.correct(&damaged, Target::Hash(HashBlock(block)));
        assert_eq!(corrected, Some(Corrected { errors: 8 }), "{name}");
    }
    // The superblock is not covered.
    let image = image("v-fec24.hash");
    assert_eq!(image.correct(&image.copy(), Target::Hash(HashBlock(0))), None);
    assert_eq!(image.correct(&image.copy(), Target::Hash(HashBlock(2))), None);
    assert_eq!(image.correct(&image.copy(), Target::Data(DataBlock(64))), None);
}

#[test]
fn what_is_not_there_is_known_to_be_wrong() {
    let image = image("v-fec2.hash");
    let mut damaged = image.copy();
    // Block 62 is cut, block 63 missing: both erasures, as many as there are roots.
    damaged.data.truncate(62 * 4096 + 100);
    for block in [62, 63] {
        let corrected = image.correct(&damaged, Target::Data(DataBlock(block)));
        assert_eq!(corrected, Some(Corrected { errors: 4096 }));
    }
    damaged.data.truncate(62 * 4096);
    damaged.data[0] ^= 1;
    assert_eq!(image.correct(&damaged, Target::Data(DataBlock(0))), None);
    // Half of the parity: two roots interleaved, so the first half of the block has all of its.
    let mut damaged = image.copy();
    damaged.fec.truncate(4096);
    damaged.data[7] ^= 1;
    assert_eq!(image.correct(&damaged, Target::Data(DataBlock(0))), Some(Corrected { errors: 1 }));
    damaged.data[4000] ^= 1;
    assert_eq!(image.correct(&damaged, Target::Data(DataBlock(0))), None);
    damaged.fec.clear();
    assert_eq!(image.correct(&damaged, Target::Data(DataBlock(0))), None);
}

fn layout(data_blocks: u64, data_block_size: u64, hash_block_size: u64) -> Layout {
    let size = |bytes| BlockSize::new("block size", bytes).unwrap();
    let params = Params {
        hash_type: HashType::Normal,
        hash: HashName::parse("sha256").unwrap(),
        data_block_size: size(data_block_size),
        hash_block_size: size(hash_block_size),
        data_blocks,
        salt: Salt::default(),
    };
    Layout::new(&params, HashArea::default()).unwrap()
}

#[test]
fn absurd_areas_are_errors() {
    let small = layout(64, 4096, 4096);
    let area = |roots, offset, end| Area::new(&small, roots, offset, end);
    for roots in [0, 1, 25, 255, 256, u64::MAX] {
        assert_eq!(area(roots, 0, 8192), Err(AreaError::Roots { found: roots }));
    }
    assert_eq!(area(2, 100, 8192), Err(AreaError::Offset { found: 100 }));
    for offset in [u64::MAX - 511, i64::MAX as u64 - 511, i64::MAX as u64 - 8191] {
        assert_eq!(area(2, offset & !511, 8192), Err(AreaError::TooLarge), "{offset}");
    }
    let short = AreaError::TreeNotCovered { tree_end: 8192, covered_end: 8191 };
    assert_eq!(area(2, 0, 8191), Err(short));
    assert_eq!(area(2, 0, u64::MAX), Err(AreaError::TooLarge));
    let mixed = layout(64, 4096, 512);
    assert!(matches!(Area::new(&mixed, 2, 0, 1 << 20), Err(AreaError::BlockSizes { .. })));
    let huge = layout(1 << 43, 524_288, 524_288);
    assert_eq!(Area::new(&huge, 24, 0, i64::MAX as u64), Err(AreaError::TooLarge));
}

#[test]
fn a_huge_image_on_tiny_files_costs_nothing() {
    let layout = layout(1 << 48, 4096, 4096);
    let area = Area::new(&layout, 2, 0, layout.tree_bytes().end).unwrap();
    let empty: &[u8] = &[];
    let image = Corrector::new(area.clone(), &empty);
    let mut out = vec![0; 4096];
    for number in [0, 1, (1 << 48) - 1] {
        let target = Target::Data(DataBlock(number));
        let never = &mut |_: Target, _: &[u8]| -> bool { unreachable!("there is nothing") };
        assert_eq!(image.correct(&empty, &empty, target, never, &mut |_| true, &mut out), None);
    }
    let fec = Memory::default();
    assert!(encode(&empty, &empty, &fec, &area, TWO, &mut |_| {}).is_err());
    assert!(fec.into_bytes().is_empty());
}

#[test]
fn the_smallest_and_the_largest_blocks_also_without_a_tree() {
    for (size, blocks) in [(512, 1), (524_288, 1), (512, 40_000)] {
        let layout = layout(blocks, size, size);
        assert_eq!(layout.tree_bytes().is_empty(), blocks == 1);
        let mut numbers = Numbers(size);
        let data = numbers.bytes(usize::try_from(blocks * size).unwrap());
        let hash = numbers.bytes(usize::try_from(layout.tree_bytes().end).unwrap());
        for roots in [2, 24] {
            let area = Area::new(&layout, roots, 512, hash.len() as u64).unwrap();
            let fec = Memory::default();
            encode(&data, &hash, &fec, &area, TWO, &mut |_| {}).unwrap();
            let fec = fec.into_bytes();
            let good = Image { area, data: data.clone(), hash: hash.clone(), fec };
            let mut bad = good.copy();
            let block = usize::try_from(size).unwrap();
            bad.data[data.len() - block..].iter_mut().for_each(|byte| *byte ^= 0x99);
            let corrected = good.correct(&bad, Target::Data(DataBlock(blocks - 1)));
            let errors = u32::try_from(size).unwrap();
            assert_eq!(corrected, Some(Corrected { errors }), "{size} x {blocks}, {roots}");
            assert_eq!(
                count(&bad.data, &bad.hash, &bad.fec, &bad.area, TWO).unwrap(),
                Counted::Errors(size)
            );
        }
    }
}

#[test]
fn several_threads_may_ask_at_once() {
    let image = image("v-fec24.hash");
    let mut damaged = image.copy();
    damaged.data[..12 * 4096].fill(0x33);
    std::thread::scope(|scope| {
        for block in 0..12 {
            let (image, damaged) = (&image, &damaged);
            scope.spawn(move || {
                assert!(image.correct(damaged, Target::Data(DataBlock(block))).is_some());
            });
        }
    });
}

#[test]
fn golden_errors_are_counted_as_veritysetup_counts_them() {
    let mut image = image("v-fec2.hash");
    let counted =
        |image: &Image| count(&image.data, &image.hash, &image.fec, &image.area, TWO).unwrap();
    assert_eq!(counted(&image), Counted::Errors(0));
    image.data[40_977..40_985].copy_from_slice(b"CORRUPT!");
    assert_eq!(counted(&image), Counted::Errors(8));
    image.data[10 * 4096..14 * 4096].copy_from_slice(&Numbers(1).bytes(4 * 4096));
    assert_eq!(counted(&image), Counted::Beyond { row: 0 });
}

/// How an image is damaged.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Any symbols of each codeword of the row, parity too, so many.
    Symbols(usize),
    /// Whole blocks of the row, so many.
    Blocks(usize),
}

#[derive(Debug)]
struct Case {
    roots: u64,
    blocks: u64,
    extra: usize,
    seed: u64,
    target: u64,
}

fn case() -> impl Strategy<Value = Case> {
    (2..=24_u64, 1..=700_u64, 0..20_usize, any::<u64>(), any::<u64>()).prop_map(
        |(roots, blocks, extra, seed, target)| Case { roots, blocks, extra, seed, target },
    )
}

/// Numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(count).collect()
    }

    /// `count` different numbers below `end`, or as many as there are.
    fn choose(&mut self, count: usize, end: usize) -> Vec<usize> {
        let mut left: Vec<usize> = (0..end).collect();
        (0..count.min(end)).map(|_| left.swap_remove(self.below(left.len()))).collect()
    }
}

impl Case {
    /// A block of 512 bytes each, so that a case is quick; parity after 1,024 other bytes.
    fn image(&self) -> Image {
        const OFFSET: u64 = 1024;
        let layout = layout(self.blocks, 512, 512);
        let mut numbers = Numbers(self.seed);
        let tree_end = usize::try_from(layout.tree_bytes().end).unwrap();
        let data = numbers.bytes(usize::try_from(self.blocks).unwrap() * 512);
        let hash = numbers.bytes(tree_end + self.extra * 512);
        let area = Area::new(&layout, self.roots, OFFSET, hash.len() as u64).unwrap();
        let fec = Memory::default();
        encode(&data, &hash, &fec, &area, TWO, &mut |_| {}).unwrap();
        Image { area, data, hash, fec: fec.into_bytes() }
    }

    /// The message blocks that share codewords with one, that one first.
    fn row(&self, area: &Area, numbers: &mut Numbers) -> (u64, Vec<u64>) {
        let rounds = area.parity_blocks() / self.roots;
        let target = self.target % area.covered();
        let row = target % rounds;
        let mut others: Vec<u64> =
            (row..area.covered()).step_by(usize::try_from(rounds).unwrap()).collect();
        others.retain(|block| *block != target);
        let mut blocks = vec![target];
        for at in numbers.choose(others.len(), others.len()) {
            blocks.push(others[at]);
        }
        (row, blocks)
    }

    fn target(&self, number: u64) -> Target {
        if number < self.blocks {
            Target::Data(DataBlock(number))
        } else {
            // The superblock has the first block of the hash device.
            Target::Hash(HashBlock(number - self.blocks + 1))
        }
    }

    fn damage(&self, image: &Image, damage: Damage) -> (Image, Target) {
        let mut numbers = Numbers(self.seed ^ 0xda);
        let mut damaged = image.copy();
        let (row, blocks) = self.row(&image.area, &mut numbers);
        match damage {
            Damage::Blocks(count) => {
                for number in &blocks[..count] {
                    let other = numbers.bytes(512);
                    let block = damaged.block(self.target(*number));
                    block.iter_mut().zip(other).for_each(|(byte, other)| *byte ^= other | 1);
                }
            }
            Damage::Symbols(count) => {
                let parity = usize::try_from(row * 512 * self.roots).unwrap() + 1024;
                let roots = usize::try_from(self.roots).unwrap();
                for codeword in 0..512 {
                    for symbol in numbers.choose(count, blocks.len() + roots) {
                        let change = u8::try_from(numbers.below(255)).unwrap() + 1;
                        match blocks.get(symbol) {
                            Some(number) => damaged.block(self.target(*number))[codeword] ^= change,
                            None => {
                                damaged.fec[parity + codeword * roots + symbol - blocks.len()] ^=
                                    change;
                            }
                        }
                    }
                }
            }
        }
        (damaged, self.target(blocks[0]))
    }
}

impl Image {
    fn block(&mut self, target: Target) -> &mut [u8] {
        let (device, number) = match target {
            Target::Data(block) => (&mut self.data, block.0),
            Target::Hash(block) => (&mut self.hash, block.0),
        };
        &mut device[usize::try_from(number).unwrap() * 512..][..512]
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn as_many_errors_as_half_the_roots_are_corrected_anywhere(case in case(), fewer in 0..3_usize) {
        let image = case.image();
        let errors = usize::try_from(case.roots / 2).unwrap().saturating_sub(fewer);
        let (mut damaged, target) = case.damage(&image, Damage::Symbols(errors));
        let wrong = damaged.block(target).iter().zip(image.copy().block(target)).filter(|(a, b)| a != b).count();
        let corrected = image.correct(&damaged, target);
        prop_assert_eq!(corrected.map(|corrected| corrected.errors as usize), Some(wrong));
    }

    #[test]
    fn as_many_bad_blocks_as_roots_are_corrected_and_one_more_is_not(case in case(), fewer in 0..24_usize) {
        let image = case.image();
        let roots = usize::try_from(case.roots).unwrap();
        let row = case.row(&image.area, &mut Numbers(0)).1.len();
        let bad = roots.min(row).saturating_sub(fewer).max(1);
        let (damaged, target) = case.damage(&image, Damage::Blocks(bad));
        prop_assert_eq!(image.correct(&damaged, target), Some(Corrected { errors: 512 }));
        if row > roots {
            let (damaged, target) = case.damage(&image, Damage::Blocks(roots + 1));
            prop_assert_eq!(image.correct(&damaged, target), None);
        }
    }

    #[test]
    fn any_parity_is_survived(case in case(), length in 0..9000_usize) {
        let image = case.image();
        let mut damaged = image.copy();
        damaged.fec = Numbers(case.seed ^ 1).bytes(length);
        let (mut damaged, target) = case.damage(&damaged, Damage::Blocks(1));
        let before = damaged.block(target).to_vec();
        // Nothing to be proven right: nothing is corrected, nothing breaks.
        let mut out = vec![0; 512];
        let corrector = Corrector::new(damaged.area.clone(), &damaged.fec);
        let corrected = corrector.correct(
            &damaged.data, &damaged.hash, target, &mut |_, _| true, &mut |bytes| bytes == before, &mut out,
        );
        prop_assert!(corrected.is_none() || out == before);
    }
}
