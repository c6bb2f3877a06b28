//! One regular file served over a FUSE connection: the root of its file system is the file.
//!
//! Read-only and of a fixed size. The kernel may keep everything it was ever given: contents and
//! attributes do not change while the connection lives.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use fuser::{
    Config, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyOpen,
    ReplyStatfs, Request, SessionACL,
};
pub use rustix::io::Errno;

use crate::mount::MAX_READ;

/// What is in the file.
pub trait Content: Send + Sync + 'static {
    /// Fills all of `buf` with the file's bytes from `offset` on. `buf` never reaches beyond the
    /// file's size, is never empty, and holds the bytes of some earlier request: whoever answers
    /// `Ok` has written all of it.
    ///
    /// Called by several threads at once. A panic is answered to the reader as EIO.
    ///
    /// # Errors
    /// What the reader's call shall fail with. The whole request fails: the kernel asks for larger
    /// pieces than readers do and then again for smaller ones.
    fn read(&self, reader: Reader, offset: u64, buf: &mut [u8]) -> Result<(), Errno>;
}

/// Who waits for a request: the thread whose call needs it.
///
/// Read-ahead is asked for by the reader that causes it; through a loop device every request comes
/// from one of the kernel's own threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// Thread number in the process namespace of whoever mounted; 0 where it has none there.
    pub tid: u32,
    /// File system user number.
    pub uid: u32,
    /// File system group number.
    pub gid: u32,
}

/// What the file looks like.
#[derive(Clone, Copy, Debug)]
pub struct Attributes {
    /// Length in bytes.
    pub size: u64,
    /// Permission bits, checked by the kernel.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Preferred size of reads (`st_blksize`), in bytes.
    pub block_size: u32,
    /// Every read(2) becomes a request of its own: no page cache, no read-ahead, no shared mmap
    /// before Linux 6.6.
    pub direct_io: bool,
    /// Threads that answer; at least one.
    pub threads: usize,
}

/// What kernel and server agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The kernel's protocol version, major and minor.
    pub version: (u32, u32),
    /// Most bytes the kernel reads ahead (see [`crate::mount::set_read_ahead`]).
    pub max_readahead: u32,
    /// Most bytes in one request.
    pub max_read: u32,
}

/// A file that is being served.
#[derive(Debug)]
pub struct Session {
    running: fuser::BackgroundSession,
    agreement: Agreement,
}

impl Session {
    /// What kernel and server agreed on.
    #[must_use]
    pub fn agreement(&self) -> Agreement {
        self.agreement
    }

    /// Returns when the connection has ended, which is when the file system is unmounted and the last
    /// request answered, or when the connection was aborted.
    ///
    /// # Errors
    /// Where the connection failed otherwise.
    pub fn wait(self) -> io::Result<()> {
        wait(self.running)
    }
}

pub(crate) fn wait(running: fuser::BackgroundSession) -> io::Result<()> {
    match running.join() {
        // What a thread that was taking a request just then is told instead of ENODEV.
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(()),
        ended => ended,
    }
}

/// Serves `content` over the connection of [`crate::mount::attach`]. When this returns, the
/// handshake with the kernel is done and requests are being answered.
///
/// Every thread keeps one buffer of at most [`MAX_READ`] bytes.
///
/// # Errors
/// Where the connection is none or was closed, a thread cannot be started, or the kernel's
/// protocol is older than 7.6.
pub fn serve(
    connection: OwnedFd,
    attributes: Attributes,
    content: impl Content,
) -> io::Result<Session> {
    let mut config = Config::default();
    config.n_threads = Some(attributes.threads.max(1));
    // Every clone would need an open of /dev/fuse, which a confined process must not do, and no
    // gain from it could be measured.
    config.clone_fd = false;
    config.acl = SessionACL::All;
    let (sender, agreed) = mpsc::channel();
    let file = ServedFile { attributes, content, agreed: sender };
    let session = fuser::Session::from_fd(file, connection, SessionACL::All, config)?;
    let agreement = agreed.try_recv().map_err(io::Error::other)?;
    Ok(Session { running: session.spawn()?, agreement })
}

