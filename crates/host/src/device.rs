//! What a descriptor stands for: a file or a block device, and what a loop device is made of.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::{fs, io};

use rustix::fs::FileType;

/// Which file or block device a descriptor is open on; equal for equal ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A block device, by its major and minor number.
    Block {
        /// Major and minor.
        device: (u32, u32),
    },
    /// Anything else: its file system and its place in it.
    File {
        /// Major and minor of the file system.
        device: (u32, u32),
        /// Inode number.
        inode: u64,
    },
}

/// What `file` is open on.
///
/// # Errors
/// Where fstat(2) fails.
pub fn identity(file: impl AsFd) -> io::Result<Identity> {
    let stat = rustix::fs::fstat(file)?;
    let pair = |device| (rustix::fs::major(device), rustix::fs::minor(device));
    Ok(if FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice {
        Identity::Block { device: pair(stat.st_rdev) }
    } else {
        Identity::File { device: pair(stat.st_dev), inode: stat.st_ino }
    })
}

/// The file that a loop device is made of, as sysfs names it (with ` (deleted)` behind it once
/// it is); `None` for any other device.
///
/// # Errors
/// Where sysfs cannot be read.
pub fn backing_of_loop((major, minor): (u32, u32)) -> io::Result<Option<PathBuf>> {
    match fs::read(format!("/sys/dev/block/{major}:{minor}/loop/backing_file")) {
        Ok(mut path) => {
            // The kernel's own line feed; one more is the name's.
            if path.last() == Some(&b'\n') {
                path.pop();
            }
            Ok(Some(PathBuf::from(OsString::from_vec(path))))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The usual path of a block device: `/dev/loop0`, and `/dev/mapper/NAME` for one of the device
/// mapper; `None` where there is no such device.
///
/// # Errors
/// Where sysfs cannot be read.
pub fn path((major, minor): (u32, u32)) -> io::Result<Option<PathBuf>> {
    let sys = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let link = match fs::read_link(&sys) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        link => link?,
    };
    if let Ok(mut name) = fs::read(sys.join("dm/name")) {
        if name.last() == Some(&b'\n') {
            name.pop();
        }
        return Ok(Some(crate::dm::node::path(&name)));
    }
    let name = link.file_name().unwrap_or_default().as_encoded_bytes();
    // A slash in a device's name is one of `/dev` as well (cciss/c0d0).
    let name = name.iter().map(|b| if *b == b'!' { b'/' } else { *b }).collect();
    Ok(Some(PathBuf::from("/dev").join(OsString::from_vec(name))))
}
