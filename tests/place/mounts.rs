//! Bind mounts, other mount namespaces, covered mounts, partitions, stacked images.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::bench::{Bench, explain, noise, run, veritrail};

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

/// A disk of two partitions, the second with the file system, and nothing behind it.
#[test]
fn a_partition_is_come_by() {
    let test = "a_partition_is_come_by";
    let Some(mut bench) = Bench::new(test, &["mkfs.ext4", "debugfs"], &["ext4"]) else { return };
    const SECTORS: [(u32, u32); 2] = [(2048, 2048), (4096, 16384)];
    let image = image(&bench, "part", u64::from(SECTORS[1].1) * 512);
    let inside = place(&image);
    // A partition table as old as the PC: 16 bytes each at 446, type at 4, start at 8, length at 12.
    let disk = bench.sparse("disk", 16 << 20);
    let mut table = [0; 512];
    for (entry, (start, length)) in table[446..510].chunks_exact_mut(16).zip(SECTORS) {
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..16].copy_from_slice(&length.to_le_bytes());
    }
    table[510..].copy_from_slice(&[0x55, 0xaa]);
    let start = u64::from(SECTORS[1].0) * 512;
    let file = fs::OpenOptions::new().write(true).open(&disk).unwrap();
    file.write_all_at(&table, 0).unwrap();
    file.write_all_at(&fs::read(&image).unwrap(), start).unwrap();
    let Some(device) = bench.attach(test, &disk, &["-r", "-P"]) else { return };
    let part = std::path::PathBuf::from(format!("{}p2", device.display()));
    if !part.exists() {
        return eprintln!("SKIPPED: {test}: no nodes of partitions here");
    }
    bench.mount(&part, "mnt", &["-o", "ro"]);
    let report = explain(&device, start + inside + 8192, 4096);
    let hit = &report["hits"][0];
    assert_eq!(hit["uses"][0]["file"], "/etc/motto", "{report}");
    assert_eq!(hit["uses"][0]["offset"], 8192, "{report}");
    assert_eq!(hit["stack"][1]["made"], "partition", "{report}");
    assert_eq!(hit["bytes"]["first"], inside + 8192, "{report}");
    // The other one carries nothing, and what is before both is in neither.
    for at in [0, 2048 * 512] {
        assert_eq!(explain(&device, at, 512)["hits"].as_array().unwrap().len(), 0);
    }
    // Down again.
    let below = explain(&part, inside, 512)["below"].clone();
    let made: Vec<&str> =
        below.as_array().unwrap().iter().map(|layer| layer["made"].as_str().unwrap()).collect();
    assert_eq!(made, ["disk", "file"], "{below}");
    assert_eq!(below[1]["bytes"]["first"], start + inside, "{below}");
    assert_eq!(below[1]["name"], disk.to_str().unwrap(), "{below}");
}

/// An image in a file system on an image: what is bad in the outer one is bad in the inner one.
#[test]
fn an_image_on_an_image_is_followed() {
    let test = "an_image_on_an_image_is_followed";
    let tools = ["mkfs.ext4", "debugfs", "filefrag"];
    let Some(mut bench) = Bench::new(test, &tools, &["ext4"]) else { return };
    let inner = image(&bench, "inner", 4 << 20);
    let inside = place(&inner);
    let outer = bench.sparse("outer", 16 << 20);
    run("mkfs.ext4", &[&"-q", &"-F", &"-b", &"4096", &outer]);
    let Some(device) = bench.attach(test, &outer, &[]) else { return };
    let mnt = bench.mount(&device, "mnt", &[]);
    // Not from the start of the file.
    const OFFSET: u64 = 12 * 4096;
    let file = fs::File::create(mnt.join("a\nfile")).unwrap();
    file.write_all_at(&fs::read(&inner).unwrap(), OFFSET).unwrap();
    file.sync_all().unwrap();
    let offset = OFFSET.to_string();
    let options = ["-r", "-o", &offset];
    let Some(second) = bench.attach(test, &mnt.join("a\nfile"), &options) else { return };
    bench.mount(&second, "inner-mnt", &["-o", "ro"]);
    // Where the file is on the outer device.
    let wanted = (OFFSET + inside) / 4096;
    let extents = extents(&mnt.join("a\nfile"), 4096);
    let (logical, physical, _) = *extents
        .iter()
        .find(|(logical, _, length)| (*logical..logical + length).contains(&wanted))
        .unwrap();
    let at = (physical + wanted - logical) * 4096;
    let report = explain(&device, at + 512, 512);
    let hits = report["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 2, "{report}");
    assert_eq!(hits[0]["uses"][0]["file"], "/a\nfile", "{report}");
    assert_eq!(hits[0]["uses"][0]["offset"], OFFSET + inside + 512, "{report}");
    assert_eq!(hits[1]["uses"][0]["file"], "/etc/motto", "{report}");
    assert_eq!(hits[1]["uses"][0]["offset"], 512, "{report}");
    assert_eq!(hits[1]["stack"].as_array().unwrap().len(), 2, "{report}");
}

/// Logical block, physical block and length of each extent, as filefrag has them.
fn extents(file: &Path, block: u64) -> Vec<(u64, u64, u64)> {
    let out = run("filefrag", &[&"-v", &format!("-b{block}"), &file]);
    let numbers = |line: &str| -> Vec<u64> {
        let words = line.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty());
        words.map(|word| word.parse().unwrap()).collect()
    };
    // `  7:       14..      14:       8206..      8206:      1:`
    let lines = out.lines().filter(|line| line.contains(".."));
    lines.map(numbers).map(|n| (n[1], n[3], n[5])).collect()
}

