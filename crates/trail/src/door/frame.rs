//! What the two ends of `trail.sock` say to each other (design section 4, Trail writer).
//!
//! A stream of frames, all numbers little-endian:
//!
//! ```text
//!      0        4      5
//! 00   length   kind   body            length counts kind and body
//!
//! from the client                      from the writer
//!  1   hello      version 1, client 8   129  welcome   version 1
//!  2   entry      seq 8, class 1, event 130  durable   up to 8
//!  3   checkpoint                       131  refused   seq 8, why 1, reason
//!                                       132  note      signed checkpoint
//! ```
//!
//! A client counts its entries from 1 and sends them in order, so one number
//! acknowledges all before it. After a broken connection it sends again what
//! was not acknowledged; the writer leaves out what it already has.

use std::io::{self, Read};

use crate::Class;

/// The version of this protocol, said in both directions.
pub(super) const VERSION: u8 = 1;

/// An entry is at most this long, in bytes. A leaf is far smaller; an event of
/// many long records is not, and is cut into leaves by the writer.
pub(super) const MAX_ENTRY: usize = 4 << 20;

const LENGTH: usize = 4;
/// The longest frame there is: an entry, its kind, seq and class.
const MAX_FRAME: usize = MAX_ENTRY + 1 + 8 + 1;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The first frame of a client.
    Hello {
        /// The client's protocol version.
        version: u8,
        /// A number drawn at random when the client was made; never 0.
        client: u64,
    },
    /// One event to append.
    Entry {
        /// Its number, counted by the client from 1.
        seq: u64,
        /// How urgent it is.
        class: Class,
        /// The event, packed.
        packed: Vec<u8>,
    },
    /// The client wants a checkpoint over all that is durable now.
    Checkpoint,
    /// The writer's answer to [`Frame::Hello`].
    Welcome {
        /// The writer's protocol version.
        version: u8,
    },
    /// All entries of this client up to `seq` are durable.
    Durable {
        /// The highest of them.
        seq: u64,
    },
    /// The entry cannot be appended, whoever sends it.
    Refused {
        /// Its number.
        seq: u64,
        /// What kind of refusal it is.
        refusal: Refusal,
        /// Why, in words.
        reason: String,
    },
    /// The writer's answer to [`Frame::Checkpoint`].
    Note {
        /// The signed note.
        note: Vec<u8>,
    },
}

/// Why an entry was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It cannot stand in a trail.
    Entry,
    /// The disk is full, or what is left is kept for entries that matter more.
    NoRoom,
}

/// Bytes that are no frame. The connection they came by is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is 0 or more than any frame has.
    #[error("a frame of {length} bytes; 1 to {MAX_FRAME} are possible")]
    Length {
        /// What the length field says.
        length: u64,
    },
    /// The kind is not in the table.
    #[error("frame kind {kind} is not known")]
    Kind {
        /// What the kind field says.
        kind: u8,
    },
    /// The body is too short or too long for its kind.
    #[error("the body of a frame of kind {kind} has {length} bytes")]
    Body {
        /// The frame's kind.
        kind: u8,
        /// The body's length in bytes.
        length: usize,
    },
    /// A field has a value that it cannot have.
    #[error("{field} of a frame is {value}")]
    Value {
        /// The field.
        field: &'static str,
        /// What it says.
        value: u64,
    },
}

