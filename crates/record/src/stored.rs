//! How a trail stores a line that somebody else wrote, and how that line comes
//! back byte for byte (design, "Records"; docs/formats/trail.md).
//!
//! ```text
//!  source   [5.1] audit: type=1300 audit(1.002:3): a=b CR LF
//!  stored   type=SYSCALL msg=audit(1.002:3): a=b 0x1D VT_PRE=<hex> VT_EOL=0D0A LF
//! ```
//!
//! A stored line is `[node=N ]type=T msg=` and the source's bytes from `audit(`
//! on. What that changes stands in veritrail's tail:
//!
//! | field | when | value |
//! |---|---|---|
//! | `VT_PRE` | the source's text before `audit(` was not exactly that | hex of it |
//! | `VT_EOL` | the line did not end in exactly one LF (hex; empty: nothing at all), or it holds a 0x1D or a CR before its LF and has no other tail that could end it | hex of what ended it |
//! | `VT_RAW` | a user message from netlink held LF, CR, NUL or 0x1D: they stand as blanks | hex of the body as it came |
//!
//! What cannot stand as a line - no record at all, longer than
//! [`LONGEST_LINE`], a kernel record with a LF in it, a line of a file with a
//! NUL, or one that bears a name of veritrail's (`VT_...`) - is kept as pieces, the line's end included:
//! `type=VT_LINE msg=audit(STAMP:SERIAL): part=I/N data=HEX`.

use memchr::{memchr, memchr_iter};

use crate::line::{EventId, Line, TAIL};
use crate::names::RecordType;
use crate::value::{Value, decode_hex, push_hex};
use crate::write::{LONGEST_LINE, Tail, push_fmt};

/// Where a line came from; decides what may be changed in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The audit netlink: a user message may hold anything, a line feed included.
    Netlink,
    /// A file: what stands between two line feeds, kept byte for byte.
    File,
}

/// A line as its source has it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its bytes, without what ends it.
    pub text: &'a [u8],
    /// What ends it: `\n`, `\r\n`, or for the last line of a file nothing or
    /// `\r`; see [`split_end`]. For netlink `\n`.
    pub end: &'a [u8],
    /// Where it came from.
    pub origin: Origin,
}

/// Splits a line, as `split_inclusive(b'\n')` gives it, into text and end.
#[must_use]
pub fn split_end(line: &[u8]) -> (&[u8], &[u8]) {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    line.split_at(text.len())
}

/// Appends a netlink message as the text of a source line: `type=NAME msg=` and
/// the payload, which has no NUL at its end.
pub fn push_netlink(out: &mut Vec<u8>, number: u16, payload: &[u8]) {
    // A number of ours is not ours when it comes from there.
    let kind = RecordType(number);
    match kind.name().filter(|_| !kind.is_own()) {
        Some(name) => {
            out.extend_from_slice(b"type=");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b" msg=");
        }
        None => push_fmt(out, format_args!("type=UNKNOWN[{number}] msg=")),
    }
    out.extend_from_slice(payload);
}

/// Appends the stored form of `source`, each line with its LF; `tail` ends the
/// last of them. `fallback` is the id of pieces for what is no record.
pub fn push_stored(out: &mut Vec<u8>, source: Source<'_>, tail: &Tail, fallback: EventId) {
    let start = out.len();
    let parsed = Line::parse(source.text).ok();
    if let Some(line) = &parsed
        && push_line(out, source, line, tail)
        && out.len() - start <= LONGEST_LINE
    {
        out.push(b'\n');
        return;
    }
    out.truncate(start);
    push_pieces(out, source, parsed.as_ref(), tail, fallback);
}

