//! A tree of small files, links and attributes, served over a FUSE connection.
//!
//! This end knows inodes and replies; names, contents and errors are the [`Tree`]'s. Nothing is
//! cached by the kernel: what the tree says may change at any time. A file is read as it was when
//! it was opened, so that nobody gets half of one state and half of another. An attribute is no
//! contents but a question: every read and write of it is a request, judged by who makes it, and
//! answered when there is an answer (design section 3, seam "Tree").

mod handles;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    Config, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyWrite, Request, SessionACL, TimeOrNow, WriteFlags,
};

use self::handles::{Handle, Handles, attribute, which};
use crate::fuse::{Errno, fuser_errno};

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Others below it, see [`Tree::list`].
    Directory,
    /// A symbolic link to there.
    Link(PathBuf),
    /// A file with these bytes.
    File(Vec<u8>),
    /// A file as those of proc(5) and sysfs(5) are, see [`Tree::request`]; and which one, of those that may stand
    /// there one after the other: less than 2^63. Whoever has it open means that one.
    Attribute(u64),
}

/// What a name stands for, as a listing tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// See [`Entry::Directory`].
    Directory,
    /// See [`Entry::Link`].
    Link,
    /// See [`Entry::File`].
    File,
}

/// Names and contents. Paths are relative to the root, which is the empty one; they hold neither
/// `.` nor `..`. Called by several threads at once.
pub trait Tree: Send + Sync + 'static {
    /// What stands at `path` now.
    ///
    /// # Errors
    /// What the caller's call shall fail with, ENOENT where there is nothing.
    fn look(&self, path: &Path) -> Result<Entry, Errno>;

    /// The names in the directory `path`, each once.
    ///
    /// # Errors
    /// As [`Tree::look`].
    fn list(&self, path: &Path) -> Result<Vec<(OsString, Kind)>, Errno>;

    /// A call on the [`Entry::Attribute`] that was at `path` when it was opened. It waits for the reply, which
    /// may be given later and by another thread.
    fn request(&self, path: &Path, which: u64, caller: Caller, operation: Operation, reply: Reply);
}

/// Whose call it is. It waits for the reply, unless it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Thread number in the process namespace of whoever mounted; 0 where it has none there.
    pub tid: u32,
    /// Its user.
    pub uid: u32,
    /// When the request was taken, in nanoseconds since boot. Whoever has the number and began later is
    /// somebody else: this one was killed.
    pub boottime_ns: u64,
}

/// What is to be done with an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Tell all of it.
    Read,
    /// Take these bytes, written at this offset.
    Write {
        /// In bytes.
        offset: u64,
        /// What was written; of more than [`LONGEST_WRITE`] bytes, as many.
        bytes: Vec<u8>,
    },
}

/// The most bytes of a write that anybody gets to see: no attribute's value is as long.
pub const LONGEST_WRITE: usize = 256;

/// The answer to a request. Dropped without one, the call fails with EAGAIN.
pub struct Reply(Option<Awaited>);

enum Awaited {
    Read { reply: ReplyData, offset: u64, size: u32 },
    Write { reply: ReplyWrite, size: u32 },
}

impl Reply {
    /// The value that was read, or that the write is done.
    pub fn done(mut self, value: &[u8]) {
        match self.0.take() {
            Some(Awaited::Read { reply, offset, size }) => reply.data(part(value, offset, size)),
            Some(Awaited::Write { reply, size }) => reply.written(size),
            None => {}
        }
    }

    /// The call fails so.
    pub fn failed(mut self, errno: Errno) {
        self.fail(errno);
    }

