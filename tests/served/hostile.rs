//! Readers that mean harm, and devices that are absurd.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::bench::{BLOCK, Bench, Image, Stop, direct, golden, long, noise, read_once, refused};

const MOST_KIB: u64 = 32 << 10;

/// Keeper and volume together, at their worst.
fn memory_kib(bench: &Bench, name: &str) -> u64 {
    let (keeper, volume) = bench.servers(name);
    let of = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    of(keeper) + of(volume)
}

/// `status` within two seconds. The machine may be busy with something else, so three are tried.
fn responsive(bench: &Bench, name: &str) -> Duration {
    let tries = (0..3).map(|_| {
        let since = Instant::now();
        assert_eq!(bench.verity(&["status", name]).status, 0);
        since.elapsed()
    });
    let took: Vec<Duration> = tries.collect();
    *took.iter().min().filter(|best| **best < Duration::from_secs(2)).unwrap_or_else(|| {
        panic!("{took:?} for status");
    })
}

#[test]
fn reads_that_fail_by_the_thousand_wedge_nothing() {
    let Some(bench) = Bench::new("reads_that_fail_by_the_thousand_wedge_nothing") else { return };
    let bytes = noise(2000 * BLOCK);
    let image = bench.image("image", &bytes);
    for block in (0..2000).step_by(2) {
        bench.corrupt("image", block * BLOCK as u64 + 99);
    }
    let device = bench.open("v", &image, &["--direct-io"]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&over);
        for thread in 0..32_u64 {
            let (device, bytes, over) = (&device, &bytes, &over);
            scope.spawn(move || {
                let file = direct(device);
                let mut turn = thread;
                while !over.load(Ordering::Relaxed) {
                    turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let block = (turn >> 33) % 2000;
                    let at = usize::try_from(block).unwrap() * BLOCK;
                    match read_once(&file, block * BLOCK as u64, BLOCK) {
                        Ok(read) => assert!(block % 2 == 1 && read == bytes[at..at + BLOCK]),
                        Err(error) => {
                            assert_eq!((block % 2, error.raw_os_error()), (0, Some(5)));
                        }
                    }
                    // The last offset there is, and some on the way; beyond the end is the end.
                    for offset in [i64::MAX as u64 - 1, 1 << 62, bytes.len() as u64 + block] {
                        let beyond = read_once(&file, offset, 1);
                        assert!(beyond.is_err() || beyond.unwrap().is_empty());
                    }
                }
            });
        }
        let end = Instant::now() + Duration::from_secs(if long() { 30 } else { 3 });
        let mut longest = Duration::ZERO;
        while Instant::now() < end {
            longest = longest.max(responsive(&bench, "v"));
        }
        println!("the best of three status took at most {longest:?}");
    });
    let status = bench.status("v");
    let violations = status["counts"]["violations"].as_u64().unwrap();
    assert!(violations > 1000, "{violations}");
    let memory = memory_kib(&bench, "v");
    assert!(memory < MOST_KIB, "{memory} KiB");
    bench.close("v");
    // Each is on record, and the announcement.
    assert_eq!(bench.violations().len() as u64, violations + 1);
    bench.trail_is_good();
}

/// dd answers SIGUSR1 with its numbers and goes on; its reads are interrupted all the time.
#[test]
fn signals_in_the_middle_of_reads_wedge_nothing() {
    let Some(bench) = Bench::new("signals_in_the_middle_of_reads_wedge_nothing") else { return };
    let bytes = noise(500 * BLOCK);
    let image = bench.image("image", &bytes);
    bench.corrupt("image", 400 * BLOCK as u64);
    let device = bench.open("v", &image, &["--direct-io"]);
    let dd = |count: u64| {
        Command::new("dd")
            .arg(format!("if={}", device.display()))
            .args(["of=/dev/null", "bs=4096"])
            .arg(format!("count={count}"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let turns = if long() { 400 } else { 60 };
    let (mut stormed, mut killed) = (0, 0);
    for turn in 0..turns {
        let mut reader = dd(500);
        let pid = rustix::process::Pid::from_child(&reader);
        std::thread::sleep(Duration::from_micros(turn * 211 % 5000));
        // Before it is ready for SIGUSR1 it dies of it, which is as good. A storm without a pause or an
        // end is all that dd would do.
        for _ in 0..2000 {
            if turn % 2 == 1 || reader.try_wait().unwrap().is_some() {
                break;
            }
            rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
            stormed += 1;
            std::thread::sleep(Duration::from_micros(20));
        }
        if turn % 2 == 1 {
            reader.kill().unwrap();
            killed += 1;
        }
        reader.wait().unwrap();
    }
    assert!(stormed > killed && killed > 0);
    responsive(&bench, "v");
    assert_eq!(refused(&device, BLOCK, &bytes), [400]);
    bench.close("v");
    assert_eq!(bench.left(), Vec::<String>::new());
    assert!(
        bench
            .violations()
            .iter()
            .all(|one| { one == "verify-data 400" || one == "max-corrupted-errors ?" })
    );
}

/// A hundred GiB of nothing, with a tree of nothing: opens, and every read is refused.
#[test]
fn a_device_of_a_hundred_gib_takes_no_more_memory() {
    let Some(bench) = Bench::new("a_device_of_a_hundred_gib_takes_no_more_memory") else { return };
    const BYTES: u64 = 100 << 30;
    let tree: u64 = [204_800, 1600, 13, 1].iter().sum();
    File::create(bench.path("data")).unwrap().set_len(BYTES).unwrap();
    File::create(bench.path("hash")).unwrap().set_len(tree * BLOCK as u64).unwrap();
    let image = Image { data: "data".into(), hash: "hash".into(), root: "0".repeat(64) };
    let device = bench.open("v", &image, &["--no-superblock", "--check-at-most-once"]);
    assert_eq!(fs::metadata(&device).unwrap().len(), BYTES);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let device = &device;
            scope.spawn(move || {
                let file = direct(device);
                for turn in 0..50 {
                    let offset = (thread * 50 + turn) * (BYTES / 400);
                    let error = read_once(&file, offset, 1 << 20).unwrap_err();
                    assert_eq!(error.raw_os_error(), Some(5));
                }
            });
        }
    });
    let memory = memory_kib(&bench, "v");
    assert!(memory < MOST_KIB, "{memory} KiB");
    responsive(&bench, "v");
    bench.close("v");
    assert!(bench.violations().len() > 400);
}

