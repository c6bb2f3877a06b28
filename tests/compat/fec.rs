//! veritysetup's error correction: the same parity byte for byte in random layouts, and the same
//! count of what can be repaired.

use std::fs;

use crate::verity::{Bench, noise, text};

/// Numbers that look random, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ z >> 31) % end as u64).unwrap()
    }

    fn one_in(&mut self, end: usize) -> bool {
        self.below(end) == 0
    }
}

/// An image somewhere, with its parity somewhere.
#[derive(Debug)]
struct Layout {
    block_size: usize,
    data_blocks: usize,
    /// Bytes of data behind the last block.
    more: usize,
    hash_offset: usize,
    superblock: bool,
    /// Data and tree in one file.
    one_file: bool,
    format_type: usize,
    roots: usize,
    /// Bytes of the hash file before it is formatted.
    hash_file: usize,
    /// Parity behind the tree.
    with_tree: bool,
    fec_offset: usize,
}

impl Layout {
    fn random(numbers: &mut Numbers) -> Layout {
        let block_size = [512, 1024, 2048, 4096][numbers.below(4)];
        let data_blocks = match numbers.below(4) {
            0 => 1 + numbers.below(8),
            1 => 225 + numbers.below(40),
            _ => 1 + numbers.below(900),
        };
        let superblock = !numbers.one_in(3);
        let one_file = numbers.one_in(3);
        let more = if numbers.one_in(3) && !one_file { numbers.below(block_size) } else { 0 };
        let hash_offset = if one_file {
            (data_blocks + numbers.below(3)) * block_size
        } else {
            [0, 0, 3 * 4096][numbers.below(3)]
        };
        // Three levels at most, and some more blocks: an upper bound of the tree's end.
        let digests = block_size / 32;
        let mut tree = 0;
        let mut level = data_blocks;
        while level > 1 {
            level = level.div_ceil(digests);
            tree += level;
        }
        let tree_start = if superblock {
            (hash_offset + 512).next_multiple_of(block_size)
        } else {
            hash_offset / block_size * block_size
        };
        let tree_end = tree_start + tree * block_size;
        let hash_file = match numbers.below(3) {
            0 => 0,
            1 => tree_end + numbers.below(3 * block_size),
            _ => tree_end + numbers.below(300) * block_size,
        };
        let with_tree = numbers.one_in(2);
        let fec_offset = if with_tree {
            let end = tree_end.max(hash_file) / block_size * block_size;
            // What is between has to be there already: veritysetup reads it.
            tree_end + numbers.below((end - tree_end) / block_size + 1) * block_size
        } else {
            [0, 0, 512 * numbers.below(20)][numbers.below(3)]
        };
        Layout {
            block_size,
            data_blocks,
            more,
            hash_offset,
            superblock,
            one_file,
            format_type: numbers.below(2),
            roots: 2 + numbers.below(23),
            hash_file,
            with_tree,
            fec_offset,
        }
    }

    /// Data, hash and FEC file of one of us.
    fn files(&self, whose: &str) -> [String; 3] {
        let own = |role: &str| format!("{whose}.{role}");
        let hash = own("hash");
        let data = if self.one_file { hash.clone() } else { "data".to_owned() };
        let fec = if self.with_tree { hash.clone() } else { own("fec") };
        [data, hash, fec]
    }

    fn arguments(&self, verb: &str, files: &[String; 3], root: &str) -> Vec<String> {
        let [data, hash, fec] = files;
        let mut arguments = match verb {
            "dump" => vec![verb, hash],
            "format" => vec![verb, data, hash],
            _ => vec![verb, data, hash, root],
        };
        let numbers = [
            ("--data-block-size", self.block_size),
            ("--hash-block-size", self.block_size),
            ("--data-blocks", self.data_blocks),
            ("--hash-offset", self.hash_offset),
            ("--format", self.format_type),
            ("--fec-roots", self.roots),
            ("--fec-offset", self.fec_offset),
        ]
        .map(|(option, value)| (option, value.to_string()));
        for (option, value) in &numbers {
            arguments.extend([*option, value]);
        }
        arguments.extend(["--salt", "00ff", "--uuid", "00000000-1111-4222-8333-444444444401"]);
        arguments.extend(["--fec-device", fec]);
        if !self.superblock {
            arguments.push("--no-superblock");
        }
        arguments.into_iter().map(str::to_owned).collect()
    }

    fn prepare(&self, bench: &Bench, whose: &str) {
        for name in self.files(whose) {
            let _ = fs::remove_file(bench.path(&name));
        }
        let data = noise(self.data_blocks * self.block_size + self.more);
        let mut hash = noise(self.hash_file);
        if self.one_file {
            let length = hash.len().max(self.hash_offset);
            hash.resize(length, 0x77);
            hash[..data.len()].copy_from_slice(&data);
        } else {
            bench.write("data", &data);
        }
        if !hash.is_empty() {
            bench.write(&self.files(whose)[1], &hash);
        }
    }
}

