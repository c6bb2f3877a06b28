//! What a file system says of its space: FS_IOC_GETFSMAP (ioctl_getfsmap(2)), which ext4 and xfs
//! have.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use crate::ioctl::{self, Argument};

/// A stretch of the device and who owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// On the device, in bytes.
    pub bytes: Range<u64>,
    /// By whom.
    pub owner: Owner,
}

/// Who owns a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody.
    Free,
    /// Somebody: the file system knows no more.
    Used,
    /// The file system itself.
    Metadata(&'static str),
    /// An inode, and what of it: its data, its attributes, or its own map.
    Inode {
        /// Its number.
        number: u64,
        /// Whether the stretch holds the file's bytes.
        is_data: bool,
    },
}

/// Which file system is asked: the same numbers mean different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `fs/ext4/fsmap.h`.
    Ext4,
    /// `fs/xfs/libxfs/xfs_fs.h`.
    Xfs,
}

/// Who owns `bytes` of the device `device`, in order. `file` lies on a file system on that device.
/// Stretches begin and end where the file system has them, cut to `bytes`; where
/// it says nothing, nothing stands. At most `limit` of them.
///
/// # Errors
/// `EOPNOTSUPP` or `ENOTTY` where the file system has no such call; EIO where it cannot read its own.
pub fn owners(
    file: impl AsFd,
    dialect: Dialect,
    (major, minor): (u32, u32),
    bytes: Range<u64>,
    limit: usize,
) -> io::Result<Vec<Owned>> {
    let device = encoded(major, minor);
    let low = Mapping { device, physical: bytes.start, ..Mapping::default() };
    let high = Mapping {
        device,
        flags: u32::MAX,
        physical: bytes.end.saturating_sub(1),
        owner: u64::MAX,
        offset: u64::MAX,
        ..Mapping::default()
    };
    let mut call = Box::new(SpaceMap { keys: [low, high], ..SpaceMap::default() });
    let mut found = Vec::new();
    loop {
        (call.count, call.entries, call.out_flags) = (PIECE_U32, 0, 0);
        ioctl::call(&file, &mut *call)?;
        let entries = usize::try_from(call.entries).unwrap_or(0).min(PIECE);
        let mappings = call.mappings.get(..entries).unwrap_or_default();
        let ours = mappings.iter().filter(|mapping| mapping.device == device);
        found.extend(ours.filter_map(|mapping| mapping.checked(dialect, &bytes)));
        let Some(last) = mappings.last().copied() else { break };
        let is_last = last.flags & Mapping::LAST != 0;
        // The next call goes on behind what the last one said, and has to get ahead.
        let ahead = (last.device, last.physical) > (call.keys[0].device, call.keys[0].physical);
        if entries < PIECE || is_last || found.len() >= limit || !ahead {
            break;
        }
        call.keys[0] = last;
    }
    found.truncate(limit);
    Ok(found)
}

/// `new_encode_dev()` of `linux/kdev_t.h`.
fn encoded(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

const PIECE: usize = 128;
const PIECE_U32: u32 = 128;

/// `struct fsmap_head` with its array.
#[repr(C)]
struct SpaceMap {
    in_flags: u32,
    out_flags: u32,
    count: u32,
    entries: u32,
    reserved: [u64; 6],
    keys: [Mapping; 2],
    mappings: [Mapping; PIECE],
}

impl Default for SpaceMap {
    fn default() -> SpaceMap {
        SpaceMap {
            in_flags: 0,
            out_flags: 0,
            count: 0,
            entries: 0,
            reserved: [0; 6],
            keys: [Mapping::default(); 2],
            mappings: [Mapping::default(); PIECE],
        }
    }
}

/// `struct fsmap`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Mapping {
    device: u32,
    flags: u32,
    physical: u64,
    owner: u64,
    offset: u64,
    length: u64,
    reserved: [u64; 3],
}

impl Mapping {
    const ATTR_FORK: u32 = 0x2;
    const EXTENT_MAP: u32 = 0x4;
    const SPECIAL_OWNER: u32 = 0x10;
    const LAST: u32 = 0x20;

    /// The part of it in `bytes`; `None` where there is none, or the numbers cannot be.
    fn checked(&self, dialect: Dialect, bytes: &Range<u64>) -> Option<Owned> {
        let start = self.physical.max(bytes.start);
        let end = self.physical.checked_add(self.length)?.min(bytes.end);
        (start < end).then(|| Owned { bytes: start..end, owner: self.owner(dialect) })
    }

