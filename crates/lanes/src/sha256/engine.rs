//! Which kernels work together on this CPU, and how many blocks each gets.

#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512, ShaNi};
use super::{Group, Salted, portable::Portable};
use crate::Path;

/// The working state of `N` lanes: word `i` of every lane stands in row `i`.
pub(crate) type State<const N: usize> = [[u32; N]; 8];

/// The compression function over `N` messages side by side.
///
/// A value of an implementing type is the proof that the CPU has the instructions.
pub(crate) trait Compress<const N: usize>: Copy {
    /// Takes the lanes, all of the same whole number of 64-byte chunks, into the state.
    fn compress(self, state: &mut State<N>, lanes: &[&[u8]; N]);
}

/// The kernels of a path, with those for the blocks that its lanes leave over.
#[derive(Clone, Copy, Default)]
pub(crate) struct Engine {
    #[cfg(target_arch = "x86_64")]
    sixteen: Option<Avx512>,
    #[cfg(target_arch = "x86_64")]
    eight: Option<Avx2>,
    #[cfg(target_arch = "x86_64")]
    two: Option<ShaNi>,
    #[cfg(target_arch = "x86_64")]
    one: Option<ShaNi>,
}

impl Engine {
    pub(crate) fn best() -> Self {
        Self::for_path(Path::best()).unwrap_or_default()
    }

    /// The engine of a path, if this CPU has it.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn for_path(path: Path) -> Option<Self> {
        let portable = Self::default();
        let one = ShaNi::detect();
        Some(match path {
            Path::Avx512 => Self { sixteen: Some(Avx512::detect()?), two: one, one, ..portable },
            Path::ShaNi2 => Self { two: Some(one?), one, ..portable },
            Path::ShaNi => Self { one: Some(one?), ..portable },
            Path::Avx2 => Self { eight: Some(Avx2::detect()?), one, ..portable },
            Path::Portable => portable,
        })
    }

    /// The engine of a path, if this CPU has it.
    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn for_path(path: Path) -> Option<Self> {
        (path == Path::Portable).then(Self::default)
    }

    pub(super) fn hash(
        self,
        salted: &Salted,
        blocks: &[u8],
        block_size: usize,
        size: usize,
        out: &mut [u8],
    ) {
        let mut work = Work { salted, blocks, block_size, size, out };
        #[cfg(target_arch = "x86_64")]
        {
            // Sixteen lanes overtake two streams of SHA-NI when nine have a block in them; without
            // SHA-NI two are enough to beat one after the other (benches, `hash calls`).
            if let Some(kernel) = self.sixteen {
                work.run(kernel, if self.one.is_some() { 9 } else { 2 });
            }
            if let Some(kernel) = self.eight {
                work.run(kernel, if self.one.is_some() { 6 } else { 2 });
            }
            if let Some(kernel) = self.two {
                work.run::<2, _>(kernel, 2);
            }
            if let Some(kernel) = self.one {
                work.run::<1, _>(kernel, 1);
            }
        }
        work.run(Portable, 1);
    }

    pub(super) fn hash_one(self, salted: &Salted, block: &[u8], out: &mut [u8]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(kernel) = self.one {
            return Group::<1, _>::new(salted, kernel, block.len()).hash(&[block], out.len(), out);
        }
        Group::new(salted, Portable, block.len()).hash(&[block], out.len(), out);
    }
}

/// Blocks still to be hashed, and the place for their digests.
struct Work<'a> {
    salted: &'a Salted,
    blocks: &'a [u8],
    block_size: usize,
    size: usize,
    out: &'a mut [u8],
}

impl Work<'_> {
    /// Hashes blocks through a kernel as long as there are at least so many for its `N` lanes.
    fn run<const N: usize, C: Compress<N>>(&mut self, kernel: C, at_least: usize) {
        if self.blocks.len() / self.block_size < at_least {
            return;
        }
        let mut group = Group::new(self.salted, kernel, self.block_size);
        loop {
            let count = (self.blocks.len() / self.block_size).min(N);
            if count < at_least {
                return;
            }
            let mut lanes = [&self.blocks[..self.block_size]; N];
            let (taken, left) = self.blocks.split_at(count * self.block_size);
            for (lane, block) in lanes.iter_mut().zip(taken.chunks_exact(self.block_size)) {
                *lane = block;
            }
            let (digests, out) = std::mem::take(&mut self.out).split_at_mut(count * self.size);
            group.hash(&lanes[..count], self.size, digests);
            (self.blocks, self.out) = (left, out);
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::{SaltPosition, sha256::INITIAL_256};

    /// Also the combinations of other CPUs, such as wide lanes without SHA instructions.
    #[test]
    fn any_set_of_kernels_gives_the_same_digests() {
        let data: Vec<u8> = (0..40u32 * 700).flat_map(|i| (i * i).to_le_bytes()).collect();
        let hash = |engine, block_size, count| {
            let salted = Salted::new(INITIAL_256, &data[..40], SaltPosition::Before, engine);
            let mut out = vec![0; count * 32];
            salted.hash(&data[..count * block_size], block_size, 32, &mut out);
            out
        };
        let sixteen = [None, Avx512::detect()];
        let eight = [None, Avx2::detect()];
        let sha_ni = [None, ShaNi::detect()];
        for (kernel, detected) in [
            ("AVX-512", sixteen[1].is_some()),
            ("AVX2", eight[1].is_some()),
            ("SHA-NI", sha_ni[1].is_some()),
        ] {
            if !detected {
                eprintln!("SKIPPED: any_set_of_kernels_gives_the_same_digests: no {kernel}");
            }
        }
        for block_size in [1, 23, 24, 512, 2800] {
            for count in 0..=40 {
                let want = hash(Engine::default(), block_size, count);
                for choice in 0..16 {
                    let bit = |bit: usize| choice >> bit & 1;
                    let engine = Engine {
                        sixteen: sixteen[bit(0)],
                        eight: eight[bit(1)],
                        two: sha_ni[bit(2)],
                        one: sha_ni[bit(3)],
                    };
                    assert!(
                        hash(engine, block_size, count) == want,
                        "choice {choice:04b}, {count} blocks of {block_size} bytes"
                    );
                }
            }
        }
    }
}
