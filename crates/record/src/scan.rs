//! Where the separators of a body stand, sixty-four bytes at a time.

/// Positions of the two bytes that shape a body, one bit a byte, the first lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) equals: u64,
    pub(crate) blank: u64,
}

impl Marks {
    /// The marks of the 64 bytes from `at` on, which is in `text`; past its end
    /// everything is blank.
    #[inline]
    pub(crate) fn of(text: &[u8], at: usize) -> Marks {
        // Near the end the last 64 bytes are looked at: a whole block needs no copy.
        let from = at.min(text.len().saturating_sub(64));
        let rest = &text[from..];
        let marks = match rest.first_chunk() {
            Some(block) => Marks::of_block(block),
            None => {
                let mut block = [b' '; 64];
                block[..rest.len()].copy_from_slice(rest);
                Marks::of_block(&block)
            }
        };
        let marks = marks.after(at - from);
        Marks { blank: marks.blank | !(u64::MAX >> (at - from)), ..marks }
    }

    #[inline]
    fn of_block(block: &[u8; 64]) -> Marks {
        Marks { equals: bits(block, b'='), blank: bits(block, b' ') }
    }

    /// Steps over a blank at the start, and says how many that were (0 or 1).
    #[inline]
    pub(crate) fn skip_blank(&mut self) -> usize {
        let skip = self.blank & 1;
        *self = Marks { equals: self.equals >> skip, blank: self.blank >> skip };
        usize::from(skip == 1)
    }

    /// The marks from byte `at` on, which is below 64; nothing is marked behind them.
    #[inline]
    pub(crate) fn after(self, at: usize) -> Marks {
        Marks { equals: self.equals >> at, blank: self.blank >> at }
    }
}

/// One bit for each byte that is `wanted`. The comparison becomes four vector
/// instructions; the multiplication gathers the lowest bits of eight bytes.
#[inline]
fn bits(block: &[u8; 64], wanted: u8) -> u64 {
    let same: [u8; 64] = std::array::from_fn(|at| u8::from(block[at] == wanted));
    let words = same.as_chunks::<8>().0.iter().enumerate();
    words.fold(0, |bits, (place, word)| {
        let gathered = u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        bits | gathered << (place * 8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_separator_is_marked(text in proptest::collection::vec(prop_oneof![Just(b'='), Just(b' '), any::<u8>()], 1..150), at: proptest::sample::Index) {
            let start = at.index(text.len());
            let marks = Marks::of(&text, start);
            for at in 0..64 {
                let byte = text.get(start + at).copied().unwrap_or(b' ');
                prop_assert_eq!(marks.equals >> at & 1 == 1, byte == b'=');
                prop_assert_eq!(marks.blank >> at & 1 == 1, byte == b' ');
            }
        }
    }
}
