//! EROFS, xfs, btrfs and squashfs against their own tools.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::bench::{Bench, explain, noise, plant, run, uses};

const BLOCK: u64 = 4096;

/// All files below a folder, as paths from it that begin with a slash.
fn files(root: &Path) -> Vec<String> {
    let out = run("find", &[&root, &"-type", &"f", &"-printf", &"/%P\\n"]);
    out.lines().map(str::to_owned).collect()
}

fn noted_as(found: &str, kind: &str, path: &str) -> bool {
    found.split(" + ").any(|one| {
        let rest = one.strip_prefix(kind).and_then(|rest| rest.strip_prefix(path));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    })
}

/// What dump.erofs says of a file: its extents, each with its place in the image.
fn dump_erofs(image: &Path, path: &str) -> Vec<(u64, std::ops::Range<u64>)> {
    let out = run("dump.erofs", &[&format!("--path={path}"), &"-e", &image]);
    let mut extents = Vec::new();
    for line in out.lines() {
        // ` 0:        0..  4096 |    4096 :     110592..    114688 |    4096`
        let numbers: Vec<u64> = line
            .split(|c: char| !c.is_ascii_digit())
            .filter(|word| !word.is_empty())
            .filter_map(|word| word.parse().ok())
            .collect();
        if let ([_, logical, _, _, start, end, length], true) =
            (numbers.as_slice(), line.contains(" | "))
            && *length > 0
        {
            extents.push((*logical, *start..*end));
        }
    }
    extents
}

fn every_block_of_erofs(test: &str, options: &[&str]) {
    let Some(mut bench) = Bench::new(test, &["mkfs.erofs", "dump.erofs", "mkfifo"], &["erofs"])
    else {
        return;
    };
    let tree = bench.folder("tree");
    plant(&tree);
    let text: String = (0..60_000).map(|n| format!("{n}\n")).collect();
    fs::write(tree.join("text"), text).unwrap();
    let image = bench.path("image");
    let mut mkfs: Vec<&dyn AsRef<OsStr>> =
        options.iter().map(|one| one as &dyn AsRef<OsStr>).collect();
    mkfs.extend([&image as &dyn AsRef<OsStr>, &tree]);
    run("mkfs.erofs", &mkfs);
    let Some(device) = bench.attach(test, &image, &["-r"]) else { return };
    bench.mount(&device, "mnt", &["-t", "erofs", "-o", "ro"]);
    let blocks = fs::metadata(&image).unwrap().len() / BLOCK;
    let found = uses(&device, blocks, BLOCK, 1);
    let mut seen = vec![false; found.len()];
    let mut whole = 0;
    for path in files(&tree) {
        for (_, bytes) in dump_erofs(&image, &path) {
            for block in bytes.start / BLOCK..bytes.end.div_ceil(BLOCK) {
                let at = usize::try_from(block).unwrap();
                seen[at] = true;
                let names = ["/etc/motto", "/motto"];
                let names = if names.contains(&path.as_str()) { &names[..] } else { &[&*path] };
                assert!(
                    names.iter().any(|name| noted_as(&found[at], "file ", name)),
                    "{block}: {}, not {path}",
                    found[at]
                );
                // No other file has a part of a whole block.
                if bytes.contains(&(block * BLOCK)) && bytes.end >= (block + 1) * BLOCK {
                    assert!(!found[at].contains(" + "), "{block}: {}", found[at]);
                    whole += 1;
                }
            }
        }
    }
    assert!(whole > 60, "{whole}");
    for (block, (found, seen)) in found.iter().zip(seen).enumerate() {
        assert!(seen || !found.contains("file "), "{block}: {found}");
        assert!(!found.contains("unknown") && !found.contains("free"), "{block}: {found}");
    }
    assert!(found[0].contains("metadata inodes"), "{}", found[0]);
}

#[test]
fn every_block_of_erofs_is_what_dump_erofs_says() {
    every_block_of_erofs("every_block_of_erofs_is_what_dump_erofs_says", &[]);
}

#[test]
fn every_block_of_compressed_erofs() {
    every_block_of_erofs("every_block_of_compressed_erofs", &["-zlz4"]);
}

