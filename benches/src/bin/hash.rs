//! SHA-256 of equal-sized blocks: every path of this CPU against the `sha2` crate.

use std::num::NonZero;

use benches::{Amount, Bench, contestant, first_bytes, noise};
use lanes::{Algorithm, BlockHasher, Path, SaltPosition};
use sha2::{Digest, Sha256};

const MIB: usize = 1 << 20;

fn main() {
    let mut bench = Bench::from_args("hash");
    let paths: Vec<Path> = Path::available().collect();
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    bench.note(format_args!(
        "{cores} cores; paths {}",
        paths.iter().map(|path| path.name()).collect::<Vec<_>>().join(", ")
    ));
    let data = noise(64 * MIB);

    // As veritysetup formats by default.
    let salt = noise(32);
    for threads in [1, 2] {
        let mut contestants = vec![contestant("sha2 crate", || {
            on_threads(threads, &data, 4096, &|blocks, out| {
                for (block, digest) in blocks.chunks_exact(4096).zip(out.chunks_exact_mut(32)) {
                    digest.copy_from_slice(
                        &Sha256::new().chain_update(&salt).chain_update(block).finalize(),
                    );
                }
            })
        })];
        for &path in &paths {
            let hasher = hasher(&salt, path);
            contestants.push(contestant(path, {
                let data = &data;
                move || {
                    on_threads(threads, data, 4096, &|blocks, out| {
                        hasher.hash_blocks(blocks, 4096, out);
                    })
                }
            }));
        }
        let group = format!("4 KiB blocks, 32 bytes of salt, {threads} threads");
        bench.contest(&group, Amount::bytes(data.len()), contestants);
    }

    let some = &data[..16 * MIB];
    for size in [0, 64, 256] {
        let salt = noise(size);
        let group = format!("4 KiB blocks, {size} bytes of salt");
        bench.contest(&group, Amount::bytes(some.len()), each_path(&paths, some, &salt, 4096));
    }
    for block_size in [512, 1024, 65536] {
        let group = format!("{block_size} byte blocks, 32 bytes of salt");
        let contestants = each_path(&paths, some, &salt, block_size);
        bench.contest(&group, Amount::bytes(some.len()), contestants);
    }
    // What is left over when a read is no multiple of sixteen blocks.
    for count in [1, 2, 4, 8, 9, 12, 16] {
        let data = &data[..count * 4096];
        let group = format!("calls with {count} blocks of 4 KiB");
        let contestants = paths
            .iter()
            .map(|&path| {
                let hasher = hasher(&salt, path);
                contestant(path, move || {
                    let mut out = [0; 16 * 32];
                    let out = &mut out[..count * 32];
                    (0..64).fold(0, |sum: u64, _| {
                        hasher.hash_blocks(data, 4096, out);
                        sum.wrapping_add(first_bytes(out))
                    })
                })
            })
            .collect();
        bench.contest(&group, Amount::bytes(64 * data.len()), contestants);
    }
}

fn hasher(salt: &[u8], path: Path) -> BlockHasher {
    BlockHasher::with_path(Algorithm::Sha256, salt, SaltPosition::Before, path)
        .expect("only available paths are asked for")
}

fn each_path<'a>(
    paths: &[Path],
    data: &'a [u8],
    salt: &[u8],
    block_size: usize,
) -> Vec<benches::Contestant<'a>> {
    let slowest_first = paths.iter().rev();
    slowest_first
        .map(|&path| {
            let hasher = hasher(salt, path);
            contestant(path, move || {
                on_threads(1, data, block_size, &|blocks, out| {
                    hasher.hash_blocks(blocks, block_size, out);
                })
            })
        })
        .collect()
}

/// Hashes the data in reads of 1 MiB, as a verifier does, on so many threads.
fn on_threads(
    threads: usize,
    data: &[u8],
    block_size: usize,
    hash: &(dyn Fn(&[u8], &mut [u8]) + Sync),
) -> u64 {
    let share = data.len() / threads;
    std::thread::scope(|scope| {
        let workers: Vec<_> = data
            .chunks_exact(share)
            .map(|data| {
                scope.spawn(move || {
                    let mut out = vec![0; MIB / block_size * 32];
                    data.chunks_exact(MIB).fold(0, |sum: u64, blocks| {
                        hash(blocks, &mut out);
                        out.chunks_exact(32)
                            .fold(sum, |sum, digest| sum.wrapping_add(first_bytes(digest)))
                    })
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("hashing does not panic"))
            .fold(0, u64::wrapping_add)
    })
}
