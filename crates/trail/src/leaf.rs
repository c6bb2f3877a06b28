//! How events are framed as leaves.
//!
//! ```text
//!  type=SYSCALL msg=audit(1.000:7): ...                              LF
//!  type=PATH msg=audit(1.000:7): ...  <1D> AUID="root" (the source's) LF
//!  type=CWD msg=audit(1.000:7): ...   <1D> VT_LEAF=41 VT_SRC=kernel   LF   <- ends the leaf
//! ```
//!
//! A leaf ends with the first line the last tail of which (what follows its last 0x1D) begins
//! with `VT_LEAF=`. There is no NUL in a leaf, so that blocks a crash left unwritten, which read
//! as zeros, are never taken for one.

use std::io;
use std::ops::Range;

use memchr::{memchr, memrchr};
use record::line::TAIL;
use record::stored::tail_value;

use crate::entry::Ticket;
use crate::store::File;

/// Bytes in a leaf at most: what the entry bundles of c2sp.org/tlog-tiles can hold.
pub const MOST_BYTES: usize = 65_535;

/// What the bytes from some place on are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A leaf of `len` bytes.
    Whole {
        /// Bytes, the last line feed included.
        len: usize,
        /// The tail that ends it.
        tail: Tail<'a>,
    },
    /// The beginning of one, perhaps.
    Partial,
    /// Nothing that ever becomes one; why.
    Broken(&'static str),
}

/// The tail that ends a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail<'a> {
    /// The index the leaf claims to have.
    pub index: u64,
    /// `VT_MORE=1`: the event goes on in the next leaf.
    pub more: bool,
    /// The other fields, blank-separated.
    fields: &'a [u8],
}

impl<'a> Tail<'a> {
    /// Reads what follows the 0x1D. `None` if it does not begin with `VT_LEAF=`.
    fn parse(tail: &'a [u8]) -> Option<Result<Tail<'a>, &'static str>> {
        let rest = tail.strip_prefix(b"VT_LEAF=")?;
        let end = memchr(b' ', rest).unwrap_or(rest.len());
        let (digits, fields) = rest.split_at(end);
        let fields = fields.strip_prefix(b" ").unwrap_or(fields);
        let more = fields == b"VT_MORE=1" || fields.starts_with(b"VT_MORE=1 ");
        Some(match decimal(digits) {
            Some(index) => Ok(Tail { index, more, fields }),
            None => Err("VT_LEAF is not a number"),
        })
    }

    /// The value of one of its fields.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        tail_value(self.fields, name)
    }

    /// `VT_SEQ=<client>:<seq>`
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket<'a>> {
        let value = self.field("VT_SEQ")?;
        let colon = memrchr(b':', value)?;
        let client = std::str::from_utf8(&value[..colon]).ok()?;
        Some(Ticket { client, seq: decimal(&value[colon + 1..])? })
    }
}

/// A number in the one form it may be written in.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, &b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Looks for a leaf at the beginning of `bytes`.
#[must_use]
pub fn frame(bytes: &[u8]) -> Frame<'_> {
    let bytes = &bytes[..bytes.len().min(MOST_BYTES)];
    let mut at = 0;
    while let Some(length) = memchr(b'\n', &bytes[at..]) {
        let line = &bytes[at..at + length];
        at += length + 1;
        let own = memrchr(TAIL, line).and_then(|tail| Tail::parse(&line[tail + 1..]));
        match own {
            None => {}
            Some(_) if memchr(0, &bytes[..at]).is_some() => return Frame::Broken(NUL),
            Some(Err(what)) => return Frame::Broken(what),
            Some(Ok(tail)) => return Frame::Whole { len: at, tail },
        }
    }
    if bytes.len() < MOST_BYTES {
        Frame::Partial
    } else if memchr(0, bytes).is_some() {
        Frame::Broken(NUL)
    } else {
        Frame::Broken("no line among 65,535 bytes ends a leaf")
    }
}

/// A crash leaves blocks that were not written as zeros ...
pub(crate) const NUL: &str = "there is a NUL in it";
/// ... or a file that ends too early.
pub(crate) const CUT: &str = "it has no end";

/// Walks over the leaves of a file that may still grow.
pub(crate) struct Leaves<F> {
    file: F,
    buffer: Vec<u8>,
    /// The leaf found last, in `buffer`.
    found: Range<usize>,
    /// What follows it, in `buffer`.
    unread: Range<usize>,
    /// Where in the file `unread` begins.
    offset: u64,
}

/// What stands at some place of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A leaf that says it has this index.
    Leaf { index: u64, more: bool },
    /// The end of the file, for now.
    End,
    /// Something else, to the end of the file; why it is no leaf.
    Rest(&'static str),
}

const SMALLEST: usize = 16 << 10;
/// Larger than a leaf, so that there is always room to read on.
const CHUNK: usize = 1 << 20;
const _: () = assert!(CHUNK > MOST_BYTES);

impl<F: File> Leaves<F> {
    /// Begins at byte `offset`, which must be the beginning of a leaf.
    pub(crate) fn new(file: F, offset: u64) -> Leaves<F> {
        Leaves { file, buffer: Vec::new(), found: 0..0, unread: 0..0, offset }
    }

