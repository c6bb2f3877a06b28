//! Verifying a whole image: every hash block once, every data block once, all cores.

use std::num::NonZeroUsize;
use std::ops::{ControlFlow, Range};
use std::sync::{Mutex, PoisonError};

use record::units::DataBlock;

use super::finding::{Blocks, Fault, Finding};
use super::reader::Device;
use super::volume::{Examiner, Volume, chunk_blocks};
use super::walk::{Mend, Mended, Step, Walker};
use crate::access::ReadAt;
use crate::fec::Target;
use crate::ordered::ordered;

/// Who is told while an image is verified.
pub trait Watch {
    /// A finding, in the order of the data blocks it concerns; neighbours of the same kind are
    /// one. Breaking ends the verification.
    fn found(&mut self, finding: &Finding) -> ControlFlow<()>;

    /// A block that is not what was promised, and the right bytes for it, whose digest is. Each by
    /// itself, a hash block before what lies below it. Breaking ends the verification.
    fn mended(&mut self, finding: &Finding, errors: u64, bytes: &[u8]) -> ControlFlow<()> {
        let _ = (finding, errors, bytes);
        ControlFlow::Continue(())
    }

    /// So many data blocks are done, of [`Layout::data_blocks`](super::Layout::data_blocks).
    fn progress(&mut self, done: u64) {
        let _ = done;
    }

    /// Whether to be told of a milestone as soon as there is one. Each ends a run of neighbours.
    fn wants_milestone(&self) -> bool {
        false
    }

    /// All data blocks before `next` are done, and all that was found on the way is told: what is
    /// left is a verification from `next` on. Breaking ends this one.
    fn milestone(&mut self, next: DataBlock, so_far: &Summary) -> ControlFlow<()> {
        let _ = (next, so_far);
        ControlFlow::Continue(())
    }
}

/// What was found, in numbers of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Data blocks that match their digests.
    pub good: u64,
    /// Data blocks that do not.
    pub mismatched: u64,
    /// Data blocks past the end of the data device, or cut by it.
    pub missing: u64,
    /// Data blocks that the disk did not give.
    pub unreadable: u64,
    /// Data blocks whose digests stand below a hash block that is itself not what was promised.
    /// Nothing is known about them; the kernel answers a read of each with verify-metadata.
    pub unverifiable: u64,
    /// Data blocks whose digests stand below a hash block that the disk did not give.
    pub unreachable: u64,
    /// Hash blocks that are not what was promised, those below them not counted.
    pub bad_hash_blocks: u64,
    /// Hash blocks that the disk did not give.
    pub unreadable_hash_blocks: u64,
    /// Data blocks that are bad, but for which right bytes were found. Not counted above.
    pub mended: u64,
    /// Hash blocks of the same kind.
    pub mended_hash_blocks: u64,
}

impl Summary {
    /// Whether anything is not what was promised.
    #[must_use]
    pub fn has_violation(&self) -> bool {
        self.mismatched + self.missing + self.bad_hash_blocks > 0
    }

    /// Whether the disk refused anything.
    #[must_use]
    pub fn has_unreadable(&self) -> bool {
        self.unreadable + self.unreadable_hash_blocks > 0
    }

    /// Blocks that are not known to be good and for which there are no right bytes, of both kinds.
    #[must_use]
    pub fn bad(&self) -> u64 {
        let data = self.mismatched + self.missing + self.unverifiable;
        let disk = self.unreadable + self.unreachable;
        data + disk + self.bad_hash_blocks + self.unreadable_hash_blocks
    }

    /// Of so many data blocks that are done, those are good about which nothing was found.
    fn settle(&mut self, done: u64) {
        let faulty = self.mismatched
            + self.missing
            + self.unreadable
            + self.unverifiable
            + self.unreachable
            + self.mended;
        self.good = done - faulty;
    }

    /// Counts what is not before `start`: that was counted by whoever came so far.
    fn count(&mut self, finding: &Finding, start: u64) {
        let data = |blocks: &Range<DataBlock>| blocks.end.0 - blocks.start.0.max(start);
        match &finding.blocks {
            Blocks::Data(blocks) => {
                let count = match finding.fault {
                    Fault::Mismatch | Fault::SpareNotZero => &mut self.mismatched,
                    Fault::Missing => &mut self.missing,
                    Fault::Unreadable { .. } => &mut self.unreadable,
                };
                *count += data(blocks);
            }
            Blocks::Hash { blocks, covers, .. } => {
                let (hash, under) = match finding.fault {
                    Fault::Mismatch | Fault::Missing => (&mut self.bad_hash_blocks, data(covers)),
                    Fault::SpareNotZero => (&mut self.bad_hash_blocks, 0),
                    Fault::Unreadable { .. } => {
                        self.unreachable += data(covers);
                        (&mut self.unreadable_hash_blocks, 0)
                    }
                };
                *hash += blocks.end.0 - blocks.start.0;
                self.unverifiable += under;
            }
        }
    }
}

/// One step's worth: how many data blocks it settled, and what it found.
struct Piece {
    settled: u64,
    found: Vec<Found>,
}

enum Found {
    Bad(Finding),
    Mended(Mended),
}

impl<D: ReadAt, H: ReadAt> Volume<D, H> {
    /// Verifies everything, with `threads` threads, in memory that depends on neither the
    /// size of the image nor the number of findings.
    ///
    /// Goes on past bad blocks of every kind. What lies under a bad hash block is not looked at.
    pub fn verify(&self, threads: NonZeroUsize, watch: &mut dyn Watch) -> Summary {
        self.walk(DataBlock(0), threads, None, watch)
    }

