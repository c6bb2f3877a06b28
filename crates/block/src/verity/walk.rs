//! The way down a hash tree: every hash block is read and verified once, from the root hash
//! down, and what comes out is runs of data blocks with the digests they must have.

use std::collections::VecDeque;
use std::ops::Range;

use lanes::tree::Geometry;
use record::units::{DataBlock, HashBlock};

use super::finding::{Blocks, Fault, Finding};
use super::layout::Layout;
use super::volume::{Examiner, Volume, chunk_blocks};
use crate::access::ReadAt;
use crate::fec::Target;

/// Bytes of data in one run, unless the blocks are so large that sixteen are more.
const RUN: usize = 4 * 1024 * 1024;

/// What comes next on the way.
#[derive(Debug)]
pub(super) enum Step {
    /// These data blocks, whose digests were put where the caller said.
    Data(Range<u64>),
    /// Hash blocks that are not as they should be.
    Found(Finding),
    /// A hash block that was not, and for which right bytes were found.
    Mended(Mended),
}

/// A bad block for which right bytes were found.
#[derive(Debug)]
pub(super) struct Mended {
    pub(super) finding: Finding,
    pub(super) errors: u64,
    pub(super) bytes: Vec<u8>,
}

/// Stands before a data block and knows the verified hash blocks above it.
///
/// Each level keeps the run of its blocks that was verified last, so memory does not
/// grow with the image and nothing that was verified is read again (it might
/// have changed).
pub(super) struct Walker<'v, D, H> {
    volume: &'v Volume<D, H>,
    /// By level, lowest first.
    runs: Vec<Run>,
    /// The next data block.
    at: u64,
    /// The first data block. Of hash blocks that stand above earlier ones, too, was told what
    /// keeps nobody from what is below them.
    start: u64,
    steps: u64,
    expected: Vec<u8>,
    mend: Option<&'v dyn Mend>,
    mended: VecDeque<Mended>,
}

/// Who may know right bytes for a wrong block.
pub(super) trait Mend: Sync {
    /// Puts the bytes that `target` should have into `block`, if they can be told, and says how
    /// many were wrong. `want` is the digest that they then have.
    fn mend(&self, target: Target, want: &[u8], block: &mut [u8]) -> Option<u64>;
}

/// Blocks of one level that lie side by side.
#[derive(Debug, Default)]
struct Run {
    /// Index in the level.
    first: u64,
    /// One per block.
    faults: Vec<Option<Fault>>,
    blocks: Examiner,
}

impl Run {
    fn place(&self, index: u64) -> Option<usize> {
        let place = usize::try_from(index.checked_sub(self.first)?).ok()?;
        (place < self.faults.len()).then_some(place)
    }

    /// The bytes of a block whose digest was right.
    fn verified(&self, index: u64, size: usize) -> Option<&[u8]> {
        let place = self.place(index)?;
        match self.faults[place] {
            None | Some(Fault::SpareNotZero) => Some(&self.blocks.bytes[place * size..][..size]),
            Some(_) => None,
        }
    }
}

impl<'v, D: ReadAt, H: ReadAt> Walker<'v, D, H> {
    pub(super) fn new(volume: &'v Volume<D, H>, start: u64, mend: Option<&'v dyn Mend>) -> Self {
        let runs = (0..volume.layout.geometry().levels()).map(|_| Run::default()).collect();
        let (expected, mended) = (Vec::new(), VecDeque::new());
        Walker { volume, runs, at: start, start, steps: 0, expected, mend, mended }
    }

    /// The next step and its number, counted from 0. Digests of data blocks go to `expected`.
    pub(super) fn step(&mut self, expected: &mut Vec<u8>) -> Option<(u64, Step)> {
        let layout = &self.volume.layout;
        if self.at == layout.data_blocks() {
            return None;
        }
        let number = self.steps;
        self.steps += 1;
        for level in (0..self.runs.len()).rev() {
            let index = layout.geometry().position(self.at, level).index;
            if self.runs[level].place(index).is_none() {
                self.load(level, index);
            }
            let start = DataBlock(self.start);
            while let Some(mended) = self.mended.pop_front() {
                if mended.finding.data_blocks().start >= start {
                    return Some((number, Step::Mended(mended)));
                }
            }
            if let Some(finding) = self.runs[level].fault_at(layout, level, index) {
                let blocks = finding.data_blocks();
                if finding.fault != Fault::SpareNotZero {
                    self.at = blocks.end.0;
                } else if blocks.start < start {
                    continue;
                }
                return Some((number, Step::Found(finding)));
            }
        }
        let start = self.at;
        self.collect(expected);
        Some((number, Step::Data(start..self.at)))
    }

