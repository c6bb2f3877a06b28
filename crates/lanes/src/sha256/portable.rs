//! The compression function in plain integer code.

use super::{
    CHUNK, ROUND,
    engine::{Compress, State},
};

/// Runs everywhere; on aarch64 it is the `sha2` crate, which uses that CPU's SHA instructions.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Compress<1> for Portable {
    fn compress(self, state: &mut State<1>, [message]: &[&[u8]; 1]) {
        let mut words = state.map(|[word]| word);
        let chunks = message.as_chunks().0;
        if cfg!(target_arch = "aarch64") {
            sha2::block_api::compress256(&mut words, chunks);
        } else {
            for chunk in chunks {
                compress(&mut words, chunk);
            }
        }
        *state = words.map(|word| [word]);
    }
}

/// FIPS 180-4, 6.2.2.
fn compress(state: &mut [u32; 8], chunk: &[u8; CHUNK]) {
    let mut w = [0; 16];
    for (word, bytes) in w.iter_mut().zip(chunk.as_chunks().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    let mut working = *state;
    rounds::<false>(&mut working, &mut w, &ROUND[0]);
    for constants in &ROUND[1..] {
        rounds::<true>(&mut working, &mut w, constants);
    }
    for (word, change) in state.iter_mut().zip(working) {
        *word = word.wrapping_add(change);
    }
}

/// Sixteen rounds; all but the first sixteen move the schedule `w` on by a word each.
#[inline]
fn rounds<const SCHEDULE: bool>(working: &mut [u32; 8], w: &mut [u32; 16], constants: &[u32; 16]) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *working;
    unrolled!(I in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
        if SCHEDULE {
            let (w15, w2) = (w[(I + 1) % 16], w[(I + 14) % 16]);
            w[I] = w[I]
                .wrapping_add(w15.rotate_right(7) ^ w15.rotate_right(18) ^ (w15 >> 3))
                .wrapping_add(w[(I + 9) % 16])
                .wrapping_add(w2.rotate_right(17) ^ w2.rotate_right(19) ^ (w2 >> 10));
        }
        let t1 = h
            .wrapping_add(w[I].wrapping_add(constants[I]))
            .wrapping_add(g ^ (e & (f ^ g)))
            .wrapping_add(e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25));
        let t2 = (a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22))
            .wrapping_add((a & b) ^ (c & (a ^ b)));
        (h, g, f, e, d, c, b, a) =
            (g, f, e, d.wrapping_add(t1), c, b, a, t1.wrapping_add(t2));
    });
    *working = [a, b, c, d, e, f, g, h];
}