/// Writes the line as one; false where it has to go in pieces.
fn push_line(out: &mut Vec<u8>, source: Source<'_>, line: &Line<'_>, tail: &Tail) -> bool {
    if is_ours(line) || source.text.len() > LONGEST_LINE {
        return false;
    }
    let prefix = line.prefix();
    let from_audit = &source.text[prefix.len()..];
    let start = out.len();
    push_prefix(out, line);
    let same_prefix = out[start..] == *prefix;
    let body = from_audit.len() - (source.text.len() - body_start(source.text, line));
    let breaks = |b: &u8| matches!(*b, b'\n' | b'\r' | 0 | TAIL);
    let mut raw = None;
    if source.origin == Origin::Netlink && from_audit[body..].iter().any(breaks) {
        // Behind a bare `):` the blank that replaces the first byte would be read as the header's.
        if line.record_type().is_user_message() && from_audit[..body].ends_with(b" ") {
            raw = Some(&from_audit[body..]);
        } else if line.record_type().is_user_message() || from_audit.contains(&b'\n') {
            return false;
        }
    }
    match raw {
        Some(raw) => {
            out.extend_from_slice(&from_audit[..body]);
            out.extend(raw.iter().map(|b| if breaks(b) { b' ' } else { *b }));
        }
        None => out.extend_from_slice(from_audit),
    }
    // A leaf holds no NUL, so that what a crash left unwritten is never taken for one.
    if prefix.contains(&b'\n') || memchr(0, &out[start..]).is_some() {
        return false;
    }

    let mut ended = !tail.as_str().is_empty();
    tail.push_to(out);
    let mut field = |name: &str, value: &[u8]| {
        out.push(if ended { b' ' } else { TAIL });
        ended = true;
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        push_hex(out, value);
    };
    if !same_prefix {
        field("VT_PRE", prefix);
    }
    if let Some(raw) = raw {
        field("VT_RAW", raw);
    }
    if source.end != b"\n" {
        field("VT_EOL", source.end);
    }
    // Without a tail of ours these would read as ours, or as part of the end.
    if !ended && (from_audit.contains(&TAIL) || from_audit.ends_with(b"\r")) {
        out.extend_from_slice(b"\x1dVT_EOL=0A");
    }
    true
}

/// Where the body starts in the line's text.
fn body_start(text: &[u8], line: &Line<'_>) -> usize {
    let tails = line.enriched().map_or(0, |tail| tail.len() + 1) + usize::from(line.has_cr());
    text.len() - tails - line.body().len()
}

/// Whether a foreign line bears a name that only veritrail may write.
fn is_ours(line: &Line<'_>) -> bool {
    line.type_text().get(..3).is_some_and(|head| head.eq_ignore_ascii_case(b"VT_"))
}

/// `[node=N ]type=T msg=`, with the name for a bare number.
fn push_prefix(out: &mut Vec<u8>, line: &Line<'_>) {
    if let Some(node) = line.node() {
        out.extend_from_slice(b"node=");
        out.extend_from_slice(node);
        out.push(b' ');
    }
    let text = line.type_text();
    if text.iter().all(u8::is_ascii_digit) && !line.record_type().is_unnamed() {
        push_fmt(out, format_args!("type={} msg=", line.record_type()));
    } else if text.iter().all(u8::is_ascii_digit) {
        push_fmt(out, format_args!("type=UNKNOWN[{}] msg=", text.escape_ascii()));
    } else {
        out.extend_from_slice(b"type=");
        out.extend_from_slice(text);
        out.extend_from_slice(b" msg=");
    }
}

/// Writes the source as hex, in as many lines as it takes.
fn push_pieces(
    out: &mut Vec<u8>,
    source: Source<'_>,
    line: Option<&Line<'_>>,
    tail: &Tail,
    fallback: EventId,
) {
    let id = line.map_or(fallback, Line::id);
    let mut head = Vec::new();
    if let Some(node) = line.and_then(Line::node)
        && node.len() <= 255
        && node.iter().all(u8::is_ascii_graphic)
    {
        head.extend_from_slice(b"node=");
        head.extend_from_slice(node);
        head.push(b' ');
    }
    push_fmt(&mut head, format_args!("type=VT_LINE msg=audit({id}): part="));
    // `I/N data=` with two numbers of at most 20 digits, and the tail's 0x1D.
    let room = LONGEST_LINE - head.len() - 2 * 20 - " data=/".len() - tail.as_str().len() - 1;
    let data = [source.text, source.end].concat();
    let pieces = data.chunks(room / 2);
    let count = pieces.len().max(1);
    // An empty source is one empty piece.
    let pieces = pieces.chain((data.is_empty()).then_some(&data[..]));
    for (index, piece) in pieces.enumerate() {
        out.extend_from_slice(&head);
        push_fmt(out, format_args!("{}/{count} data=", index + 1));
        push_hex(out, piece);
        if index + 1 == count {
            tail.push_to(out);
        }
        out.push(b'\n');
    }
}

