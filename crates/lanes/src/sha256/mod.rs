//! SHA-256 (FIPS 180-4) of many salted blocks of one size.
//!
//! What is hashed for a block is one message, cut here into three runs of
//! 64-byte chunks. Leading salt that fills whole chunks is already in the
//! midstate; what remains of it shifts the block against the chunks:
//!
//! ```text
//!  midstate │ head: one chunk      │ body: read in place      │ tail
//!           │ salt rest │ block[..]│ block[..] in whole chunks│ block rest │ salt │ 0x80 0.. length
//! ```
//!
//! Only head and tail are copied, and only their few bytes of the block; the
//! kernels read the body where it lies, at any alignment.

/// Repeats a block for each index in turn, a constant in it.
///
/// The compiler does not unroll rounds by itself, and only with constant indices does the message
/// schedule stay in registers.
macro_rules! unrolled {
    ($index:ident in [$($value:literal)*] $body:block) => {
        $({ const $index: usize = $value; $body })*
    };
}

mod engine;
mod portable;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86;

pub(crate) use engine::Engine;
use engine::{Compress, State};

use crate::SaltPosition;

/// Bytes the compression function takes at once.
const CHUNK: usize = 64;

/// FIPS 180-4, 5.3.3.
pub(crate) const INITIAL_256: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// FIPS 180-4, 5.3.2.
pub(crate) const INITIAL_224: [u32; 8] = [
    0xc105_9ed8,
    0x367c_d507,
    0x3070_dd17,
    0xf70e_5939,
    0xffc0_0b31,
    0x6858_1511,
    0x64f9_8fa7,
    0xbefa_4fa4,
];

/// The round constants, FIPS 180-4, 4.2.2, for the rounds of each pass over the schedule.
#[rustfmt::skip]
static ROUND: [[u32; 16]; 4] = [
    [
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    ],
    [
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    ],
    [
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    ],
    [
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
    ],
];

/// SHA-256 or SHA-224 with a salt, ready for blocks of any size.
pub(crate) struct Salted {
    /// State after the leading salt's whole chunks.
    midstate: [u32; 8],
    /// Bytes that are in the midstate.
    absorbed: usize,
    /// The rest of the leading salt, shorter than a chunk.
    prefix: Box<[u8]>,
    /// The trailing salt.
    suffix: Box<[u8]>,
    engine: Engine,
}

impl Salted {
    pub(crate) fn new(
        initial: [u32; 8],
        salt: &[u8],
        position: SaltPosition,
        engine: Engine,
    ) -> Self {
        let (leading, suffix) = match position {
            SaltPosition::Before => (salt, &[][..]),
            SaltPosition::After => (&[][..], salt),
        };
        let (whole, prefix) = leading.split_at(leading.len() - leading.len() % CHUNK);
        let mut state = initial.map(|word| [word]);
        portable::Portable.compress(&mut state, &[whole]);
        Self {
            midstate: state.map(|[word]| word),
            absorbed: whole.len(),
            prefix: prefix.into(),
            suffix: suffix.into(),
            engine,
        }
    }

    /// Hashes a whole number of blocks into digests of `size` bytes each.
    pub(crate) fn hash(&self, blocks: &[u8], block_size: usize, size: usize, out: &mut [u8]) {
        self.engine.hash(self, blocks, block_size, size, out);
    }

    /// Hashes one block of any length, 0 included.
    pub(crate) fn hash_one(&self, block: &[u8], out: &mut [u8]) {
        self.engine.hash_one(self, block, out);
    }
}

/// Where the runs of chunks lie when blocks have a certain size.
#[derive(Clone, Copy)]
struct Cut {
    /// Bytes of the block that fill up the head; `None` when there is no head.
    head: Option<usize>,
    /// Bytes of the block read in place.
    body: usize,
    /// Where in the tail the rest of the block begins: behind the salt when block and salt together
    /// do not even fill a head, otherwise at 0.
    rest_at: usize,
}

impl Cut {
    fn new(prefix: usize, block: usize) -> Self {
        let room = CHUNK - prefix;
        let head = (prefix > 0 && block >= room).then_some(room);
        let left = block - head.unwrap_or(0);
        let rest_at = if head.is_some() { 0 } else { prefix };
        Self { head, body: left - left % CHUNK, rest_at }
    }
}

