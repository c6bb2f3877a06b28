//! btrfs by its ioctls: which device of it, which chunk on that, which file in the chunk
//! (`linux/btrfs.h`, `linux/btrfs_tree.h`).
//!
//! ```text
//!   byte of a device ── chunk tree ──▶ byte of the file system's address space
//!                    ── LOGICAL_INO ─▶ (subvolume, inode, offset) ── INO_LOOKUP ─▶ path
//! ```
//!
//! Numbers in items are little-endian, whatever the machine is.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use crate::ioctl::{self, Argument};

/// The devices of a mounted file system, as the kernel names them: number within it and path.
///
/// # Errors
/// `ENOTTY` where `file` lies on no btrfs.
pub fn devices(file: impl AsFd) -> io::Result<Vec<(u64, Vec<u8>)>> {
    /// As many as anybody builds; numbers of removed ones are not used again.
    const MOST: u64 = 4096;
    let mut info = FsInfo { max_id: 0, rest: [0; 127] };
    ioctl::call(&file, &mut info)?;
    let mut found = Vec::new();
    for id in 0..=info.max_id.min(MOST) {
        let mut device = Box::new(DeviceInfo { id, head: [0; 383], path: [0; 1024] });
        match ioctl::call(&file, &mut *device) {
            Ok(()) => found.push((device.id, until_nul(&device.path))),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// A stretch of the address space, and where copies of it lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where it begins in the address space.
    pub logical: u64,
    /// How long it is there.
    pub length: u64,
    kind: u64,
    stripe_length: u64,
    /// Device and place on it.
    stripes: Vec<(u64, u64)>,
}

/// Where a stretch of a device is in the address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// There.
    At(u64),
    /// Somewhere; the layout (RAID 5, 6 and 10) is not followed.
    Striped,
}

impl Chunk {
    const DATA: u64 = 1;
    const RAID0: u64 = 1 << 3;
    const RAID10: u64 = 1 << 6;
    const RAID5: u64 = 1 << 7;
    const RAID6: u64 = 1 << 8;
    /// RAID1, DUP, RAID1C3, RAID1C4.
    const MIRRORED: u64 = 1 << 4 | 1 << 5 | 1 << 9 | 1 << 10;
    const PROFILES: u64 = 0xff << 3;

    /// Reads a chunk item whose key has the offset `logical`; `None` for what cannot be one.
    ///
    /// ```text
    ///   0 length  8 owner  16 stripe_len  24 type  32 io_align, io_width, sector_size
    ///  44 num_stripes  46 sub_stripes  48 { devid  +8 offset  +16 uuid[16] } ...
    /// ```
    #[must_use]
    pub fn parse(logical: u64, item: &[u8]) -> Option<Chunk> {
        let length = u64_at(item, 0)?;
        logical.checked_add(length)?;
        let count = usize::from(u16::from_le_bytes(*item.get(44..)?.first_chunk()?));
        let stripes: Vec<(u64, u64)> = item
            .get(48..)?
            .chunks_exact(32)
            .take(count)
            .filter_map(|stripe| Some((u64_at(stripe, 0)?, u64_at(stripe, 8)?)))
            .collect();
        (stripes.len() == count && count > 0 && length > 0).then_some(())?;
        let (stripe_length, kind) = (u64_at(item, 16)?, u64_at(item, 24)?);
        Some(Chunk { logical, length, kind, stripe_length, stripes })
    }

    /// Whether files' bytes stand in it; else trees do.
    #[must_use]
    pub fn is_data(&self) -> bool {
        self.kind & Self::DATA != 0
    }

    /// The pieces of `bytes` of the device that this chunk has, each with its place in the address
    /// space.
    #[must_use]
    pub fn place(&self, device: u64, bytes: &Range<u64>) -> Vec<(Range<u64>, Mapped)> {
        let count = u64::try_from(self.stripes.len()).unwrap_or(u64::MAX);
        let profile = self.kind & Self::PROFILES;
        let is_copy = profile & !Self::MIRRORED == 0;
        // How many of the stripes hold different bytes.
        let parts = match profile {
            Self::RAID0 => count,
            Self::RAID10 => count / 2,
            Self::RAID5 => count.saturating_sub(1),
            Self::RAID6 => count.saturating_sub(2),
            _ => 1,
        };
        let on_device = self.length / parts.max(1);
        let mut found = Vec::new();
        for (index, (_, start)) in
            (0u64..).zip(&self.stripes).filter(|(_, (owner, _))| *owner == device)
        {
            let end = start.saturating_add(on_device).min(bytes.end);
            let mut at = bytes.start.max(*start);
            while at < end {
                let inside = at - start;
                if is_copy {
                    found.push((at..end, Mapped::At(self.logical + inside)));
                    break;
                }
                if profile != Self::RAID0 || self.stripe_length == 0 || found.len() >= MOST_PIECES {
                    found.push((at..end, Mapped::Striped));
                    break;
                }
                let (row, column) = (inside / self.stripe_length, inside % self.stripe_length);
                let next = at.saturating_add(self.stripe_length - column).min(end);
                let logical = row
                    .checked_mul(count)
                    .and_then(|stripe| stripe.checked_add(index)?.checked_mul(self.stripe_length))
                    .and_then(|offset| self.logical.checked_add(offset)?.checked_add(column));
                found.push((at..next, logical.map_or(Mapped::Striped, Mapped::At)));
                at = next;
            }
        }
        found
    }
}

/// A stripe is 64 KiB: as many as a gigabyte has.
const MOST_PIECES: usize = 1 << 14;

/// The chunks of the file system.
///
/// # Errors
/// What the kernel answered; `EPERM` without CAP_SYS_ADMIN.
pub fn chunks(file: impl AsFd) -> io::Result<Vec<Chunk>> {
    const CHUNK_TREE: u64 = 3;
    const FIRST_CHUNK_TREE: u64 = 256;
    const CHUNK_ITEM: u32 = 228;
    let mut found = Vec::new();
    search(file, CHUNK_TREE, FIRST_CHUNK_TREE, CHUNK_ITEM, |offset, item| {
        found.extend(Chunk::parse(offset, item));
    })?;
    Ok(found)
}

/// Who has a byte of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// The subvolume.
    pub root: u64,
    /// The file in it.
    pub inode: u64,
    /// Where in the file.
    pub offset: u64,
}

