//! The dm-verity superblock: 512 bytes at the hash offset of the hash device.
//!
//! ```text
//!       0        2        4        6        8        a        c        e
//! 000   magic "verity\0\0"                  version           hash type
//! 010   uuid (as RFC 4122 prints it)
//! 020   algorithm, NUL padded
//! 030     (continued)
//! 040   data block size   hash block size   data blocks
//! 050   salt size  padding                  salt (256 bytes)
//! ...
//! 150     (end of the salt)                 padding
//! ...
//! 1f0   padding
//! ```
//!
//! Little endian. The kernel never reads it: user space does, and passes a table
//! line. Source: cryptsetup 2.6.1, `lib/verity/verity.c`; dm-verity on-disk
//! specification (cryptsetup wiki, DMVerity).

use std::mem::offset_of;
use std::ops::RangeInclusive;

use uuid::Uuid;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::params::{BlockSize, HashName, HashType, ParamError, Params, Salt};

/// Bytes of the superblock.
pub const SUPERBLOCK_SIZE: usize = 512;

/// What the superblock begins with.
pub const MAGIC: [u8; 8] = *b"verity\0\0";

/// The one version there is.
const VERSION: u32 = 1;

/// As it lies on disk. Nothing here has been checked; see [`Superblock::check`].
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawSuperblock {
    /// `verity\0\0`
    pub magic: [u8; 8],
    /// 1
    pub version: U32,
    /// 1 = normal, 0 = Chrome OS
    pub hash_type: U32,

    /// Bytes in the order in which RFC 4122 prints them.
    pub uuid: [u8; 16],

    /// Lower case, NUL padded, at most 31 characters.
    pub algorithm: [u8; 32],

    /// Bytes.
    pub data_block_size: U32,
    /// Bytes.
    pub hash_block_size: U32,
    /// Number of data blocks covered.
    pub data_blocks: U64,

    /// Bytes of `salt` in use, at most 256.
    pub salt_size: U16,
    /// Zero when written, ignored when read.
    pub pad1: [u8; 6],
    /// Put before (type 1) or behind (type 0) each block.
    pub salt: [u8; 256],
    /// Zero when written, ignored when read.
    pub pad2: [u8; 168],
}

// The drawing above, as the compiler sees it.
const _: () = {
    assert!(offset_of!(RawSuperblock, magic) == 0x00);
    assert!(offset_of!(RawSuperblock, version) == 0x08);
    assert!(offset_of!(RawSuperblock, hash_type) == 0x0c);
    assert!(offset_of!(RawSuperblock, uuid) == 0x10);
    assert!(offset_of!(RawSuperblock, algorithm) == 0x20);
    assert!(offset_of!(RawSuperblock, data_block_size) == 0x40);
    assert!(offset_of!(RawSuperblock, hash_block_size) == 0x44);
    assert!(offset_of!(RawSuperblock, data_blocks) == 0x48);
    assert!(offset_of!(RawSuperblock, salt_size) == 0x50);
    assert!(offset_of!(RawSuperblock, salt) == 0x58);
    assert!(offset_of!(RawSuperblock, pad2) == 0x158);
    assert!(size_of::<RawSuperblock>() == SUPERBLOCK_SIZE);
};

/// Why bytes are not a superblock that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockError {
    /// The bytes end too early.
    #[error("the superblock has {found} bytes of {SUPERBLOCK_SIZE}")]
    Short {
        /// Bytes there are.
        found: usize,
    },
    /// There is no superblock.
    #[error("the superblock's signature is \"{}\", not \"verity\\0\\0\"", .found.escape_ascii())]
    Magic {
        /// The bytes in its place.
        found: [u8; 8],
    },
    /// A number outside what the format allows.
    #[error("the superblock's {field} is {found}, outside {}..={}", .allowed.start(), .allowed.end())]
    Range {
        /// The field's name.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What is allowed.
        allowed: RangeInclusive<u64>,
    },
    /// A hash algorithm that is not known here.
    #[error("the superblock's algorithm \"{}\" is none of {}", .found.escape_ascii(), super::params::algorithms())]
    Algorithm {
        /// The field up to its first NUL.
        found: Vec<u8>,
    },
    /// Fields that make no sense together or by themselves.
    #[error("the superblock cannot be used")]
    Params(#[from] ParamError),
}

/// A superblock whose every field makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Identifies the hash device; nothing depends on it.
    pub uuid: Uuid,
    /// How the tree was made.
    pub params: Params,
}

impl Superblock {
    /// Reads and checks the superblock at the start of `bytes`.
    ///
    /// # Errors
    /// What is wrong, with the field, what was found and what is allowed.
    pub fn read(bytes: &[u8]) -> Result<Superblock, SuperblockError> {
        let (raw, _) = RawSuperblock::ref_from_prefix(bytes)
            .map_err(|_| SuperblockError::Short { found: bytes.len() })?;
        Superblock::check(raw)
    }

    /// Turns what lies on disk into something that can be trusted to make sense.
    ///
    /// # Errors
    /// What is wrong, with the field, what was found and what is allowed.
    pub fn check(raw: &RawSuperblock) -> Result<Superblock, SuperblockError> {
        if raw.magic != MAGIC {
            return Err(SuperblockError::Magic { found: raw.magic });
        }
        let range = |field, found: u64, allowed: RangeInclusive<u64>| {
            if allowed.contains(&found) {
                Ok(())
            } else {
                Err(SuperblockError::Range { field, found, allowed })
            }
        };
        range("version", raw.version.get().into(), VERSION.into()..=VERSION.into())?;
        range("hash type", raw.hash_type.get().into(), 0..=1)?;
        range("salt size", raw.salt_size.get().into(), 0..=Salt::MAX as u64)?;
        let name = raw.algorithm.split(|byte| *byte == 0).next().unwrap_or(&[]);
        let hash = str::from_utf8(name)
            .ok()
            .filter(|name| name.len() < raw.algorithm.len())
            .and_then(|name| HashName::parse(name).ok())
            .ok_or_else(|| SuperblockError::Algorithm { found: name.to_vec() })?;
        let params = Params {
            hash_type: if raw.hash_type.get() == 0 { HashType::ChromeOs } else { HashType::Normal },
            hash,
            data_block_size: BlockSize::new("data block size", raw.data_block_size.get().into())?,
            hash_block_size: BlockSize::new("hash block size", raw.hash_block_size.get().into())?,
            data_blocks: raw.data_blocks.get(),
            salt: Salt::new(&raw.salt[..usize::from(raw.salt_size.get())])?,
        };
        Ok(Superblock { uuid: Uuid::from_bytes(raw.uuid), params })
    }

    /// The bytes that `veritysetup format` writes for the same parameters.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SUPERBLOCK_SIZE] {
        let mut raw = RawSuperblock::new_zeroed();
        raw.magic = MAGIC;
        raw.version = VERSION.into();
        raw.hash_type = u32::from(self.params.hash_type.number()).into();
        raw.uuid = *self.uuid.as_bytes();
        // No name that `HashName` knows comes near the field's 32 bytes.
        let name = self.params.hash.to_string().to_ascii_lowercase();
        raw.algorithm[..name.len()].copy_from_slice(name.as_bytes());
        raw.data_block_size = self.params.data_block_size.bytes().into();
        raw.hash_block_size = self.params.hash_block_size.bytes().into();
        raw.data_blocks = self.params.data_blocks.into();
        let salt = self.params.salt.as_bytes();
        raw.salt_size = self.params.salt.size().into();
        raw.salt[..salt.len()].copy_from_slice(salt);
        zerocopy::transmute!(raw)
    }
}
