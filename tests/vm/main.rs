//! Stock kernels under QEMU: the scenarios of tests/vm/scenarios, each kernel one test. README.md
//! beside this file says how a scenario is written.
//!
//! `VERITRAIL_VM_KERNEL=6.12` and `VERITRAIL_VM_SCENARIOS=one,other` select.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a test tells what it did")]

mod cpio;
mod guest;
mod image;
mod scenario;

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use guest::{Boot, End, Outcome};
use image::Image;
use scenario::Scenario;

#[test]
fn linux_6_12() {
    run("6.12");
}

#[test]
fn linux_6_1() {
    run("6.1");
}

/// Machines that may still be emulated at once. What runs in one of them keeps one core busy; more
/// would only take time from deadlines.
static FREE: Mutex<usize> = Mutex::new(2);
static FREED: Condvar = Condvar::new();

/// One of them, until it is dropped.
struct Place;

impl Place {
    fn take() -> Place {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let free = FREED.wait_while(free, |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        Place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        FREED.notify_one();
    }
}

fn run(series: &str) {
    let skipped = |reason: &str| eprintln!("SKIPPED: vm on Linux {series}: {reason}");
    let selected = |variable: &str, name: &str| {
        std::env::var(variable).map_or(true, |wanted| wanted.split(',').any(|one| one == name))
    };
    if !selected("VERITRAIL_VM_KERNEL", series) {
        return skipped("not selected by VERITRAIL_VM_KERNEL");
    }
    if Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
        return skipped("qemu-system-x86_64 is not installed");
    }
    let kernel = match kernel(series) {
        Ok(kernel) => kernel,
        Err(reason) => return skipped(&reason),
    };
    let base = match base(series, &kernel) {
        Ok(base) => base,
        Err(reason) => return skipped(&reason),
    };
    let mut scenarios = Scenario::all(&root().join("tests/vm/scenarios")).unwrap();
    scenarios.retain(|one| one.kernels.iter().any(|kernel| kernel == series));
    scenarios.retain(|one| selected("VERITRAIL_VM_SCENARIOS", &one.name));
    let all = ["VERITRAIL_LONG", "VERITRAIL_VM_SCENARIOS"];
    if all.iter().all(|variable| std::env::var_os(variable).is_none()) {
        let is_long = |one: &mut Scenario| one.long.iter().any(|kernel| kernel == series);
        for one in scenarios.extract_if(.., is_long) {
            skipped(&format!("{}: in make test-long only", one.name));
        }
    }
    scenarios.retain(|one| match lacking(one) {
        None => true,
        Some(reason) => {
            eprintln!("SKIPPED: vm {} on Linux {series}: {reason}", one.name);
            false
        }
    });

