//! The hashes that lie beside the segments. They save work and name places; they are believed
//! only where a signed root proves them.

use std::io;
use std::path::PathBuf;

use record::units::LeafIndex;

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::layout::{self, TILE};
use crate::merkle::{Hash, Range, leaf_hash};
use crate::scan::{Found, Scan, Segment};
use crate::store::{File as _, Store};
use crate::verify::Tampered;

/// The stored root over the leaves `[from, to)` of a trail of `size` leaves, `None` if the stored
/// hashes do not reach that far.
pub(crate) fn root<S: Store>(
    store: &S,
    segments: &[Segment],
    (from, to): (u64, u64),
) -> Result<Option<Hash>, Error> {
    let mut tree = Range::new();
    // Full tiles first: what a proof asks for begins at a tile if it is larger than one.
    let tiles = if from.is_multiple_of(TILE) { from / TILE..to / TILE } else { 0..0 };
    let mut at = from;
    if !tiles.is_empty() {
        let whole = hashes(store, PathBuf::from(layout::UPPER), tiles.clone(), |hash| {
            tree.push_tile(hash);
            true
        })?;
        if !whole {
            return Ok(None);
        }
        at = tiles.end * TILE;
    }
    let whole = leaves(store, segments, at..to, |hash| {
        tree.push(hash);
        true
    })?;
    Ok(whole.then(|| tree.root()))
}

/// Names the first leaf that is not the signed one, if it can be told.
pub(crate) fn locate<S: Store>(
    store: &S,
    segments: &[Segment],
    head: &Checkpoint,
) -> Result<Tampered, Error> {
    let what = format!(
        "its {} leaves do not hash to the signed root; which one was changed cannot be told, \
         because the stored hashes do not either",
        head.size
    );
    Ok(first_changed(store, segments, head)?.unwrap_or_else(|| Tampered::of(what)))
}

/// The first leaf that is not what its stored hash says, if the stored hashes lead to the signed
/// root, which makes them as good as signed.
pub(crate) fn first_changed<S: Store>(
    store: &S,
    segments: &[Segment],
    head: &Checkpoint,
) -> Result<Option<Tampered>, Error> {
    let mut tree = Range::new();
    let whole = leaves(store, segments, 0..head.size, |hash| {
        tree.push(hash);
        true
    })?;
    if !whole || tree.root() != head.root {
        return Ok(None);
    }
    let mut scan = Scan::new(store, segments.to_vec(), 0);
    let mut found = None;
    let mut failed = None;
    leaves(store, segments, 0..head.size, |hash| {
        match scan.advance() {
            Ok(Found::Leaf { .. }) if leaf_hash(scan.bytes()) == hash => return true,
            Ok(Found::Leaf { .. }) => {
                found = Some(scan.this_is_wrong("it is not the leaf that was signed"));
            }
            Ok(Found::End) => found = Some(scan.wrong("it is signed but not there")),
            Ok(Found::Rest(what) | Found::Wrong(what)) => found = Some(scan.wrong(what)),
            Err(error) => failed = Some(error),
        }
        false
    })?;
    failed.map_or(Ok(found), Err)
}

/// Gives the stored hashes of a range of leaves, while they are wanted. Whether that was all.
fn leaves<S: Store>(
    store: &S,
    segments: &[Segment],
    range: std::ops::Range<u64>,
    mut each: impl FnMut(Hash) -> bool,
) -> Result<bool, Error> {
    let mut at = range.start;
    while at < range.end {
        let n = segments.partition_point(|segment| segment.first <= at);
        let Some(segment) = n.checked_sub(1).and_then(|n| segments.get(n)) else {
            return Ok(false);
        };
        let end = segments.get(n).map_or(range.end, |next| next.first.min(range.end));
        let path = layout::leaf_hashes(LeafIndex(segment.first));
        if !hashes(store, path, at - segment.first..end - segment.first, &mut each)? {
            return Ok(false);
        }
        at = end;
    }
    Ok(true)
}

/// Gives some of the hashes in a file, while they are wanted. Whether that was all.
fn hashes<S: Store>(
    store: &S,
    path: PathBuf,
    range: std::ops::Range<u64>,
    mut each: impl FnMut(Hash) -> bool,
) -> Result<bool, Error> {
    let file = match store.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(Error::io("open", &path))?,
    };
    let mut chunk = vec![0; 32 * 1024];
    let mut at = range.start;
    while at < range.end {
        let most = (range.end - at).min(1024);
        let bytes = usize::try_from(most).unwrap_or(0) * 32;
        let offset = at.saturating_mul(32);
        let n = file.read_at(offset, &mut chunk[..bytes]).map_err(Error::io("read", &path))?;
        if n < bytes || !chunk[..bytes].as_chunks::<32>().0.iter().all(|hash| each(*hash)) {
            return Ok(false);
        }
        at += most;
    }
    Ok(true)
}
