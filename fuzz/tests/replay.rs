//! Every target over its seeds, over damaged seeds, and over what fuzzers once found
//! (`fuzz/found/TARGET/*`).

use std::fs;
use std::path::Path;

#[test]
fn every_invariant_holds_over_seeds_damage_and_finds() {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("found");
    for (target, invariant) in invariants::ALL {
        let seeds = invariants::seeds::of(target);
        assert!(!seeds.is_empty(), "{target} has no seeds");
        for seed in &seeds {
            invariant(seed);
            for damaged in damage(seed) {
                invariant(&damaged);
            }
        }
        let Ok(finds) = fs::read_dir(found.join(target)) else { continue };
        for find in finds {
            let find = find.expect("a folder entry");
            invariant(&fs::read(find.path()).expect("a find can be read"));
        }
    }
}

/// Cut short, with single bits flipped, with bytes that mean something put in, doubled.
fn damage(seed: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let step = (seed.len() / 64).max(1);
    let places = (0..seed.len()).step_by(step);
    places
        .flat_map(move |at| {
            let flip = |bit: u32| {
                let mut bytes = seed.to_vec();
                bytes[at] ^= 1 << bit;
                bytes
            };
            let put = |byte: u8| [&seed[..at], &[byte], &seed[at..]].concat();
            [
                seed[..at].to_vec(),
                flip(0),
                flip(5),
                flip(7),
                put(0),
                put(b'\n'),
                put(0x1d),
                put(b'"'),
                put(b' '),
            ]
        })
        .chain(std::iter::once([seed, seed].concat()))
}
