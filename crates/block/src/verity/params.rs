//! What a verity tree was made with: block sizes, hash, salt; and the digest it ends in.

use std::fmt;

use lanes::tree::Packing;
use lanes::{Algorithm, BlockHasher, SaltPosition};

/// Why parameters cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// A block size that the format does not have.
    #[error(
        "{field} is {found} bytes, not a power of two from {} to {} bytes",
        BlockSize::MIN,
        BlockSize::MAX
    )]
    BlockSize {
        /// Which one.
        field: &'static str,
        /// Its value, in bytes.
        found: u64,
    },
    /// More salt than the superblock has room for.
    #[error("the salt has {found} bytes, more than {}", Salt::MAX)]
    Salt {
        /// Its length in bytes.
        found: usize,
    },
    /// Text that is not pairs of hexadecimal digits.
    #[error(
        "the {what} is not an even number of hexadecimal digits (character {at} is the first wrong one)"
    )]
    Hex {
        /// What was being read.
        what: &'static str,
        /// Index of the first character that does not belong, or the length.
        at: usize,
    },
    /// A root hash of another length than the algorithm's digests.
    #[error("the root hash has {found} bytes, {algorithm} has {expected}")]
    RootLength {
        /// Its length in bytes.
        found: usize,
        /// The algorithm of the tree.
        algorithm: Algorithm,
        /// The length its digests have.
        expected: usize,
    },
    /// A hash algorithm that is not known here.
    #[error("hash algorithm {found:?} is none of {}", algorithms())]
    Algorithm {
        /// The name given.
        found: String,
    },
    /// A hash type that the format does not have.
    #[error("hash type is {found}, outside 0..=1")]
    HashType {
        /// The number given.
        found: u64,
    },
    /// No data at all.
    #[error("there is not one data block")]
    NoData,
    /// An area that ends beyond what a file can have.
    #[error("the {area} area ends beyond byte {}", i64::MAX)]
    TooLarge {
        /// `data` or `hash`.
        area: &'static str,
    },
    /// A hash offset between sectors.
    #[error("hash offset is {found} bytes, not a multiple of 512")]
    HashOffset {
        /// Its value, in bytes.
        found: u64,
    },
    /// Data and tree on one device, and not beside each other.
    #[error(
        "the data area (bytes 0..{data_end}) overlaps the hash area (bytes {hash_start}..{hash_end})"
    )]
    Overlap {
        /// Where the data ends, in bytes.
        data_end: u64,
        /// Where the hash area begins, in bytes.
        hash_start: u64,
        /// Where the hash area ends, in bytes.
        hash_end: u64,
    },
    /// More data blocks than `check_at_most_once` can mark, the kernel's limit.
    #[error("{blocks} data blocks are too many to check each at most once; {most} can be marked")]
    TooManyToMark {
        /// How many there are.
        blocks: u64,
        /// How many there may be.
        most: u64,
    },
    /// More data blocks than the device has.
    #[error(
        "{wanted} data blocks of {block_size} bytes do not fit the data device of {size} bytes"
    )]
    DataTooSmall {
        /// Number of data blocks asked for.
        wanted: u64,
        /// Their size in bytes.
        block_size: BlockSize,
        /// Size of the device in bytes.
        size: u64,
    },
    /// A hash device that ends before its tree.
    #[error("the hash device has {size} bytes, its tree lies in bytes {start}..{end}")]
    HashTooSmall {
        /// Size of the device in bytes.
        size: u64,
        /// Where the tree begins, in bytes.
        start: u64,
        /// Where the tree ends, in bytes.
        end: u64,
    },
}

/// The size of a block in bytes: a power of two from 512 to 512 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSize {
    log2: u32,
}

impl BlockSize {
    /// The smallest, in bytes.
    pub const MIN: u32 = 512;
    /// The largest, in bytes.
    pub const MAX: u32 = 512 * 1024;
    /// What `veritysetup` takes when nothing is said.
    pub const DEFAULT: BlockSize = BlockSize { log2: 12 };

    /// A block size of `bytes`; `field` is what an error calls it.
    ///
    /// # Errors
    /// [`ParamError::BlockSize`].
    pub fn new(field: &'static str, bytes: u64) -> Result<BlockSize, ParamError> {
        if bytes.is_power_of_two() && (Self::MIN.into()..=Self::MAX.into()).contains(&bytes) {
            Ok(BlockSize { log2: bytes.trailing_zeros() })
        } else {
            Err(ParamError::BlockSize { field, found: bytes })
        }
    }

    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u32 {
        1 << self.log2
    }

    /// In bytes, as a length in memory.
    #[must_use]
    pub fn as_usize(self) -> usize {
        1 << self.log2
    }

    /// The byte where block `number` begins, unless that is beyond `u64`.
    #[must_use]
    pub fn offset(self, number: u64) -> Option<u64> {
        number.checked_mul(self.bytes().into())
    }

    /// How many whole blocks `bytes` hold.
    #[must_use]
    pub fn whole_blocks(self, bytes: u64) -> u64 {
        bytes >> self.log2
    }
}

