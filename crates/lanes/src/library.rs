//! The algorithms without lanes: RustCrypto, one block after the other.

use std::sync::Arc;

use blake2::{Blake2b, Blake2s};
use digest::{
    Digest,
    consts::{U16, U20, U28, U32, U48, U64},
};

use crate::{Algorithm, SaltPosition};

/// Hashes one salted block; `out` is exactly one digest long.
pub(crate) trait Single: Send + Sync {
    fn hash(&self, block: &[u8], out: &mut [u8]);
}

/// A digest that has taken the leading salt in, and what is to follow the block.
struct Salted<D> {
    seeded: D,
    suffix: Box<[u8]>,
}

impl<D: Digest + Clone + Send + Sync> Single for Salted<D> {
    fn hash(&self, block: &[u8], out: &mut [u8]) {
        let digest = self.seeded.clone().chain_update(block).chain_update(&self.suffix);
        out.copy_from_slice(&digest.finalize());
    }
}

fn salted<D: Digest + Clone + Send + Sync + 'static>(
    salt: &[u8],
    position: SaltPosition,
) -> Arc<dyn Single> {
    let (prefix, suffix) = match position {
        SaltPosition::Before => (salt, &[][..]),
        SaltPosition::After => (&[][..], salt),
    };
    Arc::new(Salted { seeded: D::new_with_prefix(prefix), suffix: suffix.into() })
}

pub(crate) fn single(algorithm: Algorithm, salt: &[u8], position: SaltPosition) -> Arc<dyn Single> {
    let make = match algorithm {
        Algorithm::Sha1 => salted::<sha1::Sha1>,
        Algorithm::Sha224 => salted::<sha2::Sha224>,
        Algorithm::Sha256 => salted::<sha2::Sha256>,
        Algorithm::Sha384 => salted::<sha2::Sha384>,
        Algorithm::Sha512 => salted::<sha2::Sha512>,
        Algorithm::Sha3_224 => salted::<sha3::Sha3_224>,
        Algorithm::Sha3_256 => salted::<sha3::Sha3_256>,
        Algorithm::Sha3_384 => salted::<sha3::Sha3_384>,
        Algorithm::Sha3_512 => salted::<sha3::Sha3_512>,
        Algorithm::Blake2b160 => salted::<Blake2b<U20>>,
        Algorithm::Blake2b256 => salted::<Blake2b<U32>>,
        Algorithm::Blake2b384 => salted::<Blake2b<U48>>,
        Algorithm::Blake2b512 => salted::<Blake2b<U64>>,
        Algorithm::Blake2s128 => salted::<Blake2s<U16>>,
        Algorithm::Blake2s160 => salted::<Blake2s<U20>>,
        Algorithm::Blake2s224 => salted::<Blake2s<U28>>,
        Algorithm::Blake2s256 => salted::<Blake2s<U32>>,
        Algorithm::Ripemd160 => salted::<ripemd::Ripemd160>,
    };
    make(salt, position)
}
