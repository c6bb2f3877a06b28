//! File systems on served images: through a loop device and without one, damaged underneath, and
//! with their servers killed.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::bench::{BLOCK, Bench, Image, Ran, direct, has, kill, noise, read_once};

const SIZE: usize = 256 << 10;
const FILES: [&str; 8] = ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7"];

/// What each file has: nothing that another one or the file system has too.
fn contents(name: &str) -> Vec<u8> {
    let at = FILES.iter().position(|file| *file == name).unwrap();
    noise(SIZE * (at + 1)).split_off(SIZE * at)
}

/// A file system of these files in the file `image`; none if the tool is missing or fails.
fn file_system(bench: &Bench, test: &str, kind: &str) -> Option<Image> {
    let tool = match kind {
        "ext4" => "mkfs.ext4",
        "squashfs" => "mksquashfs",
        _ => "mkfs.erofs",
    };
    if !has(test, &[tool, "losetup"]) {
        return None;
    }
    fs::create_dir(bench.path("tree")).unwrap();
    for name in FILES {
        bench.write(&format!("tree/{name}"), &contents(name));
    }
    let arguments: &[&str] = match kind {
        "ext4" => &["-q", "-b", "4096", "-d", "tree", "image", "8M"],
        "squashfs" => {
            &["tree", "image", "-quiet", "-no-progress", "-noappend", "-noI", "-noD", "-noF"]
        }
        _ => &["image", "tree"],
    };
    let ran = Ran::of(bench.timed(tool, arguments).output().unwrap());
    assert_eq!(ran.status, 0, "{ran:?}");
    let bytes = fs::read(bench.path("image")).unwrap();
    Some(bench.image("image", &bytes))
}

/// Where the bytes of a file are in the image.
fn place(bench: &Bench, name: &str) -> u64 {
    let image = fs::read(bench.path("image")).unwrap();
    let start = &contents(name)[..64];
    let at = (0..image.len() - 64).find(|at| image[*at..].starts_with(start)).unwrap();
    assert!(image[at..].starts_with(&contents(name)), "{name} is in one piece");
    at as u64
}

/// A loop device on a device file, taken away when it goes. The bench cannot find one again whose
/// backing file was detached lazily: the kernel calls that `/` then.
struct Loop(PathBuf);

impl std::ops::Deref for Loop {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("timeout").args(["10", "losetup", "-d"]).arg(&self.0).status();
    }
}

fn attach(bench: &Bench, test: &str, device: &Path) -> Option<Loop> {
    let arguments = ["-r", "--find", "--show", device.to_str().unwrap()];
    let ran = Ran::of(bench.timed("losetup", &arguments).output().unwrap());
    if ran.status != 0 {
        eprintln!("SKIPPED: {test}: no loop device: {}", ran.err.trim());
        return None;
    }
    Some(Loop(PathBuf::from(ran.out.trim_end())))
}

/// Mounts in a folder of this name.
fn mount(bench: &Bench, test: &str, kind: &str, source: &Path, at: &str) -> Option<PathBuf> {
    let point = bench.path(at);
    fs::create_dir(&point).unwrap();
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    if !known.lines().any(|line| line.ends_with(&format!("\t{kind}"))) {
        eprintln!("SKIPPED: {test}: this kernel has no {kind}");
        return None;
    }
    let result = if source.starts_with("/dev") {
        let arguments = ["-i", "-t", kind, "-o", "ro"].map(std::ffi::OsStr::new);
        let paths = [source.as_os_str(), point.as_os_str()];
        let ran = bench.timed("mount", &[&arguments[..], &paths[..]].concat()).output();
        let ran = Ran::of(ran.unwrap());
        if ran.status == 0 { Ok(()) } else { Err(ran.err) }
    } else {
        host::mount::mount_erofs(source, &point).map_err(|error| error.to_string())
    };
    match result {
        Ok(()) => Some(point),
        Err(error) if error.contains("from block devices only") => {
            eprintln!("SKIPPED: {test}: {error}");
            None
        }
        Err(error) => panic!("{kind}: {error}"),
    }
}

fn unmount(point: &Path) {
    host::mount::unmount(point, host::mount::Detach::Now).unwrap();
}

