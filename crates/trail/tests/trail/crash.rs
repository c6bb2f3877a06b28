//! What a power cut, a failed sync or a full disk leaves.

use record::units::LeafIndex;
use trail::{
    Appended, Error, PublicKey, Reader, Recovered, Verdict, VerifyOptions, Writer, create, verify,
};

use crate::kit::{BOOT, Dice, append, at, line};
use crate::outage::Outage;

/// What was promised to the outside when a picture was taken.
#[derive(Clone, Debug, Default)]
struct Promised {
    acknowledged: u64,
    checkpoint: Option<String>,
}

/// The events in a trail, in order, without the records of recovery. Each must be, byte for byte,
/// one that was written.
fn events(disk: &Outage) -> Vec<u64> {
    let mut reader = Reader::open(disk.clone(), LeafIndex(0)).unwrap();
    let mut events = Vec::new();
    while let Some(leaf) = reader.next().unwrap() {
        let text = std::str::from_utf8(leaf.bytes).unwrap();
        let index = leaf.index;
        if text.starts_with("type=VT_RECOVER ") {
            continue;
        }
        let n = events.len() as u64;
        let expected = format!(
            "{}\u{1d}VT_LEAF={index} VT_SRC=import VT_SEQ=a:{}\n",
            line(n).trim_end(),
            n + 1
        );
        assert_eq!(text, expected);
        events.push(n);
    }
    events
}

fn check(disk: &Outage, key: &PublicKey, checkpoint: Option<&String>) -> trail::Report {
    let options = VerifyOptions {
        public_key: Some(key.clone()),
        anchors: checkpoint.cloned().into_iter().collect(),
        ..VerifyOptions::default()
    };
    match verify(disk, &options).unwrap() {
        Verdict::Good(report) => report,
        Verdict::Tampered(what) => panic!("{what}"),
    }
}

/// Nothing that was promised may be missing from `disk`, before and after recovery.
fn survives(disk: &Outage, key: &PublicKey, promised: &Promised, dice: &mut Dice) {
    if dice.below(3) == 0 {
        // The machine goes down again while it recovers.
        let again = disk.after_outage(dice);
        again.film();
        Writer::open(again.clone(), BOOT, at(50)).unwrap();
        let pictures = again.developed();
        if let Some(n) = dice.roll().checked_rem(pictures.len() as u64) {
            let picture = &pictures[usize::try_from(n).unwrap()];
            recovers(&picture.after_outage(dice), key, promised);
        }
    }
    recovers(disk, key, promised);
}

fn recovers(disk: &Outage, key: &PublicKey, promised: &Promised) {
    let before = check(disk, key, promised.checkpoint.as_ref());
    assert!(before.checkpoint.size + before.unsigned >= promised.acknowledged);
    let (mut writer, recovered) = Writer::open(disk.clone(), BOOT, at(100)).unwrap();
    assert_eq!(recovered.unsigned, before.unsigned);
    assert_eq!(recovered.torn.as_ref().map_or(0, |torn| torn.0), before.torn);
    check(disk, key, promised.checkpoint.as_ref());
    let there = events(disk).len() as u64;
    assert!(there >= promised.acknowledged, "{there} of {}", promised.acknowledged);
    // The client sends again what it has no acknowledgement for.
    for n in promised.acknowledged..promised.acknowledged + 40 {
        let known = append(&mut writer, "a", n, at(101)).unwrap() == Appended::Known;
        assert_eq!(known, n < there, "event {n} of {there}");
    }
    let closed = writer.close(at(102)).unwrap();
    assert_eq!(events(disk).len() as u64, there.max(promised.acknowledged + 40));
    let after = check(disk, key, Some(&closed));
    assert_eq!((after.unsigned, after.torn), (0, 0));
}

/// A life of a trail: creation, appends, syncs, checkpoints, rotations, closings. Gives the disk,
/// and what was promised at each of its pictures.
fn life(dice: &mut Dice) -> (Outage, PublicKey, Vec<Promised>) {
    let disk = Outage::default();
    let key = create(&disk, "host").unwrap();
    let mut promised = Promised::default();
    let mut at_picture = Vec::new();
    let mut note = |disk: &Outage, promised: &Promised| {
        at_picture.resize(disk.pictures(), promised.clone());
    };
    disk.film();
    let mut next = 0;
    for round in 0..3 {
        let mut clock = round * 10;
        let (mut writer, recovered) = Writer::open(disk.clone(), BOOT, at(clock)).unwrap();
        assert_eq!(recovered, Recovered { closed: true, unsigned: 0, torn: None });
        writer.limit_segments(30_000);
        note(&disk, &promised);
        for _ in 0..12 {
            for _ in 0..dice.below(20) {
                append(&mut writer, "a", next, at(clock)).unwrap();
                next += 1;
            }
            note(&disk, &promised);
            let durable = writer.sync().unwrap().0;
            note(&disk, &promised);
            promised.acknowledged = durable;
            if dice.below(3) == 0 {
                clock += 1;
                if let Some(checkpoint) = writer.checkpoint(at(clock)).unwrap() {
                    let checkpoint = checkpoint.to_owned();
                    note(&disk, &promised);
                    promised.checkpoint = Some(checkpoint);
                }
            }
        }
        let closed = writer.close(at(clock)).unwrap();
        note(&disk, &promised);
        promised.acknowledged = next;
        promised.checkpoint = Some(closed);
    }
    note(&disk, &promised);
    (disk, key, at_picture)
}

