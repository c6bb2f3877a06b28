//! ext4, block by block against debugfs.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::bench::{Bench, plant, run, uses};

/// What debugfs says of each block: the inode, and of inodes their names.
struct Oracle {
    inode_of: HashMap<u64, u64>,
    name_of: HashMap<u64, Vec<String>>,
    free: Vec<bool>,
}

impl Oracle {
    fn new(image: &Path, blocks: u64) -> Oracle {
        let ask = |request: String| run("debugfs", &[&"-R", &request, &image]);
        let all: Vec<String> = (0..blocks).map(|block| block.to_string()).collect();
        let mut inode_of = HashMap::new();
        for some in all.chunks(1000) {
            for line in ask(format!("icheck {}", some.join(" "))).lines() {
                let Some((block, inode)) = line.split_once('\t') else { continue };
                if let (Ok(block), Ok(inode)) = (block.parse(), inode.parse()) {
                    inode_of.insert(block, inode);
                }
            }
        }
        let mut inodes: Vec<String> = inode_of.values().map(u64::to_string).collect();
        inodes.sort();
        inodes.dedup();
        let mut name_of: HashMap<u64, Vec<String>> = HashMap::new();
        for some in inodes.chunks(500) {
            for line in ask(format!("ncheck {}", some.join(" "))).lines() {
                let Some((inode, name)) = line.split_once('\t') else { continue };
                if let Ok(inode) = inode.parse() {
                    name_of
                        .entry(inode)
                        .or_default()
                        .push(format!("/{}", name.trim_start_matches('/')));
                }
            }
        }
        // It names no root.
        name_of.insert(2, vec!["/".to_owned()]);
        // Block 0 is none that debugfs would test.
        let mut free = vec![false];
        for some in all[1..].chunks(1000) {
            let first = &some[0];
            for line in ask(format!("testb {first} {}", some.len())).lines() {
                free.push(line.contains("not in use"));
            }
        }
        assert_eq!(free.len() as u64, blocks);
        Oracle { inode_of, name_of, free }
    }
}

/// Every block of an image, written with two mkfs options so that it has all kinds of metadata.
/// The kernel does not tell the blocks of `hidden` files that are neither data nor attributes.
fn every_block(test: &str, options: &[&str], hidden: &[&str], read_only: bool) {
    let Some(mut bench) = Bench::new(test, &["mkfs.ext4", "debugfs", "mkfifo"], &["ext4"]) else {
        return;
    };
    const BLOCK: u64 = 4096;
    const BLOCKS: u64 = 2048;
    let image = bench.sparse("image", BLOCK * BLOCKS);
    let mut mkfs: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"-q", &"-F", &"-b", &"4096"];
    mkfs.extend(options.iter().map(|one| one as &dyn AsRef<std::ffi::OsStr>));
    mkfs.push(&image);
    run("mkfs.ext4", &mkfs);
    let Some(device) = bench.attach(test, &image, &[]) else { return };
    let point = bench.mount(&device, "plant", &[]);
    plant(&point);
    // Extents in a tree of their own, and a deleted file in between.
    fs::write(point.join("gone"), b"x").unwrap();
    fs::remove_file(point.join("gone")).unwrap();
    bench.unmount(&point);
    bench.mount(&device, "mnt", if read_only { &["-o", "ro"] } else { &[] });

    let oracle = Oracle::new(&image, BLOCKS);
    let found = uses(&device, BLOCKS, BLOCK, 64);
    let (mut files, mut told) = (0, 0);
    for (block, found) in (0..BLOCKS).zip(&found) {
        let inode = oracle.inode_of.get(&block).copied();
        let names = inode.and_then(|inode| oracle.name_of.get(&inode));
        let is_one_of = |names: &Vec<String>| {
            names.iter().any(|name| {
                let is = |kind: &str| {
                    found.strip_prefix(kind).is_some_and(|rest| {
                        rest == name
                            || rest.strip_prefix(name.as_str()).is_some_and(|n| n.starts_with(' '))
                    })
                };
                is("file ") || is("metadata ")
            })
        };
        match (oracle.free[usize::try_from(block).unwrap()], inode, names) {
            (true, _, _) => assert_eq!(found, "free", "{block}"),
            (false, Some(8), _) => assert_eq!(found, "metadata journal", "{block}"),
            // The resize inode (7), a long link: known to be in use by none.
            (false, Some(inode), Some(names)) if inode >= 11 || inode == 2 => {
                files += 1;
                told += u64::from(is_one_of(names));
                let long = names.iter().any(|name| hidden.contains(&name.as_str()));
                let own = if read_only { "metadata in use" } else { "unknown" };
                assert!(
                    is_one_of(names) || long && found.starts_with(own),
                    "{block}: {found}, inode {inode} {names:?}"
                );
            }
            _ => {
                let known = found.starts_with("metadata ") && !found.contains('/');
                assert!(known || !read_only && found == "unknown", "{block}: {found}, {inode:?}");
            }
        }
    }
    assert!(files > 300 && files - told <= hidden.len() as u64, "{files} {told}");
    // The blocks of a file with holes, by their place in it.
    for block in [0, 10, 11, 300] {
        let wanted = format!("file /holes {block}");
        assert_eq!(found.iter().filter(|one| **one == wanted).count(), 1, "{wanted}");
    }
}

#[test]
fn every_block_of_ext4_is_what_debugfs_says() {
    every_block("every_block_of_ext4_is_what_debugfs_says", &[], &["/long"], true);
}

#[test]
fn every_block_of_ext4_that_is_written_to() {
    every_block(
        "every_block_of_ext4_that_is_written_to",
        &["-O", "^flex_bg", "-g", "1024"],
        &["/long"],
        false,
    );
}

#[test]
fn every_block_of_ext2() {
    every_block(
        "every_block_of_ext2",
        &["-O", "^has_journal,^extents,^64bit"],
        &["/long", "/etc/motto", "/holes"],
        true,
    );
}
