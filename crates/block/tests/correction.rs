//! Damaged images with parity, read by one thread and by many: what comes is right, or does not
//! come.

#![allow(clippy::unwrap_used)]

mod images;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Mutex;
use std::thread;

use block::access::Memory;
use block::fec::{Area, Corrector, encode};
use block::verity::{Blocks, Device, Health, Notice, Policy, ReadError};
use images::{FORMATS, Failing, Image, Random, make};
use proptest::prelude::*;
use record::units::DataBlock;

/// The parity of an image whose data and hash blocks have one size.
fn parity(image: &Image, roots: u64) -> (Area, Vec<u8>) {
    let area = Area::new(&image.layout(), roots, 0, image.hash.len() as u64).unwrap();
    let fec = Memory::default();
    let threads = NonZeroUsize::new(1).unwrap();
    encode(&image.data, &image.hash, &fec, &area, threads, &mut |_| {}).unwrap();
    (area, fec.into_bytes())
}

/// The number in the message of a data block or of a tree block, and how many rows there are.
fn rows(image: &Image, roots: u64) -> (u64, u64, u64) {
    let layout = image.layout();
    let size = u64::from(image.params.data_block_size.bytes());
    let first = layout.tree_bytes().start / size;
    let covered = image.params.data_blocks + image.hash.len() as u64 / size - first;
    (covered.div_ceil(255 - roots), first, size)
}

/// One way to spoil a block.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Bit,
    All,
    Unreadable,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Within half the roots in each row everything is read, and nothing is a violation; beyond,
    /// each block is right or refused. Reading never counts a fault twice or as both.
    #[test]
    fn damage_is_corrected_or_refused(
        number in prop::sample::select(vec![0_usize, 1, 4, 7, 8]),
        roots in 2..=24_u64,
        harm in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::sample::select(vec![Harm::Bit, Harm::All, Harm::Unreadable])),
            0..40,
        ),
        bounded: bool,
    ) {
        let mut image = make(number);
        let good = image.data.clone();
        let (area, fec) = parity(&image, roots);
        let (rounds, hash_start, size) = rows(&image, roots);
        let blocks = image.params.data_blocks;
        let total = blocks + image.hash.len() as u64 / size - hash_start;
        let mut spoilt = BTreeSet::new();
        let mut unreadable: [Vec<Range<u64>>; 2] = Default::default();
        let mut per_row = vec![0; usize::try_from(rounds).unwrap()];
        for (index, how) in harm {
            let block = index.index(usize::try_from(total).unwrap()) as u64;
            let row = &mut per_row[usize::try_from(block % rounds).unwrap()];
            if (bounded && *row == roots / 2) || !spoilt.insert(block) {
                continue;
            }
            *row += 1;
            let (bytes, device, at) = if block < blocks {
                (&mut image.data, 0, block * size)
            } else {
                (&mut image.hash, 1, (block - blocks + hash_start) * size)
            };
            let start = usize::try_from(at).unwrap();
            match how {
                Harm::Bit => bytes[start + 3] ^= 4,
                Harm::All => {
                    let mut random = Random(block + 1);
                    let block = &mut bytes[start..start + usize::try_from(size).unwrap()];
                    block.fill_with(|| random.next().to_le_bytes()[3]);
                }
                Harm::Unreadable => unreadable[device].push(at..at + size),
            }
        }
        let [no_data, no_hash] = unreadable;
        let failing = |bytes, unreadable| {
            let bytes: &[u8] = bytes;
            Failing { bytes, end: bytes.len(), unreadable }
        };
        let (data, hash) = (failing(&image.data, no_data), failing(&image.hash, no_hash));
        let fec = failing(&fec, vec![]);
        let device = Device::new(image.volume(&data, &hash))
            .with_correction(Corrector::new(area, &fec));
        let block_size = usize::try_from(size).unwrap();
        let (mut notices, mut refused, mut io_errors) = (Vec::new(), 0, 0);
        for block in 0..blocks {
            let mut buf = vec![0; block_size];
            match device.read(DataBlock(block), &mut buf, &mut |notice| notices.push(notice)) {
                Ok(()) => {
                    let at = usize::try_from(block).unwrap() * block_size;
                    prop_assert!(buf == good[at..at + block_size], "block {}", block);
                }
                Err(ReadError::Refused(_)) => refused += 1,
                Err(ReadError::Io { .. }) => io_errors += 1,
                Err(error) => panic!("{error}"),
            }
        }
        let counts = device.counts();
        prop_assert_eq!((counts.mismatches, counts.io_errors), (refused, io_errors));
        prop_assert_eq!(counts.corrected, notices.len() as u64);
        if bounded {
            prop_assert_eq!((refused, io_errors, device.health()), (0, 0, Health::Clean));
            // Each spoilt block was told of once, and no other was. One of a hash area without a
            // block on any path stays unseen.
            let told: BTreeSet<u64> = notices
                .iter()
                .map(|notice| match notice {
                    Notice::Corrected { finding, .. } => match &finding.blocks {
                        Blocks::Data(blocks) => blocks.start.0,
                        Blocks::Hash { blocks: hash, .. } => blocks + hash.start.0 - hash_start,
                    },
                    notice => panic!("{notice:?}"),
                })
                .collect();
            prop_assert_eq!(told.len(), notices.len());
            prop_assert_eq!(told, spoilt);
        }
    }
}

