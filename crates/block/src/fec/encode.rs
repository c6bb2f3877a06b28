//! Making parity.

use std::io;
use std::num::NonZeroUsize;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::area::{Area, Role};
use super::code::{Code, Remainders};
use crate::access::{ReadAt, WriteAt};
use crate::ordered::ordered;

/// Why there is no parity, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A disk did not give what is to be covered.
    #[error("cannot read the {role} device at byte {offset}")]
    Read {
        /// `data` or `hash`.
        role: &'static str,
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// A device ended while it was read.
    #[error("the {role} device ends before byte {end}, up to which FEC covers it")]
    Shrunk {
        /// `data` or `hash`.
        role: &'static str,
        /// Where it should have reached at least.
        end: u64,
    },
    /// The disk did not take the parity.
    #[error("cannot write the FEC device")]
    Write(#[source] io::Error),
}

/// Codewords that are made at once: few enough that their remainders stay in a core's own cache,
/// and enough bytes side by side for a disk.
const TILE: u64 = 32 * 1024;

/// Makes the parity of all that `area` covers and writes it to `fec`, durably. The bytes are those
/// that `veritysetup format` writes. `progress` is told how many of the covered bytes were read;
/// it sees them in no particular order, but the number only grows.
///
/// Memory depends on the number of threads, not on the image.
///
/// # Errors
/// The disks', and devices that end too early.
pub fn encode(
    data: &impl ReadAt,
    hash: &impl ReadAt,
    fec: &impl WriteAt,
    area: &Area,
    threads: NonZeroUsize,
    progress: &mut dyn FnMut(u64),
) -> Result<(), EncodeError> {
    let code = Code::new(area.roots());
    let (next, give_up) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut failed = None;
    let mut done = 0;
    ordered(
        threads,
        || {
            let (next, give_up, code) = (&next, &give_up, &code);
            let (mut remainders, mut bytes) = (Remainders::default(), Vec::new());
            move || {
                if give_up.load(Ordering::Relaxed) {
                    return None;
                }
                let number = next.fetch_add(1, Ordering::Relaxed);
                let codewords = tile(area, number)?;
                let read =
                    remainder(data, hash, area, code, &codewords, &mut remainders, &mut bytes);
                if read.is_err() {
                    give_up.store(true, Ordering::Relaxed);
                }
                let parity = read.map(|read| {
                    let mut parity = Vec::new();
                    code.parity(&remainders, &mut parity);
                    (read, codewords, parity)
                });
                Some((number, parity))
            }
        },
        |parity| {
            let written = parity.and_then(|(read, codewords, parity)| {
                done += read;
                progress(done);
                let offset = area.parity_range(codewords).start;
                fec.write_all_at(&parity, offset).map_err(EncodeError::Write)
            });
            match written {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        },
    );
    match failed {
        Some(error) => Err(error),
        None => fec.sync().map_err(EncodeError::Write),
    }
}

/// Piece `number` of the codewords.
fn tile(area: &Area, number: u64) -> Option<Range<u64>> {
    let first = number.checked_mul(TILE)?;
    let end = area.codewords().min(first.saturating_add(TILE));
    (first < end).then_some(first..end)
}

/// The remainders of some codewords, and how many covered bytes they were made of.
fn remainder(
    data: &impl ReadAt,
    hash: &impl ReadAt,
    area: &Area,
    code: &Code,
    codewords: &Range<u64>,
    remainders: &mut Remainders,
    bytes: &mut Vec<u8>,
) -> Result<u64, EncodeError> {
    let count = usize::try_from(codewords.end - codewords.start).expect("a tile fits memory");
    bytes.resize(count, 0);
    code.begin(remainders, count);
    let mut covered = 0;
    for column in 0..area.roots().message() {
        let mut filled = 0;
        for (role, range) in area.runs(column, codewords) {
            let length = usize::try_from(range.end - range.start).expect("a tile fits memory");
            let run = &mut bytes[filled..filled + length];
            let (role, read) = match role {
                Role::Data => ("data", data.read_full(run, range.start)),
                Role::Hash => ("hash", hash.read_full(run, range.start)),
            };
            match read {
                Ok(read) if read == length => {}
                Ok(_) => return Err(EncodeError::Shrunk { role, end: range.end }),
                Err(source) => return Err(EncodeError::Read { role, offset: range.start, source }),
            }
            filled += length;
        }
        bytes[filled..].fill(0);
        code.push(remainders, bytes);
        covered += filled as u64;
    }
    Ok(covered)
}
