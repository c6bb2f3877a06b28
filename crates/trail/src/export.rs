//! Gives back what a trail holds.

use std::io::{self, Write};

use record::stored::{RestoreError, Restorer};
use record::units::LeafIndex;
use record::{Line, LineError};

use crate::{Error, Reader, Store, leaf};

/// An event is gathered up to this many bytes of its leaves; what follows is shown as an
/// event of its own.
const LONGEST: usize = 16 << 20;

/// Why an export stopped.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The trail cannot be read.
    #[error(transparent)]
    Trail(#[from] Error),
    /// A leaf is not what a writer of trails writes.
    #[error("leaf {leaf}: {source}")]
    Leaf {
        /// Which.
        leaf: LeafIndex,
        /// What is wrong.
        source: RestoreError,
    },
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// The next whole event of a trail, put into `lines`; its first leaf.
///
/// # Errors
/// As [`Reader::next`].
pub fn next_event<S: Store>(
    reader: &mut Reader<S>,
    lines: &mut Vec<u8>,
) -> Result<Option<LeafIndex>, Error> {
    lines.clear();
    let mut first = None;
    while let Some(leaf) = reader.next()? {
        first.get_or_insert(leaf.index);
        lines.extend_from_slice(leaf.bytes);
        let more = match leaf::frame(leaf.bytes) {
            leaf::Frame::Whole { tail, .. } => tail.more,
            _ => false,
        };
        if !more || lines.len() > LONGEST {
            break;
        }
    }
    Ok(first)
}

/// The lines of an event, without their LF.
///
/// # Errors
/// [`LineError`] for a line that no writer of trails writes.
pub fn lines(event: &[u8]) -> Result<Vec<Line<'_>>, LineError> {
    let event = event.strip_suffix(b"\n").unwrap_or(event);
    event.split(|&byte| byte == b'\n').map(Line::parse_stored).collect()
}

/// Writes the source lines of the leaves from the reader's place up to `to` (excluded),
/// byte for byte as they were, and returns how many leaves there were.
///
/// A source whose last line had no LF is followed directly by what comes next. `all` adds
/// veritrail's own records, without their tails.
///
/// # Errors
/// [`ExportError`]
pub fn raw<S: Store>(
    reader: &mut Reader<S>,
    to: Option<LeafIndex>,
    all: bool,
    out: &mut dyn Write,
) -> Result<u64, ExportError> {
    let mut restorer = Restorer::default();
    let mut restored = Vec::new();
    let mut count = 0;
    let mut fresh = true;
    // Leaves that go on with an event begun before the first one are passed over.
    let mut inside = true;
    while let Some(leaf) = reader.next()? {
        if to.is_some_and(|to| leaf.index >= to) {
            break;
        }
        count += 1;
        for stored in leaf.bytes.split_inclusive(|&byte| byte == b'\n') {
            let stored = stored.strip_suffix(b"\n").unwrap_or(stored);
            restored.clear();
            match restorer.push(stored, &mut restored) {
                Ok(()) => inside = false,
                Err(RestoreError::Piece { found: 2.., .. }) if inside => continue,
                Err(source) => return Err(ExportError::Leaf { leaf: leaf.index, source }),
            }
            if restored.is_empty()
                && all
                && let Ok(line) = Line::parse_stored(stored)
                && line.record_type() != record::RecordType::VT_LINE
            {
                let own = line.own_tail().map_or(0, |tail| tail.len() + 1);
                if !fresh {
                    restored.push(b'\n');
                }
                restored.extend_from_slice(&stored[..stored.len() - own]);
                restored.push(b'\n');
            }
            if let Some(&byte) = restored.last() {
                fresh = byte == b'\n';
            }
            out.write_all(&restored)?;
        }
    }
    Ok(count)
}
