//! One X.509 certificate (RFC 5280): what it says, and what its key may be used for.
//!
//! ```text
//! Certificate ::= SEQUENCE {
//!     tbsCertificate      SEQUENCE {          these bytes, as written, are what the issuer signed
//!         version         [0] INTEGER,          v1 where absent
//!         serialNumber        INTEGER,          never negative, at most 20 octets
//!         signature           AlgorithmIdentifier,   the same as signatureAlgorithm
//!         issuer              Name,             compared as bytes
//!         validity            SEQUENCE { notBefore, notAfter },
//!         subject             Name,
//!         subjectPublicKeyInfo SEQUENCE { AlgorithmIdentifier, BIT STRING },
//!         issuerUniqueID  [1], subjectUniqueID [2],   not read
//!         extensions      [3] SEQUENCE OF SEQUENCE { OID, critical BOOLEAN, OCTET STRING } },
//!     signatureAlgorithm      AlgorithmIdentifier,
//!     signatureValue          BIT STRING }
//! ```

use std::fmt;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912;
use der::asn1::{BitStringRef, IntRef, OctetStringRef};
use der::{Decode, Tag, TagNumber};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectKeyIdentifier,
};
use x509_cert::name::Name;

use crate::algorithm::{AlgorithmError, DigestAlgorithm, Identifier, KeyError, PublicKey, Scheme};
use crate::asn1::{Asn1Error, Element, Walker, context, name};
use crate::time::Time;
use crate::verdict::Usage;

/// Most bytes of one certificate.
const MOST_BYTES: usize = 64 * 1024;
/// Most octets of a serial number (RFC 5280, 4.1.2.2), with one for the sign.
const MOST_SERIAL: usize = 21;
/// Most extensions of one certificate.
const MOST_EXTENSIONS: usize = 64;

/// Why bytes are not a certificate that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Larger than any certificate.
    #[error("{bytes} bytes are more than a certificate has; at most {MOST_BYTES} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The bytes are not these elements.
    #[error(transparent)]
    Asn1(#[from] Asn1Error),
    /// Something stands behind the certificate.
    #[error("{bytes} bytes follow the certificate's end")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// Not version 1, 2 or 3.
    #[error("certificate version {found} is not known")]
    Version {
        /// The number written there.
        found: u64,
    },
    /// Below zero, which no authority may give.
    #[error("the serial number is negative")]
    NegativeSerial,
    /// Longer than RFC 5280 allows.
    #[error("a serial number of {octets} octets is too long; at most 20 are allowed")]
    LongSerial {
        /// Its length.
        octets: usize,
    },
    /// The certificate and its signed part do not name one signature algorithm.
    #[error("it names one signature algorithm inside, another outside")]
    AlgorithmsDiffer,
    /// An extension that is there twice, one of which would be overlooked.
    #[error("extension {0} is there twice")]
    RepeatedExtension(String),
    /// Extensions before version 3.
    #[error("it has extensions, but not version 3")]
    ExtensionsTooEarly,
    /// More extensions than are read.
    #[error("it has more than {MOST_EXTENSIONS} extensions")]
    TooManyExtensions,
}

/// Whom a certificate is about, for people and for records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The subject's name (RFC 4514), fit to be printed.
    pub subject: String,
    /// The issuer's name.
    pub issuer: String,
    /// The serial number in hexadecimal digits.
    pub serial: String,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// The kind of key: `RSA 2048`, `P-256`.
    pub key: String,
    /// From when it is valid.
    pub not_before: Time,
    /// Until when.
    pub not_after: Time,
}

/// A certificate whose form was checked; whether it is to be believed is another question.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    /// The signed part, header included.
    tbs: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    /// The integer's octets as written.
    pub(crate) serial: Vec<u8>,
    issuer_text: String,
    subject_text: String,
    pub(crate) not_before: Time,
    pub(crate) not_after: Time,
    pub(crate) key: Result<PublicKey, KeyError>,
    scheme: Result<Scheme, AlgorithmError>,
    signature: Vec<u8>,
    pub(crate) key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
    constraints: Option<BasicConstraints>,
    key_usage: Option<KeyUsage>,
    extended_usage: Option<ExtendedKeyUsage>,
    /// The first extension that must be understood and is not.
    not_understood: Option<ObjectIdentifier>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate").field(&self.subject_text).finish()
    }
}

