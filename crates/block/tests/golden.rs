//! The golden dm-verity images (tests/golden/devices/README.md): what the stock tools made, and
//! the records that the Debian 6.12 kernel gave for each fault.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;

use block::access::{Memory, WriteAt};
use block::fec::{Area, Corrector};
use block::verity::{
    Blocks, Device, Digest, Fault, Finding, HashArea, Health, Layout, Notice, Params, Policy,
    ReadError, Salt, Superblock, Volume, Watch, format,
};
use record::place::DeviceId;
use record::units::DataBlock;
use uuid::Uuid;

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/devices").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Hash file, data file, root hash.
const IMAGES: &[(&str, &str, &str)] = &[
    (
        "v-sha256.hash",
        "vdata-64x4k.img",
        "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15",
    ),
    (
        "v-nosalt.hash",
        "vdata-64x4k.img",
        "07d905d8fcaa7ebade256623ee5f6499600e94d5a7ed241d77172fc156edadb3",
    ),
    ("v-sha1-t0.hash", "vdata-64x4k.img", "d48390c62074ad16085bf641e861938efa17581f"),
    ("v-sha1-t1.hash", "vdata-64x4k.img", "f3f99771c193298ca97b7eedd2c592b1b0241a25"),
    (
        "v-sha512-1k512.hash",
        "vdata-64x4k.img",
        "9580272a638395a09352a7fc441a9bafbc1007a1d739e3a3760cc9d6048c2536d8226e2466b271f9711ee5b28de12b3a00672013408dc4f072006f64f29db902",
    ),
    (
        "v-sha256-d512-h1k.hash",
        "vdata-64x4k.img",
        "90655735a0ef747bba6ef06a02af374403325dc27593b7ef8156e105fc192777",
    ),
    (
        "v-nosb.hash",
        "vdata-64x4k.img",
        "d4d1d6840f838e03c624471254b8e013d2719cea4f945b5167607abd8347845e",
    ),
    (
        "v-fec2.hash",
        "vdata-64x4k.img",
        "2453c8dd3cd6a45a9516eccb147fa3028cb4e18ec21790192757032091b33dd2",
    ),
    (
        "v-fec24.hash",
        "vdata-64x4k.img",
        "2453c8dd3cd6a45a9516eccb147fa3028cb4e18ec21790192757032091b33dd2",
    ),
    (
        "v-fec13-1k.hash",
        "vdata-64x4k.img",
        "982823c77c5360d77b63b09a22b8cafee795db6a1e2efcf0d2b9fdb64f7c28e1",
    ),
    (
        "v-onefec.img",
        "v-onefec.img",
        "0ffc2545049274c0a372a0e0e78237a13d025dcac18a264e49a48f3971a097cb",
    ),
    (
        "v-1block.hash",
        "vdata-1x4k.img",
        "4e6969b4c74546b927ba18f467396946ab3fd095c56317a43e1697db388c2053",
    ),
];

struct Image {
    data: Vec<u8>,
    hash: Vec<u8>,
    params: Params,
    uuid: Uuid,
    area: HashArea,
    root: Digest,
}

fn image(name: &str) -> Image {
    let (hash_file, data_file, root) = IMAGES.iter().find(|image| image.0 == name).unwrap();
    let hash = golden(hash_file);
    let area = match name {
        "v-nosb.hash" => HashArea { offset: 0, superblock: false },
        "v-onefec.img" => HashArea { offset: 262_144, superblock: true },
        _ => HashArea::default(),
    };
    let (uuid, params) = if area.superblock {
        let offset = usize::try_from(area.offset).unwrap();
        let superblock = Superblock::read(&hash[offset..]).unwrap();
        (superblock.uuid, superblock.params)
    } else {
        // As the README gives them: sha256, 4096/4096.
        let like = Superblock::read(&golden("v-sha256.hash")).unwrap().params;
        (Uuid::nil(), Params { salt: Salt::parse("1234").unwrap(), ..like })
    };
    Image { data: golden(data_file), hash, params, uuid, area, root: Digest::parse(root).unwrap() }
}

