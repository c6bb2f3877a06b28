//! The words of a line, and what may stand in one.
//!
//! auditctl knows two escapes: a blank in a word and a backslash have a backslash before them. Here
//! a byte that no line can have can be written too, as `\x0a` in small digits: a control character, or
//! one above 0x7f. Any other backslash is itself, so that a name as systemd makes it
//! (`dev-disk\x2dby.mount`) need not be written otherwise.

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
        escaped = byte == b'\\' && !escaped;
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
        (b'\\', [meant @ (b' ' | b'\\'), ..]) => Some((*meant, 1)),
        (b'\\', [b'x', high, low, ..]) => {
            let meant = digit(*high)? << 4 | digit(*low)?;
            (meant.is_ascii_control() || !meant.is_ascii()).then_some((meant, 3))
        }
        _ => None,
    }
}

/// Of the digits that [`push_byte`] writes.
fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// As a word: what [`unescape`] makes `bytes` of.
pub(super) fn push_escaped(bytes: &[u8], line: &mut String) {
    let mut behind = bytes;
    for chunk in bytes.utf8_chunks() {
        for one in chunk.valid().chars() {
            behind = behind.get(one.len_utf8()..).unwrap_or_default();
            let is_plain = behind.first().is_some_and(u8::is_ascii_graphic);
            match one {
                ' ' => line.push_str("\\ "),
                // What is written behind it, or the next word's blank, must not make an escape of it.
                '\\' if !is_plain || escape(b'\\', behind).is_some() => line.push_str("\\\\"),
                // Blanks to others, such as U+0085, too.
                one if one.is_control() => {
                    one.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_byte(byte, line));
                }
                one => line.push(one),
            }
        }
        behind = behind.get(chunk.invalid().len()..).unwrap_or_default();
        chunk.invalid().iter().for_each(|byte| push_byte(*byte, line));
    }
}

fn push_byte(byte: u8, line: &mut String) {
    line.push_str(&format!("\\x{byte:02x}"));
}