/// Two certificates are one if all their bytes are.
impl PartialEq for Certificate {
    fn eq(&self, other: &Certificate) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

/// What is written in the extensions.
#[derive(Default)]
struct Extensions {
    key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
    constraints: Option<BasicConstraints>,
    key_usage: Option<KeyUsage>,
    extended_usage: Option<ExtendedKeyUsage>,
    not_understood: Option<ObjectIdentifier>,
}

impl Certificate {
    /// Reads DER.
    ///
    /// # Errors
    /// The form is not RFC 5280's. A key that is weak or of an unknown kind is no error here: it
    /// is one where the key is needed.
    pub fn from_der(bytes: &[u8]) -> Result<Certificate, CertificateError> {
        if bytes.len() > MOST_BYTES {
            return Err(CertificateError::TooLarge { bytes: bytes.len() });
        }
        let mut outside = Walker::new(bytes, 0);
        let whole = outside.expect(Tag::Sequence, "a certificate")?;
        match outside.rest().len() {
            0 => Certificate::read(&whole),
            bytes => Err(CertificateError::TrailingBytes { bytes }),
        }
    }

    /// Reads an element that is a SEQUENCE.
    pub(crate) fn read(whole: &Element<'_>) -> Result<Certificate, CertificateError> {
        if whole.whole.len() > MOST_BYTES {
            return Err(CertificateError::TooLarge { bytes: whole.whole.len() });
        }
        let mut fields = whole.inside();
        let tbs = fields.expect(Tag::Sequence, "the signed part of a certificate")?;
        let algorithm = fields.expect(Tag::Sequence, "a certificate's signature algorithm")?;
        let signature = bits(&fields.expect(Tag::BitString, "a certificate's signature")?)?;
        fields.end("a certificate")?;

        let mut fields = tbs.inside();
        let version = match fields.optional(context(TagNumber::N0), "a certificate's version")? {
            Some(explicit) => {
                let mut inside = explicit.inside();
                let number = inside.expect(Tag::Integer, "a certificate's version")?;
                inside.end("a certificate's version")?;
                number.decode::<u64>("a certificate's version")?
            }
            None => 0,
        };
        if version > 2 {
            return Err(CertificateError::Version { found: version.saturating_add(1) });
        }
        let serial = serial(&fields.expect(Tag::Integer, "a serial number")?)?;
        let inner = fields.expect(Tag::Sequence, "a certificate's signature algorithm")?;
        if inner.whole != algorithm.whole {
            return Err(CertificateError::AlgorithmsDiffer);
        }
        let issuer = fields.expect(Tag::Sequence, "an issuer's name")?;
        let issuer_text = printable(&issuer.decode::<Name>("an issuer's name")?);
        let validity = fields.expect(Tag::Sequence, "a validity")?;
        let mut times = validity.inside();
        let not_before = times.next("a time")?.decode::<x509_cert::time::Time>("a time")?;
        let not_after = times.next("a time")?.decode::<x509_cert::time::Time>("a time")?;
        times.end("a validity")?;
        let subject = fields.expect(Tag::Sequence, "a subject's name")?;
        let subject_text = printable(&subject.decode::<Name>("a subject's name")?);
        let key = fields.expect(Tag::Sequence, "a public key")?;
        let key = {
            let mut inside = key.inside();
            let kind = Identifier::read(&inside.expect(Tag::Sequence, "a key's algorithm")?)?;
            let bits = bits(&inside.expect(Tag::BitString, "a public key")?)?;
            inside.end("a public key")?;
            PublicKey::new(&kind, bits)
        };
        for number in [TagNumber::N1, TagNumber::N2] {
            let tag = Tag::ContextSpecific { constructed: false, number };
            fields.optional(tag, "a unique identifier")?;
        }
        let extensions = match fields.optional(context(TagNumber::N3), "extensions")? {
            Some(_) if version != 2 => return Err(CertificateError::ExtensionsTooEarly),
            Some(explicit) => Extensions::read(&explicit)?,
            None => Extensions::default(),
        };
        fields.end("the signed part of a certificate")?;
        Ok(Certificate {
            der: whole.whole.to_vec(),
            tbs: tbs.whole.to_vec(),
            issuer: issuer.whole.to_vec(),
            subject: subject.whole.to_vec(),
            serial,
            issuer_text,
            subject_text,
            not_before: not_before.into(),
            not_after: not_after.into(),
            key,
            scheme: Identifier::read(&algorithm)?.scheme(),
            signature: signature.to_vec(),
            key_id: extensions.key_id,
            authority_key_id: extensions.authority_key_id,
            constraints: extensions.constraints,
            key_usage: extensions.key_usage,
            extended_usage: extensions.extended_usage,
            not_understood: extensions.not_understood,
        })
    }