impl Image {
    fn volume(&self) -> Volume<&[u8], &[u8]> {
        Volume::open(&self.data[..], &self.hash[..], &self.params, self.area, &self.root).unwrap()
    }

    fn findings(&self) -> Vec<Finding> {
        let mut list = List::default();
        self.volume().verify(NonZeroUsize::new(2).unwrap(), &mut list);
        list.0
    }
}

#[derive(Default)]
struct List(Vec<Finding>);

impl Watch for List {
    fn found(&mut self, finding: &Finding) -> ControlFlow<()> {
        self.0.push(finding.clone());
        ControlFlow::Continue(())
    }
}

#[test]
fn every_golden_image_verifies() {
    for (name, ..) in IMAGES {
        let image = image(name);
        let mut list = List::default();
        let summary = image.volume().verify(NonZeroUsize::new(3).unwrap(), &mut list);
        assert_eq!((list.0, summary.good), (vec![], image.params.data_blocks), "{name}");
    }
}

#[test]
fn formatting_again_gives_the_stock_tools_bytes_and_root() {
    for (name, ..) in IMAGES {
        let image = image(name);
        let layout = Layout::new(&image.params, image.area).unwrap();
        let hash = Memory::default();
        let root = format(
            &image.data,
            &hash,
            &image.params,
            &layout,
            image.uuid,
            NonZeroUsize::new(2).unwrap(),
            &mut |_| {},
        )
        .unwrap();
        assert_eq!(root, image.root, "{name}");
        let area = layout.hash_bytes();
        let area = usize::try_from(area.start).unwrap()..usize::try_from(area.end).unwrap();
        assert_eq!(hash.into_bytes()[area.clone()], image.hash[area], "{name}");
    }
}

/// Overwrites 8 bytes as the README's faults do.
fn corrupt(bytes: &mut [u8], at: usize) {
    bytes[at..at + 8].copy_from_slice(b"CORRUPT!");
}

fn corrupt_sector(bytes: &mut [u8], sector: usize) {
    corrupt(bytes, sector * 512 + 17);
}

/// Requests of `step` bytes over `range`, each answered or refused; the record bodies in order.
fn records(image: &Image, requests: impl IntoIterator<Item = (u64, usize)>) -> Vec<String> {
    let device = Device::new(image.volume());
    let size = image.params.data_block_size;
    let mut records = Vec::new();
    for (offset, count) in requests {
        let mut buf = vec![0; count];
        match device.read(DataBlock(size.whole_blocks(offset)), &mut buf, &mut |_| {}) {
            Ok(()) => {
                let at = usize::try_from(offset).unwrap();
                assert_eq!(buf, image.data[at..at + count]);
            }
            Err(ReadError::Refused(refused)) => {
                let violations = refused.violations(DeviceId::Unserved, DeviceId::Unserved);
                records.extend(violations.map(|violation| violation.to_string()));
            }
            Err(error) => panic!("{error}"),
        }
    }
    records
}

fn whole(image: &Image, step: usize) -> Vec<(u64, usize)> {
    (0..image.data.len()).step_by(step).map(|at| (at as u64, step)).collect()
}

fn data(block: u64) -> String {
    format!("module=verity op=verify-data dev=0:0 sector={block} res=0")
}

fn metadata(block: u64) -> String {
    format!("module=verity op=verify-metadata dev=0:0 sector={block} res=0")
}

const SATURATED: &str = "module=verity op=max-corrupted-errors dev=0:0 sector=? res=0";