    let results = root().join(format!("target/vm/artefacts/{series}"));
    let _ = fs::remove_dir_all(&results);
    let mut batches = Vec::new();
    while let Some(first) = scenarios.first().cloned() {
        let (batch, rest) =
            scenarios.into_iter().partition(|one| one.name == first.name || one.fits(&first));
        scenarios = rest;
        batches.push(batch);
    }
    // The longest last would be waited for alone.
    batches.sort_by_key(|batch: &Vec<Scenario>| {
        Reverse(batch.iter().map(|one| one.limit).sum::<u64>())
    });
    let (kernel, base, results) = (&kernel, &base, &results);
    let failed: Vec<String> = thread::scope(|scope| {
        let boot = |(number, batch): (usize, Vec<Scenario>)| {
            scope.spawn(move || {
                let _place = Place::take();
                let directory = root().join(format!("target/vm/run/{series}-{number}"));
                let _ = fs::remove_dir_all(&directory);
                boots(series, &batch, kernel, base, &directory, results)
            })
        };
        let running: Vec<_> = batches.into_iter().enumerate().map(boot).collect();
        running.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "Linux {series}: FAILED: {}", failed.join(", "));
}

/// A batch in one boot, or one scenario in all its phases; what failed.
fn boots(
    series: &str,
    batch: &[Scenario],
    kernel: &Path,
    base: &Path,
    directory: &Path,
    results: &Path,
) -> Vec<String> {
    let phases = batch.iter().map(|one| one.boots).max().unwrap_or(1);
    for phase in 1..=phases {
        let boot = Boot { kernel, base, directory: directory.to_owned(), scenarios: batch, phase };
        let (mut outcomes, mut problem) = boot.run().unwrap();
        let never_began = |one: &Outcome| matches!(one.end, End::NeverBegan);
        if problem.is_some() && outcomes.iter().all(never_began) {
            // Emulated processors may trip over code that the kernel patches as it starts: nothing of
            // ours has run yet.
            eprintln!("Linux {series}, {}: it did not start; again", directory.display());
            (outcomes, problem) = boot.run().unwrap();
        }
        if let Some(problem) = &problem {
            eprintln!("Linux {series}, {}: {problem}", directory.display());
        }
        boot.unpack_artefacts(results).unwrap();
        let last = phase == phases;
        let failed: Vec<String> = outcomes
            .iter()
            .filter(|outcome| !report(series, outcome, last))
            .map(|outcome| outcome.name.clone())
            .collect();
        if !failed.is_empty() {
            return failed;
        }
        if problem.is_some() {
            return vec!["the guest itself".to_owned()];
        }
    }
    Vec::new()
}

/// Says what became of it. True where it is no failure.
fn report(series: &str, outcome: &Outcome, last: bool) -> bool {
    let name = &outcome.name;
    let problem = match &outcome.end {
        End::Passed { seconds } => {
            eprintln!("ok      {series} {name} {seconds} s");
            return true;
        }
        End::Skipped { reason } => {
            eprintln!("SKIPPED: vm {name} on Linux {series}: {reason}");
            return true;
        }
        End::WentDown if !last => {
            eprintln!("down    {series} {name}, as it said");
            return true;
        }
        End::WentDown => "went down in its last phase".to_owned(),
        End::Failed { status, seconds } => format!("status {status} after {seconds} s"),
        End::Lost => "the guest went down or hung in it".to_owned(),
        End::NeverBegan => "it was never begun".to_owned(),
    };
    eprintln!("FAILED  {series} {name}: {problem}\n{}", outcome.log);
    false
}

/// Which of its tools this machine has not, after they were looked for.
fn lacking(scenario: &Scenario) -> Option<String> {
    let look = || {
        let mut image = Image::default();
        let mut tools = scenario.tools.iter();
        tools.find_map(|tool| image.tool(tool, &guest::unpacked()).err())
    };
    look()?;
    // Offline, or where there is no apt, it brings nothing.
    let _ = Command::new(root().join("scripts/vm-tools")).output();
    look()
}

fn root() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()
}

/// The newest stock kernel of the series, fetched if it is not here.
fn kernel(series: &str) -> Result<PathBuf, String> {
    let output = Command::new(root().join("scripts/vm-kernel"))
        .arg(series)
        .output()
        .map_err(|error| format!("scripts/vm-kernel: {error}"))?;
    if output.status.success() {
        Ok(root().join(String::from_utf8_lossy(&output.stdout).trim()))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// The part of the initramfs that stays the same, made again when something in it changed.
fn base(series: &str, kernel: &Path) -> Result<PathBuf, String> {
    let image = Image::base(kernel)?;
    let (made, stamp) = (root().join(format!("target/vm/base-{series}.cpio.zst")), image.stamp());
    let stamped = made.with_extension("stamp");
    if !made.exists() || fs::read_to_string(&stamped).ok().as_ref() != Some(&stamp) {
        image.write(&made, "-3")?;
        fs::write(&stamped, &stamp).map_err(|error| format!("{}: {error}", stamped.display()))?;
    }
    Ok(made)
}