/// The files that have this byte of a data chunk; none where it is free. `true` where there are more.
///
/// # Errors
/// What the kernel answered; `EPERM` without CAP_SYS_ADMIN.
pub fn owners(file: impl AsFd, logical: u64) -> io::Result<(Vec<Owner>, bool)> {
    let mut container = Box::new(Container { counts: [0; 4], values: [0; 3 * OWNERS] });
    let mut call = LogicalIno {
        logical,
        size: CONTAINER_SIZE,
        reserved: [0; 3],
        flags: 0,
        container: &mut container,
    };
    match ioctl::call(file, &mut call) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok((Vec::new(), false)),
        Err(error) => return Err(error),
    }
    let [_, _, count, missed] = container.counts;
    let count = usize::try_from(count).unwrap_or(0);
    let (triples, _) = container.values.get(..count).unwrap_or(&container.values).as_chunks::<3>();
    let owner = |&[inode, offset, root]: &[u64; 3]| Owner { root, inode, offset };
    Ok((triples.iter().map(owner).collect(), missed > 0))
}

/// The path of an inode within its subvolume, without a slash in front; of several names one.
///
/// # Errors
/// `ENOENT` where it has none; `EPERM` without CAP_SYS_ADMIN.
pub fn path_in_subvolume(file: impl AsFd, root: u64, inode: u64) -> io::Result<Vec<u8>> {
    let mut lookup = Box::new(InoLookup { tree: root, inode, name: [0; 4080] });
    ioctl::call(file, &mut *lookup)?;
    let mut path = until_nul(&lookup.name);
    // As if it were a directory.
    if path.last() == Some(&b'/') {
        path.pop();
    }
    Ok(path)
}

