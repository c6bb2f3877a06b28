//! Every path against NIST's vectors and against the `sha2` crate.

#![allow(clippy::unwrap_used)] // Also in the functions that the tests share.

use digest::Digest;
use lanes::{Algorithm, BlockHasher, Path, SaltPosition};
use proptest::prelude::*;

/// The paths to test; those that this CPU has not are named on stderr.
fn paths(test: &str) -> Vec<Path> {
    let available: Vec<Path> = Path::available().collect();
    for path in Path::ALL.into_iter().filter(|path| !available.contains(path)) {
        eprintln!("SKIPPED: {test}: this CPU has no {path} path");
    }
    available
}

fn hasher(salt: &[u8], position: SaltPosition, path: Path) -> BlockHasher {
    BlockHasher::with_path(Algorithm::Sha256, salt, position, path).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// FIPS 180-4 examples and NIST's additional SHA-256 vectors.
fn vectors() -> Vec<(Vec<u8>, &'static str)> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        (text(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (text("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (
            text(concat!(
                "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn",
                "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"
            )),
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
        ),
        (vec![0xbd], "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b"),
        (
            vec![0xc9, 0x8c, 0x8e, 0x55],
            "7abc22c0ae5af26ce93dbb94433a0e0b2e119d014f8e7f65bd56c61ccccd9504",
        ),
        (vec![0; 55], "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7"),
        (vec![0; 56], "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb"),
        (vec![0; 57], "65a16cb7861335d5ace3c60718b5052e44660726da4cd13bb745381b235a1785"),
        (vec![0; 64], "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b"),
        (vec![0; 1000], "541b3e9daa09b20bf85fa273e5cbd3e80185aa4ec298e765db87742b70138a53"),
        (vec![b'A'; 1000], "c2e686823489ced2017f6059b8b239318b6364f6dcd835d0a519105a1eadd6e4"),
        (vec![b'U'; 1005], "f4d62ddec0f3dd90ea1380fa16a5ff8dc4c54b21740650f24afc4120903552b0"),
        (vec![b'a'; 1_000_000], "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
        (vec![0; 1_000_000], "d29751f2649b32ff572b5e0a9f541ea660a50f94ff0beedfb0b692b924cc8025"),
    ]
}

#[test]
fn nist_vectors_come_out_in_every_lane() {
    for path in paths("nist_vectors_come_out_in_every_lane") {
        let hasher = hasher(&[], SaltPosition::Before, path);
        for (message, want) in vectors() {
            let mut one = [0; 32];
            hasher.hash_one(&message, &mut one);
            assert_eq!(hex(&one), want, "{path}, {} bytes", message.len());
            if message.is_empty() {
                continue;
            }
            let count = 17;
            let mut all = vec![0; count * 32];
            hasher.hash_blocks(&message.repeat(count), message.len(), &mut all);
            for digest in all.chunks(32) {
                assert_eq!(hex(digest), want, "{path}, {} bytes", message.len());
            }
        }
    }
}

/// The same vectors with their beginning or end as the salt: SHA-256 cannot tell.
#[test]
fn nist_vectors_come_out_when_a_part_is_salt() {
    for path in paths("nist_vectors_come_out_when_a_part_is_salt") {
        for (message, want) in vectors() {
            for cut in [1, 31, 32, 55, 63, 64, 65, 200] {
                let Some((start, end)) = message.split_at_checked(cut) else { continue };
                let mut digest = [0; 32];
                hasher(start, SaltPosition::Before, path).hash_one(end, &mut digest);
                assert_eq!(hex(&digest), want, "{path}, {} bytes", message.len());
                hasher(end, SaltPosition::After, path).hash_one(start, &mut digest);
                assert_eq!(hex(&digest), want, "{path}, {} bytes", message.len());
            }
        }
    }
}

/// NIST CAVP, SHA256Monte.rsp, count 0: a thousand hashes, each of the three before it.
#[test]
fn the_monte_carlo_chain_ends_where_it_should() {
    let seed = "6d1e72ad03ddeb5de891e572e2396f8da015d899ef0e79503152d6010a3fe691";
    let seed: Vec<u8> =
        (0..32).map(|i| u8::from_str_radix(&seed[2 * i..2 * i + 2], 16).unwrap()).collect();
    for path in paths("the_monte_carlo_chain_ends_where_it_should") {
        let hasher = hasher(&[], SaltPosition::Before, path);
        let mut last = [seed.clone(), seed.clone(), seed.clone()];
        for _ in 0..1000 {
            let mut digests = vec![0; 16 * 32];
            hasher.hash_blocks(&last.concat().repeat(16), 96, &mut digests);
            last.rotate_left(1);
            last[2] = digests[15 * 32..].to_vec();
        }
        assert_eq!(
            hex(&last[2]),
            "e93c330ae5447738c8aa85d71a6c80f2a58381d05872d26bdd39f1fcd4f2b788",
            "{path}"
        );
    }
}

