//! Bind mounts, other mount namespaces, covered mounts, partitions, stacked images.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::bench::{Bench, explain, noise, run};

/// An ext4 file system of one file, `/etc/motto`, on a file.
fn image(bench: &Bench, name: &str, size: u64) -> std::path::PathBuf {
    let tree = bench.folder("tree/etc");
    fs::write(tree.join("motto"), noise(100_000)).unwrap();
    let image = bench.sparse(name, size);
    run("mkfs.ext4", &[&"-q", &"-F", &"-b", &"4096", &"-d", &bench.path("tree"), &image]);
    image
}

/// Where the file's first byte is on the image.
fn place(image: &Path) -> u64 {
    let out = run("debugfs", &[&"-R", &"blocks /etc/motto", &image]);
    out.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 4096
}

fn seen(report: &Value) -> Vec<(u64, String, String)> {
    let mounts = report["hits"][0]["mounts"].as_array().unwrap();
    let words = |mount: &Value, key: &str| mount[key].as_str().unwrap().to_owned();
    mounts
        .iter()
        .map(|mount| {
            (mount["mntns"].as_u64().unwrap(), words(mount, "point"), words(mount, "root"))
        })
        .collect()
}

/// A process in a mount namespace of its own; ended when it goes.
struct Elsewhere(Child);

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Elsewhere {
    /// Runs the script there, and stays.
    fn new(bench: &Bench, script: &str) -> Elsewhere {
        let ready = bench.path("ready");
        let script = format!("{script} && touch \"$1\" && exec sleep 60");
        // Each of these becomes the next, so that it is the last that is killed.
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "sh", "-ec", &script, "sh"]);
        let child = command.arg(&ready).stdout(Stdio::null()).spawn().unwrap();
        let one = Elsewhere(child);
        for _ in 0..500 {
            if ready.exists() {
                fs::remove_file(ready).unwrap();
                return one;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("{script}: not ready");
    }
}

#[test]
fn every_mount_is_named_wherever_it_is() {
    let test = "every_mount_is_named_wherever_it_is";
    let Some(mut bench) = Bench::new(test, &["mkfs.ext4", "debugfs", "unshare"], &["ext4"]) else {
        return;
    };
    let image = image(&bench, "image", 8 << 20);
    let Some(device) = bench.attach(test, &image, &["-r"]) else { return };
    let point = bench.mount(&device, "mnt", &["-o", "ro"]);
    let bound = bench.mount(&point.join("etc"), "bound", &["--bind"]);
    let there = bench.folder("there");
    let script = format!("mount --bind {} {}", point.join("etc").display(), there.display());
    let other = Elsewhere::new(&bench, &script);

    let report = explain(&device, place(&image), 4096);
    let found = seen(&report);
    let own = fs::metadata("/proc/self/ns/mnt").unwrap().ino();
    let own_mounts: Vec<_> = found.iter().filter(|one| one.0 == own).collect();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    assert_eq!(
        own_mounts,
        [&(own, text(&point), "/".to_owned()), &(own, text(&bound), "/etc".to_owned())]
    );
    // It has copies of both, and one of its own.
    let others: Vec<_> = found.iter().filter(|one| one.0 != own).collect();
    assert_eq!(others.len(), 3, "{found:?}");
    assert!(others.iter().any(|one| one.1 == text(&there) && one.2 == "/etc"), "{found:?}");
    drop(other);
    let found = seen(&explain(&device, place(&image), 4096));
    assert_eq!(found.len(), 2, "{found:?}");
}

/// The only mount is in another namespace, below a root directory of its own.
#[test]
fn a_mount_that_only_others_see_is_entered() {
    let test = "a_mount_that_only_others_see_is_entered";
    let Some(mut bench) = Bench::new(test, &["mkfs.ext4", "debugfs", "unshare"], &["ext4"]) else {
        return;
    };
    let image = image(&bench, "image", 8 << 20);
    let Some(device) = bench.attach(test, &image, &["-r"]) else { return };
    let there = bench.folder("there");
    let script = format!("mount -t ext4 -o ro {} {}", device.display(), there.display());
    let _other = Elsewhere::new(&bench, &script);
    let report = explain(&device, place(&image) + 4096, 4096);
    assert_eq!(seen(&report).len(), 1, "{report}");
    let one = &report["hits"][0]["uses"][0];
    assert_eq!((&one["file"], &one["offset"]), (&"/etc/motto".into(), &4096.into()), "{report}");
}
