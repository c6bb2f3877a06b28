//! `veritrail verity`: what it prints, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const ROOT: &str = "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";
const ROOT_SHA512: &str = "9580272a638395a09352a7fc441a9bafbc1007a1d739e3a3760cc9d6048c2536d8226e2466b271f9711ee5b28de12b3a00672013408dc4f072006f64f29db902";

pub(crate) fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/devices");
    fs::read(folder.join(name)).unwrap()
}

/// A folder with `root.img` and `root.hash`.
pub(crate) struct Image(TempDir);

impl Image {
    pub(crate) fn new(hash: &str) -> Image {
        let image = Image(TempDir::new().unwrap());
        image.write("root.img", &golden("vdata-64x4k.img"));
        image.write("root.hash", &golden(hash));
        image
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Overwrites 8 bytes.
    pub(crate) fn corrupt(&self, name: &str, at: usize) {
        let mut bytes = fs::read(self.path(name)).unwrap();
        bytes[at..at + 8].copy_from_slice(b"CORRUPT!");
        self.write(name, &bytes);
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_veritrail"))
            .arg("verity")
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    /// Exit status, standard output, standard error.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.output(arguments);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

fn said(status: i32, out: &str, err: &str) -> (i32, String, String) {
    (status, out.to_owned(), err.to_owned())
}

#[test]
fn a_good_image_is_met_with_silence() {
    let image = Image::new("v-sha256.hash");
    assert_eq!(image.run(&["verify", "root.img", "root.hash", ROOT]), said(0, "", ""));
    assert_eq!(
        image.run(&["-v", "verify", "root.img", "root.hash", ROOT]),
        said(0, "64 data blocks good\n", "")
    );
    let output = image.output(&["cat", "root.img", "root.hash", ROOT]);
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
    assert!(output.stdout == golden("vdata-64x4k.img"));
}

#[test]
fn every_bad_block_is_listed_with_its_bytes() {
    let image = Image::new("v-sha512-1k512.hash");
    for at in [0, 1024, 3 * 1024, 250 * 1024] {
        image.corrupt("root.img", at);
    }
    image.corrupt("root.hash", 4000);
    let verify = ["verify", "root.img", "root.hash", ROOT_SHA512];
    assert_eq!(
        image.run(&verify),
        said(
            1,
            "data blocks 0-1 do not match: bytes 0-2047 of root.img\n\
             data block 3 does not match: bytes 3072-4095 of root.img\n\
             hash block 7 of level 0 does not match: bytes 3584-4095 of root.hash; \
             data blocks 8-15 cannot be verified\n\
             data block 250 does not match: bytes 256000-257023 of root.img\n\
             244 data blocks good, 4 do not match, 8 unverifiable, 1 hash blocks bad\n",
            ""
        )
    );
    let mut json = verify.to_vec();
    json.push("--json");
    assert_eq!(
        image.run(&json),
        said(
            1,
            concat!(
                r#"{"data_blocks":256,"findings":["#,
                r#"{"role":"data","fault":"mismatch","blocks":{"first":0,"last":1},"#,
                r#""bytes":{"first":0,"last":2047},"data_blocks":{"first":0,"last":1}},"#,
                r#"{"role":"data","fault":"mismatch","blocks":{"first":3,"last":3},"#,
                r#""bytes":{"first":3072,"last":4095},"data_blocks":{"first":3,"last":3}},"#,
                r#"{"role":"hash","fault":"mismatch","level":0,"blocks":{"first":7,"last":7},"#,
                r#""bytes":{"first":3584,"last":4095},"data_blocks":{"first":8,"last":15}},"#,
                r#"{"role":"data","fault":"mismatch","blocks":{"first":250,"last":250},"#,
                r#""bytes":{"first":256000,"last":257023},"data_blocks":{"first":250,"last":250}}],"#,
                r#""summary":{"good":244,"mismatched":4,"missing":0,"unverifiable":8,"#,
                r#""unreadable":0,"unreachable":0,"bad_hash_blocks":1,"unreadable_hash_blocks":0},"#,
                r#""verdict":"violation"}"#,
                "\n"
            ),
            ""
        )
    );
}

/// The 2023 posting of the kernel's verity records (tests/seeds): `dd` without `conv=notrunc`
/// also cuts the image off behind what it writes.
#[test]
fn the_command_of_the_posting_cuts_the_image() {
    let image = Image(TempDir::new().unwrap());
    let data: Vec<u8> = (0..1_048_576_u32).map(|n| n.to_le_bytes()[1]).collect();
    image.write("root.img", &data);
    let format =
        ["format", "root.img", "root.hash", "--salt", "00", "--root-hash-file", "root.roothash"];
    assert_eq!(image.run(&format).0, 0);
    let dd = Command::new("dd")
        .args(["if=/dev/urandom", "of=root.img", "bs=512", "count=1", "seek=1000"])
        .current_dir(image.0.path())
        .output()
        .unwrap();
    assert!(dd.status.success());
    // 513 * 1000 - 512 bytes: sector 1000 lies in block 125, of which only the first sector is left.
    assert_eq!(fs::metadata(image.path("root.img")).unwrap().len(), 512_512);
    let verify = ["verify", "root.img", "root.hash", "--root-hash-file", "root.roothash"];
    assert_eq!(
        image.run(&verify),
        said(
            1,
            "data blocks 125-255 are missing: bytes 512000-1048575 of root.img\n\
             125 data blocks good, 131 missing\n",
            ""
        )
    );
    let output =
        image.output(&["cat", "root.img", "root.hash", "--root-hash-file", "root.roothash"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout == data[..512_000]);
}

#[test]
fn cat_stops_at_the_first_bad_block() {
    let image = Image::new("v-sha256.hash");
    image.corrupt("root.img", 10 * 4096 + 17);
    image.corrupt("root.img", 12 * 4096);
    let output = image.output(&["cat", "root.img", "root.hash", ROOT]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout == golden("vdata-64x4k.img")[..40_960]);
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "veritrail: stopped before data block 10: \
         data block 10 does not match: bytes 40960-45055 of root.img\n"
    );
}

#[test]
fn what_cannot_be_used_is_named_with_its_place_and_what_is_allowed() {
    let image = Image::new("v-sha256.hash");
    let mut bad = golden("v-sha256.hash");
    bad[64..68].copy_from_slice(&3000u32.to_le_bytes());
    image.write("badsize", &bad);
    image.write("cuthash", &golden("v-sha256.hash")[..5000]);
    image.write("short", &ROOT.as_bytes()[..20]);
    image.write("tiny", b"not one block");
    let mut md5 = golden("v-sha256.hash");
    md5[32..39].copy_from_slice(b"md5\0\0\0\0");
    image.write("md5", &md5);
    let cases: &[(&[&str], i32, &str)] = &[
        (
            &["verify", "root.img", "root.hash", &ROOT[2..]],
            5,
            "veritrail: the root hash has 31 bytes, sha256 has 32\n",
        ),
        (
            &["verify", "root.img", "root.hash", "a8f5zz"],
            5,
            "veritrail: the root hash is not an even number of hexadecimal digits \
             (character 4 is the first wrong one)\n",
        ),
        (
            &["verify", "root.img", "root.hash", "--root-hash-file", "short"],
            5,
            "veritrail: the root hash has 10 bytes, sha256 has 32\n  hint: it was read from short\n",
        ),
        (
            &["format", "tiny", "new"],
            5,
            "veritrail: tiny has 13 bytes, not one data block of 4096\n",
        ),
        (
            &["dump", "md5"],
            5,
            "veritrail: no usable superblock at byte 0 of md5\n  \
             because: the superblock's algorithm \"md5\" is none of sha1, sha224, sha256, sha384, \
             sha512, sha3-224, sha3-256, sha3-384, sha3-512, blake2b-160, blake2b-256, blake2b-384, \
             blake2b-512, blake2s-128, blake2s-160, blake2s-224, blake2s-256, rmd160\n  \
             hint: the superblock is damaged, or its algorithm not one of this program's\n",
        ),
        (
            &["verify", "root.img", "cuthash", ROOT],
            5,
            "veritrail: the hash device has 5000 bytes, its tree lies in bytes 4096..8192\n",
        ),
        (
            &["dump", "badsize"],
            5,
            "veritrail: no usable superblock at byte 0 of badsize\n  \
             because: the superblock cannot be used\n  \
             because: data block size is 3000 bytes, not a power of two from 512 to 524288 bytes\n  \
             hint: the superblock is damaged, or newer than this program\n",
        ),
        (
            &["format", "root.img", "new", "--data-blocks", "65"],
            5,
            "veritrail: 65 data blocks of 4096 bytes do not fit the data device of 262144 bytes\n",
        ),
        (
            &["format", "root.img", "root.img", "--data-blocks", "64", "--hash-offset", "4096"],
            5,
            "veritrail: the data area (bytes 0..262144) overlaps the hash area (bytes 4096..12288)\n  \
             hint: --data-blocks says where the data ends, --hash-offset where the tree begins\n",
        ),
        (
            &["format", "root.img", "new", "--data-block-size", "100"],
            2,
            "veritrail: --data-block-size is 100 bytes, not a power of two from 512 to 524288 bytes\n",
        ),
        (
            &["verify", "root.img", "root.hash", ROOT, "--fec-device", "fec"],
            6,
            "veritrail: cannot open fec\n  because: No such file or directory (os error 2)\n",
        ),
        (
            &["repair", "root.img", "root.hash", ROOT],
            2,
            "veritrail: nothing to repair with: no --fec-device given\n  \
             hint: without error correction data bad blocks can only be copied from a good image\n",
        ),
        (
            &["format", "root.img", "new", "--fec-device", "fec", "--fec-roots", "25"],
            2,
            "veritrail: 25 parity bytes per codeword, outside 2..=24\n  \
             hint: --fec-roots has their number\n",
        ),
        (
            &["format", "root.img", "new", "--fec-device", "fec", "--fec-offset", "100"],
            2,
            "veritrail: FEC offset is 100 bytes, not a multiple of 512\n  \
             hint: --fec-offset is in bytes\n",
        ),
        (
            &[
                "format",
                "root.img",
                "new",
                "--fec-device",
                "fec",
                "--fec-offset",
                "18446744073709551104",
            ],
            5,
            "veritrail: the FEC area ends beyond byte 9223372036854775807\n  \
             hint: --fec-offset says where it begins\n",
        ),
        (
            &["format", "root.img", "new", "--fec-device", "fec", "--hash-block-size", "512"],
            2,
            "veritrail: data blocks of 4096 and hash blocks of 512 bytes: with FEC both must be equal\n  \
             hint: format with one --data-block-size and --hash-block-size, or leave --fec-device out\n",
        ),
        (
            &["format", "root.img", "new", "--fec-device", "root.img"],
            5,
            "veritrail: the FEC area (bytes 0..8192) overlaps the data area (bytes 0..262144)\n  \
             hint: on one device FEC data lies behind data and tree; --fec-offset says where it begins\n",
        ),
        (
            &["format", "root.img", "new", "--fec-device", "new", "--fec-offset", "4096"],
            5,
            "veritrail: the tree ends at byte 8192, what FEC covers of its device at byte 4096\n  \
             hint: on one device FEC data lies behind data and tree; --fec-offset says where it begins\n",
        ),
        (
            &["format", "root.img", "new", "--fec-device", "new", "--fec-offset", "65536"],
            5,
            "veritrail: FEC at byte 65536 covers all of new before it, which will end at byte 8192\n  \
             hint: --fec-offset 8192 leaves no gap\n",
        ),
        (
            &["cat", "root.img", "root.hash", ROOT, "--skip", "65"],
            2,
            "veritrail: data blocks from 65 on are asked for, the device has 64\n  \
             hint: --skip and --count are in data blocks\n",
        ),
        (
            &["cat", "root.img", "root.hash", ROOT, "--skip", "63", "--count", "2"],
            2,
            "veritrail: 2 data blocks from 63 on are asked for, the device has 64\n  \
             hint: --skip and --count are in data blocks\n",
        ),
        (
            &[
                "cat",
                "root.img",
                "root.hash",
                ROOT,
                "--skip",
                "1",
                "--count",
                "18446744073709551615",
            ],
            2,
            "veritrail: 18446744073709551615 data blocks from 1 on are asked for, the device has 64\n  \
             hint: --skip and --count are in data blocks\n",
        ),
        (
            &["verify", "none", "root.hash", ROOT],
            6,
            "veritrail: cannot open none\n  because: No such file or directory (os error 2)\n",
        ),
    ];
    for (arguments, status, err) in cases {
        assert_eq!(image.run(arguments), said(*status, "", err), "{arguments:?}");
    }
    assert!(!image.path("new").exists(), "a mistake leaves no file behind");
}

#[test]
fn dump_for_machines() {
    let image = Image::new("v-sha512-1k512.hash");
    assert_eq!(
        image.run(&["dump", "root.hash", "--json"]),
        said(
            0,
            concat!(
                r#"{"hash_device":"root.hash","uuid":"00000000-1111-4222-8333-444444444401","#,
                r#""hash_type":1,"data_blocks":256,"data_block_size":1024,"hash_blocks":37,"#,
                r#""hash_block_size":512,"algorithm":"sha512","salt":"5a","root_hash":null,"#,
                r#""hash_offset":0,"tree_start":512,"tree_end":19456}"#,
                "\n"
            ),
            ""
        )
    );
}

/// The records in a trail, one line each: type and body, without stamp and tail.
fn records(trail: &Path) -> Vec<String> {
    let mut segments: Vec<_> = fs::read_dir(trail.join("segments"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    segments.sort();
    let mut records = Vec::new();
    for segment in segments {
        for line in fs::read_to_string(segment).unwrap().lines() {
            let (head, body) = line.split_once("): ").unwrap();
            let kind = head.split_once(" msg=").unwrap().0;
            let body = body.split('\x1d').next().unwrap();
            if kind != "type=VT_IMPORT" {
                records.push(format!("{} {body}", kind.strip_prefix("type=").unwrap()));
            }
        }
    }
    records
}

#[test]
fn verify_records_each_bad_block_and_where_it_is() {
    let image = Image::new("v-sha512-1k512.hash");
    image.corrupt("root.img", 3 * 1024);
    image.corrupt("root.img", 4 * 1024);
    image.corrupt("root.hash", 4000);
    let cut = fs::read(image.path("root.img")).unwrap();
    image.write("root.img", &cut[..254 * 1024 + 512]);
    let (status, ..) =
        image.run(&["verify", "root.img", "root.hash", ROOT_SHA512, "--trail", "trail"]);
    assert_eq!(status, 1);
    let file = |name: &str| fs::canonicalize(image.0.path()).unwrap().join(name);
    let (data, hash) = (file("root.img"), file("root.hash"));
    let data_block = |block: u64, fault: &str, blocks: &str, bytes: &str| {
        [
            format!("DM_EVENT module=verity op=verify-data dev=0:0 sector={block} res=0"),
            format!(
                "VT_PLACE role=data unit=1024 fault={fault} blocks={blocks} bytes={bytes} file=\"{}\"",
                data.display()
            ),
        ]
    };
    let expected = [
        data_block(3, "mismatch", "3-3", "3072-4095"),
        data_block(4, "mismatch", "4-4", "4096-5119"),
        [
            "DM_EVENT module=verity op=verify-metadata dev=0:0 sector=8 res=0".to_owned(),
            format!(
                "VT_PLACE role=hash unit=512 fault=mismatch level=0 blocks=7-7 bytes=3584-4095 \
                 covers=8-15 file=\"{}\"",
                hash.display()
            ),
        ],
        data_block(254, "missing", "254-254", "260096-261119"),
        data_block(255, "missing", "255-255", "261120-262143"),
    ];
    assert_eq!(records(&image.path("trail")), expected.concat());

    // A good image leaves the trail as it was.
    image.write("root.img", &golden("vdata-64x4k.img"));
    image.write("root.hash", &golden("v-sha512-1k512.hash"));
    let again = ["verify", "root.img", "root.hash", ROOT_SHA512, "--trail", "trail"];
    assert_eq!(image.run(&again), said(0, "", ""));
    assert_eq!(records(&image.path("trail")), expected.concat());
}

/// As the kernel does it: the limit is announced directly before the record that reaches it, once.
#[test]
fn the_hundredth_is_announced_by_verify_and_by_cat() {
    let image = Image::new("v-sha512-1k512.hash");
    for block in 0..120 {
        image.corrupt("root.img", block * 2 * 1024);
    }
    let verify = ["verify", "root.img", "root.hash", ROOT_SHA512, "--trail", "verified"];
    assert_eq!(image.run(&verify).0, 1);
    let cat = ["cat", "root.img", "root.hash", ROOT_SHA512, "--skip", "10", "--count", "1"];
    let (status, out, err) =
        image.run(&[&cat[..], &["--repeat", "120", "--trail", "read"]].concat());
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.ends_with("veritrail: 120 of 120 reads refused\n"), "{err}");

    for (trail, block) in [("verified", 2), ("read", 0)] {
        let records = records(&image.path(trail));
        let events: Vec<&str> =
            records.iter().filter_map(|line| line.strip_prefix("DM_EVENT ")).collect();
        let expected: Vec<String> = (0..120)
            .flat_map(|number| {
                let limit = (number == 99).then(|| {
                    "module=verity op=max-corrupted-errors dev=0:0 sector=? res=0".to_owned()
                });
                let sector = if block == 0 { 10 } else { number * block };
                let event = format!("module=verity op=verify-data dev=0:0 sector={sector} res=0");
                limit.into_iter().chain([event])
            })
            .collect();
        assert_eq!(events, expected, "{trail}");
        // Each DM_EVENT has its place behind it.
        let kinds: Vec<&str> = records.iter().map(|line| line.split_once(' ').unwrap().0).collect();
        assert!(kinds.chunks(2).all(|pair| pair == ["DM_EVENT", "VT_PLACE"]), "{trail}");
        assert!(records[199].starts_with("VT_PLACE role=device file="), "{}", records[199]);
    }
}

#[test]
fn a_reader_that_goes_away_changes_neither_verdict_nor_records() {
    let image = Image::new("v-sha512-1k512.hash");
    for block in 0..120 {
        image.corrupt("root.img", block * 2 * 1024);
    }
    for json in [&[][..], &["--json"]] {
        let _ = fs::remove_dir_all(image.path("trail"));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = Command::new(env!("CARGO_BIN_EXE_veritrail"))
            .args(["verity", "verify", "root.img", "root.hash", ROOT_SHA512, "--trail", "trail"])
            .args(json)
            .current_dir(image.0.path())
            .stdout(writer)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(1));
        assert_eq!(records(&image.path("trail")).len(), 2 * 121);
    }
}

#[test]
fn a_root_hash_that_nothing_fits_is_explained() {
    let hint = "veritrail: nothing fits this root hash: either it belongs to another image, or the \
                top of this one is damaged\n";
    let image = Image::new("v-sha256.hash");
    let wrong = "00".repeat(32);
    let found = "hash block 1 of level 0 does not match: bytes 4096-8191 of root.hash; \
                 data blocks 0-63 cannot be verified\n\
                 0 data blocks good, 64 unverifiable, 1 hash blocks bad\n";
    assert_eq!(image.run(&["verify", "root.img", "root.hash", &wrong]), said(1, found, hint));
    image.corrupt("root.hash", 4200);
    assert_eq!(image.run(&["verify", "root.img", "root.hash", ROOT]), said(1, found, hint));

    let image = Image::new("v-1block.hash");
    image.write("root.img", &golden("vdata-64x4k.img")[..4096]);
    let found = "data block 0 does not match: bytes 0-4095 of root.img\n\
                 0 data blocks good, 1 do not match\n";
    assert_eq!(image.run(&["verify", "root.img", "root.hash", &wrong]), said(1, found, hint));

    // Below the top nothing speaks against the root hash.
    let image = Image::new("v-sha512-1k512.hash");
    image.corrupt("root.hash", 4000);
    assert_eq!(image.run(&["verify", "root.img", "root.hash", ROOT_SHA512]).2, "");
}

#[test]
fn a_root_hash_file_that_cannot_be_written_does_not_lose_the_root_hash() {
    let image = Image::new("v-sha256.hash");
    let format = ["format", "root.img", "new", "--salt", "00", "--root-hash-file", "no/such"];
    let (status, out, err) = image.run(&format);
    let root = out.lines().find_map(|line| line.strip_prefix("Root hash:      \t")).unwrap();
    assert_eq!(
        (status, err.as_str()),
        (
            6,
            "veritrail: cannot write root hash file no/such\n  \
             because: No such file or directory (os error 2)\n  \
             hint: the image is good; the root hash is the one printed\n"
        )
    );
    assert_eq!(image.run(&["verify", "root.img", "new", root]), said(0, "", ""));
}
