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

/// Refused reads of one device, and that what is not on record is said to be lost at most.
fn nothing_is_silently_lost(bench: &Bench, trail: &str, refused: usize) {
    let events = bench.events_of(trail);
    let recorded = events.iter().filter(|event| event.body("DM_EVENT").is_some()).count();
    let gaps = events.iter().filter_map(|event| event.body("VT_GAP"));
    let lost = gaps.map(|gap| {
        assert!(gap.starts_with("source=door device=v integrity="), "{gap}");
        assert!(gap.ends_with(" count=at-most"), "{gap}");
        let number = gap.split("integrity=").nth(1).unwrap();
        number.split(' ').next().unwrap().parse::<usize>().unwrap()
    });
    let lost: usize = lost.sum();
    assert!(recorded < refused && recorded + lost >= refused, "{recorded} + {lost}, {refused}");
    let ran = bench.veritrail(&["trail", "verify", trail]);
    assert_eq!(ran.status, 0, "{ran:?}");
}

fn refuse(file: &File, times: usize) {
    for _ in 0..times {
        let error = read_once(file, 10 * BLOCK as u64, BLOCK).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5));
    }
}

/// The reads are refused all the same, and the gap is on record when there is room again.
#[test]
fn a_full_disk_under_the_trail_is_a_gap() {
    let Some(bench) = Bench::new("a_full_disk_under_the_trail_is_a_gap") else { return };
    let image = bench.image("image", &noise(64 * BLOCK));
    bench.corrupt("image", 10 * BLOCK as u64 + 17);
    fs::create_dir(bench.path("small")).unwrap();
    let small = bench.path("small");
    let flags = rustix::mount::MountFlags::NOSUID;
    rustix::mount::mount("none", &small, "tmpfs", flags, Some(c"size=1m")).unwrap();
    let device = direct(&bench.open("v", &image, &["--direct-io", "--trail", "small/trail"]));
    refuse(&device, 5);
    crate::bench::soon(5, "five records", || bench.events_of("small/trail").len() == 6);
    let mut filler = File::create(small.join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[7; 4096]).is_ok() {}
    drop(filler);
    refuse(&device, 50);
    assert_eq!(bench.status("v")["state"], "active");
    fs::remove_file(small.join("filler")).unwrap();
    // A door that failed is tried again after a second.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    refuse(&device, 5);
    drop(device);
    bench.close("v");
    nothing_is_silently_lost(&bench, "small/trail", 60);
}

/// The trail is somewhere else for a while, and its writer killed, so that nobody has it open.
#[test]
fn a_trail_that_is_away_for_a_while_is_a_gap() {
    let Some(bench) = Bench::new("a_trail_that_is_away_for_a_while_is_a_gap") else { return };
    let image = bench.image("image", &noise(64 * BLOCK));
    bench.corrupt("image", 10 * BLOCK as u64 + 17);
    bench.open("writer", &image, &[]);
    let device = direct(&bench.open("v", &image, &["--direct-io"]));
    assert_eq!(holder(&bench), bench.servers("writer").0);
    refuse(&device, 5);
    crate::bench::soon(5, "five records", || bench.bodies("DM_EVENT").len() == 5);
    fs::rename(bench.path("trail"), bench.path("away")).unwrap();
    kill(bench.servers("writer").0);
    std::thread::sleep(std::time::Duration::from_millis(200));
    refuse(&device, 20);
    fs::rename(bench.path("away"), bench.path("trail")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    refuse(&device, 5);
    drop(device);
    bench.close("v");
    nothing_is_silently_lost(&bench, "trail", 30);
    assert_eq!(bench.verity(&["close", "writer"]).status, 0);
}
