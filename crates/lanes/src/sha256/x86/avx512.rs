//! Sixteen lanes in AVX-512: a register holds one word of sixteen messages.
//!
//! A round needs 17 vector instructions and the schedule 11 more, on the two
//! ports that take 512-bit operands. Working state and schedule stay in
//! registers: 8 + 16 of the 32.

// Vectors pass through plain loops, not `map`: std's generic functions are compiled without the
// instructions, and a vector crosses their border through memory.
use std::arch::x86_64::*;

use super::lane_pointers;
use crate::sha256::{
    CHUNK, ROUND,
    engine::{Compress, State},
};

/// The CPU has AVX-512 F and BW.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"))
            .then_some(Self(()))
    }
}

impl Compress<16> for Avx512 {
    fn compress(self, state: &mut State<16>, lanes: &[&[u8]; 16]) {
        let (pointers, chunks) = lane_pointers(lanes);
        // SAFETY: `self` shows that the CPU has the instructions; the lanes have so many chunks.
        unsafe { compress(state, pointers, chunks) }
    }
}

/// # Safety
/// Each lane must be readable for `chunks * CHUNK` bytes.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn compress(state: &mut State<16>, lanes: [*const u8; 16], chunks: usize) {
    let mut working = [_mm512_setzero_si512(); 8];
    for (word, row) in working.iter_mut().zip(&*state) {
        // SAFETY: a row is 64 bytes of plain integers.
        *word = unsafe { _mm512_loadu_si512(row.as_ptr().cast()) };
    }
    for chunk in 0..chunks {
        let mut rows = [_mm512_setzero_si512(); 16];
        for (row, lane) in rows.iter_mut().zip(lanes) {
            // SAFETY: the caller's lanes reach to the end of this chunk.
            let words = unsafe { _mm512_loadu_si512(lane.wrapping_add(chunk * CHUNK).cast()) };
            *row = from_big_endian(words);
        }
        let mut w = transpose(rows);
        let before = working;
        for first in [0, 16, 32, 48] {
            rounds_16(&mut working, &mut w, first);
        }
        for (word, before) in working.iter_mut().zip(before) {
            *word = _mm512_add_epi32(*word, before);
        }
    }
    for (row, word) in state.iter_mut().zip(working) {
        // SAFETY: a row is 64 bytes of plain integers.
        unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), word) };
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn from_big_endian(words: __m512i) -> __m512i {
    _mm512_shuffle_epi8(
        words,
        _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3)),
    )
}

/// Turns sixteen rows of one lane each into sixteen rows of one word each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn transpose(r: [__m512i; 16]) -> [__m512i; 16] {
    // 4x4 within each 128-bit quarter: p[4g + j] holds word 4q + j of lanes 4g .. 4g+4 in quarter q.
    let mut p = r;
    for group in 0..4 {
        let [a, b, c, d] = [r[4 * group], r[4 * group + 1], r[4 * group + 2], r[4 * group + 3]];
        let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        p[4 * group] = _mm512_unpacklo_epi64(ab_low, cd_low);
        p[4 * group + 1] = _mm512_unpackhi_epi64(ab_low, cd_low);
        p[4 * group + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
        p[4 * group + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
    }
    // 4x4 of quarters: word 4q + j is quarter q of p[j], p[4 + j], p[8 + j], p[12 + j].
    let mut w = p;
    for j in 0..4 {
        let [a, b, c, d] = [p[j], p[4 + j], p[8 + j], p[12 + j]];
        let (ab_low, ab_high) =
            (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
        let (cd_low, cd_high) =
            (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
        w[j] = _mm512_shuffle_i32x4::<0x88>(ab_low, cd_low);
        w[4 + j] = _mm512_shuffle_i32x4::<0xdd>(ab_low, cd_low);
        w[8 + j] = _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high);
        w[12 + j] = _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high);
    }
    w
}

/// Sixteen rounds; from the second sixteen on, `w` moves one schedule step per round.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rounds_16(working: &mut [__m512i; 8], w: &mut [__m512i; 16], first: usize) {
    const XOR: i32 = 0x96;
    const CHOOSE: i32 = 0xca;
    const MAJORITY: i32 = 0xe8;

    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *working;
    for i in 0..16 {
        if first > 0 {
            let (w15, w2) = (w[(i + 1) % 16], w[(i + 14) % 16]);
            let s0 = _mm512_ternarylogic_epi32::<XOR>(
                _mm512_ror_epi32::<7>(w15),
                _mm512_ror_epi32::<18>(w15),
                _mm512_srli_epi32::<3>(w15),
            );
            let s1 = _mm512_ternarylogic_epi32::<XOR>(
                _mm512_ror_epi32::<17>(w2),
                _mm512_ror_epi32::<19>(w2),
                _mm512_srli_epi32::<10>(w2),
            );
            w[i] =
                _mm512_add_epi32(_mm512_add_epi32(w[i], s0), _mm512_add_epi32(w[(i + 9) % 16], s1));
        }
        let sum1 = _mm512_ternarylogic_epi32::<XOR>(
            _mm512_ror_epi32::<6>(e),
            _mm512_ror_epi32::<11>(e),
            _mm512_ror_epi32::<25>(e),
        );
        let choose = _mm512_ternarylogic_epi32::<CHOOSE>(e, f, g);
        let constant = _mm512_set1_epi32(ROUND[first + i].cast_signed());
        let t1 = _mm512_add_epi32(
            _mm512_add_epi32(_mm512_add_epi32(h, _mm512_add_epi32(w[i], constant)), choose),
            sum1,
        );
        let sum0 = _mm512_ternarylogic_epi32::<XOR>(
            _mm512_ror_epi32::<2>(a),
            _mm512_ror_epi32::<13>(a),
            _mm512_ror_epi32::<22>(a),
        );
        let t2 = _mm512_add_epi32(sum0, _mm512_ternarylogic_epi32::<MAJORITY>(a, b, c));
        (h, g, f, e, d, c, b, a) =
            (g, f, e, _mm512_add_epi32(d, t1), c, b, a, _mm512_add_epi32(t1, t2));
    }
    *working = [a, b, c, d, e, f, g, h];
}
