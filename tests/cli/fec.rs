//! Error correction on the command line: `verity verify`, `repair` and `cat` with `--fec-device`.

use std::fs;

use crate::verity::{Image, golden};

const ROOT: &str = "2453c8dd3cd6a45a9516eccb147fa3028cb4e18ec21790192757032091b33dd2";
const ROOT_ONE: &str = "0ffc2545049274c0a372a0e0e78237a13d025dcac18a264e49a48f3971a097cb";

fn image(hash: &str, fec: &str) -> Image {
    let image = Image::new(hash);
    image.write("root.fec", &golden(fec));
    image
}

fn records(image: &Image, kind: &str) -> Vec<String> {
    let mut found = Vec::new();
    for segment in fs::read_dir(image.path("trail/segments")).unwrap() {
        let bytes = fs::read(segment.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let prefix = format!("type={kind} ");
        found.extend(text.lines().filter(|line| line.starts_with(&prefix)).map(|line| {
            let body = line.split_once("): ").unwrap().1;
            body.split('\u{1d}').next().unwrap().to_owned()
        }));
    }
    found
}

#[test]
fn what_can_be_repaired_is_told_apart_and_recorded() {
    let image = image("v-fec2.hash", "v-fec2.fec");
    image.corrupt("root.img", 40_977);
    image.corrupt("root.hash", 4200);
    let verify = ["verify", "root.img", "root.hash", ROOT, "--fec-device", "root.fec"];
    let (status, out, err) = image.run(&verify);
    assert_eq!(
        (status, out.as_str(), err.as_str()),
        (
            0,
            "hash block 1 of level 0 does not match: bytes 4096-8191 of root.hash; 8 bytes repairable\n\
             data block 10 does not match: bytes 40960-45055 of root.img; 8 bytes repairable\n\
             63 data blocks good, 1 repairable, 1 hash blocks repairable\n",
            ""
        )
    );
    let (status, out, _) = image.run(&[&verify[..], &["--json", "--trail", "trail"]].concat());
    assert_eq!(status, 0);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["verdict"], "repairable");
    assert_eq!(json["summary"]["repairable"], 1);
    assert_eq!(json["summary"]["repairable_hash_blocks"], 1);
    assert_eq!(json["findings"][1]["errors"], 8);
    assert_eq!(json["findings"][1]["result"], "repairable");
    let file = |name: &str| image.path(name).canonicalize().unwrap().display().to_string();
    assert_eq!(
        records(&image, "VT_FEC"),
        [
            format!(
                "role=hash unit=4096 fault=mismatch level=0 blocks=1-1 bytes=4096-8191 covers=0-63 \
                 errors=8 result=repairable file=\"{}\"",
                file("root.hash")
            ),
            format!(
                "role=data unit=4096 fault=mismatch blocks=10-10 bytes=40960-45055 \
                 errors=8 result=repairable file=\"{}\"",
                file("root.img")
            ),
        ]
    );
    assert_eq!(records(&image, "DM_EVENT"), [""; 0]);
}

#[test]
fn beyond_repair_is_a_violation_as_without() {
    let image = image("v-fec2.hash", "v-fec2.fec");
    let mut data = golden("vdata-64x4k.img");
    data[10 * 4096..14 * 4096].iter_mut().for_each(|byte| *byte ^= 0x77);
    image.write("root.img", &data);
    let command = |verb| {
        [verb, "root.img", "root.hash", ROOT, "--fec-device", "root.fec", "--trail", "trail"]
    };
    let (status, out, _) = image.run(&command("verify"));
    assert_eq!(status, 1);
    assert_eq!(
        out,
        "data blocks 10-13 do not match: bytes 40960-57343 of root.img\n\
         60 data blocks good, 4 do not match\n"
    );
    assert_eq!(records(&image, "DM_EVENT").len(), 4);
    assert_eq!(records(&image, "VT_FEC"), [""; 0]);
    // Nothing is written where nothing is proven.
    assert_eq!(image.run(&command("repair")).0, 1);
    assert!(fs::read(image.path("root.img")).unwrap() == data);
    // Twelve times the parity bears it.
    image.write("root.fec", &golden("v-fec24.fec"));
    let repair = [&command("repair")[..], &["--fec-roots", "24"]].concat();
    let (status, out, err) = image.run(&repair);
    assert_eq!(status, 0, "{out}{err}");
    assert!(out.ends_with("64 data blocks good, 4 repaired\n"), "{out}");
    assert!(fs::read(image.path("root.img")).unwrap() == golden("vdata-64x4k.img"));
    assert_eq!(records(&image, "VT_FEC").len(), 4);
}

