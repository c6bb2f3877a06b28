//! What somebody else may have put into a trail's directory, and disks that are not ours alone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use record::units::LeafIndex;
use tempfile::TempDir;
use trail::{
    Appended, Class, Disk, Entry, Error, Field, Lines, Origin, Own, PublicKey, Reader, Store,
    Verdict, VerifyOptions, Writer, create, verify,
};

use crate::kit::{BOOT, append, at};
use crate::outage::Outage;

/// A closed trail of 300 events in two segments.
fn made() -> (TempDir, Disk, PublicKey) {
    let directory = TempDir::new().unwrap();
    let disk = Disk::new(directory.path().join("trail"));
    let key = create(&disk, "host").unwrap();
    let (mut writer, _) = Writer::open(disk.clone(), BOOT, at(1)).unwrap();
    writer.limit_segments(1);
    for n in 0..300 {
        append(&mut writer, "a", n, at(1)).unwrap();
    }
    writer.close(at(2)).unwrap();
    (directory, disk, key)
}

fn verdict(disk: &Disk) -> Result<(u64, u64, u64), String> {
    match verify(disk, &VerifyOptions::default()).unwrap() {
        Verdict::Good(good) => Ok((good.checkpoint.size, good.unsigned, good.torn)),
        Verdict::Tampered(what) => Err(what.to_string()),
    }
}

const LAST: &str = "segments/00000000000000000256.log";

/// Puts something else in the place of a file.
fn swap(disk: &Disk, name: &str, put: impl FnOnce(&Path)) {
    let path = disk.root().join(name);
    if path.is_dir() {
        fs::remove_dir_all(&path).unwrap()
    } else {
        fs::remove_file(&path).unwrap()
    }
    put(&path);
}

#[test]
fn what_is_no_file_is_no_part_of_a_trail() {
    let elsewhere = TempDir::new().unwrap();
    type Put = fn(&Path, &Path);
    let puts: [(&str, Put); 5] = [
        ("a link", |path, elsewhere| {
            fs::write(elsewhere, "not a byte more\n").unwrap();
            symlink(elsewhere, path).unwrap();
        }),
        ("a link to nothing", |path, _| symlink("/nonexistent", path).unwrap()),
        ("a directory", |path, _| fs::create_dir(path).unwrap()),
        ("a FIFO", |path, _| {
            use rustix::fs::{CWD, FileType, Mode, mknodat};
            mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        }),
        ("a socket", |path, _| {
            std::os::unix::net::UnixListener::bind(path).unwrap();
        }),
    ];
    let parts = [
        ("id", "there is no file `id` beside the segments"),
        ("key.pub", "there is no file `key.pub`, and no public key was given"),
        ("checkpoint", "there is no file `checkpoint`"),
        (
            LAST,
            "leaf 256: segments/00000000000000000256.log at byte 0: the segment it lies in is missing",
        ),
    ];
    for (what, put) in puts {
        let target = elsewhere.path().join("target");
        for (part, why) in parts {
            let (_directory, disk, _) = made();
            swap(&disk, part, |path| put(path, &target));
            assert_eq!(verdict(&disk), Err(why.to_owned()), "{what} for {part}");
            let key = fs::read(disk.root().join("key")).unwrap();
            let opened = Writer::open(disk.clone(), BOOT, at(3));
            if part == "key.pub" {
                opened.unwrap().0.close(at(3)).unwrap();
            } else {
                assert!(matches!(opened, Err(Error::Tampered(_))), "{what} for {part}");
                assert!(matches!(
                    create(&disk, "host"),
                    Err(Error::Tampered(_) | Error::Exists(_))
                ));
            }
            assert_eq!(fs::read(disk.root().join("key")).unwrap(), key, "a key is never lost");
        }
        // The mark and what is derived are written anew, and never through a link.
        for part in ["hashes/8", "segments/00000000000000000256.hashes"] {
            let (_directory, disk, _) = made();
            swap(&disk, part, |path| put(path, &target));
            assert_eq!(verdict(&disk), Ok((300, 0, 0)));
            if what == "a directory" {
                continue;
            }
            let (mut writer, _) = Writer::open(disk.clone(), BOOT, at(3)).unwrap();
            append(&mut writer, "a", 300, at(3)).unwrap();
            writer.close(at(3)).unwrap();
            assert_eq!(verdict(&disk), Ok((301, 0, 0)), "{what} for {part}");
        }
        if target.exists() {
            assert_eq!(fs::read(&target).unwrap(), b"not a byte more\n");
        }
    }
}

