//! Loop devices: a file as a block device.

mod ioctl;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use self::ioctl::Info;
use crate::device::{Identity, identity};

/// A loop device, open. It is taken away when its last user has closed it (autoclear), and this is
/// the first.
#[derive(Debug)]
pub struct Loop {
    device: File,
    path: PathBuf,
    number: (u32, u32),
}

/// How a file becomes a device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Refuse writes, whatever the file allows.
    pub read_only: bool,
    /// Read past the page cache of the file, where its file system can.
    pub direct_io: bool,
}

/// `LO_FLAGS_*` of `linux/loop.h`.
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// How often a device that was free may be taken by somebody else first.
const TRIES: usize = 64;

/// Makes a loop device of `file`; `name` is what `losetup` shows where it cannot see the file itself.
///
/// # Errors
/// What the kernel answered; ENOENT where there are no loop devices, ENOSPC where none is left.
pub fn attach(file: impl AsFd, name: &Path, options: Options) -> io::Result<Loop> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    let mut info = Info::new();
    info.flags = AUTOCLEAR
        | if options.read_only { READ_ONLY } else { 0 }
        | if options.direct_io { DIRECT_IO } else { 0 };
    for (to, from) in info.file_name.iter_mut().take(63).zip(name.as_os_str().as_bytes()) {
        *to = *from;
    }
    for _ in 0..TRIES {
        let number = ioctl::free(&control)?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = OpenOptions::new().read(true).write(!options.read_only).open(&path)?;
        match configure(device.as_fd(), file.as_fd(), &info) {
            Ok(()) => {
                let Identity::Block { device: number } = identity(&device)? else {
                    return Err(Errno::NOTBLK.into());
                };
                return Ok(Loop { device, path, number });
            }
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::NOSPC.into())
}

/// The file behind an open loop device: `st_dev` and inode, which hold where its path does
/// not (another mount namespace, a file that was renamed or deleted). The kernel asks the
/// file system of that file, which may be FUSE.
///
/// # Errors
/// `ENXIO` where no file is attached.
pub fn backing_inode(loop_device: impl AsFd) -> io::Result<((u32, u32), u64)> {
    let Info { device, inode, .. } = ioctl::status(loop_device)?;
    // `huge_encode_dev()` of linux/kdev_t.h, which of numbers of 12 and 20 bits is the same as
    // the C library's.
    Ok(((rustix::fs::major(device), rustix::fs::minor(device)), inode))
}

fn configure(device: BorrowedFd<'_>, file: BorrowedFd<'_>, info: &Info) -> io::Result<()> {
    match ioctl::configure(device, file, info) {
        // Before Linux 5.8 it has to be done in two steps.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTTY)) => {
            ioctl::set_file(device, file)?;
            ioctl::set_status(device, info).inspect_err(|_| {
                // The error told is the one before.
                let _ = ioctl::clear(device);
            })
        }
        done => done,
    }
}

impl Loop {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Major and minor number.
    #[must_use]
    pub fn number(&self) -> (u32, u32) {
        self.number
    }

    /// Takes it away now; where somebody else has it open, when he has closed it.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn detach(self) -> io::Result<()> {
        ioctl::clear(&self.device)
    }
}

impl AsFd for Loop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}
