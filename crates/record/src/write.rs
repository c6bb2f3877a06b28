//! Records of veritrail's own, as text.

use std::fmt::{self, Write as _};

use crate::line::{EventId, TAIL};
use crate::names::is_tail_name;
use crate::value::push_untrusted;

/// The longest line a trail stores, in bytes, tails included, LF excluded:
/// ausearch takes the rest of a longer one for a new record.
pub const LONGEST_LINE: usize = 8969;

/// The longest tail, in bytes, so that it fits behind every record.
pub const LONGEST_TAIL: usize = 2048;

/// Appends `type=NAME msg=audit(S.MMM:SERIAL): BODY`, without LF.
///
/// `body` must come from [`Body`], or hold no LF and no 0x1D for another reason.
pub fn push_record(out: &mut Vec<u8>, name: &str, id: EventId, body: &[u8]) {
    push_fmt(out, format_args!("type={name} msg=audit({id}): "));
    out.extend_from_slice(body);
}

/// Appends `text` to bytes; writing to memory does not fail.
pub(crate) fn push_fmt(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    use std::io::Write as _;
    out.write_fmt(text).expect("a Vec takes every byte");
}

/// Builds the body of a record, field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    bytes: Vec<u8>,
}

impl Body {
    /// An empty body.
    #[must_use]
    pub fn new() -> Body {
        Body::default()
    }

    /// A body that begins with what prints as words of ours, blanks between them.
    #[must_use]
    pub fn of_words(words: impl fmt::Display) -> Body {
        let mut bytes = Vec::new();
        push_fmt(&mut bytes, format_args!("{words}"));
        bytes.iter_mut().filter(|b| **b != b' ' && !is_word(**b)).for_each(|b| *b = b'?');
        Body { bytes }
    }

    /// `key=value` for what prints as one word: a number, a word of ours, a `Place`.
    /// A byte that could end the field (blank, control, quote) becomes `?`.
    #[must_use]
    pub fn word(mut self, key: &str, value: impl fmt::Display) -> Body {
        self.key(key);
        let mut words = Words(&mut self.bytes);
        write!(words, "{value}").expect("a Vec takes every byte");
        self
    }

    /// `key="value"`, or hex where the kernel's rule asks for it: for every string
    /// that somebody else chose.
    #[must_use]
    pub fn untrusted(mut self, key: &str, value: &[u8]) -> Body {
        self.key(key);
        push_untrusted(&mut self.bytes, value);
        self
    }

    /// `key='text with blanks'`, as the kernel writes `error_msg`. A byte that could end the field
    /// becomes `?`.
    #[must_use]
    pub fn phrase(mut self, key: &str, text: &str) -> Body {
        self.key(key);
        self.bytes.push(b'\'');
        self.bytes.extend(text.bytes().map(|b| if b == b' ' || is_word(b) { b } else { b'?' }));
        self.bytes.push(b'\'');
        self
    }

    /// The fields of both.
    #[must_use]
    pub fn followed_by(mut self, more: &Body) -> Body {
        if !self.bytes.is_empty() && !more.bytes.is_empty() {
            self.bytes.push(b' ');
        }
        self.bytes.extend_from_slice(&more.bytes);
        self
    }

    /// The text built so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn key(&mut self, key: &str) {
        if !self.bytes.is_empty() {
            self.bytes.push(b' ');
        }
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.push(b'=');
    }
}

struct Words<'a>(&'a mut Vec<u8>);

impl fmt::Write for Words<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend(text.bytes().map(|b| if is_word(b) { b } else { b'?' }));
        Ok(())
    }
}

fn is_word(b: u8) -> bool {
    b.is_ascii_graphic() && b != b'"' && b != b'\''
}

/// Why a field cannot stand in a tail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TailError {
    /// Not in [`crate::names::TAIL_NAMES`].
    #[error("{name:?} is no registered name of a tail")]
    Name {
        /// The name.
        name: String,
    },
    /// The value would end the field, or the line.
    #[error("the value of {name} holds a byte that is not printable ASCII or is a blank")]
    Value {
        /// The name.
        name: String,
    },
    /// The tail would become longer than [`LONGEST_TAIL`].
    #[error("the tail would be longer than {LONGEST_TAIL} bytes")]
    Long,
}

/// veritrail's tail of a line: `VT_LEAF=5 VT_SRC=kernel`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    text: String,
}

impl Tail {
    /// An empty tail.
    #[must_use]
    pub fn new() -> Tail {
        Tail::default()
    }

