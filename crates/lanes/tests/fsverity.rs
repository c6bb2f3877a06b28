//! The tree against the one that the stock `fsverity` tool writes.

#![allow(clippy::unwrap_used)] // Also in the functions that the tests share.

use std::{convert::Infallible, fs, process::Command};

use lanes::{
    Algorithm, BlockHasher, SaltPosition,
    tree::{Builder, Geometry, Packing},
};

/// Where the root hash stands in `struct fsverity_descriptor` (include/uapi/linux/fsverity.h).
const ROOT_AT: usize = 16;

#[test]
fn trees_equal_those_of_the_fsverity_tool() {
    if Command::new("fsverity").arg("--version").output().is_err() {
        eprintln!("SKIPPED: trees_equal_those_of_the_fsverity_tool: no fsverity (fsverity-utils)");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let sizes = [0, 1, 1024, 4096, 4097, 128 * 4096, 128 * 4096 + 1, 3_000_000];
    // A salt is filled up with zeros to a whole block of the algorithm.
    for (algorithm, chunk) in [(Algorithm::Sha256, 64), (Algorithm::Sha512, 128)] {
        for (block_size, salt) in [(1024, "00ff10"), (4096, ""), (4096, "a1b2c3d4e5f6a7b8")] {
            for size in sizes {
                let mut data: Vec<u8> =
                    (0..size).map(|i: usize| (i ^ (i >> 8) ^ (i >> 13)).to_le_bytes()[0]).collect();
                fs::write(at("data"), &data).unwrap();
                let mut tool = Command::new("fsverity");
                tool.arg("digest").arg(at("data"));
                tool.arg(format!("--hash-alg={algorithm}"));
                tool.arg(format!("--block-size={block_size}"));
                if !salt.is_empty() {
                    tool.arg(format!("--salt={salt}"));
                }
                tool.arg("--out-merkle-tree").arg(at("tree"));
                tool.arg("--out-descriptor").arg(at("descriptor"));
                let run = tool.output().unwrap();
                assert!(run.status.success(), "{tool:?}: {run:?}");

                let mut salt: Vec<u8> = (0..salt.len() / 2)
                    .map(|i| u8::from_str_radix(&salt[2 * i..2 * i + 2], 16).unwrap())
                    .collect();
                salt.resize(salt.len().next_multiple_of(chunk), 0);
                data.resize(size.next_multiple_of(block_size), 0);
                let hasher = BlockHasher::new(algorithm, &salt, SaltPosition::Before);
                let digest_size = hasher.digest_size();
                let count = data.len() / block_size;
                let mut leaves = vec![0; count * digest_size];
                hasher.hash_blocks(&data, block_size, &mut leaves);
                let geometry =
                    Geometry::new(count as u64, block_size, digest_size, Packing::Padded).unwrap();

                let mut tree = vec![0; usize::try_from(geometry.bytes()).unwrap()];
                let mut emit = |level, index, block: &[u8]| {
                    let at = usize::try_from(geometry.level_start(level) + index).unwrap();
                    tree[at * block_size..][..block_size].copy_from_slice(block);
                    Ok::<(), Infallible>(())
                };
                let mut builder = Builder::new(&geometry, &hasher);
                builder.push(&leaves, &mut emit).unwrap();
                let root = builder.finish(&mut emit).unwrap();

                let case = format!("{algorithm}, {size} bytes in blocks of {block_size}");
                assert!(tree == fs::read(at("tree")).unwrap(), "tree of {case}");
                let descriptor = fs::read(at("descriptor")).unwrap();
                assert_eq!(root, descriptor[ROOT_AT..][..digest_size], "root of {case}");
            }
        }
    }
}