fn a_file_system_reads_and_refuses(test: &str, kind: &str, by_loop: bool) {
    let Some(bench) = Bench::new(test) else { return };
    let Some(image) = file_system(&bench, test, kind) else { return };
    let bad = place(&bench, "f6") + 100_000;
    bench.corrupt("image", bad);
    let device = bench.open("root", &image, &[]);
    let source = if by_loop {
        let Some(source) = attach(&bench, test, &device) else { return };
        Some(source)
    } else {
        None
    };
    let mounted = source.as_deref().unwrap_or(&device);
    let Some(point) = mount(&bench, test, kind, mounted, "mnt") else { return };
    for name in FILES {
        let read = fs::read(point.join(name));
        if name == "f6" {
            assert_eq!(read.unwrap_err().raw_os_error(), Some(5), "{kind}");
        } else {
            assert!(read.unwrap() == contents(name), "{kind}: {name}");
        }
    }
    assert_eq!(bench.verity(&["close", "root"]).status, 3);
    unmount(&point);
    drop(source);
    // The kernel lets go of a loop device a moment later.
    crate::bench::soon(5, "the end of the device", || bench.verity(&["close", "root"]).status != 3);
    assert_eq!(bench.left(), Vec::<String>::new());
    let block = bad / BLOCK as u64;
    let violations = bench.violations();
    assert!(!violations.is_empty());
    assert!(violations.iter().all(|one| *one == format!("verify-data {block}")), "{violations:?}");
    // A kernel thread reads, which has no program; file-backed, read-ahead is asked for by the reader.
    for reader in bench.bodies("VT_READER") {
        let kernel = reader.contains(" exe=(null) ");
        assert!(kernel || !by_loop, "{reader}");
        assert!(reader.ends_with(" answer=EIO"), "{reader}");
    }
    bench.trail_is_good();
}

#[test]
fn ext4_on_a_loop_device() {
    a_file_system_reads_and_refuses("ext4_on_a_loop_device", "ext4", true);
}

#[test]
fn squashfs_on_a_loop_device() {
    a_file_system_reads_and_refuses("squashfs_on_a_loop_device", "squashfs", true);
}

#[test]
fn erofs_on_a_loop_device() {
    a_file_system_reads_and_refuses("erofs_on_a_loop_device", "erofs", true);
}

#[test]
fn erofs_without_a_loop_device() {
    a_file_system_reads_and_refuses("erofs_without_a_loop_device", "erofs", false);
}

