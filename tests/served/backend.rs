//! What verifies where the kernel has no dm-verity.

use std::fs;

use crate::bench::Bench;

const ROOT: &str = "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";

/// Where the kernel has one this is a scenario of tests/vm (mapped-devices).
#[test]
fn without_a_device_mapper_the_kernel_cannot_be_had() {
    let test = "without_a_device_mapper_the_kernel_cannot_be_had";
    // The node alone says nothing: tools make it without asking.
    if fs::read_to_string("/proc/misc").unwrap().contains("device-mapper") {
        return eprintln!("SKIPPED: {test}: this kernel has a device mapper");
    }
    let Some(bench) = Bench::new(test) else { return };
    bench.golden("v-sha256.hash", ROOT);
    let run_dir = bench.run_dir();
    let open = |more: &[&str]| {
        bench.veritrail(&[&["verity", "open", "data", "v", "hash", ROOT], more].concat())
    };
    let ran = open(&["--backend", "kernel"]);
    assert_eq!((ran.status, ran.out.as_str()), (3, ""), "{}", ran.err);
    let said =
        "veritrail: this kernel has no device mapper\n  because: there is no /dev/mapper/control\n";
    assert!(
        ran.err.starts_with(said) && ran.err.contains("  hint: load the module"),
        "{}",
        ran.err
    );
    // What it could not have anyway is told first.
    let ran = open(&["--backend", "kernel", "--run-dir", &run_dir]);
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains("--run-dir is for --backend user"), "{}", ran.err);
}
