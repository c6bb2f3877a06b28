//! Making parity.

use std::io;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::area::Area;
use super::code::{Code, Remainders};
use super::tiles::{CoverError, Covered, tile};
use crate::access::{ReadAt, WriteAt};
use crate::ordered::ordered;

/// Why there is no parity, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// What is to be covered could not be had.
    #[error(transparent)]
    Read(#[from] CoverError),
    /// The disk did not take the parity.
    #[error("cannot write the FEC device")]
    Write(#[source] io::Error),
}

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
    let covered = Covered { data, hash, area, zeros: false };
    let (next, give_up) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut failed = None;
    let mut done = 0;
    ordered(
        threads,
        || {
            let (next, give_up, code, covered) = (&next, &give_up, &code, &covered);
            let (mut remainders, mut bytes) = (Remainders::default(), Vec::new());
            move || {
                if give_up.load(Ordering::Relaxed) {
                    return None;
                }
                let number = next.fetch_add(1, Ordering::Relaxed);
                let codewords = tile(area, number)?;
                let read = covered.remainders(code, &codewords, &mut remainders, &mut bytes);
                if read.is_err() {
                    give_up.store(true, Ordering::Relaxed);
                }
                let parity = read.map_err(EncodeError::Read).map(|read| {
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
