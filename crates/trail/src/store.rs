//! What a trail needs of a disk, and nothing more.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Who may read a file that is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The owner alone: 0600.
    Secret,
    /// Owner and group: 0640.
    Group,
    /// Everybody: 0644.
    Public,
}

/// A directory on a disk. All paths are relative to it.
///
/// What a crash leaves of work that no `sync` covers is anybody's guess: any of the writes of
/// a file, any of the names of a directory. Appended bytes that were lost under later ones
/// read as zeros.
pub trait Store {
    /// A file of it.
    type File: File;

    /// Makes a directory; fine if it is there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes an empty file, cutting one that is there.
    fn create(&self, path: &Path, mode: Mode) -> io::Result<Self::File>;
    /// Opens a file for reading. What has the name and is no file (a link, a FIFO) is not there.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens a file for appending and reading; the same.
    fn open_append(&self, path: &Path) -> io::Result<Self::File>;
    /// Gives a file a new name, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a name away; fine if it is not there.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted; none if it is not there.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// How much still fits. A disk that does not say is taken for an endless one.
    fn room(&self) -> io::Result<Room> {
        Ok(Room { free: u64::MAX, total: u64::MAX })
    }
}

/// Room on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What the writer may still use.
    pub free: u64,
    /// What the disk has altogether.
    pub total: u64,
}

/// A file of a [`Store`].
pub trait File: Send {
    /// Adds bytes at the end. On an error some of them may have been added: `written` says how
    /// many.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Short>;
    /// Makes all bytes and the length durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Reads at most `buffer.len()` bytes from `offset` on; fewer only at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Whether there is nothing in it.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// An append that did not take everything.
#[derive(Debug)]
pub struct Short {
    /// Bytes that were added.
    pub written: usize,
    /// Why not all.
    pub source: io::Error,
}

/// A real directory.
#[derive(Clone, Debug)]
pub struct Disk {
    root: PathBuf,
}

impl Disk {
    /// The directory `root`, which need not exist yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Disk {
        Disk { root: root.into() }
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Store for Disk {
    type File = fs::File;

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = self.root.join(path);
        match fs::DirBuilder::new().recursive(true).mode(0o750).create(&path) {
            Ok(()) => {}
            Err(_) if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) => {}
            Err(error) => return Err(error),
        }
        match path.parent() {
            Some(parent) if parent != Path::new("") => fs::File::open(parent)?.sync_all(),
            _ => fs::File::open(".")?.sync_all(),
        }
    }

    fn create(&self, path: &Path, mode: Mode) -> io::Result<fs::File> {
        let mode = match mode {
            Mode::Secret => 0o600,
            Mode::Group => 0o640,
            Mode::Public => 0o644,
        };
        let path = self.root.join(path);
        // A name that is already there could be a link, or open to others.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::OpenOptions::new().read(true).append(true).create_new(true).mode(mode).open(path)
    }

    fn open(&self, path: &Path) -> io::Result<fs::File> {
        regular(fs::OpenOptions::new().read(true), &self.root.join(path))
    }

    fn open_append(&self, path: &Path) -> io::Result<fs::File> {
        regular(fs::OpenOptions::new().read(true).append(true), &self.root.join(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(self.root.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(self.root.join(path))?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.root.join(path)) {
            Err(error) if is_absence(&error) => return Ok(Vec::new()),
            other => other?,
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn room(&self) -> io::Result<Room> {
        let room = rustix::fs::statvfs(&self.root)?;
        let bytes = |blocks: u64| blocks.saturating_mul(room.f_frsize);
        Ok(Room { free: bytes(room.f_bavail), total: bytes(room.f_blocks) })
    }
}

/// Opens a regular file and nothing else: a link could lead anywhere, a FIFO would block.
fn regular(options: &mut fs::OpenOptions, path: &Path) -> io::Result<fs::File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
    let none = || io::Error::new(io::ErrorKind::NotFound, "not a regular file");
    match options.open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Ok(_) => Err(none()),
        Err(error) if is_absence(&error) => Err(none()),
        Err(error) => Err(error),
    }
}

/// Whether a file is not there, or is none: ELOOP is a link, ENXIO a socket.
fn is_absence(error: &io::Error) -> bool {
    let link = [Errno::LOOP, Errno::NXIO].map(Errno::raw_os_error);
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    ) || error.raw_os_error().is_some_and(|raw| link.contains(&raw))
}

impl File for fs::File {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Short> {
        let mut written = 0;
        while written < bytes.len() {
            match self.write(&bytes[written..]) {
                Ok(0) => {
                    return Err(Short { written, source: io::ErrorKind::WriteZero.into() });
                }
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Short { written, source }),
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match FileExt::read_at(self, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