#[test]
fn repair_writes_only_when_asked_and_then_all() {
    let image = image("v-fec13-1k.hash", "v-fec13-1k.fec");
    let root = "982823c77c5360d77b63b09a22b8cafee795db6a1e2efcf0d2b9fdb64f7c28e1";
    for at in [0, 100_000, 262_136] {
        image.corrupt("root.img", at);
    }
    // The top of the tree, and a block below it.
    image.corrupt("root.hash", 1100);
    image.corrupt("root.hash", 5000);
    let before = fs::read(image.path("root.img")).unwrap();
    let repair = |more: &[&str]| {
        let all = ["repair", "root.img", "root.hash", root, "--fec-device", "root.fec"];
        image.run(&[&all[..], &["--fec-roots", "13"], more].concat())
    };
    let (status, out, err) = repair(&["--dry-run"]);
    assert_eq!(status, 0, "{out}{err}");
    assert!(
        out.ends_with("253 data blocks good, 3 repairable, 2 hash blocks repairable\n"),
        "{out}"
    );
    assert!(fs::read(image.path("root.img")).unwrap() == before);
    let (status, out, err) = repair(&["--json"]);
    assert_eq!(status, 0, "{out}{err}");
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["verdict"], "repaired");
    assert_eq!(json["summary"]["good"], 256);
    assert_eq!(json["summary"]["repaired"], 3);
    assert_eq!(json["summary"]["repaired_hash_blocks"], 2);
    assert_eq!(json["findings"].as_array().unwrap().len(), 5);
    assert!(fs::read(image.path("root.img")).unwrap() == golden("vdata-64x4k.img"));
    assert!(fs::read(image.path("root.hash")).unwrap() == golden("v-fec13-1k.hash"));
    // A good image is left alone, in silence.
    assert_eq!(repair(&[]), (0, String::new(), String::new()));
}

#[test]
fn one_block_repaired_lets_another_be() {
    let image = Image::new("v-onefec.img");
    let good = golden("v-onefec.img");
    let mut bad = good.clone();
    // Five blocks are wrong in the same codewords, one more than can be found; with four others
    // that are known to be bad they are one more than can be erased.
    for block in 1..=5 {
        bad[block * 4096..][..16].fill(0x3c);
    }
    for block in 6..=9 {
        bad[block * 4096 + block * 100..][..50].fill(0x3c);
    }
    image.write("root.img", &bad);
    let with_fec = |verb| {
        let operands = [verb, "root.img", "root.img", ROOT_ONE, "--hash-offset", "262144"];
        let fec = ["--fec-device", "root.img", "--fec-offset", "270336", "--fec-roots", "8"];
        image.run(&[&operands[..], &fec[..]].concat())
    };
    let (status, out, _) = with_fec("verify");
    assert_eq!(status, 1);
    assert!(out.ends_with("55 data blocks good, 5 do not match, 4 repairable\n"), "{out}");
    let (status, out, err) = with_fec("repair");
    assert_eq!(status, 0, "{out}{err}");
    assert!(out.ends_with("64 data blocks good, 9 repaired\n"), "{out}");
    assert!(fs::read(image.path("root.img")).unwrap() == good);
}

#[test]
fn a_file_cut_short_grows_back() {
    let image = image("v-fec24.hash", "v-fec24.fec");
    let good = golden("vdata-64x4k.img");
    image.write("root.img", &good[..45 * 4096 + 99]);
    let repair = ["repair", "root.img", "root.hash", ROOT, "--fec-device", "root.fec"];
    let (status, out, err) = image.run(&[&repair[..], &["--fec-roots", "24"]].concat());
    assert_eq!(status, 0, "{out}{err}");
    assert!(out.ends_with("64 data blocks good, 19 repaired\n"), "{out}");
    assert!(fs::read(image.path("root.img")).unwrap() == good);
}

#[test]
fn cat_delivers_corrected_data_and_writes_nothing_back() {
    let image = image("v-fec2.hash", "v-fec2.fec");
    image.corrupt("root.img", 40_977);
    let before = fs::read(image.path("root.img")).unwrap();
    let cat = ["cat", "root.img", "root.hash", ROOT, "--fec-device", "root.fec"];
    let output = image.output(&[&cat[..], &["--trail", "trail"]].concat());
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == golden("vdata-64x4k.img"));
    assert!(fs::read(image.path("root.img")).unwrap() == before);
    let records = records(&image, "VT_FEC");
    assert_eq!(records.len(), 1);
    assert!(records[0].contains(" blocks=10-10 ") && records[0].contains(" result=corrected "));
}

#[test]
fn parity_of_another_image_repairs_nothing_and_breaks_nothing() {
    let image = image("v-fec2.hash", "v-fec2.fec");
    image.corrupt("root.img", 40_977);
    let before = fs::read(image.path("root.img")).unwrap();
    let long: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0] ^ 0x5a).collect();
    for parity in [&[][..], b"short", &[0; 8192], &[0xff; 8191], &long] {
        image.write("other", parity);
        for roots in ["2", "3", "24"] {
            let repair = ["repair", "root.img", "root.hash", ROOT, "--fec-device", "other"];
            let (status, out, err) = image.run(&[&repair[..], &["--fec-roots", roots]].concat());
            assert_eq!(status, 1, "{out}{err}");
            assert!(fs::read(image.path("root.img")).unwrap() == before);
        }
    }
}
