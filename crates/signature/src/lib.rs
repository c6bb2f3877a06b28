//! PKCS#7 (CMS) signatures and the X.509 certificates that vouch for them.
//!
//! ```text
//!  bytes ──▶ Message::parse ──▶ check_detached(content, keyring, at) ──▶ Verdict
//!               Error: unusable    check_attached(keyring, at)            a result, with its reason
//!
//!  PEM ──▶ SigningKey ──▶ sign_detached(content, certificate) ──▶ bytes
//! ```
//!
//! No I/O and no clock: whoever calls brings the bytes, the certificates and the time to judge by.
//! The algorithms are those that a kernel has for the same job: RSA (PKCS#1 v1.5) and ECDSA on
//! P-256 and P-384, with SHA-256, SHA-384 or SHA-512. docs/formats/signature.md has the format and
//! every place where this is stricter than the kernel.

mod algorithm;
mod asn1;
mod certificate;
mod chain;
mod check;
mod make;
mod message;
mod pem;
mod time;
mod verdict;

pub use algorithm::{DigestAlgorithm, KeyError};
pub use certificate::{Certificate, CertificateError, Facts};
pub use chain::{Keyring, KeyringFull, MOST_CHAIN, MOST_KEYRING};
pub use make::{SignError, SigningKey, SigningKeyError, sign_detached};
pub use message::{Error, MOST_BYTES, Message};
pub use pem::PemError;
pub use time::Time;
pub use verdict::{Bad, Expired, Trusted, Untrusted, Usage, Verdict, WrongUsage};

#[cfg(test)]
mod tests;
