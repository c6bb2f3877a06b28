//! What `open` can be told to do about corruption, and what not to look at twice.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::bench::{BLOCK, Bench, direct, golden, read_once, soon};

const ROOT: &str = "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";
const TEN: u64 = 40_960;
const BYTES_OF_TEN: std::ops::Range<usize> = 40_960..45_056;

/// A command that writes down what the trail has on disk when it runs.
fn configuration(bench: &Bench) {
    let script = bench.path("witness");
    let (segments, saw) = (bench.path("trail/segments"), bench.path("saw"));
    let text = format!(
        "#!/bin/sh\necho ran >> {saw}\ngrep -ha 'op=verify-data' {segments}/*.log >> {saw}\nexit 0\n",
        segments = segments.display(),
        saw = saw.display()
    );
    bench.write("witness", text.as_bytes());
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let script = script.display();
    let text =
        format!("[verity]\nrestart_command = [\"{script}\"]\npanic_command = [\"{script}\"]\n");
    bench.write("veritrail.toml", text.as_bytes());
}

#[test]
fn a_command_runs_once_and_after_its_record() {
    let test = "a_command_runs_once_and_after_its_record";
    for option in ["--restart-on-corruption", "--panic-on-corruption"] {
        let Some(bench) = Bench::new(test) else { return };
        let image = bench.golden("v-sha256.hash", ROOT);
        configuration(&bench);
        bench.corrupt("data", TEN + 17);
        let device = bench.open("v", &image, &[option, "--config", "veritrail.toml"]);
        let flag = option.trim_start_matches('-').replace('-', "_");
        assert_eq!(bench.status("v")["flags"], serde_json::json!([flag]));
        let device = direct(&device);
        for _ in 0..5 {
            assert_eq!(read_once(&device, TEN, BLOCK).unwrap_err().raw_os_error(), Some(5));
        }
        drop(device);
        let saw = || fs::read_to_string(bench.path("saw")).unwrap_or_default();
        soon(5, "the command", || saw().contains("op=verify-data"));
        bench.close("v");
        assert_eq!(saw().matches("ran\n").count(), 1, "{}", saw());
        assert!(saw().contains(" sector=10 res=0"), "{}", saw());
        assert_eq!(bench.violations().len(), 5);
    }
}

#[test]
fn a_command_that_cannot_run_costs_no_record() {
    let Some(bench) = Bench::new("a_command_that_cannot_run_costs_no_record") else { return };
    let image = bench.golden("v-sha256.hash", ROOT);
    bench.write("veritrail.toml", b"[verity]\nrestart_command = [\"/nowhere/at-all\"]\n");
    bench.corrupt("data", TEN + 17);
    let options = ["--restart-on-corruption", "--config", "veritrail.toml"];
    let device = direct(&bench.open("v", &image, &options));
    for _ in 0..2 {
        read_once(&device, TEN, BLOCK).unwrap_err();
    }
    assert_eq!(read_once(&device, 0, BLOCK).unwrap().len(), BLOCK);
    drop(device);
    bench.close("v");
    assert_eq!(bench.violations(), ["verify-data 10", "verify-data 10"]);
}

#[test]
fn a_mode_that_needs_a_command_says_so() {
    let Some(bench) = Bench::new("a_mode_that_needs_a_command_says_so") else { return };
    let image = bench.golden("v-sha256.hash", ROOT);
    bench.write("veritrail.toml", b"");
    for (option, key) in
        [("--restart-on-corruption", "restart_command"), ("--panic-on-corruption", "panic_command")]
    {
        let ran = bench.try_open("v", &image, &[option, "--config", "veritrail.toml"]);
        assert_eq!((ran.status, ran.out.as_str()), (2, ""));
        assert!(ran.err.contains(&format!("{option} needs a command to run")), "{}", ran.err);
        assert!(ran.err.contains(&format!("hint: say which in the configuration: [verity] {key}")));
        assert_eq!(bench.left(), Vec::<String>::new());
    }
}

/// Blocks 40 and 41 are zero by the tree: nobody looks at what the disk has there.
#[test]
fn zero_blocks_are_zero_whatever_the_disk_has() {
    let Some(bench) = Bench::new("zero_blocks_are_zero_whatever_the_disk_has") else { return };
    let image = bench.golden("v-sha256.hash", ROOT);
    bench.corrupt("data", 40 * BLOCK as u64);
    bench.corrupt("data", TEN);
    let device = bench.open("v", &image, &["--ignore-zero-blocks"]);
    let device = direct(&device);
    assert!(read_once(&device, 40 * BLOCK as u64, 2 * BLOCK).unwrap() == [0; 2 * BLOCK]);
    read_once(&device, TEN, BLOCK).unwrap_err();
    drop(device);
    bench.close("v");
    assert_eq!(bench.violations(), ["verify-data 10"]);

    let Some(bench) = Bench::new("zero_blocks_are_zero_whatever_the_disk_has") else { return };
    let image = bench.golden("v-sha256.hash", ROOT);
    bench.corrupt("data", 40 * BLOCK as u64);
    let device = bench.open("v", &image, &[]);
    read_once(&direct(&device), 40 * BLOCK as u64, 2 * BLOCK).unwrap_err();
    bench.close("v");
    assert_eq!(bench.violations(), ["verify-data 40"]);
}

#[test]
fn what_was_good_once_is_not_looked_at_again() {
    let Some(bench) = Bench::new("what_was_good_once_is_not_looked_at_again") else { return };
    let image = bench.golden("v-sha256.hash", ROOT);
    let device = direct(&bench.open("v", &image, &["--check-at-most-once"]));
    let good = golden("vdata-64x4k.img");
    assert!(read_once(&device, TEN, BLOCK).unwrap() == good[BYTES_OF_TEN]);
    bench.corrupt("data", TEN + 17);
    bench.corrupt("data", TEN + BLOCK as u64);
    let bad = &fs::read(bench.path("data")).unwrap()[BYTES_OF_TEN];
    assert!(read_once(&device, TEN, BLOCK).unwrap() == bad);
    read_once(&device, TEN + BLOCK as u64, BLOCK).unwrap_err();
    drop(device);
    bench.close("v");
    assert_eq!(bench.violations(), ["verify-data 11"]);
}
