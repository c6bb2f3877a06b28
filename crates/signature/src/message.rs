//! The signature itself: PKCS#7 / CMS `SignedData` (RFC 2315, RFC 5652), in DER.
//!
//! ```text
//! ContentInfo ::= SEQUENCE {
//!     contentType   OID id-signedData,
//!     [0] SEQUENCE {                                  SignedData
//!         version            INTEGER 1 | 3,
//!         digestAlgorithms   SET OF AlgorithmIdentifier,
//!         SEQUENCE { OID id-data, [0] OCTET STRING OPTIONAL },     the content, unless detached
//!         certificates   [0] SET OF Certificate OPTIONAL,
//!         crls           [1]                          refused: nothing here would look at them
//!         signerInfos        SET OF SEQUENCE {
//!             version            INTEGER 1 (issuer and serial) | 3 (key identifier),
//!             SEQUENCE { issuer Name, serial INTEGER } | [0] OCTET STRING,
//!             digestAlgorithm    AlgorithmIdentifier,
//!             signedAttrs    [0] SET OF Attribute OPTIONAL,   if there, these bytes are signed
//!             signatureAlgorithm AlgorithmIdentifier,
//!             signature          OCTET STRING,
//!             unsignedAttrs  [1] OPTIONAL } } }       not looked at
//! ```

use const_oid::ObjectIdentifier;
use const_oid::db::{rfc5911, rfc6268};
use der::{Tag, TagNumber};
use x509_cert::name::Name;

use crate::algorithm::{AlgorithmError, DigestAlgorithm, Identifier, Kind};
use crate::asn1::{Asn1Error, Element, Walker, context, name};
use crate::certificate::{Certificate, CertificateError, hex, octets, printable};
use crate::time::Time;

/// Most bytes of a signature, attached content included.
pub const MOST_BYTES: usize = 1024 * 1024;
/// Most certificates that one carries.
const MOST_CERTIFICATES: usize = 64;
/// Most signers.
const MOST_SIGNERS: usize = 8;
/// Most digest algorithms that it announces.
const MOST_DIGESTS: usize = 16;
/// Most attributes of one signer.
const MOST_ATTRIBUTES: usize = 64;

/// Microsoft's SpOpusInfo and StatementType, which a kernel takes in Authenticode only.
const MS_SP_OPUS_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.12");
const MS_STATEMENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.11");