/// The path of a subvolume from the topmost one: empty for that, else `/a/b`.
///
/// # Errors
/// As [`path_in_subvolume`]; `ELOOP` where they lie in each other without end.
pub fn subvolume_path(file: impl AsFd, root: u64) -> io::Result<Vec<u8>> {
    const FS_TREE: u64 = 5;
    const ROOT_TREE: u64 = 1;
    const ROOT_BACKREF: u32 = 144;
    const DEEPEST: usize = 64;
    let (mut path, mut at) = (Vec::new(), root);
    for _ in 0..DEEPEST {
        if at == FS_TREE {
            return Ok(path);
        }
        let mut parent = None;
        search(&file, ROOT_TREE, at, ROOT_BACKREF, |offset, item| {
            parent = parent.take().or_else(|| Some((offset, RootRef::parse(item)?)));
        })?;
        let Some((above, RootRef { directory, name })) = parent else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let folder = path_in_subvolume(&file, above, directory)?;
        let slash: &[u8] = if folder.is_empty() { b"" } else { b"/" };
        path = [slash, &folder, b"/", &name, &path].concat();
        at = above;
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// Where a subvolume hangs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootRef {
    /// The directory, in the subvolume above.
    pub directory: u64,
    /// Its name there.
    pub name: Vec<u8>,
}

impl RootRef {
    /// Reads an item: `0 dirid  8 sequence  16 name_len  18 name`.
    #[must_use]
    pub fn parse(item: &[u8]) -> Option<RootRef> {
        let length = usize::from(u16::from_le_bytes(*item.get(16..)?.first_chunk()?));
        let name = item.get(18..)?.get(..length)?.to_vec();
        Some(RootRef { directory: u64_at(item, 0)?, name })
    }
}

/// Gives each item of one kind and object of a tree to `each`: the offset of its key, its bytes.
fn search(
    file: impl AsFd,
    tree: u64,
    object: u64,
    kind: u32,
    mut each: impl FnMut(u64, &[u8]),
) -> io::Result<()> {
    let mut call = Box::new(Search {
        tree,
        objects: [object; 2],
        offsets: [0, u64::MAX],
        transactions: [0, u64::MAX],
        kinds: [kind; 2],
        items: 0,
        unused: 0,
        unused64: [0; 4],
        buffer_size: BUFFER_SIZE,
        buffer: [0; BUFFER],
    });
    loop {
        call.items = u32::MAX;
        ioctl::call(&file, &mut *call)?;
        let mut last = None;
        for (offset, item) in Items::new(&call.buffer, call.items) {
            each(offset, item);
            last = Some(offset);
        }
        // Items come in the order of their keys, and each call has to get ahead.
        match last.and_then(|last| last.checked_add(1)) {
            Some(next) if next > call.offsets[0] => call.offsets[0] = next,
            _ => return Ok(()),
        }
    }
}

/// The items of an answer.
///
/// ```text
///   0 transid  8 objectid  16 offset  24 type  28 len  32 item
/// ```
#[derive(Clone, Debug)]
pub struct Items<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Items<'a> {
    /// `count` items in the order in which the kernel laid them out.
    #[must_use]
    pub fn new(buffer: &'a [u8], count: u32) -> Items<'a> {
        Items { rest: buffer, left: count }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // The header is the kernel's own structure, in the machine's order.
        #[allow(clippy::host_endian_bytes, reason = "a structure of the kernel, not of the disk")]
        let (offset, length) = (
            u64::from_ne_bytes(*self.rest.get(16..)?.first_chunk()?),
            u32::from_ne_bytes(*self.rest.get(28..)?.first_chunk()?),
        );
        let body = self.rest.get(32..)?;
        let (item, rest) = body.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some((offset, item))
    }
}

fn u64_at(item: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*item.get(at..)?.first_chunk()?))
}

fn until_nul(text: &[u8]) -> Vec<u8> {
    text.split(|b| *b == 0).next().unwrap_or_default().to_vec()
}

/// `struct btrfs_ioctl_fs_info_args`, 1024 bytes.
#[repr(C)]
struct FsInfo {
    max_id: u64,
    rest: [u64; 127],
}

// SAFETY: BTRFS_IOC_FS_INFO reads and writes one structure of 1024 bytes, all of it integers here.
#[allow(unsafe_code, reason = "an ioctl's argument")]
unsafe impl Argument for FsInfo {
    /// `_IOR(0x94, 31, ...)`.
    const REQUEST: libc::Ioctl = 0x8400_941F;
}

/// `struct btrfs_ioctl_dev_info_args`, 4096 bytes, the path at their end.
#[repr(C)]
struct DeviceInfo {
    id: u64,
    head: [u64; 383],
    path: [u8; 1024],
}

// SAFETY: BTRFS_IOC_DEV_INFO reads and writes one structure of 4096 bytes, all of it integers here.
#[allow(unsafe_code, reason = "an ioctl's argument")]
unsafe impl Argument for DeviceInfo {
    /// `_IOWR(0x94, 30, ...)`.
    const REQUEST: libc::Ioctl = 0xD000_941E;
}

const BUFFER: usize = 64 << 10;
const BUFFER_SIZE: u64 = 64 << 10;

/// `struct btrfs_ioctl_search_args_v2` with its buffer.
#[repr(C)]
struct Search {
    tree: u64,
    objects: [u64; 2],
    offsets: [u64; 2],
    transactions: [u64; 2],
    kinds: [u32; 2],
    items: u32,
    unused: u32,
    unused64: [u64; 4],
    buffer_size: u64,
    buffer: [u8; BUFFER],
}

// SAFETY: BTRFS_IOC_TREE_SEARCH_V2 reads and writes the structure and `buffer_size` bytes behind it,
// which is always the buffer's length; all members are integers.
#[allow(unsafe_code, reason = "an ioctl's argument")]
unsafe impl Argument for Search {
    /// `_IOWR(0x94, 17, ...)`, whose size counts no buffer.
    const REQUEST: libc::Ioctl = 0xC070_9411;
}

/// No more files of one place are named.
const OWNERS: usize = 340;