    /// Takes the digests of the next data blocks, as far as they are known to be good.
    fn collect(&mut self, expected: &mut Vec<u8>) {
        let layout = &self.volume.layout;
        let geometry = layout.geometry();
        expected.clear();
        let Some(lowest) = self.runs.first() else {
            expected.extend_from_slice(self.volume.root.as_bytes());
            self.at += 1;
            return;
        };
        let most = (RUN / layout.data_block_size().as_usize()).max(16) as u64;
        let end = (self.at + most).min(layout.data_blocks());
        while self.at < end {
            let position = geometry.position(self.at, 0);
            let Some(place) = lowest.place(position.index) else { break };
            if lowest.faults[place].is_some() {
                break;
            }
            let size = geometry.hash_block_size();
            let block = &lowest.blocks.bytes[place * size..][..size];
            expected.extend_from_slice(&block[geometry.slot(position.slot)]);
            self.at += 1;
        }
    }

    /// Reads and verifies the blocks of `level` from `index` on whose parents are at hand.
    fn load(&mut self, level: usize, index: u64) {
        let layout = &self.volume.layout;
        let geometry = layout.geometry();
        let (below, above) = self.runs.split_at_mut(level + 1);
        let run = &mut below[level];
        self.expected.clear();
        match above.first() {
            None => self.expected.extend_from_slice(self.volume.root.as_bytes()),
            Some(parents) => {
                let per_block = geometry.per_block() as u64;
                let most = chunk_blocks(layout.hash_block_size()) as u64;
                for child in index..(index + most).min(geometry.level_blocks(level)) {
                    let Some(parent) =
                        parents.verified(child / per_block, geometry.hash_block_size())
                    else {
                        break;
                    };
                    // A remainder of a usize's division.
                    let slot = usize::try_from(child % per_block).unwrap_or(usize::MAX);
                    self.expected.extend_from_slice(&parent[geometry.slot(slot)]);
                }
            }
        }
        let first = layout.hash_block(level, index);
        run.first = index;
        run.faults.clear();
        run.faults.resize(self.expected.len() / geometry.digest_size(), None);
        let (faults, mended, mend) = (&mut run.faults, &mut self.mended, self.mend);
        run.blocks.examine(
            &self.volume.hash,
            &self.volume.hasher,
            layout.hash_block_size(),
            layout.hash_range(&(first..first)).start,
            &self.expected,
            |i, fault, block, want| {
                let place = HashBlock(first.0 + i as u64);
                match mend.and_then(|mend| mend.mend(Target::Hash(place), want, block)) {
                    None => faults[i] = Some(fault),
                    Some(errors) => {
                        let finding = finding(layout, fault, level, index + i as u64, 1);
                        mended.push_back(Mended { finding, errors, bytes: block.to_vec() });
                    }
                }
            },
        );
        let blocks = run.blocks.bytes.chunks_exact(geometry.hash_block_size());
        for (i, (block, fault)) in blocks.zip(faults).enumerate() {
            if fault.is_none() && !spare_is_zero(geometry, level, index + i as u64, block) {
                *fault = Some(Fault::SpareNotZero);
            }
        }
    }
}

impl Run {
    /// The finding that begins at `index`, if there is one, with its neighbours of the same kind.
    /// Spare bytes are told of once; what they stand between is good.
    fn fault_at(&mut self, layout: &Layout, level: usize, index: u64) -> Option<Finding> {
        let place = self.place(index)?;
        let fault = self.faults[place]?;
        let mut end = place + 1;
        if fault == Fault::SpareNotZero {
            self.faults[place] = None;
        } else {
            end += self.faults[end..].iter().take_while(|next| **next == Some(fault)).count();
        }
        Some(finding(layout, fault, level, index, (end - place) as u64))
    }
}

/// A fault of `count` hash blocks of a level, from the one with this index on.
fn finding(layout: &Layout, fault: Fault, level: usize, index: u64, count: u64) -> Finding {
    let first = layout.hash_block(level, index);
    let geometry = layout.geometry();
    let covers =
        geometry.covered(level, index).start..geometry.covered(level, index + count - 1).end;
    Finding {
        fault,
        blocks: Blocks::Hash {
            level,
            blocks: first..HashBlock(first.0 + count),
            covers: DataBlock(covers.start)..DataBlock(covers.end),
        },
    }
}

/// Whether the bytes of a hash block that hold no digest are zero.
pub(super) fn spare_is_zero(geometry: &Geometry, level: usize, index: u64, block: &[u8]) -> bool {
    let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    let used = geometry.digests(level, index);
    let (slots, rest) = block.split_at(used * geometry.slot_size());
    zero(rest)
        && (geometry.slot_size() == geometry.digest_size()
            || slots
                .chunks_exact(geometry.slot_size())
                .all(|slot| zero(&slot[geometry.digest_size()..])))
}
