//! Served devices: by their name, through a loop device and without one, with damage on them.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::bench::{Bench, noise, run, veritrail};

/// A device that is served, and closed when it goes.
struct Served {
    run_dir: String,
    file: PathBuf,
}

impl Drop for Served {
    fn drop(&mut self) {
        veritrail(&["verity", "close", "usr", "--deferred", "--run-dir", &self.run_dir]);
    }
}

impl Served {
    /// Serves the image with what is damaged in it afterwards.
    fn new(bench: &Bench, image: &Path, damage: Option<u64>) -> Served {
        let hash = bench.path("hash");
        let out = run(env!("CARGO_BIN_EXE_veritrail"), &[&"verity", &"format", &image, &hash]);
        let root = out.lines().find_map(|line| line.strip_prefix("Root hash:")).unwrap().trim();
        if let Some(at) = damage {
            let file = fs::OpenOptions::new().write(true).open(image).unwrap();
            file.write_all_at(b"CORRUPT!", at).unwrap();
        }
        let run_dir = bench.folder("run").to_str().unwrap().to_owned();
        let trail = bench.path("trail").to_str().unwrap().to_owned();
        let (image, hash) = (image.to_str().unwrap(), hash.to_str().unwrap());
        let open = ["verity", "open", image, "usr", hash, root, "--trail", &trail];
        let output = veritrail(&[&open[..], &["--run-dir", &run_dir]].concat());
        assert!(output.status.success(), "{output:?}");
        Served { file: Path::new(&run_dir).join("devices/usr"), run_dir }
    }

    fn explain(&self, block: u64) -> Value {
        let block = block.to_string();
        let words = ["device", "explain", "usr", "--block", &block, "--json"];
        let output = veritrail(&[&words[..], &["--run-dir", &self.run_dir]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }
}

fn needs(test: &str, tools: &[&str], kinds: &[&str]) -> Option<Bench> {
    if !Path::new("/dev/fuse").exists() {
        eprintln!("SKIPPED: {test}: no /dev/fuse");
        return None;
    }
    Bench::new(test, tools, kinds)
}

/// A directory that cannot be read is named, and the other files are found all the same.
#[test]
fn a_damaged_directory_hides_no_other_file() {
    let test = "a_damaged_directory_hides_no_other_file";
    let Some(mut bench) = needs(test, &["mkfs.ext4", "debugfs"], &["ext4"]) else { return };
    let tree = bench.folder("tree");
    fs::create_dir_all(tree.join("bad")).unwrap();
    fs::write(tree.join("bad/hidden"), noise(5000)).unwrap();
    fs::write(tree.join("motto"), noise(100_000)).unwrap();
    let image = bench.sparse("image", 8 << 20);
    let options = ["-q", "-F", "-b", "4096", "-O", "^has_journal"];
    let mut words: Vec<&dyn AsRef<std::ffi::OsStr>> =
        options.iter().map(|one| one as &dyn AsRef<std::ffi::OsStr>).collect();
    words.extend([&"-d" as &dyn AsRef<std::ffi::OsStr>, &tree, &image]);
    run("mkfs.ext4", &words);
    let block = |path: &str| -> u64 {
        let out = run("debugfs", &[&"-R", &format!("blocks {path}"), &image]);
        out.split_whitespace().next().unwrap().parse().unwrap()
    };
    let (bad, hidden, motto) = (block("/bad"), block("/bad/hidden"), block("/motto"));
    let served = Served::new(&bench, &image, Some(bad * 4096));
    let Some(device) = bench.attach(test, &served.file, &["-r"]) else { return };
    bench.mount(&device, "mnt", &["-t", "ext4", "-o", "ro"]);

    let report = served.explain(motto + 3);
    let hit = &report["hits"][0];
    assert_eq!(hit["uses"][0]["file"], "/motto", "{report}");
    assert_eq!(hit["uses"][0]["offset"], 3 * 4096, "{report}");
    let notes = hit["notes"].to_string();
    assert!(notes.contains("1 files or directories cannot be read (/bad: "), "{report}");
    // Its own block is still known to be its own: the map of a directory is in its inode.
    let one = &served.explain(bad)["hits"][0]["uses"][0];
    assert_eq!((&one["use"], &one["file"]), (&"metadata".into(), &"/bad".into()), "{one}");
    // What lies below it is not taken for metadata.
    let one = &served.explain(hidden)["hits"][0]["uses"][0];
    assert_eq!(one["use"], "unknown", "{one}");
    assert!(one["reason"].as_str().unwrap().contains("not every file could be read"), "{one}");
    // Before the device is closed, and that before its folder goes.
    bench.release();
}

#[test]
fn erofs_without_a_loop_device_is_found_by_the_devices_name() {
    let test = "erofs_without_a_loop_device_is_found_by_the_devices_name";
    let Some(mut bench) = needs(test, &["mkfs.erofs", "dump.erofs"], &["erofs"]) else { return };
    let tree = bench.folder("tree");
    fs::write(tree.join("motto"), noise(100_000)).unwrap();
    let image = bench.path("image");
    run("mkfs.erofs", &[&image, &tree]);
    let served = Served::new(&bench, &image, None);
    let point = bench.folder("mnt");
    match host::mount::mount_erofs(&served.file, &point) {
        Ok(()) => bench.mounted(point),
        Err(error) => return eprintln!("SKIPPED: {test}: {error}"),
    }
    let found = (0..20).map(|block| served.explain(block));
    let files: Vec<Value> =
        found.map(|report| report["hits"][0]["uses"][0]["file"].clone()).collect();
    assert!(files.iter().filter(|file| **file == "/motto").count() >= 15, "{files:?}");
    bench.release();
}
