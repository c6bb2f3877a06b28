//! `/dev/mapper/NAME`: made by udev where it runs, by ourselves where it does not.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{ffi::OsStr, thread};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::Number;
use crate::device::{Identity, identity};

/// How long udev may take for a node; after that it is made as if there were no udev.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often to look.
const LOOK: Duration = Duration::from_millis(10);

/// Where the device of this name is to be found.
#[must_use]
pub fn path(name: &[u8]) -> PathBuf {
    Path::new("/dev/mapper").join(OsStr::from_bytes(name))
}

/// Sees to it that the device of this name is there, and gives its path.
///
/// # Errors
/// Where the node cannot be made, or something that is no device node is in its place.
pub fn appear(name: &[u8], device: Number) -> io::Result<PathBuf> {
    let path = path(name);
    if udev_runs() && wait(|| stands_for(&path, device)) {
        return Ok(path);
    }
    if stands_for(&path, device) {
        return Ok(path);
    }
    // Of a device that had the name before, or a link to its node.
    clear(&path)?;
    let number = rustix::fs::makedev(device.0, device.1);
    // As libdevmapper makes it, but without a group: whoever may read it reads the image.
    mknodat(CWD, &path, FileType::BlockDevice, Mode::RUSR | Mode::WUSR, number)?;
    Ok(path)
}

/// Sees to it that nothing is left of the node of a device that is gone.
///
/// # Errors
/// Where it cannot be removed.
pub fn vanish(name: &[u8]) -> io::Result<()> {
    let path = path(name);
    if udev_runs() && wait(|| path.symlink_metadata().is_err()) {
        return Ok(());
    }
    clear(&path)
}

fn udev_runs() -> bool {
    Path::new("/run/udev/control").exists()
}

fn wait(until: impl Fn() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    while !until() {
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(LOOK);
    }
    true
}

fn stands_for(path: &Path, device: Number) -> bool {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(io::Error::from)
        .and_then(identity)
        .is_ok_and(|found| found == Identity::Block { device })
}

fn clear(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(found) if found.file_type().is_block_device() || found.is_symlink() => {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        }
        Ok(_) => {
            let what = format!("{} is in the way: it is no device node", path.display());
            Err(io::Error::new(io::ErrorKind::AlreadyExists, what))
        }
        Err(error) => Err(error),
    }
}