/// The server reads and sends on as before when a reader stops in the middle and never goes on.
#[test]
fn a_reader_that_stops_holds_nobody_up() {
    let Some(bench) = Bench::new("a_reader_that_stops_holds_nobody_up") else { return };
    let image = bench.image("data", &golden("vdata-64x4k.img"));
    let device = bench.open("v", &image, &["--direct-io"]);
    let mut stopped = Vec::new();
    for _ in 0..20 {
        let reader = Command::new("sh")
            .args(["-c", "while :; do cat \"$0\" > /dev/null; done"])
            .arg(&device)
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(10));
        let pid = rustix::process::Pid::from_child(&reader);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        stopped.push(reader);
    }
    responsive(&bench, "v");
    assert_eq!(refused(&device, BLOCK, &golden("vdata-64x4k.img")), Vec::<u64>::new());
    for mut reader in stopped {
        reader.kill().unwrap();
        reader.wait().unwrap();
    }
    crate::bench::soon(10, "the end", || bench.verity(&["close", "v"]).status == 0);
}

/// A keeper that cannot record lets nobody read on: its volume ends. One that is asked and does not
/// answer is said not to.
#[test]
fn a_server_that_stands_still_ends_reads_and_is_said_to() {
    let Some(bench) = Bench::new("a_server_that_stands_still_ends_reads_and_is_said_to") else {
        return;
    };
    let image = bench.image("data", &golden("vdata-64x4k.img"));
    let device = bench.open("v", &image, &["--direct-io"]);
    let (keeper, _) = bench.servers("v");
    let keeper = rustix::process::Pid::from_raw(keeper).unwrap();
    rustix::process::kill_process(keeper, rustix::process::Signal::STOP).unwrap();
    let file = direct(&device);
    assert!(read_once(&file, 0, BLOCK).unwrap() == golden("vdata-64x4k.img")[..BLOCK]);
    bench.corrupt("data", 17);
    let ran = std::thread::scope(|scope| {
        let asking = scope.spawn(|| bench.verity(&["status", "v"]));
        let since = Instant::now();
        read_once(&file, 0, BLOCK).unwrap_err();
        assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
        asking.join().unwrap()
    });
    assert_eq!((ran.status, ran.out.as_str()), (6, ""));
    assert!(ran.err.contains("it lives and does not answer"), "{}", ran.err);
    rustix::process::kill_process(keeper, rustix::process::Signal::CONT).unwrap();
    crate::bench::soon(5, "its end", || bench.status("v")["state"] == "dead");
    drop(file);
    assert_eq!(bench.verity(&["close", "v"]).status, 0);
    // It has found the report when it went on.
    assert_eq!(bench.violations(), ["verify-data 0"]);
    assert_eq!(bench.left(), Vec::<String>::new());
}

/// A volume that stands still does not hinder the end of its device.
#[test]
fn a_volume_that_stands_still_can_be_closed() {
    let Some(bench) = Bench::new("a_volume_that_stands_still_can_be_closed") else { return };
    let image = bench.image("data", &golden("vdata-64x4k.img"));
    bench.open("v", &image, &[]);
    let volume = rustix::process::Pid::from_raw(bench.servers("v").1).unwrap();
    rustix::process::kill_process(volume, rustix::process::Signal::STOP).unwrap();
    assert_eq!(bench.status("v")["state"], "active");
    bench.close("v");
    assert_eq!(bench.left(), Vec::<String>::new());
    assert_eq!(bench.bodies("DM_CTRL").len(), 2);
}
