//! What a device has counted since it was opened.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::verity::health::Health;

/// What a device has counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests, whatever became of them.
    pub reads: u64,
    /// Data blocks whose digest was found right.
    pub verified: u64,
    /// Data blocks delivered without a look at them: good once before (`check_at_most_once`), or
    /// known to be zero (`ignore_zero_blocks`).
    pub unverified: u64,
    /// Data or hash blocks that were not what was promised, also those passed over by
    /// `ignore_corruption`. Not capped at a hundred.
    pub mismatches: u64,
    /// Data or hash blocks that were not what was promised and were put right for their reader.
    pub corrected: u64,
    /// Requests that failed because the disk did not answer.
    pub io_errors: u64,
    /// Hash blocks found in memory.
    pub hash_hits: u64,
    /// Hash blocks read from the hash device.
    pub hash_reads: u64,
}

/// The same, while it is being counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) reads: Count,
    pub(super) verified: Count,
    pub(super) unverified: Count,
    pub(super) mismatches: Count,
    pub(super) corrected: Count,
    pub(super) io_errors: Count,
    pub(super) hash_hits: Count,
    pub(super) hash_reads: Count,
}

/// Goes up only, by any number of threads.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// Returns what it was before.
    pub(super) fn add(&self, more: u64) -> u64 {
        // Each number stands for itself, nothing is published by it.
        self.0.fetch_add(more, Ordering::Relaxed)
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tally {
    /// Counts a mismatch and says whether it is the one to announce `max-corrupted-errors` with.
    pub(super) fn mismatch(&self) -> bool {
        let before = self.mismatches.add(1);
        Health::after(before).after_mismatch().1
    }

    pub(super) fn health(&self) -> Health {
        Health::after(self.mismatches.get())
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            reads: self.reads.get(),
            verified: self.verified.get(),
            unverified: self.unverified.get(),
            mismatches: self.mismatches.get(),
            corrected: self.corrected.get(),
            io_errors: self.io_errors.get(),
            hash_hits: self.hash_hits.get(),
            hash_reads: self.hash_reads.get(),
        }
    }
}
