//! `veritrail scrub`: everything is read past the page cache, at its rate, and a check that ended
//! before its end goes on from there.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bench::{BLOCK, Bench, Image, Ran, has, kill, long, noise, soon};

const MIB: usize = 1 << 20;

impl Bench {
    fn scrub(&self, arguments: &[&str]) -> Ran {
        let (run, state) = (self.run_dir(), self.path("state"));
        let places = ["--run-dir", &run, "--state-dir", state.to_str().unwrap()];
        self.veritrail(&[&["scrub"], arguments, &places].concat())
    }

    fn scrub_status(&self, name: &str) -> Value {
        let ran = self.scrub(&["--status", "--json", name]);
        serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"))
    }

    /// The last check: its state, verdict and number of bad blocks.
    fn last(&self, name: &str) -> (String, u64) {
        let status = self.scrub_status(name);
        assert_eq!(status["state"], "idle", "{status}");
        let last = &status["last"];
        (last["verdict"].as_str().unwrap().into(), last["counts"]["bad"].as_u64().unwrap())
    }

    /// The VT_SCRUB records that are not about a place, as their words.
    fn checks(&self) -> Vec<String> {
        let bodies = self.bodies("VT_SCRUB");
        bodies.into_iter().filter(|body| !body.contains(" state=found")).collect()
    }

    /// The blocks with a DM_EVENT, as often as they have one.
    fn blocks(&self) -> Vec<u64> {
        let violations = self.violations();
        let number = |event: &String| event.rsplit(' ').next().unwrap().parse().unwrap();
        violations.iter().map(number).collect()
    }
}

fn word<'a>(body: &'a str, key: &str) -> &'a str {
    let mut words = body.split(' ').filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    words.next().unwrap_or_else(|| panic!("no {key} in {body}"))
}

