//! Reading DER by hand, element by element, and writing it.
//!
//! What is signed is bytes, not values: a decoder that builds values sorts sets and forgets how
//! they were written. So the outer structures are walked here, and every element keeps its bytes.

use const_oid::ObjectIdentifier;
use const_oid::db::DB;
use der::{Decode, ErrorKind, Header, Reader, SliceReader, Tag, TagNumber};

/// One element, and where it lies in what was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: Tag,
    /// Offset of its first byte.
    pub(crate) at: usize,
    /// Header and value.
    pub(crate) whole: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// Why bytes are not the elements that were expected. Offsets are from the start of the input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Asn1Error {
    /// A length that says "until the end mark": BER, which DER forbids.
    #[error("byte {at}: a length without a number (BER, not DER)")]
    Indefinite {
        /// Offset of the element.
        at: usize,
    },
    /// The element says it is longer than what is there.
    #[error("byte {at}: an element has {missing} bytes fewer than it says; it was cut off")]
    Truncated {
        /// Offset of the element.
        at: usize,
        /// Bytes that are missing.
        missing: usize,
    },
    /// Another element stands where this one must be.
    #[error("byte {at}: {found} instead of {expected}")]
    Unexpected {
        /// Offset of the element.
        at: usize,
        /// What must stand there.
        expected: &'static str,
        /// What does: a tag, or that nothing does.
        found: String,
    },
    /// More elements than the structure has.
    #[error("byte {at}: {bytes} bytes more than {what} has")]
    Surplus {
        /// Offset of the first one.
        at: usize,
        /// Their length.
        bytes: usize,
        /// The structure.
        what: &'static str,
    },
    /// Anything else that DER does not allow.
    #[error("byte {at}: {what} is not DER: {why}")]
    NotDer {
        /// Offset of the element.
        at: usize,
        /// What was read.
        what: &'static str,
        /// What the decoder says.
        why: String,
    },
}

/// Elements one behind the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walker<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walker<'a> {
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Walker<'a> {
        Walker { bytes, at }
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next element; `what` names it in errors.
    pub(crate) fn next(&mut self, what: &'static str) -> Result<Element<'a>, Asn1Error> {
        let at = self.at;
        if self.bytes.is_empty() {
            return Err(Asn1Error::Unexpected { at, expected: what, found: "nothing".into() });
        }
        let not_der = |why: der::Error| match why.kind() {
            ErrorKind::IndefiniteLength => Asn1Error::Indefinite { at },
            ErrorKind::Incomplete { .. } => Asn1Error::Truncated { at, missing: 1 },
            kind => Asn1Error::NotDer { at, what, why: kind.to_string() },
        };
        let mut reader = SliceReader::new(self.bytes).map_err(not_der)?;
        let header = Header::decode(&mut reader).map_err(not_der)?;
        let head = usize::try_from(reader.position()).map_err(not_der)?;
        let length = usize::try_from(header.length).map_err(not_der)?;
        let left = self.bytes.len() - head;
        if length > left {
            return Err(Asn1Error::Truncated { at, missing: length - left });
        }
        let (whole, rest) = self.bytes.split_at(head + length);
        *self = Walker { bytes: rest, at: at + whole.len() };
        Ok(Element { tag: header.tag, at, whole, value: &whole[head..] })
    }

    /// The next element, which must have this tag.
    pub(crate) fn expect(
        &mut self,
        tag: Tag,
        what: &'static str,
    ) -> Result<Element<'a>, Asn1Error> {
        let element = self.next(what)?;
        if element.tag == tag { Ok(element) } else { Err(element.instead_of(what)) }
    }

    /// The next element if it has this tag.
    pub(crate) fn optional(
        &mut self,
        tag: Tag,
        what: &'static str,
    ) -> Result<Option<Element<'a>>, Asn1Error> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut ahead = *self;
        let element = ahead.next(what)?;
        Ok((element.tag == tag).then(|| {
            *self = ahead;
            element
        }))
    }

    /// The end of the structure.
    pub(crate) fn end(&self, what: &'static str) -> Result<(), Asn1Error> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Asn1Error::Surplus { at: self.at, bytes: self.bytes.len(), what })
        }
    }
}

impl<'a> Element<'a> {
    /// Its elements.
    pub(crate) fn inside(&self) -> Walker<'a> {
        Walker { bytes: self.value, at: self.at + self.whole.len() - self.value.len() }
    }

    /// Its value as what the type checks it for.
    pub(crate) fn decode<T: Decode<'a>>(&self, what: &'static str) -> Result<T, Asn1Error> {
        let not_der =
            |why: der::Error| Asn1Error::NotDer { at: self.at, what, why: why.kind().to_string() };
        T::from_der(self.whole).map_err(not_der)
    }

    pub(crate) fn instead_of(&self, expected: &'static str) -> Asn1Error {
        Asn1Error::Unexpected { at: self.at, expected, found: self.tag.to_string() }
    }
}

/// The tag `[number]` around other elements.
pub(crate) const fn context(number: TagNumber) -> Tag {
    Tag::ContextSpecific { constructed: true, number }
}

/// The name that RFCs have for an identifier, else its numbers.
pub(crate) fn name(oid: &ObjectIdentifier) -> String {
    DB.by_oid(oid).map_or_else(|| oid.to_string(), str::to_owned)
}

/// An element with this tag byte.
pub(crate) fn encode(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    let bytes = length.to_be_bytes();
    let significant = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    match u8::try_from(length) {
        Ok(short @ ..0x80) => out.push(short),
        // A usize has at most eight bytes.
        _ => {
            out.push(0x80 | u8::try_from(significant.len()).unwrap_or(8));
            out.extend_from_slice(significant);
        }
    }
    out.extend(parts.iter().copied().flatten());
    out
}

/// Tag bytes for [`encode`].
pub(crate) mod tag {
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;
    pub(crate) const CONTEXT_0: u8 = 0xa0;
}