/// `struct btrfs_data_container`: `bytes_left bytes_missing elem_cnt elem_missed`, then numbers.
#[repr(C)]
struct Container {
    counts: [u32; 4],
    values: [u64; 3 * OWNERS],
}

const CONTAINER_SIZE: u64 = 16 + 24 * 340;

/// `struct btrfs_ioctl_logical_ino_args`, whose last member is an address in 64 bits.
#[repr(C)]
struct LogicalIno<'a> {
    logical: u64,
    size: u64,
    reserved: [u64; 3],
    flags: u64,
    container: &'a mut Container,
}

// SAFETY: BTRFS_IOC_LOGICAL_INO_V2 reads the structure and writes `size` bytes where its last
// member points to: that many has the container, which is all integers and borrowed meanwhile.
#[allow(unsafe_code, reason = "an ioctl's argument")]
unsafe impl Argument for LogicalIno<'_> {
    /// `_IOWR(0x94, 59, ...)`.
    const REQUEST: libc::Ioctl = 0xC038_943B;
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
struct InoLookup {
    tree: u64,
    inode: u64,
    name: [u8; 4080],
}

// SAFETY: BTRFS_IOC_INO_LOOKUP reads and writes one structure of 4096 bytes, all of it integers.
#[allow(unsafe_code, reason = "an ioctl's argument")]
unsafe impl Argument for InoLookup {
    /// `_IOWR(0x94, 18, ...)`.
    const REQUEST: libc::Ioctl = 0xD000_9412;
}

// The kernel's structures have 64 bits where these have an address.
const _: () = assert!(size_of::<LogicalIno<'_>>() == 56);
const _: () = assert!(size_of::<Container>() == 16 + 24 * OWNERS);
const _: () = assert!(size_of::<DeviceInfo>() == 4096 && size_of::<FsInfo>() == 1024);
const _: () = assert!(size_of::<InoLookup>() == 4096);
const _: () = assert!(std::mem::offset_of!(Search, buffer) == 0x70);

#[cfg(test)]
mod tests {
    use super::*;

    fn item(length: u64, kind: u64, stripes: &[(u64, u64)]) -> Vec<u8> {
        let mut item = [length, 2, 65536, kind].map(u64::to_le_bytes).concat();
        item.extend([0; 12]);
        item.extend(u16::try_from(stripes.len()).unwrap().to_le_bytes());
        item.extend([0; 2]);
        for (device, offset) in stripes {
            item.extend([*device, *offset, 0, 0].map(u64::to_le_bytes).concat());
        }
        item
    }

    #[test]
    fn copies_and_stripes_are_placed() {
        let at = |logical| Mapped::At(logical);
        let single = Chunk::parse(1 << 30, &item(1 << 20, 1, &[(1, 4096)])).unwrap();
        assert!(single.is_data());
        assert_eq!(single.place(1, &(0..8192)), [(4096..8192, at(1 << 30))]);
        assert_eq!(single.place(2, &(0..8192)), []);
        let end = 4096 + (1 << 20);
        assert_eq!(
            single.place(1, &(end - 1..end + 9)),
            [(end - 1..end, at((1 << 30) + (1 << 20) - 1))]
        );
        // DUP, of metadata.
        let dup = Chunk::parse(0, &item(65536, 4 | 1 << 5, &[(1, 0), (1, 65536)])).unwrap();
        assert!(!dup.is_data());
        assert_eq!(
            dup.place(1, &(65535..65537)),
            [(65535..65536, at(65535)), (65536..65537, at(0))]
        );
        let raid0 = Chunk::parse(0, &item(4 * 65536, 1 | 1 << 3, &[(1, 0), (2, 0)])).unwrap();
        assert_eq!(
            raid0.place(2, &(65530..65546)),
            [(65530..65536, at(65536 + 65530)), (65536..65546, at(3 * 65536))]
        );
        let raid6 = Chunk::parse(0, &item(1 << 20, 1 | 1 << 8, &[(1, 0), (2, 0), (3, 0)])).unwrap();
        assert_eq!(raid6.place(3, &(0..1)), [(0..1, Mapped::Striped)]);
    }

    #[test]
    fn what_cannot_be_is_passed_over() {
        let good = item(4096, 1, &[(1, 0), (1, 4096)]);
        assert!(Chunk::parse(0, &good).is_some());
        for cut in 0..good.len() {
            assert_eq!(Chunk::parse(0, &good[..cut]), None, "{cut}");
        }
        assert_eq!(Chunk::parse(u64::MAX, &good), None);
        assert_eq!(Chunk::parse(0, &item(0, 1, &[(1, 0)])), None);
        assert_eq!(Chunk::parse(0, &item(4096, 1, &[])), None);
        assert_eq!(RootRef::parse(&[0; 17]), None);
        assert_eq!(RootRef::parse(&[1; 18]), None);
    }
}
