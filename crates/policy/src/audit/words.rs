//! The words of a line, and what may stand in one.
//!
//! auditctl knows one escape: a blank in a word has a backslash before it. Here a byte that no line
//! can have (`\x0a`) can be written too, and a backslash that would be taken for one of the two
//! (`\x5c`); any other backslash is itself.

use std::ops::Range;

/// A word as it stands in the line, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word<'t> {
    pub(super) text: &'t str,
    pub(super) start: usize,
}

impl<'t> Word<'t> {
    pub(super) fn span(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }

    /// The word cut in two at a byte of it where a character begins.
    pub(super) fn split_at(&self, at: usize) -> (Self, Self) {
        let (one, other) = self.text.split_at_checked(at).unwrap_or((self.text, ""));
        let start = self.start + one.len();
        (Self { text: one, ..*self }, Self { text: other, start })
    }

    /// The parts between `separator`s.
    pub(super) fn split(self, separator: char) -> impl Iterator<Item = Self> {
        let mut start = self.start;
        self.text.split(separator).map(move |text| {
            let part = Self { text, start };
            start += text.len() + separator.len_utf8();
            part
        })
    }
}

/// The words between blanks.
pub(super) fn words(line: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut escaped = false;
    for (at, byte) in line.bytes().enumerate() {
        if byte.is_ascii_whitespace() && !(escaped && byte == b' ') {
            if let Some(start) = start.take() {
                words.push(Word { text: line.get(start..at).unwrap_or_default(), start });
            }
        } else if start.is_none() {
            start = Some(at);
        }
        escaped = byte == b'\\';
    }
    if let Some(start) = start {
        words.push(Word { text: line.get(start..).unwrap_or_default(), start });
    }
    words
}

/// What a word stands for.
pub(super) fn unescape(word: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match escape(byte, behind) {
            Some((meant, length)) => {
                bytes.push(meant);
                rest = behind.get(length..).unwrap_or_default();
            }
            None => bytes.push(byte),
        }
    }
    bytes
}

/// What a backslash and so many bytes behind it stand for together.
fn escape(byte: u8, behind: &[u8]) -> Option<(u8, usize)> {
    match (byte, behind) {
        (b'\\', [b' ', ..]) => Some((b' ', 1)),
        (b'\\', [b'x', high, low, ..]) => {
            let digit =
                |byte: &u8| char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
            Some((digit(high)? << 4 | digit(low)?, 3))
        }
        _ => None,
    }
}

/// As a word: what [`unescape`] makes `bytes` of.
pub(super) fn push_escaped(bytes: &[u8], line: &mut String) {
    for chunk in bytes.utf8_chunks() {
        let mut chars = chunk.valid().char_indices();
        while let Some((at, one)) = chars.next() {
            let behind = chars.as_str().as_bytes();
            // The next word's blank, or the rest of this one, must not make an escape of it.
            let is_last = at + 1 == chunk.valid().len();
            match one {
                ' ' => line.push_str("\\ "),
                '\\' if is_last || escape(b'\\', behind).is_some() => line.push_str("\\x5c"),
                '\0'..='\x20' | '\x7f' => push_byte(u8::try_from(one).unwrap_or(0), line),
                // Blanks to others, such as U+0085.
                one if one.is_control() => {
                    for byte in one.encode_utf8(&mut [0; 4]).bytes() {
                        push_byte(byte, line);
                    }
                }
                one => line.push(one),
            }
        }
        for byte in chunk.invalid() {
            push_byte(*byte, line);
        }
    }
}

fn push_byte(byte: u8, line: &mut String) {
    line.push_str(&format!("\\x{byte:02x}"));
}
