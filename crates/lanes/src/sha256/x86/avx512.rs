//! Sixteen lanes in AVX-512: a register holds one word of sixteen messages.
//!
//! A round needs 17 vector instructions and the schedule 11 more, on the two
//! ports that take 512-bit operands: 808 cycles for the 1 KiB of sixteen chunks.
//! All else is kept off these ports: working state and schedule (8 + 16 of the
//! 32 registers) stay in registers, and the lanes are brought together while
//! they are loaded, 16 bytes at a time.

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

/// Where to prefetch while a chunk is hashed. Blocks of 4 KiB all begin in the same set of the first
/// cache, so sixteen lanes push each other out of it. Three chunks ahead measures best; past the end
/// of a lane a prefetch does nothing.
fn ahead(chunk: usize) -> usize {
    (chunk + 3) * CHUNK
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
        // SAFETY: the caller's lanes reach to the end of this chunk.
        let mut w = unsafe { schedule(&lanes, chunk * CHUNK) };
        for lane in lanes {
            _mm_prefetch::<_MM_HINT_T0>(lane.wrapping_add(ahead(chunk)).cast());
        }
        let before = working;
        rounds::<false>(&mut working, &mut w, &ROUND[0]);
        for constants in &ROUND[1..] {
            rounds::<true>(&mut working, &mut w, constants);
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

/// The chunk at an offset of every lane, as sixteen rows of one word each.
///
/// # Safety
/// Each lane must be readable for `offset + CHUNK` bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn schedule(lanes: &[*const u8; 16], offset: usize) -> [__m512i; 16] {
    let mut w = [_mm512_setzero_si512(); 16];
    for four in 0..4 {
        let load = |lane: usize| {
            let at = lanes[lane].wrapping_add(offset + 16 * four);
            // SAFETY: within the chunk that the caller has shown readable.
            unsafe { _mm_loadu_si128(at.cast()) }
        };
        // Four words each of the lanes j, 4 + j, 8 + j and 12 + j.
        let mut p = [_mm512_setzero_si512(); 4];
        for (j, p) in p.iter_mut().enumerate() {
            let words = _mm512_castsi128_si512(load(j));
            let words = _mm512_inserti32x4::<1>(words, load(4 + j));
            let words = _mm512_inserti32x4::<2>(words, load(8 + j));
            let words = _mm512_inserti32x4::<3>(words, load(12 + j));
            *p = from_big_endian(words);
        }
        // 4x4 within each quarter.
        let [a, b, c, d] = p;
        let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        w[4 * four] = _mm512_unpacklo_epi64(ab_low, cd_low);
        w[4 * four + 1] = _mm512_unpackhi_epi64(ab_low, cd_low);
        w[4 * four + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
        w[4 * four + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
    }
    w
}

/// Sixteen rounds; all but the first sixteen move the schedule `w` on by a word each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rounds<const SCHEDULE: bool>(
    working: &mut [__m512i; 8],
    w: &mut [__m512i; 16],
    constants: &[u32; 16],
) {
    const XOR: i32 = 0x96;
    const CHOOSE: i32 = 0xca;
    const MAJORITY: i32 = 0xe8;

    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *working;
    unrolled!(I in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
        if SCHEDULE {
            let (w15, w2) = (w[(I + 1) % 16], w[(I + 14) % 16]);
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
            w[I] =
                _mm512_add_epi32(_mm512_add_epi32(w[I], s0), _mm512_add_epi32(w[(I + 9) % 16], s1));
        }
        let sum1 = _mm512_ternarylogic_epi32::<XOR>(
            _mm512_ror_epi32::<6>(e),
            _mm512_ror_epi32::<11>(e),
            _mm512_ror_epi32::<25>(e),
        );
        let choose = _mm512_ternarylogic_epi32::<CHOOSE>(e, f, g);
        let constant = _mm512_set1_epi32(constants[I].cast_signed());
        let t1 = _mm512_add_epi32(
            _mm512_add_epi32(_mm512_add_epi32(h, _mm512_add_epi32(w[I], constant)), choose),
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
    });
    *working = [a, b, c, d, e, f, g, h];
}
