//! The compression function in plain integer code.

use super::{
    CHUNK, ROUND,
    engine::{Compress, State},
};

/// Runs everywhere.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Compress<1> for Portable {
    fn compress(self, state: &mut State<1>, [message]: &[&[u8]; 1]) {
        let mut words = state.map(|[word]| word);
        for chunk in message.chunks_exact(CHUNK) {
            compress(&mut words, chunk);
        }
        *state = words.map(|word| [word]);
    }
}

/// FIPS 180-4, 6.2.2.
fn compress(state: &mut [u32; 8], chunk: &[u8]) {
    let mut w = [0u32; 16];
    for (word, bytes) in w.iter_mut().zip(chunk.as_chunks().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for (round, constant) in ROUND.into_iter().enumerate() {
        if round >= 16 {
            // The last sixteen words of the schedule, the oldest overwritten by the newest.
            let (w15, w2) = (w[(round + 1) % 16], w[(round + 14) % 16]);
            w[round % 16] = w[round % 16]
                .wrapping_add(w15.rotate_right(7) ^ w15.rotate_right(18) ^ (w15 >> 3))
                .wrapping_add(w[(round + 9) % 16])
                .wrapping_add(w2.rotate_right(17) ^ w2.rotate_right(19) ^ (w2 >> 10));
        }
        let t1 = h
            .wrapping_add(e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25))
            .wrapping_add((e & f) ^ (!e & g))
            .wrapping_add(constant)
            .wrapping_add(w[round % 16]);
        let t2 = (a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22))
            .wrapping_add((a & b) ^ (a & c) ^ (b & c));
        (h, g, f, e, d, c, b, a) = (g, f, e, d.wrapping_add(t1), c, b, a, t1.wrapping_add(t2));
    }
    for (word, change) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = word.wrapping_add(change);
    }
}
