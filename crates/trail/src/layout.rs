//! Where the parts of a trail lie. Nothing else knows a name.
//!
//! ```text
//! trail/
//! ├── id                               <host>/<32 hex digits>, the origin; exists <=> a trail
//! ├── key                              Ed25519, private, 0600
//! ├── key.pub                          the public half, for who has no other
//! ├── checkpoint                       size and root, signed
//! ├── open                             exists while a writer has the trail open
//! ├── segments/
//! │   ├── 00000000000000000000.log     leaves, text; named by the first one's index
//! │   ├── 00000000000000000000.hashes  32 bytes for each leaf                    (derived)
//! │   └── 00000000000000004096.log
//! ├── hashes/8                         32 bytes for each 256 leaves               (derived)
//! └── torn/<offset>-<n>                bytes that a crash left behind a segment's last leaf
//! ```

use std::path::{Path, PathBuf};

use record::units::LeafIndex;

/// The origin.
pub const ID: &str = "id";
/// The private key.
pub const KEY: &str = "key";
/// The public key.
pub const KEY_PUB: &str = "key.pub";
/// The signed head.
pub const CHECKPOINT: &str = "checkpoint";
/// The mark of an open trail.
pub const OPEN: &str = "open";
/// The directory of the leaves.
pub const SEGMENTS: &str = "segments";
/// The directory of the upper hashes.
pub const HASHES: &str = "hashes";
/// The roots of all full groups of 256 leaves.
pub const UPPER: &str = "hashes/8";
/// The directory of what crashes left.
pub const TORN: &str = "torn";

/// Whether something at the top of a trail's directory has this name.
#[must_use]
pub fn is_top(name: &str) -> bool {
    [ID, KEY, KEY_PUB, CHECKPOINT, OPEN, SEGMENTS, HASHES, TORN].contains(&name)
}

/// Segments start at multiples of this many leaves, which is also the width of a tile of
/// c2sp.org/tlog-tiles.
pub const TILE: u64 = 256;

/// The segment whose first leaf is `first`.
#[must_use]
pub fn segment(first: LeafIndex) -> PathBuf {
    PathBuf::from(format!("{SEGMENTS}/{:020}.log", first.0))
}

/// The hashes of the leaves of the segment whose first leaf is `first`.
#[must_use]
pub fn leaf_hashes(first: LeafIndex) -> PathBuf {
    PathBuf::from(format!("{SEGMENTS}/{:020}.hashes", first.0))
}

/// The first leaf of a segment, from its file name; `None` for any other file.
#[must_use]
pub fn first_leaf(name: &str) -> Option<LeafIndex> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(LeafIndex)
}

/// What a file is called until it is whole.
#[must_use]
pub fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// Bytes behind the last leaf of a segment, cut off at `offset`, the `n`th such.
#[must_use]
pub fn torn(offset: u64, n: u32) -> PathBuf {
    PathBuf::from(format!("{TORN}/{offset}-{n}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_segments_read_back() {
        for first in [0, 256, 1 << 40, u64::MAX] {
            let path = segment(LeafIndex(first));
            let name = path.file_name().and_then(|name| name.to_str()).unwrap();
            assert_eq!(first_leaf(name), Some(LeafIndex(first)));
        }
        for name in ["", "0.log", "00000000000000000000.hashes", "99999999999999999999.log"] {
            assert_eq!(first_leaf(name), None, "{name}");
        }
    }
}
