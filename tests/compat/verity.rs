//! veritysetup: its images verify here and ours there, byte for byte the same; and under its name
//! the same commands end with the same exit status.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder with data to play with and a link to our binary under the peer's name.
pub(crate) struct Bench {
    folder: TempDir,
    link: PathBuf,
}

impl Bench {
    /// None, and a line about it, where the peer is missing.
    pub(crate) fn new(test: &str) -> Option<Bench> {
        if Command::new("veritysetup").arg("--version").output().is_err() {
            eprintln!("SKIPPED: {test}: veritysetup is not installed");
            return None;
        }
        let folder = TempDir::new().unwrap();
        let link = folder.path().join("veritysetup");
        symlink(env!("CARGO_BIN_EXE_veritrail"), &link).unwrap();
        Some(Bench { folder, link })
    }

    pub(crate) fn theirs<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Output {
        Command::new("veritysetup")
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    pub(crate) fn ours<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Output {
        Command::new(&self.link).args(arguments).current_dir(self.folder.path()).output().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }
}

pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/devices").join(name)
}

/// Where the tree goes.
#[derive(Clone, Copy, Debug)]
enum Placement {
    OwnFile,
    OwnFileWithoutSuperblock,
    OwnFileAtOffset,
    BehindTheData,
    BehindTheDataWithoutSuperblock,
}

const HASHES: &[&str] =
    &["sha256", "sha1", "sha512", "sha384", "sha3-256", "blake2s-256", "ripemd160"];
const SALTS: &[&str] = &["-", "00ff", "5a"];
const PLACEMENTS: &[Placement] = &[
    Placement::OwnFile,
    Placement::OwnFileWithoutSuperblock,
    Placement::OwnFileAtOffset,
    Placement::BehindTheData,
    Placement::BehindTheDataWithoutSuperblock,
];
/// Data block size, hash block size, data blocks, bytes more than those.
const SIZES: &[(usize, usize, usize, usize)] = &[
    (4096, 4096, 1, 0),
    (4096, 4096, 2, 1000),
    (4096, 4096, 128, 0),
    (4096, 4096, 129, 4095),
    (512, 512, 1, 511),
    (512, 512, 16, 0),
    (512, 512, 17, 100),
    (512, 512, 257, 0),
    (1024, 512, 65, 0),
    (512, 4096, 16_384, 0),
    (512, 4096, 16_385, 17),
    (512, 1024, 33, 0),
    (8192, 65_536, 5, 0),
];

#[test]
fn images_go_both_ways() {
    let Some(bench) = Bench::new("images_go_both_ways") else { return };
    // The lengths of the lists share no factor, so every pair of values comes up.
    let count = if std::env::var_os("VERITRAIL_LONG").is_some() { 1365 } else { 65 };
    for number in 0..count {
        let format_type = if number % 2 == 0 { "1" } else { "0" };
        let hash = HASHES[number % HASHES.len()];
        let salt = SALTS[number / 2 % SALTS.len()];
        let placement = PLACEMENTS[number % PLACEMENTS.len()];
        let size = SIZES[number % SIZES.len()];
        both_ways(&bench, format_type, hash, salt, placement, size);
    }
    // As much salt as a superblock holds.
    both_ways(&bench, "1", "sha256", &"a5".repeat(256), Placement::OwnFile, SIZES[7]);
}