/// `  0: [0..199]: 224..423`, in sectors.
fn bmap(file: &Path) -> Vec<(u64, u64, u64)> {
    let out = run("xfs_io", &[&"-r", &"-c", &"bmap", &file]);
    let mut extents = Vec::new();
    for line in out.lines().filter(|line| line.contains("]: ") && !line.contains("hole")) {
        let numbers: Vec<u64> = line
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .collect();
        if let [_, logical, last, physical, ..] = numbers.as_slice() {
            extents.push((logical * 512, physical * 512, (last + 1 - logical) * 512));
        }
    }
    extents
}

fn every_block_of_xfs(test: &str, options: &[&str]) {
    let tools = ["mkfs.xfs", "xfs_io", "xfs_db", "mkfifo"];
    let Some(mut bench) = Bench::new(test, &tools, &["xfs"]) else { return };
    let image = bench.sparse("image", 320 << 20);
    let mut mkfs: Vec<&dyn AsRef<OsStr>> = vec![&"-q"];
    mkfs.extend(options.iter().map(|one| one as &dyn AsRef<OsStr>));
    mkfs.push(&image);
    run("mkfs.xfs", &mkfs);
    let Some(device) = bench.attach(test, &image, &[]) else { return };
    let point = bench.mount(&device, "plant", &[]);
    plant(&point);
    bench.unmount(&point);
    // Free space, while nobody writes: `agno agbno len` of each stretch.
    let geometry = run("xfs_db", &[&"-r", &"-c", &"sb 0", &"-c", &"p agblocks", &image]);
    let agblocks: u64 = geometry.split_whitespace().last().unwrap().parse().unwrap();
    let out = run("xfs_db", &[&"-r", &"-c", &"freesp -d", &image]);
    let free: Vec<(u64, u64)> = out
        .lines()
        .filter_map(|line| {
            let numbers: Vec<u64> =
                line.split_whitespace().map_while(|word| word.parse().ok()).collect();
            let [group, block, length] = numbers[..] else { return None };
            Some((group * agblocks + block, length))
        })
        .collect();
    assert!(!free.is_empty(), "{out}");
    let mnt = bench.mount(&device, "mnt", &["-o", "ro"]);
    let one = |at: u64| uses_at(&device, at);
    let mut checked = 0;
    for path in files(&mnt) {
        for (logical, physical, length) in bmap(&mnt.join(&path[1..])) {
            for at in [0, length - BLOCK] {
                let found = one(physical + at);
                let block = (logical + at) / BLOCK;
                let names = ["/etc/motto", "/motto"];
                let names = if names.contains(&path.as_str()) { &names[..] } else { &[&*path] };
                let wanted = |name: &&&str| found == format!("file {name} {block}");
                assert!(names.iter().any(|name| wanted(&name)), "{found}, not {path} {block}");
                checked += 1;
            }
        }
        if checked > 120 {
            break;
        }
    }
    assert!(checked > 100, "{checked}");
    // A single free block may be one that is kept for the trees (AGFL).
    for (start, length) in free.into_iter().filter(|(_, length)| *length > 1) {
        assert_eq!(one(start * BLOCK), "free", "{start}");
        assert_eq!(one((start + length - 1) * BLOCK), "free", "{start} {length}");
    }
    assert!(one(0).starts_with("metadata "), "{}", one(0));
}

fn uses_at(device: &Path, at: u64) -> String {
    let report = explain(device, at, BLOCK);
    let one = &report["hits"][0]["uses"][0];
    assert_eq!(report["hits"][0]["uses"].as_array().unwrap().len(), 1, "{report}");
    match one["use"].as_str().unwrap() {
        "file" => format!(
            "file {} {}",
            one["file"].as_str().unwrap_or("?"),
            one["offset"].as_u64().map_or(u64::MAX, |offset| offset / BLOCK)
        ),
        "metadata" => format!("metadata {}", one["of"].as_str().unwrap()),
        other => other.to_owned(),
    }
}

#[test]
fn xfs_is_what_its_tools_say() {
    every_block_of_xfs("xfs_is_what_its_tools_say", &["-m", "rmapbt=0"]);
}

#[test]
fn xfs_with_a_reverse_map_is_what_its_tools_say() {
    every_block_of_xfs("xfs_with_a_reverse_map_is_what_its_tools_say", &["-m", "rmapbt=1"]);
}

