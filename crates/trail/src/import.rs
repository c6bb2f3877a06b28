//! Brings a log into a trail: one leaf for each event, one for each line that is no
//! record, and at the end a `VT_IMPORT` record that says what was read.
//!
//! ```text
//!  bytes ─▶ lines ─▶ Line::parse ─┬─ record ─▶ Assembler ─▶ event ─▶ door
//!                                 └─ no record ─────────────────────▶ door
//! ```
//!
//! Memory does not grow with the log, whatever is in it: a line without end is cut, and
//! events that never end are released when they hold too much.

use std::io::{self, Read};
use std::time::Duration;

use memchr::memchr;
use record::Line;
use record::assemble::{Assembler, Event};
use record::stored::Origin;
use record::write::Body;
use sha2::{Digest, Sha256};

use crate::door::{Door, DoorError, Receipt};
use crate::{Class, Entry, Field, Lines, Own};

/// A longer line is cut into pieces of this many bytes, each an entry of its own.
const LONGEST: usize = 3 << 20;

/// The last piece of a line that was cut is at least this long: too long for a record,
/// so that no piece of a line is ever taken for one.
const REST: usize = 16 << 10;

/// How many bytes of records may wait for the rest of their events.
const HELD: usize = 64 << 20;

/// How many bytes are read at once.
const CHUNK: usize = 256 << 10;

/// After how many entries the door is asked whether it refused one.
const ASK: u32 = 256;

/// What every entry says about itself.
const TAIL: &[Field<'_>] = &[Field { name: "VT_SRC", value: "import" }];

/// What was imported from one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// How many bytes the source had.
    pub bytes: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
    /// How many lines.
    pub lines: u64,
    /// How many events the lines that are records made.
    pub events: u64,
    /// How many lines are no records.
    pub unparsed: u64,
}

/// Why an import stopped.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source cannot be read.
    #[error("cannot read byte {at} and on")]
    Read {
        /// How many bytes were read before.
        at: u64,
        /// The operating system's word.
        source: io::Error,
    },
    /// The trail does not take it.
    #[error(transparent)]
    Door(#[from] DoorError),
}

/// Imports everything that `source` gives until its end and returns when it is durable.
/// `name` is what the record of the import calls it; `progress` hears how many bytes were
/// read so far.
///
/// Waits for the trail where it is slower than the source: nothing is dropped.
///
/// # Errors
/// [`ImportError`]. What was handed in before stays in the trail, without a `VT_IMPORT`.
pub fn import(
    door: &Door,
    name: &[u8],
    mut source: impl Read,
    progress: &mut dyn FnMut(u64),
) -> Result<Imported, ImportError> {
    let mut import = Import {
        door,
        imported: Imported::default(),
        assembler: Assembler::default(),
        held: 0,
        cut: false,
        first: None,
        unasked: 0,
    };
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let (mut start, mut seen, mut end) = (0, 0, 0);
    loop {
        while let Some(length) = memchr(b'\n', &buffer[seen..end]) {
            let line = seen + length + 1;
            import.line(&buffer[start..line])?;
            (start, seen) = (line, line);
        }
        seen = end;
        while end - start > LONGEST + REST {
            import.piece(&buffer[start..start + LONGEST])?;
            start += LONGEST;
        }
        buffer.copy_within(start..end, 0);
        (start, seen, end) = (0, seen - start, end - start);
        if buffer.len() < end + CHUNK {
            buffer.resize(end + CHUNK, 0);
        }
        let at = import.imported.bytes;
        let read = match source.read(&mut buffer[end..]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(ImportError::Read { at, source }),
        };
        if read == 0 {
            break;
        }
        hash.update(&buffer[end..end + read]);
        end += read;
        import.imported.bytes += read as u64;
        progress(import.imported.bytes);
    }
    import.end(&buffer[..end])?;
    import.imported.sha256 = hash.finalize().into();
    import.close(name)
}

struct Import<'a> {
    door: &'a Door,
    imported: Imported,
    assembler: Assembler<Box<[u8]>>,
    /// Bytes that the assembler holds.
    held: usize,
    /// The line under way was too long and its first pieces are handed in already.
    cut: bool,
    /// The first entry of this import.
    first: Option<Receipt>,
    /// Entries handed in since the door was asked for refusals.
    unasked: u32,
}

