//! From a mounted tree to an [`Index`]: every directory is listed, and every file asked where it
//! lies.
//!
//! The tree may change meanwhile, be damaged, and be made by an enemy. Nothing but directories and
//! regular files is opened, no link is followed, no other mount is entered, and what cannot be read
//! is counted and named.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use host::extents::{self, Fork};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, StatxAttributes, StatxFlags,
};
use rustix::io::Errno;

use super::index::{Content, Full, Index, NodeId};
use super::mounts::Entrance;

/// What a walk brought.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) index: Index,
    pub(super) trouble: Trouble,
    pub(super) end: End,
    /// When it ended.
    pub(super) at: Instant,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All of the tree was seen, but for what is in [`Trouble`].
    Whole,
    /// It has no place in memory.
    Full,
    /// It took too long.
    Late,
    /// The file system does not say where its files lie.
    NoMap,
}

/// What could not be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trouble {
    /// How many files or directories could not be read.
    pub(super) unreadable: u64,
    /// The first of them, and why.
    pub(super) first: Vec<(Vec<u8>, String)>,
    /// Directories and files that another mount covers.
    pub(super) covered: u64,
}

impl Trouble {
    const NAMED: usize = 4;

    fn note(&mut self, path: impl FnOnce() -> Vec<u8>, error: &io::Error) {
        self.unreadable += 1;
        if self.first.len() < Self::NAMED {
            self.first.push((path(), error.to_string()));
        }
    }

    /// Whether every file was seen.
    pub(super) fn is_none(&self) -> bool {
        self.unreadable == 0 && self.covered == 0
    }
}

/// Walks what lies below the entrance. An index that would need more than `limit` bytes is given up.
pub(super) fn walk(entrance: &Entrance, limit: usize, deadline: Instant) -> io::Result<Walked> {
    let root = entrance.directory.as_fd();
    let stat = rustix::fs::fstat(root)?;
    let mut walk = Walk {
        root,
        index: Index::new(stat.st_ino, limit),
        trouble: Trouble::default(),
        directories: VecDeque::from([Index::ROOT]),
        seen: HashSet::new(),
        has_attributes: true,
        deadline,
    };
    let end = walk.run();
    walk.index.seal();
    Ok(Walked { index: walk.index, trouble: walk.trouble, end, at: Instant::now() })
}

struct Walk<'a> {
    root: BorrowedFd<'a>,
    index: Index,
    trouble: Trouble,
    /// Those that are still to be listed.
    directories: VecDeque<NodeId>,
    /// Inodes of several names.
    seen: HashSet<u64>,
    /// Until the file system says that it cannot tell where attributes lie.
    has_attributes: bool,
    deadline: Instant,
}

/// Why a walk goes no further.
enum Stop {
    Full,
    Late,
    NoMap,
}

impl From<Full> for Stop {
    fn from(_: Full) -> Stop {
        Stop::Full
    }
}