#[test]
fn parity_is_the_same_both_ways() {
    let Some(bench) = Bench::new("parity_is_the_same_both_ways") else { return };
    let count = if std::env::var_os("VERITRAIL_LONG").is_some() { 2000 } else { 40 };
    let mut numbers = Numbers(7);
    for _ in 0..count {
        let layout = Layout::random(&mut numbers);
        both_ways(&bench, &layout, &mut numbers);
    }
}

fn both_ways(bench: &Bench, layout: &Layout, numbers: &mut Numbers) {
    layout.prepare(bench, "theirs");
    layout.prepare(bench, "ours");
    let (theirs_files, ours_files) = (layout.files("theirs"), layout.files("ours"));
    let theirs = bench.theirs(&layout.arguments("format", &theirs_files, ""));
    let ours = bench.ours(&layout.arguments("format", &ours_files, ""));
    assert_eq!(
        theirs.status.code(),
        ours.status.code(),
        "{layout:?}\n{}\n{}",
        text(&theirs.stderr),
        text(&ours.stderr)
    );
    assert!(theirs.status.success(), "{layout:?}: {}", text(&theirs.stderr));
    let printed = text(&theirs.stdout).replace("for theirs", "for ours");
    assert_eq!(text(&ours.stdout), printed, "{layout:?}");
    for (theirs, ours) in theirs_files.iter().zip(&ours_files) {
        assert!(bench.read(theirs) == bench.read(ours), "{layout:?}: {ours} differs");
    }
    let root = printed.lines().find_map(|line| line.strip_prefix("Root hash:      \t")).unwrap();
    if layout.superblock {
        let dump = layout.arguments("dump", &theirs_files, "");
        assert_eq!(text(&bench.ours(&dump).stdout), text(&bench.theirs(&dump).stdout));
    }

    // Everything good, then a burst somewhere, then more and more.
    let verify = layout.arguments("verify", &ours_files, root);
    let good = [0, 1, 2].map(|file: usize| bench.read(&ours_files[file]));
    for bursts in 0..5 {
        let mut spots = Vec::new();
        for _ in 0..bursts {
            let spot = layout.spot(numbers, &good, &printed);
            damage(bench, &ours_files, &spot);
            spots.push(spot);
        }
        let (theirs, ours) = (bench.theirs(&verify), bench.ours(&verify));
        let about =
            format!("{layout:?} {spots:?}\n{}\n{}", text(&theirs.stderr), text(&ours.stderr));
        assert_eq!(ours.status.code(), theirs.status.code(), "{about}");
        assert_eq!(about_fec(&ours.stderr), about_fec(&theirs.stderr), "{about}");
        if bursts == 1 {
            // One burst is one error per codeword at most: repaired, whatever it hit.
            let repaired = bench.ours(&layout.arguments("repair", &ours_files, root));
            assert!(repaired.status.success(), "{about}\n{}", text(&repaired.stderr));
            let theirs = bench.theirs(&verify);
            assert!(theirs.status.success() && theirs.stderr.is_empty(), "{about}");
            if spots[0].0 != 2 {
                for (name, good) in ours_files.iter().zip(&good) {
                    assert!(&bench.read(name) == good, "{about}: {name} is not as it was");
                }
            }
        }
        for (name, good) in ours_files.iter().zip(&good) {
            bench.write(name, good);
        }
    }
}

/// What veritysetup says about error correction. (The position before it is told from the data up,
/// ours from the root down.)
fn about_fec(stderr: &[u8]) -> String {
    let lines = ["Found ", "Failed to repair", "Errors "];
    let about = |line: &&str| lines.iter().any(|start| line.starts_with(start));
    text(stderr).lines().filter(about).collect()
}

/// File, byte, number of bytes.
type Spot = (usize, usize, usize);

impl Layout {
    /// A burst in the data, in the tree, or in the parity.
    fn spot(&self, numbers: &mut Numbers, files: &[Vec<u8>; 3], header: &str) -> Spot {
        let number = |name: &str| -> usize {
            let line = header.lines().find(|line| line.starts_with(name)).unwrap();
            line.rsplit('\t').next().unwrap().parse().unwrap()
        };
        let tree = number("Hash blocks:") * self.block_size;
        let tree_start = if self.superblock {
            (self.hash_offset + 512).next_multiple_of(self.block_size)
        } else {
            self.hash_offset / self.block_size * self.block_size
        };
        let parity = number("FEC blocks:") * self.block_size;
        let (file, range) = match numbers.below(6) {
            0 if tree > 0 => (1, tree_start..tree_start + tree),
            1 => (2, self.fec_offset..self.fec_offset + parity),
            _ => (0, 0..self.data_blocks * self.block_size),
        };
        assert!(range.end <= files[file].len());
        let at = range.start + numbers.below(range.len());
        // In parity a few bytes side by side are all of one codeword.
        let most = if file == 2 { 1 } else { self.block_size };
        (file, at, (1 + numbers.below(most)).min(range.end - at))
    }
}

fn damage(bench: &Bench, files: &[String; 3], &(file, at, length): &Spot) {
    let mut bytes = bench.read(&files[file]);
    for byte in &mut bytes[at..at + length] {
        *byte ^= 0x5a;
    }
    bench.write(&files[file], &bytes);
}
