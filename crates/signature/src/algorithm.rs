//! Digests, keys and signatures: what is taken, and by which name the rest is refused.

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912;
use der::asn1::UintRef;
use der::{Decode, Sequence, Tag};
use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::sha2::{Digest, Sha256, Sha384, Sha512};
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, RsaPublicKey};

use crate::asn1::{Asn1Error, Element, name};

/// From RFC 3279; not in the tables.
const ECDSA_WITH_SHA_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.1");

/// Fewest bits of an RSA modulus.
const LEAST_RSA_BITS: usize = 2048;
/// Most bits of an RSA modulus; twice what a kernel takes.
const MOST_RSA_BITS: usize = 8192;

/// How content is digested before it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// SHA-256
    Sha256,
    /// SHA-384
    Sha384,
    /// SHA-512
    Sha512,
}

impl DigestAlgorithm {
    /// The name that `openssl -md` has for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DigestAlgorithm::Sha256 => "sha256",
            DigestAlgorithm::Sha384 => "sha384",
            DigestAlgorithm::Sha512 => "sha512",
        }
    }

    /// Hashes the pieces as if they were one.
    pub(crate) fn hash(self, pieces: &[&[u8]]) -> Vec<u8> {
        fn of<D: Digest>(pieces: &[&[u8]]) -> Vec<u8> {
            let mut digest = D::new();
            for piece in pieces {
                digest.update(piece);
            }
            digest.finalize().to_vec()
        }
        match self {
            DigestAlgorithm::Sha256 => of::<Sha256>(pieces),
            DigestAlgorithm::Sha384 => of::<Sha384>(pieces),
            DigestAlgorithm::Sha512 => of::<Sha512>(pieces),
        }
    }

    pub(crate) fn pkcs1v15(self) -> Pkcs1v15Sign {
        match self {
            DigestAlgorithm::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
            DigestAlgorithm::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
            DigestAlgorithm::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
        }
    }

    pub(crate) fn oid(self) -> ObjectIdentifier {
        match self {
            DigestAlgorithm::Sha256 => rfc5912::ID_SHA_256,
            DigestAlgorithm::Sha384 => rfc5912::ID_SHA_384,
            DigestAlgorithm::Sha512 => rfc5912::ID_SHA_512,
        }
    }
}

/// Why an algorithm is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlgorithmError {
    /// Broken: collisions can be made.
    #[error("{0} is too weak; SHA-256 or better is needed")]
    Weak(&'static str),
    /// Not one of those that are known here.
    #[error("{0} is not supported; RSA (PKCS#1 v1.5) or ECDSA with SHA-256, SHA-384 or SHA-512 is")]
    Unsupported(String),
    /// It has parameters that it must not have.
    #[error("{0} has parameters that it must not have")]
    Parameters(String),
}

/// An algorithm identifier, with its parameters unread.
pub(crate) struct Identifier<'a> {
    pub(crate) oid: ObjectIdentifier,
    parameters: Option<Element<'a>>,
}

impl<'a> Identifier<'a> {
    pub(crate) fn read(element: &Element<'a>) -> Result<Identifier<'a>, Asn1Error> {
        if element.tag != Tag::Sequence {
            return Err(element.instead_of("an algorithm"));
        }
        let mut inside = element.inside();
        let oid = inside.expect(Tag::ObjectIdentifier, "an algorithm's name")?;
        let oid = oid.decode("an algorithm's name")?;
        let parameters = if inside.is_empty() { None } else { Some(inside.next("parameters")?) };
        inside.end("an algorithm")?;
        Ok(Identifier { oid, parameters })
    }

    /// Absent, or NULL where the algorithm's own text allows that.
    fn without_parameters(&self, null: bool) -> Result<(), AlgorithmError> {
        match &self.parameters {
            None => Ok(()),
            Some(element) if null && element.tag == Tag::Null && element.value.is_empty() => Ok(()),
            Some(_) => Err(AlgorithmError::Parameters(name(&self.oid))),
        }
    }

    pub(crate) fn digest(&self) -> Result<DigestAlgorithm, AlgorithmError> {
        let digest = match self.oid {
            rfc5912::ID_SHA_256 => DigestAlgorithm::Sha256,
            rfc5912::ID_SHA_384 => DigestAlgorithm::Sha384,
            rfc5912::ID_SHA_512 => DigestAlgorithm::Sha512,
            rfc5912::ID_SHA_1 => return Err(AlgorithmError::Weak("SHA-1")),
            rfc5912::ID_MD_5 => return Err(AlgorithmError::Weak("MD5")),
            other => return Err(AlgorithmError::Unsupported(name(&other))),
        };
        self.without_parameters(true)?;
        Ok(digest)
    }

    pub(crate) fn scheme(&self) -> Result<Scheme, AlgorithmError> {
        let rsa = |digest| Scheme { kind: Kind::Rsa, digest };
        let ecdsa = |digest| Scheme { kind: Kind::Ecdsa, digest: Some(digest) };
        let scheme = match self.oid {
            rfc5912::RSA_ENCRYPTION => rsa(None),
            rfc5912::SHA_256_WITH_RSA_ENCRYPTION => rsa(Some(DigestAlgorithm::Sha256)),
            rfc5912::SHA_384_WITH_RSA_ENCRYPTION => rsa(Some(DigestAlgorithm::Sha384)),
            rfc5912::SHA_512_WITH_RSA_ENCRYPTION => rsa(Some(DigestAlgorithm::Sha512)),
            rfc5912::ECDSA_WITH_SHA_256 => ecdsa(DigestAlgorithm::Sha256),
            rfc5912::ECDSA_WITH_SHA_384 => ecdsa(DigestAlgorithm::Sha384),
            rfc5912::ECDSA_WITH_SHA_512 => ecdsa(DigestAlgorithm::Sha512),
            rfc5912::SHA_1_WITH_RSA_ENCRYPTION | ECDSA_WITH_SHA_1 => {
                return Err(AlgorithmError::Weak("SHA-1"));
            }
            rfc5912::MD_5_WITH_RSA_ENCRYPTION => return Err(AlgorithmError::Weak("MD5")),
            rfc5912::ID_RSASSA_PSS => return Err(AlgorithmError::Unsupported("RSASSA-PSS".into())),
            other => return Err(AlgorithmError::Unsupported(name(&other))),
        };
        self.without_parameters(scheme.kind == Kind::Rsa)?;
        Ok(scheme)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Rsa,
    Ecdsa,
}

/// A signature algorithm. `rsaEncryption` leaves the digest to be said elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scheme {
    pub(crate) kind: Kind,
    pub(crate) digest: Option<DigestAlgorithm>,
}

/// Why a public key is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// An RSA modulus that can be factored, or soon could be.
    #[error("an RSA key of {bits} bits is too weak; 2048 or more are needed")]
    Weak {
        /// Bits of the modulus.
        bits: usize,
    },
    /// An RSA modulus beyond the bound.
    #[error("an RSA key of {bits} bits is too long; at most 8192 are read")]
    TooLong {
        /// Bits of the modulus.
        bits: usize,
    },
    /// Neither RSA nor ECDSA on a curve that is known here.
    #[error("a key of kind {0} is not supported; RSA, P-256 and P-384 are")]
    Unsupported(String),
    /// The numbers in it are no key.
    #[error("the public key is malformed")]
    Malformed,
}

