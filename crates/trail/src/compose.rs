//! Turns an entry into the bytes of its leaf, or leaves if it is long.

use memchr::{memchr, memrchr};
use record::line::TAIL;
use record::names::RecordType;
use record::stored::{Origin, Source, push_stored, split_end};
use record::write::{LONGEST_LINE, Tail, own_serial, push_record};
use record::{EventId, Line};

use crate::entry::{Entry, Field, Lines, Stamp, Ticket};
use crate::error::Error;
use crate::leaf::MOST_BYTES;

/// Room for `VT_LEAF=<20 digits> VT_MORE=1` and what separates it.
const FRAME: usize = 8 + 20 + 10 + 2;

/// Writes leaves.
#[derive(Debug)]
pub(crate) struct Composer {
    boot: String,
    /// The newest serial of the kernel's own events.
    kernel: u32,
    /// The stored lines of a long event, before it is cut.
    long: Vec<u8>,
}

impl Composer {
    pub(crate) fn new(boot: &str, kernel: u32) -> Composer {
        Composer { boot: boot.to_owned(), kernel, long: Vec::new() }
    }

    /// Appends the leaves of `entry`, the first of which gets the index `first`.
    pub(crate) fn compose(
        &mut self,
        out: &mut Vec<u8>,
        entry: &Entry<'_>,
        first: u64,
        now: Stamp,
    ) -> Result<(), Error> {
        self.note_kernel_serial(entry);
        let id = match entry.lines {
            Lines::Beside { event, .. } => event,
            Lines::Own(_) | Lines::Foreign { .. } => EventId {
                millis: now.realtime_ns / 1_000_000,
                serial: own_serial(first, self.kernel),
            },
        };
        let start = out.len();
        let mut tail = Tail::new();
        tail.push("VT_LEAF", first).map_err(refused)?;
        self.push_fields(&mut tail, entry, now)?;
        push_lines(out, &entry.lines, id, &tail)?;
        if out.len() - start > MOST_BYTES {
            out.truncate(start);
            let mut fields = Tail::new();
            self.push_fields(&mut fields, entry, now)?;
            self.push_long(out, &entry.lines, id, first, &fields)?;
        }
        Ok(())
    }

    /// As it is read back when a trail is opened: what came as text, by auditd, has the kernel's serial too.
    fn note_kernel_serial(&mut self, entry: &Entry<'_>) {
        let is_kernel = |field: &Field<'_>| field.name == "VT_SRC" && field.value == "kernel";
        if let Lines::Foreign { lines: [line, ..], .. } = entry.lines
            && entry.tail.iter().any(is_kernel)
            && let Ok(line) = Line::parse(split_end(line).0)
        {
            self.kernel = line.serial();
        }
    }

    /// All fields but the leaf's index.
    fn push_fields(&self, tail: &mut Tail, entry: &Entry<'_>, now: Stamp) -> Result<(), Error> {
        if let Lines::Own(_) | Lines::Beside { .. } = entry.lines {
            tail.push("VT_BT", now.boottime_ns).map_err(refused)?;
            tail.push("VT_BOOT", &self.boot).map_err(refused)?;
        }
        for field in entry.tail {
            if ["VT_LEAF", "VT_MORE", "VT_SEQ"].contains(&field.name) {
                return Err(refused(format!("{} is the writer's own field", field.name)));
            }
            tail.push(field.name, field.value).map_err(refused)?;
        }
        if let Some(Ticket { client, seq }) = entry.ticket {
            let known = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
            if client.is_empty() || client.len() > 64 || !client.bytes().all(known) {
                return Err(refused("a client's name is 1 to 64 of A-Z a-z 0-9 . _ : -"));
            }
            tail.push("VT_SEQ", format_args!("{client}:{seq}")).map_err(refused)?;
        }
        Ok(())
    }

