//! What auditd hands on: to a client of its af_unix plugin, to a plugin's standard input, and what a
//! plugin of ours makes of that on its way to the agent.
//!
//! ```text
//!  text      [node=N ]type=T msg=audit(...): ...[0x1D ENRICHED] LF
//!
//!  binary         0        4        8        c
//!            00   version  header   type     size     struct audit_dispatcher_header, the host's order
//!            10   `size` bytes, and then whatever auditd's memory held, to 8,970
//! ```
//!
//! | version | the bytes are |
//! |---|---|
//! | 0 | the kernel's own, from `audit(` on (`log_format = RAW`, no `name_format`) |
//! | 1 | a line of text (`ENRICHED`, or with a node) |
//! | [`OURS`] | three numbers of 64 bits: records that a plugin of ours had no room for, and from when to when |
//!
//! auditd 3 and 4 write all of the 8,986 bytes of each message (tried with 3.0.9); one that writes
//! no more than `size` is told by the header that follows at once: what auditd's memory holds is text of
//! older records, and a header has bytes that no text has.

use memchr::memchr;

use crate::line::{Line, LineError, Stamp};
use crate::names::RecordType;
use crate::stored::push_netlink;

/// `MAX_AUDIT_MESSAGE_LENGTH` of libaudit: bytes behind a header.
pub const LONGEST: usize = 8970;

/// A line of text has a record, auditd's interpretation of it, and a node.
pub const LONGEST_TEXT: usize = 2 * LONGEST;

/// The header's bytes.
pub const HEADER: usize = 16;

/// The same as it stands in one.
const HEADER_NUMBER: u32 = 16;

/// The version of messages that only a plugin of ours sends.
pub const OURS: u32 = 0x5654_0001;

/// Why what came is nothing that auditd writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DispatchError {
    /// A header with a number in it that none has.
    #[error("a message's header says {what}={found}")]
    Header {
        /// Which number.
        what: &'static str,
        /// The number.
        found: u32,
    },
    /// A line without an end.
    #[error("a line of more than {LONGEST_TEXT} bytes")]
    TooLong,
    /// A message of ours that is none.
    #[error("a count of dropped records that is none")]
    Count,
    /// A line or a message that is no record.
    #[error("what came is no record: {0}")]
    NoRecord(#[from] LineError),
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// auditd; the first bytes tell in which form.
    Auditd,
    /// A plugin of ours: binary, without anything behind the `size` bytes.
    Plugin,
}

/// A record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// `type=NAME msg=` and what followed. The node of this machine is not in it.
    pub line: Line<'a>,
    /// From `audit(` on it is what the kernel wrote, whatever bytes that are. In a line of text auditd has
    /// made blanks of line feeds, and may have put its interpretation behind a 0x1D.
    pub verbatim: bool,
    /// As the header has it, or the line.
    kind: u16,
}

impl Record<'_> {
    /// Whether this machine's kernel numbered it: not auditd, which counts its own records (1200 to 1299),
    /// nor another machine, whose node is not one of ours.
    #[must_use]
    pub fn is_of_this_kernel(&self) -> bool {
        self.line.node().is_none() && !is_of_daemon(self.line.record_type())
    }

    /// Appends it as a plugin of ours sends it.
    pub fn push_to(&self, out: &mut Vec<u8>) {
        let bytes = match self.verbatim {
            true => &self.line.raw()[self.line.prefix().len()..],
            false => self.line.raw(),
        };
        let version = if self.verbatim { Version::KERNEL } else { Version::TEXT };
        push_message(out, version, self.kind, bytes);
    }
}

/// Whether auditd makes records of this type itself, with serials of its own.
#[must_use]
pub fn is_of_daemon(kind: RecordType) -> bool {
    (1200..=1299).contains(&kind.0)
}

/// Records that a plugin of ours had no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// How many.
    pub records: u64,
    /// When the first and the last was dropped.
    pub span: [Stamp; 2],
}