#[test]
fn the_kernels_records() {
    let mut v = image("v-sha256.hash");
    corrupt_sector(&mut v.data, 80);
    assert_eq!(records(&v, [(40_960, 4096)]), [data(10)]);

    // 103 reads: the hundredth is announced directly before its own record.
    let mut expected = vec![data(10); 99];
    expected.push(SATURATED.to_owned());
    expected.extend(vec![data(10); 4]);
    assert_eq!(records(&v, vec![(40_960, 4096); 103]), expected);

    corrupt_sector(&mut v.data, 96);
    assert_eq!(records(&v, [(0, 65_536)]), [data(10)]);
    assert_eq!(records(&v, whole(&v, 4096)), [data(10), data(12)]);

    let mut v = image("v-sha256.hash");
    corrupt(&mut v.hash, 4200);
    assert_eq!(records(&v, [(33 * 4096, 4096)]), [metadata(33)]);

    let mut v = image("v-sha512-1k512.hash");
    corrupt(&mut v.hash, 4000);
    assert_eq!(records(&v, whole(&v, 4096)), [metadata(8), metadata(12)]);

    for name in ["v-sha1-t0.hash", "v-sha1-t1.hash", "v-fec2.hash"] {
        let mut v = image(name);
        corrupt_sector(&mut v.data, 80);
        assert_eq!(records(&v, whole(&v, 4096)), [data(10)], "{name}");
    }

    let mut v = image("v-sha256-d512-h1k.hash");
    corrupt_sector(&mut v.data, 80);
    assert_eq!(records(&v, [(40_960, 512)]), [data(80)]);

    let mut v = image("v-1block.hash");
    v.data[7] ^= 1;
    assert_eq!(records(&v, [(0, 4096)]), [data(0)]);

    let mut v = image("v-sha256.hash");
    v.root = image("v-nosalt.hash").root;
    assert_eq!(records(&v, whole(&v, 4096))[0], metadata(0));
    assert_eq!(records(&v, whole(&v, 4096)).len(), 64);
}

#[test]
fn the_kernels_other_error_modes() {
    let ignore = Policy { ignore_corruption: true, ..Policy::default() };
    let zeros = Policy { ignore_zero_blocks: true, ..Policy::default() };
    let once = Policy { check_at_most_once: true, ..Policy::default() };
    let mut buf = vec![0; 4096];

    // The kernel writes no verify-data and one max-corrupted-errors; we are told of each.
    let mut v = image("v-sha256.hash");
    corrupt_sector(&mut v.data, 80);
    let device = Device::with_policy(v.volume(), ignore).unwrap();
    let mut passed = Vec::new();
    for _ in 0..104 {
        device.read(DataBlock(10), &mut buf, &mut |notice| passed.push(notice)).unwrap();
        assert_eq!(buf, v.data[40_960..45_056]);
    }
    let saturated: Vec<bool> = passed
        .iter()
        .map(|notice| match notice {
            Notice::Tolerated(refused) => {
                assert_eq!(
                    (refused.block, refused.finding.fault),
                    (DataBlock(10), Fault::Mismatch)
                );
                refused.saturated
            }
            notice => panic!("{notice:?}"),
        })
        .collect();
    assert_eq!(saturated, (1..=104).map(|number| number == 100).collect::<Vec<_>>());
    assert_eq!((device.health(), device.counts().mismatches), (Health::Saturated, 104));

    // Blocks 40 and 41 are zero; whatever stands there instead is not looked at.
    let mut v = image("v-sha256.hash");
    let whole = v.data.clone();
    v.data[40 * 4096..42 * 4096].fill(0x55);
    let device = Device::with_policy(v.volume(), zeros).unwrap();
    let mut all = vec![1; whole.len()];
    device.read(DataBlock(0), &mut all, &mut |notice| panic!("{notice:?}")).unwrap();
    assert!(all == whole);
    assert_eq!((device.health(), device.counts().unverified), (Health::Clean, 2));
    v.data[42 * 4096] ^= 1;
    let device = Device::with_policy(v.volume(), zeros).unwrap();
    assert!(device.read(DataBlock(40), &mut all[..3 * 4096], &mut |_| {}).is_err());

    let v = image("v-sha256.hash");
    let data = Memory::new(v.data.clone());
    let volume = Volume::open(&data, &v.hash[..], &v.params, v.area, &v.root).unwrap();
    let device = Device::with_policy(volume, once).unwrap();
    device.read(DataBlock(10), &mut buf, &mut |_| {}).unwrap();
    data.write_all_at(b"CORRUPT!", 80 * 512 + 17).unwrap();
    device.read(DataBlock(10), &mut buf, &mut |_| {}).unwrap();
    assert_eq!((&buf[17..25], device.health()), (&b"CORRUPT!"[..], Health::Clean));
}

