//! Readers and verifiers beside a writer at work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use record::units::LeafIndex;
use tempfile::TempDir;
use trail::{Disk, Reader, Verdict, VerifyOptions, Writer, create, verify};

use crate::kit::{BOOT, append, at, line};

const EVENTS: u64 = 20_000;

#[test]
fn nobody_sees_half_a_leaf_or_calls_a_live_trail_tampered() {
    let directory = TempDir::new().unwrap();
    let disk = Disk::new(directory.path().join("trail"));
    let key = create(&disk, "host").unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = 0;
            let mut clock = 0;
            // Closed and opened again on the way; every third time it just ends.
            while next < EVENTS {
                let (mut writer, _) = Writer::open(disk.clone(), BOOT, at(clock)).unwrap();
                writer.limit_segments(100_000);
                for _ in 0..40 {
                    for _ in 0..25 {
                        append(&mut writer, "a", next, at(clock)).unwrap();
                        next += 1;
                    }
                    writer.sync().unwrap();
                    clock += u64::from(next % 200 == 0);
                    writer.checkpoint(at(clock)).unwrap();
                }
                if next % 3 != 0 {
                    writer.close(at(clock)).unwrap();
                }
            }
            done.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            let mut reader = Reader::open(disk.clone(), LeafIndex(0)).unwrap();
            let mut seen = 0;
            while seen < EVENTS {
                match reader.next().unwrap() {
                    Some(leaf) => {
                        assert_eq!(leaf.index.0, seen);
                        assert!(leaf.bytes.starts_with(line(seen).trim_end().as_bytes()));
                        seen += 1;
                    }
                    None => thread::yield_now(),
                }
            }
        });
        scope.spawn(|| {
            let options =
                VerifyOptions { public_key: Some(key.clone()), ..VerifyOptions::default() };
            let mut longest = 0;
            while !done.load(Ordering::Acquire) {
                match verify(&disk, &options).unwrap() {
                    Verdict::Good(report) => {
                        assert!(report.checkpoint.size >= longest);
                        longest = report.checkpoint.size;
                    }
                    Verdict::Tampered(what) => panic!("{what}"),
                }
            }
        });
    });
}