impl Dropped {
    /// Appends it as a plugin of ours sends it.
    pub fn push_to(&self, out: &mut Vec<u8>) {
        let [from, to] = self.span;
        let numbers = [self.records, from.millis, to.millis].map(ours64).concat();
        push_message(out, Version(OURS), 0, &numbers);
    }

    fn read(bytes: &[u8]) -> Option<Dropped> {
        let (numbers, rest) = bytes.as_chunks();
        let [records, from, to] = <[[u8; 8]; 3]>::try_from(numbers).ok()?.map(number64);
        let span = [from, to].map(|millis| Stamp { millis });
        rest.is_empty().then_some(Dropped { records, span })
    }
}

/// A message.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// A record.
    Record(Record<'a>),
    /// Records that are missing here.
    Dropped(Dropped),
}

/// Cuts what comes into messages. It holds what was [pushed](Reader::push) and not read yet: whoever reads
/// all that there is before pushing more bounds it by that and one message.
#[derive(Clone, Debug)]
pub struct Reader {
    writer: Writer,
    /// What auditd calls this machine.
    nodes: Vec<Vec<u8>>,
    form: Option<Form>,
    held: Vec<u8>,
    read: usize,
    /// The record that was read last.
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    /// Each message has [`HEADER`] and [`LONGEST`] bytes.
    Padded,
    /// Each message ends with its last byte.
    Packed,
}

impl Reader {
    /// One of what `writer` sends. A record of one of these `nodes` is of this machine.
    #[must_use]
    pub fn new(writer: Writer, nodes: Vec<Vec<u8>>) -> Reader {
        let form = (writer == Writer::Plugin).then_some(Form::Packed);
        Reader { writer, nodes, form, held: Vec::new(), read: 0, line: Vec::new() }
    }

    /// Takes what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.drain(..self.read);
        self.read = 0;
        self.held.extend_from_slice(bytes);
    }

    /// Whether a part of a message is there whose rest is not.
    #[must_use]
    pub fn is_amid(&self) -> bool {
        self.read < self.held.len()
    }

    /// The next message; none where more has to come first.
    ///
    /// # Errors
    /// What came is not what such a writer sends. Nobody knows where the next message begins: there is
    /// nothing more to be read here.
    #[allow(clippy::should_implement_trait, reason = "what it gives borrows from it")]
    pub fn next(&mut self) -> Result<Option<Message<'_>>, DispatchError> {
        let Some(cut) = self.cut()? else { return Ok(None) };
        let (verbatim, data) = match cut {
            Cut::Line(length) => {
                let from = self.read;
                self.read += length + 1;
                (None, &self.held[from..from + length])
            }
            Cut::Message { header, length } => {
                let from = self.read + HEADER;
                self.read += length;
                let data = &self.held[from..from + header.size];
                if header.version == Version(OURS) {
                    let dropped = Dropped::read(data).ok_or(DispatchError::Count)?;
                    return Ok(Some(Message::Dropped(dropped)));
                }
                let is_end = |b: &u8| [0, b'\n'].contains(b);
                let ends = data.iter().rev().take_while(|b| is_end(b)).count();
                let verbatim = (header.version == Version::KERNEL).then_some(header.kind);
                (verbatim, &data[..data.len() - ends])
            }
        };
        self.line.clear();
        match verbatim {
            Some(kind) => push_netlink(&mut self.line, kind, data),
            None => push_text(&mut self.line, data, &self.nodes)?,
        }
        let line = Line::parse(&self.line)?;
        let kind = verbatim.unwrap_or(line.record_type().0);
        Ok(Some(Message::Record(Record { line, verbatim: verbatim.is_some(), kind })))
    }

    /// Where the next message is, if all of it has come.
    fn cut(&mut self) -> Result<Option<Cut>, DispatchError> {
        let rest = &self.held[self.read..];
        let Some(first) = rest.first() else { return Ok(None) };
        // A header begins with a small number, in either order of bytes; a line with a letter.
        if self.form == Some(Form::Text) || (self.form.is_none() && *first >= b' ') {
            self.form = Some(Form::Text);
            return match memchr(b'\n', rest) {
                Some(length) if length <= LONGEST_TEXT => Ok(Some(Cut::Line(length))),
                None if rest.len() <= LONGEST_TEXT => Ok(None),
                _ => Err(DispatchError::TooLong),
            };
        }
        let Some(header) = rest.first_chunk() else { return Ok(None) };
        let header = Header::read(header, self.writer)?;
        let (packed, padded) = (HEADER + header.size, HEADER + LONGEST);
        if self.form.is_none() {
            let next = rest.get(packed..).and_then(<[u8]>::first_chunk);
            self.form = match next.map(|next| Header::read(next, self.writer).is_ok()) {
                // So little is behind it that no header fits.
                _ if packed + HEADER > padded => Some(Form::Padded),
                Some(true) => Some(Form::Packed),
                Some(false) => Some(Form::Padded),
                None => return Ok(None),
            };
        }
        let length = if self.form == Some(Form::Packed) { packed } else { padded };
        Ok((rest.len() >= length).then_some(Cut::Message { header, length }))
    }
}

