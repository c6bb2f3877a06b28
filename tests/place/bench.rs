//! A folder with images, loop devices on them and mounts of those, all of it gone when the test is.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

pub(crate) struct Bench {
    folder: tempfile::TempDir,
    /// To be undone, the last first.
    undo: Vec<Undo>,
}

enum Undo {
    Unmount(PathBuf),
    Detach(PathBuf),
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.release();
    }
}

/// A command that ends within a minute.
pub(crate) fn timed(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "60", program]).env("LC_ALL", "C");
    command
}

/// Runs a command that has to succeed; what it printed.
pub(crate) fn run(program: &str, arguments: &[&dyn AsRef<OsStr>]) -> String {
    let output = timed(program).args(arguments.iter().map(|one| one.as_ref())).output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Bench {
    /// None, with a word about it, where the test cannot run: it needs root, these tools and
    /// these file systems.
    pub(crate) fn new(test: &str, tools: &[&str], file_systems: &[&str]) -> Option<Bench> {
        let skipped = |why: String| {
            eprintln!("SKIPPED: {test}: {why}");
            None
        };
        if !rustix::process::geteuid().is_root() {
            return skipped("needs root".to_owned());
        }
        for tool in ["losetup", "mount", "umount"].iter().chain(tools) {
            let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
            if !found.iter().any(|folder| Path::new(folder).join(tool).exists()) {
                return skipped(format!("no {tool}"));
            }
        }
        let known = fs::read_to_string("/proc/filesystems").unwrap();
        for kind in file_systems {
            if !known.lines().any(|line| line.ends_with(&format!("\t{kind}"))) {
                return skipped(format!("this kernel has no {kind}"));
            }
        }
        let folder = tempfile::Builder::new().prefix("veritrail-place-").tempdir().unwrap();
        Some(Bench { folder, undo: Vec::new() })
    }

    /// Takes mounts and loop devices away; the folder stays.
    pub(crate) fn release(&mut self) {
        while let Some(undo) = self.undo.pop() {
            // What fails here is seen by whoever comes next; a panic would hide the first one.
            let _ = match undo {
                Undo::Unmount(point) => timed("umount").arg("-l").arg(point).status(),
                Undo::Detach(device) => timed("losetup").arg("-d").arg(device).status(),
            };
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A file of so many bytes, all of them a hole.
    pub(crate) fn sparse(&self, name: &str, size: u64) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().set_len(size).unwrap();
        path
    }

    /// A loop device over the file; none, said, where this machine gives none.
    pub(crate) fn attach(&mut self, test: &str, file: &Path, options: &[&str]) -> Option<PathBuf> {
        let output =
            timed("losetup").args(["--find", "--show"]).args(options).arg(file).output().unwrap();
        if !output.status.success() {
            eprintln!("SKIPPED: {test}: no loop device: {output:?}");
            return None;
        }
        let device = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end());
        self.undo.push(Undo::Detach(device.clone()));
        Some(device)
    }

    pub(crate) fn mount(&mut self, source: &Path, name: &str, options: &[&str]) -> PathBuf {
        let point = self.folder(name);
        let mut mount = timed("mount");
        mount.args(options).arg(source).arg(&point);
        let output = mount.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        self.undo.push(Undo::Unmount(point.clone()));
        point
    }

    /// Takes a mount that was made otherwise away at the end.
    pub(crate) fn mounted(&mut self, point: PathBuf) {
        self.undo.push(Undo::Unmount(point));
    }

    pub(crate) fn unmount(&mut self, point: &Path) {
        run("umount", &[&point]);
        // Of several upon each other the topmost.
        let is_it = |undo: &Undo| matches!(undo, Undo::Unmount(other) if other == point);
        if let Some(last) = self.undo.iter().rposition(is_it) {
            self.undo.remove(last);
        }
    }
}

pub(crate) fn veritrail(arguments: &[&str]) -> Output {
    timed(env!("CARGO_BIN_EXE_veritrail")).args(arguments).output().unwrap()
}

/// `device explain DEV --bytes ... --json`, which has to answer.
pub(crate) fn explain(device: &Path, first: u64, length: u64) -> Value {
    let bytes = format!("{first}-{}", first + length - 1);
    let arguments = ["device", "explain", device.to_str().unwrap(), "--bytes", &bytes, "--json"];
    let output = veritrail(&arguments);
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{arguments:?}: {output:?}"));
    let expected = if report["certain"] == true { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(expected), "{report}");
    report
}

/// What each block of the image on `device` is used for: `file /path 12`, with the number of the
/// block in the file, `metadata WHAT`, `free`, `unknown`.
pub(crate) fn uses(device: &Path, blocks: u64, block: u64, at_once: u64) -> Vec<String> {
    let mut words = vec![String::new(); usize::try_from(blocks).unwrap()];
    for start in (0..blocks).step_by(usize::try_from(at_once).unwrap()) {
        let many = at_once.min(blocks - start);
        let report = explain(device, start * block, many * block);
        let hits = report["hits"].as_array().unwrap();
        assert_eq!(hits.len(), 1, "{report}");
        assert_eq!(hits[0]["more_uses"], 0, "{report}");
        for one in hits[0]["uses"].as_array().unwrap() {
            let first = one["bytes"]["first"].as_u64().unwrap();
            let last = one["bytes"]["last"].as_u64().unwrap();
            for at in first / block..=last / block {
                let word = &mut words[usize::try_from(at).unwrap()];
                let offset = one["offset"]
                    .as_u64()
                    .map(|offset| (offset + (at * block).saturating_sub(first)) / block);
                let path = one["file"].as_str().unwrap_or("?");
                let new = match one["use"].as_str().unwrap() {
                    "file" => format!("file {path} {}", offset.unwrap_or(u64::MAX)),
                    "metadata" => match one["inode"].as_u64() {
                        Some(_) => format!("metadata {path}"),
                        None => format!("metadata {}", one["of"].as_str().unwrap()),
                    },
                    other => other.to_owned(),
                };
                if !word.is_empty() {
                    word.push_str(" + ");
                }
                word.push_str(&new);
            }
        }
    }
    words
}

/// Bytes of which no two blocks are alike.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A tree with files of all shapes: of one block, of many, with holes, in pieces, with several
/// names, odd names, links of both kinds, and things that must not be opened.
pub(crate) fn plant(root: &Path) {
    fs::create_dir_all(root.join("etc/deep/deeper")).unwrap();
    fs::write(root.join("etc/motto"), noise(100_000)).unwrap();
    fs::write(root.join("etc/deep/one"), noise(1)).unwrap();
    fs::write(root.join("etc/deep/deeper/a b\u{e9}"), noise(5000)).unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    let holes = File::create(root.join("holes")).unwrap();
    for at in [0u64, 10, 11, 300] {
        holes.write_all_at(&noise(4096), at * 4096).unwrap();
    }
    holes.set_len(400 * 4096).unwrap();
    fs::hard_link(root.join("etc/motto"), root.join("motto")).unwrap();
    std::os::unix::fs::symlink("etc/motto", root.join("short")).unwrap();
    std::os::unix::fs::symlink("x".repeat(200), root.join("long")).unwrap();
    run("mkfifo", &[&root.join("fifo")]);
    for n in 0..300 {
        fs::write(root.join(format!("etc/deep/file-with-quite-a-long-name-{n:04}")), noise(n * 10))
            .unwrap();
    }
}
