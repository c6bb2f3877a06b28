//! Where a file lies on its device: FS_IOC_FIEMAP (Documentation/filesystems/fiemap.rst), read in
//! pieces so that a file of a million extents needs no more memory than one of few.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use crate::ioctl::{self, Argument};

/// One extent of a file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file.
    pub logical: u64,
    /// Where on the device (on btrfs: in the file system's own address space).
    pub physical: u64,
    /// How long, never 0, and neither sum passes 2^64.
    pub length: u64,
    /// What the file system says of it.
    pub flags: Flags,
}

/// `FIEMAP_EXTENT_*` of `linux/fiemap.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    const LAST: u32 = 0x1;
    const UNKNOWN: u32 = 0x2;
    const DELALLOC: u32 = 0x4;
    const ENCODED: u32 = 0x8;
    const DATA_ENCRYPTED: u32 = 0x80;

    /// Whether the extent has a place on the device at all: not while it is only in memory.
    #[must_use]
    pub fn is_placed(self) -> bool {
        self.0 & (Self::UNKNOWN | Self::DELALLOC) == 0
    }

    /// Whether the bytes on the device are not those of the file one by one: compressed. (Encrypted
    /// ones are encoded too, but each in its place.)
    #[must_use]
    pub fn is_compressed(self) -> bool {
        self.0 & (Self::ENCODED | Self::DATA_ENCRYPTED) == Self::ENCODED
    }
}

/// What of a file is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// Its data (of a directory: its entries).
    Data,
    /// Its extended attributes, where they are not in the inode.
    Attributes,
}

/// Gives every extent of `file` to `each`, in the order of the file, until that breaks. What is
/// not yet on the device is not waited for (`FIEMAP_FLAG_SYNC` is off).
///
/// # Errors
/// `EOPNOTSUPP` or `ENOTTY` where the file system has no FIEMAP, `EBADR` where it has not for that
/// fork; EIO where its own map cannot be read.
pub fn walk<B>(
    file: impl AsFd,
    fork: Fork,
    mut each: impl FnMut(Extent) -> ControlFlow<B>,
) -> io::Result<Option<B>> {
    let mut call = Fiemap::new(fork);
    let mut position = Position::default();
    loop {
        call.start = position.next;
        call.length = u64::MAX - position.next;
        (call.mapped_extents, call.extent_count, call.out_flags) = (0, PIECE_U32, 0);
        ioctl::call(&file, &mut *call)?;
        let mapped = usize::try_from(call.mapped_extents).unwrap_or(0).min(PIECE);
        for raw in call.extents.iter().take(mapped) {
            let Some(extent) = position.take(raw) else { continue };
            if let ControlFlow::Break(value) = each(extent) {
                return Ok(Some(value));
            }
        }
        // A whole piece without progress would be asked for again for ever.
        if mapped < PIECE || position.is_last || position.next <= call.start {
            return Ok(None);
        }
    }
}

/// How many extents a call brings: 28 KiB.
const PIECE: usize = 512;
const PIECE_U32: u32 = 512;

/// How far a file was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    /// The first byte of the file that was not asked about.
    next: u64,
    is_last: bool,
}

impl Position {
    /// Checks what the kernel said, and goes on behind it. `None` for what cannot be: an empty
    /// extent, one that passes the end of the address space, one that was there already.
    fn take(&mut self, raw: &RawExtent) -> Option<Extent> {
        self.is_last |= raw.flags & Flags::LAST != 0;
        let end = raw.logical.checked_add(raw.length)?;
        raw.physical.checked_add(raw.length)?;
        if raw.length == 0 || end <= self.next {
            return None;
        }
        self.next = end;
        let RawExtent { logical, physical, length, flags, .. } = *raw;
        Some(Extent { logical, physical, length, flags: Flags(flags) })
    }
}

/// `struct fiemap` with its array. Asks for what begins at `start`.
#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    /// `fm_reserved`.
    out_flags: u32,
    extents: [RawExtent; PIECE],
}

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct RawExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

impl Fiemap {
    fn new(fork: Fork) -> Box<Fiemap> {
        const FLAG_XATTR: u32 = 0x2;
        Box::new(Fiemap {
            start: 0,
            length: 0,
            flags: if fork == Fork::Attributes { FLAG_XATTR } else { 0 },
            mapped_extents: 0,
            extent_count: 0,
            out_flags: 0,
            extents: [RawExtent::default(); PIECE],
        })
    }
}

// SAFETY: FS_IOC_FIEMAP reads and writes the header and `extent_count` extents behind it, which
// is set to no more than the array's length before every call; all members are integers.
#[allow(unsafe_code, reason = "an ioctl's argument")]
unsafe impl Argument for Fiemap {
    /// `_IOWR('f', 11, struct fiemap)`, whose size counts no extents.
    const REQUEST: libc::Ioctl = 0xC020_660B;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_passed_over() {
        let raw = |logical, physical, length, flags| RawExtent {
            logical,
            physical,
            length,
            flags,
            ..RawExtent::default()
        };
        let mut position = Position::default();
        assert!(position.take(&raw(0, 4096, 8192, 0)).is_some());
        for odd in [
            raw(8192, 0, 0, 0),
            raw(4096, 0, 4096, 0),
            raw(u64::MAX, 0, 1, 0),
            raw(8192, u64::MAX, 1, 0),
        ] {
            assert_eq!(position.take(&odd), None, "{odd:?}");
            assert_eq!(position, Position { next: 8192, is_last: false });
        }
        // One that overlaps what was there is new for a part; the end is what counts.
        let last = position.take(&raw(4096, 1 << 20, 8192, Flags::LAST | 0x8)).unwrap();
        assert_eq!(position, Position { next: 12288, is_last: true });
        assert!(last.flags.is_placed() && last.flags.is_compressed());
        assert!(!Flags(0x88).is_compressed());
        assert!(!Flags(0x4).is_placed() && !Flags(0x2).is_placed());
    }

    #[test]
    fn the_argument_is_as_long_as_the_kernel_has_it() {
        assert_eq!(size_of::<RawExtent>(), 56);
        assert_eq!(std::mem::offset_of!(Fiemap, extents), 0x20);
    }
}
