//! What keeper and volume say to each other: JSON, one message in each packet.
//!
//! | channel | keeper | volume |
//! |---|---|---|
//! | control | [`Setup`] with the descriptors | [`Started`] |
//! |         | empty: how is it? | [`Counts`] |
//! | reports | empty: it is noted | [`Report`], one at a time |
//!
//! A report is answered before the reader is, while that is still there to be looked at.

use block::verity::{
    BlockSize, Blocks, Digest, Fault, Finding, HashArea, HashName, HashType, Layout, ParamError,
    Params, Salt,
};
use record::units::{DataBlock, HashBlock};
use serde::{Deserialize, Serialize};

/// The longest message, in bytes.
pub(super) const LONGEST: usize = 64 << 10;

/// What a volume needs beside its descriptors, which come in this order: FUSE connection,
/// reports, data, hash, and FEC where there is one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) image: Image,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) direct_io: bool,
    pub(super) threads: usize,
    pub(super) ignore_corruption: bool,
    pub(super) ignore_zero_blocks: bool,
    pub(super) check_at_most_once: bool,
    pub(super) fec: Option<Fec>,
}

/// A verity image as its parameters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Image {
    hash_type: u64,
    hash: String,
    data_block_size: u64,
    hash_block_size: u64,
    data_blocks: u64,
    salt: String,
    hash_offset: u64,
    superblock: bool,
    root: String,
}

/// Where the parity is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Fec {
    pub(crate) roots: u64,
    /// Where the parity begins, in bytes.
    pub(crate) offset: u64,
    /// Where what is covered of the hash device ends, in bytes.
    pub(crate) covered_end: u64,
}

impl Image {
    pub(super) fn new(params: &Params, area: HashArea, root: &Digest) -> Image {
        Image {
            hash_type: params.hash_type.number().into(),
            hash: params.hash.to_string(),
            data_block_size: params.data_block_size.bytes().into(),
            hash_block_size: params.hash_block_size.bytes().into(),
            data_blocks: params.data_blocks,
            salt: params.salt.to_string(),
            hash_offset: area.offset,
            superblock: area.superblock,
            root: root.to_string(),
        }
    }

    /// The parts again.
    pub(super) fn parts(&self) -> Result<(Params, HashArea, Digest), ParamError> {
        let params = Params {
            hash_type: HashType::from_number(self.hash_type)?,
            hash: HashName::parse(&self.hash)?,
            data_block_size: BlockSize::new("data block size", self.data_block_size)?,
            hash_block_size: BlockSize::new("hash block size", self.hash_block_size)?,
            data_blocks: self.data_blocks,
            salt: Salt::parse(&self.salt)?,
        };
        let area = HashArea { offset: self.hash_offset, superblock: self.superblock };
        Ok((params, area, Digest::parse(&self.root)?))
    }
}

/// How the volume has begun.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Started {
    Ready,
    Failed(String),
}

/// What the volume has counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Requests of readers.
    pub(crate) reads: u64,
    /// Requests that were refused, and in ignore mode bad blocks that were handed out.
    pub(crate) violations: u64,
    /// Blocks that error correction brought back.
    pub(crate) corrected: u64,
    /// Requests that failed because a disk did not answer.
    pub(crate) io_errors: u64,
}

/// What a reader ran into.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) tid: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) what: What,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum What {
    /// A block is not what was promised, met on the way to `block`.
    Violation { block: u64, found: Found, saturated: bool, delivered: bool },
    /// It was not, and was brought back.
    Corrected { found: Found, errors: u64 },
    /// A disk did not answer.
    Io { role: Role, offset: u64, errno: i32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    Data,
    Hash,
    Fec,
}

impl Role {
    pub(super) fn word(self) -> &'static str {
        match self {
            Role::Data => "data",
            Role::Hash => "hash",
            Role::Fec => "fec",
        }
    }

    pub(super) fn from_word(word: &str) -> Role {
        match word {
            "hash" => Role::Hash,
            "fec" => Role::Fec,
            _ => Role::Data,
        }
    }
}

/// A [`Finding`] about one block.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Found {
    fault: FaultWord,
    role: Role,
    block: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FaultWord {
    Mismatch,
    Missing,
    Unreadable(i32),
}

impl Found {
    pub(super) fn of(finding: &Finding) -> Found {
        let fault = match finding.fault {
            Fault::Missing => FaultWord::Missing,
            Fault::Unreadable { errno } => FaultWord::Unreadable(errno),
            // The reader does not look at spare bytes.
            Fault::Mismatch | Fault::SpareNotZero => FaultWord::Mismatch,
        };
        let (role, block) = match &finding.blocks {
            Blocks::Data(blocks) => (Role::Data, blocks.start.0),
            Blocks::Hash { blocks, .. } => (Role::Hash, blocks.start.0),
        };
        Found { fault, role, block }
    }

    /// The finding again; none where the image has no such block.
    pub(super) fn finding(&self, layout: &Layout) -> Option<Finding> {
        let fault = match self.fault {
            FaultWord::Mismatch => Fault::Mismatch,
            FaultWord::Missing => Fault::Missing,
            FaultWord::Unreadable(errno) => Fault::Unreadable { errno },
        };
        let end = self.block.checked_add(1)?;
        let blocks = match self.role {
            Role::Data if self.block < layout.data_blocks() => {
                Blocks::Data(DataBlock(self.block)..DataBlock(end))
            }
            Role::Hash => {
                let (level, index) = layout.locate(HashBlock(self.block))?;
                let covered = layout.geometry().covered(level, index);
                let covers = DataBlock(covered.start)..DataBlock(covered.end);
                Blocks::Hash { level, blocks: HashBlock(self.block)..HashBlock(end), covers }
            }
            Role::Data | Role::Fec => return None,
        };
        Some(Finding { fault, blocks })
    }
}
