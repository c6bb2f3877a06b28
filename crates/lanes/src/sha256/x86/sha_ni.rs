//! One or two streams through the SHA extensions.
//!
//! Two independent streams hide the latency of `sha256rnds2` on CPUs that can
//! start one while another runs.

use std::arch::x86_64::*;

use super::lane_pointers;
use crate::sha256::{
    CHUNK, ROUND,
    engine::{Compress, State},
};

/// The CPU has the SHA extensions, SSSE3 and SSE4.1.
#[derive(Clone, Copy)]
pub(crate) struct ShaNi(());

impl ShaNi {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1"))
        .then_some(Self(()))
    }
}

impl<const N: usize> Compress<N> for ShaNi {
    fn compress(self, state: &mut State<N>, lanes: &[&[u8]; N]) {
        let (pointers, chunks) = lane_pointers(lanes);
        // SAFETY: `self` shows that the CPU has the instructions; the lanes have so many chunks.
        unsafe { compress(state, pointers, chunks) }
    }
}

/// # Safety
/// Each lane must be readable for `chunks * CHUNK` bytes.
#[target_feature(enable = "sha,ssse3,sse4.1")]
unsafe fn compress<const N: usize>(state: &mut State<N>, lanes: [*const u8; N], chunks: usize) {
    // The instructions want the state as the words a b e f and c d g h, the first highest.
    let word = |i: usize, lane: usize| state[i][lane].cast_signed();
    let mut abef = [_mm_setzero_si128(); N];
    let mut cdgh = [_mm_setzero_si128(); N];
    for lane in 0..N {
        abef[lane] = _mm_set_epi32(word(0, lane), word(1, lane), word(4, lane), word(5, lane));
        cdgh[lane] = _mm_set_epi32(word(2, lane), word(3, lane), word(6, lane), word(7, lane));
    }
    let from_big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);

    for chunk in 0..chunks {
        let (abef_before, cdgh_before) = (abef, cdgh);
        // Four words of the schedule in each; the oldest is overwritten by the newest.
        let mut w = [[_mm_setzero_si128(); 4]; N];
        for (w, lane) in w.iter_mut().zip(lanes) {
            for (quarter, words) in w.iter_mut().enumerate() {
                let at = chunk * CHUNK + quarter * 16;
                // SAFETY: the caller's lanes reach to the end of this chunk.
                let bytes = unsafe { _mm_loadu_si128(lane.wrapping_add(at).cast()) };
                *words = _mm_shuffle_epi8(bytes, from_big_endian);
            }
        }
        for (pass, constants) in ROUND.iter().enumerate() {
            unrolled!(I in [0 1 2 3] {
                let k: [i32; 4] = std::array::from_fn(|i| constants[4 * I + i].cast_signed());
                let constant = _mm_set_epi32(k[3], k[2], k[1], k[0]);
                for lane in 0..N {
                    let w = &mut w[lane];
                    if pass > 0 {
                        let (w12, w8, w4) = (w[(I + 1) % 4], w[(I + 2) % 4], w[(I + 3) % 4]);
                        let w7 = _mm_alignr_epi8::<4>(w4, w8);
                        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w[I], w12), w7);
                        w[I] = _mm_sha256msg2_epu32(sum, w4);
                    }
                    let low = _mm_add_epi32(w[I], constant);
                    cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], low);
                    let high = _mm_shuffle_epi32::<0x0e>(low);
                    abef[lane] = _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], high);
                }
            });
        }
        for lane in 0..N {
            abef[lane] = _mm_add_epi32(abef[lane], abef_before[lane]);
            cdgh[lane] = _mm_add_epi32(cdgh[lane], cdgh_before[lane]);
        }
    }

    for lane in 0..N {
        let mut put = |i: usize, word: i32| state[i][lane] = word.cast_unsigned();
        put(0, _mm_extract_epi32::<3>(abef[lane]));
        put(1, _mm_extract_epi32::<2>(abef[lane]));
        put(4, _mm_extract_epi32::<1>(abef[lane]));
        put(5, _mm_extract_epi32::<0>(abef[lane]));
        put(2, _mm_extract_epi32::<3>(cdgh[lane]));
        put(3, _mm_extract_epi32::<2>(cdgh[lane]));
        put(6, _mm_extract_epi32::<1>(cdgh[lane]));
        put(7, _mm_extract_epi32::<0>(cdgh[lane]));
    }
}
