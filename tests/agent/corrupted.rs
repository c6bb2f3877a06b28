//! The whole of it: a container of runc on a served device, one block of which is bad.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::bench::{Bench, soon};
use crate::containers::{BPF_ONLY, Waiting, set, start};
use crate::runtimes::{bundle, name_of};

/// Bytes that no file system has by itself.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    next.flatten().take(length).collect()
}

/// A folder of its own for the labels, so that they stay while no agent runs and servers of devices read them. None,
/// visibly, where there is no such thing.
fn pins(test: &str, bench: &Bench) -> Option<PathBuf> {
    let pins = bench.path("run/bpf");
    fs::create_dir_all(&pins).unwrap();
    let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&pins).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: {test}: bpffs cannot be mounted");
        return None;
    }
    Some(pins)
}

/// The folder becomes an image, with a bad block in `etc/motto`, which is served. None, visibly, where this machine
/// cannot.
fn serve(test: &str, bench: &Bench, folder: &Path) -> Option<PathBuf> {
    fs::create_dir_all(folder.join("etc")).unwrap();
    let motto = noise(65_536);
    fs::write(folder.join("etc/motto"), &motto).unwrap();
    let image = bench.path("image");
    let made = Command::new("mkfs.erofs").arg(&image).arg(folder).stdout(Stdio::null()).status();
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    if !made.is_ok_and(|status| status.success()) || !known.contains("\terofs\n") {
        eprintln!("SKIPPED: {test}: no mkfs.erofs, or a kernel without erofs");
        return None;
    }
    let words = ["verity", "format", "image", "hash", "--root-hash-file", "root"];
    assert_eq!(bench.veritrail(&words).status, Some(0));
    let root = fs::read_to_string(bench.path("root")).unwrap();
    let words = ["verity", "open", "image", "base", "hash", root.trim_end()];
    let to = ["--run-dir", "run", "--trail", "trail"];
    let opened = bench.veritrail(&[&words[..], &to].concat());
    assert_eq!(opened.status, Some(0), "{opened:?}");
    let bytes = fs::read(&image).unwrap();
    let at = (0..bytes.len() - 64).find(|at| bytes[*at..].starts_with(&motto[..64])).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&image).unwrap();
    file.write_all_at(b"CORRUPT!", (at + 8192 + 17) as u64).unwrap();
    Some(bench.path("run/devices/base"))
}

/// Mounted from the file itself; false, visibly, where the kernel does not.
fn mount(test: &str, device: &Path, at: &Path) -> bool {
    match host::mount::mount_erofs(device, at) {
        Err(error) if error.to_string().contains("from block devices only") => {
            eprintln!("SKIPPED: {test}: {error}");
            false
        }
        mounted => {
            mounted.unwrap();
            true
        }
    }
}

fn close(bench: &Bench) {
    let close =
        || bench.veritrail(&["verity", "close", "base", "--run-dir", "run"]).status == Some(0);
    soon("the end of the device", close);
}

/// A container that runs; taken away when it is dropped.
struct Container(Child, String);

impl Container {
    fn run(bundle: &Path) -> Container {
        let name = name_of(bundle);
        let mut command = Command::new("timeout");
        command.args(["-k", "5", "60", "runc", "run", "-b"]).arg(bundle).arg(&name);
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Container(child, name)
    }

    fn go(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("runc").args(["delete", "-f", &self.1]).status();
        let _ = self.0.wait();
    }
}

fn found(bench: &Bench, words: &[&str]) -> Vec<Value> {
    let ran = bench.veritrail(&[&["search", "--trail", "trail", "--json"], words].concat());
    ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The fields of a record of an event.
fn of<'a>(event: &'a Value, kind: &str) -> Option<&'a Value> {
    let records = event["records"].as_array().unwrap();
    records.iter().find(|record| record["type"] == kind).map(|record| &record["fields"])
}

