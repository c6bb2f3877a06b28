//! What lies where no file does: free space, metadata, or what a file system does not tell.

use std::ops::Range;
use std::os::fd::AsFd;

use host::block_device::Number;
use host::space_map::{self, Dialect, Owner};

use super::index::Index;
use super::judge::uncovered;
use super::{Use, What};

/// What is known beside a file system's index.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) fs_type: &'a [u8],
    pub(super) device: Number,
    /// Stretches that the file system's journal has.
    pub(super) journal: Vec<Range<u64>>,
    /// Whether every file was seen, and none can have gone since: then what is in use and of
    /// no file is the file system's own.
    pub(super) nothing_is_hidden: bool,
    /// Why a file may have been missed, where one may.
    pub(super) why_not: &'a str,
}

/// What `bytes`, which are of no file that was found, are used for.
pub(super) fn classify(
    place: &Surroundings<'_>,
    directory: impl AsFd,
    index: Option<&Index>,
    bytes: Range<u64>,
) -> Vec<Use> {
    let dialect = match place.fs_type {
        b"ext4" | b"ext3" | b"ext2" => Dialect::Ext4,
        b"xfs" => Dialect::Xfs,
        _ => return vec![Use { bytes, what: without_map(place) }],
    };
    let owners = match space_map::owners(directory, dialect, place.device, bytes.clone(), MOST) {
        Ok(owners) => owners,
        Err(error) => {
            let reason = format!("the map of its space cannot be read: {error}");
            return vec![Use { bytes, what: What::Unknown { reason } }];
        }
    };
    let mut uses = Vec::new();
    let mut next = bytes.start;
    for owned in owners {
        // Of stretches that overlap (shared ones) the first counts.
        let start = owned.bytes.start.max(next);
        if start >= owned.bytes.end {
            continue;
        }
        if next < start {
            uses.push(Use { bytes: next..start, what: beyond() });
        }
        next = owned.bytes.end;
        let stretch = start..next;
        if owned.owner == Owner::Used {
            let journal = place.journal.iter().map(|one| {
                one.start.clamp(stretch.start, stretch.end)
                    ..one.end.clamp(stretch.start, stretch.end)
            });
            let journal = journal.filter(|one| one.start < one.end);
            uses.extend(journal.map(|bytes| Use { bytes, what: metadata("journal") }));
            let rest = uncovered(&stretch, place.journal.iter());
            let used = |bytes| Use { bytes, what: what(place, index, Owner::Used) };
            uses.extend(rest.into_iter().map(used));
        } else {
            uses.push(Use { bytes: stretch, what: what(place, index, owned.owner) });
        }
    }
    if next < bytes.end {
        uses.push(Use { bytes: next..bytes.end, what: beyond() });
    }
    uses
}

/// No more stretches of one question.
const MOST: usize = 1024;

fn what(place: &Surroundings<'_>, index: Option<&Index>, owner: Owner) -> What {
    match owner {
        Owner::Free => What::Free,
        Owner::Metadata(of) => metadata(of),
        // Maps of large files, targets of long links, quota.
        Owner::Used if place.nothing_is_hidden => metadata("in use, and no file's data"),
        Owner::Used => What::Unknown {
            reason: format!("in use, but by no file that was found: {}", place.why_not),
        },
        Owner::Inode { number, is_data } => {
            let node = index.and_then(|index| index.of_inode(number).map(|id| index.path(id)));
            match is_data {
                true => What::File { inode: number, path: node, offset: None, links: 0 },
                false => What::Metadata {
                    of: "attributes or map of a file".to_owned(),
                    inode: Some(number),
                    path: node,
                },
            }
        }
    }
}

fn metadata(of: &str) -> What {
    What::Metadata { of: of.to_owned(), inode: None, path: None }
}

fn beyond() -> What {
    What::Unknown { reason: "behind the end of the file system".to_owned() }
}

fn without_map(place: &Surroundings<'_>) -> What {
    match place.fs_type {
        // It has no free space: what is no file's data describes files, or fills a block.
        b"erofs" if place.nothing_is_hidden => metadata("inodes, or the rest of a block"),
        b"squashfs" => {
            What::Unknown { reason: "squashfs does not tell where its files lie".to_owned() }
        }
        b"erofs" => {
            What::Unknown { reason: format!("of no file that was found: {}", place.why_not) }
        }
        other => What::Unknown {
            reason: format!(
                "of no file that was found, and {} does not tell free space from metadata",
                other.escape_ascii()
            ),
        },
    }
}
