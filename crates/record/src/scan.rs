//! Where the separators of a body stand, sixty-four bytes at a time.

/// Positions of the two bytes that shape a body, one bit a byte, the first lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) equals: u64,
    pub(crate) blank: u64,
}

impl Marks {
    /// The marks of the first 64 bytes; past the end of `text` everything is blank.
    #[inline]
    pub(crate) fn of(text: &[u8]) -> Marks {
        match text.first_chunk() {
            Some(block) => Marks { equals: bits(block, b'='), blank: bits(block, b' ') },
            None => {
                let mut block = [b' '; 64];
                block[..text.len()].copy_from_slice(text);
                Marks { equals: bits(&block, b'='), blank: bits(&block, b' ') }
            }
        }
    }

    /// Steps over a blank at the start, and says how many that were (0 or 1).
    #[inline]
    pub(crate) fn skip_blank(&mut self) -> usize {
        let skip = self.blank & 1;
        *self = Marks { equals: self.equals >> skip, blank: self.blank >> skip };
        usize::from(skip == 1)
    }

    /// The marks from byte `at` on, which is below 64.
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
        fn every_separator_is_marked(text in proptest::collection::vec(prop_oneof![Just(b'='), Just(b' '), any::<u8>()], 0..100)) {
            let marks = Marks::of(&text);
            for at in 0..64 {
                let byte = text.get(at).copied().unwrap_or(b' ');
                prop_assert_eq!(marks.equals >> at & 1 == 1, byte == b'=');
                prop_assert_eq!(marks.blank >> at & 1 == 1, byte == b' ');
            }
        }
    }
}