#[test]
fn other_files_in_the_directory_change_nothing() {
    let (_directory, disk, _) = made();
    for name in [
        "segments/00000000000000000256.log~",
        "segments/.00000000000000000256.log.swp",
        "segments/256.log",
        "segments/00000000000000000512.LOG",
        "segments/000000000000000000512.log",
        "segments/00000000000000000512.hashes",
        "checkpoint.tmp",
        "notes.txt",
    ] {
        fs::write(disk.root().join(name), "anything").unwrap();
    }
    assert_eq!(verdict(&disk), Ok((300, 0, 0)));
    let (mut writer, recovered) = Writer::open(disk.clone(), BOOT, at(3)).unwrap();
    assert!(recovered.closed);
    append(&mut writer, "a", 300, at(3)).unwrap();
    writer.close(at(3)).unwrap();
    assert_eq!(verdict(&disk), Ok((301, 0, 0)));
}

#[test]
fn small_files_of_any_size_and_bytes_are_judged_in_bounded_time() {
    for (part, expected) in [
        ("id", "the file `id` is not one line of text"),
        ("key.pub", "the file `key.pub` does not hold a key in canonical form"),
        ("checkpoint", "its checkpoint: "),
    ] {
        for bytes in [&b""[..], b"\n", b"\xff\xfe", b"a/b\nc\n", &[0; 1 << 20]] {
            let (_directory, disk, _) = made();
            fs::write(disk.root().join(part), bytes).unwrap();
            let why = verdict(&disk).unwrap_err();
            assert!(why.starts_with(expected), "{part}: {why}");
        }
        let (_directory, disk, _) = made();
        let file = fs::File::create(disk.root().join(part)).unwrap();
        file.set_len(1 << 40).unwrap();
        assert!(verdict(&disk).is_err(), "{part}");
    }
    for bytes in [&b""[..], b"\xff", b"PRIVATE+KEY+x+00000000+AQ==\n"] {
        let (_directory, disk, _) = made();
        fs::write(disk.root().join("key"), bytes).unwrap();
        assert_eq!(verdict(&disk), Ok((300, 0, 0)), "to verify takes no key");
        assert!(matches!(Writer::open(disk, BOOT, at(3)), Err(Error::Unusable { .. })));
    }
}

#[test]
fn a_sparse_tebibyte_is_judged_at_once_and_not_copied() {
    let (_directory, disk, _) = made();
    let path = disk.root().join(LAST);
    let whole = fs::metadata(&path).unwrap().len();
    let grow = || fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    grow();
    let why = verdict(&disk).unwrap_err();
    assert!(why.ends_with("it lies behind the signed end of a closed trail"), "{why}");
    assert!(matches!(Writer::open(disk.clone(), BOOT, at(3)), Err(Error::Tampered(_))));
    // The same as a crash would show it.
    fs::write(disk.root().join("open"), "boot 1\n").unwrap();
    assert_eq!(verdict(&disk), Ok((300, 0, (1 << 40) - whole)));
    let (writer, recovered) = Writer::open(disk.clone(), BOOT, at(3)).unwrap();
    writer.close(at(3)).unwrap();
    let (bytes, torn) = recovered.torn.unwrap();
    assert_eq!(bytes, (1 << 40) - whole);
    assert!(fs::metadata(disk.root().join(torn)).unwrap().len() <= 64 << 20);
    assert_eq!(verdict(&disk), Ok((301, 0, 0)));
}

#[test]
fn two_that_go_on_from_one_copy_are_told_apart_by_an_anchor() {
    let (directory, disk, key) = made();
    let copy = Disk::new(directory.path().join("copy"));
    for part in ["", "segments", "hashes", "torn"] {
        fs::create_dir(copy.root().join(part)).unwrap();
        for entry in fs::read_dir(disk.root().join(part)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), copy.root().join(part).join(entry.file_name())).unwrap();
            }
        }
    }
    let mut notes = Vec::new();
    for (disk, n) in [(&disk, 1000), (&copy, 2000)] {
        let (mut writer, _) = Writer::open(disk.clone(), BOOT, at(3)).unwrap();
        append(&mut writer, "a", n, at(3)).unwrap();
        notes.push(writer.close(at(3)).unwrap());
        assert_eq!(verdict(disk), Ok((301, 0, 0)));
    }
    for (disk, anchor, good) in
        [(&disk, 0, true), (&disk, 1, false), (&copy, 0, false), (&copy, 1, true)]
    {
        let anchors = vec![notes[anchor].clone()];
        let options =
            VerifyOptions { public_key: Some(key.clone()), anchors, ..VerifyOptions::default() };
        match verify(disk, &options).unwrap() {
            Verdict::Good(_) => assert!(good),
            Verdict::Tampered(what) => {
                assert!(!good);
                let expected =
                    "its first 301 leaves are not those of checkpoint 1 of those kept elsewhere";
                assert_eq!(what.to_string(), expected);
            }
        }
    }
}