    /// Goes on to the next leaf. At the end it may be asked again.
    pub(crate) fn advance(&mut self) -> io::Result<Step> {
        loop {
            match frame(&self.buffer[self.unread.clone()]) {
                Frame::Whole { len, tail } => {
                    let step = Step::Leaf { index: tail.index, more: tail.more };
                    self.found = self.unread.start..self.unread.start + len;
                    self.unread.start += len;
                    self.offset += len as u64;
                    return Ok(step);
                }
                Frame::Broken(what) => return Ok(Step::Rest(what)),
                Frame::Partial => {}
            }
            if !self.fill()? {
                let cut = !self.unread.is_empty();
                return Ok(if cut { Step::Rest(CUT) } else { Step::End });
            }
        }
    }

    /// Stands before the leaf found last again.
    pub(crate) fn back(&mut self) {
        self.offset = self.start();
        self.unread.start = self.found.start;
        self.found = 0..0;
    }

    /// The bytes of the leaf found last.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.found.clone()]
    }

    /// The tail of the leaf found last.
    pub(crate) fn tail(&self) -> Option<Tail<'_>> {
        match frame(self.bytes()) {
            Frame::Whole { tail, .. } => Some(tail),
            _ => None,
        }
    }

    /// Where the leaf found last begins in the file.
    pub(crate) fn start(&self) -> u64 {
        self.offset - self.found.len() as u64
    }

    /// Where the leaf found last ends in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn file(&self) -> &F {
        &self.file
    }

    /// Reads on behind the unread part; whether there was anything.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        self.found = 0..0;
        // Small at first: most files that are followed have little to say.
        let larger = (self.buffer.len() * 2).clamp(SMALLEST, CHUNK);
        self.buffer.resize(larger, 0);
        let place = self.offset + self.unread.len() as u64;
        let n = self.file.read_at(place, &mut self.buffer[self.unread.end..])?;
        self.unread.end += n;
        Ok(n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_ends_with_the_last_tail_of_a_line() {
        type Found = Result<(usize, u64, bool), Option<&'static str>>;
        let cases: [(&[u8], Found); 12] = [
            (b"", Err(None)),
            (b"a\n", Err(None)),
            (b"a\x1dVT_LEAF=7", Err(None)),
            (b"a\x1dVT_LEAF=7\nb", Ok((12, 7, false))),
            (b"a\nb\x1dX=1\nc\x1dVT_LEAF=0 VT_MORE=1\n", Ok((30, 0, true))),
            (b"a\x1dVT_LEAF=1 VT_MORE=1 VT_SRC=kernel\n", Ok((36, 1, true))),
            (b"a\x1dVT_LEAF=1 X=1 VT_MORE=1\n", Ok((26, 1, false))),
            // An imported line that has a tail of the same name: ours follows.
            (b"a\x1dVT_LEAF=9\x1d\nb\x1dVT_LEAF=3\n", Ok((25, 3, false))),
            (b"a\x1dVT_LEAF=\n", Err(Some("VT_LEAF is not a number"))),
            (b"a\x1dVT_LEAF=07\n", Err(Some("VT_LEAF is not a number"))),
            (b"a\x1dVT_LEAF=18446744073709551616\n", Err(Some("VT_LEAF is not a number"))),
            (b"a\0\x1dVT_LEAF=7\n", Err(Some(NUL))),
        ];
        for (bytes, expected) in cases {
            let found = match frame(bytes) {
                Frame::Whole { len, tail } => Ok((len, tail.index, tail.more)),
                Frame::Partial => Err(None),
                Frame::Broken(what) => Err(Some(what)),
            };
            assert_eq!(found, expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_leaf_has_at_most_65535_bytes() {
        for (filler, whole) in [(MOST_BYTES - 11, true), (MOST_BYTES - 10, false)] {
            let mut bytes = vec![b'x'; filler];
            bytes.extend_from_slice(b"\x1dVT_LEAF=7\n");
            bytes.extend_from_slice(&[b'x'; 20]);
            assert_eq!(matches!(frame(&bytes), Frame::Whole { .. }), whole, "{filler}");
            assert_eq!(matches!(frame(&bytes), Frame::Broken(_)), !whole, "{filler}");
        }
    }

    #[test]
    fn tickets_are_read_back() {
        let line = b"a\x1dVT_LEAF=7 VT_SRC=engine VT_SEQ=device:data:12\n";
        let Frame::Whole { tail, .. } = frame(line) else { panic!("a leaf") };
        assert_eq!(tail.ticket(), Some(Ticket { client: "device:data", seq: 12 }));
        assert_eq!(tail.field("VT_SRC"), Some(&b"engine"[..]));
        assert_eq!(tail.field("VT_S"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_may_be_framed(bytes: Vec<u8>, cut in 0..64_usize) {
            let mut leaf = bytes;
            leaf.extend_from_slice(b"\nx\x1dVT_LEAF=7 A=1\n");
            if let Frame::Whole { len, .. } = frame(&leaf) {
                assert!(leaf[..len].ends_with(b"\n"));
                // What is a leaf stays one, whatever follows; less of it is none.
                assert_eq!(frame(&leaf[..len]), frame(&leaf));
                assert_eq!(frame(&leaf[..len - 1 - cut.min(len - 1)]), Frame::Partial);
            }
        }
    }
}