/// A key that can check signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PublicKey {
    Rsa(RsaPublicKey),
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
}

/// PKCS#1's form of a public key.
#[derive(Sequence)]
struct Pkcs1PublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

impl PublicKey {
    /// The key of a certificate: its algorithm, and the bits behind it.
    pub(crate) fn new(identifier: &Identifier<'_>, bits: &[u8]) -> Result<PublicKey, KeyError> {
        match identifier.oid {
            rfc5912::RSA_ENCRYPTION => {
                identifier.without_parameters(true).map_err(|_| KeyError::Malformed)?;
                let key = Pkcs1PublicKey::from_der(bits).map_err(|_| KeyError::Malformed)?;
                Self::rsa(&key)
            }
            rfc5912::ID_EC_PUBLIC_KEY => {
                let curve = identifier.parameters.as_ref();
                let curve: ObjectIdentifier = curve
                    .and_then(|element| element.decode("a curve").ok())
                    .ok_or_else(|| KeyError::Unsupported("EC without a named curve".into()))?;
                match curve {
                    rfc5912::SECP_256_R_1 => {
                        p256::ecdsa::VerifyingKey::from_sec1_bytes(bits).map(PublicKey::P256)
                    }
                    rfc5912::SECP_384_R_1 => {
                        p384::ecdsa::VerifyingKey::from_sec1_bytes(bits).map(PublicKey::P384)
                    }
                    other => return Err(KeyError::Unsupported(format!("EC {}", name(&other)))),
                }
                .map_err(|_| KeyError::Malformed)
            }
            other => Err(KeyError::Unsupported(name(&other))),
        }
    }

    fn rsa(key: &Pkcs1PublicKey<'_>) -> Result<PublicKey, KeyError> {
        let modulus = BigUint::from_bytes_be(key.modulus.as_bytes());
        let exponent = BigUint::from_bytes_be(key.exponent.as_bytes());
        check_rsa_bits(modulus.bits())?;
        // With the exponent 1 every number is its own signature.
        if exponent < BigUint::from(3_u8) {
            return Err(KeyError::Malformed);
        }
        RsaPublicKey::new_with_max_size(modulus, exponent, MOST_RSA_BITS)
            .map(PublicKey::Rsa)
            .map_err(|_| KeyError::Malformed)
    }

    /// Whether `signature` is this key's over a message with this digest. A signature of another
    /// kind than the key is none of this key's.
    pub(crate) fn fits(
        &self,
        kind: Kind,
        algorithm: DigestAlgorithm,
        digest: &[u8],
        signature: &[u8],
    ) -> bool {
        use p256::ecdsa::signature::hazmat::PrehashVerifier;
        match (self, kind) {
            (PublicKey::Rsa(key), Kind::Rsa) => {
                key.verify(algorithm.pkcs1v15(), digest, signature).is_ok()
            }
            (PublicKey::P256(key), Kind::Ecdsa) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok()),
            (PublicKey::P384(key), Kind::Ecdsa) => p384::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok()),
            (PublicKey::Rsa(_), Kind::Ecdsa)
            | (PublicKey::P256(_) | PublicKey::P384(_), Kind::Rsa) => false,
        }
    }

    /// What it is, for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            PublicKey::Rsa(key) => format!("RSA {}", key.n().bits()),
            PublicKey::P256(_) => "P-256".into(),
            PublicKey::P384(_) => "P-384".into(),
        }
    }
}

pub(crate) fn check_rsa_bits(bits: usize) -> Result<(), KeyError> {
    match bits {
        ..LEAST_RSA_BITS => Err(KeyError::Weak { bits }),
        LEAST_RSA_BITS..=MOST_RSA_BITS => Ok(()),
        _ => Err(KeyError::TooLong { bits }),
    }
}