fn both_ways(
    bench: &Bench,
    format_type: &str,
    hash: &str,
    salt: &str,
    placement: Placement,
    (data_block_size, hash_block_size, data_blocks, more): (usize, usize, usize, usize),
) {
    let what = format!(
        "type {format_type} {hash} {salt} {placement:?} {data_block_size}/{hash_block_size} x {data_blocks}"
    );
    let mut arguments: Vec<String> = [
        "--format",
        format_type,
        "--hash",
        hash,
        "--salt",
        salt,
        "--uuid",
        "00000000-1111-4222-8333-444444444401",
        "--data-block-size",
        &data_block_size.to_string(),
        "--hash-block-size",
        &hash_block_size.to_string(),
    ]
    .map(str::to_owned)
    .into();
    let data_end = data_block_size * data_blocks;
    let (offset, superblock, one_file) = match placement {
        Placement::OwnFile => (0, true, false),
        Placement::OwnFileWithoutSuperblock => (0, false, false),
        // veritysetup fails to write a superblock alone at an odd place of an empty file.
        Placement::OwnFileAtOffset => (hash_block_size.max(4096) * 3, true, false),
        Placement::BehindTheData => (data_end.next_multiple_of(hash_block_size), true, true),
        Placement::BehindTheDataWithoutSuperblock => {
            (data_end.next_multiple_of(hash_block_size), false, true)
        }
    };
    if offset > 0 {
        arguments.extend(["--hash-offset".to_owned(), offset.to_string()]);
    }
    if one_file {
        arguments.extend(["--data-blocks".to_owned(), data_blocks.to_string()]);
    }
    if !superblock {
        arguments.push("--no-superblock".to_owned());
    }
    let data = noise(data_end + more);
    for name in ["data", "theirs", "ours"] {
        let _ = fs::remove_file(bench.path(name));
    }
    if one_file {
        bench.write("theirs", &data);
        bench.write("ours", &data);
    } else {
        bench.write("data", &data);
    }
    let data_of = |name: &'static str| if one_file { name } else { "data" };
    let with = |verb: &str, operands: &[&str]| -> Vec<String> {
        let mut all = vec![verb.to_owned()];
        all.extend(operands.iter().map(|operand| (*operand).to_owned()));
        all.extend(arguments.iter().cloned());
        all
    };

    let theirs = bench.theirs(&with("format", &[data_of("theirs"), "theirs"]));
    assert!(theirs.status.success(), "{what}: {}", text(&theirs.stderr));
    let ours = bench.ours(&with("format", &[data_of("ours"), "ours"]));
    assert!(ours.status.success(), "{what}: {}", text(&ours.stderr));
    let printed = text(&theirs.stdout).replace("for theirs", "for ours");
    assert_eq!(text(&ours.stdout), printed, "{what}");
    assert!(bench.read("theirs") == bench.read("ours"), "{what}: the trees differ");
    let root = printed.lines().find_map(|line| line.strip_prefix("Root hash:      \t")).unwrap();

    let their_verdict = bench.theirs(&with("verify", &[data_of("ours"), "ours", root]));
    assert!(their_verdict.status.success(), "{what}: {}", text(&their_verdict.stderr));
    let our_verdict = bench.ours(&with("verify", &[data_of("theirs"), "theirs", root]));
    assert!(our_verdict.status.success(), "{what}: {}", text(&our_verdict.stderr));
    if superblock {
        let dump = with("dump", &["theirs"]);
        assert_eq!(bench.ours(&dump).stdout, bench.theirs(&dump).stdout, "{what}");
    }

    // A bit in the last data block, then one in the first byte of the tree (if there is one).
    let tree_start = if superblock {
        (offset + 512).next_multiple_of(hash_block_size)
    } else {
        offset / hash_block_size * hash_block_size
    };
    let spots = [(data_of("ours"), data_end - 1), ("ours", tree_start)];
    for (name, at) in spots.into_iter().take(if data_blocks == 1 { 1 } else { 2 }) {
        let good = bench.read(name);
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        bench.write(name, &bad);
        let verify = with("verify", &[data_of("ours"), "ours", root]);
        let (theirs, ours) = (bench.theirs(&verify), bench.ours(&verify));
        let about = format!("{what}: byte {at} of {name}: {}", text(&theirs.stderr));
        assert_eq!(ours.status.code(), theirs.status.code(), "{about}");
        assert!(!ours.status.success(), "{about}");
        if name == "data" && data_blocks > 1 {
            assert_eq!(text(&ours.stderr), text(&theirs.stderr), "{about}");
        }
        bench.write(name, &good);
    }
}

#[test]
fn a_file_that_was_longer_keeps_what_the_tree_does_not_need() {
    let Some(bench) = Bench::new("a_file_that_was_longer_keeps_what_the_tree_does_not_need") else {
        return;
    };
    bench.write("data", &noise(64 * 4096));
    for offset in ["0", "4096", "512"] {
        for name in ["theirs", "ours"] {
            bench.write(name, &vec![0xff; 50_000]);
        }
        let format = |name: &'static str| {
            [
                "format",
                "data",
                name,
                "--hash-offset",
                offset,
                "--salt",
                "01",
                "--uuid",
                "00000000-1111-4222-8333-444444444401",
            ]
        };
        assert!(bench.theirs(&format("theirs")).status.success());
        assert!(bench.ours(&format("ours")).status.success());
        assert!(bench.read("theirs") == bench.read("ours"), "offset {offset}");
    }
}

const ROOT: &str = "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";
const ROOT_1BLOCK: &str = "4e6969b4c74546b927ba18f467396946ab3fd095c56317a43e1697db388c2053";

