//! Images with faults in them: every one is found and named, and nothing else is.

#![allow(clippy::unwrap_used)]

mod images;

use std::io;
use std::num::NonZeroUsize;
use std::ops::{ControlFlow, Range};

use block::access::{Memory, ReadAt, WriteAt};
use block::verity::{Blocks, Device, Digest, Fault, Finding, ReadError, Volume, Watch, format};
use images::{FORMATS, Failing, Image, Random, make};
use proptest::prelude::*;
use record::units::{DataBlock, HashBlock};
use uuid::Uuid;

fn found(image: &Image, threads: usize) -> Vec<Finding> {
    findings(&image.data, &image.hash, image, threads)
}

fn findings(data: &impl ReadAt, hash: &impl ReadAt, image: &Image, threads: usize) -> Vec<Finding> {
    let volume = Volume::open(data, hash, &image.params, image.area, &image.root).unwrap();
    let mut list = List::default();
    let summary = volume.verify(NonZeroUsize::new(threads).unwrap(), &mut list);
    let kept: u64 = list
        .0
        .iter()
        .filter(|finding| finding.fault != Fault::SpareNotZero)
        .map(|finding| finding.data_blocks().end.0 - finding.data_blocks().start.0)
        .sum();
    assert_eq!(summary.good + kept, image.params.data_blocks);
    assert_eq!(list.1, image.params.data_blocks, "progress reaches the end");
    list.0
}

#[derive(Default)]
struct List(Vec<Finding>, u64);

impl Watch for List {
    fn found(&mut self, finding: &Finding) -> ControlFlow<()> {
        self.0.push(finding.clone());
        ControlFlow::Continue(())
    }

    fn progress(&mut self, done: u64) {
        assert!(done >= self.1);
        self.1 = done;
    }
}

#[test]
fn ten_thousand_flipped_bits_are_each_named_by_their_block() {
    let mut random = Random(0x5eed);
    let mut flips = 0;
    while flips < 10_000 {
        for number in 0..FORMATS.len() {
            let mut image = make(number);
            let layout = image.layout();
            let tree = layout.tree_bytes();
            let blocks = tree.end - tree.start;
            for flip in 0..10_000 / FORMATS.len() + 1 {
                // Half into the data, half into the tree, which is far smaller.
                let in_tree = blocks > 0 && flip % 2 == 0;
                let bit = random.below(8);
                let (bytes, at, expected) = if in_tree {
                    let at = tree.start + random.below(blocks);
                    let block = (at - tree.start) / u64::from(image.params.hash_block_size.bytes());
                    let (level, index) = layout.geometry().locate(block).unwrap();
                    let covers = layout.geometry().covered(level, index);
                    let block = layout.hash_block(level, index);
                    let blocks = Blocks::Hash {
                        level,
                        blocks: block..HashBlock(block.0 + 1),
                        covers: DataBlock(covers.start)..DataBlock(covers.end),
                    };
                    (&mut image.hash, at, blocks)
                } else {
                    let at = random.below(layout.data_bytes());
                    let block = image.params.data_block_size.whole_blocks(at);
                    (&mut image.data, at, Blocks::Data(DataBlock(block)..DataBlock(block + 1)))
                };
                let at = usize::try_from(at).unwrap();
                bytes[at] ^= 1 << bit;
                let found = found(&image, 1);
                assert_eq!(
                    found,
                    [Finding { fault: Fault::Mismatch, blocks: expected }],
                    "format {number}, byte {at} of the {}",
                    if in_tree { "tree" } else { "data" }
                );
                let bytes = if in_tree { &mut image.hash } else { &mut image.data };
                bytes[at] ^= 1 << bit;
                flips += 1;
            }
            assert_eq!(found(&image, 1), []);
        }
    }
}

