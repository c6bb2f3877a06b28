//! What lies at a place on a device of btrfs, which tells it by itself: nothing is walked.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Instant;

use host::block_device::Number;
use host::btrfs::{self, Chunk, Mapped, Owner};

use super::{Use, What};

/// Number of `device` within the file system that `file` lies on; none if it is none of its devices.
pub(super) fn number_within(file: impl AsFd, device: Number) -> io::Result<Option<u64>> {
    let is_it = |path: &[u8]| {
        let found = fs::metadata(Path::new(std::ffi::OsStr::from_bytes(path)));
        found.is_ok_and(|found| {
            found.file_type().is_block_device()
                && (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev())) == device
        })
    };
    let devices = btrfs::devices(file)?;
    Ok(devices.into_iter().find(|(_, path)| is_it(path)).map(|(number, _)| number))
}

/// What `bytes` of the device with that number are used for. Not all of it where time runs out.
pub(super) fn uses(
    file: impl AsFd,
    number: u64,
    bytes: &Range<u64>,
    deadline: Instant,
) -> Vec<Use> {
    let file = file.as_fd();
    let chunks = match btrfs::chunks(file) {
        Ok(chunks) => chunks,
        Err(error) => {
            let reason = format!("the tree of chunks cannot be read: {error}");
            return vec![Use { bytes: bytes.clone(), what: What::Unknown { reason } }];
        }
    };
    let mut uses = Vec::new();
    for superblock in SUPERBLOCKS {
        push(&mut uses, bytes, superblock..superblock + 4096, metadata("superblock"));
    }
    let mut names = Names { file, known: BTreeMap::new() };
    for chunk in &chunks {
        for (piece, mapped) in chunk.place(number, bytes) {
            match mapped {
                _ if !chunk.is_data() => push(&mut uses, bytes, piece, metadata("trees")),
                Mapped::Striped => {
                    let reason = "a chunk of RAID 5, 6 or 10 is not followed".to_owned();
                    push(&mut uses, bytes, piece, What::Unknown { reason });
                }
                Mapped::At(logical) => {
                    names.look_at(chunk, &piece, logical, deadline, &mut uses);
                }
            }
        }
    }
    push(&mut uses, bytes, 0..RESERVED, metadata("reserved for boot loaders"));
    for rest in super::judge::uncovered(bytes, uses.iter().map(|one| &one.bytes)) {
        // In no chunk.
        uses.push(Use { bytes: rest, what: What::Free });
    }
    uses
}

/// Of every device (`btrfs_sb_offset()` of fs/btrfs/disk-io.h).
const SUPERBLOCKS: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];

/// No chunk lies there (`BTRFS_DEVICE_RANGE_RESERVED`).
const RESERVED: u64 = 1 << 20;

fn metadata(of: &str) -> What {
    What::Metadata { of: of.to_owned(), inode: None, path: None }
}

/// Adds what of `piece` is asked for and has no use yet.
fn push(uses: &mut Vec<Use>, asked: &Range<u64>, piece: Range<u64>, what: What) {
    let piece = piece.start.max(asked.start)..piece.end.min(asked.end);
    if piece.start >= piece.end {
        return;
    }
    for bytes in super::judge::uncovered(&piece, uses.iter().map(|one| &one.bytes)) {
        uses.push(Use { bytes, what: what.clone() });
    }
}

struct Names<'a> {
    file: BorrowedFd<'a>,
    known: BTreeMap<(u64, u64), Option<Vec<u8>>>,
}

impl Names<'_> {
    /// Asks for each sector of a piece of a data chunk; neighbours become one.
    fn look_at(
        &mut self,
        chunk: &Chunk,
        piece: &Range<u64>,
        logical: u64,
        deadline: Instant,
        uses: &mut Vec<Use>,
    ) {
        /// The smallest there is, so that none is missed.
        const SECTOR: u64 = 4096;
        debug_assert!(logical >= chunk.logical);
        let mut at = piece.start;
        // What the last sector had, and which of the uses goes on.
        let mut last: Vec<(Option<Owner>, usize)> = Vec::new();
        while at < piece.end {
            let here = logical.saturating_add(at - piece.start);
            let next = (at - here % SECTOR).saturating_add(SECTOR).min(piece.end);
            if Instant::now() >= deadline {
                let reason = "it took too long".to_owned();
                uses.push(Use { bytes: at..piece.end, what: What::Unknown { reason } });
                return;
            }
            let inside = here % SECTOR;
            let owners = match btrfs::owners(self.file, here - inside) {
                Ok((owners, _)) => owners,
                Err(error) => {
                    let reason = format!("btrfs does not tell whose it is: {error}");
                    uses.push(Use { bytes: at..piece.end, what: What::Unknown { reason } });
                    return;
                }
            };
            let owners: Vec<Option<Owner>> = match owners.as_slice() {
                [] => vec![None],
                owners => owners
                    .iter()
                    .map(|one| Some(Owner { offset: one.offset.saturating_add(inside), ..*one }))
                    .collect(),
            };
            let mut now = Vec::new();
            for owner in owners {
                let goes_on = last.iter().find(|(before, index)| {
                    let length = uses.get(*index).map_or(0, |one| one.bytes.end - one.bytes.start);
                    match (before, owner) {
                        (None, None) => true,
                        (Some(before), Some(owner)) => {
                            (before.root, before.inode) == (owner.root, owner.inode)
                                && before.offset.saturating_add(length) == owner.offset
                        }
                        _ => false,
                    }
                });
                if let Some((first, index)) = goes_on.copied()
                    && let Some(one) = uses.get_mut(index)
                {
                    one.bytes.end = next;
                    now.push((first, index));
                    continue;
                }
                let what = owner.map_or(What::Free, |owner| self.file_of(owner));
                now.push((owner, uses.len()));
                uses.push(Use { bytes: at..next, what });
            }
            last = now;
            at = next;
        }
    }

    fn file_of(&mut self, owner: Owner) -> What {
        let file = self.file;
        let path = self.known.entry((owner.root, owner.inode)).or_insert_with(|| {
            let subvolume = btrfs::subvolume_path(file, owner.root).ok()?;
            let path = btrfs::path_in_subvolume(file, owner.root, owner.inode).ok()?;
            Some([subvolume.as_slice(), b"/", &path].concat())
        });
        let (inode, offset) = (owner.inode, Some(owner.offset));
        What::File { inode, path: path.clone(), offset, links: 0 }
    }
}