/// Up to `N` blocks of one size at a time through one kernel.
///
/// Holds the heads and tails of the lanes; their constant bytes are written once.
struct Group<'a, const N: usize, C> {
    salted: &'a Salted,
    kernel: C,
    cut: Cut,
    heads: [[u8; CHUNK]; N],
    /// Bytes of a tail, whole chunks.
    tail_size: usize,
    tails: Tails<N>,
}

/// The last chunks of each lane, lane after lane. Only a long trailing salt needs more than two of
/// them, and only then the heap: single blocks are hashed so often that an allocation would show.
enum Tails<const N: usize> {
    Short([[u8; 2 * CHUNK]; N]),
    Long(Vec<u8>),
}

impl<const N: usize> Tails<N> {
    fn new(size: usize) -> Self {
        if size <= 2 * CHUNK {
            Self::Short([[0; 2 * CHUNK]; N])
        } else {
            Self::Long(vec![0; size * N])
        }
    }

    /// The tails, each of the `size` that this was made for.
    fn each(&mut self, size: usize) -> [&mut [u8]; N] {
        let mut left = match self {
            Self::Short(chunks) => chunks.as_flattened_mut(),
            Self::Long(chunks) => chunks,
        };
        std::array::from_fn(|_| {
            let tail;
            (tail, left) = std::mem::take(&mut left).split_at_mut(size);
            tail
        })
    }
}

impl<'a, const N: usize, C: Compress<N>> Group<'a, N, C> {
    fn new(salted: &'a Salted, kernel: C, block_size: usize) -> Self {
        let (prefix, suffix) = (&salted.prefix, &salted.suffix);
        let cut = Cut::new(prefix.len(), block_size);

        let mut head = [0; CHUNK];
        head[..prefix.len()].copy_from_slice(prefix);

        let rest_end = cut.rest_at + block_size - cut.head.unwrap_or(0) - cut.body;
        let salt_end = rest_end + suffix.len();
        let tail_size = (salt_end + 1 + 8).next_multiple_of(CHUNK);
        // The length field counts bits modulo 2^64, which no block in memory reaches.
        let bytes = (salted.absorbed + prefix.len() + block_size + suffix.len()) as u64;
        let mut tails = Tails::new(tail_size);
        for tail in tails.each(tail_size) {
            tail[..cut.rest_at].copy_from_slice(&prefix[..cut.rest_at]);
            tail[rest_end..salt_end].copy_from_slice(suffix);
            tail[salt_end] = 0x80;
            tail[tail_size - 8..].copy_from_slice(&(bytes << 3).to_be_bytes());
        }

        Self { salted, kernel, cut, heads: [head; N], tail_size, tails }
    }

    /// Hashes one to `N` blocks; lanes without one repeat the first and their result is dropped.
    fn hash(&mut self, blocks: &[&[u8]], size: usize, out: &mut [u8]) {
        let lanes: [&[u8]; N] =
            std::array::from_fn(|lane| blocks[if lane < blocks.len() { lane } else { 0 }]);
        let mut state: State<N> = self.salted.midstate.map(|word| [word; N]);

        let head = self.cut.head.unwrap_or(0);
        let body_end = head + self.cut.body;
        if self.cut.head.is_some() {
            for (chunk, lane) in self.heads.iter_mut().zip(lanes) {
                chunk[CHUNK - head..].copy_from_slice(&lane[..head]);
            }
            self.kernel.compress(&mut state, &self.heads.each_ref().map(|chunk| &chunk[..]));
        }
        self.kernel.compress(&mut state, &lanes.map(|lane| &lane[head..body_end]));

        let mut tails = self.tails.each(self.tail_size);
        for (tail, lane) in tails.iter_mut().zip(lanes) {
            let rest = &lane[body_end..];
            tail[self.cut.rest_at..][..rest.len()].copy_from_slice(rest);
        }
        self.kernel.compress(&mut state, &tails.map(|tail| &*tail));

        for (lane, digest) in out.chunks_exact_mut(size).enumerate() {
            for (bytes, word) in digest.chunks_exact_mut(4).zip(&state) {
                bytes.copy_from_slice(&word[lane].to_be_bytes());
            }
        }
    }
}
