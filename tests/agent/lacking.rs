//! What cannot be had is named and missing; what is forged is not believed.

use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;

use crate::auditing::Auditing;
use crate::bench::{Bench, soon};

#[test]
fn without_rights_it_works_with_what_is_left() {
    let test = "without_rights_it_works_with_what_is_left";
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: {test}: needs root");
        return;
    }
    let mut bench = Bench::new();
    bench.run_by(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
    chown(bench.path(""), Some(65534), Some(65534)).unwrap();
    let agent = bench.start(&[]);
    assert!(agent.says("audit: missing: "), "{:?}", agent.said);
    assert!(agent.says("violations are learnt late"), "{:?}", agent.said);
    assert!(agent.said.last().unwrap().starts_with("ready, without audit"), "{:?}", agent.said);
    assert_eq!(bench.source("audit", "state"), "missing");
    assert_eq!(agent.stop(), Some(0));
    let states = bench.bodies("VT_AGENT");
    assert!(states[0].contains(" missing=audit"), "{states:?}");
}

#[test]
fn without_any_source_it_does_not_start() {
    let bench = Bench::new();
    // The node alone says nothing: tools make it without asking.
    if fs::read_to_string("/proc/misc").unwrap().contains("device-mapper") {
        eprintln!("SKIPPED: without_any_source_it_does_not_start: this kernel has a device mapper");
        return;
    }
    bench.write("config", "[agent]\nsources = [\"dm\"]\n");
    let arguments = ["agent", "run", "--trail", "trail", "--run-dir", "run", "--config", "config"];
    let ran = bench.veritrail(&arguments);
    assert_eq!((ran.status, ran.out.as_str()), (Some(3), ""), "{ran:?}");
    assert!(ran.err.contains("there is nothing to listen to"), "{ran:?}");
    assert!(ran.err.contains("this kernel has no device mapper"), "{ran:?}");
    assert!(ran.err.contains("hint: "), "{ran:?}");
}

#[test]
fn a_configuration_that_cannot_be_used_says_where() {
    let bench = Bench::new();
    for (config, said) in [
        ("[agent]\npoll_seconds = 0\n", "config:2: agent.poll_seconds: 0 is not 1 to 3600 seconds"),
        ("[agent]\nsources = [\"log\"]\n", "config:2: agent.sources.0: unknown variant `log`"),
        ("\n[agent\n", "config:2: "),
    ] {
        bench.write("config", config);
        let ran = bench.veritrail(&["agent", "run", "--config", "config", "--run-dir", "run"]);
        assert_eq!(ran.status, Some(5), "{ran:?}");
        assert!(ran.err.contains("the configuration config cannot be used"), "{ran:?}");
        assert!(ran.err.contains(said), "{ran:?}");
    }
}

#[test]
fn a_configuration_can_be_checked_without_an_agent() {
    let bench = Bench::new();
    bench.write("config", "[agent]\npoll_second = 1\n[verity]\npanic_command = []\n");
    let ran = bench.veritrail(&["agent", "check-config", "config"]);
    assert_eq!((ran.status, ran.err.as_str()), (Some(5), ""), "{ran:?}");
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(lines.len(), 2, "{ran:?}");
    assert!(lines[0].starts_with("config:2: agent.poll_second: unknown field"), "{ran:?}");
    assert!(lines[0].ends_with("(did you mean `poll_seconds`?)"), "{ran:?}");
    assert_eq!(lines[1], "config:4: verity.panic_command: a command needs at least its program");

    let ran = bench.veritrail(&["agent", "check-config", "--json", "config"]);
    assert_eq!(ran.status, Some(5), "{ran:?}");
    assert!(ran.out.contains(r#""line":4,"key":"verity.panic_command""#), "{ran:?}");

    bench.write("config", "[agent]\npoll_seconds = 1\n");
    let ran = bench.veritrail(&["agent", "check-config", "config"]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(0), "config is right\n"), "{ran:?}");
    let ran = bench.veritrail(&["agent", "check-config", "elsewhere"]);
    assert_eq!(ran.status, Some(6), "{ran:?}");
}

/// Anybody who may write to /dev/kmsg can write the kernel's words; his lines are marked as his.
#[test]
fn a_line_that_a_process_wrote_into_the_kernels_log_is_no_violation() {
    let test = "a_line_that_a_process_wrote_into_the_kernels_log_is_no_violation";
    let Some(_auditing) = Auditing::begin(test) else { return };
    let Ok(mut log) = fs::OpenOptions::new().write(true).open("/dev/kmsg") else {
        eprintln!("SKIPPED: {test}: /dev/kmsg cannot be written");
        return;
    };
    let bench = Bench::new();
    let agent = bench.start(&[]);
    if !agent.says("kmsg: listening") {
        eprintln!("SKIPPED: {test}: {:?}", agent.said);
        return;
    }
    for forged in [
        "device-mapper: verity: 7:1: data block 10 is corrupted\n",
        "<3>device-mapper: integrity: Checksum failed at sector 0x10\n",
        "<0>device-mapper: verity: 7:1: reached maximum errors\n",
    ] {
        log.write_all(forged.as_bytes()).unwrap();
    }
    soon("the forged lines", || bench.source("kmsg", "messages").as_u64() >= Some(3));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(bench.status()["violations"], 0);
    assert!(bench.status()["passed_over"]["foreign_lines"].as_u64() >= Some(3));
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bench.bodies("DM_EVENT"), [""; 0]);
    assert_eq!(bench.bodies("VT_PLACE"), [""; 0]);
}
