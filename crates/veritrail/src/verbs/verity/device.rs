//! Files and block devices, as the engine wants them.

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use block::{ReadAt, WriteAt};

use crate::outcome::{Failure, Kind};

/// An open file or block device.
#[derive(Debug)]
pub(crate) struct Device {
    file: File,
    path: PathBuf,
}

impl Device {
    /// Opens for reading only.
    pub(crate) fn open(path: &Path) -> Result<Device, Failure> {
        // Looked at first: the opening of a FIFO waits for a writer, for ever if there is none.
        let looked = fs::metadata(path).and_then(|found| usable(found.file_type()));
        Device::from_result(path, looked.and_then(|()| File::open(path)))
    }

    /// Opens what exists for writing, too.
    pub(super) fn open_to_write(path: &Path) -> Result<Device, Failure> {
        Device::from_result(path, OpenOptions::new().read(true).write(true).open(path))
    }

    /// Opens for writing too; a file that is not there is made, for its owner only.
    pub(crate) fn create(path: &Path) -> Result<Device, Failure> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path);
        // Opened for reading a directory is refused below, in the same words.
        let file = match file {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => File::open(path),
            file => file,
        };
        Device::from_result(path, file)
    }

    fn from_result(path: &Path, file: io::Result<File>) -> Result<Device, Failure> {
        let device = file.and_then(|file| {
            usable(file.metadata()?.file_type())?;
            Ok(Device { file, path: path.to_owned() })
        });
        device.map_err(|error| {
            Failure::new(Kind::Io, format!("cannot open {}", path.display())).because(error)
        })
    }

    /// One that another process has opened and looked at.
    pub(crate) fn received(descriptor: OwnedFd) -> Device {
        Device { file: descriptor.into(), path: PathBuf::new() }
    }

    /// The open file, and where it was opened.
    pub(crate) fn into_parts(self) -> (File, PathBuf) {
        (self.file, self.path)
    }

    /// The open file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Where it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The size in bytes, as a failure that names the device when it cannot be told.
    pub(crate) fn bytes(&self) -> Result<u64, Failure> {
        self.size().map_err(|error| {
            let what = format!("cannot tell the size of {}", self.path.display());
            Failure::new(Kind::Io, what).because(error)
        })
    }

    /// Whether both are one file, or one block device by whatever name.
    pub(crate) fn is_same_as(&self, other: &Device) -> Result<bool, Failure> {
        let identity = |device: &Device| {
            let metadata = device.file.metadata()?;
            Ok(if metadata.file_type().is_block_device() {
                (true, metadata.rdev(), 0)
            } else {
                (false, metadata.dev(), metadata.ino())
            })
        };
        let same = identity(self).and_then(|mine| Ok(mine == identity(other)?));
        same.map_err(|error: io::Error| {
            let what =
                format!("cannot compare {} and {}", self.path.display(), other.path.display());
            Failure::new(Kind::Io, what).because(error)
        })
    }
}

fn usable(kind: FileType) -> io::Result<()> {
    if kind.is_file() || kind.is_block_device() {
        return Ok(());
    }
    let what = "it is neither a file nor a block device";
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

impl ReadAt for Device {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        let metadata = self.file.metadata()?;
        if metadata.file_type().is_block_device() {
            (&self.file).seek(SeekFrom::End(0))
        } else {
            Ok(metadata.len())
        }
    }
}

impl WriteAt for Device {
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}