    /// The same from a [milestone](Watch::milestone) on: verifies, tells and counts only what was
    /// not before it.
    pub fn verify_from(
        &self,
        start: DataBlock,
        threads: NonZeroUsize,
        watch: &mut dyn Watch,
    ) -> Summary {
        self.walk(start, threads, None, watch)
    }

    /// The same, but asks `device`, the same image with correction, for right bytes for each bad
    /// block. Where a hash block has some, what lies under it is looked at.
    ///
    /// What `device` knows of the tree grows as it is asked, so in a second run it may find what it
    /// did not in the first.
    pub fn verify_and_correct(
        &self,
        threads: NonZeroUsize,
        device: &Device<impl ReadAt, impl ReadAt>,
        watch: &mut dyn Watch,
    ) -> Summary {
        self.walk(DataBlock(0), threads, Some(device), watch)
    }

    /// Both: with correction, and from a milestone on.
    pub fn verify_and_correct_from(
        &self,
        start: DataBlock,
        threads: NonZeroUsize,
        device: &Device<impl ReadAt, impl ReadAt>,
        watch: &mut dyn Watch,
    ) -> Summary {
        self.walk(start, threads, Some(device), watch)
    }

    fn walk(
        &self,
        start: DataBlock,
        threads: NonZeroUsize,
        mend: Option<&dyn Mend>,
        watch: &mut dyn Watch,
    ) -> Summary {
        let start = start.0.min(self.layout.data_blocks());
        let walker = Mutex::new(Walker::new(self, start, mend));
        let mut summary = Summary::default();
        let mut done = 0;
        let mut open: Option<Finding> = None;
        let mut stopped = false;
        ordered(
            threads,
            || {
                let mut expected = Vec::new();
                let mut examiner = Examiner::default();
                let walker = &walker;
                move || {
                    // A poisoned lock means that a thread died; then so does the verification.
                    let step =
                        walker.lock().unwrap_or_else(PoisonError::into_inner).step(&mut expected);
                    let (number, step) = step?;
                    let piece = match step {
                        Step::Found(finding) => {
                            let blocks = finding.data_blocks();
                            let settled = match finding.fault {
                                Fault::SpareNotZero => 0,
                                _ => blocks.end.0 - blocks.start.0.max(start),
                            };
                            Piece { settled, found: vec![Found::Bad(finding)] }
                        }
                        Step::Mended(mended) => {
                            Piece { settled: 0, found: vec![Found::Mended(mended)] }
                        }
                        Step::Data(blocks) => self.examine(blocks, &expected, mend, &mut examiner),
                    };
                    Some((number, piece))
                }
            },
            |piece| {
                let settled = piece.settled;
                done += settled;
                for found in piece.found {
                    let (last, mended) = match found {
                        Found::Bad(finding) => {
                            summary.count(&finding, start);
                            if open.as_mut().is_some_and(|open| open.absorb(&finding)) {
                                continue;
                            }
                            (open.replace(finding), None)
                        }
                        Found::Mended(mended) => {
                            match mended.finding.blocks {
                                Blocks::Data(_) => summary.mended += 1,
                                Blocks::Hash { .. } => summary.mended_hash_blocks += 1,
                            }
                            (open.take(), Some(mended))
                        }
                    };
                    let mut told =
                        last.map_or(ControlFlow::Continue(()), |last| watch.found(&last));
                    if let (ControlFlow::Continue(()), Some(mended)) = (told, mended) {
                        told = watch.mended(&mended.finding, mended.errors, &mended.bytes);
                    }
                    if told.is_break() {
                        stopped = true;
                        return told;
                    }
                }
                watch.progress(start + done);
                // What was told of a hash block and settles nothing belongs to what comes next.
                if settled == 0 || !watch.wants_milestone() {
                    return ControlFlow::Continue(());
                }
                let last = open.take();
                let mut told = last.map_or(ControlFlow::Continue(()), |last| watch.found(&last));
                if told.is_continue() {
                    summary.settle(done);
                    told = watch.milestone(DataBlock(start + done), &summary);
                }
                stopped = told.is_break();
                told
            },
        );
        if let Some(last) = open
            && !stopped
        {
            // Nothing is left to end.
            let _ = watch.found(&last);
        }
        summary.settle(done);
        summary
    }

    fn examine(
        &self,
        blocks: Range<u64>,
        expected: &[u8],
        mend: Option<&dyn Mend>,
        examiner: &mut Examiner,
    ) -> Piece {
        let mut found: Vec<Found> = Vec::new();
        let digest_size = self.hasher.digest_size();
        let block_size = self.layout.data_block_size();
        let chunk = chunk_blocks(block_size);
        let mut first = blocks.start;
        for expected in expected.chunks(chunk * digest_size) {
            let offset = self.layout.data_byte(first);
            examiner.examine(
                &self.data,
                &self.hasher,
                block_size,
                offset,
                expected,
                |i, fault, bytes, want| {
                    let block = DataBlock(first + i as u64);
                    let blocks = Blocks::Data(block..DataBlock(block.0 + 1));
                    let finding = Finding { fault, blocks };
                    let mended = mend.and_then(|mend| mend.mend(Target::Data(block), want, bytes));
                    let next = if let Some(errors) = mended {
                        Found::Mended(Mended { finding, errors, bytes: bytes.to_vec() })
                    } else if let Some(Found::Bad(last)) = found.last_mut()
                        && last.absorb(&finding)
                    {
                        return;
                    } else {
                        Found::Bad(finding)
                    };
                    found.push(next);
                },
            );
            first += (expected.len() / digest_size) as u64;
        }
        Piece { settled: blocks.end - blocks.start, found }
    }
}
