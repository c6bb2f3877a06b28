//! Appending, reading, verifying, proving.

use record::units::LeafIndex;
use tempfile::TempDir;
use trail::{
    Appended, Class, Disk, Entry, Error, Field, KeyTrust, Lines, Origin, Own, Proof, PublicKey,
    Reader, Recovered, Verdict, VerifyOptions, Writer, check_proof, create, layout, prove, verify,
};

use crate::kit::{BOOT, append, at, line};

fn new() -> (TempDir, Disk, PublicKey) {
    let directory = TempDir::new().unwrap();
    let disk = Disk::new(directory.path().join("trail"));
    let key = create(&disk, "web 1").unwrap();
    (directory, disk, key)
}

fn leaves(disk: &Disk, from: u64) -> Vec<String> {
    let mut reader = Reader::open(disk.clone(), LeafIndex(from)).unwrap();
    let mut leaves = Vec::new();
    while let Some(leaf) = reader.next().unwrap() {
        assert_eq!(leaf.index.0, from + leaves.len() as u64);
        leaves.push(String::from_utf8(leaf.bytes.to_vec()).unwrap());
    }
    leaves
}

#[test]
fn what_is_appended_is_read_verified_and_proved() {
    let (_directory, disk, key) = new();
    assert!(key.name().starts_with("web-1/") && key.name().len() == 6 + 32);
    let (mut writer, recovered) = Writer::open(disk.clone(), BOOT, at(1)).unwrap();
    assert_eq!(recovered, Recovered { closed: true, unsigned: 0, torn: None });
    for n in 0..700 {
        assert_eq!(append(&mut writer, "a", n, at(1)).unwrap(), Appended::New(LeafIndex(n)));
    }
    assert_eq!(append(&mut writer, "a", 699, at(1)).unwrap(), Appended::Known);
    assert_eq!((writer.durable().0, writer.next_leaf().0, writer.seen("a")), (0, 700, Some(700)));
    assert_eq!(writer.sync().unwrap().0, 700);
    assert_eq!(writer.checkpoint(at(1)).unwrap(), None);
    assert!(matches!(
        verify(&disk, &VerifyOptions::default()).unwrap(),
        Verdict::Good(report) if (report.checkpoint.size, report.unsigned, report.torn)
            == (0, 700, 0) && report.key == KeyTrust::SelfConsistent
    ));
    let signed = writer.checkpoint(at(2)).unwrap().unwrap().to_owned();
    assert_eq!(writer.close(at(3)).unwrap(), signed);

    let expected: Vec<String> = (0..700)
        .map(|n| {
            let text = line(n);
            let text = text.trim_end();
            format!("{text}\u{1d}VT_LEAF={n} VT_SRC=import VT_SEQ=a:{}\n", n + 1)
        })
        .collect();
    assert_eq!(leaves(&disk, 0), expected);
    assert_eq!(leaves(&disk, 300), expected[300..]);
    assert_eq!(leaves(&disk, 700), [""; 0]);

    let options = VerifyOptions {
        public_key: Some(key.clone()),
        anchors: vec![signed.clone()],
        ..VerifyOptions::default()
    };
    let Verdict::Good(report) = verify(&disk, &options).unwrap() else { panic!() };
    assert_eq!((report.checkpoint.size, report.unsigned, report.torn), (700, 0, 0));
    assert_eq!((report.key, report.anchors), (KeyTrust::Proven, 1));

    for index in [0, 1, 255, 256, 511, 512, 699] {
        let bundle = prove(&disk, LeafIndex(index)).unwrap();
        let Proof::Good(proven) = check_proof(&bundle, &key).unwrap() else { panic!("{index}") };
        assert_eq!(proven.index.0, index);
        assert_eq!(proven.leaf, expected[usize::try_from(index).unwrap()].as_bytes());
        assert_eq!(proven.checkpoint, report.checkpoint);
    }
    assert!(matches!(prove(&disk, LeafIndex(700)), Err(Error::NoLeaf { index: 700, size: 700 })));
    assert!(matches!(create(&disk, "x"), Err(Error::Exists(id)) if id == key.name()));
}

