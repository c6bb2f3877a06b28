//! Many writers of one trail, and one of them killed.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use crate::bench::{BLOCK, Bench, direct, kill, noise, read_once};

/// The process that holds the lock of a trail, from /proc/locks.
fn holder(bench: &Bench) -> i32 {
    let found = fs::metadata(bench.path("trail/lock")).unwrap();
    let (major, minor) = (rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()));
    let wanted = format!("{major:02x}:{minor:02x}:{}", found.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let held = locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[1] == "FLOCK" && words[5] == wanted).then(|| words[4].parse().unwrap())
    });
    held.unwrap_or_else(|| panic!("nobody holds {wanted}: {locks}"))
}

const READS: usize = 150;

fn bad_reads(file: &File) {
    for _ in 0..READS {
        assert_eq!(read_once(file, 10 * BLOCK as u64, BLOCK).unwrap_err().raw_os_error(), Some(5));
    }
}

#[test]
fn many_writers_and_a_killed_one_lose_and_double_nothing() {
    let test = "many_writers_and_a_killed_one_lose_and_double_nothing";
    let Some(bench) = Bench::new(test) else { return };
    let image = bench.image("image", &noise(64 * BLOCK));
    bench.corrupt("image", 10 * BLOCK as u64 + 17);
    let names = ["a", "b", "c"];
    let files = names.map(|name| direct(&bench.open(name, &image, &[])));
    let one_shot = |verb: &str, runs: usize| {
        let arguments = ["verity", verb, "image", "image.hash", &image.root, "--trail", "trail"];
        for _ in 0..runs {
            let ran = bench.veritrail(&arguments);
            assert_eq!(ran.status, 1, "{}", ran.err);
        }
    };
    // All at once; the writer is killed in the middle.
    let victim = std::thread::scope(|scope| {
        for file in &files {
            scope.spawn(|| bad_reads(file));
        }
        scope.spawn(|| one_shot("verify", 6));
        scope.spawn(|| one_shot("cat", 6));
        std::thread::scope(|inner| {
            for file in &files {
                inner.spawn(|| bad_reads(file));
            }
        });
        let writer = holder(&bench);
        let victim = names.iter().position(|name| bench.servers(name).0 == writer);
        if victim.is_some() {
            kill(writer);
        }
        victim
    });
    // The holder may have been a one-shot verb for a moment; then a device is killed all the same.
    let victim = victim.unwrap_or_else(|| {
        kill(bench.servers("a").0);
        0
    });
    std::thread::scope(|scope| {
        for (number, file) in files.iter().enumerate().filter(|(number, _)| *number != victim) {
            scope.spawn(move || {
                bad_reads(file);
                number
            });
        }
        scope.spawn(|| one_shot("verify", 2));
    });
    drop(files);
    for name in names {
        assert_eq!(bench.verity(&["close", name]).status, 0, "{name}");
    }
    bench.trail_is_good();

    let mut seen = HashSet::new();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for event in bench.events() {
        let ticket = event.tail("VT_SEQ").unwrap().to_owned();
        assert!(seen.insert(ticket), "twice: {event:?}");
        if event.body("DM_EVENT").is_some() {
            *counts.entry(event.tail("VT_DEV").unwrap_or("-").to_owned()).or_default() += 1;
        }
    }
    for (number, name) in names.into_iter().enumerate() {
        let count = counts.get(name).copied().unwrap_or(0);
        // And the announcement of the hundredth.
        let whole = 3 * READS + 1;
        if number == victim {
            assert!(count <= whole, "{name}: {count}");
        } else {
            assert_eq!(count, whole, "{name}");
        }
    }
    assert_eq!(counts["-"], 14);
    let closed = bench.bodies("VT_DEVICE");
    let closed = closed.iter().filter(|body| body.contains(" state=closed ")).count();
    assert_eq!((closed, bench.bodies("VT_GAP").len()), (2, 1));
}
