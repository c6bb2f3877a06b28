//! Certificates and signatures as somebody hostile would make them: every element as wanted.

use const_oid::ObjectIdentifier;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};

use crate::algorithm::DigestAlgorithm;
use crate::asn1::{encode, tag};
use crate::{Certificate, Keyring, Message, Time, Verdict};

pub(super) const CONTENT: &[u8] = b"a8f55e2d0f00c51dbe2c909296784c81";
/// 2026-11-22
pub(super) const NOW: Time = Time(1_795_305_600);

pub(super) fn oid(text: &str) -> Vec<u8> {
    encode(tag::OID, &[ObjectIdentifier::new_unwrap(text).as_bytes()])
}

pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    encode(tag::SEQUENCE, parts)
}

pub(super) fn set(parts: &[&[u8]]) -> Vec<u8> {
    encode(tag::SET, parts)
}

pub(super) fn octets(bytes: &[u8]) -> Vec<u8> {
    encode(tag::OCTET_STRING, &[bytes])
}

pub(super) fn integer(bytes: &[u8]) -> Vec<u8> {
    encode(tag::INTEGER, &[bytes])
}

pub(super) fn name(common: &str) -> Vec<u8> {
    let text = encode(0x0c, &[common.as_bytes()]);
    sequence(&[&set(&[&sequence(&[&oid("2.5.4.3"), &text])])])
}

/// A key; the number is all of its secret.
pub(super) fn key(number: u8) -> SigningKey {
    SigningKey::from_slice(&[number; 32]).unwrap()
}

pub(super) fn sign(key: &SigningKey, pieces: &[&[u8]]) -> Vec<u8> {
    let digest = DigestAlgorithm::Sha256.hash(pieces);
    let signature: Signature = key.sign_prehash(&digest).unwrap();
    signature.to_der().as_bytes().to_vec()
}

pub(super) fn ecdsa() -> Vec<u8> {
    sequence(&[&oid("1.2.840.10045.4.3.2")])
}

pub(super) fn sha256() -> Vec<u8> {
    sequence(&[&oid("2.16.840.1.101.3.4.2.1")])
}

/// A certificate to be.
#[derive(Clone)]
pub(super) struct Spec<'a> {
    pub(super) subject: &'a str,
    pub(super) issuer: &'a str,
    pub(super) serial: Vec<u8>,
    pub(super) key: u8,
    pub(super) issuer_key: u8,
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) extensions: Vec<Vec<u8>>,
}

pub(super) fn extension(id: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let truth = if critical { encode(1, &[&[0xff]]) } else { Vec::new() };
    sequence(&[&oid(id), &truth, &octets(value)])
}

pub(super) fn ca() -> Vec<u8> {
    extension("2.5.29.19", true, &sequence(&[&encode(1, &[&[0xff]])]))
}

pub(super) fn ca_with_limit(limit: u8) -> Vec<u8> {
    extension("2.5.29.19", true, &sequence(&[&encode(1, &[&[0xff]]), &integer(&[limit])]))
}

/// `bits` is the first octet of the usage: digitalSignature 0x80, keyCertSign 0x04.
pub(super) fn key_usage(bits: u8) -> Vec<u8> {
    let unused = u8::try_from(bits.trailing_zeros()).unwrap();
    extension("2.5.29.15", true, &encode(3, &[&[unused, bits]]))
}

pub(super) fn extended_usage(purposes: &[&str]) -> Vec<u8> {
    let purposes: Vec<Vec<u8>> = purposes.iter().map(|purpose| oid(purpose)).collect();
    extension("2.5.29.37", false, &sequence(&[&purposes.concat()]))
}

pub(super) const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
pub(super) const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";

impl<'a> Spec<'a> {
    pub(super) fn new(subject: &'a str, key: u8, issuer: &'a str, issuer_key: u8) -> Spec<'a> {
        Spec {
            subject,
            issuer,
            serial: vec![key],
            key,
            issuer_key,
            from: "260101000000Z",
            to: "270101000000Z",
            extensions: Vec::new(),
        }
    }

    pub(super) fn with(mut self, extension: Vec<u8>) -> Spec<'a> {
        self.extensions.push(extension);
        self
    }

    pub(super) fn valid(mut self, from: &'a str, to: &'a str) -> Spec<'a> {
        (self.from, self.to) = (from, to);
        self
    }

    pub(super) fn der(&self) -> Vec<u8> {
        let public = key(self.key).verifying_key().to_encoded_point(false);
        let key_bits = encode(3, &[&[0], public.as_bytes()]);
        let kind = sequence(&[&oid("1.2.840.10045.2.1"), &oid("1.2.840.10045.3.1.7")]);
        let extensions = if self.extensions.is_empty() {
            Vec::new()
        } else {
            encode(0xa3, &[&sequence(&[&self.extensions.concat()])])
        };
        let time = |text: &str| encode(0x17, &[text.as_bytes()]);
        let tbs = sequence(&[
            &encode(0xa0, &[&integer(&[2])]),
            &integer(&self.serial),
            &ecdsa(),
            &name(self.issuer),
            &sequence(&[&time(self.from), &time(self.to)]),
            &name(self.subject),
            &sequence(&[&kind, &key_bits]),
            &extensions,
        ]);
        let signature = sign(&key(self.issuer_key), &[&tbs]);
        sequence(&[&tbs, &ecdsa(), &encode(3, &[&[0], &signature])])
    }

    pub(super) fn certificate(&self) -> Certificate {
        Certificate::from_der(&self.der()).unwrap()
    }
}

