//! Walks over the leaves of all segments, and takes nothing on trust.

use std::io;
use std::path::{Path, PathBuf};

use record::units::LeafIndex;

use crate::error::Error;
use crate::layout;
use crate::leaf::{Leaves, Step, Tail};
use crate::store::{File as _, Store};
use crate::verify::{Place, Tampered};

/// A segment by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) first: u64,
    pub(crate) path: PathBuf,
}

/// The segments there are, in order.
pub(crate) fn segments<S: Store>(store: &S) -> Result<Vec<Segment>, Error> {
    let directory = Path::new(layout::SEGMENTS);
    let names = store.list(directory).map_err(Error::io("list", directory))?;
    let first = names.iter().filter_map(|name| layout::first_leaf(name));
    Ok(first.map(|first| Segment { first: first.0, path: layout::segment(first) }).collect())
}

/// What stands at some place of a trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The leaf that belongs there; whether its event goes on in the next.
    Leaf { more: bool },
    /// The end of the last segment.
    End,
    /// Something that is no leaf up to the end of the last segment: torn, or not yet whole.
    Rest(&'static str),
    /// Something that no crash leaves.
    Wrong(&'static str),
}

/// Leaves in order, from the beginning of a segment on.
pub(crate) struct Scan<'s, S: Store> {
    store: &'s S,
    segments: Vec<Segment>,
    at: usize,
    leaves: Option<Leaves<S::File>>,
    next: u64,
}

impl<'s, S: Store> Scan<'s, S> {
    /// Over `segments`, the first of which is the trail's `from`th leaf's.
    pub(crate) fn new(store: &'s S, segments: Vec<Segment>, from: u64) -> Scan<'s, S> {
        Scan { store, segments, at: 0, leaves: None, next: from }
    }

    /// Goes on to the next leaf.
    pub(crate) fn advance(&mut self) -> Result<Found, Error> {
        loop {
            let Some(segment) = self.segments.get(self.at) else { return Ok(Found::End) };
            let leaves = match &mut self.leaves {
                Some(leaves) => leaves,
                None => {
                    if segment.first > self.next {
                        return Ok(Found::Wrong("the segment it lies in is missing"));
                    }
                    if segment.first < self.next || !self.next.is_multiple_of(layout::TILE) {
                        return Ok(Found::Wrong("there is a segment where none begins"));
                    }
                    let file = match self.store.open(&segment.path) {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {
                            return Ok(Found::Wrong("the segment it lies in is missing"));
                        }
                        other => other.map_err(Error::io("open", &segment.path))?,
                    };
                    self.leaves.insert(Leaves::new(file, 0))
                }
            };
            let last = self.at + 1 == self.segments.len();
            match leaves.advance().map_err(Error::io("read", &segment.path))? {
                Step::Leaf { index, more } if index == self.next => {
                    self.next += 1;
                    return Ok(Found::Leaf { more });
                }
                Step::Leaf { .. } => {
                    leaves.back();
                    return Ok(Found::Wrong("it says it is another leaf"));
                }
                Step::Rest(what) if last => return Ok(Found::Rest(what)),
                Step::Rest(what) => return Ok(Found::Wrong(what)),
                Step::End if last => return Ok(Found::End),
                Step::End => {
                    self.at += 1;
                    self.leaves = None;
                }
            }
        }
    }

    /// The index of the leaf that comes next.
    pub(crate) fn next_leaf(&self) -> u64 {
        self.next
    }

    /// The segment it stands in, and the leaves in that; `None` before the first step.
    pub(crate) fn current(&self) -> Option<(&Segment, &Leaves<S::File>)> {
        Some((self.segments.get(self.at)?, self.leaves.as_ref()?))
    }

    /// The bytes of the leaf found last.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.leaves.as_ref().map_or(&[], Leaves::bytes)
    }

    /// The tail of the leaf found last.
    pub(crate) fn tail(&self) -> Option<Tail<'_>> {
        self.leaves.as_ref()?.tail()
    }

    /// Bytes behind the leaf found last, in its segment.
    pub(crate) fn rest(&self) -> Result<u64, Error> {
        let Some((segment, leaves)) = self.current() else { return Ok(0) };
        let len = leaves.file().len().map_err(Error::io("read", &segment.path))?;
        Ok(len.saturating_sub(leaves.offset()))
    }

    /// Says that the leaf found last is wrong.
    pub(crate) fn this_is_wrong(&self, what: impl Into<String>) -> Tampered {
        let place = self.current().map(|(segment, leaves)| Place {
            segment: segment.path.clone(),
            offset: leaves.start(),
        });
        Tampered { leaf: Some(LeafIndex(self.next.saturating_sub(1))), place, what: what.into() }
    }

    /// Says that what was found does not belong behind the end of a closed trail.
    pub(crate) fn behind(&self, found: Found) -> Tampered {
        let what = "it lies behind the signed end of a closed trail";
        match found {
            Found::Leaf { .. } => self.this_is_wrong(what),
            _ => self.wrong(what),
        }
    }

    /// Says that what comes next is wrong.
    pub(crate) fn wrong(&self, what: impl Into<String>) -> Tampered {
        let place = match self.current() {
            Some((segment, leaves)) => {
                Some(Place { segment: segment.path.clone(), offset: leaves.offset() })
            }
            None => self
                .segments
                .get(self.at)
                .map(|segment| Place { segment: segment.path.clone(), offset: 0 }),
        };
        Tampered { leaf: Some(LeafIndex(self.next)), place, what: what.into() }
    }
}