/// Why bytes are no signature that can be judged: not a verdict, since nothing was found out about
/// the content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Beyond the bound.
    #[error("{bytes} bytes are more than a signature has; at most {MOST_BYTES} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The bytes are not these elements.
    #[error(transparent)]
    Asn1(#[from] Asn1Error),
    /// Something stands behind the signature.
    #[error("{bytes} bytes follow the signature's end")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// CMS, but no signature.
    #[error("content type is {found}, not id-signedData")]
    ContentType {
        /// What it is instead.
        found: String,
    },
    /// A signature over something that is not plain data.
    #[error("the signed content is {found}, not id-data")]
    SignedContentType {
        /// What it is instead.
        found: String,
    },
    /// Neither PKCS#7 nor CMS with key identifiers.
    #[error("SignedData version {found} is not known; 1 and 3 are")]
    Version {
        /// The number written there.
        found: u64,
    },
    /// A signer's version says one way to name a certificate, and another one is there.
    #[error(
        "signer {signer}: version {found} does not go with this SignedData or with the way the signer is named"
    )]
    SignerVersion {
        /// Which signer, from 0.
        signer: usize,
        /// The number written there.
        found: u64,
    },
    /// Nobody signed.
    #[error("there is no signer")]
    NoSigner,
    /// Beyond a bound.
    #[error("there are more than {most} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        most: usize,
    },
    /// A certificate that cannot be read.
    #[error("certificate {index} of the signature: {error}")]
    Certificate {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        error: CertificateError,
    },
    /// Certificates of other kinds than X.509.
    #[error("certificate {index} of the signature is not an X.509 certificate")]
    OtherCertificate {
        /// Which one, from 0.
        index: usize,
    },
    /// Lists of revoked certificates, which would have no effect.
    #[error("it carries revocation lists, which are not looked at here; leave them out")]
    RevocationLists,
    /// An algorithm that is not taken.
    #[error("signer {signer}: {what}: {error}")]
    Algorithm {
        /// Which signer, from 0.
        signer: usize,
        /// What it was named for.
        what: &'static str,
        /// Why it is not taken.
        error: AlgorithmError,
    },
    /// The signer digests in a way that the signature does not announce.
    #[error(
        "signer {signer}: {found} is not among the digest algorithms that the signature announces"
    )]
    DigestNotAnnounced {
        /// Which signer, from 0.
        signer: usize,
        /// What it uses.
        found: &'static str,
    },
    /// The signature algorithm has one digest, the signer names another.
    #[error("signer {signer}: digest {digest}, but the signature algorithm is for {signature}")]
    DigestsDiffer {
        /// Which signer, from 0.
        signer: usize,
        /// The signer's.
        digest: &'static str,
        /// The signature algorithm's.
        signature: &'static str,
    },
    /// Some signers sign attributes and some the content itself.
    #[error("some signers have signed attributes and some have not")]
    AttributesMixed,
    /// A signed attribute that must be there is not.
    #[error("signer {signer}: signed attributes without {attribute}")]
    AttributeMissing {
        /// Which signer, from 0.
        signer: usize,
        /// Which attribute.
        attribute: &'static str,
    },
    /// A signed attribute that says two things.
    #[error("signer {signer}: {attribute} is there twice, or has not exactly one value")]
    AttributeRepeated {
        /// Which signer, from 0.
        signer: usize,
        /// Which attribute.
        attribute: String,
    },
    /// A signed attribute that a kernel refuses.
    #[error(
        "signer {signer}: the signed attribute {attribute} has no place here (and a kernel refuses it); sign without it (openssl smime: -noattr)"
    )]
    AttributeRefused {
        /// Which signer, from 0.
        signer: usize,
        /// Which attribute.
        attribute: String,
    },
    /// The attributes are about another type of content.
    #[error("signer {signer}: the signed attributes are about {found}, not id-data")]
    AttributeContentType {
        /// Which signer, from 0.
        signer: usize,
        /// What they are about.
        found: String,
    },
    /// The content is signed attributes of another signature, which would then count as content.
    #[error(
        "the content is itself a set of signed attributes; what was signed as such is no content"
    )]
    ContentIsAttributes,
    /// A detached signature was expected.
    #[error("the signature has content of its own; a detached one is needed")]
    Attached,
    /// A signature with its content was expected.
    #[error("the signature has no content of its own (it is detached)")]
    Detached,
}

/// How a signer is named.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SignerName<'a> {
    Issuer { issuer: Element<'a>, serial: &'a [u8] },
    KeyId(&'a [u8]),
}

impl SignerName<'_> {
    /// Whether this is how `certificate` would be named.
    pub(crate) fn is(&self, certificate: &Certificate) -> bool {
        match self {
            SignerName::Issuer { issuer, serial } => {
                certificate.issuer == issuer.whole && certificate.serial == *serial
            }
            SignerName::KeyId(id) => certificate.key_id.as_deref() == Some(*id),
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            SignerName::Issuer { issuer, serial } => {
                let issuer = issuer.decode::<Name>("an issuer's name").map(|name| printable(&name));
                // It was read once already.
                format!("serial {} of `{}`", hex(serial), issuer.unwrap_or_default())
            }
            SignerName::KeyId(id) => format!("key identifier {}", hex(id)),
        }
    }
}