#[test]
fn a_root_hash_of_wrong_length_is_refused() {
    let v = image("v-sha256.hash");
    let root = Digest::parse("a8f55e").unwrap();
    let error = Volume::open(&v.data[..], &v.hash[..], &v.params, v.area, &root).unwrap_err();
    let block::verity::OpenError::Params(error) = error else { panic!("{error}") };
    assert_eq!(error.to_string(), "the root hash has 3 bytes, sha256 has 32");
}

#[test]
fn a_whole_image_is_judged_past_its_first_bad_block() {
    let mut v = image("v-sha512-1k512.hash");
    for sector in [0, 3, 5, 500] {
        corrupt_sector(&mut v.data, sector);
    }
    corrupt(&mut v.hash, 4000);
    let blocks = |start, end| DataBlock(start)..DataBlock(end);
    let found: Vec<_> = v.findings().iter().map(|f| (f.fault, f.data_blocks())).collect();
    assert_eq!(
        found,
        [
            (Fault::Mismatch, blocks(0, 3)),
            (Fault::Mismatch, blocks(8, 16)),
            (Fault::Mismatch, blocks(250, 251)),
        ]
    );
    let layout = Layout::new(&v.params, v.area).unwrap();
    let places: Vec<_> = v.findings().iter().map(|f| f.place(&layout).to_string()).collect();
    assert_eq!(
        places,
        [
            "role=data unit=1024 fault=mismatch blocks=0-2 bytes=0-3071",
            "role=hash unit=512 fault=mismatch level=0 blocks=7-7 bytes=3584-4095 covers=8-15",
            "role=data unit=1024 fault=mismatch blocks=250-250 bytes=256000-257023",
        ]
    );
}

#[test]
fn a_file_that_ends_early_gives_violations_and_never_a_crash() {
    for end in [0, 1, 1023, 1024, 262_143] {
        let mut v = image("v-sha512-1k512.hash");
        v.data.truncate(end);
        let whole = (end / 1024) as u64;
        assert_eq!(
            v.findings(),
            [Finding {
                fault: Fault::Missing,
                blocks: Blocks::Data(DataBlock(whole)..DataBlock(256))
            }]
        );
    }
}

/// FEC file, roots, offset in it, of an image; what is covered ends with the hash file, or where
/// the FEC area begins in it.
fn corrector<'a>(name: &str, image: &Image, fec: &'a [u8]) -> Corrector<&'a [u8]> {
    let (roots, offset) = match name {
        "v-fec2.hash" => (2, 0),
        "v-fec24.hash" => (24, 0),
        "v-fec13-1k.hash" => (13, 0),
        _ => (8, 270_336),
    };
    let layout = Layout::new(&image.params, image.area).unwrap();
    let end = if offset > 0 { offset } else { image.hash.len() as u64 };
    Corrector::new(Area::new(&layout, roots, offset, end).unwrap(), fec)
}

fn fec_file(name: &str, image: &Image) -> Vec<u8> {
    if name == "v-onefec.img" { image.hash.clone() } else { golden(&name.replace(".hash", ".fec")) }
}

