//! Finding the right bytes of a block that is known to be wrong.

use super::area::{Area, Target};
use super::code::{Code, Remainders, SYMBOLS};
use crate::access::ReadAt;

/// Finds right bytes for wrong blocks. Several threads may ask at once.
#[derive(Debug)]
pub struct Corrector<F> {
    area: Area,
    code: Code,
    parity: F,
}

/// A block whose right bytes were found, and are proven right by its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrected {
    /// How many of its bytes were wrong, or were not there.
    pub errors: u32,
}

/// The codewords of a row, as they were read.
struct Row {
    /// By codeword: what the parity should be, and is not.
    difference: Remainders,
    /// Columns that were not there or could not be read.
    gone: Vec<u8>,
    /// By parity byte: whether it is there. Empty where all are.
    present: Vec<bool>,
    /// The block that is asked for, zeros where it was not there.
    block: Vec<u8>,
    /// Whether it was there.
    whole: bool,
}

impl<F: ReadAt> Corrector<F> {
    /// A corrector with the parity of `area`, on the device `parity`. Reads nothing yet.
    #[must_use]
    pub fn new(area: Area, parity: F) -> Corrector<F> {
        let code = Code::new(area.roots());
        Corrector { area, code, parity }
    }

    /// Where everything lies.
    #[must_use]
    pub fn area(&self) -> &Area {
        &self.area
    }

    /// Looks for the bytes that `target` should have; `out`, a block long, has them if they were
    /// found, else anything.
    ///
    /// `is_right` compares with the block's digest: without its word nothing is a correction.
    /// `is_bad` says of another block of the same row whether it is known to be wrong, so that
    /// twice as many errors can be corrected; it says no where it cannot tell, and is
    /// asked only when it matters. Whoever wants a hash block must answer without that block.
    ///
    /// As the kernel (`drivers/md/dm-verity-fec.c`) first without erasures, then with. What the
    /// disk does not give, blocks or parity, is as good as wrong and known to be: so there is no
    /// I/O error here, and the fault that made one ask remains to be told. Reads the row, at
    /// most 255 blocks, once or twice; memory is a few times the parity of a block.
    pub fn correct(
        &self,
        data: &impl ReadAt,
        hash: &impl ReadAt,
        target: Target,
        is_bad: &mut dyn FnMut(Target, &[u8]) -> bool,
        is_right: &mut dyn FnMut(&[u8]) -> bool,
        out: &mut [u8],
    ) -> Option<Corrected> {
        let (number, column) = self.area.place(target)?;
        if out.len() != self.area.block_size().as_usize() {
            return None;
        }
        let row = self.read_row(data, hash, number, column)?;

        if self.attempt(&row, column, &row.gone, is_right, out) {
            return Some(row.corrected(out));
        }
        let mut erased = row.gone.clone();
        if row.whole {
            erased.push(column);
            if self.attempt(&row, column, &erased, is_right, out) {
                return Some(row.corrected(out));
            }
        }
        let known = erased.len();
        self.locate(data, hash, number, &mut erased, is_bad);
        (erased.len() > known && self.attempt(&row, column, &erased, is_right, out))
            .then(|| row.corrected(out))
    }

    /// Reads a row and its parity, unless there is so little of it that all is lost.
    fn read_row(
        &self,
        data: &impl ReadAt,
        hash: &impl ReadAt,
        number: u64,
        target: u8,
    ) -> Option<Row> {
        let roots = self.area.roots();
        let size = self.area.block_size().as_usize();
        let mut row = Row {
            difference: Remainders::default(),
            gone: Vec::new(),
            present: Vec::new(),
            block: vec![0; size],
            whole: true,
        };
        self.code.begin(&mut row.difference, size);
        let mut block = vec![0; size];
        for column in 0..roots.message() {
            let there = match self.area.block(number, column) {
                Some(place) => self.read_block(data, hash, place, &mut block),
                None => {
                    block.fill(0);
                    true
                }
            };
            if !there {
                block.fill(0);
                row.gone.push(column);
                if row.gone.len() > usize::from(roots.get()) {
                    return None;
                }
            }
            if column == target {
                row.block.copy_from_slice(&block);
                row.whole = there;
            }
            self.code.push(&mut row.difference, &block);
        }
        let stored = self.read_parity(number, &mut row.present);
        row.difference.differ_from(&self.code, &stored);
        Some(row)
    }

