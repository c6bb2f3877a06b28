//! What keeper and volume say to each other: JSON, one message in each packet.
//!
//! | channel | keeper | volume |
//! |---|---|---|
//! | control | [`Setup`] with the descriptors | [`Started`] |
//! |         | a number: how is it? | [`Counted`], with that number |
//! | reports | anything: it is noted | [`Report`], one at a time |
//!
//! A report is answered before the reader is, while that is still there to be looked at.
//!
//! The keeper believes none of it that cannot be true of the image ([`What::finding`]), and never waits for the volume for long.

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

/// The answer to one question. An answer that came too late is known by its number.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Counted {
    pub(super) asked: u64,
    pub(super) counts: Counts,
}

/// What a reader ran into.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) tid: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// How long the volume has had the request.
    pub(super) waited_us: u64,
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

/// The numbers that Linux has for errors (`linux/err.h`, `MAX_ERRNO`).
fn is_errno(errno: i32) -> bool {
    (1..=4095).contains(&errno)
}

impl What {
    /// The finding told of, if there is one.
    ///
    /// # Errors
    /// Where an image of this layout, opened so, has nothing to tell of that kind.
    pub(super) fn finding(&self, layout: &Layout, ways: Ways) -> Result<Option<Finding>, Nonsense> {
        let possible = |so: bool| so.then_some(()).ok_or(Nonsense);
        match self {
            What::Violation { block, found, delivered, .. } => {
                let finding = found.finding(layout).ok_or(Nonsense)?;
                let blocks = finding.data_blocks();
                possible(!matches!(finding.fault, Fault::Unreadable { .. }))?;
                possible(blocks.contains(&DataBlock(*block)) && (ways.delivers || !delivered))?;
                Ok(Some(finding))
            }
            What::Corrected { found, errors } => {
                let finding = found.finding(layout).ok_or(Nonsense)?;
                let bytes = finding.bytes(layout);
                possible(ways.corrects && *errors <= bytes.end - bytes.start)?;
                Ok(Some(finding))
            }
            What::Io { role, offset, errno } => {
                possible(is_errno(*errno))?;
                possible(match role {
                    Role::Data => *offset < layout.data_bytes(),
                    Role::Hash => layout.tree_bytes().contains(offset),
                    Role::Fec => ways.corrects,
                })?;
                Ok(None)
            }
        }
    }
}

/// How an image was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ways {
    /// Bad blocks are handed out.
    pub(super) delivers: bool,
    /// There is error correction data.
    pub(super) corrects: bool,
}

/// The volume has said something that cannot be: it is not itself any more.
#[derive(Debug)]
pub(super) struct Nonsense;

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
    fn finding(&self, layout: &Layout) -> Option<Finding> {
        let fault = match self.fault {
            FaultWord::Mismatch => Fault::Mismatch,
            FaultWord::Missing => Fault::Missing,
            FaultWord::Unreadable(errno) if is_errno(errno) => Fault::Unreadable { errno },
            FaultWord::Unreadable(_) => return None,
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

#[cfg(test)]
mod tests {
    use block::verity::HashArea;

    use super::*;

    /// A thousand data blocks of 4 KiB, behind 8 hash blocks and one above them.
    fn layout() -> Layout {
        let params = Params {
            hash_type: HashType::Normal,
            hash: HashName::parse("sha256").unwrap(),
            data_block_size: BlockSize::DEFAULT,
            hash_block_size: BlockSize::DEFAULT,
            data_blocks: 1000,
            salt: Salt::default(),
        };
        Layout::new(&params, HashArea::default()).unwrap()
    }

    fn is_believed(what: &str, delivers: bool, corrects: bool) -> bool {
        let what: What = serde_json::from_str(what).unwrap();
        what.finding(&layout(), Ways { delivers, corrects }).is_ok()
    }

    fn violation(block: u64, fault: &str, role: &str, found: u64, delivered: bool) -> String {
        let found = format!(r#"{{"fault":{fault},"role":"{role}","block":{found}}}"#);
        format!(
            r#"{{"Violation":{{"block":{block},"found":{found},"saturated":false,"delivered":{delivered}}}}}"#
        )
    }

    #[test]
    fn violations_are_believed_where_they_can_be() {
        let mismatch = r#""mismatch""#;
        // Of the tree the root stands first: hash block 2 + n covers data blocks 128 n to 128 n + 127.
        for (what, believed) in [
            (violation(7, mismatch, "data", 7, false), true),
            (violation(999, r#""missing""#, "data", 999, false), true),
            (violation(300, mismatch, "hash", 4, false), true),
            (violation(300, mismatch, "hash", 1, false), true),
            // Another block than the one that was read.
            (violation(7, mismatch, "data", 8, false), false),
            (violation(300, mismatch, "hash", 5, false), false),
            // There is no such block.
            (violation(1000, mismatch, "data", 1000, false), false),
            (violation(u64::MAX, mismatch, "data", u64::MAX, false), false),
            (violation(7, mismatch, "hash", 10, false), false),
            (violation(7, mismatch, "fec", 7, false), false),
            // That is an error of the disk.
            (violation(7, r#"{"unreadable":5}"#, "data", 7, false), false),
            // Nothing bad is handed out here.
            (violation(7, mismatch, "data", 7, true), false),
        ] {
            assert_eq!(is_believed(&what, false, false), believed, "{what}");
        }
        assert!(is_believed(&violation(7, mismatch, "data", 7, true), true, false));
    }

    #[test]
    fn corrections_and_errors_are_believed_where_they_can_be() {
        let corrected = |fault: &str, errors: u64| {
            format!(
                r#"{{"Corrected":{{"found":{{"fault":{fault},"role":"data","block":7}},"errors":{errors}}}}}"#
            )
        };
        assert!(is_believed(&corrected(r#""mismatch""#, 4096), false, true));
        assert!(is_believed(&corrected(r#"{"unreadable":5}"#, 1), false, true));
        assert!(!is_believed(&corrected(r#""mismatch""#, 4097), false, true));
        assert!(!is_believed(&corrected(r#""mismatch""#, 1), false, false));
        assert!(!is_believed(&corrected(r#"{"unreadable":0}"#, 1), false, true));
        assert!(!is_believed(&corrected(r#"{"unreadable":-5}"#, 1), false, true));
        let io = |role: &str, offset: u64, errno: i32| {
            format!(r#"{{"Io":{{"role":"{role}","offset":{offset},"errno":{errno}}}}}"#)
        };
        for (what, believed) in [
            (io("data", 999 * 4096, 5), true),
            (io("hash", 4096, 5), true),
            (io("data", 1000 * 4096, 5), false),
            (io("hash", 10 * 4096, 5), false),
            (io("hash", 0, 5), false),
            (io("fec", 0, 5), false),
            (io("data", 0, 0), false),
            (io("data", 0, -1), false),
            (io("data", 0, 4096), false),
        ] {
            assert_eq!(is_believed(&what, false, false), believed, "{what}");
        }
    }
}