/// Bytes without a pattern that lanes could share.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    })
    .take(len)
    .collect()
}

fn by_the_book<D: Digest>(salt: &[u8], position: SaltPosition, block: &[u8]) -> Vec<u8> {
    match position {
        SaltPosition::Before => D::new().chain_update(salt).chain_update(block),
        SaltPosition::After => D::new().chain_update(block).chain_update(salt),
    }
    .finalize()
    .to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if std::env::var_os("VERITRAIL_LONG").is_some() { 2000 } else { 120 },
        ..ProptestConfig::default()
    })]
    #[test]
    fn every_path_equals_the_sha2_crate(
        block_size in prop_oneof![
            4 => (9u32..=12).prop_map(|bits| 1usize << bits),
            1 => (13u32..=16).prop_map(|bits| 1usize << bits),
            3 => 1usize..700,
        ],
        count in 0usize..=40,
        salt_size in prop_oneof![Just(32usize), Just(64), 0usize..=256],
        after in any::<bool>(),
        short in any::<bool>(),
        unaligned in 0usize..64,
        seed in any::<u64>(),
    ) {
        let position = if after { SaltPosition::After } else { SaltPosition::Before };
        let algorithm = if short { Algorithm::Sha224 } else { Algorithm::Sha256 };
        let salt = noise(salt_size, seed ^ 1);
        let bytes = noise(unaligned + block_size * count, seed);
        let blocks = &bytes[unaligned..];
        let want: Vec<u8> = blocks
            .chunks(block_size)
            .flat_map(|block| if short {
                by_the_book::<sha2::Sha224>(&salt, position, block)
            } else {
                by_the_book::<sha2::Sha256>(&salt, position, block)
            })
            .collect();
        for path in Path::available() {
            let hasher = BlockHasher::with_path(algorithm, &salt, position, path).unwrap();
            let mut digests = vec![0; want.len()];
            hasher.hash_blocks(blocks, block_size, &mut digests);
            prop_assert!(digests == want, "{} differs", path);
            if let Some(first) = blocks.chunks(block_size).next() {
                let digest = &mut digests[..algorithm.digest_size()];
                digest.fill(0);
                hasher.hash_one(first, digest);
                prop_assert_eq!(&*digest, &want[..algorithm.digest_size()], "{}", path);
            }
        }
    }
}

/// Digests of "abc" as Python's hashlib (OpenSSL, and its own BLAKE2) gives them.
#[test]
fn the_algorithms_are_what_their_names_say() {
    let cases = [
        (Algorithm::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (Algorithm::Sha224, "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
        (Algorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            Algorithm::Sha384,
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
        ),
        (
            Algorithm::Sha512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
        (Algorithm::Sha3_224, "e642824c3f8cf24ad09234ee7d3c766fc9a3a5168d0c94ad73b46fdf"),
        (Algorithm::Sha3_256, "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
        (
            Algorithm::Sha3_384,
            "ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c2596da7cf0e49be4b298d88cea927ac7f539f1edf228376d25",
        ),
        (
            Algorithm::Sha3_512,
            "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0",
        ),
        (Algorithm::Blake2b160, "384264f676f39536840523f284921cdc68b6846b"),
        (Algorithm::Blake2b256, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"),
        (
            Algorithm::Blake2b384,
            "6f56a82c8e7ef526dfe182eb5212f7db9df1317e57815dbda46083fc30f54ee6c66ba83be64b302d7cba6ce15bb556f4",
        ),
        (
            Algorithm::Blake2b512,
            "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d17d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923",
        ),
        (Algorithm::Blake2s128, "aa4938119b1dc7b87cbad0ffd200d0ae"),
        (Algorithm::Blake2s160, "5ae3b99be29b01834c3b508521ede60438f8de17"),
        (Algorithm::Blake2s224, "0b033fc226df7abde29f67a05d3dc62cf271ef3dfea4d387407fbd55"),
        (Algorithm::Blake2s256, "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"),
        (Algorithm::Ripemd160, "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"),
    ];
    assert_eq!(cases.map(|(algorithm, _)| algorithm), Algorithm::ALL);
    for (algorithm, want) in cases {
        let mut digest = vec![0; algorithm.digest_size()];
        BlockHasher::new(algorithm, b"a", SaltPosition::Before).hash_one(b"bc", &mut digest);
        assert_eq!(hex(&digest), want, "{algorithm}");
        BlockHasher::new(algorithm, b"c", SaltPosition::After).hash_one(b"ab", &mut digest);
        assert_eq!(hex(&digest), want, "{algorithm}");
    }
}