/// Reads all of it in requests of `step` bytes: notices, then the records of what was refused.
fn corrected(name: &str, image: &Image, step: usize) -> (Vec<Notice>, Vec<String>, Health) {
    let fec = fec_file(name, image);
    let device = Device::new(image.volume()).with_correction(corrector(name, image, &fec));
    let right = if name == "v-onefec.img" { golden(name) } else { golden("vdata-64x4k.img") };
    let (mut notices, mut records) = (Vec::new(), Vec::new());
    for at in (0..64 * 4096).step_by(step) {
        let mut buf = vec![0; step];
        let block = DataBlock(image.params.data_block_size.whole_blocks(at as u64));
        match device.read(block, &mut buf, &mut |notice| notices.push(notice)) {
            Ok(()) => assert!(buf == right[at..at + step], "{name}, byte {at}"),
            Err(ReadError::Refused(refused)) => {
                let violations = refused.violations(DeviceId::Unserved, DeviceId::Unserved);
                records.extend(violations.map(|violation| violation.to_string()));
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(device.counts().corrected, notices.len() as u64);
    assert_eq!(device.counts().mismatches, records.len() as u64);
    (notices, records, device.health())
}

fn random(bytes: &mut [u8]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for byte in bytes {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        *byte = state.to_be_bytes()[0];
    }
}

#[test]
fn what_can_be_corrected_is_no_violation() {
    for name in ["v-fec2.hash", "v-fec24.hash", "v-onefec.img"] {
        let mut v = image(name);
        corrupt_sector(&mut v.data, 80);
        let blocks = Blocks::Data(DataBlock(10)..DataBlock(11));
        let finding = Finding { fault: Fault::Mismatch, blocks };
        let due = Notice::Corrected { block: DataBlock(10), finding, errors: 8 };
        assert_eq!(corrected(name, &v, 4096), (vec![due], vec![], Health::Clean), "{name}");
    }
    let mut v = image("v-fec13-1k.hash");
    corrupt_sector(&mut v.data, 80);
    assert_eq!(corrected("v-fec13-1k.hash", &v, 65_536).2, Health::Clean);

    // Four blocks are beyond two roots, whether they stand in one request or in four.
    let mut v = image("v-fec2.hash");
    random(&mut v.data[10 * 4096..14 * 4096]);
    let (notices, records, health) = corrected("v-fec2.hash", &v, 4096);
    assert_eq!((notices, records), (vec![], (10..14).map(data).collect()));
    assert_eq!(health, Health::Corrupted { mismatches: 4 });
    assert_eq!(corrected("v-fec2.hash", &v, 65_536).1, [data(10)]);

    // The roots reach for as many blocks as there are, because the tree tells which are bad.
    for (bad, refused) in [(24, 0), (25, 25)] {
        let mut v = image("v-fec24.hash");
        random(&mut v.data[10 * 4096..(10 + bad) * 4096]);
        let (notices, records, _) = corrected("v-fec24.hash", &v, 4096);
        assert_eq!((notices.len(), records.len()), (bad - refused, refused));
    }
    let mut v = image("v-fec24.hash");
    v.data.truncate(40 * 4096 + 1);
    let (notices, records, health) = corrected("v-fec24.hash", &v, 4096);
    assert_eq!((notices.len(), records.len(), health), (24, 0, Health::Clean));
}

/// The kernel looks the other blocks of the codewords up through the very hash block it corrects,
/// and audits each failure: 64 records of one read. We correct first, and tell once.
#[test]
fn a_hash_block_is_corrected_first_and_told_of_once() {
    for (name, at) in [("v-fec24.hash", 4200), ("v-fec2.hash", 4200), ("v-onefec.img", 266_300)] {
        let mut v = image(name);
        corrupt(&mut v.hash, at);
        if name == "v-onefec.img" {
            v.data.clone_from(&v.hash);
        }
        for step in [4096, 65_536, 262_144] {
            let (notices, records, health) = corrected(name, &v, step);
            let [Notice::Corrected { block, finding, errors }] = &notices[..] else {
                panic!("{name}: {notices:?}")
            };
            assert_eq!((block.0, *errors), (0, 8));
            let Blocks::Hash { level: 0, covers, .. } = &finding.blocks else {
                panic!("{finding:?}")
            };
            assert_eq!(*covers, DataBlock(0)..DataBlock(64));
            assert_eq!((records, health), (vec![], Health::Clean), "{name}");
        }
    }
    // Together with bad data blocks, which then are known by the block that was put right.
    let mut v = image("v-fec24.hash");
    corrupt(&mut v.hash, 4200);
    random(&mut v.data[20 * 4096..31 * 4096]);
    let (notices, records, health) = corrected("v-fec24.hash", &v, 4096);
    assert_eq!((notices.len(), records.len(), health), (12, 0, Health::Clean));
    // Beyond what can be done for the hash block, its fault is told as without correction.
    random(&mut v.data[20 * 4096..40 * 4096]);
    let (notices, records, _) = corrected("v-fec24.hash", &v, 65_536);
    assert_eq!((notices, records), (vec![], [0, 16, 32, 48].map(metadata).to_vec()));
}