/// The trail of a device must not be written through the device.
#[test]
fn a_trail_on_the_device_itself_is_refused() {
    let test = "a_trail_on_the_device_itself_is_refused";
    let Some(bench) = Bench::new(test) else { return };
    if !has(test, &["mkfs.ext4", "losetup"]) {
        return;
    }
    let ran = Ran::of(bench.timed("mkfs.ext4", &["-q", "image", "16M"]).output().unwrap());
    assert_eq!(ran.status, 0, "{ran:?}");
    let arguments = ["--find", "--show", bench.path("image").to_str().unwrap()].map(str::to_owned);
    let ran = Ran::of(bench.timed("losetup", &arguments).output().unwrap());
    if ran.status != 0 {
        return eprintln!("SKIPPED: {test}: no loop device: {}", ran.err.trim());
    }
    let data = ran.out.trim_end();
    let point = bench.path("mnt");
    fs::create_dir(&point).unwrap();
    let arguments = ["-i", "-t", "ext4", data, point.to_str().unwrap()];
    assert_eq!(Ran::of(bench.timed("mount", &arguments).output().unwrap()).status, 0);
    let ran = bench.veritrail(&["verity", "format", data, "hash", "--root-hash-file", "root"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let root = fs::read_to_string(bench.path("root")).unwrap().trim_end().to_owned();
    let image = Image { data: data.to_owned(), hash: "hash".into(), root };
    let ran = bench.try_open("root", &image, &["--trail", "mnt/trail"]);
    assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{ran:?}");
    assert!(ran.err.contains(" are not apart\n"), "{}", ran.err);
    assert!(!bench.left().iter().any(|left| left.starts_with("file ")), "{:?}", bench.left());
    unmount(&point);
}

/// A shell that reads all files again and again, past the page cache of the file system, compares
/// what it gets, and writes a line for each read that fails. It ends when the file `stop` is there,
/// or, where `mortal`, at the first failure.
fn reader(bench: &Bench, number: usize, mortal: bool) -> Child {
    let script = r#"
        while [ ! -e stop ]; do
            for f in f0 f1 f2 f3 f4 f5 f6 f7; do
                if dd if="mnt/$f" of="got$1" bs=64k iflag=direct status=none 2>>"errors$1"; then
                    cmp -s "got$1" "tree/$f" || echo "WRONG $f" >>"log$1"
                else
                    [ "$2" = mortal ] && exit 9
                    size=$(stat -c %s "got$1")
                    cmp -s -n "$size" "got$1" "tree/$f" || echo "WRONG $f" >>"log$1"
                    echo "$f $size" >>"log$1"
                fi
            done
            echo "round" >>"log$1"
        done"#;
    let number = number.to_string();
    bench
        .timed("sh", &["-c", script, "reader", &number, if mortal { "mortal" } else { "-" }])
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn logs(bench: &Bench) -> Vec<String> {
    let logs =
        (0..4).map(|n| fs::read_to_string(bench.path(&format!("log{n}"))).unwrap_or_default());
    logs.collect()
}

#[test]
fn four_readers_see_right_bytes_or_an_error() {
    let test = "four_readers_see_right_bytes_or_an_error";
    let Some(bench) = Bench::new(test) else { return };
    let Some(image) = file_system(&bench, test, "ext4") else { return };
    let device = bench.open("root", &image, &["--direct-io"]);
    let Some(source) = attach(&bench, test, &device) else { return };
    let Some(_point) = mount(&bench, test, "ext4", &source, "mnt") else { return };
    let places = FILES.map(|name| place(&bench, name));
    let readers: Vec<Child> = (0..4).map(|number| reader(&bench, number, false)).collect();
    crate::bench::soon(20, "a round of each reader", || {
        logs(&bench).iter().all(|log| log.contains("round"))
    });
    assert!(logs(&bench).iter().all(|log| log.lines().all(|line| line == "round")));
    // One block in each second file, in the middle of all that reading.
    let bad = 9 * BLOCK as u64 + 17;
    let image_file = OpenOptions::new().write(true).open(bench.path("image")).unwrap();
    for at in [1, 3, 5, 7] {
        image_file.write_all_at(b"CORRUPT!", places[at] + bad).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    crate::bench::soon(20, "an error of each bad file for each reader", || {
        let seen = |log: &String| ["f1 ", "f3 ", "f5 ", "f7 "].iter().all(|bad| log.contains(bad));
        logs(&bench).iter().all(seen)
    });
    bench.write("stop", b"");
    for mut reader in readers {
        assert_eq!(reader.wait().unwrap().code(), Some(0));
    }
    let mut errors = 0;
    for line in logs(&bench).iter().flat_map(|log| log.lines()).filter(|line| *line != "round") {
        // The bad block is in the first 64 KiB: nothing was got before.
        assert!(["f1 0", "f3 0", "f5 0", "f7 0"].contains(&line), "{line}");
        errors += 1;
    }
    assert!(errors >= 16);
    unmount(&bench.path("mnt"));
    let blocks: Vec<String> = [1, 3, 5, 7]
        .map(|at| format!("verify-data {}", (places[at] + bad) / BLOCK as u64))
        .to_vec();
    drop(source);
    crate::bench::soon(5, "the end of the device", || bench.verity(&["close", "root"]).status != 3);
    let violations = bench.violations();
    for block in &blocks {
        assert!(violations.contains(block), "{block} in {violations:?}");
    }
    for violation in &violations {
        assert!(blocks.contains(violation) || violation == "max-corrupted-errors ?", "{violation}");
    }
    bench.trail_is_good();
}

/// Whom to kill.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Volume,
    Keeper,
    Both,
}

/// How long a reader that reads all the time goes on after a kill.
fn time_to_fail(device: &Path, shot: impl FnOnce()) -> Duration {
    let file = direct(device);
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            while let Ok(bytes) = read_once(&file, 0, BLOCK) {
                assert_eq!(bytes.len(), BLOCK);
            }
            failed.store(true, Ordering::Relaxed);
            Instant::now()
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!failed.load(Ordering::Relaxed));
        let since = Instant::now();
        shot();
        reading.join().unwrap().duration_since(since)
    })
}

