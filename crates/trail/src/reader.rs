//! Reads leaves while a writer appends.

use std::io;
use std::path::Path;

use record::units::LeafIndex;

use crate::error::Error;
use crate::layout::{self, TILE};
use crate::leaf::{CUT, Leaves, NUL, Step};
use crate::scan::{Segment, segments};
use crate::store::Store;
use crate::verify::{Place, Tampered};

/// One leaf, as it lies in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf<'a> {
    /// Its place in the trail.
    pub index: LeafIndex,
    /// Its lines, each LF-ended.
    pub bytes: &'a [u8],
    /// Whether its event goes on in the next leaf.
    pub more: bool,
    /// The segment, relative to the trail.
    pub segment: &'a Path,
    /// The first leaf of that segment.
    pub(crate) segment_first: u64,
    /// Where in the segment it begins, in bytes.
    pub offset: u64,
}

/// Reads leaves in order. What it gives has not been verified.
pub struct Reader<S: Store> {
    store: S,
    open: Option<(Segment, Leaves<S::File>)>,
    /// The leaf that comes next.
    next: u64,
    /// The first one that is wanted.
    from: u64,
    /// Whether the event of the leaf found last goes on.
    more: bool,
}

impl<S: Store> Reader<S> {
    /// Begins at leaf `from`.
    ///
    /// # Errors
    /// [`Error::NoTrail`], I/O.
    pub fn open(store: S, from: LeafIndex) -> Result<Reader<S>, Error> {
        let segments = segments(&store)?;
        if segments.is_empty() {
            // There may be none yet; whether it is a trail says its `id`.
            crate::identity::origin(&store)?.map_err(Error::Tampered)?;
        }
        let mut reader = Reader { store, open: None, next: 0, from: from.0, more: false };
        let first = segments.iter().take_while(|segment| segment.first <= from.0).last();
        if let Some(first) = first {
            reader.next = first.first;
            reader.enter()?;
        }
        Ok(reader)
    }

    /// The next leaf; `None` if there is none yet (a writer may bring it: ask again).
    ///
    /// # Errors
    /// [`Error::Tampered`] where there is something else that no crash leaves; I/O.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Leaf<'_>>, Error> {
        let mut asked_again = false;
        self.more = loop {
            let Some((segment, leaves)) = &mut self.open else {
                if !self.enter()? {
                    return Ok(None);
                }
                continue;
            };
            match leaves.advance().map_err(Error::io("read", &segment.path))? {
                Step::Leaf { index, more } if index == self.next => {
                    self.next += 1;
                    asked_again = false;
                    if index >= self.from {
                        break more;
                    }
                }
                Step::Leaf { .. } => {
                    let place = Place { segment: segment.path.clone(), offset: leaves.start() };
                    return Err(self.wrong(place, "it says it is another leaf"));
                }
                Step::Rest(what) if what != NUL && what != CUT => {
                    let place = Place { segment: segment.path.clone(), offset: leaves.offset() };
                    return Err(self.wrong(place, what));
                }
                // The end, unless recovery put another file in the place of this one, or there
                // is a next segment.
                step => {
                    let place = Place { segment: segment.path.clone(), offset: leaves.offset() };
                    if !asked_again {
                        asked_again = true;
                        let path = &segment.path;
                        let file = self.store.open(path).map_err(Error::io("open", path))?;
                        *leaves = Leaves::new(file, place.offset);
                    } else if segment.first != self.next && self.enter()? {
                        asked_again = false;
                        if let Step::Rest(what) = step {
                            return Err(self.wrong(place, what));
                        }
                    } else {
                        return Ok(None);
                    }
                }
            }
        };
        Ok(self.current())
    }

    /// The leaf found last.
    pub(crate) fn current(&self) -> Option<Leaf<'_>> {
        let index = LeafIndex(self.next.checked_sub(1)?);
        self.open.as_ref().map(|(segment, leaves)| Leaf {
            index,
            bytes: leaves.bytes(),
            more: self.more,
            segment: &segment.path,
            segment_first: segment.first,
            offset: leaves.start(),
        })
    }

    /// The leaf that comes next, whether it is wanted or not.
    pub(crate) fn position(&self) -> LeafIndex {
        LeafIndex(self.next)
    }

    /// Goes on in the segment that begins with the next leaf; false if there is none.
    fn enter(&mut self) -> Result<bool, Error> {
        if !self.next.is_multiple_of(TILE) {
            return Ok(false);
        }
        let path = layout::segment(LeafIndex(self.next));
        match self.store.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("open", &path)(error)),
            Ok(file) => {
                let segment = Segment { first: self.next, path };
                self.open = Some((segment, Leaves::new(file, 0)));
                Ok(true)
            }
        }
    }

    fn wrong(&self, place: Place, what: &str) -> Error {
        let leaf = Some(LeafIndex(self.next));
        Error::Tampered(Tampered { leaf, place: Some(place), what: what.to_owned() })
    }
}
