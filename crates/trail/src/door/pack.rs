//! An [`Entry`] as bytes, on its way between processes.
//!
//! ```text
//!      0       1         2
//! 00   origin  fields n  fields ...  lines ...
//!
//! origin  0 ours, 1 netlink, 2 file, 3 ours beside an event
//! fields  n of them; behind them, where ours stand beside an event:
//!         milliseconds 8, serial 4                    its stamp and serial
//! field   name length 1, value length 2, name, value
//! line    length 4, text                              netlink, file
//!         length 4, kind length 1, kind, body         ours; length counts kind and body
//! ```
//!
//! Numbers are little-endian; lines go on to the end. The ticket and the class are not in
//! here: the frame around it has them.

use record::EventId;

use crate::{Class, Entry, Field, Lines, Origin, Own};

/// What is no packed entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an entry: {what} at byte {at}")]
pub struct PackError {
    /// What is wrong.
    pub what: &'static str,
    /// Where.
    pub at: usize,
}

/// Packs what is not in the frame.
///
/// # Errors
/// The caller's mistake: a name, a value or a line that is longer than its length field.
pub fn pack(entry: &Entry<'_>) -> Result<Vec<u8>, PackError> {
    let lines = match entry.lines {
        Lines::Own(records) | Lines::Beside { records, .. } => {
            records.iter().map(|record| 5 + record.kind.len() + record.body.len()).sum::<usize>()
        }
        Lines::Foreign { lines, .. } => lines.iter().map(|line| 4 + line.len()).sum(),
    };
    let fields = entry.tail.iter().map(|field| 3 + field.name.len() + field.value.len());
    let mut out = Vec::with_capacity(2 + 12 + fields.sum::<usize>() + lines);
    out.push(match entry.lines {
        Lines::Own(_) => 0,
        Lines::Foreign { origin: Origin::Netlink, .. } => 1,
        Lines::Foreign { origin: Origin::File, .. } => 2,
        Lines::Beside { .. } => 3,
    });
    let too_long = |what| move |_| PackError { what, at: 0 };
    out.push(u8::try_from(entry.tail.len()).map_err(too_long("more than 255 fields"))?);
    for field in entry.tail {
        let name = u8::try_from(field.name.len()).map_err(too_long("a name over 255 bytes"))?;
        let value = u16::try_from(field.value.len()).map_err(too_long("a value over 64 KiB"))?;
        out.push(name);
        out.extend_from_slice(&value.to_le_bytes());
        out.extend_from_slice(field.name.as_bytes());
        out.extend_from_slice(field.value.as_bytes());
    }
    let length = |bytes: usize| u32::try_from(bytes).map_err(too_long("a line over 4 GiB"));
    if let Lines::Beside { event, .. } = entry.lines {
        out.extend_from_slice(&event.millis.to_le_bytes());
        out.extend_from_slice(&event.serial.to_le_bytes());
    }
    match entry.lines {
        Lines::Own(records) | Lines::Beside { records, .. } => {
            for record in records {
                let kind = u8::try_from(record.kind.len());
                let kind = kind.map_err(too_long("a kind over 255 bytes"))?;
                let whole = length(1 + record.kind.len() + record.body.len())?;
                out.extend_from_slice(&whole.to_le_bytes());
                out.push(kind);
                out.extend_from_slice(record.kind.as_bytes());
                out.extend_from_slice(record.body);
            }
        }
        Lines::Foreign { lines, .. } => {
            for line in lines {
                out.extend_from_slice(&length(line.len())?.to_le_bytes());
                out.extend_from_slice(line);
            }
        }
    }
    Ok(out)
}

/// A packed entry taken apart; borrows from it.
#[derive(Debug)]
pub struct Unpacked<'a> {
    tail: Vec<Field<'a>>,
    lines: UnpackedLines<'a>,
}