/// A signature to be. `None` is what a well-meaning signer writes.
#[derive(Clone, Default)]
pub(super) struct Signed {
    pub(super) version: Option<u8>,
    pub(super) signer_version: Option<u8>,
    pub(super) announced: Option<Vec<u8>>,
    pub(super) digest: Option<Vec<u8>>,
    pub(super) scheme: Option<Vec<u8>>,
    pub(super) signer: Option<Vec<u8>>,
    pub(super) content: Option<Vec<u8>>,
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) crls: bool,
    /// The attributes, without the tag around them.
    pub(super) attributes: Option<Vec<u8>>,
    pub(super) unsigned: bool,
    pub(super) signature: Option<Vec<u8>>,
    /// More signers, or with an empty one none.
    pub(super) signers: Option<Vec<Vec<u8>>>,
}

impl Signed {
    pub(super) fn signer(&self, by: &Spec<'_>) -> Vec<u8> {
        let signer = self
            .signer
            .clone()
            .unwrap_or_else(|| sequence(&[&name(by.issuer), &integer(&by.serial)]));
        let attributes = match &self.attributes {
            Some(attributes) => encode(0xa0, &[attributes]),
            None => Vec::new(),
        };
        let signature = self.signature.clone().unwrap_or_else(|| match &self.attributes {
            Some(attributes) => sign(&key(by.key), &[&set(&[attributes])]),
            None => sign(&key(by.key), &[CONTENT]),
        });
        let unsigned = if self.unsigned { encode(0xa1, &[]) } else { Vec::new() };
        sequence(&[
            &integer(&[self.signer_version.unwrap_or(1)]),
            &signer,
            &self.digest.clone().unwrap_or_else(sha256),
            &attributes,
            &self.scheme.clone().unwrap_or_else(ecdsa),
            &octets(&signature),
            &unsigned,
        ])
    }

    pub(super) fn der(&self, by: &Spec<'_>) -> Vec<u8> {
        let certificates = if self.certificates.is_empty() {
            Vec::new()
        } else {
            encode(0xa0, &[&self.certificates.concat()])
        };
        let content = match &self.content {
            Some(content) => encode(0xa0, &[&octets(content)]),
            None => Vec::new(),
        };
        let crls = if self.crls { encode(0xa1, &[]) } else { Vec::new() };
        let signers = self.signers.clone().unwrap_or_else(|| vec![self.signer(by)]);
        let signed = sequence(&[
            &integer(&[self.version.unwrap_or(1)]),
            &set(&[&self.announced.clone().unwrap_or_else(sha256)]),
            &sequence(&[&oid("1.2.840.113549.1.7.1"), &content]),
            &certificates,
            &crls,
            &set(&[&signers.concat()]),
        ]);
        sequence(&[&oid("1.2.840.113549.1.7.2"), &encode(0xa0, &[&signed])])
    }

    pub(super) fn carrying(certificates: &[&Spec<'_>]) -> Signed {
        let certificates = certificates.iter().map(|spec| spec.der()).collect();
        Signed { certificates, ..Signed::default() }
    }

    /// What comes of it, in words.
    pub(super) fn judged(&self, by: &Spec<'_>, trusted: &[&Spec<'_>]) -> String {
        judge(&self.der(by), trusted, NOW)
    }
}

pub(super) fn judge(bytes: &[u8], trusted: &[&Spec<'_>], at: Time) -> String {
    let mut keyring = Keyring::new();
    for spec in trusted {
        keyring.add(spec.certificate()).unwrap();
    }
    let message = match Message::parse(bytes) {
        Ok(message) => message,
        Err(error) => return format!("unusable: {error}"),
    };
    let verdict = match message.content() {
        Some(_) => message.check_attached(&keyring, at),
        None => message.check_detached(CONTENT, &keyring, at),
    };
    match verdict {
        Ok(verdict @ Verdict::Trusted(_)) => format!("trusted: {verdict}"),
        Ok(verdict @ Verdict::Untrusted(_)) => format!("untrusted: {verdict}"),
        Ok(verdict @ Verdict::Bad(_)) => format!("bad: {verdict}"),
        Ok(verdict @ (Verdict::Expired(_) | Verdict::WrongUsage(_))) => verdict.to_string(),
        Err(error) => format!("unusable: {error}"),
    }
}
