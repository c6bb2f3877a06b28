//! Whether a trail is what was signed.

use std::fmt;
use std::path::PathBuf;

use record::units::LeafIndex;

use crate::{Checkpoint, Error, PublicKey, Store};

/// What to hold the trail against.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// The key it must be signed with; without it the one that lies beside the checkpoint.
    pub public_key: Option<PublicKey>,
    /// Checkpoints kept elsewhere (signed notes): the trail must contain what each of them signed.
    pub anchors: Vec<String>,
    /// A single older checkpoint, the same way.
    pub older: Option<String>,
}

/// What is known about the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyTrust {
    /// It is the one that was given.
    Proven,
    /// It lies in the trail itself: whoever can write there could have put it there.
    SelfConsistent,
}

/// A trail that is what was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The head, whose `size` is the number of signed leaves.
    pub checkpoint: Checkpoint,
    /// Whole leaves behind it, not signed yet: at most a second's worth.
    pub unsigned: u64,
    /// Bytes behind those that are no whole event: what a crash, or a writer at work, leaves.
    pub torn: u64,
    /// Whose signature it is.
    pub key: KeyTrust,
    /// Anchors and older checkpoints that are in it.
    pub anchors: usize,
}

/// A place in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Relative to the trail.
    pub segment: PathBuf,
    /// In bytes.
    pub offset: u64,
}

/// The first thing that is not what was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tampered {
    /// The first wrong leaf, where it can be told.
    pub leaf: Option<LeafIndex>,
    /// Where it lies, or should.
    pub place: Option<Place>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Tampered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(leaf) = self.leaf {
            write!(f, "leaf {leaf}: ")?;
        }
        if let Some(place) = &self.place {
            write!(f, "{} at byte {}: ", place.segment.display(), place.offset)?;
        }
        f.write_str(&self.what)
    }
}

/// The answer of [`verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The trail is what was signed.
    Good(Report),
    /// It is not.
    Tampered(Tampered),
}

/// Says whether a trail is what was signed. Needs no key, no root and no writer; one may be at
/// work meanwhile. Memory does not grow with the trail.
///
/// # Errors
/// [`Error::NoTrail`], [`Error::Unusable`] for a bad anchor, I/O. Never for what a trail holds.
pub fn verify<S: Store>(_store: &S, _options: &VerifyOptions) -> Result<Verdict, Error> {
    Err(Error::NoTrail)
}