#[test]
fn every_format_of_the_list_that_can_have_parity_is_tried() {
    let equal = (0..FORMATS.len()).filter(|&number| FORMATS[number].2 == FORMATS[number].3);
    assert_eq!(equal.collect::<Vec<_>>(), [0, 1, 4, 7, 8]);
}

/// Whoever ignores corruption still gets right data where it can be had.
#[test]
fn correction_comes_before_tolerance() {
    let mut image = make(0);
    let good = image.data.clone();
    let (area, fec) = parity(&image, 2);
    image.data[5 * 512] ^= 1;
    let policy = Policy { ignore_corruption: true, ..Policy::default() };
    let device = Device::with_policy(image.volume(&image.data, &image.hash), policy)
        .unwrap()
        .with_correction(Corrector::new(area, &fec));
    let (mut buf, mut notices) = (vec![0; 10 * 512], Vec::new());
    device.read(DataBlock(0), &mut buf, &mut |notice| notices.push(notice)).unwrap();
    assert!(buf == good[..10 * 512]);
    assert!(matches!(notices[..], [Notice::Corrected { block: DataBlock(5), errors: 1, .. }]));
    assert_eq!(device.health(), Health::Clean);
}

/// Eight threads, hash blocks and data blocks that need correction: everything read is right, each
/// hash block is told of once, each read of a bad data block once.
#[test]
fn eight_threads_are_told_of_a_hash_block_once() {
    let mut image = make(0);
    let good = image.data.clone();
    let (area, fec) = parity(&image, 8);
    let layout = image.layout();
    for index in [0, 3, 11] {
        let place = layout.hash_block(0, index);
        let start = usize::try_from(place.0 * 512).unwrap();
        image.hash[start + 7] ^= 0x80;
    }
    let bad = [3_u64, 100, 250];
    for block in bad {
        image.data[usize::try_from(block).unwrap() * 512] ^= 1;
    }
    let device = Device::new(image.volume(&image.data, &image.hash))
        .with_correction(Corrector::new(area, &fec));
    let all: Mutex<(u64, Vec<Notice>)> = Mutex::default();
    thread::scope(|scope| {
        for thread in 0..8 {
            let (device, all, good) = (&device, &all, &good);
            scope.spawn(move || {
                let mut random = Random(thread + 1);
                let (mut due, mut notices, mut scratch) = (0, Vec::new(), Vec::new());
                for _ in 0..300 {
                    let start = random.below(300 * 512);
                    let end = (start + 1 + random.below(4000)).min(300 * 512);
                    let mut buf = vec![0; usize::try_from(end - start).unwrap()];
                    let tell = &mut |notice| notices.push(notice);
                    device.read_at(start, &mut buf, &mut scratch, tell).unwrap();
                    let at = usize::try_from(start).unwrap();
                    assert!(buf == good[at..at + buf.len()]);
                    let blocks = start / 512..end.div_ceil(512);
                    due += bad.iter().filter(|block| blocks.contains(block)).count() as u64;
                }
                let mut all = all.lock().unwrap();
                all.0 += due;
                all.1.extend(notices);
            });
        }
    });
    let (due, notices) = all.into_inner().unwrap();
    let is_hash = |notice: &&Notice| matches!(notice, Notice::Corrected { finding, .. } if matches!(finding.blocks, Blocks::Hash { .. }));
    assert_eq!(notices.iter().filter(is_hash).count(), 3);
    assert_eq!(notices.len() as u64, due + 3);
    assert_eq!((device.counts().corrected, device.health()), (due + 3, Health::Clean));
}
