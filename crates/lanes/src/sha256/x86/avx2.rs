//! Eight lanes in AVX2: a register holds one word of eight messages.

// Vectors pass through plain loops, not `map`: std's generic functions are compiled without the
// instructions, and a vector crosses their border through memory.
use std::arch::x86_64::*;

use super::lane_pointers;
use crate::sha256::{
    CHUNK, ROUND,
    engine::{Compress, State},
};

/// The CPU has AVX2.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

impl Compress<8> for Avx2 {
    fn compress(self, state: &mut State<8>, lanes: &[&[u8]; 8]) {
        let (pointers, chunks) = lane_pointers(lanes);
        // SAFETY: `self` shows that the CPU has the instructions; the lanes have so many chunks.
        unsafe { compress(state, pointers, chunks) }
    }
}

/// # Safety
/// Each lane must be readable for `chunks * CHUNK` bytes.
#[target_feature(enable = "avx2")]
unsafe fn compress(state: &mut State<8>, lanes: [*const u8; 8], chunks: usize) {
    let mut working = [_mm256_setzero_si256(); 8];
    for (word, row) in working.iter_mut().zip(&*state) {
        // SAFETY: a row is 32 bytes of plain integers.
        *word = unsafe { _mm256_loadu_si256(row.as_ptr().cast()) };
    }
    for chunk in 0..chunks {
        let mut w = [_mm256_setzero_si256(); 16];
        for half in 0..2 {
            let at = chunk * CHUNK + half * (CHUNK / 2);
            let mut rows = [_mm256_setzero_si256(); 8];
            for (row, lane) in rows.iter_mut().zip(lanes) {
                // SAFETY: the caller's lanes reach to the end of this chunk.
                let words = unsafe { _mm256_loadu_si256(lane.wrapping_add(at).cast()) };
                *row = from_big_endian(words);
            }
            w[8 * half..][..8].copy_from_slice(&transpose(rows));
        }
        let before = working;
        rounds::<false>(&mut working, &mut w, &ROUND[0]);
        for constants in &ROUND[1..] {
            rounds::<true>(&mut working, &mut w, constants);
        }
        for (word, before) in working.iter_mut().zip(before) {
            *word = _mm256_add_epi32(*word, before);
        }
    }
    for (row, word) in state.iter_mut().zip(working) {
        // SAFETY: a row is 32 bytes of plain integers.
        unsafe { _mm256_storeu_si256(row.as_mut_ptr().cast(), word) };
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn from_big_endian(words: __m256i) -> __m256i {
    _mm256_shuffle_epi8(
        words,
        _mm256_broadcastsi128_si256(_mm_set_epi8(
            12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3,
        )),
    )
}

/// Turns eight rows of one lane each into eight rows of one word each.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(r: [__m256i; 8]) -> [__m256i; 8] {
    // 4x4 within each half: p[4g + j] holds word 4q + j of lanes 4g .. 4g+4 in half q.
    let mut p = r;
    for group in 0..2 {
        let [a, b, c, d] = [r[4 * group], r[4 * group + 1], r[4 * group + 2], r[4 * group + 3]];
        let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        p[4 * group] = _mm256_unpacklo_epi64(ab_low, cd_low);
        p[4 * group + 1] = _mm256_unpackhi_epi64(ab_low, cd_low);
        p[4 * group + 2] = _mm256_unpacklo_epi64(ab_high, cd_high);
        p[4 * group + 3] = _mm256_unpackhi_epi64(ab_high, cd_high);
    }
    let mut w = p;
    for j in 0..4 {
        w[j] = _mm256_permute2x128_si256::<0x20>(p[j], p[4 + j]);
        w[4 + j] = _mm256_permute2x128_si256::<0x31>(p[j], p[4 + j]);
    }
    w
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_xor_si256(a, b), c)
}

/// Rotates right by `R`; `L` is `32 - R`, which const generics cannot compute yet.
#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const R: i32, const L: i32>(word: __m256i) -> __m256i {
    const { assert!(R + L == 32) };
    _mm256_or_si256(_mm256_srli_epi32::<R>(word), _mm256_slli_epi32::<L>(word))
}

/// Sixteen rounds; all but the first sixteen move the schedule `w` on by a word each.
#[inline]
#[target_feature(enable = "avx2")]
fn rounds<const SCHEDULE: bool>(
    working: &mut [__m256i; 8],
    w: &mut [__m256i; 16],
    constants: &[u32; 16],
) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *working;
    unrolled!(I in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
        if SCHEDULE {
            let (w15, w2) = (w[(I + 1) % 16], w[(I + 14) % 16]);
            let s0 = xor(rotate::<7, 25>(w15), rotate::<18, 14>(w15), _mm256_srli_epi32::<3>(w15));
            let s1 = xor(rotate::<17, 15>(w2), rotate::<19, 13>(w2), _mm256_srli_epi32::<10>(w2));
            w[I] =
                _mm256_add_epi32(_mm256_add_epi32(w[I], s0), _mm256_add_epi32(w[(I + 9) % 16], s1));
        }
        let sum1 = xor(rotate::<6, 26>(e), rotate::<11, 21>(e), rotate::<25, 7>(e));
        // e ? f : g
        let choose = _mm256_xor_si256(g, _mm256_and_si256(e, _mm256_xor_si256(f, g)));
        let constant = _mm256_set1_epi32(constants[I].cast_signed());
        let t1 = _mm256_add_epi32(
            _mm256_add_epi32(_mm256_add_epi32(h, _mm256_add_epi32(w[I], constant)), choose),
            sum1,
        );
        let sum0 = xor(rotate::<2, 30>(a), rotate::<13, 19>(a), rotate::<22, 10>(a));
        let majority =
            _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(c, _mm256_or_si256(a, b)));
        let t2 = _mm256_add_epi32(sum0, majority);
        (h, g, f, e, d, c, b, a) =
            (g, f, e, _mm256_add_epi32(d, t1), c, b, a, _mm256_add_epi32(t1, t2));
    });
    *working = [a, b, c, d, e, f, g, h];
}
