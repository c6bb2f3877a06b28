//! A verification that is taken up again finds, tells and counts as one that never stopped.

#![allow(clippy::unwrap_used)]

mod images;

use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use block::verity::{Blocks, Fault, Finding, Layout, Summary, Watch};
use images::{FORMATS, Image, Random, make, make_large};
use proptest::prelude::*;
use record::units::{DataBlock, HashBlock};

/// One bad block by itself: the first data block it keeps, the end of those, and what it is.
type One = (u64, u64, Option<usize>, u64, Fault);

fn singly(finding: &Finding, layout: &Layout) -> Vec<One> {
    match &finding.blocks {
        Blocks::Data(blocks) => (blocks.start.0..blocks.end.0)
            .map(|block| (block, block + 1, None, block, finding.fault))
            .collect(),
        Blocks::Hash { level, blocks, .. } => (blocks.start.0..blocks.end.0)
            .map(|block| {
                let (at, index) = layout.locate(HashBlock(block)).unwrap();
                assert_eq!(at, *level);
                let covers = layout.geometry().covered(*level, index);
                (covers.start, covers.end, Some(*level), block, finding.fault)
            })
            .collect(),
    }
}

/// Stops at every milestone for which `stops` says so.
struct Pieces<'a> {
    layout: &'a Layout,
    found: Vec<One>,
    stops: &'a mut dyn FnMut() -> bool,
    next: Option<(DataBlock, Summary)>,
}

impl Watch for Pieces<'_> {
    fn found(&mut self, finding: &Finding) -> ControlFlow<()> {
        self.found.extend(singly(finding, self.layout));
        ControlFlow::Continue(())
    }

    fn wants_milestone(&self) -> bool {
        true
    }

    fn milestone(&mut self, next: DataBlock, so_far: &Summary) -> ControlFlow<()> {
        if !(self.stops)() {
            return ControlFlow::Continue(());
        }
        self.next = Some((next, *so_far));
        ControlFlow::Break(())
    }
}

/// What is found from a block on, where it stopped, and the counts.
fn from(
    image: &Image,
    start: u64,
    stops: &mut dyn FnMut() -> bool,
) -> (Vec<One>, Option<u64>, Summary) {
    let layout = image.layout();
    let volume = image.volume(&image.data, &image.hash);
    let mut watch = Pieces { layout: &layout, found: Vec::new(), stops, next: None };
    let two = NonZeroUsize::new(2).unwrap();
    let summary = volume.verify_from(DataBlock(start), two, &mut watch);
    match watch.next {
        Some((next, so_far)) => (watch.found, Some(next.0), so_far),
        None => (watch.found, None, summary),
    }
}

fn add(a: &Summary, b: &Summary) -> Summary {
    Summary {
        good: a.good + b.good,
        mismatched: a.mismatched + b.mismatched,
        missing: a.missing + b.missing,
        unreadable: a.unreadable + b.unreadable,
        unverifiable: a.unverifiable + b.unverifiable,
        unreachable: a.unreachable + b.unreachable,
        bad_hash_blocks: a.bad_hash_blocks + b.bad_hash_blocks,
        unreadable_hash_blocks: a.unreadable_hash_blocks + b.unreadable_hash_blocks,
        mended: a.mended + b.mended,
        mended_hash_blocks: a.mended_hash_blocks + b.mended_hash_blocks,
    }
}

fn spoil(image: &mut Image, flips: usize, random: &mut Random) {
    let tree = image.layout().tree_bytes();
    for _ in 0..flips {
        let in_tree = random.below(3) == 0 && !tree.is_empty();
        let bytes = if in_tree { &mut image.hash } else { &mut image.data };
        let span = if in_tree { tree.clone() } else { 0..bytes.len() as u64 };
        let at = usize::try_from(span.start + random.below(span.end - span.start)).unwrap();
        bytes[at] ^= 1 << random.below(8);
    }
}

proptest! {
    #[test]
    fn from_any_block_on_it_finds_what_is_left(
        number in 0..FORMATS.len(), flips in 0_usize..12, seed in 1_u64.., start in 0_u64..310,
    ) {
        let mut image = make(number);
        spoil(&mut image, flips, &mut Random(seed));
        let (all, _, _) = from(&image, 0, &mut || false);
        let (left, _, summary) = from(&image, start, &mut || false);
        let expected: Vec<One> = all
            .into_iter()
            .filter(|(first, end, _, _, fault)| match fault {
                Fault::SpareNotZero => *first >= start,
                _ => *end > start,
            })
            .collect();
        prop_assert_eq!(&left, &expected);
        let kept: u64 = left
            .iter()
            .filter(|one| one.4 != Fault::SpareNotZero)
            .map(|(first, end, ..)| end - first.max(&start))
            .sum();
        let there = image.params.data_blocks;
        prop_assert_eq!(summary.good + kept, there - start.min(there));
    }
}

#[test]
fn pieces_come_to_the_same_as_the_whole() {
    let mut random = Random(0xface);
    let mut stops = 0;
    for flips in [0, 1, 40, 3000] {
        let mut image = make_large(60_000);
        spoil(&mut image, flips, &mut random);
        let (whole, _, summary) = from(&image, 0, &mut || false);
        let (mut found, mut sum, mut start) = (Vec::new(), Summary::default(), 0);
        loop {
            let (some, next, counted) = from(&image, start, &mut || random.below(2) == 0);
            found.extend(some);
            sum = add(&sum, &counted);
            let Some(next) = next else { break };
            assert!(next > start, "each piece gets on");
            (start, stops) = (next, stops + 1);
        }
        assert_eq!((found, sum), (whole, summary));
    }
    assert!(stops > 8, "{stops}");
}