#[test]
fn segments_rotate_and_a_trail_goes_on_after_closing() {
    let (directory, disk, key) = new();
    let mut next = 0;
    let mut older = Vec::new();
    for round in 0..5 {
        let (mut writer, recovered) = Writer::open(disk.clone(), BOOT, at(round)).unwrap();
        assert_eq!(recovered, Recovered { closed: true, unsigned: 0, torn: None });
        assert_eq!(writer.seen("a"), (next > 0).then_some(next));
        writer.limit_segments(20_000);
        for _ in 0..333 {
            append(&mut writer, "a", next, at(round)).unwrap();
            next += 1;
        }
        older.push(writer.close(at(round)).unwrap());
    }
    let mut names: Vec<String> = std::fs::read_dir(directory.path().join("trail/segments"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".log"))
        .collect();
    names.sort();
    let expected: Vec<String> = (0..7).map(|n| format!("{:020}.log", n * 256)).collect();
    assert_eq!(names, expected);
    let options =
        VerifyOptions { public_key: Some(key.clone()), anchors: older, ..VerifyOptions::default() };
    assert!(matches!(
        verify(&disk, &options).unwrap(),
        Verdict::Good(report) if report.checkpoint.size == 1665 && report.anchors == 5
    ));
    assert_eq!(leaves(&disk, 0).len(), 1665);
    assert_eq!(leaves(&disk, 600).len(), 1065);
    for index in (0..1665).step_by(97) {
        let bundle = prove(&disk, LeafIndex(index)).unwrap();
        assert!(matches!(check_proof(&bundle, &key).unwrap(), Proof::Good(_)));
    }
}

#[test]
fn an_event_that_is_too_long_goes_on_in_the_next_leaf() {
    let (_directory, disk, key) = new();
    let (mut writer, _) = Writer::open(disk.clone(), BOOT, at(1)).unwrap();
    // Lines of the greatest length, one of a mebibyte, one with a tail that lies.
    let mut lines: Vec<Vec<u8>> = (0..20)
        .map(|n| {
            let mut line = format!("type=EXECVE msg=audit(1.000:7): a{n}=").into_bytes();
            line.resize(8969, b'x');
            line.push(b'\n');
            line
        })
        .collect();
    lines.push([b"type=PATH msg=audit(1.000:7): ", &vec![b'y'; 1 << 20][..], b"\n"].concat());
    lines.push(b"type=CWD msg=audit(1.000:7): cwd=\"/\"\x1dVT_LEAF=3\n".to_vec());
    for _ in 0..12_000 {
        lines.push(b"type=PATH msg=audit(1.000:7): item=0\x1dOUID=\"root\"\n".to_vec());
    }
    let sources: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
    let entry = Entry {
        class: Class::Rest,
        ticket: None,
        lines: Lines::Foreign { origin: Origin::File, lines: &sources },
        tail: &[Field { name: "VT_SRC", value: "import" }],
    };
    assert_eq!(writer.append(&entry, at(1)).unwrap(), Appended::New(LeafIndex(0)));
    let leaves_of_it = writer.next_leaf().0;
    append(&mut writer, "a", 0, at(1)).unwrap();
    writer.close(at(1)).unwrap();
    let Verdict::Good(report) = verify(&disk, &VerifyOptions::default()).unwrap() else { panic!() };
    assert_eq!(report.checkpoint.size, leaves_of_it + 1);

    let mut reader = Reader::open(disk.clone(), LeafIndex(0)).unwrap();
    let mut restorer = record::stored::Restorer::default();
    let mut restored = Vec::new();
    for n in 0..leaves_of_it {
        let leaf = reader.next().unwrap().unwrap();
        assert!(leaf.bytes.len() <= 65_535 && leaf.more == (n + 1 < leaves_of_it));
        for line in leaf.bytes.split_inclusive(|&b| b == b'\n') {
            assert!(line.len() <= 8970);
            restorer.push(&line[..line.len() - 1], &mut restored).unwrap();
        }
    }
    restorer.finish().unwrap();
    assert!(restored == lines.concat());
    let bundle = prove(&disk, LeafIndex(1)).unwrap();
    assert!(matches!(check_proof(&bundle, &key).unwrap(), Proof::Good(_)));
}

