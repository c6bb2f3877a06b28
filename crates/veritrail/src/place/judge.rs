//! What the list of a file system's files says of some bytes, and how far it can be believed.

use std::ops::Range;

use super::answer::{Hit, Use, What};
use super::index::{Content, Index, NodeId};
use super::mounts::{self, Entrance};
use super::walk::{End, Walked};

/// No more files with bytes in one answer: beyond, they are not even counted.
const MOST_COUNTED: usize = 1 << 16;

/// Why a file may have been missed; none where every file was seen.
pub(super) fn why_not(walked: &Walked, mount: &mounts::Mount) -> Option<&'static str> {
    match walked.end {
        End::Full => Some("it has too many files to list"),
        End::Late => Some("listing its files took too long"),
        End::NoMap => Some("it does not tell where its files lie"),
        End::Whole if walked.trouble.unreadable > 0 => Some("not every file could be read"),
        End::Whole if walked.trouble.covered > 0 => Some("other mounts cover some files"),
        End::Whole if !mount.is_whole() => Some("only a part of it is mounted"),
        End::Whole => None,
    }
}

pub(super) fn notes(walked: &Walked, mount: &mounts::Mount, entrance: &Entrance) -> Vec<String> {
    let mut notes = Vec::new();
    let files = walked.index.files();
    match walked.end {
        End::Full => notes.push(format!("too many files: {files} were listed")),
        End::Late => notes.push(format!("too slow: {files} files were listed")),
        End::NoMap | End::Whole => {}
    }
    let trouble = &walked.trouble;
    let age = walked.at.elapsed().as_secs();
    if !mount.read_only && age > 1 {
        notes.push(format!("files as they were {age} seconds ago"));
    }
    if trouble.unreadable > 0 {
        let first = trouble.first.iter();
        let first: Vec<String> =
            first.map(|(path, why)| format!("{}: {why}", path.escape_ascii())).collect();
        notes.push(format!(
            "{} files or directories cannot be read ({})",
            trouble.unreadable,
            first.join("; ")
        ));
    }
    if trouble.covered > 0 && !entrance.is_bare {
        notes.push(format!("{} files or directories are covered by mounts", trouble.covered));
    }
    if !mount.is_whole() {
        notes.push(format!("only {} of it is mounted", mount.root.escape_ascii()));
    }
    notes
}

/// Puts the files that have bytes of the hit among its uses; up to where it looked.
pub(super) fn take_files(hit: &mut Hit, index: &Index, prefix: &[u8]) -> u64 {
    for found in index.find(&hit.bytes) {
        if hit.uses.len() >= MOST_COUNTED {
            hit.notes.push("too many files to count".to_owned());
            return found.bytes.start;
        }
        let Some(node) = index.node(found.node) else { continue };
        let path = Some(path_in(index, found.node, prefix));
        let what = match found.content {
            Content::Attributes => What::Metadata {
                of: "extended attributes".to_owned(),
                inode: Some(node.inode),
                path,
            },
            Content::Data | Content::Compressed if node.is_directory => {
                What::Metadata { of: "directory".to_owned(), inode: Some(node.inode), path }
            }
            content => What::File {
                inode: node.inode,
                path,
                offset: (content == Content::Data).then_some(found.offset),
                links: node.links,
            },
        };
        hit.uses.push(Use { bytes: found.bytes, what });
    }
    hit.bytes.end
}

pub(super) fn path_in(index: &Index, node: NodeId, prefix: &[u8]) -> Vec<u8> {
    let path = index.path(node);
    if prefix.is_empty() || path != b"/" { [prefix, &path].concat() } else { prefix.to_vec() }
}

/// The stretches of `bytes` that none of the others has.
pub(super) fn uncovered<'a>(
    bytes: &Range<u64>,
    others: impl Iterator<Item = &'a Range<u64>>,
) -> Vec<Range<u64>> {
    let mut taken: Vec<&Range<u64>> = others.collect();
    taken.sort_by_key(|range| range.start);
    let mut rest = Vec::new();
    let mut next = bytes.start;
    for range in taken {
        if range.start > next && next < bytes.end {
            rest.push(next..range.start.min(bytes.end));
        }
        next = next.max(range.end);
    }
    if next < bytes.end {
        rest.push(next..bytes.end);
    }
    rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Each byte is of one of the others or of the rest, and never of both.
        #[test]
        fn the_rest_is_what_none_has(
            others in proptest::collection::vec((0..60u64, 0..20u64), 0..8),
            start in 0..60u64,
            length in 0..60u64,
        ) {
            let others: Vec<_> = others.iter().map(|(at, long)| *at..at + long).collect();
            let rest = uncovered(&(start..start + length), others.iter());
            for byte in 0..130 {
                let wanted = (start..start + length).contains(&byte)
                    && !others.iter().any(|other| other.contains(&byte));
                let found = rest.iter().filter(|one| one.contains(&byte)).count();
                prop_assert_eq!(found, usize::from(wanted), "{}", byte);
            }
            prop_assert!(rest.iter().all(|one| one.start < one.end));
        }
    }
}
