//! The golden images, served; and the kernel's records for what was done to them, as
//! tests/golden/devices/README.md has them.

use std::fs;

use crate::bench::{BLOCK, Bench, Image, direct, golden, noise, read_once, refused};

const SHA256: &str = "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";
const NOSALT: &str = "07d905d8fcaa7ebade256623ee5f6499600e94d5a7ed241d77172fc156edadb3";
const SHA1_T0: &str = "d48390c62074ad16085bf641e861938efa17581f";
const SHA1_T1: &str = "f3f99771c193298ca97b7eedd2c592b1b0241a25";
const SHA512: &str = "9580272a638395a09352a7fc441a9bafbc1007a1d739e3a3760cc9d6048c2536d8226e2466b271f9711ee5b28de12b3a00672013408dc4f072006f64f29db902";
const D512: &str = "90655735a0ef747bba6ef06a02af374403325dc27593b7ef8156e105fc192777";
const NOSB: &str = "d4d1d6840f838e03c624471254b8e013d2719cea4f945b5167607abd8347845e";
const FEC: &str = "2453c8dd3cd6a45a9516eccb147fa3028cb4e18ec21790192757032091b33dd2";
const FEC13: &str = "982823c77c5360d77b63b09a22b8cafee795db6a1e2efcf0d2b9fdb64f7c28e1";
const ONEFEC: &str = "0ffc2545049274c0a372a0e0e78237a13d025dcac18a264e49a48f3971a097cb";
const ONE: &str = "4e6969b4c74546b927ba18f467396946ab3fd095c56317a43e1697db388c2053";

const NOSB_OPTIONS: [&str; 3] = ["--no-superblock", "--salt", "1234"];
const ONEFEC_OPTIONS: [&str; 10] = [
    "--data-blocks",
    "64",
    "--hash-offset",
    "262144",
    "--fec-device",
    "hash",
    "--fec-offset",
    "270336",
    "--fec-roots",
    "8",
];

fn all_good(bench: &Bench, name: &str, image: &Image, options: &[&str], data: &[u8]) {
    let device = bench.open(name, image, options);
    assert!(fs::read(&device).unwrap() == data, "{name}");
    assert_eq!(refused(&device, BLOCK, data), Vec::<u64>::new(), "{name}");
    assert_eq!(bench.status(name)["corrupted"], false, "{name}");
    bench.close(name);
    assert_eq!(bench.left(), Vec::<String>::new(), "{name}");
}

#[test]
fn every_golden_image_reads_as_its_data() {
    let Some(bench) = Bench::new("every_golden_image_reads_as_its_data") else { return };
    let data = golden("vdata-64x4k.img");
    let fec2 = ["--fec-device", "fec", "--fec-roots", "2"];
    let fec24 = ["--fec-device", "fec", "--fec-roots", "24"];
    let fec13 = ["--fec-device", "fec", "--fec-roots", "13"];
    let cases: [(&str, &str, &[&str]); 10] = [
        ("v-sha256", SHA256, &[]),
        ("v-nosalt", NOSALT, &[]),
        ("v-sha1-t0", SHA1_T0, &[]),
        ("v-sha1-t1", SHA1_T1, &[]),
        ("v-sha512-1k512", SHA512, &[]),
        ("v-sha256-d512-h1k", D512, &[]),
        ("v-nosb", NOSB, &NOSB_OPTIONS),
        ("v-fec2", FEC, &fec2),
        ("v-fec24", FEC, &fec24),
        ("v-fec13-1k", FEC13, &fec13),
    ];
    for (name, root, options) in cases {
        let image = bench.golden(&format!("{name}.hash"), root);
        if options.contains(&"fec") {
            bench.write("fec", &golden(&format!("{name}.fec")));
        }
        all_good(&bench, name, &image, options, &data);
    }
    bench.write("hash", &golden("v-onefec.img"));
    let image = Image { data: "hash".into(), hash: "hash".into(), root: ONEFEC.into() };
    all_good(&bench, "v-onefec", &image, &ONEFEC_OPTIONS, &data);
    bench.write("data", &golden("vdata-1x4k.img"));
    bench.write("hash", &golden("v-1block.hash"));
    let image = Image { data: "data".into(), hash: "hash".into(), root: ONE.into() };
    all_good(&bench, "v-1block", &image, &[], &golden("vdata-1x4k.img"));
    assert_eq!(bench.violations(), Vec::<String>::new());
    assert_eq!(bench.bodies("VT_FEC"), Vec::<String>::new());
}