#[test]
fn own_records_get_stamp_serial_and_tail() {
    let (_directory, disk, _key) = new();
    let (mut writer, _) = Writer::open(disk.clone(), BOOT, at(1)).unwrap();
    let own = |records| Entry {
        class: Class::Integrity,
        ticket: None,
        lines: Lines::Own(records),
        tail: &[Field { name: "VT_SRC", value: "engine" }],
    };
    let records =
        [Own { kind: "DM_EVENT", body: b"a=1" }, Own { kind: "VT_VIOLATION", body: b"b=2" }];
    writer.append(&own(&records), at(2)).unwrap();
    let kernel = [&b"type=BPF msg=audit(1.000:9): a=b"[..]];
    let entry = Entry {
        class: Class::Rest,
        ticket: None,
        lines: Lines::Foreign { origin: Origin::Netlink, lines: &kernel },
        tail: &[Field { name: "VT_SRC", value: "kernel" }],
    };
    writer.append(&entry, at(2)).unwrap();
    let bad = [
        own(&[]),
        own(&[Own { kind: "X", body: b"a\nb" }]),
        own(&[Own { kind: "X", body: b"a\x1dVT_LEAF=2" }]),
        own(&[Own { kind: "X", body: &[b'x'; 8960] }]),
        Entry { tail: &[Field { name: "VT_LEAF", value: "1" }], ..entry },
        Entry { tail: &[Field { name: "VT_SRC", value: "a b" }], ..entry },
        Entry { tail: &[Field { name: "NAME", value: "a" }], ..entry },
    ];
    for entry in bad {
        assert!(matches!(writer.append(&entry, at(2)), Err(Error::Entry(_))), "{entry:?}");
    }
    writer.append(&entry, at(2)).unwrap();
    writer.close(at(3)).unwrap();
    let expected = [
        format!(
            "type=DM_EVENT msg=audit(1700000002.000:2147483649): a=1\n\
             type=VT_VIOLATION msg=audit(1700000002.000:2147483649): b=2\u{1d}VT_LEAF=0 \
             VT_BT=2000000000 VT_BOOT={BOOT} VT_SRC=engine\n"
        ),
        "type=BPF msg=audit(1.000:9): a=b\u{1d}VT_LEAF=1 VT_SRC=kernel\n".to_owned(),
        "type=BPF msg=audit(1.000:9): a=b\u{1d}VT_LEAF=2 VT_SRC=kernel\n".to_owned(),
    ];
    assert_eq!(leaves(&disk, 0), expected);
}

#[test]
fn a_reader_follows_a_writer_over_segments_and_recoveries() {
    let (_directory, disk, _key) = new();
    let (mut writer, _) = Writer::open(disk.clone(), BOOT, at(1)).unwrap();
    writer.limit_segments(5_000);
    let mut reader = Reader::open(disk.clone(), LeafIndex(5)).unwrap();
    let mut seen = 5;
    for n in 0..600 {
        append(&mut writer, "a", n, at(1)).unwrap();
        if n % 7 == 0 {
            writer.sync().unwrap();
            while let Some(leaf) = reader.next().unwrap() {
                assert_eq!(leaf.index.0, seen);
                seen += 1;
            }
            assert_eq!(seen, (n + 1).max(5));
        }
    }
    // The writer ends without closing; half a leaf is behind the last.
    writer.sync().unwrap();
    drop(writer);
    let last = disk.root().join(layout::segment(LeafIndex(512)));
    let mut bytes = std::fs::read(&last).unwrap();
    let whole = bytes.len();
    bytes.extend_from_slice(b"type=USER_LOGIN msg=aud");
    std::fs::write(&last, bytes).unwrap();
    while let Some(leaf) = reader.next().unwrap() {
        assert_eq!(leaf.index.0, seen);
        seen += 1;
    }
    assert_eq!(seen, 600);
    let Verdict::Good(report) = verify(&disk, &VerifyOptions::default()).unwrap() else { panic!() };
    assert_eq!((report.checkpoint.size, report.unsigned, report.torn), (0, 600, 23));

    let (mut writer, recovered) = Writer::open(disk.clone(), BOOT, at(9)).unwrap();
    let torn = layout::torn(whole as u64, 0);
    assert_eq!(std::fs::read(disk.root().join(&torn)).unwrap(), b"type=USER_LOGIN msg=aud");
    assert_eq!(recovered, Recovered { closed: false, unsigned: 600, torn: Some((23, torn)) });
    assert_eq!(writer.seen("a"), Some(600));
    append(&mut writer, "a", 5000, at(9)).unwrap();
    writer.sync().unwrap();
    let recover = String::from_utf8(reader.next().unwrap().unwrap().bytes.to_vec()).unwrap();
    let expected = format!(
        "type=VT_RECOVER msg=audit(1700000009.000:2147484249): op=torn-tail bytes=23 \
         sha256=fc25917df1911490d65536a21dffc440bf562735947af7c40710f170d02c0b44 \
         file=torn/{whole}-0\u{1d}VT_LEAF=600 VT_BT=9000000000 VT_BOOT={BOOT} VT_SRC=engine\n"
    );
    assert_eq!(recover, expected);
    let leaf = reader.next().unwrap().unwrap();
    assert!(leaf.bytes.starts_with(b"type=USER_LOGIN msg=audit(1700000000.000:5000)"));
    assert!(reader.next().unwrap().is_none());
    writer.close(at(9)).unwrap();
}