impl Frame {
    /// Appends the frame to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Frame::Hello { version, client } => {
                put(out, 1, &[&[*version], &client.to_le_bytes()]);
            }
            Frame::Entry { seq, class, packed } => write_entry(out, *seq, *class, packed),
            Frame::Checkpoint => put(out, 3, &[]),
            Frame::Welcome { version } => put(out, 129, &[&[*version]]),
            Frame::Durable { seq } => put(out, 130, &[&seq.to_le_bytes()]),
            Frame::Refused { seq, refusal, reason } => {
                let why = match refusal {
                    Refusal::Entry => 0,
                    Refusal::NoRoom => 1,
                };
                put(out, 131, &[&seq.to_le_bytes(), &[why], reason.as_bytes()]);
            }
            Frame::Note { note } => put(out, 132, &[note]),
        }
    }

    /// The frame of `kind` with this body.
    ///
    /// # Errors
    /// [`FrameError`] for bytes that [`Frame::write`] does not make.
    pub fn read(kind: u8, body: &[u8]) -> Result<Frame, FrameError> {
        let wrong = FrameError::Body { kind, length: body.len() };
        let exact = |length: usize| if body.len() == length { Ok(()) } else { Err(wrong.clone()) };
        match kind {
            1 => {
                exact(9)?;
                match u64_at(body, 1).ok_or(wrong)? {
                    0 => Err(FrameError::Value { field: "client", value: 0 }),
                    client => Ok(Frame::Hello { version: body[0], client }),
                }
            }
            129 => exact(1).map(|()| Frame::Welcome { version: body[0] }),
            2 => {
                let seq = u64_at(body, 0).ok_or_else(|| wrong.clone())?;
                let class = *body.get(8).ok_or(wrong)?;
                let class = class_of(class)
                    .ok_or(FrameError::Value { field: "class", value: class.into() })?;
                if seq == 0 {
                    return Err(FrameError::Value { field: "seq", value: 0 });
                }
                Ok(Frame::Entry { seq, class, packed: body[9..].to_vec() })
            }
            3 => exact(0).map(|()| Frame::Checkpoint),
            130 => {
                exact(8)?;
                Ok(Frame::Durable { seq: u64_at(body, 0).ok_or(wrong)? })
            }
            131 => {
                let seq = u64_at(body, 0).ok_or_else(|| wrong.clone())?;
                let refusal = match body.get(8).ok_or(wrong)? {
                    0 => Refusal::Entry,
                    1 => Refusal::NoRoom,
                    &why => return Err(FrameError::Value { field: "why", value: why.into() }),
                };
                let reason = String::from_utf8_lossy(&body[9..]).into_owned();
                Ok(Frame::Refused { seq, refusal, reason })
            }
            132 => Ok(Frame::Note { note: body.to_vec() }),
            _ => Err(FrameError::Kind { kind }),
        }
    }

    /// The next frame of a stream; `None` where it ends between two frames.
    /// `buffer` is scratch space that keeps its capacity.
    ///
    /// # Errors
    /// What reading returns; [`io::ErrorKind::InvalidData`] around a [`FrameError`].
    /// Memory grows with the bytes that really come, not with the length they announce.
    pub fn next(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<Option<Frame>> {
        let mut head = [0; LENGTH];
        let mut have = 0;
        while have < LENGTH {
            match stream.read(&mut head[have..]) {
                Ok(0) if have == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => have += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let length = u64::from(u32::from_le_bytes(head));
        if length == 0 || length > MAX_FRAME as u64 {
            return Err(invalid(FrameError::Length { length }));
        }
        buffer.clear();
        if (stream.take(length).read_to_end(buffer)? as u64) < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Frame::read(buffer[0], &buffer[1..]).map(Some).map_err(invalid)
    }
}

/// Appends an entry frame without owning its packed.
pub(super) fn write_entry(out: &mut Vec<u8>, seq: u64, class: Class, packed: &[u8]) {
    put(out, 2, &[&seq.to_le_bytes(), &[class_number(class)], packed]);
}

fn put(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    debug_assert!(length <= MAX_FRAME, "the caller bounds what it sends");
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    out.push(kind);
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// A class as one byte: 0, 1 or 2.
pub(super) fn class_number(class: Class) -> u8 {
    match class {
        Class::Integrity => 0,
        Class::Keyed => 1,
        Class::Rest => 2,
    }
}

fn class_of(number: u8) -> Option<Class> {
    [Class::Integrity, Class::Keyed, Class::Rest].into_iter().find(|&c| class_number(c) == number)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn invalid(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(frame: &Frame) -> Vec<u8> {
        let mut out = Vec::new();
        frame.write(&mut out);
        out
    }

    #[test]
    fn the_drawing_is_what_is_sent() {
        let entry = Frame::Entry { seq: 2, class: Class::Keyed, packed: b"x\n".to_vec() };
        let cases: &[(Frame, &[u8])] = &[
            (Frame::Hello { version: 1, client: 7 }, b"\x0a\0\0\0\x01\x01\x07\0\0\0\0\0\0\0"),
            (entry, b"\x0c\0\0\0\x02\x02\0\0\0\0\0\0\0\x01x\n"),
            (Frame::Checkpoint, b"\x01\0\0\0\x03"),
            (Frame::Welcome { version: 1 }, b"\x02\0\0\0\x81\x01"),
            (Frame::Durable { seq: 258 }, b"\x09\0\0\0\x82\x02\x01\0\0\0\0\0\0"),
            (
                Frame::Refused { seq: 1, refusal: Refusal::NoRoom, reason: "no".into() },
                b"\x0c\0\0\0\x83\x01\0\0\0\0\0\0\0\x01no",
            ),
            (Frame::Note { note: b"n".to_vec() }, b"\x02\0\0\0\x84n"),
        ];
        for (frame, wire) in cases {
            assert_eq!(bytes(frame), *wire, "{frame:?}");
            let read = Frame::next(&mut &wire[..], &mut Vec::new()).unwrap();
            assert_eq!(read.as_ref(), Some(frame));
        }
    }

    #[test]
    fn what_is_no_frame_is_told_apart() {
        let cases: &[(&[u8], FrameError)] = &[
            (b"\0\0\0\0", FrameError::Length { length: 0 }),
            (b"\xff\xff\xff\xff", FrameError::Length { length: 0xffff_ffff }),
            (b"\x01\0\0\0\x09", FrameError::Kind { kind: 9 }),
            (b"\x02\0\0\0\x03x", FrameError::Body { kind: 3, length: 1 }),
            (b"\x02\0\0\0\x01\x01", FrameError::Body { kind: 1, length: 1 }),
            (
                b"\x0a\0\0\0\x01\x01\0\0\0\0\0\0\0\0",
                FrameError::Value { field: "client", value: 0 },
            ),
            (
                b"\x0a\0\0\0\x02\x01\0\0\0\0\0\0\0\x09",
                FrameError::Value { field: "class", value: 9 },
            ),
            (b"\x0a\0\0\0\x02\0\0\0\0\0\0\0\0\0", FrameError::Value { field: "seq", value: 0 }),
        ];
        for (wire, error) in cases {
            let found = Frame::next(&mut &wire[..], &mut Vec::new()).unwrap_err();
            let found = found.get_ref().and_then(|e| e.downcast_ref::<FrameError>());
            assert_eq!(found, Some(error), "{wire:x?}");
        }
    }

    proptest! {
        /// Any bytes: no panic, no more memory than bytes that came, and what is read is
        /// what would be written.
        #[test]
        fn any_bytes(wire in proptest::collection::vec(any::<u8>(), 0..64), kind in 0u8..140) {
            check(&wire);
            let mut framed = u32::try_from(wire.len() + 1).unwrap().to_le_bytes().to_vec();
            framed.push(kind);
            framed.extend(wire);
            check(&framed);
        }
    }

    fn check(wire: &[u8]) {
        let mut left = wire;
        let mut buffer = Vec::new();
        while let Ok(Some(frame)) = Frame::next(&mut left, &mut buffer) {
            assert!(buffer.len() <= wire.len());
            if !matches!(&frame, Frame::Refused { .. }) {
                let at = wire.len() - left.len();
                assert!(wire[..at].ends_with(&bytes(&frame)));
            }
        }
    }
}