    fn read_block(
        &self,
        data: &impl ReadAt,
        hash: &impl ReadAt,
        place: Target,
        block: &mut [u8],
    ) -> bool {
        let read = match place {
            Target::Data(place) => data.read_full(block, self.area.byte(place.0)),
            Target::Hash(place) => hash.read_full(block, self.area.byte(place.0)),
        };
        read.is_ok_and(|read| read == block.len())
    }

    /// The parity of a row. Where a part cannot be read, or is not there, it is asked for sector
    /// by sector, and `present` tells which bytes were had.
    fn read_parity(&self, number: u64, present: &mut Vec<bool>) -> Vec<u8> {
        const SECTOR: usize = 512;
        let (first, end) = (self.area.byte(number), self.area.byte(number + 1));
        let range = self.area.parity_range(first..end);
        let mut stored =
            vec![0; self.area.block_size().as_usize() * usize::from(self.area.roots().get())];
        if self.parity.read_full(&mut stored, range.start).is_ok_and(|read| read == stored.len()) {
            return stored;
        }
        present.resize(stored.len(), false);
        let sectors = stored.chunks_mut(SECTOR).zip(present.chunks_mut(SECTOR));
        for (offset, (bytes, present)) in (range.start..).step_by(SECTOR).zip(sectors) {
            let read = self.parity.read_full(bytes, offset).unwrap_or(0);
            present[..read].fill(true);
            bytes[read..].fill(0);
        }
        stored
    }

    /// Decodes the row with these columns erased, and asks whether the block is right then.
    fn attempt(
        &self,
        row: &Row,
        target: u8,
        erased: &[u8],
        is_right: &mut dyn FnMut(&[u8]) -> bool,
        out: &mut [u8],
    ) -> bool {
        let roots = usize::from(self.area.roots().get());
        if erased.len() > roots {
            return false;
        }
        let mut all = Vec::with_capacity(usize::from(SYMBOLS));
        for (number, (out, read)) in out.iter_mut().zip(&row.block).enumerate() {
            *out = *read;
            let Some(difference) = row.difference.get(&self.code, number) else { continue };
            all.clear();
            all.extend_from_slice(erased);
            if !row.present.is_empty() {
                let present = &row.present[number * roots..][..roots];
                let parity = (self.area.roots().message()..SYMBOLS).zip(present);
                all.extend(parity.filter(|(_, present)| !**present).map(|(index, _)| index));
            }
            // A codeword with too many errors says nothing; the digest says whether that matters.
            let errors = self.code.decode(&difference[..roots], &all).unwrap_or_default();
            if let Some(error) = errors.iter().find(|error| error.index == target) {
                *out ^= error.value;
            }
        }
        is_right(out)
    }

    /// Adds the columns whose blocks are known to be bad, until there are more than can be helped.
    fn locate(
        &self,
        data: &impl ReadAt,
        hash: &impl ReadAt,
        number: u64,
        erased: &mut Vec<u8>,
        is_bad: &mut dyn FnMut(Target, &[u8]) -> bool,
    ) {
        let roots = self.area.roots();
        let mut block = vec![0; self.area.block_size().as_usize()];
        for column in 0..roots.message() {
            let Some(place) = self.area.block(number, column) else { break };
            if erased.contains(&column) {
                continue;
            }
            if !self.read_block(data, hash, place, &mut block) || is_bad(place, &block) {
                erased.push(column);
                if erased.len() > usize::from(roots.get()) {
                    break;
                }
            }
        }
    }
}

impl Row {
    fn corrected(&self, right: &[u8]) -> Corrected {
        let wrong = if self.whole {
            self.block.iter().zip(right).filter(|(was, is)| was != is).count()
        } else {
            right.len()
        };
        Corrected { errors: u32::try_from(wrong).expect("a block has at most 512 KiB") }
    }
}
