//! Under the name `veritysetup`: its exit status and its lines. (Seen with 2.6.1, which needs the
//! device mapper for them and so is not run here.)

use std::fs;
use std::os::unix::fs::symlink;

use crate::bench::{Bench, Ran, golden};

const ROOT: &str = "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";

#[test]
fn as_veritysetup_the_same_verbs_end_as_there() {
    let Some(bench) = Bench::new("as_veritysetup_the_same_verbs_end_as_there") else { return };
    let link = bench.path("veritysetup");
    symlink(env!("CARGO_BIN_EXE_veritrail"), &link).unwrap();
    bench.golden("v-sha256.hash", ROOT);
    let (run_dir, trail) = (bench.run_dir(), bench.path("trail"));
    let run = |arguments: &[&str]| {
        let arguments = [arguments, &["--run-dir", &run_dir]].concat();
        Ran::of(bench.timed(link.to_str().unwrap(), &arguments).output().unwrap())
    };
    let trail = trail.to_str().unwrap();
    let open = ["open", "data", "v", "hash", ROOT, "--trail", trail];
    let device = bench.device("v");

    let ran = run(&["status", "v"]);
    assert_eq!((ran.status, ran.out), (4, format!("{} is inactive.\n", device.display())));
    let ran = run(&["close", "v"]);
    assert_eq!((ran.status, ran.out.as_str()), (4, ""));
    assert_eq!(ran.err.lines().next(), Some("veritrail: Device v is not active."));

    let ran = run(&open);
    assert_eq!((ran.status, ran.out), (0, format!("{}\n", device.display())), "{}", ran.err);
    assert!(fs::read(&device).unwrap() == golden("vdata-64x4k.img"));
    let ran = run(&open);
    assert_eq!((ran.status, ran.out.as_str()), (5, ""));
    assert_eq!(ran.err.lines().next(), Some("veritrail: Device v already exists."));

    let user = fs::File::open(&device).unwrap();
    let ran = run(&["status", "v"]);
    assert_eq!(ran.status, 0);
    assert!(ran.out.starts_with(&format!("{} is active", device.display())), "{}", ran.out);
    let ran = run(&["close", "v"]);
    assert_eq!((ran.status, ran.out.as_str()), (5, ""));
    assert_eq!(ran.err.lines().next(), Some("veritrail: Device v is still in use."));
    drop(user);
    assert_eq!(run(&["close", "v"]), Ran { status: 0, out: String::new(), err: String::new() });

    // Devices that are not there, root hashes that are none.
    let ran = run(&["open", "nothing", "v", "hash", ROOT, "--trail", trail]);
    assert_eq!(ran.status, 4, "{}", ran.err);
    let ran = run(&["open", "data", "v", "hash", &ROOT[2..], "--trail", trail]);
    assert_eq!(ran.status, 1, "{}", ran.err);
    assert_eq!(bench.left(), Vec::<String>::new());
}