/// Another mount upon a directory hides nothing, nor does one upon the whole.
#[test]
fn covered_files_are_seen() {
    let test = "covered_files_are_seen";
    let Some(mut bench) = Bench::new(test, &["mkfs.ext4", "debugfs"], &["ext4"]) else { return };
    let image = image(&bench, "image", 8 << 20);
    let Some(device) = bench.attach(test, &image, &["-r"]) else { return };
    let point = bench.mount(&device, "mnt", &["-o", "ro"]);
    bench.mount(Path::new("tmpfs"), "mnt/etc", &["-t", "tmpfs"]);
    let one = &explain(&device, place(&image), 4096)["hits"][0]["uses"][0];
    assert_eq!(one["file"], "/etc/motto", "{one}");
    bench.mount(Path::new("tmpfs"), "mnt", &["-t", "tmpfs"]);
    let report = explain(&device, place(&image), 4096);
    let one = &report["hits"][0]["uses"][0];
    assert_eq!(one["use"], "unknown", "{report}");
    assert_eq!(one["reason"], "something else is mounted upon it", "{report}");
    bench.unmount(&point);
}

/// A file of very many extents, and one that was deleted and is still open.
#[test]
fn a_hundred_thousand_extents() {
    let test = "a_hundred_thousand_extents";
    let Some(mut bench) = Bench::new(test, &["mkfs.ext4", "filefrag"], &["ext4"]) else { return };
    const BLOCK: u64 = 1024;
    let many = if std::env::var_os("VERITRAIL_LONG").is_some() { 1_000_000 } else { 100_000 };
    let image = bench.sparse("image", many * BLOCK * 2 + (64 << 20));
    run("mkfs.ext4", &[&"-q", &"-F", &"-b", &"1024", &image]);
    let Some(device) = bench.attach(test, &image, &[]) else { return };
    let mnt = bench.mount(&device, "mnt", &[]);
    let file = fs::File::create(mnt.join("many")).unwrap();
    for n in 0..many {
        file.write_all_at(b"x", n * 2 * BLOCK).unwrap();
    }
    file.sync_all().unwrap();
    let gone = fs::File::create(mnt.join("gone")).unwrap();
    gone.write_all_at(&noise(65536), 0).unwrap();
    gone.sync_all().unwrap();
    let found = extents(&mnt.join("many"), BLOCK);
    assert_eq!(found.len() as u64, many);
    for at in [0, 1, 511, 512, 513, 77_777, found.len() - 1] {
        let (logical, physical, _) = found[at];
        let report = explain(&device, physical * BLOCK, BLOCK);
        let one = &report["hits"][0]["uses"][0];
        assert_eq!(one["file"], "/many", "{report}");
        assert_eq!(one["offset"], logical * BLOCK, "{report}");
    }
    let (_, physical, _) = extents(&mnt.join("gone"), BLOCK)[0];
    fs::remove_file(mnt.join("gone")).unwrap();
    let report = explain(&device, physical * BLOCK, BLOCK);
    let one = &report["hits"][0]["uses"][0];
    assert_eq!(one["use"], "unknown", "{report}");
    assert!(one["reason"].as_str().unwrap().contains("deleted"), "{report}");
    drop((file, gone));
}

/// Who has no time is told what is known without the files, and that there is more.
#[test]
fn without_time_the_answer_is_a_part() {
    let test = "without_time_the_answer_is_a_part";
    let Some(mut bench) = Bench::new(test, &["mkfs.ext4", "debugfs"], &["ext4"]) else { return };
    // So many that no thread has listed them before another has asked.
    for n in 0..1500 {
        fs::write(bench.folder("tree").join(n.to_string()), b"").unwrap();
    }
    let image = image(&bench, "image", 8 << 20);
    let Some(device) = bench.attach(test, &image, &["-r"]) else { return };
    let mnt = bench.mount(&device, "mnt", &["-o", "ro"]);
    let at = (place(&image) / 512).to_string();
    let words = ["device", "explain", device.to_str().unwrap(), &at, "--json", "--patience", "0"];
    let output = veritrail(&words);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["pending"], true, "{report}");
    let hit = &report["hits"][0];
    assert_eq!(hit["mounts"][0]["point"], mnt.to_str().unwrap(), "{report}");
    assert_eq!(hit["uses"][0]["use"], "unknown", "{report}");
    let reason = hit["uses"][0]["reason"].as_str().unwrap();
    assert!(reason.ends_with("its files are still being listed"), "{report}");
}

/// A time that no clock reaches is refused, and not counted with.
#[test]
fn no_patience_is_longer_than_a_day() {
    let forever = u64::MAX.to_string();
    let output = veritrail(&["device", "explain", "/dev/null", "0", "--patience", &forever]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
