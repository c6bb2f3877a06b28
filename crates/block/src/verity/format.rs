//! Making a hash tree.

use std::io;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lanes::tree::{BuildError, Builder};
use uuid::Uuid;

use super::layout::Layout;
use super::params::{BlockSize, Digest, Params};
use super::superblock::{SUPERBLOCK_SIZE, Superblock};
use super::volume::chunk_blocks;
use crate::access::{ReadAt, WriteAt};
use crate::ordered::ordered;

/// Why a tree could not be made. What stands on the hash device then has no superblock.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The disk did not give data.
    #[error("cannot read the data device at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The data ended while it was read.
    #[error("the data device ends before byte {end}: it became shorter while it was read")]
    Shrunk {
        /// Where the data should have reached at least.
        end: u64,
    },
    /// The disk did not take the tree.
    #[error("cannot write the hash device")]
    Write(#[source] io::Error),
}

/// Hash blocks of one level that wait to be written together.
#[derive(Default)]
struct Waiting {
    offset: u64,
    bytes: Vec<u8>,
}

/// Bytes of one level that are written at once.
const WRITE: usize = 64 * 1024;

impl Waiting {
    fn push(&mut self, hash: &impl WriteAt, offset: u64, block: &[u8]) -> io::Result<()> {
        if self.bytes.len() >= WRITE {
            self.flush(hash)?;
        }
        if self.bytes.is_empty() {
            self.offset = offset;
        }
        self.bytes.extend_from_slice(block);
        Ok(())
    }

    fn flush(&mut self, hash: &impl WriteAt) -> io::Result<()> {
        if !self.bytes.is_empty() {
            hash.write_all_at(&self.bytes, self.offset)?;
            self.bytes.clear();
        }
        Ok(())
    }
}

/// Makes the tree over `data` on `hash` and gives its root hash. The bytes are those that
/// `veritysetup format` writes. `progress` is told how many data blocks are done.
///
/// `uuid` is that of the superblock, and not looked at where `layout` has none. A superblock is
/// written last and any that stands in its place is wiped first, so that no crash leaves one
/// before half a tree.
///
/// # Errors
/// The disks', and data that ends too early.
pub fn format<D: ReadAt, H: ReadAt + WriteAt>(
    data: &D,
    hash: &H,
    params: &Params,
    layout: &Layout,
    uuid: Uuid,
    threads: NonZeroUsize,
    progress: &mut dyn FnMut(u64),
) -> Result<Digest, FormatError> {
    let superblock = layout.hash_area().superblock.then_some(layout.hash_area().offset);
    if let Some(offset) = superblock {
        wipe(hash, offset, layout.hash_block_size()).map_err(FormatError::Write)?;
    }
    let root = tree(data, hash, params, layout, threads, progress)?;
    hash.sync().map_err(FormatError::Write)?;
    if let Some(offset) = superblock {
        let bytes = Superblock { uuid, params: params.clone() }.to_bytes();
        hash.write_all_at(&bytes, offset).map_err(FormatError::Write)?;
        hash.sync().map_err(FormatError::Write)?;
    }
    Ok(root)
}

/// Takes a superblock's magic away before its tree changes. A file that ends here grows to the end
/// of the superblock's block (a page at most), as `veritysetup` leaves one that has no tree.
fn wipe(hash: &(impl ReadAt + WriteAt), offset: u64, block_size: BlockSize) -> io::Result<()> {
    hash.write_all_at(&[0; SUPERBLOCK_SIZE], offset)?;
    let page = u64::from(block_size.bytes().min(BlockSize::DEFAULT.bytes()));
    // The layout has checked that the hash area ends below 2^63.
    let end = (offset + SUPERBLOCK_SIZE as u64).next_multiple_of(page);
    let size = hash.size()?;
    if size < end {
        let rest = usize::try_from(end - size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        hash.write_all_at(&vec![0; rest], size)?;
    }
    hash.sync()
}

fn tree<D: ReadAt, H: WriteAt>(
    data: &D,
    hash: &H,
    params: &Params,
    layout: &Layout,
    threads: NonZeroUsize,
    progress: &mut dyn FnMut(u64),
) -> Result<Digest, FormatError> {
    let hasher = params.hasher();
    let geometry = layout.geometry();
    let mut builder = Builder::new(geometry, &hasher);
    let mut waiting: Vec<_> = (0..geometry.levels()).map(|_| Waiting::default()).collect();
    let mut emit = |level: usize, index: u64, block: &[u8]| {
        let at = layout.hash_block(level, index);
        waiting[level].push(hash, layout.hash_range(&(at..at)).start, block)
    };
    let mut failed = None;
    let mut done = 0;
    let next = AtomicU64::new(0);
    let give_up = AtomicBool::new(false);
    ordered(
        threads,
        || {
            let (next, give_up, hasher) = (&next, &give_up, &hasher);
            let mut bytes = Vec::new();
            move || {
                if give_up.load(Ordering::Relaxed) {
                    return None;
                }
                let number = next.fetch_add(1, Ordering::Relaxed);
                let digests = digests(data, hasher, layout, number, &mut bytes)?;
                if digests.is_err() {
                    give_up.store(true, Ordering::Relaxed);
                }
                Some((number, digests))
            }
        },
        |digests| {
            let pushed = digests.and_then(|digests| {
                done += (digests.len() / hasher.digest_size()) as u64;
                builder.push(&digests, &mut emit).map_err(build_error)
            });
            progress(done);
            match pushed {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        },
    );
    if let Some(error) = failed {
        return Err(error);
    }
    let root = builder.finish(&mut emit).map_err(build_error)?;
    for level in &mut waiting {
        level.flush(hash).map_err(FormatError::Write)?;
    }
    Ok(Digest::new(&root))
}

fn build_error(error: BuildError<io::Error>) -> FormatError {
    match error {
        BuildError::Emit(error) => FormatError::Write(error),
        BuildError::Count { .. } => unreachable!("the pieces cover the data blocks exactly once"),
    }
}

/// Chunks that one piece of work has.
const CHUNKS: u64 = 8;

/// The digests of piece `number` of the data blocks, or `None` past the last.
fn digests<D: ReadAt>(
    data: &D,
    hasher: &lanes::BlockHasher,
    layout: &Layout,
    number: u64,
    bytes: &mut Vec<u8>,
) -> Option<Result<Vec<u8>, FormatError>> {
    let block_size = layout.data_block_size();
    let chunk = chunk_blocks(block_size) as u64;
    let first = number.checked_mul(CHUNKS * chunk)?;
    let end = layout.data_blocks().min(first.saturating_add(CHUNKS * chunk));
    if first >= end {
        return None;
    }
    let digest_size = hasher.digest_size();
    let mut digests = Vec::new();
    let mut at = first;
    while at < end {
        // At most a chunk, which is a usize.
        let count = usize::try_from((end - at).min(chunk)).unwrap_or(usize::MAX);
        bytes.resize(count * block_size.as_usize(), 0);
        let offset = layout.data_byte(at);
        match data.read_full(bytes, offset) {
            Ok(read) if read == bytes.len() => {}
            Ok(_) => return Some(Err(FormatError::Shrunk { end: layout.data_bytes() })),
            Err(source) => return Some(Err(FormatError::Read { offset, source })),
        }
        let start = digests.len();
        digests.resize(start + count * digest_size, 0);
        hasher.hash_blocks(bytes, block_size.as_usize(), &mut digests[start..]);
        at += count as u64;
    }
    Some(Ok(digests))
}