/// What is the matter with a data block, told by nothing but the format's definition.
fn oracle(image: &Image, data: &Failing<'_>, hash: &Failing<'_>, block: u64) -> Option<Finding> {
    let layout = image.layout();
    let geometry = layout.geometry();
    let hasher = image.params.hasher();
    let judge = |device: &Failing<'_>, range: Range<u64>, want: &[u8]| {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
        let fault = match device.read_full(&mut bytes, range.start) {
            Err(_) => Some(Fault::Unreadable { errno: 5 }),
            Ok(read) if read < bytes.len() => Some(Fault::Missing),
            Ok(_) => {
                let mut digest = vec![0; want.len()];
                hasher.hash_one(&bytes, &mut digest);
                (digest != want).then_some(Fault::Mismatch)
            }
        };
        (fault, bytes)
    };
    let mut want = image.root.as_bytes().to_vec();
    for position in geometry.path(block).rev() {
        let place = layout.hash_block(position.level, position.index);
        let place = place..HashBlock(place.0 + 1);
        let (fault, bytes) = judge(hash, layout.hash_range(&place), &want);
        if let Some(fault) = fault {
            let covers = geometry.covered(position.level, position.index);
            let covers = DataBlock(covers.start)..DataBlock(covers.end);
            let blocks = Blocks::Hash { level: position.level, blocks: place, covers };
            return Some(Finding { fault, blocks });
        }
        want = bytes[geometry.slot(position.slot)].to_vec();
    }
    let blocks = DataBlock(block)..DataBlock(block + 1);
    let (fault, _) = judge(data, layout.data_range(&blocks), &want);
    fault.map(|fault| Finding { fault, blocks: Blocks::Data(blocks) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any mix of flipped bits, unreadable places and early ends: each data block has the
    /// finding that the format's definition gives it, findings come in order and do not
    /// touch, and a device answers and refuses accordingly.
    #[test]
    fn whatever_is_wrong_each_block_gets_its_due(
        number in 0..FORMATS.len(),
        data_flips in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        hash_flips in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        data_holes in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        hash_holes in prop::collection::vec(any::<prop::sample::Index>(), 0..2),
        data_end in prop::option::of(any::<prop::sample::Index>()),
        hash_end in prop::option::of(any::<prop::sample::Index>()),
        threads in 1..4usize,
    ) {
        let mut image = make(number);
        for flip in data_flips {
            let at = flip.index(image.data.len());
            image.data[at] ^= 0x10;
        }
        for flip in hash_flips {
            let at = flip.index(image.hash.len());
            image.hash[at] ^= 0x10;
        }
        let failing = |bytes, holes: Vec<prop::sample::Index>, end: Option<prop::sample::Index>| {
            let bytes: &[u8] = bytes;
            let unreadable = holes.iter().map(|hole| {
                let at = hole.index(bytes.len()) as u64;
                at..at + 600
            });
            let end = end.map_or(bytes.len(), |end| end.index(bytes.len()));
            Failing { bytes, end, unreadable: unreadable.collect() }
        };
        let data = failing(&image.data, data_holes, data_end);
        let hash = failing(&image.hash, hash_holes, hash_end);
        let found = findings(&data, &hash, &image, threads);
        let layout = image.layout();

        for block in 0..image.params.data_blocks {
            let here: Vec<_> = found
                .iter()
                .filter(|finding| {
                    let blocks = finding.data_blocks();
                    blocks.start.0 <= block && block < blocks.end.0
                })
                .collect();
            match oracle(&image, &data, &hash, block) {
                None => prop_assert_eq!(here, Vec::<&Finding>::new()),
                Some(due) => {
                    prop_assert_eq!(here.len(), 1);
                    prop_assert_eq!(here[0].fault, due.fault);
                    prop_assert!(includes(&here[0].bytes(&layout), &due.bytes(&layout)));
                    prop_assert!(level(here[0]) == level(&due));
                }
            }
        }
        for pair in found.windows(2) {
            prop_assert!(pair[0].data_blocks().end <= pair[1].data_blocks().start);
        }

        let volume = Volume::open(&data, &hash, &image.params, image.area, &image.root).unwrap();
        let device = Device::new(volume);
        let size = image.params.data_block_size.as_usize();
        for block in 0..image.params.data_blocks {
            let mut buf = vec![0; size];
            let due = oracle(&image, &data, &hash, block);
            match (device.read(DataBlock(block), &mut buf, &mut |_| {}), due) {
                (Ok(()), None) => {
                    let at = usize::try_from(block).unwrap() * size;
                    prop_assert_eq!(&buf, &image.data[at..at + size]);
                }
                (Err(ReadError::Refused(refused)), Some(due)) => {
                    prop_assert_eq!(refused.finding, due);
                    prop_assert_eq!(refused.block, DataBlock(block));
                }
                (Err(ReadError::Io { role, offset, block: of, .. }), Some(due)) => {
                    prop_assert_eq!(due.fault, Fault::Unreadable { errno: 5 });
                    prop_assert_eq!(role == "data", matches!(due.blocks, Blocks::Data(_)));
                    prop_assert_eq!(offset, due.bytes(&layout).start);
                    prop_assert_eq!(of, DataBlock(block));
                }
                (other, due) => prop_assert!(false, "{:?}, due {:?}", other, due),
            }
        }
    }
}

fn includes(outer: &Range<u64>, inner: &Range<u64>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn level(finding: &Finding) -> Option<usize> {
    match finding.blocks {
        Blocks::Data(_) => None,
        Blocks::Hash { level, .. } => Some(level),
    }
}

#[test]
fn spare_bytes_that_are_not_zero_are_told_of_and_their_data_is_still_judged() {
    // sha1 of type 1: 20 bytes in slots of 32, so each slot has spare bytes of its own.
    let mut image = make(4);
    let layout = image.layout();
    assert_eq!(layout.geometry().levels(), 2);
    let top = usize::try_from(layout.tree_bytes().start).unwrap();
    for at in [top + 20, top + 511] {
        let mut image = image.clone();
        image.hash[at] = 1;
        let mut root = [0; 20];
        image.params.hasher().hash_one(&image.hash[top..top + 512], &mut root);
        image.root = Digest::new(&root);
        image.data[5 * 512] ^= 1;
        let faults: Vec<_> = found(&image, 2)
            .iter()
            .map(|finding| (finding.fault, level(finding), finding.data_blocks()))
            .collect();
        assert_eq!(
            faults,
            [
                (Fault::SpareNotZero, Some(1), DataBlock(0)..DataBlock(17)),
                (Fault::Mismatch, None, DataBlock(5)..DataBlock(6)),
            ]
        );
    }
    image.hash.truncate(top + 1);
    let error =
        Volume::open(&image.data, &image.hash, &image.params, image.area, &image.root).unwrap_err();
    let block::verity::OpenError::Params(error) = error else { panic!("{error}") };
    assert_eq!(
        error.to_string(),
        format!(
            "the hash device has {} bytes, its tree lies in bytes {top}..{}",
            top + 1,
            top + 1536
        )
    );
}

#[test]
fn a_disk_that_is_full_or_fails_leaves_no_superblock() {
    struct Full(Memory);
    impl ReadAt for Full {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            self.0.read_at(buf, offset)
        }
        fn size(&self) -> io::Result<u64> {
            self.0.size()
        }
    }
    impl WriteAt for Full {
        fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
            if offset + buf.len() as u64 > 4096 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.write_all_at(buf, offset)
        }
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }
    let image = make(0);
    let layout = image.layout();
    let threads = NonZeroUsize::new(2).unwrap();
    // An image that is formatted anew has a superblock already; it must go first.
    let disk = Full(Memory::new(image.hash.clone()));
    let result =
        format(&image.data, &disk, &image.params, &layout, Uuid::nil(), threads, &mut |_| {});
    assert_eq!(result.unwrap_err().to_string(), "cannot write the hash device");
    assert_eq!(disk.0.into_bytes()[512..1024], [0; 512]);

    let short = &image.data[..image.data.len() - 1];
    let disk = Memory::new(image.hash.clone());
    let result = format(&short, &disk, &image.params, &layout, Uuid::nil(), threads, &mut |_| {});
    assert_eq!(
        result.unwrap_err().to_string(),
        "the data device ends before byte 153600: it became shorter while it was read"
    );
    assert_eq!(disk.into_bytes()[512..1024], [0; 512]);
}
