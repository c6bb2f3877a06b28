//! Following a trail: whole, durable, in order, and what is gone is named.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use record::units::LeafIndex;
use tempfile::TempDir;
use trail::follow::{Durable, Followed, Follower};
use trail::{Disk, Writer, create};

use crate::kit::{BOOT, append, at, line};

fn make(directory: &TempDir) -> Disk {
    let disk = Disk::new(directory.path().join("trail"));
    create(&disk, "host").unwrap();
    disk
}

/// All that there is: the first leaves of events, or of gaps with what is behind them.
fn all(follower: &mut Follower<Disk>, durable: &mut Durable<Disk>) -> Vec<(u64, Option<u64>)> {
    let extent = durable.advance(true).unwrap();
    let mut found = Vec::new();
    loop {
        match follower.next(extent).unwrap() {
            Followed::Event { first, next, .. } => {
                assert_eq!(next.0, first.0 + 1);
                found.push((first.0, None));
            }
            Followed::Gap { first, next } => found.push((first.0, Some(next.0))),
            Followed::End => return found,
        }
    }
}

#[test]
fn nothing_is_given_behind_what_is_known_to_be_durable() {
    let directory = TempDir::new().unwrap();
    let disk = make(&directory);
    let (mut writer, _) = Writer::open(disk.clone(), BOOT, at(0)).unwrap();
    let mut durable = Durable::new(disk.clone());
    let nothing = durable.advance(true).unwrap();
    let mut follower = Follower::open(disk.clone(), LeafIndex(0)).unwrap();
    for n in 0..10 {
        append(&mut writer, "a", n, at(0)).unwrap();
    }
    writer.sync().unwrap();
    assert_eq!(follower.next(nothing).unwrap(), Followed::End);
    let ten = durable.advance(false).unwrap();
    append(&mut writer, "a", 10, at(0)).unwrap();
    writer.sync().unwrap();
    for n in 0..10 {
        match follower.next(ten).unwrap() {
            Followed::Event { first, bytes, .. } => {
                assert_eq!(first.0, n);
                assert!(bytes.starts_with(line(n).trim_end().as_bytes()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(follower.next(ten).unwrap(), Followed::End);
    assert_eq!(follower.position().0, 10);
    // The one that was seen and held comes once it is known to be durable, also to who begins now.
    let mut late = Follower::open_at_end(disk, ten).unwrap();
    assert_eq!(late.position().0, 10);
    for follower in [&mut follower, &mut late] {
        let eleven = durable.advance(false).unwrap();
        let next = follower.next(eleven).unwrap();
        assert!(matches!(next, Followed::Event { first: LeafIndex(10), .. }), "{next:?}");
        assert_eq!(follower.next(eleven).unwrap(), Followed::End);
    }
}

#[test]
fn leaves_that_are_gone_are_a_gap_wherever_the_reader_stands() {
    let directory = TempDir::new().unwrap();
    let disk = make(&directory);
    let (mut writer, _) = Writer::open(disk.clone(), BOOT, at(0)).unwrap();
    writer.limit_segments(1);
    let mut durable = Durable::new(disk.clone());
    let mut early = Follower::open(disk.clone(), LeafIndex(0)).unwrap();
    let mut beyond = Follower::open(disk.clone(), LeafIndex(5000)).unwrap();
    for n in 0..100 {
        append(&mut writer, "a", n, at(0)).unwrap();
    }
    writer.sync().unwrap();
    assert_eq!(all(&mut early, &mut durable).len(), 100);
    for n in 100..1100 {
        append(&mut writer, "a", n, at(0)).unwrap();
    }
    writer.sync().unwrap();
    // What retention does: the segments of leaves 0 to 767. The reader still has the first open.
    for first in [0, 256, 512] {
        let path = directory.path().join("trail/segments").join(format!("{first:020}.log"));
        std::fs::remove_file(path).unwrap();
    }
    let expected: Vec<(u64, Option<u64>)> = (768..1100).map(|n| (n, None)).collect();
    let found = all(&mut early, &mut durable);
    // Linux lets it read on in a file that has lost its name, up to the end of that.
    let gap = found.iter().position(|(_, gap)| gap.is_some()).unwrap();
    assert!(found[..gap].iter().map(|(n, _)| *n).eq(100..100 + gap as u64));
    assert_eq!(found[gap], (100 + gap as u64, Some(768)));
    assert_eq!(found[gap + 1..], expected);
    for from in [0, 255, 256, 700] {
        let mut late = Follower::open(disk.clone(), LeafIndex(from)).unwrap();
        let found = all(&mut late, &mut durable);
        assert_eq!(found[0], (from, Some(768)));
        assert_eq!(found[1..], expected);
    }
    assert_eq!(all(&mut beyond, &mut durable), []);
    assert!(beyond.end() < beyond.position());
}

const EVENTS: u64 = 10_000;

/// Beside a writer that closes, or just ends, and is recovered.
#[test]
fn each_event_comes_once_over_recoveries() {
    let directory = TempDir::new().unwrap();
    let disk = make(&directory);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = 0;
            while next < EVENTS {
                let (mut writer, _) = Writer::open(disk.clone(), BOOT, at(0)).unwrap();
                writer.limit_segments(100_000);
                for _ in 0..500 {
                    append(&mut writer, "a", next, at(0)).unwrap();
                    next += 1;
                    if next % 7 == 0 {
                        writer.sync().unwrap();
                    }
                }
                writer.sync().unwrap();
                if next % 3 != 0 {
                    writer.close(at(0)).unwrap();
                }
            }
            done.store(true, Ordering::Release);
        });
        let mut durable = Durable::new(disk.clone());
        let mut follower = Follower::open(disk.clone(), LeafIndex(0)).unwrap();
        let mut events = 0;
        let mut next_leaf = 0;
        while events < EVENTS {
            let ended = done.load(Ordering::Acquire);
            let extent = durable.advance(true).unwrap();
            loop {
                match follower.next(extent).unwrap() {
                    Followed::Event { first, next, bytes } => {
                        assert_eq!(first.0, next_leaf);
                        next_leaf = next.0;
                        if bytes.starts_with(b"type=USER_LOGIN") {
                            assert!(bytes.starts_with(line(events).trim_end().as_bytes()));
                            events += 1;
                        }
                    }
                    Followed::Gap { first, .. } => panic!("a gap at {first}"),
                    Followed::End => break,
                }
            }
            assert!(!ended || events == EVENTS, "{events}");
        }
    });
}