#[test]
fn no_acknowledged_event_is_lost_at_5000_crash_points() {
    let mut dice = Dice(1);
    let mut points = 0;
    while points < 5000 {
        let (disk, key, promised) = life(&mut dice);
        let pictures = disk.developed();
        assert_eq!(pictures.len(), promised.len());
        for (picture, promised) in pictures.iter().zip(&promised) {
            for _ in 0..2 {
                survives(&picture.after_outage(&mut dice), &key, promised, &mut dice);
                points += 1;
            }
        }
    }
}

#[test]
fn a_crash_while_a_trail_is_made_leaves_one_or_none() {
    let mut dice = Dice(2);
    let disk = Outage::default();
    disk.film();
    create(&disk, "host").unwrap();
    for picture in disk.developed() {
        for _ in 0..20 {
            let disk = picture.after_outage(&mut dice);
            match verify(&disk, &VerifyOptions::default()) {
                Ok(Verdict::Good(report)) => assert_eq!(report.checkpoint.size, 0),
                Err(Error::NoTrail) => {
                    create(&disk, "host").unwrap();
                }
                other => panic!("{other:?}"),
            }
            Writer::open(disk, BOOT, at(1)).unwrap();
        }
    }
}

#[test]
fn a_failed_sync_stops_the_writer_and_nothing_acknowledged_is_lost() {
    for failing in 1..40 {
        let disk = Outage::default();
        let key = create(&disk, "host").unwrap();
        let mut promised = Promised::default();
        let (mut writer, _) = Writer::open(disk.clone(), BOOT, at(1)).unwrap();
        disk.fail_sync(failing);
        let mut next = 0;
        let failed = loop {
            for _ in 0..10 {
                append(&mut writer, "a", next, at(1 + next)).unwrap();
                next += 1;
            }
            match writer.sync() {
                Ok(durable) => promised.acknowledged = durable.0,
                Err(error) => break error,
            }
            match writer.checkpoint(at(1 + next)) {
                Ok(checkpoint) => promised.checkpoint = checkpoint.map(str::to_owned),
                Err(error) => break error,
            }
        };
        assert!(matches!(failed, Error::Io { what: "sync", .. }), "{failed}");
        assert!(matches!(append(&mut writer, "a", next, at(1)), Err(Error::Stopped)));
        assert!(matches!(writer.sync(), Err(Error::Stopped)));
        assert!(matches!(writer.close(at(1)), Err(Error::Stopped)));
        // The page cache still shows what is not on the disk, until the power goes.
        recovers(&disk, &key, &promised);
        promised.acknowledged += 40;
        let mut dice = Dice(failing as u64);
        for _ in 0..10 {
            let disk = disk.after_outage(&mut dice);
            check(&disk, &key, promised.checkpoint.as_ref());
            assert!(events(&disk).len() as u64 >= promised.acknowledged);
        }
    }
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let mut dice = Dice(3);
    for room in (0..6000).step_by(97) {
        let disk = Outage::default();
        let key = create(&disk, "host").unwrap();
        let (mut writer, _) = Writer::open(disk.clone(), BOOT, at(1)).unwrap();
        writer.limit_segments(2_000);
        disk.room(Some(room));
        let mut promised = Promised::default();
        let mut refused = 0;
        for n in 0..300 {
            if n % 100 == 99 && refused > 0 {
                disk.room(Some(room));
            }
            loop {
                match append(&mut writer, "a", n, at(n)) {
                    Ok(Appended::New(_)) => break,
                    Err(Error::Full { .. }) => {
                        refused += 1;
                        disk.room(Some(100_000));
                    }
                    other => panic!("{other:?}"),
                }
            }
            match writer.sync() {
                Ok(durable) => promised.acknowledged = durable.0,
                Err(Error::Full { .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
            match writer.checkpoint(at(n)) {
                Ok(Some(checkpoint)) => promised.checkpoint = Some(checkpoint.to_owned()),
                Ok(None) => {}
                Err(Error::Full { .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
            if refused > 20 {
                disk.room(None);
                refused = 0;
            }
        }
        let out = disk.after_outage(&mut dice);
        recovers(&out, &key, &promised);
        disk.room(None);
        promised.acknowledged = writer.sync().unwrap().0;
        assert_eq!(promised.acknowledged, 300);
        promised.checkpoint = Some(writer.close(at(400)).unwrap());
        recovers(&disk, &key, &promised);
    }
}