    fn fail(&mut self, errno: Errno) {
        match self.0.take() {
            Some(Awaited::Read { reply, .. }) => reply.error(fuser_errno(errno)),
            Some(Awaited::Write { reply, .. }) => reply.error(fuser_errno(errno)),
            None => {}
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.fail(Errno::AGAIN);
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

/// What a read of `size` bytes at `offset` gets of a value.
fn part(value: &[u8], offset: u64, size: u32) -> &[u8] {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(value.len());
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    value.get(from..from.saturating_add(size).min(value.len())).unwrap_or_default()
}

/// A tree that is being served.
#[derive(Debug)]
pub struct Session(fuser::BackgroundSession);

impl Session {
    /// Whether the connection has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.guard.is_finished()
    }

    /// Returns when the connection has ended, see [`crate::fuse::Session::wait`].
    ///
    /// # Errors
    /// Where the connection failed otherwise.
    pub fn wait(self) -> io::Result<()> {
        crate::fuse::wait(self.0)
    }
}

/// Serves `tree` over the connection of [`crate::mount::attach_tree`], with directories of mode
/// 0500, files of mode 0400 and attributes of mode 0600 that belong to whoever calls this. The modes
/// are for show where the kernel does not check them.
///
/// # Errors
/// As [`crate::fuse::serve`].
pub fn serve(connection: OwnedFd, tree: impl Tree) -> io::Result<Session> {
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    config.clone_fd = false;
    config.acl = SessionACL::All;
    let served = ServedTree {
        tree,
        owner: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
        inodes: Mutex::new(Inodes::default()),
        handles: Mutex::new(Handles::default()),
    };
    let session = fuser::Session::from_fd(served, connection, SessionACL::All, config)?;
    Ok(Session(session.spawn()?))
}

/// One for whoever lists, one for whoever reads.
const THREADS: usize = 2;

/// What libfuse says for an inode that nobody has looked up.
const UNKNOWN: u64 = 0xffff_ffff;

/// Everything is asked for anew.
const NOW: Duration = Duration::ZERO;

struct ServedTree<T> {
    tree: T,
    owner: (u32, u32),
    inodes: Mutex<Inodes>,
    handles: Mutex<Handles>,
}

/// The numbers by which the kernel knows paths, as long as it remembers them.
#[derive(Debug, Default)]
struct Inodes {
    paths: HashMap<u64, (PathBuf, u64)>,
    numbers: HashMap<PathBuf, u64>,
    last: u64,
}

impl Inodes {
    fn path(&self, number: u64) -> Option<PathBuf> {
        if number == INodeNo::ROOT.0 {
            return Some(PathBuf::new());
        }
        self.paths.get(&number).map(|(path, _)| path.clone())
    }

    /// The number of `path`, which the kernel is told once more.
    fn number(&mut self, path: PathBuf) -> u64 {
        if let Some(number) = self.numbers.get(&path) {
            if let Some((_, told)) = self.paths.get_mut(number) {
                *told += 1;
            }
            return *number;
        }
        self.last = self.last.max(INodeNo::ROOT.0) + 1;
        self.numbers.insert(path.clone(), self.last);
        self.paths.insert(self.last, (path, 1));
        self.last
    }

    fn forget(&mut self, number: u64, less: u64) {
        let Some((path, told)) = self.paths.get_mut(&number) else { return };
        *told = told.saturating_sub(less);
        if *told == 0 {
            self.numbers.remove(path);
            self.paths.remove(&number);
        }
    }
}

/// Who waits for this.
fn caller(request: &Request) -> Caller {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Neither is negative.
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    let boottime_ns = seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds);
    Caller { tid: request.pid(), uid: request.uid(), boottime_ns }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Tree> ServedTree<T> {
    fn path(&self, inode: INodeNo) -> Result<PathBuf, Errno> {
        lock(&self.inodes).path(inode.0).ok_or(Errno::STALE)
    }

    fn look(&self, inode: INodeNo) -> Result<Entry, Errno> {
        self.tree.look(&self.path(inode)?)
    }

    fn stat(&self, inode: u64, entry: &Entry) -> FileAttr {
        let (kind, perm, length) = match entry {
            Entry::Directory => (FileType::Directory, 0o500, 0),
            Entry::Link(to) => (FileType::Symlink, 0o777, to.as_os_str().len()),
            Entry::File(bytes) => (FileType::RegularFile, 0o400, bytes.len()),
            Entry::Attribute(_) => (FileType::RegularFile, 0o600, 0),
        };
        let size = length as u64;
        let time = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn find(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let path = self.path(parent)?.join(name);
        let entry = self.tree.look(&path)?;
        let number = lock(&self.inodes).number(path);
        Ok(self.stat(number, &entry))
    }

    fn open_file(&self, inode: INodeNo, writes: bool) -> Result<FileHandle, Errno> {
        let path = self.path(inode)?;
        match self.tree.look(&path)? {
            // Who may do what is judged at each call.
            Entry::Attribute(which) => Ok(attribute(which)),
            _ if writes => Err(Errno::ROFS),
            Entry::File(bytes) => Ok(lock(&self.handles).add(Handle::File(bytes))),
            Entry::Directory => Err(Errno::ISDIR),
            Entry::Link(_) => Err(Errno::LOOP),
        }
    }

    fn open_directory(&self, inode: INodeNo) -> Result<FileHandle, Errno> {
        let file_type = |kind| match kind {
            Kind::Directory => FileType::Directory,
            Kind::Link => FileType::Symlink,
            Kind::File => FileType::RegularFile,
        };
        let dots = [".", ".."].map(|dots| (dots.into(), FileType::Directory));
        let names = self.tree.list(&self.path(inode)?)?;
        let names = names.into_iter().map(|(name, kind)| (name, file_type(kind)));
        let names = dots.into_iter().chain(names).collect();
        Ok(lock(&self.handles).add(Handle::Directory(names)))
    }
}

impl<T: Tree> Filesystem for ServedTree<T> {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.find(parent, name) {
            Ok(stat) => reply.entry(&NOW, &stat, Generation(0)),
            Err(errno) => reply.error(fuser_errno(errno)),
        }
    }

    fn forget(&self, _: &Request, inode: INodeNo, lookups: u64) {
        lock(&self.inodes).forget(inode.0, lookups);
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.look(inode) {
            Ok(entry) => reply.attr(&NOW, &self.stat(inode.0, &entry)),
            Err(errno) => reply.error(fuser_errno(errno)),
        }
    }

    fn readlink(&self, _: &Request, inode: INodeNo, reply: ReplyData) {
        match self.look(inode) {
            Ok(Entry::Link(to)) => reply.data(to.as_os_str().as_encoded_bytes()),
            Ok(_) => reply.error(fuser::Errno::EINVAL),
            Err(errno) => reply.error(fuser_errno(errno)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let is_truncated = size == Some(0) && mode.is_none() && uid.is_none() && gid.is_none();
        match self.look(inode) {
            // As with `echo N >`: there is nothing to cut.
            Ok(entry @ Entry::Attribute(_)) if is_truncated => {
                reply.attr(&NOW, &self.stat(inode.0, &entry));
            }
            Ok(Entry::Attribute(_)) => reply.error(fuser::Errno::EPERM),
            Ok(_) => reply.error(fuser::Errno::EROFS),
            Err(errno) => reply.error(fuser_errno(errno)),
        }
    }

    fn write(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Some(which) = which(handle) else { return reply.error(fuser::Errno::EBADF) };
        // Whatever is open is remembered.
        let path = match self.path(inode) {
            Ok(path) => path,
            Err(errno) => return reply.error(fuser_errno(errno)),
        };
        let Ok(size) = u32::try_from(data.len()) else {
            return reply.error(fuser::Errno::EINVAL);
        };
        let bytes = data.get(..LONGEST_WRITE).unwrap_or(data).to_vec();
        let reply = Reply(Some(Awaited::Write { reply, size }));
        let operation = Operation::Write { offset, bytes };
        self.tree.request(&path, which, caller(request), operation, reply);
    }

    // Nothing is made, removed or renamed here, by whomever.

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(fuser::Errno::EPERM);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(fuser::Errno::EPERM);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(fuser::Errno::EPERM);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(fuser::Errno::EPERM);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: fuser::RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(fuser::Errno::EPERM);
    }

    fn open(&self, _: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.open_file(inode, flags.acc_mode() != OpenAccMode::O_RDONLY) {
            // Past the page cache: the length that a stat said may be another's by now.
            Ok(handle) => reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO),
            Err(errno) => reply.error(fuser_errno(errno)),
        }
    }

    fn read(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if let Some(which) = which(handle) {
            return match self.path(inode) {
                Ok(path) => {
                    let reply = Reply(Some(Awaited::Read { reply, offset, size }));
                    self.tree.request(&path, which, caller(request), Operation::Read, reply);
                }
                Err(errno) => reply.error(fuser_errno(errno)),
            };
        }
        match lock(&self.handles).get(handle.0) {
            Ok(Handle::File(bytes)) => reply.data(part(bytes, offset, size)),
            Ok(Handle::Directory(_)) => reply.error(fuser::Errno::EBADF),
            Err(errno) => reply.error(fuser_errno(errno)),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        lock(&self.handles).remove(handle.0);
        reply.ok();
    }

    fn opendir(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.open_directory(inode) {
            Ok(handle) => reply.opened(handle, FopenFlags::empty()),
            Err(errno) => reply.error(fuser_errno(errno)),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut handles = lock(&self.handles);
        let names = match handles.get(handle.0) {
            Ok(Handle::Directory(names)) => names,
            Ok(Handle::File(_)) => return reply.error(fuser::Errno::EBADF),
            Err(errno) => return reply.error(fuser_errno(errno)),
        };
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for (next, (name, kind)) in (1..).zip(names).skip(skip) {
            // The kernel looks a name up before it uses its inode; here it has to be some number.
            let number = if name == "." { inode.0 } else { UNKNOWN };
            if reply.add(INodeNo(number), next, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        lock(&self.handles).remove(handle.0);
        reply.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_lasts_as_long_as_the_kernel_remembers_it() {
        let mut inodes = Inodes::default();
        let (a, b) = (inodes.number("a".into()), inodes.number("b".into()));
        assert!(a != b && a > 1 && b > 1);
        assert_eq!(inodes.number("a".into()), a);
        inodes.forget(a, 1);
        assert_eq!(inodes.path(a), Some("a".into()));
        inodes.forget(a, 1);
        assert_eq!((inodes.path(a), inodes.path(b)), (None, Some("b".into())));
        inodes.forget(a, u64::MAX);
        assert!(inodes.number("a".into()) > b, "a number is not given again");
        assert_eq!(inodes.path(1), Some(PathBuf::new()));
    }
}
