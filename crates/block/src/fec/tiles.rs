//! What is covered, read codewords by codewords.

use std::io;
use std::ops::Range;

use super::area::{Area, Role};
use super::code::{Code, Remainders};
use crate::access::ReadAt;

/// Why what is covered could not be had.
#[derive(Debug, thiserror::Error)]
pub enum CoverError {
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
}

/// Codewords that are made at once: few enough that their remainders stay in a core's own cache,
/// and enough bytes side by side for a disk.
const TILE: u64 = 32 * 1024;

/// Piece `number` of the codewords.
pub(super) fn tile(area: &Area, number: u64) -> Option<Range<u64>> {
    let first = number.checked_mul(TILE)?;
    let end = area.codewords().min(first.saturating_add(TILE));
    (first < end).then_some(first..end)
}

/// All that is covered.
pub(super) struct Covered<'a, D, H> {
    pub(super) data: &'a D,
    pub(super) hash: &'a H,
    pub(super) area: &'a Area,
    /// Whether zeros stand for what is past the end of a device.
    pub(super) zeros: bool,
}

impl<D: ReadAt, H: ReadAt> Covered<'_, D, H> {
    /// The remainders of some codewords, and how many covered bytes they were made of.
    pub(super) fn remainders(
        &self,
        code: &Code,
        codewords: &Range<u64>,
        remainders: &mut Remainders,
        bytes: &mut Vec<u8>,
    ) -> Result<u64, CoverError> {
        let count = usize::try_from(codewords.end - codewords.start).expect("a tile fits memory");
        bytes.resize(count, 0);
        code.begin(remainders, count);
        let mut covered = 0;
        for column in 0..self.area.roots().message() {
            let mut filled = 0;
            for (role, range) in self.area.runs(column, codewords) {
                let length = usize::try_from(range.end - range.start).expect("a tile fits memory");
                self.read(role, range, &mut bytes[filled..filled + length])?;
                filled += length;
            }
            bytes[filled..].fill(0);
            code.push(remainders, bytes);
            covered += filled as u64;
        }
        Ok(covered)
    }

    fn read(&self, role: Role, range: Range<u64>, bytes: &mut [u8]) -> Result<(), CoverError> {
        let (role, read) = match role {
            Role::Data => ("data", self.data.read_full(bytes, range.start)),
            Role::Hash => ("hash", self.hash.read_full(bytes, range.start)),
        };
        match read {
            Ok(read) if read == bytes.len() => Ok(()),
            Ok(read) if self.zeros => {
                bytes[read..].fill(0);
                Ok(())
            }
            Ok(_) => Err(CoverError::Shrunk { role, end: range.end }),
            Err(source) => Err(CoverError::Read { role, offset: range.start, source }),
        }
    }
}