    /// The certificate as it was read.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// Whom it is about.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let digest = DigestAlgorithm::Sha256.hash(&[&self.der]);
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(&digest);
        Facts {
            subject: self.subject_text.clone(),
            issuer: self.issuer_text.clone(),
            serial: hex(self.serial.strip_prefix(&[0]).unwrap_or(&self.serial)),
            fingerprint,
            key: match &self.key {
                Ok(key) => key.describe(),
                Err(error) => error.to_string(),
            },
            not_before: self.not_before,
            not_after: self.not_after,
        }
    }

    /// The subject's name, fit to be printed.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject_text
    }

    pub(crate) fn issuer_text(&self) -> &str {
        &self.issuer_text
    }

    /// Whether its key can check signatures at all.
    ///
    /// # Errors
    /// It is weak or of a kind that is not known here.
    pub fn usable(&self) -> Result<(), KeyError> {
        self.key.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    /// Whether `issuer` could be the one who issued this, going by names and key identifiers.
    pub(crate) fn names_as_issuer(&self, issuer: &Certificate) -> bool {
        self.issuer == issuer.subject
            && match (&self.authority_key_id, &issuer.key_id) {
                (Some(wanted), Some(there)) => wanted == there,
                _ => true,
            }
    }

    /// Whether `issuer`'s key signed this.
    pub(crate) fn is_signed_by(&self, issuer: &Certificate) -> Result<bool, Unlinked> {
        let scheme = self.scheme.as_ref().map_err(|error| Unlinked::Algorithm(error.clone()))?;
        let key = issuer.key.as_ref().map_err(|error| Unlinked::Key(error.clone()))?;
        let Some(digest) = scheme.digest else {
            let unsupported = AlgorithmError::Unsupported("rsaEncryption without a digest".into());
            return Err(Unlinked::Algorithm(unsupported));
        };
        Ok(key.fits(scheme.kind, digest, &digest.hash(&[&self.tbs]), &self.signature))
    }

    pub(crate) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// Why it may not vouch for content, if it may not.
    pub(crate) fn wrong_for_signing(&self) -> Option<Usage> {
        if self.key_usage.as_ref().is_some_and(|usage| !usage.digital_signature()) {
            return Some(Usage::NotForSignatures);
        }
        self.wrong_at_all()
    }

    /// Why it may not vouch for certificates with `below` authorities under it, if it may not.
    pub(crate) fn wrong_for_issuing(&self, below: usize) -> Option<Usage> {
        match &self.constraints {
            Some(constraints) if constraints.ca => {
                if constraints.path_len_constraint.is_some_and(|most| below > usize::from(most)) {
                    return Some(Usage::ChainBeyondItsLimit);
                }
            }
            _ => return Some(Usage::NotAnAuthority),
        }
        if self.key_usage.as_ref().is_some_and(|usage| !usage.key_cert_sign()) {
            return Some(Usage::NotForCertificates);
        }
        self.wrong_at_all()
    }

    /// Why it may not have to do with signed code at all, if it may not.
    fn wrong_at_all(&self) -> Option<Usage> {
        let allowed = [rfc5912::ID_KP_CODE_SIGNING, rfc5912::ANY_EXTENDED_KEY_USAGE];
        if let Some(usage) = &self.extended_usage
            && !usage.0.iter().any(|oid| allowed.contains(oid))
        {
            let names: Vec<String> = usage.0.iter().take(8).map(name).collect();
            return Some(Usage::OtherPurpose(names.join(", ")));
        }
        self.not_understood.as_ref().map(|oid| Usage::NotUnderstood(name(oid)))
    }
}

/// Why a link of a chain could not be checked.
pub(crate) enum Unlinked {
    Algorithm(AlgorithmError),
    Key(KeyError),
}

impl fmt::Display for Unlinked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unlinked::Algorithm(error) => error.fmt(f),
            Unlinked::Key(error) => error.fmt(f),
        }
    }
}

