//! The trail as the disk buffer: what is signed is durable, and is sent from there.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use record::units::LeafIndex;
use trail::{Checkpoint, Disk, Reader, layout};

/// The longest checkpoint, in bytes.
const CHECKPOINT: u64 = 64 << 10;

/// A trail that is read behind its writer.
pub(super) struct Source {
    dir: PathBuf,
    reader: Reader<Disk>,
    /// The leaf that comes next.
    next: u64,
    /// Leaves before this one are durable.
    end: u64,
}

/// What comes next.
pub(super) enum Next<'a> {
    Leaf {
        index: u64,
        bytes: &'a [u8],
    },
    /// Leaves from the first up to, not including, the second are gone: retention was faster.
    Gone(u64, u64),
    /// Nothing yet.
    End,
}

/// What a trail's checkpoint says: its origin and how many leaves are signed.
pub(crate) fn signed(dir: &Path) -> Result<Option<(String, u64)>, String> {
    let path = dir.join(layout::CHECKPOINT);
    let mut text = String::new();
    match File::open(&path).and_then(|file| file.take(CHECKPOINT).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    }
    // The signature stands behind a blank line. Who forges a checkpoint here may change the leaves as well.
    let body = text.split_once("\n\n").map_or(text.as_str(), |(body, _)| &text[..=body.len()]);
    let checkpoint = Checkpoint::parse(body)
        .map_err(|error| format!("{} cannot be used: {error}", path.display()))?;
    Ok(Some((checkpoint.origin, checkpoint.size)))
}

impl Source {
    pub(super) fn open(dir: &Path, from: u64) -> Result<Source, String> {
        let reader = Reader::open(Disk::new(dir), LeafIndex(from)).map_err(|e| e.to_string())?;
        Ok(Source { dir: dir.to_owned(), reader, next: from, end: 0 })
    }

    pub(super) fn position(&self) -> u64 {
        self.next
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn next(&mut self) -> Result<Next<'_>, String> {
        if self.next >= self.end {
            self.end = signed(&self.dir)?.map_or(0, |(_, size)| size);
            if self.next >= self.end {
                return Ok(Next::End);
            }
        }
        // Asked first: what the reader gives borrows it.
        let first = self.next;
        if let Some(there) = self.gone()? {
            self.reader = Reader::open(Disk::new(&self.dir), LeafIndex(there))
                .map_err(|error| error.to_string())?;
            self.next = there;
            return Ok(Next::Gone(first, there));
        }
        match self.reader.next().map_err(|error| error.to_string())? {
            Some(leaf) => {
                self.next = leaf.index.0 + 1;
                Ok(Next::Leaf { index: leaf.index.0, bytes: leaf.bytes })
            }
            // It is signed, so it comes; retention may be about to take it.
            None => Ok(Next::End),
        }
    }

    /// The first leaf that is there, where the next one is not any more. Asked at the beginning of a tile only:
    /// within a segment that is open nothing goes away.
    fn gone(&self) -> Result<Option<u64>, String> {
        let segments = self.dir.join(layout::SEGMENTS);
        if !self.next.is_multiple_of(layout::TILE) && self.next != 0 {
            return Ok(None);
        }
        if self.dir.join(layout::segment(LeafIndex(self.next))).exists() {
            return Ok(None);
        }
        let entries = std::fs::read_dir(&segments)
            .map_err(|error| format!("cannot read {}: {error}", segments.display()))?;
        let firsts: Vec<u64> = entries
            .filter_map(|entry| Some(layout::first_leaf(entry.ok()?.file_name().to_str()?)?.0))
            .collect();
        // A segment that begins before it has it, unless it ends before: then the next one begins behind it.
        if firsts.iter().any(|first| *first <= self.next) {
            return Ok(None);
        }
        Ok(firsts.into_iter().min())
    }
}