/// Where 8 bytes are overwritten.
#[derive(Clone, Copy)]
enum Bad {
    Data(u64),
    Hash(u64),
}

/// What is read, directly.
#[derive(Clone, Copy)]
enum Reads {
    /// One read of so many bytes at an offset.
    One(u64, usize),
    /// All, in pieces of 4096 bytes.
    All,
}

/// Byte 17 of block 10.
const TEN: Bad = Bad::Data(10 * 4096 + 17);
const TWELVE: Bad = Bad::Data(12 * 4096 + 17);

/// Hash file, root hash, damage, reads; records as `op sector`, and which pieces are refused.
type Case =
    (&'static str, &'static str, &'static [Bad], Reads, &'static [&'static str], &'static [u64]);

#[test]
fn the_records_are_those_of_the_kernel() {
    let test = "the_records_are_those_of_the_kernel";
    let cases: [Case; 8] = [
        ("v-sha256", SHA256, &[TEN], Reads::One(40_960, BLOCK), &["verify-data 10"], &[]),
        ("v-sha256", SHA256, &[TEN, TWELVE], Reads::One(32_768, 65_536), &["verify-data 10"], &[]),
        (
            "v-sha256",
            SHA256,
            &[TEN, TWELVE],
            Reads::All,
            &["verify-data 10", "verify-data 12"],
            &[10, 12],
        ),
        (
            "v-sha256",
            SHA256,
            &[Bad::Hash(4200)],
            Reads::One(33 * 4096, BLOCK),
            &["verify-metadata 33"],
            &[],
        ),
        (
            "v-sha512-1k512",
            SHA512,
            &[Bad::Hash(4000)],
            Reads::All,
            &["verify-metadata 8", "verify-metadata 12"],
            &[2, 3],
        ),
        ("v-sha1-t0", SHA1_T0, &[TEN], Reads::One(40_960, BLOCK), &["verify-data 10"], &[]),
        ("v-sha256-d512-h1k", D512, &[TEN], Reads::One(80 * 512, 512), &["verify-data 80"], &[]),
        ("v-sha256", NOSALT, &[], Reads::One(0, BLOCK), &["verify-metadata 0"], &[]),
    ];
    let good = golden("vdata-64x4k.img");
    for (name, root, bad, reads, records, pieces) in cases {
        let Some(bench) = Bench::new(test) else { return };
        let image = bench.golden(&format!("{name}.hash"), root);
        for place in bad {
            match place {
                Bad::Data(at) => bench.corrupt("data", *at),
                Bad::Hash(at) => bench.corrupt("hash", *at),
            }
        }
        let device = bench.open("v", &image, &[]);
        match reads {
            Reads::One(offset, len) => {
                let error = read_once(&direct(&device), offset, len).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(5), "{name}");
            }
            Reads::All => assert_eq!(refused(&device, BLOCK, &good), pieces, "{name}"),
        }
        assert_eq!(bench.status("v")["corrupted"], true, "{name}");
        bench.close("v");
        assert_eq!(bench.violations(), records, "{name}");
    }
}

#[test]
fn one_block_without_a_tree_is_refused_with_the_records_of_the_kernel() {
    let test = "one_block_without_a_tree_is_refused_with_the_records_of_the_kernel";
    let Some(bench) = Bench::new(test) else { return };
    bench.write("data", &golden("vdata-1x4k.img"));
    bench.write("hash", &golden("v-1block.hash"));
    bench.corrupt("data", 7);
    let image = Image { data: "data".into(), hash: "hash".into(), root: ONE.into() };
    let device = bench.open("v", &image, &[]);
    read_once(&direct(&device), 0, BLOCK).unwrap_err();
    bench.close("v");
    assert_eq!(bench.violations(), ["verify-data 0"]);
}