/// Files in two subvolumes and a snapshot, found in the image by what they hold.
#[test]
fn files_of_btrfs_are_found_in_every_subvolume() {
    let test = "files_of_btrfs_are_found_in_every_subvolume";
    let Some(mut bench) = Bench::new(test, &["mkfs.btrfs", "btrfs"], &["btrfs"]) else { return };
    let image = bench.sparse("image", 256 << 20);
    run("mkfs.btrfs", &[&"-q", &image]);
    let Some(device) = bench.attach(test, &image, &[]) else { return };
    let mnt = bench.mount(&device, "mnt", &[]);
    run("btrfs", &[&"subvolume", &"create", &mnt.join("sub")]);
    fs::create_dir(mnt.join("sub/etc")).unwrap();
    let contents = noise(100 * 4096);
    fs::write(mnt.join("sub/etc/motto"), &contents).unwrap();
    run("btrfs", &[&"subvolume", &"snapshot", &"-r", &mnt.join("sub"), &mnt.join("snap")]);
    run("sync", &[&"-f", &mnt]);
    run("btrfs", &[&"filesystem", &"sync", &mnt]);
    let bytes = fs::read(&image).unwrap();
    let at = |block: usize| {
        let wanted = &contents[block * 4096..block * 4096 + 64];
        let found = (0..bytes.len()).step_by(4096).filter(|at| &bytes[*at..at + 64] == wanted);
        found.map(|at| at as u64).collect::<Vec<_>>()
    };
    for block in [0, 57, 99] {
        let places = at(block);
        assert!(!places.is_empty());
        for place in places {
            let report = explain(&device, place, 4096);
            let uses = report["hits"][0]["uses"].as_array().unwrap();
            let mut names: Vec<String> = uses
                .iter()
                .map(|one| format!("{} {}", one["file"].as_str().unwrap(), one["offset"]))
                .collect();
            names.sort();
            let offset = block * 4096;
            assert_eq!(
                names,
                [format!("/snap/etc/motto {offset}"), format!("/sub/etc/motto {offset}")],
                "{report}"
            );
        }
    }
    // A stretch is one use for each file, not one for each sector.
    let report = explain(&device, at(10)[0], 20 * 4096);
    assert_eq!(report["hits"][0]["uses"].as_array().unwrap().len(), 2, "{report}");
    assert_eq!(uses_at(&device, 64 << 10), "metadata superblock");
    let words = uses(&device, 8192, 4096, 512);
    assert!(words.iter().any(|word| word == "metadata trees"));
    assert!(words.iter().any(|word| word == "free"));
    assert!(words.iter().all(|word| !word.contains("unknown")));
}

/// It has no map: said so, and not taken for something else.
#[test]
fn squashfs_is_unknown_and_says_why() {
    let test = "squashfs_is_unknown_and_says_why";
    let Some(mut bench) = Bench::new(test, &["mksquashfs"], &["squashfs"]) else { return };
    let tree = bench.folder("tree");
    fs::write(tree.join("motto"), noise(100_000)).unwrap();
    let image = bench.path("image");
    run("mksquashfs", &[&tree, &image, &"-quiet", &"-no-progress"]);
    let Some(device) = bench.attach(test, &image, &["-r"]) else { return };
    bench.mount(&device, "mnt", &["-o", "ro"]);
    let report = explain(&device, 4096, 4096);
    let one = &report["hits"][0]["uses"][0];
    assert_eq!(one["use"], "unknown", "{report}");
    assert_eq!(one["reason"], "squashfs does not tell where its files lie", "{report}");
}

/// What is mounted without a loop device has its file for a source.
#[test]
fn erofs_on_a_file_is_found_by_that_file() {
    let test = "erofs_on_a_file_is_found_by_that_file";
    let Some(mut bench) = Bench::new(test, &["mkfs.erofs", "dump.erofs"], &["erofs"]) else {
        return;
    };
    let tree = bench.folder("tree");
    fs::write(tree.join("motto"), noise(100_000)).unwrap();
    let image = bench.path("image");
    run("mkfs.erofs", &[&image, &tree]);
    let point = bench.folder("mnt");
    match host::mount::mount_erofs(&image, &point) {
        Ok(()) => bench.mounted(point),
        Err(error) => return eprintln!("SKIPPED: {test}: {error}"),
    }
    let (_, bytes) = dump_erofs(&image, "/motto").remove(0);
    assert_eq!(uses_at(&image, bytes.start), "file /motto 0");
    // Nor is another file of the same name taken for it.
    let other: PathBuf = bench.folder("other").join("image");
    fs::copy(&image, &other).unwrap();
    let report = explain(&other, bytes.start, 4096);
    assert_eq!(report["hits"].as_array().unwrap().len(), 0, "{report}");
}