#[test]
fn killed_servers_end_their_readers_and_can_be_opened_again() {
    let test = "killed_servers_end_their_readers_and_can_be_opened_again";
    for victim in [Victim::Volume, Victim::Keeper, Victim::Both] {
        let Some(bench) = Bench::new(test) else { return };
        let Some(image) = file_system(&bench, test, "ext4") else { return };
        let good = fs::read(bench.path("image")).unwrap();
        let device = bench.open("root", &image, &["--direct-io"]);
        let Some(old) = attach(&bench, test, &device) else { return };
        let Some(point) = mount(&bench, test, "ext4", &old, "mnt") else { return };
        let mut readers: Vec<Child> = (0..4).map(|number| reader(&bench, number, true)).collect();
        crate::bench::soon(20, "a round of each reader", || {
            logs(&bench).iter().all(|log| log.contains("round"))
        });
        let (keeper, volume) = bench.servers("root");
        let began = Instant::now();
        let took = time_to_fail(&device, || {
            if victim != Victim::Keeper {
                kill(volume);
            }
            if victim != Victim::Volume {
                kill(keeper);
            }
        });
        assert!(took < Duration::from_secs(1), "{victim:?}: {took:?}");
        for reader in &mut readers {
            assert_eq!(reader.wait().unwrap().code(), Some(9), "{victim:?}");
        }
        // Processes have to be started and ended for that; a machine under load takes its time.
        assert!(began.elapsed() < Duration::from_secs(4), "{victim:?}: {:?}", began.elapsed());
        assert!(logs(&bench).iter().all(|log| log.lines().all(|line| line == "round")));
        // Never the empty file below the mount.
        assert!(fs::read(&device).is_err(), "{victim:?}");
        crate::bench::soon(5, "status tells", || bench.verity(&["status", "root"]).status == 1);
        let status = bench.status("root");
        assert_eq!(status["state"], "dead", "{victim:?}");
        let ended = status["ended"].as_str().unwrap().to_owned();
        match victim {
            Victim::Volume => assert_eq!(ended, "killed by signal 9"),
            Victim::Keeper => assert!(ended.starts_with("it was killed, with"), "{ended}"),
            // The keeper may have seen the volume's end before its own.
            Victim::Both => assert!(ended.contains("killed"), "{ended}"),
        }

        // The old mount is still in use by the loop device, which does not hinder a new one.
        let device = bench.open("root", &image, &[]);
        assert!(fs::read(&device).unwrap() == good, "{victim:?}");
        let Some(source) = attach(&bench, test, &device) else { return };
        let Some(again) = mount(&bench, test, "ext4", &source, "mnt2") else { return };
        for name in FILES {
            assert!(fs::read(again.join(name)).unwrap() == contents(name), "{victim:?}: {name}");
        }
        unmount(&again);
        unmount(&point);
        drop((old, source));
        crate::bench::soon(5, "its end", || bench.verity(&["close", "root"]).status != 3);
        let events = bench.events();
        let gaps = events.iter().filter_map(|event| event.body("VT_GAP")).count();
        let failed = events.iter().filter_map(|event| event.body("VT_DEVICE"));
        let failed = failed.filter(|body| body.contains(" state=failed ")).count();
        match victim {
            Victim::Volume => assert_eq!((gaps, failed), (0, 1)),
            Victim::Keeper => assert_eq!((gaps, failed), (1, 0)),
            // The record may be durable and its keeper killed before it could note that.
            Victim::Both => assert!(gaps + failed >= 1, "{gaps} {failed}"),
        }
        assert!(bench.left().is_empty(), "{:?}", bench.left());
        bench.trail_is_good();
    }
}

/// What is left of a killed keeper can be closed, too, and the gap is on record.
#[test]
fn a_close_clears_what_a_killed_server_has_left() {
    let Some(bench) = Bench::new("a_close_clears_what_a_killed_server_has_left") else { return };
    let image = bench.image("image", &noise(64 * BLOCK));
    for victim in [Victim::Volume, Victim::Keeper] {
        let device = bench.open("root", &image, &[]);
        let (keeper, volume) = bench.servers("root");
        kill(if victim == Victim::Volume { volume } else { keeper });
        crate::bench::soon(5, "the end", || {
            File::open(&device).and_then(|f| f.read_at(&mut [0; 1], 0)).is_err()
        });
        crate::bench::soon(5, "status tells", || bench.status("root")["state"] == "dead");
        let ran = bench.verity(&["close", "root"]);
        assert_eq!((ran.status, ran.out.as_str()), (0, ""), "{ran:?}");
        assert!(ran.err.contains("the server of root was gone"), "{}", ran.err);
        crate::bench::soon(2, "its processes' end", || bench.left().is_empty());
    }
    assert_eq!(bench.bodies("VT_GAP").len(), 1);
    bench.trail_is_good();
}