#[test]
fn a_bad_block_below_a_container_of_runc_is_told_by_one_search() {
    let test = "a_bad_block_below_a_container_of_runc_is_told_by_one_search";
    let bench = Bench::new();
    bench.write("config", BPF_ONLY);
    let Some(pins) = pins(test, &bench) else { return };
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    let script = "/bin/busybox cat /etc/motto; read line; /bin/busybox cat /etc/motto; read line";
    let Some(bundle) = bundle(test, &bench, "web", script) else { return };
    let rootfs = bundle.join("rootfs");
    for folder in ["dev", "proc", "sys"] {
        fs::create_dir(rootfs.join(folder)).unwrap();
    }
    let Some(device) = serve(test, &bench, &rootfs) else { return };
    if !mount(test, &device, &rootfs) {
        return;
    }
    let mut container = Container::run(&bundle);
    let name = name_of(&bundle);
    let is_explained =
        || found(&bench, &["--contid", &name]).iter().any(|one| of(one, "VT_FILE").is_some());
    soon("what lies there", is_explained);

    // One search.
    let events = found(&bench, &["--contid", &name]);
    let is_read = |one: &&Value| {
        // The shell's own read came by it too, ahead.
        let by = of(one, "VT_READER").is_some_and(|reader| reader["comm"] == "busybox");
        by && of(one, "DM_EVENT").is_some()
    };
    let event = events.iter().find(is_read).unwrap();
    assert_eq!(of(event, "DM_EVENT").unwrap()["op"], "verify-data");
    assert_eq!(of(event, "VT_READER").unwrap()["answer"], "EIO");
    assert!(event["time"].is_string(), "{event}");
    let contid = of(event, "CONTAINER_ID").unwrap()["contid"].clone();
    assert_eq!(event["contid"], contid);
    assert_eq!(event["conf"], "certain");
    let place = events.iter().find(|one| of(one, "VT_FILE").is_some()).unwrap();
    assert_eq!(of(place, "VT_FILE").unwrap()["file"], "/etc/motto");
    assert_eq!(of(place, "VT_PLACE"), of(event, "VT_PLACE"));
    let mounts: Vec<&Value> = place["records"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|record| record["type"] == "VT_MOUNT")
        .collect();
    let inside = mounts.iter().find(|mount| mount["fields"]["contid"] == contid);
    assert_eq!(inside.unwrap()["fields"]["file"], "/etc/motto", "{mounts:?}");
    let described = events
        .iter()
        .filter_map(|one| of(one, "VT_CONTAINER"))
        .find(|one| one["state"] == "described");
    assert_eq!(described.unwrap()["image"], "busybox:1");
    assert!(events.iter().all(|one| !one.to_string().contains("VT_GAP")));

    // Nobody's: the host reads the same.
    let before = found(&bench, &["-m", "VT_READER"]).len();
    assert!(
        !Command::new("cat")
            .arg(bundle.join("rootfs/etc/motto"))
            .stdout(Stdio::null())
            .status()
            .unwrap()
            .success()
    );
    soon("the host's", || found(&bench, &["-m", "VT_READER"]).len() > before);
    let of_host = found(&bench, &["-m", "VT_READER"]).split_off(before);
    assert!(of_host.iter().all(|one| of(one, "CONTAINER_ID").is_none()), "{of_host:?}");

    // While there is no agent, too.
    let before = found(&bench, &["-m", "VT_READER"]).len();
    agent.kill();
    container.go();
    soon("without an agent", || found(&bench, &["-m", "VT_READER"]).len() > before);
    let alone = found(&bench, &["-m", "VT_READER"]).split_off(before);
    assert!(
        alone.iter().all(|one| of(one, "CONTAINER_ID").is_some_and(|id| id["contid"] == contid)),
        "{alone:?}"
    );

    let agent = bench.start(&["--config", "config"]);
    container.go();
    soon("its end", || {
        bench.bodies("CONTAINER_OP").iter().any(|body| body.starts_with("op=drop "))
    });
    drop(container);
    let closed = || {
        host::mount::unmount(&bundle.join("rootfs"), host::mount::Detach::Now).is_ok()
            || fs::metadata(bundle.join("rootfs/etc")).is_err()
    };
    soon("nobody in it", closed);
    close(&bench);
    assert_eq!(agent.stop(), Some(0));
    let bad: Vec<PathBuf> = bench.mounts().into_iter().map(PathBuf::from).collect();
    assert_eq!(bad, [pins]);
    bench.trail_is_good();
}

/// Through a loop device a thread of the kernel reads, and whose it is follows from who has it mounted.
#[test]
fn who_uses_a_served_device_by_a_loop_device_is_inferred() {
    let test = "who_uses_a_served_device_by_a_loop_device_is_inferred";
    let bench = Bench::new();
    bench.write("config", BPF_ONLY);
    let Some(_pins) = pins(test, &bench) else { return };
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    fs::create_dir(bench.path("tree")).unwrap();
    let Some(device) = serve(test, &bench, &bench.path("tree")) else { return };
    let point = bench.path("mnt");
    fs::create_dir(&point).unwrap();
    // In a mount namespace of its own; the kernel takes the loop device away with the mount.
    let script = format!(
        "exec unshare -m sh -c 'mount -i -t erofs -o ro,loop {} {} || exit 3; cat {}/etc/motto; read line' 2>/dev/null",
        device.display(),
        point.display(),
        point.display()
    );
    let mut container = Waiting::new(&script);
    set(&bench, container.pid(), "55").unwrap();
    container.go();
    let is_over = container.0.stdout.take().unwrap();
    std::thread::spawn(move || std::io::copy(&mut { is_over }, &mut std::io::sink()));
    let explained = || -> Vec<Value> {
        let all = found(&bench, &["--contid", "55"]);
        all.into_iter().filter(|one| of(one, "VT_FILE").is_some()).collect()
    };
    let mut ended = false;
    soon("what lies there", || {
        ended = ended || container.0.try_wait().unwrap().is_some();
        ended || !explained().is_empty()
    });
    if ended {
        return eprintln!("SKIPPED: {test}: no loop device can be mounted here");
    }
    let place = &explained()[0];
    assert_eq!(of(place, "VT_FILE").unwrap()["file"], "/etc/motto");
    assert_eq!(of(place, "VT_MOUNT").unwrap()["contid"], "55");
    let whose = of(place, "CONTAINER_ID").unwrap();
    let words = [&whose["contid"], &whose["VT_CONF"], &whose["VT_VIA"]];
    assert_eq!(words, ["55", "inferred", "device"], "{place}");
    // Of the reader himself nothing is said.
    let readers = found(&bench, &["-m", "VT_READER"]);
    let of_kernel = readers.iter().filter(|one| of(one, "VT_READER").unwrap()["exe"] == "(null)");
    assert!(of_kernel.clone().count() > 0, "{readers:?}");
    assert!(of_kernel.clone().all(|one| of(one, "CONTAINER_ID").is_none()), "{readers:?}");
    drop(container);
    close(&bench);
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}