/// Attributes that are signed in place of the content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    /// What is digested, behind the byte that makes it a SET OF.
    pub(crate) behind_tag: &'a [u8],
    pub(crate) message_digest: &'a [u8],
    pub(crate) signing_time: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Signer<'a> {
    pub(crate) name: SignerName<'a>,
    pub(crate) digest: DigestAlgorithm,
    pub(crate) kind: Kind,
    pub(crate) attributes: Option<Attributes<'a>>,
    pub(crate) signature: &'a [u8],
}

/// A signature whose form was checked and whose signers were not. See [`Message::check_detached`].
#[derive(Clone, Debug)]
pub struct Message<'a> {
    pub(crate) content: Option<&'a [u8]>,
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) signers: Vec<Signer<'a>>,
}

impl<'a> Message<'a> {
    /// Reads DER. Nothing may follow it.
    ///
    /// # Errors
    /// What is wrong with it, by name.
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, Error> {
        if bytes.len() > MOST_BYTES {
            return Err(Error::TooLarge { bytes: bytes.len() });
        }
        let mut outside = Walker::new(bytes, 0);
        let info = outside.expect(Tag::Sequence, "a signature (PKCS#7, DER)")?;
        if !outside.is_empty() {
            return Err(Error::TrailingBytes { bytes: outside.rest().len() });
        }
        let mut fields = info.inside();
        let kind = oid(&mut fields, "a content type")?;
        if kind != rfc6268::ID_SIGNED_DATA {
            return Err(Error::ContentType { found: name(&kind) });
        }
        let mut wrapped = fields.expect(context(TagNumber::N0), "the signed data")?.inside();
        fields.end("a signature")?;
        let signed = wrapped.expect(Tag::Sequence, "the signed data")?;
        wrapped.end("the signed data")?;
        Message::signed_data(&signed)
    }

    /// The content that it carries, if it is not detached. Believe it only after
    /// [`Message::check_attached`] says so.
    #[must_use]
    pub fn content(&self) -> Option<&'a [u8]> {
        self.content
    }

    fn signed_data(signed: &Element<'a>) -> Result<Message<'a>, Error> {
        let mut fields = signed.inside();
        let version = number(&mut fields, "the version of the signed data")?;
        if version != 1 && version != 3 {
            return Err(Error::Version { found: version });
        }
        let announced = announced(&fields.expect(Tag::Set, "the digest algorithms")?)?;
        let content = content(&fields.expect(Tag::Sequence, "the signed content")?)?;
        let certificates = match fields.optional(context(TagNumber::N0), "certificates")? {
            Some(set) => certificates(&set)?,
            None => Vec::new(),
        };
        if fields.optional(context(TagNumber::N1), "revocation lists")?.is_some() {
            return Err(Error::RevocationLists);
        }
        let set = fields.expect(Tag::Set, "the signers")?;
        fields.end("the signed data")?;

        let mut signers = Vec::new();
        let mut inside = set.inside();
        while !inside.is_empty() {
            if signers.len() == MOST_SIGNERS {
                return Err(Error::TooMany { what: "signers", most: MOST_SIGNERS });
            }
            let element = inside.expect(Tag::Sequence, "a signer")?;
            signers.push(signer(&element, signers.len(), version, &announced)?);
        }
        let Some(first) = signers.first() else { return Err(Error::NoSigner) };
        let attributes = first.attributes.is_some();
        if signers.iter().any(|signer| signer.attributes.is_some() != attributes) {
            return Err(Error::AttributesMixed);
        }
        Ok(Message { content, certificates, signers })
    }
}

fn oid(fields: &mut Walker<'_>, what: &'static str) -> Result<ObjectIdentifier, Asn1Error> {
    fields.expect(Tag::ObjectIdentifier, what)?.decode(what)
}

fn number(fields: &mut Walker<'_>, what: &'static str) -> Result<u64, Asn1Error> {
    fields.expect(Tag::Integer, what)?.decode(what)
}