#[test]
fn the_hundredth_refusal_is_announced() {
    let Some(bench) = Bench::new("the_hundredth_refusal_is_announced") else { return };
    let image = bench.golden("v-sha256.hash", SHA256);
    bench.corrupt("data", 40_977);
    let device = direct(&bench.open("v", &image, &[]));
    for _ in 0..103 {
        read_once(&device, 40_960, BLOCK).unwrap_err();
    }
    drop(device);
    let status = bench.status("v");
    assert_eq!(
        (&status["counts"]["reads"], &status["counts"]["violations"]),
        (&103.into(), &103.into())
    );
    bench.close("v");
    let violations = bench.violations();
    let mut expected = vec!["verify-data 10"; 104];
    expected[99] = "max-corrupted-errors ?";
    assert_eq!(violations, expected);
    bench.trail_is_good();
}

/// Without a word in the kernel, which says only that there were a hundred; each is on record here.
#[test]
fn what_is_ignored_is_handed_out_and_on_record() {
    let Some(bench) = Bench::new("what_is_ignored_is_handed_out_and_on_record") else { return };
    let image = bench.golden("v-sha256.hash", SHA256);
    bench.corrupt("data", 40_977);
    let bad = &fs::read(bench.path("data")).unwrap()[40_960..45_056];
    let device = direct(&bench.open("v", &image, &["--ignore-corruption"]));
    for _ in 0..104 {
        assert!(read_once(&device, 40_960, BLOCK).unwrap() == bad);
    }
    drop(device);
    let ran = bench.verity(&["status", "v"]);
    assert!(ran.out.contains("\n  status:      corrupted\n"), "{}", ran.out);
    assert!(ran.out.contains("\n  flags:       ignore_corruption \n"), "{}", ran.out);
    bench.close("v");
    let violations = bench.violations();
    let announced = violations.iter().filter(|one| *one == "max-corrupted-errors ?").count();
    assert_eq!((announced, violations.len()), (1, 105));
    let readers = bench.bodies("VT_READER");
    assert!(readers.iter().all(|reader| reader.ends_with(" answer=data")), "{readers:?}");
}

/// Opens with its parity, reads all, and gives what the trail has: DM_EVENT and VT_FEC.
fn corrected(bench: &Bench, image: &Image, options: &[&str]) -> (Vec<String>, Vec<String>) {
    let device = bench.open("v", image, options);
    assert!(fs::read(&device).unwrap() == golden("vdata-64x4k.img"));
    let device = direct(&device);
    assert!(
        read_once(&device, 40_960, BLOCK).unwrap() == golden("vdata-64x4k.img")[40_960..45_056]
    );
    drop(device);
    bench.close("v");
    (bench.violations(), bench.bodies("VT_FEC"))
}

#[test]
fn what_can_be_corrected_is_no_violation() {
    let test = "what_can_be_corrected_is_no_violation";
    let fec2 = ["--fec-device", "fec", "--fec-roots", "2"];
    let fec24 = ["--fec-device", "fec", "--fec-roots", "24"];
    let cases: [(&str, &str, &str, &[&str], Bad); 3] = [
        ("v-fec2.hash", "v-fec2.fec", FEC, &fec2, TEN),
        ("v-onefec.img", "v-fec2.fec", ONEFEC, &ONEFEC_OPTIONS, TEN),
        ("v-fec24.hash", "v-fec24.fec", FEC, &fec24, Bad::Hash(4200)),
    ];
    for (hash, fec, root, options, bad) in cases {
        let Some(bench) = Bench::new(test) else { return };
        let mut image = bench.golden(hash, root);
        bench.write("fec", &golden(fec));
        if hash == "v-onefec.img" {
            image.data = "hash".into();
        }
        let said = match bad {
            Bad::Data(at) => {
                bench.corrupt(&image.data, at);
                "role=data"
            }
            Bad::Hash(at) => {
                bench.corrupt("hash", at);
                "role=hash"
            }
        };
        let (violations, fec) = corrected(&bench, &image, options);
        assert_eq!(violations, Vec::<String>::new(), "{hash}");
        assert!(!fec.is_empty(), "{hash}");
        for record in fec {
            assert!(record.contains(said) && record.contains(" result=corrected "), "{record}");
        }
    }
}

