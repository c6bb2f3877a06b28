//! Counting errors, as `veritysetup verify` does.

use std::io;
use std::num::NonZeroUsize;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicU64, Ordering};

use super::area::Area;
use super::code::{Code, Remainders};
use super::tiles::{CoverError, Covered, tile};
use crate::access::ReadAt;
use crate::ordered::ordered;

/// What all codewords together come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// All are codewords, or near one: so many bytes are wrong, parity among them.
    Errors(u64),
    /// One is not near any.
    Beyond {
        /// The row that it belongs to.
        row: u64,
    },
}

/// Why errors could not be counted.
#[derive(Debug, thiserror::Error)]
pub enum CountError {
    /// What is covered could not be had.
    #[error(transparent)]
    Covered(#[from] CoverError),
    /// The disk did not give parity.
    #[error("cannot read the FEC device at byte {offset}")]
    Parity {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
}

/// Counts the wrong bytes of all codewords, without a look at any digest; so a byte may be counted
/// that is right, where too many others are wrong. What is past the end of a device counts as zeros.
///
/// # Errors
/// The disks'.
pub fn count(
    data: &impl ReadAt,
    hash: &impl ReadAt,
    parity: &impl ReadAt,
    area: &Area,
    threads: NonZeroUsize,
) -> Result<Counted, CountError> {
    let code = Code::new(area.roots());
    let covered = Covered { data, hash, area, zeros: true };
    let next = AtomicU64::new(0);
    let mut counted = Ok(Counted::Errors(0));
    ordered(
        threads,
        || {
            let (next, code, covered) = (&next, &code, &covered);
            let (mut remainders, mut bytes) = (Remainders::default(), Vec::new());
            move || {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let codewords = tile(area, number)?;
                let counted = covered
                    .remainders(code, &codewords, &mut remainders, &mut bytes)
                    .map_err(CountError::Covered)
                    .and_then(|_| errors(code, area, parity, codewords, &mut remainders));
                Some((number, counted))
            }
        },
        |piece| {
            counted = match (piece, &counted) {
                (Ok(Counted::Errors(more)), Ok(Counted::Errors(so_far))) => {
                    counted = Ok(Counted::Errors(so_far + more));
                    return ControlFlow::Continue(());
                }
                (piece, _) => piece,
            };
            ControlFlow::Break(())
        },
    );
    counted
}

fn errors(
    code: &Code,
    area: &Area,
    parity: &impl ReadAt,
    codewords: Range<u64>,
    remainders: &mut Remainders,
) -> Result<Counted, CountError> {
    let range = area.parity_range(codewords.clone());
    let length = usize::try_from(range.end - range.start).expect("a tile fits memory");
    let mut stored = vec![0; length];
    parity
        .read_full(&mut stored, range.start)
        .map_err(|source| CountError::Parity { offset: range.start, source })?;
    remainders.differ_from(code, &stored);
    let roots = usize::from(area.roots().get());
    let mut errors = 0;
    for (number, codeword) in codewords.enumerate() {
        let Some(difference) = remainders.get(code, number) else { continue };
        match code.decode(&difference[..roots], &[]) {
            Some(found) => errors += found.len() as u64,
            None => return Ok(Counted::Beyond { row: area.row(codeword) }),
        }
    }
    Ok(Counted::Errors(errors))
}
