//! Ten thousand ways to change a closed trail.

use std::fs;
use std::path::{Path, PathBuf};

use record::units::LeafIndex;
use tempfile::TempDir;
use trail::{
    Disk, KeyTrust, PublicKey, Tampered, Verdict, VerifyOptions, Writer, create, layout, prove,
    verify,
};

use crate::kit::{BOOT, Dice, append, at};

/// A closed trail on a disk, the bytes of its files, and the checkpoints it had on the way.
struct Closed {
    directory: TempDir,
    key: PublicKey,
    files: Vec<(PathBuf, Vec<u8>)>,
    checkpoints: Vec<String>,
}

impl Closed {
    fn new(events: u64) -> Closed {
        let directory = TempDir::new().unwrap();
        let disk = Disk::new(directory.path());
        let key = create(&disk, "host").unwrap();
        let mut checkpoints = vec![read(&directory.path().join("checkpoint"))];
        let (mut writer, _) = Writer::open(disk, BOOT, at(0)).unwrap();
        writer.limit_segments(1);
        for n in 0..events {
            append(&mut writer, "a", n, at(n)).unwrap();
            if n % 100 == 99 {
                checkpoints.push(writer.checkpoint(at(n)).unwrap().unwrap().to_owned());
            }
        }
        checkpoints.push(writer.close(at(events)).unwrap());
        let mut files = Vec::new();
        for below in ["", "segments", "hashes"] {
            for entry in fs::read_dir(directory.path().join(below)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    let name = path.strip_prefix(directory.path()).unwrap().to_owned();
                    files.push((name, fs::read(&path).unwrap()));
                }
            }
        }
        files.sort();
        Closed { directory, key, files, checkpoints }
    }

    fn disk(&self) -> Disk {
        Disk::new(self.directory.path())
    }

    fn put(&self, name: &Path, bytes: &[u8]) {
        fs::write(self.directory.path().join(name), bytes).unwrap();
    }

    fn verdict(&self, anchors: &[String]) -> Verdict {
        let options = VerifyOptions {
            public_key: Some(self.key.clone()),
            anchors: anchors.to_vec(),
            ..VerifyOptions::default()
        };
        verify(&self.disk(), &options).unwrap()
    }

    /// With the public key and the final checkpoint.
    fn final_verdict(&self) -> Verdict {
        self.verdict(&self.checkpoints[self.checkpoints.len() - 1..])
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// Changes some bytes somehow; never gives back what it was given.
fn mutate(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let place = |dice: &mut Dice| usize::try_from(dice.below(bytes.len() as u64)).unwrap();
    let lines = || bytes.split_inclusive(|&b| b == b'\n').collect::<Vec<_>>();
    loop {
        let mut new = bytes.to_vec();
        match dice.below(9) {
            0 | 1 => new[place(dice)] ^= 1 << dice.below(8),
            2 => {
                let (from, to) = (place(dice), place(dice));
                new.drain(from.min(to)..=from.max(to));
            }
            3 => new.truncate(place(dice)),
            4 => {
                let (a, b) = (place(dice), place(dice));
                new.swap(a, b);
            }
            5 => {
                let what = bytes[place(dice)..].iter().copied().take(1 + place(dice) % 300);
                let at = place(dice);
                new.splice(at..at, what.collect::<Vec<_>>());
            }
            6 => {
                // A line gone, or two lines changed places.
                let mut lines = lines();
                let (a, b) = (place(dice) % lines.len(), place(dice) % lines.len());
                if a == b {
                    lines.remove(a);
                } else {
                    lines.swap(a, b);
                }
                new = lines.concat();
            }
            7 => {
                let mut lines = lines();
                let (a, b) = (place(dice) % lines.len(), place(dice) % lines.len());
                lines.insert(a, lines[b]);
                new = lines.concat();
            }
            _ => new.extend_from_slice(&bytes[place(dice)..]),
        }
        if new != bytes {
            return new;
        }
    }
}

#[test]
fn none_of_10000_changes_of_a_closed_trail_is_accepted() {
    let trail = Closed::new(300);
    assert!(matches!(trail.final_verdict(), Verdict::Good(_)));
    let signed: Vec<_> = trail
        .files
        .iter()
        .filter(|(name, _)| {
            name.extension().is_some_and(|e| e == "log") || name == Path::new("checkpoint")
        })
        .collect();
    assert_eq!(signed.len(), 3);
    let mut dice = Dice(7);
    for n in 0..10_000 {
        let (name, bytes) = signed[usize::try_from(dice.below(3)).unwrap()];
        let new = mutate(bytes, &mut dice);
        trail.put(name, &new);
        let verdict = trail.final_verdict();
        assert!(matches!(verdict, Verdict::Tampered(_)), "{n}: {} {verdict:?}", name.display());
        trail.put(name, bytes);
    }
    assert!(matches!(trail.final_verdict(), Verdict::Good(_)));
}

#[test]
fn the_first_changed_leaf_is_named() {
    let trail = Closed::new(700);
    let mut dice = Dice(8);
    let segments: Vec<_> = trail
        .files
        .iter()
        .filter(|(name, _)| name.extension().is_some_and(|e| e == "log"))
        .collect();
    let mut first = 0;
    for (name, bytes) in segments {
        for _ in 0..300 {
            let at = usize::try_from(dice.below(bytes.len() as u64)).unwrap();
            let mut new = bytes.clone();
            new[at] ^= 1 << dice.below(8);
            trail.put(name, &new);
            let before: Vec<usize> =
                (0..at).filter(|&at| bytes[at] == b'\n').map(|at| at + 1).collect();
            let Verdict::Tampered(Tampered { leaf, place, what }) = trail.final_verdict() else {
                panic!("accepted")
            };
            let place = place.unwrap_or_else(|| panic!("{what}"));
            assert_eq!(leaf, Some(LeafIndex(first + before.len() as u64)));
            assert_eq!(place.segment, *name);
            assert_eq!(place.offset, before.last().copied().unwrap_or(0) as u64);
        }
        trail.put(name, bytes);
        first += bytes.iter().filter(|&&b| b == b'\n').count() as u64;
    }
}

#[test]
fn segments_may_not_go_come_or_change_places() {
    let trail = Closed::new(700);
    let names: Vec<PathBuf> = [0, 256, 512].map(|n| layout::segment(LeafIndex(n))).to_vec();
    let bytes = |n: usize| &trail.files.iter().find(|(name, _)| *name == names[n]).unwrap().1;
    let refused = |what: &str| {
        let Verdict::Tampered(tampered) = trail.final_verdict() else { panic!("{what}") };
        tampered.to_string()
    };
    for (n, first) in [(0, 0), (1, 256), (2, 512)] {
        fs::remove_file(trail.directory.path().join(&names[n])).unwrap();
        let expected = match n {
            2 => format!(
                "leaf 512: {} at byte {}: it is signed but not there",
                names[1].display(),
                bytes(1).len()
            ),
            n => format!(
                "leaf {first}: {} at byte 0: the segment it lies in is missing",
                names[n + 1].display()
            ),
        };
        assert_eq!(refused("gone"), expected);
        trail.put(&names[n], bytes(n));
    }
    for extra in [1, 255, 300, 768, 1024, u64::MAX] {
        let name = layout::segment(LeafIndex(extra));
        for content in [&b""[..], bytes(0)] {
            trail.put(&name, content);
            refused("extra");
        }
        fs::remove_file(trail.directory.path().join(&name)).unwrap();
    }
    trail.put(&names[0], bytes(1));
    trail.put(&names[1], bytes(0));
    assert!(refused("exchanged").contains("it says it is another leaf"));
}

#[test]
fn an_older_copy_does_not_stand_for_a_newer_checkpoint() {
    let trail = Closed::new(710);
    for (n, older) in trail.checkpoints.iter().enumerate() {
        // All of it taken back to an older state, mark and derived files included.
        let size: usize = older.lines().nth(1).unwrap().parse().unwrap();
        trail.put(Path::new("checkpoint"), older.as_bytes());
        let mut left = size;
        for (name, bytes) in &trail.files {
            if name.extension().is_none_or(|e| e != "log") {
                continue;
            }
            let lines: Vec<&[u8]> = bytes.split_inclusive(|&b| b == b'\n').collect();
            let keep = lines.len().min(left);
            left -= keep;
            trail.put(name, &lines[..keep].concat());
            if keep == 0 {
                fs::remove_file(trail.directory.path().join(name)).unwrap();
            }
        }
        let last = n + 1 == trail.checkpoints.len();
        assert!(matches!(trail.verdict(&[]), Verdict::Good(_)));
        assert!(
            matches!(trail.verdict(&trail.checkpoints[..=n]), Verdict::Good(report) if report.anchors == n + 1)
        );
        assert_eq!(matches!(trail.final_verdict(), Verdict::Good(_)), last);
        for (name, bytes) in &trail.files {
            trail.put(name, bytes);
        }
    }
}

#[test]
fn history_signed_anew_does_not_stand_against_an_anchor() {
    let (ours, theirs) = (Closed::new(300), Closed::new(301));
    // The same key signs another history: host root can do that.
    for name in ["id", "key", "key.pub"] {
        fs::copy(ours.directory.path().join(name), theirs.directory.path().join(name)).unwrap();
    }
    let key = trail::SecretKey::parse(&read(&ours.directory.path().join("key"))).unwrap();
    let segment = theirs.directory.path().join(layout::segment(LeafIndex(0)));
    let text = read(&segment).replacen("pid=7 ", "pid=8 ", 1);
    fs::write(&segment, &text).unwrap();
    let mut tree = trail::merkle::Range::new();
    for (name, bytes) in &theirs.files {
        if name.extension().is_some_and(|e| e == "log") {
            let bytes =
                if **name == layout::segment(LeafIndex(0)) { text.as_bytes() } else { bytes };
            for line in bytes.split_inclusive(|&b| b == b'\n') {
                tree.push(trail::merkle::leaf_hash(line));
            }
        }
    }
    let forged = trail::Checkpoint::of(key.public().name(), &tree).sign(&key);
    theirs.put(Path::new("checkpoint"), forged.as_bytes());
    let options = VerifyOptions { public_key: Some(ours.key.clone()), ..VerifyOptions::default() };
    assert!(matches!(verify(&theirs.disk(), &options).unwrap(), Verdict::Good(_)));
    let options = VerifyOptions { anchors: vec![ours.checkpoints[1].clone()], ..options };
    assert!(matches!(
        verify(&theirs.disk(), &options).unwrap(),
        Verdict::Tampered(what) if what.to_string()
            == "its first 100 leaves are not those of checkpoint 1 of those kept elsewhere"
    ));
}

#[test]
fn changes_of_derived_files_change_no_answer() {
    let trail = Closed::new(700);
    let good = trail.final_verdict();
    let proofs: Vec<Vec<u8>> =
        [0, 300, 699].map(|n| prove(&trail.disk(), LeafIndex(n)).unwrap()).to_vec();
    let segment = layout::segment(LeafIndex(256));
    let (_, signed) = trail.files.iter().find(|(name, _)| *name == segment).unwrap();
    let derived: Vec<_> = trail
        .files
        .iter()
        .filter(|(name, _)| {
            name.extension().is_some_and(|e| e == "hashes") || name.starts_with("hashes")
        })
        .collect();
    assert_eq!(derived.len(), 4);
    let mut dice = Dice(9);
    for n in 0..1000 {
        let (name, bytes) = derived[usize::try_from(dice.below(4)).unwrap()];
        if n % 50 == 0 {
            fs::remove_file(trail.directory.path().join(name)).unwrap();
        } else {
            trail.put(name, &mutate(bytes, &mut dice));
        }
        assert_eq!(trail.final_verdict(), good);
        for (index, proof) in [0, 300, 699].into_iter().zip(&proofs) {
            assert_eq!(prove(&trail.disk(), LeafIndex(index)).unwrap(), *proof);
        }
        let mut bad = signed.clone();
        bad[100] ^= 1;
        trail.put(&segment, &bad);
        assert!(matches!(trail.final_verdict(), Verdict::Tampered(_)));
        trail.put(&segment, signed);
        // Recovery writes them anew.
        if n % 100 == 0 {
            trail.put(Path::new("open"), b"x 1\n");
            let (writer, recovered) = Writer::open(trail.disk(), BOOT, at(9)).unwrap();
            assert!(!recovered.closed);
            writer.close(at(9)).unwrap();
            for (name, bytes) in &derived {
                assert_eq!(fs::read(trail.directory.path().join(name)).unwrap(), *bytes);
            }
        }
        trail.put(name, bytes);
    }
}

#[test]
fn the_writer_refuses_a_trail_that_was_changed() {
    let trail = Closed::new(700);
    let mut dice = Dice(10);
    for n in 0..200 {
        let logs: Vec<_> = trail
            .files
            .iter()
            .filter(|(name, _)| name.extension().is_some_and(|e| e == "log"))
            .collect();
        let (name, bytes) = logs[usize::try_from(dice.below(3)).unwrap()];
        trail.put(name, &mutate(bytes, &mut dice));
        // After a crash everything is read; after closing, what is not the end.
        let crashed = n % 2 == 0;
        if crashed {
            trail.put(Path::new("open"), b"x 1\n");
        }
        let opened = Writer::open(trail.disk(), BOOT, at(1)).map(|_| ());
        let appended = crashed && matches!(trail.final_verdict(), Verdict::Good(_));
        let old = !crashed && **name == layout::segment(LeafIndex(0));
        match opened {
            Err(trail::Error::Tampered(_)) => {}
            Ok(()) => assert!(appended || old, "{n}"),
            Err(other) => panic!("{other}"),
        }
        for (name, bytes) in &trail.files {
            trail.put(name, bytes);
        }
        let _ = fs::remove_file(trail.directory.path().join("open"));
    }
}

#[test]
fn the_key_is_proven_only_by_one_that_was_given() {
    let trail = Closed::new(10);
    let Verdict::Good(report) = verify(&trail.disk(), &VerifyOptions::default()).unwrap() else {
        panic!()
    };
    assert_eq!(report.key, KeyTrust::SelfConsistent);
    let other = Closed::new(10);
    let options = VerifyOptions { public_key: Some(other.key.clone()), ..VerifyOptions::default() };
    assert!(matches!(verify(&trail.disk(), &options).unwrap(), Verdict::Tampered(_)));
    // Another trail's checkpoint as an anchor.
    assert!(matches!(trail.verdict(&other.checkpoints), Verdict::Tampered(_)));
    // Something that is no checkpoint is the caller's mistake.
    let options = VerifyOptions { older: Some("x".to_owned()), ..VerifyOptions::default() };
    assert!(matches!(verify(&trail.disk(), &options), Err(trail::Error::Unusable { .. })));
    for name in ["id", "key.pub", "checkpoint"] {
        let bytes = fs::read(trail.directory.path().join(name)).unwrap();
        for content in [&b""[..], b"x", b"x\n", &bytes[..bytes.len() - 1]] {
            trail.put(Path::new(name), content);
            let verdict = verify(&trail.disk(), &VerifyOptions::default()).unwrap();
            assert!(matches!(verdict, Verdict::Tampered(_)), "{name}");
        }
        fs::remove_file(trail.directory.path().join(name)).unwrap();
        let verdict = verify(&trail.disk(), &VerifyOptions::default()).unwrap();
        assert!(matches!(verdict, Verdict::Tampered(_)), "{name}");
        trail.put(Path::new(name), &bytes);
    }
}