fn own<S: Store>(writer: &mut Writer<S>) -> Result<Appended, Error> {
    let records = [Own { kind: "VT_VIOLATION", body: b"a=1" }];
    let lines = Lines::Own(&records);
    writer.append(&Entry { class: Class::Integrity, ticket: None, lines, tail: &[] }, at(5))
}

fn foreign<S: Store>(writer: &mut Writer<S>, class: Class, text: &[u8]) -> Result<Appended, Error> {
    let lines = Lines::Foreign { origin: Origin::Netlink, lines: &[text] };
    let tail = &[Field { name: "VT_SRC", value: "kernel" }];
    writer.append(&Entry { class, ticket: None, lines, tail }, at(5))
}

#[test]
fn no_two_events_of_ours_have_one_stamp_and_serial() {
    for crash in [false, true] {
        let disk = Outage::default();
        create(&disk, "host").unwrap();
        for round in 0..4 {
            let (mut writer, _) = Writer::open(disk.clone(), BOOT, at(5)).unwrap();
            own(&mut writer).unwrap();
            if round == 1 {
                let text = b"type=USER msg=audit(1.000:3000000000): x=1";
                foreign(&mut writer, Class::Rest, text).unwrap();
            }
            own(&mut writer).unwrap();
            writer.sync().unwrap();
            if !crash {
                writer.close(at(5)).unwrap();
            }
        }
        let mut reader = Reader::open(disk, LeafIndex(0)).unwrap();
        let mut serials = Vec::new();
        while let Some(leaf) = reader.next().unwrap() {
            let text = String::from_utf8(leaf.bytes.to_vec()).unwrap();
            if text.starts_with("type=VT_VIOLATION msg=audit(1700000005.000:") {
                let rest = text.split_once(".000:").unwrap().1;
                serials.push(rest.split_once(')').unwrap().0.parse::<u32>().unwrap());
            }
        }
        const HALF: u32 = 1 << 31;
        // From the kernel's serial 3,000,000,000 on, over two openings, in the other half.
        let expected = [HALF + 1, HALF + 2, HALF + 3, 5, 6, 7, 8, 9];
        assert_eq!(serials, expected, "crash {crash}");
    }
}

#[test]
fn the_last_room_of_a_disk_is_the_first_classes() {
    let disk = Outage::default();
    create(&disk, "host").unwrap();
    let (mut writer, _) = Writer::open(disk.clone(), BOOT, at(5)).unwrap();
    let text = [&b"type=USER msg=audit(1.000:1): "[..], &[b'x'; 1000]].concat();
    let text = &text[..];
    // A quarter of a small disk, a segment's 64 MiB of a large one.
    for (total, reserve) in [(1 << 20, 256 << 10), (1 << 40, 64 << 20)] {
        for (free, fits) in [(0, false), (reserve, false), (reserve + 900, false), (total, true)] {
            disk.say_room(free, total);
            writer.sync().unwrap();
            for class in [Class::Keyed, Class::Rest] {
                let taken = foreign(&mut writer, class, text);
                assert_eq!(taken.is_ok(), fits, "{free} of {total}: {taken:?}");
                assert!(fits || matches!(taken, Err(Error::Full { .. })));
            }
            foreign(&mut writer, Class::Integrity, text).unwrap();
            own(&mut writer).unwrap();
            writer.sync().unwrap();
        }
    }
    // The rest goes before what has a key; a reserve that is set holds on any disk.
    for (set, total, reserve) in [(None, 1 << 20, 256 << 10), (Some(8 << 20), 10 << 20, 8 << 20)] {
        writer.keep_for_integrity(set);
        for (more, keyed, rest) in
            [(0, false, false), (reserve / 8, true, false), (reserve / 2, true, true)]
        {
            disk.say_room(reserve + more, total);
            writer.sync().unwrap();
            assert_eq!(foreign(&mut writer, Class::Rest, text).is_ok(), rest, "{more} of {total}");
            assert_eq!(
                foreign(&mut writer, Class::Keyed, text).is_ok(),
                keyed,
                "{more} of {total}"
            );
            own(&mut writer).unwrap();
            writer.sync().unwrap();
        }
    }
    writer.keep_for_integrity(None);
    // Many between two syncs do not get past it either.
    disk.say_room((256 << 10) + (64 << 10) + 100_000, 1 << 20);
    writer.sync().unwrap();
    own(&mut writer).unwrap();
    writer.sync().unwrap();
    let taken = (0..1000).filter(|_| foreign(&mut writer, Class::Rest, text).is_ok()).count();
    assert!((30..100).contains(&taken), "{taken}");
    writer.close(at(5)).unwrap();
}