/// Why stored lines do not give a source back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A stored line is no record.
    #[error(transparent)]
    Line(#[from] crate::LineError),
    /// A field that says what the source was cannot be read.
    #[error("{field}= is missing or not what this writes")]
    Field {
        /// Its name.
        field: &'static str,
    },
    /// The pieces of a line are not all there, or not in their order.
    #[error("piece {found} of {of} of a line where piece {expected} belongs")]
    Piece {
        /// What came; 0 for anything but a piece.
        found: u64,
        /// How many there are.
        of: u64,
        /// What should have come.
        expected: u64,
    },
}

/// Gives back the bytes of the sources, line by line.
#[derive(Clone, Debug, Default)]
pub struct Restorer {
    /// Pieces read of the line under way, and of how many.
    read: u64,
    of: u64,
}

impl Restorer {
    /// Appends to `out` what `stored`, a line of a trail without its LF, stands
    /// for. The pieces of one line come one after the other, over leaves too.
    /// A record of veritrail's own (`VT_...`) stands for nothing.
    ///
    /// # Errors
    /// When the line is none that [`push_stored`] writes.
    pub fn push(&mut self, stored: &[u8], out: &mut Vec<u8>) -> Result<(), RestoreError> {
        let line = Line::parse_stored(stored)?;
        if line.record_type() == RecordType::VT_LINE {
            return self.piece(&line, out);
        }
        self.finish()?;
        if is_ours(&line) {
            return Ok(());
        }
        let own = line.own_tail().unwrap_or_default();
        let hex = |field: &'static str| match tail_value(own, field) {
            None => Ok(None),
            Some(b"") => Ok(Some(Vec::new())),
            Some(text) => decode_hex(text).map(Some).ok_or(RestoreError::Field { field }),
        };
        match hex("VT_PRE")? {
            Some(prefix) => out.extend_from_slice(&prefix),
            None => out.extend_from_slice(line.prefix()),
        }
        let payload = line.payload();
        match hex("VT_RAW")? {
            Some(raw) => {
                out.extend_from_slice(&payload[..payload.len() - line.body().len()]);
                out.extend_from_slice(&raw);
            }
            None => {
                out.extend_from_slice(payload);
                if let Some(enriched) = line.enriched() {
                    out.push(TAIL);
                    out.extend_from_slice(enriched);
                }
            }
        }
        match hex("VT_EOL")? {
            Some(end) => out.extend_from_slice(&end),
            None => out.push(b'\n'),
        }
        Ok(())
    }

    /// Says whether the line under way is complete; call it after the last.
    ///
    /// # Errors
    /// When pieces are missing.
    pub fn finish(&mut self) -> Result<(), RestoreError> {
        if self.read == self.of {
            return Ok(());
        }
        Err(RestoreError::Piece { found: 0, of: self.of, expected: self.read + 1 })
    }

    fn piece(&mut self, line: &Line<'_>, out: &mut Vec<u8>) -> Result<(), RestoreError> {
        let value = |field: &'static str| {
            let found = line.fields().find_value(field.as_bytes());
            found.map(Value::text).ok_or(RestoreError::Field { field })
        };
        let part = std::str::from_utf8(value("part")?).ok().and_then(|text| {
            let (found, of) = text.split_once('/')?;
            Some((found.parse::<u64>().ok()?, of.parse::<u64>().ok()?))
        });
        let Some((found, of)) = part else { return Err(RestoreError::Field { field: "part" }) };
        let (expected, count) =
            if self.read == self.of { (1, of) } else { (self.read + 1, self.of) };
        if found != expected || of != count || found > of {
            return Err(RestoreError::Piece { found, of, expected });
        }
        match value("data")? {
            b"" => {}
            text => out.extend(decode_hex(text).ok_or(RestoreError::Field { field: "data" })?),
        }
        (self.read, self.of) = (found, of);
        Ok(())
    }
}

/// The value of `name` in a tail of ours: single words between single blanks.
#[must_use]
pub fn tail_value<'a>(tail: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut from = 0;
    let ends = memchr_iter(b' ', tail).chain(std::iter::once(tail.len()));
    for end in ends {
        let field = &tail[from..end];
        if let Some(value) = field.strip_prefix(name.as_bytes()).and_then(|v| v.strip_prefix(b"="))
        {
            return Some(value);
        }
        from = end + 1;
    }
    None
}

#[cfg(test)]
mod tests;
