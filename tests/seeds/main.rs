//! The examples of the public documents that veritrail answers to, run as scripts.
//!
//! Each script lists every change to the document's commands, with its reason.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../crates/host/tests/audit/auditing.rs"]
mod auditing;

use std::path::Path;
use std::process::Command;

/// Runs `tests/seeds/NAME.sh` in an empty folder, with `veritrail` and the link names first on the PATH.
fn run(name: &str, needs: &[&str]) {
    for tool in needs {
        if !on_path(tool) {
            eprintln!("SKIPPED: seeds/{name}: {tool} is not installed");
            return;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for link in ["veritrail", "veritysetup", "ausearch"] {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_veritrail"), bin.join(link)).unwrap();
    }
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/seeds");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("timeout")
        .args(["120", "bash"])
        .arg(seeds.join(name))
        .current_dir(folder.path())
        .env("PATH", path)
        .env("SEEDS", &seeds)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for skipped in text.lines().filter(|line| line.starts_with("SKIPPED: ")) {
        eprintln!("SKIPPED: seeds/{name}: {}", &skipped["SKIPPED: ".len()..]);
    }
    assert!(
        output.status.success(),
        "{name}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn on_path(tool: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).exists()))
}

#[test]
fn seed_000_dm_verity_audit() {
    run("000-dm-verity-audit.sh", &["bash", "dd"]);
}

#[test]
fn seed_001_dm_integrity_audit() {
    run("001-dm-integrity-audit.sh", &["bash", "cmp"]);
}

#[test]
fn seed_002_container_records() {
    run("002-container-records.sh", &["bash"]);
}

#[test]
fn seed_002_container_identifiers() {
    let Some(_auditing) = auditing::Auditing::begin("seeds/002-container-identifiers") else {
        return;
    };
    if !Path::new("/dev/fuse").exists() {
        eprintln!("SKIPPED: seeds/002-container-identifiers: no FUSE");
        return;
    }
    run("002-container-identifiers.sh", &["bash", "dd", "mkfifo"]);
}