    /// Adds a field.
    ///
    /// # Errors
    /// When the name is not registered, the value not one printable word, or the
    /// tail too long.
    pub fn push(&mut self, name: &str, value: impl fmt::Display) -> Result<(), TailError> {
        if !is_tail_name(name.as_bytes()) {
            return Err(TailError::Name { name: name.to_string() });
        }
        let before = self.text.len();
        let blank = if before == 0 { "" } else { " " };
        write!(self.text, "{blank}{name}={value}").expect("a String takes every character");
        let added = &self.text[before + blank.len()..];
        let bad = if !added.bytes().all(|b| b.is_ascii_graphic()) {
            Some(TailError::Value { name: name.to_string() })
        } else {
            (self.text.len() > LONGEST_TAIL).then_some(TailError::Long)
        };
        if let Some(error) = bad {
            self.text.truncate(before);
            return Err(error);
        }
        Ok(())
    }

    /// The fields, without the 0x1D before them.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Appends 0x1D and the fields, or nothing if there are none.
    pub fn push_to(&self, out: &mut Vec<u8>) {
        if !self.text.is_empty() {
            out.push(TAIL);
            out.extend_from_slice(self.text.as_bytes());
        }
    }
}

/// The serial of the record of ours that becomes the trail's leaf `leaf`: from the half of `u32`
/// where the newest kernel serial is not, so that no event of ours joins one of the kernel, and
/// never 0.
///
/// It follows from the leaf's index, so that no two events of a trail have the same one, whoever
/// wrote them and whatever their clocks showed (but for one in 2^31 - 1 leaves; identity is the index).
#[must_use]
pub fn own_serial(leaf: u64, newest_kernel: u32) -> u32 {
    const HALF: u32 = 1 << 31;
    let low = u32::try_from(leaf % u64::from(HALF - 1)).unwrap_or(0) + 1;
    low | (!newest_kernel & HALF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Line;
    use crate::place::DeviceId;
    use crate::violation::{EventOp, Violation};

    #[test]
    fn a_record_of_ours_is_the_kernels_text() {
        let id = EventId { millis: 1_677_619_463_786, serial: 1074 };
        let device = DeviceId::Kernel { major: 7, minor: 0, diskseq: 0 };
        let body = Violation::new(EventOp::VerifyData, device, 1000).to_string();
        let mut out = Vec::new();
        push_record(&mut out, "DM_EVENT", id, body.as_bytes());
        let mut tail = Tail::new();
        tail.push("VT_LEAF", 5).unwrap();
        tail.push("VT_SRC", "engine").unwrap();
        tail.push_to(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "type=DM_EVENT msg=audit(1677619463.786:1074): module=verity op=verify-data dev=7:0 \
             sector=1000 res=0\u{1d}VT_LEAF=5 VT_SRC=engine"
        );
    }

    #[test]
    fn a_body_cannot_be_broken_by_what_stands_in_it() {
        let body = Body::new()
            .word("op", "a b\nc\"'\u{e4}")
            .word("n", 5)
            .untrusted("comm", b"x y")
            .untrusted("exe", b"/bin/sh");
        assert_eq!(
            String::from_utf8(body.as_bytes().to_vec()).unwrap(),
            "op=a?b?c???? n=5 comm=782079 exe=\"/bin/sh\""
        );
    }

    #[test]
    fn a_tail_takes_registered_names_and_single_words() {
        let mut tail = Tail::new();
        assert_eq!(tail.push("VT_NEW", 1), Err(TailError::Name { name: "VT_NEW".into() }));
        assert_eq!(tail.push("VT_REF", "a b"), Err(TailError::Value { name: "VT_REF".into() }));
        assert_eq!(tail.push("VT_REF", "\u{1d}"), Err(TailError::Value { name: "VT_REF".into() }));
        assert_eq!(tail.push("VT_REF", "x".repeat(LONGEST_TAIL)), Err(TailError::Long));
        assert_eq!(tail.as_str(), "");
        tail.push("CONTID", "4,^2").unwrap();
        let mut out = b"type=BPF msg=audit(1.000:1): a=b".to_vec();
        tail.push_to(&mut out);
        assert_eq!(Line::parse_stored(&out).unwrap().own_tail(), Some(&b"CONTID=4,^2"[..]));
    }

    #[test]
    fn our_serials_keep_out_of_the_kernels_half() {
        for (leaf, kernel, serial) in [
            (0, 0, 0x8000_0001),
            (1, 5, 0x8000_0002),
            (2, 0x8000_0000, 3),
            (0x7fff_fffe, u32::MAX, 0x7fff_ffff),
            (0x7fff_ffff, u32::MAX, 1),
            (u64::MAX, u32::MAX / 2, 0x8000_0004),
        ] {
            let found = own_serial(leaf, kernel);
            assert_eq!(found, serial, "leaf {leaf}");
        }
    }
}
