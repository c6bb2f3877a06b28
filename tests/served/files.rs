//! Files that shrink, are replaced or vanish while they are served.

use std::fs::{self, OpenOptions};

use crate::bench::{BLOCK, Bench, Image, Stop, direct, noise, read_once, refused};

const BLOCKS: usize = 600;

/// A device `victim` of files that are about to suffer, and `other` of some that are not.
fn two(test: &str, more: &[&str]) -> Option<(Bench, Image, Vec<u8>)> {
    let bench = Bench::new(test)?;
    let bytes = noise(BLOCKS * BLOCK);
    let other = bench.image("other", &bytes);
    bench.open("other", &other, &[]);
    bench.write("image", &bytes);
    let format = ["verity", "format", "image", "image.hash", "--root-hash-file", "root"];
    let ran = bench.veritrail(&[&format[..], more].concat());
    assert_eq!(ran.status, 0, "{ran:?}");
    let root = fs::read_to_string(bench.path("root")).unwrap().trim_end().to_owned();
    let image = Image { data: "image".into(), hash: "image.hash".into(), root };
    Some((bench, image, bytes))
}

fn cut(bench: &Bench, name: &str, len: usize) {
    let file = OpenOptions::new().write(true).open(bench.path(name)).unwrap();
    file.set_len(len as u64).unwrap();
}

/// Both are still served, the victim by the same processes; gives what was recorded of it.
fn still_served(bench: &Bench, servers: (i32, i32), bytes: &[u8]) -> Vec<String> {
    assert_eq!(bench.servers("victim"), servers);
    assert_eq!(bench.status("victim")["state"], "active");
    assert!(fs::read(bench.device("other")).unwrap() == bytes);
    bench.close("victim");
    bench.close("other");
    assert_eq!(bench.left(), Vec::<String>::new());
    bench.trail_is_good();
    let events = bench.events();
    let refused = events.iter().filter(|event| event.body("VT_READER").is_some());
    let said = refused.map(|event| {
        let words = |kind: &str| event.body(kind).unwrap_or_default().to_owned();
        assert_eq!(event.tail("VT_DEV"), Some("victim"));
        format!("{} {}", words("DM_EVENT"), words("VT_PLACE"))
    });
    said.collect()
}

#[test]
fn data_that_shrinks_is_refused_where_it_is_missing() {
    for left in [0, 300 * BLOCK + 100] {
        let test = "data_that_shrinks_is_refused_where_it_is_missing";
        let Some((bench, image, bytes)) = two(test, &[]) else { return };
        let device = bench.open("victim", &image, &[]);
        let servers = bench.servers("victim");
        cut(&bench, "image", left);
        let missing: Vec<u64> = ((left / BLOCK) as u64..BLOCKS as u64).collect();
        assert_eq!(refused(&device, BLOCK, &bytes), missing);
        // Not what was cached, and never a short read.
        assert_eq!(fs::read(&device).unwrap_err().raw_os_error(), Some(5));
        let said = still_served(&bench, servers, &bytes);
        assert!(said.len() >= missing.len(), "{} of {}", said.len(), missing.len());
        for number in &missing {
            let event = format!(" sector={number} res=0 role=data ");
            assert!(said.iter().any(|one| one.contains(&event)), "{number}");
        }
        assert!(said.iter().any(|one| one.contains(" fault=missing ")), "{:?}", said[0]);
    }
}

#[test]
fn a_tree_that_shrinks_is_refused_where_it_is_missing() {
    // The superblock, the highest block and the first of level 0 are left.
    for left in [0, 3 * BLOCK] {
        let test = "a_tree_that_shrinks_is_refused_where_it_is_missing";
        let Some((bench, image, bytes)) = two(test, &[]) else { return };
        let device = bench.open("victim", &image, &[]);
        let servers = bench.servers("victim");
        cut(&bench, "image.hash", left);
        let first = if left == 0 { 0 } else { 128 };
        let missing: Vec<u64> = (first..BLOCKS as u64).collect();
        assert_eq!(refused(&device, BLOCK, &bytes), missing);
        let said = still_served(&bench, servers, &bytes);
        // Also the one before the hundredth is announced with.
        assert_eq!(said.len(), missing.len() + 1);
        assert!(
            said.iter().all(|one| {
                one.contains("op=verify-metadata ") && one.contains("role=hash")
                    || one.contains("op=max-corrupted-errors ")
            }),
            "{said:?}"
        );
    }
}

#[test]
fn parity_that_shrinks_corrects_nothing_and_harms_nothing() {
    for left in [0, BLOCK / 2] {
        let test = "parity_that_shrinks_corrects_nothing_and_harms_nothing";
        let Some((bench, image, bytes)) = two(test, &["--fec-device", "fec"]) else { return };
        let device = bench.open("victim", &image, &["--fec-device", "fec"]);
        let servers = bench.servers("victim");
        bench.corrupt("image", 10 * BLOCK as u64 + 3000);
        assert_eq!(refused(&device, BLOCK, &bytes), Vec::<u64>::new());
        cut(&bench, "fec", left);
        bench.corrupt("image", 11 * BLOCK as u64 + 3000);
        assert_eq!(refused(&device, BLOCK, &bytes), [10, 11]);
        let said = still_served(&bench, servers, &bytes);
        let refused = said.iter().filter(|one| one.contains("op=verify-data ")).count();
        assert_eq!(refused, 2, "{said:?}");
    }
}

/// The device is the file that was opened, whatever its name means now.
#[test]
fn files_that_are_replaced_or_removed_are_served_as_they_were() {
    let test = "files_that_are_replaced_or_removed_are_served_as_they_were";
    for replaced in [true, false] {
        let Some((bench, image, bytes)) = two(test, &[]) else { return };
        let device = bench.open("victim", &image, &[]);
        let servers = bench.servers("victim");
        for name in ["image", "image.hash"] {
            if replaced {
                bench.write("new", &noise(5 * BLOCK));
                fs::rename(bench.path("new"), bench.path(name)).unwrap();
            } else {
                fs::remove_file(bench.path(name)).unwrap();
            }
        }
        assert_eq!(refused(&device, BLOCK, &bytes), Vec::<u64>::new());
        assert_eq!(still_served(&bench, servers, &bytes), Vec::<String>::new());
        // Opened again, it is what the names mean now.
        let ran = bench.try_open("victim", &image, &[]);
        assert_eq!(ran.status, if replaced { 5 } else { 6 }, "{ran:?}");
        assert_eq!(bench.left(), Vec::<String>::new());
    }
}

/// In the middle of reads, again and again; the bytes come back in between.
#[test]
fn files_that_shrink_and_grow_while_they_are_read() {
    let test = "files_that_shrink_and_grow_while_they_are_read";
    let Some((bench, image, bytes)) = two(test, &[]) else { return };
    let device = bench.open("victim", &image, &["--direct-io"]);
    let servers = bench.servers("victim");
    let tree = fs::read(bench.path("image.hash")).unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&over);
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    refused(&device, 16 * BLOCK, &bytes);
                }
            });
        }
        for turn in 0..20 {
            let (name, whole) =
                if turn % 2 == 0 { ("image", &bytes) } else { ("image.hash", &tree) };
            cut(&bench, name, turn * 1000);
            std::thread::sleep(std::time::Duration::from_millis(20));
            let file = OpenOptions::new().write(true).open(bench.path(name)).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, whole, 0).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    assert!(read_once(&direct(&device), 0, BLOCK).unwrap() == bytes[..BLOCK]);
    still_served(&bench, servers, &bytes);
}
