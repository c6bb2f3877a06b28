//! What is wrong with an image, and where exactly: the truth behind a violation.

use std::fmt;
use std::io;
use std::ops::Range;

use record::place::DeviceId;
use record::units::{DataBlock, HashBlock};
use record::violation::{EventOp, Violation};

use super::layout::Layout;

/// What is the matter with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Its digest is not the one that was promised.
    Mismatch,
    /// The file ends before it, or within it.
    Missing,
    /// A hash block whose digest is right, but whose bytes between and behind the
    /// digests are not zero. The kernel accepts it; `veritysetup verify` does not,
    /// and nor does any tool that makes such trees write it.
    SpareNotZero,
    /// The disk did not give it. Says nothing about integrity.
    Unreadable {
        /// What the disk said.
        errno: i32,
    },
}

impl Fault {
    pub(super) fn unreadable(error: &io::Error) -> Fault {
        /// What a device says when it says nothing else (EIO).
        const EIO: i32 = 5;
        Fault::Unreadable { errno: error.raw_os_error().unwrap_or(EIO) }
    }

    /// Whether this says that the data is not what was promised.
    #[must_use]
    pub fn is_violation(self) -> bool {
        !matches!(self, Fault::Unreadable { .. })
    }

    /// One word for it, as it stands in records and JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Fault::Mismatch => "mismatch",
            Fault::Missing => "missing",
            Fault::SpareNotZero => "spare-not-zero",
            Fault::Unreadable { .. } => "unreadable",
        }
    }
}

/// Which blocks something is the matter with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Blocks {
    /// Data blocks that lie side by side.
    Data(Range<DataBlock>),
    /// Hash blocks of one level that lie side by side.
    Hash {
        /// 0 is the lowest level, whose digests are those of data blocks.
        level: usize,
        /// The blocks, counted from the start of the hash device.
        blocks: Range<HashBlock>,
        /// The data blocks that cannot be verified without them.
        covers: Range<DataBlock>,
    },
}

/// A fault and the blocks that have it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// What is the matter.
    pub fault: Fault,
    /// With which blocks.
    pub blocks: Blocks,
}

impl Finding {
    /// The data blocks that this keeps from their readers.
    #[must_use]
    pub fn data_blocks(&self) -> Range<DataBlock> {
        match &self.blocks {
            Blocks::Data(blocks) => blocks.clone(),
            Blocks::Hash { covers, .. } => covers.clone(),
        }
    }

    /// The bytes of the blocks themselves, on the data or the hash device.
    #[must_use]
    pub fn bytes(&self, layout: &Layout) -> Range<u64> {
        match &self.blocks {
            Blocks::Data(blocks) => layout.data_range(blocks),
            Blocks::Hash { blocks, .. } => layout.hash_range(blocks),
        }
    }

    /// What the kernel says when a reader asks for `block`, one of [`Finding::data_blocks`]; none
    /// where it says nothing: a disk that does not answer, or spare bytes it does not look at.
    #[must_use]
    pub fn violation(&self, device: DeviceId, block: DataBlock) -> Option<Violation> {
        let op = match (self.fault, &self.blocks) {
            (Fault::Unreadable { .. } | Fault::SpareNotZero, _) => return None,
            (Fault::Mismatch | Fault::Missing, Blocks::Data(_)) => EventOp::VerifyData,
            (Fault::Mismatch | Fault::Missing, Blocks::Hash { .. }) => EventOp::VerifyMetadata,
        };
        Some(Violation::new(op, device, block.0))
    }

    /// The body of the `VT_PLACE` record that goes with [`Finding::violation`]: what the
    /// kernel's record does not say.
    #[must_use]
    pub fn place<'a>(&'a self, layout: &'a Layout) -> PlaceBody<'a> {
        PlaceBody { finding: self, layout }
    }

    /// Takes `next` in if it is the same fault on the blocks right behind.
    pub(super) fn absorb(&mut self, next: &Finding) -> bool {
        if self.fault != next.fault {
            return false;
        }
        match (&mut self.blocks, &next.blocks) {
            (Blocks::Data(mine), Blocks::Data(theirs)) if mine.end == theirs.start => {
                mine.end = theirs.end;
                true
            }
            (
                Blocks::Hash { level, blocks, covers },
                Blocks::Hash { level: next_level, blocks: next_blocks, covers: next_covers },
            ) if level == next_level
                && blocks.end == next_blocks.start
                && covers.end == next_covers.start =>
            {
                blocks.end = next_blocks.end;
                covers.end = next_covers.end;
                true
            }
            _ => false,
        }
    }
}

/// Prints as `role=data unit=4096 fault=mismatch blocks=10-10 bytes=40960-45055`, or for a hash block
/// `role=hash unit=512 fault=mismatch level=0 blocks=8-8 bytes=4096-4607 covers=8-15`. `unit` is
/// the size of a block in bytes, `covers` are data blocks; ranges include both ends.
#[derive(Clone, Copy, Debug)]
pub struct PlaceBody<'a> {
    finding: &'a Finding,
    layout: &'a Layout,
}

impl fmt::Display for PlaceBody<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = self.finding.fault.word();
        let bytes = self.finding.bytes(self.layout);
        match &self.finding.blocks {
            Blocks::Data(Range { start, end }) => {
                write!(
                    f,
                    "role=data unit={} fault={fault} blocks={start}-{}",
                    self.layout.data_block_size(),
                    end.0 - 1
                )?;
                write!(f, " bytes={}-{}", bytes.start, bytes.end - 1)
            }
            Blocks::Hash { level, blocks: Range { start, end }, covers } => {
                let unit = self.layout.hash_block_size();
                write!(f, "role=hash unit={unit} fault={fault} level={level}")?;
                write!(f, " blocks={start}-{}", end.0 - 1)?;
                write!(f, " bytes={}-{}", bytes.start, bytes.end - 1)?;
                write!(f, " covers={}-{}", covers.start, covers.end.0 - 1)
            }
        }
    }
}