/// Where a message ends.
enum Cut {
    /// A line of so many bytes, without its LF.
    Line(usize),
    /// So many bytes, with the header.
    Message { header: Header, length: usize },
}

/// The line as a record has it: with the type's name of today, and without our own node.
fn push_text(out: &mut Vec<u8>, text: &[u8], nodes: &[Vec<u8>]) -> Result<(), LineError> {
    let line = Line::parse(text)?;
    let foreign = line.node().is_some_and(|node| !nodes.iter().any(|ours| ours == node));
    if foreign || line.record_type().is_unnamed() {
        let own_node = line.node().filter(|_| !foreign).map_or(0, |node| node.len() + 6);
        out.extend_from_slice(&text[own_node..]);
    } else {
        push_netlink(out, line.record_type().0, &text[line.prefix().len()..]);
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version(u32);

impl Version {
    const KERNEL: Version = Version(0);
    const TEXT: Version = Version(1);
}

/// A header, checked.
#[derive(Clone, Copy, Debug)]
struct Header {
    version: Version,
    kind: u16,
    size: usize,
}

impl Header {
    fn read(bytes: &[u8; HEADER], writer: Writer) -> Result<Header, DispatchError> {
        let (numbers, _) = bytes.as_chunks();
        let [version, header, kind, size] =
            <[[u8; 4]; 4]>::try_from(numbers).unwrap_or_default().map(number);
        let wrong = |what, found| Err(DispatchError::Header { what, found });
        let (known, longest) = match writer {
            Writer::Auditd => (&[0, 1][..], LONGEST),
            Writer::Plugin => (&[0, 1, OURS][..], LONGEST_TEXT),
        };
        if !known.contains(&version) {
            return wrong("version", version);
        }
        if header != HEADER_NUMBER {
            return wrong("header", header);
        }
        let Ok(kind) = u16::try_from(kind) else { return wrong("type", kind) };
        match usize::try_from(size).ok().filter(|size| *size <= longest) {
            Some(size) => Ok(Header { version: Version(version), kind, size }),
            None => wrong("size", size),
        }
    }
}

fn push_message(out: &mut Vec<u8>, version: Version, kind: u16, bytes: &[u8]) {
    // Nothing is longer that was read by a reader of these.
    let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend([version.0, HEADER_NUMBER, kind.into(), size].map(ours).concat());
    out.extend_from_slice(bytes);
}

#[expect(clippy::host_endian_bytes, reason = "auditd writes its struct as it is")]
fn number(bytes: [u8; 4]) -> u32 {
    u32::from_ne_bytes(bytes)
}

#[expect(clippy::host_endian_bytes, reason = "auditd writes its struct as it is")]
fn ours(number: u32) -> [u8; 4] {
    number.to_ne_bytes()
}

#[expect(clippy::host_endian_bytes, reason = "it stays on this machine")]
fn number64(bytes: [u8; 8]) -> u64 {
    u64::from_ne_bytes(bytes)
}

#[expect(clippy::host_endian_bytes, reason = "it stays on this machine")]
fn ours64(number: u64) -> [u8; 8] {
    number.to_ne_bytes()
}

#[cfg(test)]
mod tests;