impl fmt::Display for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}

/// How salt and digests are laid out, the superblock's hash type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashType {
    /// 0: `H(block || salt)`, digests packed without gaps.
    ChromeOs,
    /// 1: `H(salt || block)`, each digest in a slot that is a power of two.
    Normal,
}

impl HashType {
    /// The type that `number` stands for.
    ///
    /// # Errors
    /// [`ParamError::HashType`].
    pub fn from_number(number: u64) -> Result<HashType, ParamError> {
        match number {
            0 => Ok(HashType::ChromeOs),
            1 => Ok(HashType::Normal),
            found => Err(ParamError::HashType { found }),
        }
    }

    /// As the superblock and the table line have it.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            HashType::ChromeOs => 0,
            HashType::Normal => 1,
        }
    }

    /// How digests lie in a block of the tree.
    pub(super) fn packing(self) -> Packing {
        match self {
            HashType::ChromeOs => Packing::Packed,
            HashType::Normal => Packing::Padded,
        }
    }

    fn salt_position(self) -> SaltPosition {
        match self {
            HashType::ChromeOs => SaltPosition::After,
            HashType::Normal => SaltPosition::Before,
        }
    }
}

/// The salt of a tree, at most 256 bytes. Prints as hexadecimal digits, or `-` when empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salt(Vec<u8>);

impl Salt {
    /// Bytes that the superblock has room for.
    pub const MAX: usize = 256;

    /// A salt of these bytes.
    ///
    /// # Errors
    /// [`ParamError::Salt`] when there are more than [`Salt::MAX`].
    pub fn new(bytes: &[u8]) -> Result<Salt, ParamError> {
        if bytes.len() > Self::MAX {
            return Err(ParamError::Salt { found: bytes.len() });
        }
        Ok(Salt(bytes.to_vec()))
    }

    /// Reads hexadecimal digits; `-` or nothing for no salt.
    ///
    /// # Errors
    /// [`ParamError::Hex`], [`ParamError::Salt`].
    pub fn parse(text: &str) -> Result<Salt, ParamError> {
        if matches!(text, "-" | "") {
            Ok(Salt::default())
        } else {
            Salt::new(&from_hex("salt", text)?)
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The number of bytes.
    #[must_use]
    pub fn size(&self) -> u16 {
        u16::try_from(self.0.len()).expect("a salt has at most 256 bytes")
    }
}

impl fmt::Display for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("-") } else { write_hex(f, &self.0) }
    }
}

/// A digest, by name of the block it stands for: the root hash, or any below it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Digest(Box<[u8]>);

impl Digest {
    /// A digest of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Digest {
        Digest(bytes.into())
    }

    /// Reads a root hash from hexadecimal digits.
    ///
    /// # Errors
    /// [`ParamError::Hex`].
    pub fn parse(text: &str) -> Result<Digest, ParamError> {
        Ok(Digest(from_hex("root hash", text)?.into()))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

/// How a tree was made. All of it but the number of data blocks is free of checks against
/// each other; [`Layout`](super::Layout) does those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Where the salt goes and how digests are packed.
    pub hash_type: HashType,
    /// The hash, by the name it was given.
    pub hash: HashName,
    /// Size of a data block.
    pub data_block_size: BlockSize,
    /// Size of a hash block; may differ.
    pub hash_block_size: BlockSize,
    /// Number of data blocks.
    pub data_blocks: u64,
    /// Goes into every digest.
    pub salt: Salt,
}

impl Params {
    /// What hashes both data and hash blocks.
    #[must_use]
    pub fn hasher(&self) -> BlockHasher {
        BlockHasher::new(
            self.hash.algorithm(),
            self.salt.as_bytes(),
            self.hash_type.salt_position(),
        )
    }
}

/// A hash algorithm, and how whoever made the image spells it (some have two names,
/// and the superblock keeps the one it was given).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashName {
    algorithm: Algorithm,
    name: String,
}

impl HashName {
    /// Reads a name as `veritysetup --hash` takes it.
    ///
    /// # Errors
    /// [`ParamError::Algorithm`].
    pub fn parse(name: &str) -> Result<HashName, ParamError> {
        match Algorithm::parse(name) {
            Ok(algorithm) => Ok(HashName { algorithm, name: name.to_owned() }),
            Err(_) => Err(ParamError::Algorithm { found: name.to_owned() }),
        }
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl fmt::Display for HashName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The names of all algorithms, for errors.
pub(super) fn algorithms() -> String {
    let names: Vec<_> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
    names.join(", ")
}

fn from_hex(what: &'static str, text: &str) -> Result<Vec<u8>, ParamError> {
    let digits = text.as_bytes();
    if let Some(at) = digits.iter().position(|digit| !digit.is_ascii_hexdigit()) {
        return Err(ParamError::Hex { what, at });
    }
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return Err(ParamError::Hex { what, at: digits.len() });
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    };
    Ok(digits.chunks_exact(2).map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])).collect())
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}