    fn owner(&self, dialect: Dialect) -> Owner {
        if self.flags & Self::SPECIAL_OWNER == 0 {
            let is_data = self.flags & (Self::ATTR_FORK | Self::EXTENT_MAP) == 0;
            return Owner::Inode { number: self.owner, is_data };
        }
        let (kind, code) = (self.owner >> 32, self.owner & u64::from(u32::MAX));
        match (dialect, u8::try_from(kind).unwrap_or(u8::MAX), code) {
            (_, 0, 1) => Owner::Free,
            (_, 0, 3) => Owner::Metadata("metadata"),
            (Dialect::Ext4, b'X', 1) => Owner::Metadata("superblock"),
            (Dialect::Xfs, b'X', 1) => Owner::Metadata("superblock and allocation group headers"),
            (_, b'X', 2) => Owner::Metadata("journal"),
            (Dialect::Xfs, b'X', 3) => Owner::Metadata("free space and reverse mapping trees"),
            (Dialect::Xfs, b'X', 4) => Owner::Metadata("inode trees"),
            (_, b'X', 5) => Owner::Metadata("inode table"),
            (Dialect::Xfs, b'X', 6) => Owner::Metadata("reference count tree"),
            (Dialect::Ext4, b'f', 1) => Owner::Metadata("group descriptors"),
            (Dialect::Ext4, b'f', 2) => Owner::Metadata("reserved group descriptors"),
            (Dialect::Ext4, b'f', 3) => Owner::Metadata("block bitmap"),
            (Dialect::Ext4, b'f', 4) => Owner::Metadata("inode bitmap"),
            // A copy on write that has begun, a defective stretch, and whatever is new.
            _ => Owner::Used,
        }
    }
}

// SAFETY: FS_IOC_GETFSMAP reads and writes the header and `count` mappings behind it, which is
// set to no more than the array's length before every call; all members are integers.
#[allow(unsafe_code, reason = "an ioctl's argument")]
unsafe impl Argument for SpaceMap {
    /// `_IOWR('X', 59, struct fsmap_head)`, whose size counts no mappings.
    const REQUEST: libc::Ioctl = 0xC0C0_583B;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_cut_to_what_was_asked() {
        let mapping = |physical, length| Mapping {
            flags: Mapping::SPECIAL_OWNER,
            owner: 1,
            physical,
            length,
            ..Mapping::default()
        };
        let cut = |physical, length| {
            mapping(physical, length).checked(Dialect::Ext4, &(100..200)).map(|one| one.bytes)
        };
        assert_eq!(cut(0, 150), Some(100..150));
        assert_eq!(cut(150, 1000), Some(150..200));
        for (physical, length) in [(0, 100), (200, 1), (150, 0), (150, u64::MAX)] {
            assert_eq!(cut(physical, length), None);
        }
    }

    #[test]
    fn owners_are_named_as_the_file_systems_do() {
        let owner =
            |dialect, flags, owner| Mapping { flags, owner, ..Mapping::default() }.owner(dialect);
        let special = Mapping::SPECIAL_OWNER;
        let x = u64::from(b'X') << 32;
        assert_eq!(owner(Dialect::Xfs, special, 1), Owner::Free);
        assert_eq!(owner(Dialect::Xfs, special, 2), Owner::Used);
        assert_eq!(owner(Dialect::Ext4, special, x | 5), Owner::Metadata("inode table"));
        assert_eq!(owner(Dialect::Xfs, special, x | 7), Owner::Used);
        assert_eq!(owner(Dialect::Xfs, 0, 131), Owner::Inode { number: 131, is_data: true });
        assert_eq!(owner(Dialect::Xfs, 4, 131), Owner::Inode { number: 131, is_data: false });
    }

    #[test]
    fn the_argument_is_as_long_as_the_kernel_has_it() {
        assert_eq!(size_of::<Mapping>(), 64);
        assert_eq!(std::mem::offset_of!(SpaceMap, mappings), 0xC0);
        // A minor of more than eight bits.
        assert_eq!(encoded(254, 0x1234), 0x0120_0000 | 0xfe00 | 0x34);
    }
}