    /// Cuts an event between two of its stored lines, as seldom as possible.
    fn push_long(
        &mut self,
        out: &mut Vec<u8>,
        lines: &Lines<'_>,
        id: EventId,
        first: u64,
        fields: &Tail,
    ) -> Result<(), Error> {
        let mut reserve = Tail::new();
        reserve.push("VT_REF", "x".repeat(FRAME + fields.as_str().len())).map_err(refused)?;
        let long = &mut self.long;
        long.clear();
        match lines {
            Lines::Own(_) | Lines::Beside { .. } => push_lines(long, lines, id, &Tail::new())?,
            Lines::Foreign { origin, lines } => {
                for line in *lines {
                    let source = source(*origin, line);
                    let start = long.len();
                    push_stored(long, source, &reserve, id);
                    if is_piece(&long[start..]) {
                        // Pieces have no other tail than the one that reserved the room.
                        long.truncate(memrchr(TAIL, long).unwrap_or(long.len() - 1));
                        long.push(b'\n');
                    } else {
                        long.truncate(start);
                        push_stored(long, source, &Tail::new(), id);
                    }
                }
            }
        }
        let mut index = first;
        let (mut leaf, mut last) = (out.len(), out.len());
        for line in long.split_inclusive(|&b| b == b'\n') {
            if out.len() - leaf + line.len() + FRAME + fields.as_str().len() > MOST_BYTES {
                push_tail(out, last, &format!("VT_LEAF={index} VT_MORE=1"))?;
                index += 1;
                leaf = out.len();
            }
            last = out.len();
            out.extend_from_slice(line);
        }
        push_tail(out, last, &format!("VT_LEAF={index} {}", fields.as_str()))?;
        self.long = Vec::new();
        Ok(())
    }
}

fn refused(what: impl ToString) -> Error {
    Error::Entry(what.to_string())
}

fn push_lines(out: &mut Vec<u8>, lines: &Lines<'_>, id: EventId, tail: &Tail) -> Result<(), Error> {
    let none = Tail::new();
    match lines {
        Lines::Own([]) | Lines::Beside { records: [], .. } | Lines::Foreign { lines: [], .. } => {
            return Err(refused("it has no lines"));
        }
        Lines::Own(records) | Lines::Beside { records, .. } => {
            for (n, record) in records.iter().enumerate() {
                let start = out.len();
                push_record(out, record.kind, id, record.body);
                let bad = |b: &u8| matches!(*b, b'\n' | 0 | TAIL);
                if out[start..].iter().any(bad) {
                    return Err(refused("a record of ours holds a LF, a NUL or a 0x1D"));
                }
                if n + 1 == records.len() {
                    tail.push_to(out);
                }
                if out.len() - start + FRAME > LONGEST_LINE {
                    return Err(refused("a record of ours is too long for a line"));
                }
                out.push(b'\n');
            }
        }
        Lines::Foreign { origin, lines } => {
            for (n, line) in lines.iter().enumerate() {
                let tail = if n + 1 == lines.len() { tail } else { &none };
                push_stored(out, source(*origin, line), tail, id);
            }
        }
    }
    Ok(())
}

fn source(origin: Origin, line: &[u8]) -> Source<'_> {
    let (text, end) = match origin {
        Origin::Netlink => (line, &b"\n"[..]),
        Origin::File => split_end(line),
    };
    Source { text, end, origin }
}

fn is_piece(stored: &[u8]) -> bool {
    let first = &stored[..memchr(b'\n', stored).unwrap_or(stored.len())];
    Line::parse_stored(first).is_ok_and(|line| line.record_type() == RecordType::VT_LINE)
}

/// Puts `fields` at the beginning of the tail of ours of the last line, which starts at `line`.
fn push_tail(out: &mut Vec<u8>, line: usize, fields: &str) -> Result<(), Error> {
    out.pop();
    let own = Line::parse_stored(&out[line..]).map_err(refused)?.own_tail().map(<[u8]>::len);
    match own {
        Some(length) => {
            let at = out.len() - length;
            out.splice(at..at, format!("{fields} ").into_bytes());
        }
        None => {
            out.push(TAIL);
            out.extend_from_slice(fields.as_bytes());
        }
    }
    if out.len() - line > LONGEST_LINE {
        return Err(refused("its last line has no room for a tail"));
    }
    out.push(b'\n');
    Ok(())
}
