//! Making a signature: the bytes that `openssl smime -sign -nocerts -noattr -binary -outform der`
//! writes for the same key and certificate.

use p256::ecdsa::signature::hazmat::PrehashSigner;
use rsa::RsaPrivateKey;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::DecodePrivateKey;
use rsa::traits::PublicKeyParts;

use crate::algorithm::{DigestAlgorithm, KeyError, PublicKey, check_rsa_bits};
use crate::asn1::{encode, tag};
use crate::certificate::Certificate;
use crate::message::{Error, MOST_BYTES};
use crate::pem::{PemError, blocks};
use const_oid::ObjectIdentifier;
use const_oid::db::{rfc5912, rfc6268};

/// Why a file holds no key to sign with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// There is nothing of the kind.
    #[error("there is no PEM private key in it (PRIVATE KEY, RSA PRIVATE KEY, EC PRIVATE KEY)")]
    Nothing,
    /// A passphrase would be needed, and none is asked for.
    #[error("the private key is encrypted")]
    Encrypted,
    /// The block is not Base64.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// What is in the block is no key, or one of an unknown kind.
    #[error("the private key cannot be read: {0}")]
    Unreadable(String),
    /// The key is too weak or too long.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A private key. It is cleared from memory when it goes.
pub struct SigningKey(Secret);

enum Secret {
    Rsa(Box<RsaPrivateKey>),
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Only what everybody may know.
        write!(f, "SigningKey({})", self.public().describe())
    }
}

impl SigningKey {
    /// The first private key of a PEM file: PKCS#8, PKCS#1 or SEC1.
    ///
    /// # Errors
    /// There is none, it is encrypted, weak, or of a kind that is not known here.
    pub fn from_pem(text: &str) -> Result<SigningKey, SigningKeyError> {
        let block = blocks(text)
            .find(|block| block.label.ends_with("PRIVATE KEY"))
            .ok_or(SigningKeyError::Nothing)?;
        // The old form says in a header that what follows is encrypted.
        if block.label == "ENCRYPTED PRIVATE KEY" || block.text.contains("\nProc-Type: 4,ENCRYPTED")
        {
            return Err(SigningKeyError::Encrypted);
        }
        let der = zeroize::Zeroizing::new(block.decode()?);
        let unreadable =
            |error: &dyn std::fmt::Display| SigningKeyError::Unreadable(error.to_string());
        let secret = match block.label {
            "PRIVATE KEY" => Secret::from_pkcs8(&der)?,
            "RSA PRIVATE KEY" => RsaPrivateKey::from_pkcs1_der(&der)
                .map(|key| Secret::Rsa(Box::new(key)))
                .map_err(|error| unreadable(&error))?,
            "EC PRIVATE KEY" => match p256::SecretKey::from_sec1_der(&der) {
                Ok(key) => Secret::P256(key.into()),
                Err(_) => p384::SecretKey::from_sec1_der(&der)
                    .map(|key| Secret::P384(key.into()))
                    .map_err(|_| unreadable(&"not a key on P-256 or P-384"))?,
            },
            other => {
                return Err(unreadable(&format!("`{}` is not a known form", other.escape_debug())));
            }
        };
        if let Secret::Rsa(key) = &secret {
            check_rsa_bits(key.n().bits())?;
        }
        Ok(SigningKey(secret))
    }

    fn public(&self) -> PublicKey {
        match &self.0 {
            Secret::Rsa(key) => PublicKey::Rsa(key.to_public_key()),
            Secret::P256(key) => PublicKey::P256(*key.verifying_key()),
            Secret::P384(key) => PublicKey::P384(*key.verifying_key()),
        }
    }

    fn sign(&self, algorithm: DigestAlgorithm, digest: &[u8]) -> Option<Vec<u8>> {
        match &self.0 {
            Secret::Rsa(key) => key.sign(algorithm.pkcs1v15(), digest).ok(),
            Secret::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign_prehash(digest).ok()?;
                Some(signature.to_der().as_bytes().to_vec())
            }
            Secret::P384(key) => {
                let signature: p384::ecdsa::Signature = key.sign_prehash(digest).ok()?;
                Some(signature.to_der().as_bytes().to_vec())
            }
        }
    }
}