/// As long as the kernel can count: nothing ever changes.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

struct ServedFile<C> {
    attributes: Attributes,
    content: C,
    agreed: mpsc::Sender<Agreement>,
}

impl<C: Content> ServedFile<C> {
    fn stat(&self) -> FileAttr {
        let Attributes { size, mode, uid, gid, block_size, .. } = self.attributes;
        let time = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: INodeNo::ROOT,
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: FileType::RegularFile,
            perm: (mode & 0o7777) as u16,
            nlink: 1,
            uid,
            gid,
            rdev: 0,
            blksize: block_size,
            flags: 0,
        }
    }

    /// Reads `len` bytes at `offset` into this thread's buffer and hands them to `answer`.
    fn fill(
        &self,
        reader: Reader,
        offset: u64,
        len: usize,
        answer: impl FnOnce(Result<&[u8], Errno>),
    ) {
        thread_local! {
            /// Grows to the largest request it has seen and is then used again as it is.
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < len {
                buffer.resize(len, 0);
            }
            let buf = &mut buffer[..len];
            // What a panic leaves behind in the content is the content's to guard (it is shared
            // between threads anyway); the buffer is written anew before each use.
            let read = AssertUnwindSafe(|| self.content.read(reader, offset, buf));
            let outcome = catch_unwind(read).unwrap_or(Err(Errno::IO));
            answer(outcome.map(|()| &buffer[..len]));
        });
    }
}

pub(crate) fn fuser_errno(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.raw_os_error())
}

impl<C: Content> Filesystem for ServedFile<C> {
    fn init(&mut self, _request: &Request, kernel: &mut KernelConfig) -> io::Result<()> {
        // The one way to ask fuser for this many pages a request; nothing is ever written.
        let max_read = match kernel.set_max_write(MAX_READ) {
            Ok(_) => MAX_READ,
            Err(nearest) => {
                let _ = kernel.set_max_write(nearest);
                nearest
            }
        };
        // Asking for the largest value gives what the kernel offers.
        let max_readahead = match kernel.set_max_readahead(u32::MAX) {
            Ok(_) => u32::MAX,
            Err(offered) => {
                let _ = kernel.set_max_readahead(offered);
                offered
            }
        };
        for wanted in [InitFlags::FUSE_ASYNC_READ, InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP] {
            // An old kernel that lacks one of them serves the file without it.
            let _ = kernel.add_capabilities(wanted);
        }
        let version = kernel.kernel_abi();
        let agreement = Agreement { version: (version.0, version.1), max_readahead, max_read };
        self.agreed.send(agreement).map_err(io::Error::other)
    }

    fn getattr(&self, _: &Request, _: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.stat());
    }

    fn open(&self, _: &Request, _: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            reply.error(fuser::Errno::EROFS);
        } else if self.attributes.direct_io {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
        } else {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
        }
    }

    fn read(
        &self,
        request: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if size > MAX_READ {
            // Never: the kernel was told. A shorter answer would read as the file's end.
            return reply.error(fuser::Errno::EIO);
        }
        // At the file's end the answer is short, beyond it empty; nowhere else.
        let len = self.attributes.size.saturating_sub(offset).min(u64::from(size));
        let Some(len) = usize::try_from(len).ok().filter(|len| *len > 0) else {
            return reply.data(&[]);
        };
        let reader = Reader { tid: request.pid(), uid: request.uid(), gid: request.gid() };
        self.fill(reader, offset, len, |outcome| match outcome {
            Ok(bytes) => reply.data(bytes),
            Err(errno) => reply.error(fuser_errno(errno)),
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // The kernel then asks no more.
        reply.error(fuser::Errno::ENOSYS);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let unit = self.attributes.block_size.max(512);
        let blocks = self.attributes.size.div_ceil(u64::from(unit));
        reply.statfs(blocks, 0, 0, 1, 0, unit, 0, unit);
    }
}