#[derive(Debug)]
enum UnpackedLines<'a> {
    Own(Vec<Own<'a>>),
    Beside(EventId, Vec<Own<'a>>),
    Foreign(Origin, Vec<&'a [u8]>),
}

impl<'a> Unpacked<'a> {
    /// Takes packed bytes apart.
    ///
    /// # Errors
    /// [`PackError`] for bytes that [`pack`] does not make.
    pub fn read(packed: &'a [u8]) -> Result<Unpacked<'a>, PackError> {
        let mut rest = Rest { packed, at: 0 };
        let origin = rest.take(1, "no origin")?[0];
        let count = rest.take(1, "no number of fields")?[0];
        let mut tail = Vec::with_capacity(count.into());
        for _ in 0..count {
            let lengths = rest.take(3, "a field is cut")?;
            let value = usize::from(u16::from_le_bytes([lengths[1], lengths[2]]));
            let name = rest.text(lengths[0].into(), "a name")?;
            tail.push(Field { name, value: rest.text(value, "a value")? });
        }
        let event = if origin == 3 { Some(rest.event()?) } else { None };
        let mut own = Vec::new();
        let mut foreign = Vec::new();
        while rest.at < packed.len() {
            let length = rest.take(4, "a line's length is cut")?;
            let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
            // A length that no memory has is one that the bytes do not have either.
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if matches!(origin, 1 | 2) {
                foreign.push(rest.take(length, "a line is cut")?);
                continue;
            }
            let end = rest.at.saturating_add(length);
            let kind = rest.take(1, "a record is cut")?[0];
            let kind = rest.text(kind.into(), "a kind")?;
            let at = rest.at;
            let body = end.checked_sub(at).ok_or(PackError { what: "a kind is too long", at })?;
            own.push(Own { kind, body: rest.take(body, "a body is cut")? });
        }
        let lines = match (origin, event) {
            (0, _) => UnpackedLines::Own(own),
            (1, _) => UnpackedLines::Foreign(Origin::Netlink, foreign),
            (2, _) => UnpackedLines::Foreign(Origin::File, foreign),
            (_, Some(event)) => UnpackedLines::Beside(event, own),
            _ => return Err(PackError { what: "an unknown origin", at: 0 }),
        };
        Ok(Unpacked { tail, lines })
    }

    /// The entry.
    #[must_use]
    pub fn entry<'u>(&'u self, class: Class, ticket: Option<crate::Ticket<'u>>) -> Entry<'u> {
        let lines = match &self.lines {
            UnpackedLines::Own(records) => Lines::Own(records),
            UnpackedLines::Beside(event, records) => Lines::Beside { event: *event, records },
            UnpackedLines::Foreign(origin, lines) => Lines::Foreign { origin: *origin, lines },
        };
        Entry { class, ticket, lines, tail: &self.tail }
    }
}

struct Rest<'a> {
    packed: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], PackError> {
        let end = self.at.checked_add(length);
        let taken = end.and_then(|end| self.packed.get(self.at..end));
        let taken = taken.ok_or(PackError { what, at: self.at })?;
        self.at += length;
        Ok(taken)
    }

    fn event(&mut self) -> Result<EventId, PackError> {
        let what = "an event's stamp and serial are cut";
        let at = self.at;
        let cut = PackError { what, at };
        let bytes: [u8; 12] = self.take(12, what)?.try_into().map_err(|_| cut)?;
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        Ok(EventId {
            millis: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            serial: u32::from_le_bytes([i, j, k, l]),
        })
    }

    fn text(&mut self, length: usize, what: &'static str) -> Result<&'a str, PackError> {
        let at = self.at;
        std::str::from_utf8(self.take(length, what)?).map_err(|_| PackError { what, at })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_drawing_is_what_is_packed() {
        let tail = [Field { name: "VT_SRC", value: "import" }];
        let foreign = |origin, lines| Entry {
            class: Class::Rest,
            ticket: None,
            lines: Lines::Foreign { origin, lines },
            tail: &tail,
        };
        let own = [Own { kind: "VT_GAP", body: b"n=1" }];
        let cases: &[(Entry<'_>, &[u8])] = &[
            (
                foreign(Origin::File, &[b"ab", b"", b"c"]),
                b"\x02\x01\x06\x06\0VT_SRCimport\x02\0\0\0ab\0\0\0\0\x01\0\0\0c",
            ),
            (foreign(Origin::Netlink, &[]), b"\x01\x01\x06\x06\0VT_SRCimport"),
            (
                Entry { class: Class::Rest, ticket: None, lines: Lines::Own(&own), tail: &[] },
                b"\0\0\x0a\0\0\0\x06VT_GAPn=1",
            ),
            (
                Entry {
                    class: Class::Rest,
                    ticket: None,
                    lines: Lines::Beside {
                        event: EventId { millis: 258, serial: 7 },
                        records: &own,
                    },
                    tail: &[],
                },
                b"\x03\0\x02\x01\0\0\0\0\0\0\x07\0\0\0\x0a\0\0\0\x06VT_GAPn=1",
            ),
        ];
        for (entry, packed) in cases {
            assert_eq!(pack(entry).unwrap(), *packed);
            assert_eq!(Unpacked::read(packed).unwrap().entry(Class::Rest, None), *entry);
        }
    }

    #[test]
    fn what_is_no_entry_is_told_apart() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "not an entry: no origin at byte 0"),
            (b"\x04\0", "not an entry: an unknown origin at byte 0"),
            (b"\x02\x01\x05\0\0V", "not an entry: a name at byte 5"),
            (b"\x02\x01\x01\x01\0V\xff", "not an entry: a value at byte 6"),
            (b"\x02\0\xff\xff\xff\xff", "not an entry: a line is cut at byte 6"),
            (b"\0\0\0\0\0\0\0", "not an entry: a kind is too long at byte 7"),
            (b"\0\0\x02\0\0\0\x03abc", "not an entry: a kind is too long at byte 10"),
        ];
        for (packed, error) in cases {
            assert_eq!(Unpacked::read(packed).unwrap_err().to_string(), *error);
        }
    }

    proptest! {
        /// Any bytes: no panic, and what is read is what would be packed.
        #[test]
        fn any_bytes(origin in 0u8..5, rest in proptest::collection::vec(0u8..8, 0..48)) {
            let packed = [&[origin][..], &rest].concat();
            if let Ok(unpacked) = Unpacked::read(&packed) {
                prop_assert_eq!(pack(&unpacked.entry(Class::Rest, None)).unwrap(), packed);
            }
        }
    }
}