#[test]
fn under_its_name_the_exit_status_is_veritysetups() {
    let Some(bench) = Bench::new("under_its_name_the_exit_status_is_veritysetups") else { return };
    let data = fs::read(golden("vdata-64x4k.img")).unwrap();
    let hash = fs::read(golden("v-sha256.hash")).unwrap();
    let change = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    bench.write("data", &data);
    bench.write("hash", &hash);
    bench.write("baddata", &change(&data, 40_977));
    bench.write("badhash", &change(&hash, 4200));
    bench.write("badspare", &change(&hash, 8000));
    bench.write("cutdata", &data[..200_000]);
    bench.write("cuthash", &hash[..5000]);
    bench.write("one", &data[..4096]);
    bench.write("badone", &change(&data[..4096], 7));
    bench.write("onehash", &fs::read(golden("v-1block.hash")).unwrap());
    bench.write("nosb", &fs::read(golden("v-nosb.hash")).unwrap());
    bench.write("tiny", &data[..100]);
    bench.write("empty", b"");
    bench.write("root", ROOT.as_bytes());
    bench.write("longroot", format!("{ROOT}\n\n").as_bytes());
    bench.write("shortroot", b"abc");
    fs::create_dir(bench.path("folder")).unwrap();
    let wrong = "00".repeat(32);
    let upper = ROOT.to_uppercase();
    let long_salt = "00".repeat(257);
    let nosb_root = "d4d1d6840f838e03c624471254b8e013d2719cea4f945b5167607abd8347845e";

    // Left out: a root hash file that is not there. veritysetup 2.6.1 says so and exits 0.
    let cases: &[&[&str]] = &[
        &["verify", "data", "hash", ROOT],
        &["-v", "verify", "data", "hash", ROOT],
        &["verify", "data", "hash", &upper],
        &["verify", "data", "hash", "--root-hash-file", "root"],
        &["verify", "data", "hash", "--root-hash-file", "longroot"],
        &["verify", "data", "hash", "--root-hash-file", "root", "zz"],
        &["verify", "data", "hash", "--root-hash-file", "shortroot"],
        &["verify", "data", "hash", ROOT, "--hash", "sha1", "--data-blocks", "3", "--salt", "00"],
        &["--no-superblock", "--salt=1234", "verify", "data", "nosb", nosb_root],
        &["verify", "data", "nosb", nosb_root],
        &["verify", "data", "nosb", nosb_root, "--no-superblock", "-s", "1235"],
        &["verify", "baddata", "hash", ROOT],
        &["verify", "data", "badhash", ROOT],
        &["verify", "data", "badspare", ROOT],
        &["verify", "cutdata", "hash", ROOT],
        &["verify", "data", "cuthash", ROOT],
        &["verify", "data", "hash", &wrong],
        &["verify", "one", "onehash", ROOT_1BLOCK],
        &["verify", "badone", "onehash", ROOT_1BLOCK],
        &["verify", "data", "hash", &ROOT[2..]],
        &["verify", "data", "hash", "zz"],
        &["verify", "data", "hash"],
        &["verify", "data"],
        &["verify"],
        &["verify", "none", "hash", ROOT],
        &["verify", "data", "none", ROOT],
        &["verify", "folder", "hash", ROOT],
        &["verify", "data", "folder", ROOT],
        &["verify", "data", "hash", ROOT, "--bogus"],
        &[],
        &["bogus"],
        &["--help"],
        &["--version"],
        &["dump", "hash"],
        &["dump", "data"],
        &["dump", "none"],
        &["dump", "folder"],
        &["dump", "empty"],
        &["dump", "hash", "--hash-offset", "100"],
        &["dump", "hash", "--hash-offset", "512"],
        &["dump", "hash", "--hash-offset", "1k"],
        &["format", "data", "new"],
        &["format", "none", "new"],
        &["format", "tiny", "new"],
        &["format", "empty", "new"],
        &["format", "data", "data"],
        &["format", "data", "new", "--data-blocks", "64", "--hash-offset", "512"],
        &["format", "data", "new", "--hash", "bogus"],
        &["format", "data", "new", "-h", "sha1"],
        &["format", "data", "new", "--salt", "zz"],
        &["format", "data", "new", "--salt", "0"],
        &["format", "data", "new", "--salt", &long_salt],
        &["format", "data", "new", "--data-block-size", "100"],
        &["format", "data", "new", "--data-block-size", "1048576"],
        &["format", "data", "new", "--hash-block-size", "256"],
        &["format", "data", "new", "--data-blocks", "65"],
        &["format", "data", "new", "--data-blocks", "-1"],
        &["format", "data", "new", "--hash-offset", "100"],
        &["format", "data", "new", "--format", "2"],
        &["format", "data", "new", "--uuid", "xyz"],
        &["format", "data", "new", "--debug"],
        &["format", "data", "new", "--salt", ""],
        &["format", "data", "new", "--hash", "bogus", "--hash", "sha1"],
        &["--hash", "bogus", "format", "data", "new", "--hash", "sha1"],
        &["format", "data", "folder"],
        &["format", "folder", "new"],
        &["format", "data", "/dev/null"],
        &["format", "/dev/zero", "new"],
        &["format", "data", "new", "--root-hash-file", "folder"],
        &["verify", "/dev/zero", "hash", ROOT],
        &["verify", "data", "/dev/null", ROOT],
        &["verify", "data", "hash", ""],
        &["verify", "data", "hash", "--root-hash-file", "empty"],
        &["verify", "empty", "hash", ROOT],
        &["-q", "verify", "data", "hash", ROOT],
        &["--usage"],
        &["-V"],
    ];
    let mut differ = Vec::new();
    for case in cases {
        let (theirs, ours) = (bench.theirs(case), bench.ours(case));
        let codes = (theirs.status.code(), ours.status.code());
        if codes.0 != codes.1 {
            differ.push(format!("{case:?}: {codes:?}: {}", text(&ours.stderr)));
        }
    }
    assert_eq!(differ, Vec::<String>::new());
}