/// The names of the digest algorithms. Whether they are taken is asked of those that a signer uses;
/// one that is known is written in one way.
fn announced(set: &Element<'_>) -> Result<Vec<ObjectIdentifier>, Error> {
    let mut inside = set.inside();
    let mut announced = Vec::new();
    while !inside.is_empty() {
        if announced.len() == MOST_DIGESTS {
            return Err(Error::TooMany { what: "digest algorithms", most: MOST_DIGESTS });
        }
        let named = Identifier::read(&inside.next("a digest algorithm")?)?;
        if let Err(error @ AlgorithmError::Parameters(_)) = named.digest() {
            return Err(Error::Algorithm { signer: 0, what: "digest algorithm", error });
        }
        announced.push(named.oid);
    }
    Ok(announced)
}

fn content<'a>(encapsulated: &Element<'a>) -> Result<Option<&'a [u8]>, Error> {
    let mut fields = encapsulated.inside();
    let kind = oid(&mut fields, "the type of the signed content")?;
    if kind != rfc6268::ID_DATA {
        return Err(Error::SignedContentType { found: name(&kind) });
    }
    let content = match fields.optional(context(TagNumber::N0), "the content")? {
        Some(explicit) => {
            let mut inside = explicit.inside();
            let content = octets(&inside.next("the content")?)?;
            inside.end("the content")?;
            Some(content)
        }
        None => None,
    };
    fields.end("the signed content")?;
    Ok(content)
}

fn certificates(set: &Element<'_>) -> Result<Vec<Certificate>, Error> {
    let mut inside = set.inside();
    let mut certificates: Vec<Certificate> = Vec::new();
    for index in 0.. {
        if inside.is_empty() {
            break;
        }
        if index == MOST_CERTIFICATES {
            return Err(Error::TooMany { what: "certificates", most: MOST_CERTIFICATES });
        }
        let element = inside.next("a certificate")?;
        if element.tag != Tag::Sequence {
            return Err(Error::OtherCertificate { index });
        }
        let certificate =
            Certificate::read(&element).map_err(|error| Error::Certificate { index, error })?;
        // The same one again says nothing new.
        if !certificates.contains(&certificate) {
            certificates.push(certificate);
        }
    }
    Ok(certificates)
}

fn signer<'a>(
    element: &Element<'a>,
    index: usize,
    outer: u64,
    announced: &[ObjectIdentifier],
) -> Result<Signer<'a>, Error> {
    let mut fields = element.inside();
    let version = number(&mut fields, "a signer's version")?;
    let by_key_id = Tag::ContextSpecific { constructed: false, number: TagNumber::N0 };
    let name = if let Some(id) = fields.optional(by_key_id, "a key identifier")? {
        SignerName::KeyId(id.value)
    } else {
        let mut inside = fields.expect(Tag::Sequence, "the name of a signer")?.inside();
        let issuer = inside.expect(Tag::Sequence, "an issuer's name")?;
        issuer.decode::<Name>("an issuer's name")?;
        let serial = inside.expect(Tag::Integer, "a serial number")?;
        inside.end("the name of a signer")?;
        SignerName::Issuer { issuer, serial: serial.value }
    };
    match (&name, version, outer) {
        (SignerName::Issuer { .. }, 1, 1) | (SignerName::KeyId(_), 3, 3) => {}
        _ => return Err(Error::SignerVersion { signer: index, found: version }),
    }

    let named = Identifier::read(&fields.expect(Tag::Sequence, "a digest algorithm")?)?;
    let refused = |what| move |error| Error::Algorithm { signer: index, what, error };
    let digest = named.digest().map_err(refused("digest algorithm"))?;
    if !announced.contains(&named.oid) {
        return Err(Error::DigestNotAnnounced { signer: index, found: digest.name() });
    }
    let attributes = match fields.optional(context(TagNumber::N0), "signed attributes")? {
        Some(set) => Some(attributes(&set, index)?),
        None => None,
    };
    let scheme = Identifier::read(&fields.expect(Tag::Sequence, "a signature algorithm")?)?;
    let scheme = scheme.scheme().map_err(refused("signature algorithm"))?;
    if let Some(own) = scheme.digest
        && own != digest
    {
        let (digest, signature) = (digest.name(), own.name());
        return Err(Error::DigestsDiffer { signer: index, digest, signature });
    }
    let signature = octets(&fields.expect(Tag::OctetString, "a signature")?)?;
    fields.optional(context(TagNumber::N1), "unsigned attributes")?;
    fields.end("a signer")?;
    Ok(Signer { name, digest, kind: scheme.kind, attributes, signature })
}