impl Secret {
    fn from_pkcs8(der: &[u8]) -> Result<Secret, SigningKeyError> {
        let unreadable =
            |error: &dyn std::fmt::Display| SigningKeyError::Unreadable(error.to_string());
        let info = rsa::pkcs8::PrivateKeyInfo::try_from(der).map_err(|error| unreadable(&error))?;
        match info.algorithm.oid {
            rfc5912::RSA_ENCRYPTION => RsaPrivateKey::from_pkcs8_der(der)
                .map(|key| Secret::Rsa(Box::new(key)))
                .map_err(|error| unreadable(&error)),
            rfc5912::ID_EC_PUBLIC_KEY => match p256::SecretKey::from_pkcs8_der(der) {
                Ok(key) => Ok(Secret::P256(key.into())),
                Err(_) => p384::SecretKey::from_pkcs8_der(der)
                    .map(|key| Secret::P384(key.into()))
                    .map_err(|_| unreadable(&"not a key on P-256 or P-384")),
            },
            other => Err(KeyError::Unsupported(crate::asn1::name(&other)).into()),
        }
    }
}

/// Why nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The certificate is about another key.
    #[error("the private key is not the one of the certificate of `{subject}`")]
    OtherKey {
        /// The certificate's subject.
        subject: String,
    },
    /// The certificate's key is not used.
    #[error("the certificate of `{subject}` cannot be used: {why}")]
    Certificate {
        /// Its subject.
        subject: String,
        /// What is wrong with its key.
        why: KeyError,
    },
    /// The key could not be used, which no key that was read should come to.
    #[error("the key refused to sign")]
    Refused,
    /// What was made cannot be read back.
    #[error("the signature that was made cannot be used")]
    Unusable(#[source] Error),
}

/// A detached signature over `content` with SHA-256, without attributes and certificates.
///
/// With RSA the bytes are the same each time, and with ECDSA too (RFC 6979).
///
/// # Errors
/// The certificate is not the key's, or its key is not used.
pub fn sign_detached(
    content: &[u8],
    key: &SigningKey,
    certificate: &Certificate,
) -> Result<Vec<u8>, SignError> {
    let subject = || certificate.subject().to_owned();
    match &certificate.key {
        Err(why) => {
            return Err(SignError::Certificate { subject: subject(), why: why.clone() });
        }
        Ok(public) if *public != key.public() => {
            return Err(SignError::OtherKey { subject: subject() });
        }
        Ok(_) => {}
    }
    let digest = DigestAlgorithm::Sha256;
    let signature = key.sign(digest, &digest.hash(&[content])).ok_or(SignError::Refused)?;

    let oid = |oid: ObjectIdentifier| encode(tag::OID, &[oid.as_bytes()]);
    let null = encode(tag::NULL, &[]);
    let digest_algorithm = encode(tag::SEQUENCE, &[&oid(digest.oid()), &null]);
    // RSA is named without its digest, as PKCS#7 does; ECDSA with it, and without parameters.
    let signature_algorithm = match key.0 {
        Secret::Rsa(_) => encode(tag::SEQUENCE, &[&oid(rfc5912::RSA_ENCRYPTION), &null]),
        Secret::P256(_) | Secret::P384(_) => {
            encode(tag::SEQUENCE, &[&oid(rfc5912::ECDSA_WITH_SHA_256)])
        }
    };
    let version = encode(tag::INTEGER, &[&[1]]);
    let serial = encode(tag::INTEGER, &[&certificate.serial]);
    let signer = encode(
        tag::SEQUENCE,
        &[
            &version,
            &encode(tag::SEQUENCE, &[&certificate.issuer, &serial]),
            &digest_algorithm,
            &signature_algorithm,
            &encode(tag::OCTET_STRING, &[&signature]),
        ],
    );
    let signed = encode(
        tag::SEQUENCE,
        &[
            &version,
            &encode(tag::SET, &[&digest_algorithm]),
            &encode(tag::SEQUENCE, &[&oid(rfc6268::ID_DATA)]),
            &encode(tag::SET, &[&signer]),
        ],
    );
    let message = encode(
        tag::SEQUENCE,
        &[&oid(rfc6268::ID_SIGNED_DATA), &encode(tag::CONTEXT_0, &[&signed])],
    );
    if message.len() > MOST_BYTES {
        return Err(SignError::Unusable(Error::TooLarge { bytes: message.len() }));
    }
    Ok(message)
}