/// A corrected data block does not make a device corrupted, as with the kernel.
#[test]
fn a_corrected_device_stays_verified() {
    let Some(bench) = Bench::new("a_corrected_device_stays_verified") else { return };
    let image = bench.golden("v-fec2.hash", FEC);
    bench.write("fec", &golden("v-fec2.fec"));
    bench.corrupt("data", 40_977);
    let device = bench.open("v", &image, &["--fec-device", "fec", "--fec-roots", "2"]);
    assert_eq!(refused(&device, BLOCK, &golden("vdata-64x4k.img")), Vec::<u64>::new());
    let status = bench.status("v");
    assert_eq!((&status["corrupted"], &status["counts"]["corrected"]), (&false.into(), &1.into()));
    bench.close("v");
}

#[test]
fn what_cannot_be_corrected_is_refused() {
    let Some(bench) = Bench::new("what_cannot_be_corrected_is_refused") else { return };
    let image = bench.golden("v-fec2.hash", FEC);
    bench.write("fec", &golden("v-fec2.fec"));
    let mut data = golden("vdata-64x4k.img");
    data[40_960..57_344].copy_from_slice(&noise(4 * BLOCK));
    bench.write("data", &data);
    let device = bench.open("v", &image, &["--fec-device", "fec", "--fec-roots", "2"]);
    assert_eq!(refused(&device, BLOCK, &golden("vdata-64x4k.img")), [10, 11, 12, 13]);
    assert_eq!(bench.status("v")["corrupted"], true);
    bench.close("v");
    let expected = ["verify-data 10", "verify-data 11", "verify-data 12", "verify-data 13"];
    assert_eq!(bench.violations(), expected);
}

/// One event: a constructor that failed, and the destructor behind it.
fn failed_opening(bench: &Bench, words: &str) {
    let events = bench.events();
    let [event] = &events[..] else { panic!("{events:?}") };
    let [ctr, dtr] = &event.records[..] else { panic!("{event:?}") };
    assert!(ctr.starts_with("DM_CTRL module=verity op=ctr "), "{ctr}");
    assert!(ctr.ends_with(&format!(" error_msg='{words}' res=0")), "{ctr}");
    assert!(dtr.starts_with("DM_CTRL module=verity op=dtr "), "{dtr}");
    assert!(dtr.ends_with(" error_msg='success' res=1"), "{dtr}");
    assert_eq!(bench.left(), Vec::<String>::new());
}

#[test]
fn a_root_hash_of_another_length_opens_nothing() {
    let Some(bench) = Bench::new("a_root_hash_of_another_length_opens_nothing") else { return };
    let image = bench.golden("v-sha256.hash", &SHA256[2..]);
    let ran = bench.try_open("v", &image, &[]);
    assert_eq!((ran.status, ran.out.as_str()), (5, ""), "{}", ran.err);
    assert!(ran.err.contains("the root hash has 31 bytes, sha256 has 32"), "{}", ran.err);
    failed_opening(&bench, "Invalid root digest");
}

#[test]
fn a_signature_opens_with_its_certificate_only() {
    let Some(bench) = Bench::new("a_signature_opens_with_its_certificate_only") else { return };
    let image = bench.golden("v-sha256.hash", SHA256);
    bench.write("signature", &golden("v-sha256.p7s"));
    fs::create_dir(bench.path("nobody")).unwrap();
    let signed = ["--root-hash-signature", "signature", "--keyring"];
    let ran = bench.try_open("v", &image, &[&signed[..], &["nobody"]].concat());
    assert_eq!((ran.status, ran.out.as_str()), (1, ""), "{}", ran.err);
    failed_opening(&bench, "Root hash verification failed");

    fs::create_dir(bench.path("trusted")).unwrap();
    bench.write("trusted/test.pem", &golden("v-sha256.p7s.cert.pem"));
    let device = bench.open("v", &image, &[&signed[..], &["trusted"]].concat());
    assert!(fs::read(device).unwrap() == golden("vdata-64x4k.img"));
    let ran = bench.verity(&["status", "v"]);
    assert!(ran.out.contains("\n  status:      verified (with signature)\n"), "{}", ran.out);
    assert!(ran.out.contains("\n  signed by:   "), "{}", ran.out);
    bench.close("v");
}