impl Extensions {
    fn read(explicit: &Element<'_>) -> Result<Extensions, CertificateError> {
        let mut inside = explicit.inside();
        let list = inside.expect(Tag::Sequence, "extensions")?;
        inside.end("extensions")?;
        let mut seen: Vec<ObjectIdentifier> = Vec::new();
        let mut extensions = Extensions::default();
        let mut inside = list.inside();
        while !inside.is_empty() {
            if seen.len() == MOST_EXTENSIONS {
                return Err(CertificateError::TooManyExtensions);
            }
            let mut fields = inside.expect(Tag::Sequence, "an extension")?.inside();
            let id = fields.expect(Tag::ObjectIdentifier, "an extension's name")?;
            let id: ObjectIdentifier = id.decode("an extension's name")?;
            let critical = match fields.optional(Tag::Boolean, "critical")? {
                Some(element) => element.decode::<bool>("critical")?,
                None => false,
            };
            let value = fields.expect(Tag::OctetString, "an extension's value")?;
            fields.end("an extension")?;
            if seen.contains(&id) {
                return Err(CertificateError::RepeatedExtension(name(&id)));
            }
            seen.push(id);
            extensions.note(id, critical, &value)?;
        }
        Ok(extensions)
    }

    fn note(
        &mut self,
        id: ObjectIdentifier,
        critical: bool,
        value: &Element<'_>,
    ) -> Result<(), CertificateError> {
        fn typed<'a, T: Decode<'a>>(
            value: &Element<'a>,
            what: &'static str,
        ) -> Result<Option<T>, Asn1Error> {
            let mut inside = value.inside();
            let element = inside.next(what)?;
            inside.end(what)?;
            element.decode(what).map(Some)
        }
        match id {
            rfc5912::ID_CE_BASIC_CONSTRAINTS => {
                self.constraints = typed(value, "basic constraints")?;
            }
            rfc5912::ID_CE_KEY_USAGE => self.key_usage = typed(value, "key usage")?,
            rfc5912::ID_CE_EXT_KEY_USAGE => {
                self.extended_usage = typed(value, "extended key usage")?;
            }
            rfc5912::ID_CE_SUBJECT_KEY_IDENTIFIER => {
                let id: Option<SubjectKeyIdentifier> = typed(value, "subject key identifier")?;
                self.key_id = id.map(|id| id.0.into_bytes());
            }
            rfc5912::ID_CE_AUTHORITY_KEY_IDENTIFIER => {
                let id: Option<AuthorityKeyIdentifier> = typed(value, "authority key identifier")?;
                self.authority_key_id =
                    id.and_then(|id| id.key_identifier).map(|id| id.into_bytes());
            }
            // What names an authority may vouch for: to overlook it, critical or not, would be
            // to let it vouch for all.
            rfc5912::ID_CE_NAME_CONSTRAINTS => {
                self.not_understood.get_or_insert(id);
            }
            _ if critical => {
                self.not_understood.get_or_insert(id);
            }
            _ => {}
        }
        Ok(())
    }
}

/// The octets of a serial number.
fn serial(element: &Element<'_>) -> Result<Vec<u8>, CertificateError> {
    let number: IntRef<'_> = element.decode("a serial number")?;
    let octets = number.as_bytes();
    if octets.first().is_some_and(|first| first & 0x80 != 0) {
        return Err(CertificateError::NegativeSerial);
    }
    if octets.len() > MOST_SERIAL {
        return Err(CertificateError::LongSerial { octets: octets.len() });
    }
    Ok(octets.to_vec())
}

/// A BIT STRING of whole octets.
fn bits<'a>(element: &Element<'a>) -> Result<&'a [u8], Asn1Error> {
    let what = "a string of whole octets";
    let bits: BitStringRef<'a> = element.decode(what)?;
    bits.as_bytes().ok_or_else(|| Asn1Error::NotDer {
        at: element.at,
        what,
        why: "its last octet is not whole".into(),
    })
}

/// The value of an OCTET STRING.
pub(crate) fn octets<'a>(element: &Element<'a>) -> Result<&'a [u8], Asn1Error> {
    if element.tag != Tag::OctetString {
        return Err(element.instead_of("a string of octets"));
    }
    Ok(element.decode::<OctetStringRef<'a>>("a string of octets")?.as_bytes())
}

/// A name as text that can do nothing to a terminal: whoever made the certificate chose it.
pub(crate) fn printable(name: &Name) -> String {
    let mut out = String::new();
    for c in name.to_string().chars() {
        let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if c.is_control() || turns {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    if out.is_empty() { "(no name)".into() } else { out }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        // Writing to a string does not fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}
