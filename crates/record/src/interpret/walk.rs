//! A body cut into fields as `ausearch -i` cuts it. It differs from
//! [`crate::fields`], which is made to find values: here nothing may get lost,
//! and text between fields is shown where it stands.

use memchr::{memchr, memrchr};

use super::class::Class;
use crate::names::RecordType;

/// A piece of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Shown as it stands: text, and a field's name up to its `=`.
    Text(&'a [u8]),
    /// The value of field `name`.
    Field {
        /// Without blanks, quotes and parentheses in front.
        name: &'a [u8],
        /// With its quotes.
        value: &'a [u8],
        /// A comma ended it.
        comma: bool,
    },
}

/// Walks over a body: text, value, text, value...
pub(super) struct Walk<'a> {
    kind: RecordType,
    rest: &'a [u8],
    /// The value announced by the text just given.
    next: Option<Part<'a>>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(kind: RecordType, body: &'a [u8]) -> Walk<'a> {
        Walk { kind, rest: body, next: None }
    }

    /// Takes the value in front of `rest` off it, with the byte that ends it.
    fn value(&mut self, name: &'a [u8]) -> (&'a [u8], bool) {
        let rest = self.rest;
        let (end, comma) = match rest.first() {
            Some(&quote @ (b'\'' | b'"')) => {
                (memchr(quote, &rest[1..]).map_or(rest.len(), |at| at + 2), false)
            }
            _ => {
                let blank = memchr(b' ', rest).unwrap_or(rest.len());
                match memchr(b',', &rest[..blank]) {
                    Some(comma) => match Class::of(self.kind, name, &rest[..blank]) {
                        // Labels may have commas in them, and lists of containers do.
                        Class::Label | Class::ContainerId => (blank, false),
                        _ => (comma, true),
                    },
                    None => (blank, false),
                }
            }
        };
        self.rest = rest.get(end + 1..).unwrap_or_default();
        (&rest[..end], comma)
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        if let Some(part) = self.next.take() {
            return Some(part);
        }
        if self.rest.is_empty() {
            return None;
        }
        let Some(equals) = memchr(b'=', self.rest) else {
            return Some(Part::Text(std::mem::take(&mut self.rest)));
        };
        let (text, _) = self.rest.split_at(equals + 1);
        let name = &text[memrchr(b' ', &text[..equals]).map_or(0, |at| at + 1)..equals];
        self.rest = &self.rest[equals + 1..];
        // A user message has its fields in `msg='...'`; the first has the quote in front.
        if name == b"msg" && self.rest.first() == Some(&b'\'') && self.kind != RecordType::USER_TTY
        {
            return Some(Part::Text(text));
        }
        let name = name.trim_ascii_start();
        let name = name.strip_prefix(b"'").unwrap_or(name);
        let skip = name.iter().take_while(|byte| **byte == b'(').count();
        let name = &name[skip..];
        let (value, comma) = self.value(name);
        let value = match name {
            b"acct" => value.strip_suffix(b":").unwrap_or(value),
            _ => value,
        };
        self.next = Some(Part::Field { name, value, comma });
        Some(Part::Text(text))
    }
}