#[test]
fn all_that_is_bad_is_found_and_nothing_else() {
    let test = "all_that_is_bad_is_found_and_nothing_else";
    let Some(bench) = Bench::new(test) else { return };
    let image = bench.image("data", &noise(3000 * BLOCK));
    bench.open("root", &image, &[]);
    assert_eq!(bench.scrub(&["--wait", "root"]).status, 0);
    assert_eq!(bench.last("root"), ("good".into(), 0));
    for block in [10, 11, 2999] {
        bench.corrupt("data", block * BLOCK as u64 + 7);
    }
    // The superblock, the highest block, then 24 of level 0: this one is over blocks 128 to 255.
    bench.corrupt("data.hash", 3 * BLOCK as u64 + 100);
    let ran = bench.scrub(&["--wait", "root"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    let expected = "VIOLATED, 11.7 MiB in ";
    assert!(ran.out.starts_with(&format!("root: {expected}")), "{ran:?}");
    assert!(
        ran.out.ends_with("blocks: 3 bad, 1 bad in the tree, 128 unverifiable below those\n"),
        "{ran:?}"
    );
    let found = ["verify-data 10", "verify-data 11", "verify-metadata 128", "verify-data 2999"];
    assert_eq!(bench.violations(), found);
    let places: Vec<String> = bench.bodies("VT_PLACE");
    let data = bench.path("data").display().to_string();
    assert_eq!(
        places[0],
        format!(
            "role=data unit=4096 fault=mismatch blocks=10-10 bytes=40960-45055 file=\"{data}\""
        )
    );
    assert!(places[2].starts_with("role=hash unit=4096 fault=mismatch level=0 blocks=3-3 "));
    for event in bench.events().iter().filter(|event| event.body("VT_PLACE").is_some()) {
        assert_eq!(event.body("VT_SCRUB"), Some("name=\"root\" state=found"));
        assert_eq!(event.tail("VT_DEV"), Some("root"));
    }
    let status = bench.scrub_status("root");
    let counts = &status["last"]["counts"];
    let expected = [("bad", 3), ("bad_hash", 1), ("unverifiable", 128), ("good", 3000 - 131)];
    for (count, expected) in expected {
        assert_eq!(counts[count], expected, "{status}");
    }
    assert_eq!(status["last"]["access"], "direct", "{status}");
    // Nobody read the device: its own counts know of nothing.
    assert_eq!(bench.status("root")["counts"]["reads"], 0);
    let state = bench.path("state").display().to_string();
    let ran = bench.verity(&["status", "root", "--state-dir", &state]);
    let line = ran.out.lines().find(|line| line.starts_with("  last check:  ")).unwrap();
    assert!(line.contains(": VIOLATED, 11.7 MiB in "), "{line}");
    bench.close("root");
    bench.trail_is_good();
}

#[test]
fn what_can_be_put_right_is_said_to_be() {
    let Some(bench) = Bench::new("what_can_be_put_right_is_said_to_be") else { return };
    let bytes = noise(600 * BLOCK);
    bench.write("data", &bytes);
    let format = ["verity", "format", "data", "hash", "--root-hash-file", "root"];
    let fec = ["--fec-device", "fec"];
    assert_eq!(bench.veritrail(&[&format[..], &fec].concat()).status, 0);
    let root = fs::read_to_string(bench.path("root")).unwrap();
    let image = Image { data: "data".into(), hash: "hash".into(), root: root.trim_end().into() };
    bench.open("root", &image, &fec);
    bench.corrupt("data", 77 * BLOCK as u64);
    bench.corrupt("hash", 3 * BLOCK as u64);
    let ran = bench.scrub(&["--wait", "root"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(bench.last("root"), ("correctable".into(), 0));
    let counts = &bench.scrub_status("root")["last"]["counts"];
    assert_eq!((&counts["correctable"], &counts["correctable_hash"]), (&1.into(), &1.into()));
    let fixed = bench.bodies("VT_FEC");
    assert_eq!(fixed.len(), 2);
    assert!(fixed.iter().all(|body| word(body, "result") == "repairable"), "{fixed:?}");
    assert_eq!(bench.violations(), Vec::<String>::new());
    bench.close("root");
}

/// A loop device has a page cache of its own, which knows nothing of writes to the file below it.
#[test]
fn the_page_cache_hides_nothing() {
    let test = "the_page_cache_hides_nothing";
    let Some(bench) = Bench::new(test) else { return };
    if !has(test, &["losetup"]) {
        return;
    }
    let bytes = noise(256 * BLOCK);
    let made = bench.image("data", &bytes);
    let ran = Ran::of(bench.timed("losetup", &["-f", "--show", "data"]).output().unwrap());
    if ran.status != 0 {
        eprintln!("SKIPPED: {test}: losetup: {}", ran.err);
        return;
    }
    let device = ran.out.trim_end();
    // The cache of a device ends with its last user.
    let mut held = File::open(device).unwrap();
    let mut cached = Vec::new();
    held.read_to_end(&mut cached).unwrap();
    assert!(cached == bytes);
    let file = OpenOptions::new().write(true).open(bench.path("data")).unwrap();
    file.write_all_at(b"CORRUPT!", 100 * BLOCK as u64).unwrap();
    file.sync_all().unwrap();
    let verify = bench.veritrail(&["verity", "verify", device, &made.hash, &made.root]);
    assert_eq!(verify.status, 0, "what is cached is good: {verify:?}");
    let image = ["--hash", &made.hash, "--root-hash", &made.root, "--trail", "trail"];
    let ran = bench.scrub(&[&["--wait", device], &image[..]].concat());
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.out.contains("; blocks: 1 bad\n"), "{ran:?}");
    assert_eq!(bench.bodies("DM_EVENT"), ["module=verity op=verify-data dev=0:0 sector=100 res=0"]);
}

#[test]
fn the_rate_is_kept() {
    let Some(bench) = Bench::new("the_rate_is_kept") else { return };
    let image = bench.image("data", &noise(16 * MIB));
    bench.open("root", &image, &[]);
    let began = Instant::now();
    assert_eq!(bench.scrub(&["--wait", "root", "--rate", "8M"]).status, 0);
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1500), "16 MiB at 8 MiB/s in {took:?}");
    assert!(took < Duration::from_secs(8), "16 MiB at 8 MiB/s in {took:?}");
    bench.close("root");
}

/// Killed again and again: the work is done about once, and counted once.
#[test]
fn a_check_that_is_killed_goes_on_from_there() {
    let Some(bench) = Bench::new("a_check_that_is_killed_goes_on_from_there") else { return };
    let blocks = 64 * MIB / BLOCK;
    let image = bench.image("data", &noise(64 * MIB));
    let bad: Vec<u64> = (0..blocks as u64).step_by(250).collect();
    bad.iter().for_each(|block| bench.corrupt("data", block * BLOCK as u64));
    bench.open("root", &image, &[]);
    let mut reached = 0;
    for _ in 0..3 {
        let ran = bench.scrub(&["root", "--rate", "16M"]);
        assert_eq!(ran.status, 0, "{ran:?}");
        let next = || bench.scrub_status("root")["pass"]["next"].as_u64().unwrap();
        soon(30, "it gets on", || next() > reached);
        let status = bench.scrub_status("root");
        assert_eq!(status["state"], "running", "{status}");
        kill(i32::try_from(status["pass"]["pid"].as_i64().unwrap()).unwrap());
        soon(10, "it is gone", || bench.scrub_status("root")["state"] == "interrupted");
        reached = next();
    }
    let ran = bench.scrub(&["--wait", "root", "--rate", "max"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.err.contains("check goes on from "), "{ran:?}");
    assert_eq!(bench.last("root"), ("violation".into(), bad.len() as u64));
    let read = bench.scrub_status("root")["last"]["bytes"].as_u64().unwrap();
    // What each life had read and not noted is read again, and not counted: each began a few
    // reads of 4 MiB. The tree is a hundredth.
    assert!(read >= 64 * MIB as u64 && read < 90 * MIB as u64, "{read}");
    let recorded = bench.blocks();
    assert_eq!(recorded.iter().copied().collect::<BTreeSet<u64>>(), bad.iter().copied().collect());
    let checks = bench.checks();
    let states: Vec<&str> = checks.iter().map(|body| word(body, "state")).collect();
    assert_eq!(states, ["started", "resumed", "resumed", "resumed", "finished"]);
    bench.close("root");
    bench.trail_is_good();
}

#[test]
fn a_check_that_is_stopped_goes_on_and_one_of_another_image_begins_anew() {
    let test = "a_check_that_is_stopped_goes_on_and_one_of_another_image_begins_anew";
    let Some(bench) = Bench::new(test) else { return };
    let image = bench.image("data", &noise(64 * MIB));
    let description = |image: &Image| {
        let words = ["data", "--hash", "data.hash", "--trail", "trail", "--root-hash", &image.root];
        words.map(str::to_owned)
    };
    let scrub = |image: &Image, more: &[&str]| {
        let words = description(image);
        bench.scrub(&[&words.each_ref().map(String::as_str), more].concat())
    };
    let stopped = |image: &Image| {
        let ran = scrub(image, &["--rate", "16M"]);
        assert_eq!(ran.status, 0, "{ran:?}");
        soon(30, "it gets on", || bench.scrub_status("data")["pass"]["next"].as_u64() > Some(0));
        // It is refused to whoever comes second.
        let second = scrub(image, &["--wait"]);
        assert_eq!((second.status, &*second.out), (3, ""), "{second:?}");
        let ran = bench.scrub(&["--stop", "data"]);
        assert!(ran.status == 0 && ran.out.contains(": stopped at "), "{ran:?}");
        assert_eq!(bench.scrub_status("data")["state"], "stopped");
        assert_eq!(bench.scrub(&["--stop", "data"]).status, 1, "nothing is left to stop");
    };
    stopped(&image);
    assert_eq!(scrub(&image, &["--wait", "--rate", "max"]).status, 0);
    stopped(&image);
    let ran = scrub(&image, &["--wait", "--rate", "max", "--restart"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    stopped(&image);
    // The same name and size, other bytes.
    let mut bytes = noise(64 * MIB);
    bytes[0] ^= 1;
    let other = bench.image("data", &bytes);
    let ran = scrub(&other, &["--wait", "--rate", "max"]);
    assert!(ran.status == 0 && ran.err.contains("not the device that was checked"), "{ran:?}");
    let begun: Vec<(String, String)> = bench
        .checks()
        .iter()
        .filter(|body| body.contains(" why="))
        .map(|body| (word(body, "why").to_owned(), word(body, "from").to_owned()))
        .collect();
    let whys: Vec<&str> = begun.iter().map(|(why, _)| why.as_str()).collect();
    assert_eq!(whys, ["first", "resumed", "due", "restart", "due", "changed"]);
    assert!(begun.iter().all(|(why, from)| (why == "resumed") != (from == "0")), "{begun:?}");
}

#[test]
fn a_state_of_any_bytes_is_no_matter() {
    let Some(bench) = Bench::new("a_state_of_any_bytes_is_no_matter") else { return };
    let image = bench.image("data", &noise(10 * BLOCK));
    bench.open("root", &image, &[]);
    assert_eq!(bench.scrub(&["--wait", "root"]).status, 0);
    let states = || {
        let entries = fs::read_dir(bench.path("state")).unwrap();
        let mut paths = entries.map(|entry| entry.unwrap().path());
        paths.find(|path| path.extension().is_some_and(|end| end == "json")).unwrap()
    };
    let path = states();
    let text = fs::read_to_string(&path).unwrap();
    let lie = text.replace("\"good\":10", "\"good\":18446744073709551615");
    assert_ne!(lie, text);
    for garbage in [&b""[..], b"\xff\x00", b"{}", lie.as_bytes(), &[b'['; 300_000]] {
        fs::write(&path, garbage).unwrap();
        let ran = bench.scrub(&["--status"]);
        assert!(
            ran.status == 0 && ran.out.contains(": what was noted cannot be used: "),
            "{ran:?}"
        );
        let ran = bench.scrub(&["--wait", "root"]);
        assert_eq!(ran.status, 0, "{ran:?}");
        assert!(ran.err.contains("earlier checks cannot be used"), "{ran:?}");
        assert_eq!(bench.last("root"), ("good".into(), 0));
    }
    // Whoever may write there could also put a link to elsewhere, or a pipe.
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(bench.path("data"), &path).unwrap();
    assert_eq!(bench.scrub(&["--wait", "root"]).status, 6);
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_eq!(bench.scrub(&["--wait", "root"]).status, 0);
    bench.close("root");
}

/// By its name, by its path, by a loop device on it, by where that is mounted, and by a line of a
/// table: it is the same.
#[test]
fn a_device_is_found_by_whatever_it_is_called() {
    let test = "a_device_is_found_by_whatever_it_is_called";
    let Some(bench) = Bench::new(test) else { return };
    if !has(test, &["mke2fs", "losetup"]) {
        return;
    }
    File::create(bench.path("data")).unwrap().set_len(4 * MIB as u64).unwrap();
    let ran = Ran::of(bench.timed("mke2fs", &["-q", "-F", "-t", "ext2", "data"]).output().unwrap());
    assert_eq!(ran.status, 0, "{ran:?}");
    let bytes = fs::read(bench.path("data")).unwrap();
    let image = bench.image("data", &bytes);
    let device = bench.open("root", &image, &[]);
    let device = device.to_str().unwrap();
    let ran = Ran::of(bench.timed("losetup", &["-r", "-f", "--show", device]).output().unwrap());
    if ran.status != 0 {
        eprintln!("SKIPPED: {test}: losetup: {}", ran.err);
        return;
    }
    let loop_device = ran.out.trim_end();
    fs::create_dir(bench.path("mnt")).unwrap();
    let point = bench.path("mnt").display().to_string();
    let ran = bench.timed("mount", &["-o", "ro", loop_device, &point]).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let names = ["root", device, loop_device, "mnt", "./mnt/", &point];
    for name in names {
        let ran = bench.scrub(&["--wait", name]);
        assert!(ran.status == 0 && ran.out.starts_with("root: good, 4.0 MiB in "), "{ran:?}");
    }
    // Several names of one device are one.
    let ran = bench.scrub(&[&["--wait"], &names[..]].concat());
    assert_eq!((ran.status, ran.out.lines().count()), (0, 1), "{ran:?}");
    assert_eq!(bench.checks().len(), 2 * (names.len() + 1));
    for (name, hint) in [("nothing", "a served device"), ("data", "--hash"), ("/tmp", "--hash")] {
        let ran = bench.scrub(&["--wait", name]);
        assert!(ran.status == 2 && ran.err.contains(hint), "{ran:?}");
    }
    let ran = bench.timed("umount", &[&point]).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let ran = bench.timed("losetup", &["-d", loop_device]).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    bench.close("root");

    let path = |name: &str| bench.path(name).display().to_string();
    let line = format!("table {} {} {}\n", path("data"), path("data.hash"), image.root);
    bench.write("tab", line.as_bytes());
    let words = ["table", "--tab", "tab", "--trail", "trail"];
    let ran = bench.scrub(&[&["--wait"], &words[..]].concat());
    assert!(ran.status == 0 && ran.out.contains("data: good, 4.0 MiB in "), "{ran:?}");
    let ran = bench.scrub(&words);
    assert!(ran.status == 0 && ran.out.contains(" in the background "), "{ran:?}");
    soon(20, "it ends", || bench.scrub_status("data")["state"] == "idle");
}

#[test]
fn the_list_has_every_served_device() {
    let Some(bench) = Bench::new("the_list_has_every_served_device") else { return };
    let list = |more: &[&str]| {
        let (run, state) = (bench.run_dir(), bench.path("state").display().to_string());
        let places = ["--run-dir", &*run, "--state-dir", &*state];
        bench.veritrail(&[&["device", "list"], more, &places].concat())
    };
    let image = bench.image("data", &noise(100 * BLOCK));
    let device = bench.open("good", &image, &[]);
    let other = bench.image("other", &noise(100 * BLOCK));
    bench.open("bad", &other, &["--ignore-corruption"]);
    // The kernel's devices are not this test's.
    let rows = || {
        let ran = list(&["--json"]);
        let rows: Vec<Value> = ran.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        rows.into_iter().filter(|row| row["backend"] == "user").collect::<Vec<Value>>()
    };
    let found: Vec<(String, String)> =
        rows().iter().map(|row| (row["name"].to_string(), row["mode"].to_string())).collect();
    let expected = [("\"bad\"", "\"ignore\""), ("\"good\"", "\"eio\"")];
    assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    assert!(rows().iter().all(|row| row["state"] == "verified" && row["last_check"].is_null()));
    bench.corrupt("other", 3 * BLOCK as u64);
    fs::read(bench.device("bad")).unwrap();
    assert_eq!(bench.scrub(&["--wait", "good", "bad"]).status, 1);
    let rows = rows();
    assert_eq!((&rows[0]["state"], &rows[0]["size"]), (&"corrupted".into(), &409_600.into()));
    assert!(rows[0]["violations"].as_u64() > Some(0), "{rows:?}");
    assert_eq!(rows[0]["last_check"]["last"]["verdict"], "violation");
    assert_eq!(rows[1]["last_check"]["last"]["verdict"], "good");
    assert_eq!(rows[1]["path"], device.to_str().unwrap());
    let ran = list(&[]);
    assert_eq!(ran.status, 1, "{ran:?}");
    let line = ran.out.lines().find(|line| line.starts_with("good ")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let expected = ["good", "verity", "user", "verified", "eio", "400.0", "KiB", "0", "0"];
    assert_eq!(words[..9], expected, "{ran:?}");
    bench.close("good");
    bench.close("bad");
}

/// The file that is served is checked, whatever its name means by now.
#[test]
fn a_file_that_was_replaced_is_checked_as_it_is_served() {
    let Some(bench) = Bench::new("a_file_that_was_replaced_is_checked_as_it_is_served") else {
        return;
    };
    let image = bench.image("data", &noise(100 * BLOCK));
    bench.open("root", &image, &[]);
    for name in ["data", "data.hash"] {
        fs::rename(bench.path(name), bench.path(&format!("{name}.old"))).unwrap();
        bench.write(name, &noise(5));
    }
    assert_eq!(bench.scrub(&["--wait", "root"]).status, 0);
    bench.corrupt("data.old", 5000);
    assert_eq!(bench.scrub(&["--wait", "root"]).status, 1);
    fs::remove_file(bench.path("data.old")).unwrap();
    assert_eq!(bench.scrub(&["--wait", "root"]).status, 1);
    bench.close("root");
}

#[test]
fn a_hundred_gibibytes_take_no_more_memory_than_one() {
    let test = "a_hundred_gibibytes_take_no_more_memory_than_one";
    if !long() {
        eprintln!("SKIPPED: {test}: takes minutes; VERITRAIL_LONG=1 runs it");
        return;
    }
    let Some(bench) = Bench::new(test) else { return };
    if !has(test, &["/usr/bin/time"]) {
        return;
    }
    let size: u64 = 100 << 30;
    File::create(bench.path("data")).unwrap().set_len(size).unwrap();
    let program = env!("CARGO_BIN_EXE_veritrail");
    let format = ["verity", "format", "data", "hash", "--root-hash-file", "root"];
    let folder = bench.folder();
    assert!(Command::new(program).args(format).current_dir(folder).status().unwrap().success());
    let output = Command::new("/usr/bin/time")
        .args(["-f", "%M", program, "scrub", "--wait", "data", "--hash", "hash"])
        .args(["--root-hash-file", "root", "--rate", "max", "--trail", "trail"])
        .args(["--state-dir", "state"])
        .current_dir(folder)
        .output()
        .unwrap();
    let ran = Ran::of(output);
    assert!(ran.status == 0 && ran.out.contains(": good, 100.0 GiB in "), "{ran:?}");
    let kib: u64 = ran.err.lines().last().unwrap().parse().unwrap();
    assert!(kib < 64 << 10, "{kib} KiB");
    eprintln!("100 GiB: {kib} KiB, {}", ran.out.trim_end());
}
