//! Two hundred writers, each killed at work.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use record::units::LeafIndex;
use tempfile::TempDir;
use trail::{Appended, Disk, Reader, Verdict, VerifyOptions, Writer, create, verify};

use crate::kit::{BOOT, Dice, append, at, line};

const DIRECTORY: &str = "VERITRAIL_TEST_KILLED_TRAIL";

/// Not a test of its own: what the processes that are killed run. Appends events for ever and
/// prints how many are durable.
#[test]
fn writer_to_be_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let (mut writer, _) = Writer::open(Disk::new(directory), BOOT, at(0)).unwrap();
    writer.limit_segments(200_000);
    let mut next = writer.seen("a").unwrap_or(0);
    for clock in 0.. {
        for _ in 0..7 {
            assert!(matches!(append(&mut writer, "a", next, at(clock)).unwrap(), Appended::New(_)));
            next += 1;
        }
        writer.sync().unwrap();
        println!("durable {next}");
        writer.checkpoint(at(clock / 3)).unwrap();
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_200_kills() {
    let directory = TempDir::new().unwrap();
    let disk = Disk::new(directory.path().join("trail"));
    let key = create(&disk, "host").unwrap();
    let mut dice = Dice(11);
    let mut acknowledged = 0;
    for _ in 0..200 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::writer_to_be_killed", "--nocapture"])
            .env(DIRECTORY, disk.root())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut note = |line: &str| {
            if let Some(durable) = line.strip_prefix("durable ") {
                let durable: u64 = durable.parse().unwrap_or(0);
                acknowledged = durable.max(acknowledged);
            }
        };
        let wanted = 1 + dice.below(5);
        let mut seen = 0;
        while seen < wanted {
            let line = lines.next().expect("a writer at work").unwrap();
            seen += u64::from(line.starts_with("durable "));
            note(&line);
        }
        std::thread::sleep(Duration::from_micros(dice.below(1500)));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            // The last line may be cut; what is left of it is a smaller number.
            note(&line.unwrap());
        }

        let options = VerifyOptions { public_key: Some(key.clone()), ..VerifyOptions::default() };
        match verify(&disk, &options).unwrap() {
            Verdict::Good(report) => {
                assert!(report.checkpoint.size + report.unsigned >= acknowledged);
            }
            Verdict::Tampered(what) => panic!("{what}"),
        }
    }

    let (writer, _) = Writer::open(disk.clone(), BOOT, at(1)).unwrap();
    writer.close(at(1)).unwrap();
    let mut reader = Reader::open(disk.clone(), LeafIndex(0)).unwrap();
    let mut events = 0;
    while let Some(leaf) = reader.next().unwrap() {
        if leaf.bytes.starts_with(b"type=VT_RECOVER ") {
            continue;
        }
        assert!(leaf.bytes.starts_with(line(events).trim_end().as_bytes()), "event {events}");
        events += 1;
    }
    assert!(events >= acknowledged && acknowledged >= 200 * 7, "{events} of {acknowledged}");
    let verdict = verify(&disk, &VerifyOptions::default()).unwrap();
    assert!(matches!(verdict, Verdict::Good(report) if (report.unsigned, report.torn) == (0, 0)));
}