impl Walk<'_> {
    fn run(&mut self) -> End {
        while let Some(directory) = self.directories.pop_front() {
            match self.list(directory) {
                Ok(()) => {}
                Err(Stop::Full) => return End::Full,
                Err(Stop::Late) => return End::Late,
                Err(Stop::NoMap) => return End::NoMap,
            }
        }
        End::Whole
    }

    fn list(&mut self, directory: NodeId) -> Result<(), Stop> {
        let path = self.index.path(directory);
        let relative = match path.strip_prefix(b"/").unwrap_or(&path) {
            b"" => b".".as_slice(),
            relative => relative,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
        let opened = match self.open_below(self.root, relative, flags | OFlags::NOATIME) {
            Err(Errno::PERM) => self.open_below(self.root, relative, flags),
            opened => opened,
        };
        let folder = match opened {
            Ok(folder) => folder,
            Err(errno) => {
                self.missed(errno, || path);
                return Ok(());
            }
        };
        self.map(directory, folder.as_fd(), None)?;
        let mut buffer = [const { MaybeUninit::uninit() }; 32 << 10];
        let mut entries = RawDir::new(&folder, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => {
                    self.trouble.note(|| path.clone(), &errno.into());
                    break;
                }
            };
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                self.enter(directory, folder.as_fd(), name)?;
            }
        }
        Ok(())
    }

    /// Looks at one name of a directory.
    fn enter(&mut self, parent: NodeId, folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), Stop> {
        if Instant::now() >= self.deadline {
            return Err(Stop::Late);
        }
        // Only a place in the tree: what a FIFO or a device would do when it is opened is not done.
        let place = match self.open_below(folder, name, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(place) => place,
            // Somebody removed it.
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => {
                self.missed_in(parent, name, errno);
                return Ok(());
            }
        };
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let stat = match rustix::fs::statx(&place, "", flags, StatxFlags::BASIC_STATS) {
            Ok(stat) => stat,
            Err(errno) => {
                self.missed_in(parent, name, errno);
                return Ok(());
            }
        };
        let (inode, links) = (stat.stx_ino, stat.stx_nlink);
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        let is_directory = kind == FileType::Directory;
        // EROFS says it here and not of the extents.
        let compressed = stat.stx_attributes.contains(StatxAttributes::COMPRESSED);
        let block = compressed.then_some(u64::from(stat.stx_blksize));
        if links > 1 && !is_directory && !self.seen.insert(inode) {
            return Ok(());
        }
        let node = self.index.add(parent, name, inode, links, is_directory)?;
        if is_directory {
            self.directories.push_back(node);
        } else if kind == FileType::RegularFile {
            match reopen(&place) {
                Ok(file) => self.map(node, file.as_fd(), block)?,
                Err(errno) => self.missed_in(parent, name, errno),
            }
        }
        Ok(())
    }

    /// Asks where a file or directory lies; where it is compressed, in blocks of so many bytes.
    fn map(
        &mut self,
        node: NodeId,
        file: BorrowedFd<'_>,
        compressed: Option<u64>,
    ) -> Result<(), Stop> {
        if let Err(error) = self.map_fork(node, file, Fork::Data, compressed)? {
            let is_directory = self.index.node(node).is_some_and(|node| node.is_directory);
            match has_no_map(&error) {
                true if is_directory => {}
                true => return Err(Stop::NoMap),
                false => {
                    let index = &self.index;
                    self.trouble.note(|| index.path(node), &error);
                }
            }
        }
        if self.has_attributes
            && let Err(error) = self.map_fork(node, file, Fork::Attributes, None)?
        {
            // EBADR stands for a fork that the file system does not map.
            self.has_attributes = !has_no_map(&error);
            if self.has_attributes {
                let index = &self.index;
                self.trouble.note(|| index.path(node), &error);
            }
        }
        Ok(())
    }

    fn map_fork(
        &mut self,
        node: NodeId,
        file: BorrowedFd<'_>,
        fork: Fork,
        compressed: Option<u64>,
    ) -> Result<io::Result<()>, Stop> {
        let (index, deadline) = (&mut self.index, self.deadline);
        let walked = extents::walk(file, fork, |mut extent| {
            let content = match fork {
                Fork::Attributes => Content::Attributes,
                Fork::Data if extent.flags.is_compressed() || compressed.is_some() => {
                    // A compressed stretch ends with a block, wherever the file does.
                    let end = extent.physical.saturating_add(extent.length);
                    let end = end.checked_next_multiple_of(compressed.unwrap_or(1).max(1));
                    extent.length = end.map_or(extent.length, |end| end - extent.physical);
                    Content::Compressed
                }
                Fork::Data => Content::Data,
            };
            if !extent.flags.is_placed() {
                return ControlFlow::Continue(());
            }
            if Instant::now() >= deadline {
                return ControlFlow::Break(Stop::Late);
            }
            match index.extend(node, content, &extent) {
                Ok(()) => ControlFlow::Continue(()),
                Err(Full) => ControlFlow::Break(Stop::Full),
            }
        });
        match walked {
            Ok(Some(stop)) => Err(stop),
            Ok(None) => Ok(Ok(())),
            Err(error) => Ok(Err(error)),
        }
    }

    fn open_below(
        &self,
        folder: BorrowedFd<'_>,
        path: &[u8],
        flags: OFlags,
    ) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_XDEV
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS;
        // With O_PATH and NOFOLLOW a link itself is opened.
        let resolve = if flags.contains(OFlags::PATH) {
            resolve & !ResolveFlags::NO_SYMLINKS
        } else {
            resolve
        };
        rustix::fs::openat2(folder, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    fn missed(&mut self, errno: Errno, path: impl FnOnce() -> Vec<u8>) {
        match errno {
            Errno::XDEV => self.trouble.covered += 1,
            // Removed since it was listed.
            Errno::NOENT => {}
            errno => self.trouble.note(path, &errno.into()),
        }
    }

    fn missed_in(&mut self, parent: NodeId, name: &[u8], errno: Errno) {
        let folder = self.index.path(parent);
        self.missed(errno, || [folder.strip_suffix(b"/").unwrap_or(&folder), b"/", name].concat());
    }
}

/// Opens what `place` is, which is a regular file, for reading.
fn reopen(place: &OwnedFd) -> Result<File, Errno> {
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&*path, flags | OFlags::NOATIME, Mode::empty());
    let opened = match opened {
        Err(Errno::PERM) => rustix::fs::open(path, flags, Mode::empty()),
        opened => opened,
    };
    opened.map(File::from)
}

fn has_no_map(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::OPNOTSUPP | Errno::NOTTY | Errno::BADR))
}