impl Import<'_> {
    /// A line with its end.
    fn line(&mut self, line: &[u8]) -> Result<(), DoorError> {
        if std::mem::take(&mut self.cut) {
            return self.submit(&[line]);
        }
        self.imported.lines += 1;
        let text = record::stored::split_end(line).0;
        let Ok(record) = Line::parse(text) else {
            self.imported.unparsed += 1;
            return self.submit(&[line]);
        };
        self.held += line.len();
        self.assembler.handle_line(Duration::ZERO, &record, line.into());
        if self.held > HELD {
            self.assembler.handle_end();
        }
        while let Some(event) = self.assembler.poll_event() {
            self.event(&event)?;
        }
        Ok(())
    }

    /// A piece of a line that is too long to be held.
    fn piece(&mut self, piece: &[u8]) -> Result<(), DoorError> {
        if !std::mem::replace(&mut self.cut, true) {
            self.imported.lines += 1;
            self.imported.unparsed += 1;
        }
        self.submit(&[piece])
    }

    /// The end of the source, and what stands behind its last LF.
    fn end(&mut self, rest: &[u8]) -> Result<(), DoorError> {
        let record = Line::parse(record::stored::split_end(rest).0);
        let record = record.ok().filter(|_| !self.cut);
        if let Some(record) = &record {
            self.imported.lines += 1;
            self.held += rest.len();
            self.assembler.handle_line(Duration::ZERO, record, rest.into());
        }
        self.assembler.handle_end();
        // Behind a line without LF nothing else of the source may follow, or its bytes could
        // not be given back: the event that has it goes last.
        let mut unended = None;
        while let Some(event) = self.assembler.poll_event() {
            if event.records.iter().any(|record| !record.ends_with(b"\n")) {
                unended = Some(event);
            } else {
                self.event(&event)?;
            }
        }
        if let Some(event) = unended {
            self.event(&event)?;
        }
        if record.is_none() && !rest.is_empty() {
            self.line(rest)?;
        }
        Ok(())
    }

    /// Hands in the records of an event, in as many entries as their size takes.
    fn event(&mut self, event: &Event<Box<[u8]>>) -> Result<(), DoorError> {
        self.imported.events += 1;
        let (mut first, mut bytes) = (0, 0);
        let lines: Vec<&[u8]> = event.records.iter().map(|record| &**record).collect();
        for (at, line) in lines.iter().enumerate() {
            self.held -= line.len();
            if at > first && bytes + line.len() > LONGEST {
                self.submit(&lines[first..at])?;
                (first, bytes) = (at, 0);
            }
            bytes += line.len() + 4;
        }
        self.submit(&lines[first..])
    }

    fn submit(&mut self, lines: &[&[u8]]) -> Result<(), DoorError> {
        let lines = Lines::Foreign { origin: Origin::File, lines };
        let receipt =
            self.door.submit(&Entry { class: Class::Rest, ticket: None, lines, tail: TAIL })?;
        self.first.get_or_insert(receipt);
        self.unasked += 1;
        if self.unasked < ASK {
            return Ok(());
        }
        // A full disk ends the import at once.
        self.unasked = 0;
        self.first.and_then(|first| self.door.refusal_since(first)).map_or(Ok(()), Err)
    }

    fn close(self, name: &[u8]) -> Result<Imported, ImportError> {
        // What the record says of the source is true of the trail, or it is not written.
        if let Some(first) = self.first {
            self.door.wait_durable_from(first)?;
        }
        let Imported { bytes, sha256, lines, events, unparsed } = &self.imported;
        // The end of a name is what tells it from others.
        let name = &name[name.len().saturating_sub(1024)..];
        let mut digest = String::with_capacity(64);
        for byte in sha256 {
            digest.push_str(&format!("{byte:02x}"));
        }
        let body = Body::new()
            .untrusted("source", name)
            .word("range", format_args!("0-{bytes}"))
            .word("sha256", digest)
            .word("lines", lines)
            .word("events", events)
            .word("unparsed", unparsed)
            .word("client", self.door.client());
        let own = [Own { kind: "VT_IMPORT", body: body.as_bytes() }];
        let entry =
            Entry { class: Class::Integrity, ticket: None, lines: Lines::Own(&own), tail: TAIL };
        let last = self.door.submit(&entry)?;
        self.door.wait_durable(last)?;
        Ok(self.imported)
    }
}
