//! What becomes of a request.

use std::io;

use record::place::DeviceId;
use record::units::DataBlock;
use record::violation::{EventOp, Violation};

use crate::verity::finding::Finding;

/// What a reader who got its data should still be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A block was bad and its reader got the right bytes all the same. Not counted as a
    /// mismatch. A hash block is told of once as long as it is kept.
    Corrected {
        /// The data block that was being looked up.
        block: DataBlock,
        /// What is really bad: that data block, or the hash block on its path.
        finding: Finding,
        /// How many of its bytes were wrong.
        errors: u64,
    },
    /// A block does not match, and the policy says to deliver it; counted as a mismatch. Once in a
    /// request per bad data block and per look-up through a bad hash block.
    Tolerated(Refused),
}

/// Why a request got no data.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The data is not what the root hash promises. This is what we exist for.
    #[error("data block {} cannot be trusted", .0.block)]
    Refused(Refused),
    /// The disk did not answer. Says nothing about integrity and is not counted as a mismatch.
    #[error("cannot read the {role} device at byte {offset}, for data block {block}")]
    Io {
        /// `data` or `hash`.
        role: &'static str,
        /// The data block that was being looked up.
        block: DataBlock,
        /// The byte of that device where the block begins that could not be read.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// A request that reaches past the end, or is no number of whole blocks where it must be.
    #[error("no such place: {count} bytes from byte {offset} on, of {size}")]
    Outside {
        /// Where the request begins.
        offset: u64,
        /// How long it is.
        count: usize,
        /// The size of the device, in bytes.
        size: u64,
    },
}

/// A block that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The data block that was being looked up.
    pub block: DataBlock,
    /// What is really bad: that data block, or the hash block on its path.
    pub finding: Finding,
    /// Whether this was the hundredth mismatch.
    pub saturated: bool,
}

impl Refused {
    /// The kernel's records of this, in its order: at the hundredth mismatch first
    /// `max-corrupted-errors`, of the verity device; then the violation, of the data device
    /// (even if a hash block is to blame). With `ignore_corruption` the kernel writes the
    /// first only.
    pub fn violations(
        &self,
        data_device: DeviceId,
        verity_device: DeviceId,
    ) -> impl Iterator<Item = Violation> {
        let saturated = self
            .saturated
            .then(|| Violation::new(EventOp::MaxCorruptedErrors, verity_device, self.block.0));
        saturated.into_iter().chain(self.finding.violation(data_device, self.block))
    }
}