/// A set of attributes, whichever tag it has.
fn attributes<'a>(set: &Element<'a>, signer: usize) -> Result<Attributes<'a>, Error> {
    let (mut content_type, mut message_digest, mut signing_time) = (None, None, None);
    let mut seen: Vec<ObjectIdentifier> = Vec::new();
    let mut inside = set.inside();
    while !inside.is_empty() {
        if seen.len() == MOST_ATTRIBUTES {
            return Err(Error::TooMany { what: "signed attributes", most: MOST_ATTRIBUTES });
        }
        let mut fields = inside.expect(Tag::Sequence, "an attribute")?.inside();
        let kind = oid(&mut fields, "the name of an attribute")?;
        let mut values = fields.expect(Tag::Set, "the values of an attribute")?.inside();
        fields.end("an attribute")?;
        let repeated = || Error::AttributeRepeated { signer, attribute: name(&kind) };
        if seen.contains(&kind) || values.is_empty() {
            return Err(repeated());
        }
        seen.push(kind);
        let value = values.next("the value of an attribute")?;
        if !values.is_empty() {
            return Err(repeated());
        }
        match kind {
            rfc6268::ID_CONTENT_TYPE => {
                content_type = Some(value.decode::<ObjectIdentifier>("a content type")?);
            }
            rfc6268::ID_MESSAGE_DIGEST => message_digest = Some(octets(&value)?),
            rfc6268::ID_SIGNING_TIME => {
                let time = value.decode::<x509_cert::time::Time>("a signing time")?;
                signing_time = Some(Time::from(time));
            }
            rfc5911::SMIME_CAPABILITIES | MS_SP_OPUS_INFO | MS_STATEMENT_TYPE => {
                return Err(Error::AttributeRefused { signer, attribute: name(&kind) });
            }
            _ => {}
        }
    }
    let missing = |attribute| Error::AttributeMissing { signer, attribute };
    let content_type = content_type.ok_or_else(|| missing("contentType"))?;
    let message_digest = message_digest.ok_or_else(|| missing("messageDigest"))?;
    if content_type != rfc6268::ID_DATA {
        return Err(Error::AttributeContentType { signer, found: name(&content_type) });
    }
    Ok(Attributes { behind_tag: &set.whole[1..], message_digest, signing_time })
}

/// Whether content has the form of signed attributes. Its digest would be that of the attributes of
/// another signature by the same signer, who never signed it as content. Values are not looked at:
/// what another reader takes for attributes need not be what [`attributes`] takes.
pub(crate) fn is_attributes(content: &[u8]) -> bool {
    fn walk(content: &[u8]) -> Result<bool, Asn1Error> {
        let mut outside = Walker::new(content, 0);
        let mut inside = outside.expect(Tag::Set, "attributes")?.inside();
        outside.end("attributes")?;
        let some = !inside.is_empty();
        while !inside.is_empty() {
            let mut fields = inside.expect(Tag::Sequence, "an attribute")?.inside();
            fields.expect(Tag::ObjectIdentifier, "the name of an attribute")?;
            fields.expect(Tag::Set, "the values of an attribute")?;
            fields.end("an attribute")?;
        }
        Ok(some)
    }
    walk(content).unwrap_or(false)
}
