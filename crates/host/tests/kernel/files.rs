//! File systems on a served image: through a loop device and, for EROFS, without one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use host::mount::{Detach, MountError, mount_erofs, unmount};
use tempfile::TempDir;

use crate::serving::{Device, Served, pattern_range, runs};

/// A loop device that is gone when it is dropped.
pub(crate) struct Loop {
    pub(crate) path: PathBuf,
}

impl Loop {
    /// `None` where this machine has none to give, which is said.
    pub(crate) fn over(test: &str, file: &Path) -> Option<Self> {
        let output = Command::new("timeout")
            .args(["20", "losetup", "--read-only", "--find", "--show"])
            .arg(file)
            .output()
            .unwrap();
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            eprintln!("SKIPPED: {test}: no loop device: {}", words.trim());
            return None;
        }
        let path = String::from_utf8(output.stdout).unwrap();
        Some(Self { path: PathBuf::from(path.trim()) })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("timeout").args(["20", "losetup", "-d"]).arg(&self.path).status();
    }
}

/// A mount on a directory that is gone when it is dropped.
struct Mounted {
    point: TempDir,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(self.point.path(), Detach::Lazy);
    }
}

/// A folder with files of several sizes, and an image of it.
struct Image {
    folder: TempDir,
    path: PathBuf,
}

const SIZES: [usize; 4] = [0, 1, 5000, 3_000_000];

impl Image {
    fn made_by(program: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).unwrap();
        for size in SIZES {
            fs::write(tree.join(size.to_string()), pattern_range(size as u64, size)).unwrap();
        }
        let path = folder.path().join("image");
        let output = Command::new("timeout")
            .args(["60", program])
            .args(arguments.iter().map(|word| match *word {
                "TREE" => tree.as_os_str(),
                "IMAGE" => path.as_os_str(),
                word => word.as_ref(),
            }))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        Self { folder, path }
    }

    fn is_under(&self, point: &Path) {
        for size in SIZES {
            let bytes = fs::read(point.join(size.to_string())).unwrap();
            assert!(bytes == pattern_range(size as u64, size), "{size}");
        }
        assert!(self.folder.path().exists());
    }
}

fn loop_mounts(test: &str, fs_type: &str, image: &Image) {
    for direct_io in [false, true] {
        let device = Device { direct_io, image: Some(&image.path), ..Device::default() };
        let mut served = Served::new(device);
        let Some(block) = Loop::over(test, &served.point) else { return };
        let mounted = Mounted { point: tempfile::tempdir().unwrap() };
        let output = Command::new("timeout")
            .args(["30", "mount", "-t", fs_type, "-o", "ro"])
            .args([&block.path, mounted.point.path()])
            .output()
            .unwrap();
        if String::from_utf8_lossy(&output.stderr).contains("unknown filesystem type") {
            return eprintln!("SKIPPED: {test}: this kernel has no {fs_type}");
        }
        assert!(output.status.success(), "{output:?}");
        image.is_under(mounted.point.path());
        // Without its server the loop device is an error at once, but for what the page cache
        // has; and all of it can be taken away.
        served.kill();
        let start = Instant::now();
        let read = Command::new("timeout")
            .args(["20", "dd", &format!("if={}", block.path.display()), "iflag=direct"])
            .args(["bs=4096", "count=1", "of=/dev/null"])
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&read.stderr);
        assert!(
            !direct_io || !read.status.success() && words.contains("Input/output error"),
            "{words}"
        );
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        unmount(mounted.point.path(), Detach::Now).unwrap();
    }
}

#[test]
fn squashfs_through_a_loop_device() {
    let test = "squashfs_through_a_loop_device";
    if runs(test, &["mksquashfs", "losetup"]) {
        let image = Image::made_by("mksquashfs", &["TREE", "IMAGE", "-quiet", "-no-progress"]);
        loop_mounts(test, "squashfs", &image);
    }
}

#[test]
fn ext4_through_a_loop_device() {
    let test = "ext4_through_a_loop_device";
    if runs(test, &["mke2fs", "losetup"]) {
        let arguments = ["-q", "-t", "ext4", "-d", "TREE", "IMAGE", "32M"];
        loop_mounts(test, "ext4", &Image::made_by("mke2fs", &arguments));
    }
}

#[test]
fn erofs_on_the_file_itself() {
    let test = "erofs_on_the_file_itself";
    if !runs(test, &["mkfs.erofs"]) {
        return;
    }
    let image = Image::made_by("mkfs.erofs", &["IMAGE", "TREE"]);
    for direct_io in [false, true] {
        let device = Device { direct_io, image: Some(&image.path), ..Device::default() };
        let served = Served::new(device);
        let mounted = Mounted { point: tempfile::tempdir().unwrap() };
        match mount_erofs(&served.point, mounted.point.path()) {
            Err(error @ (MountError::NoErofs | MountError::NeedsBlockDevice(_))) => {
                return eprintln!("SKIPPED: {test}: {error}");
            }
            mounted => mounted.unwrap(),
        }
        image.is_under(mounted.point.path());
        unmount(mounted.point.path(), Detach::Now).unwrap();
        let gone = unmount(mounted.point.path(), Detach::Now).unwrap_err();
        assert!(matches!(gone, MountError::NotMounted(_)), "{gone}");
    }
    // What is no EROFS is said to be none.
    let served = Served::new(Device { size: 1 << 20, ..Device::default() });
    let point = tempfile::tempdir().unwrap();
    let refused = mount_erofs(&served.point, point.path()).unwrap_err();
    assert!(matches!(refused, MountError::NotErofs { .. }), "{refused}");
}
