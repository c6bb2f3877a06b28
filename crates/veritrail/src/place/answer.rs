//! The answer: what lies at a stretch of a device.

use std::ops::Range;

use host::block_device::Number;

use super::mounts;

/// All that was found out about a stretch of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Explanation {
    /// What the device is made of, the nearest first.
    pub(crate) below: Vec<Layer>,
    /// The file systems that have those bytes.
    pub(crate) hits: Vec<Hit>,
    /// What could not be found out, in words.
    pub(crate) gaps: Vec<String>,
    /// Files are still being looked for: asked again, later, there is more to tell.
    pub(crate) is_pending: bool,
}

impl Explanation {
    /// Whether the use of every byte is known.
    pub(crate) fn is_certain(&self) -> bool {
        let is_known = |one: &Use| !matches!(one.what, What::Unknown { .. });
        !self.hits.is_empty() && self.hits.iter().all(|hit| hit.uses.iter().all(is_known))
    }
}

/// A device or file of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Its number, if it is a device.
    pub(crate) device: Option<Number>,
    /// Name of the mapped device, the kernel's name of another, path of a file.
    pub(crate) name: Vec<u8>,
    pub(crate) made: Made,
    /// The bytes in question on it, where they can be told.
    pub(crate) bytes: Option<Range<u64>>,
}

/// How a layer comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    Disk,
    Partition,
    Loop,
    Mapped,
    File,
    /// It is not there any more.
    Gone,
}

impl Made {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Made::Disk => "disk",
            Made::Partition => "partition",
            Made::Loop => "loop",
            Made::Mapped => "mapped",
            Made::File => "file",
            Made::Gone => "gone",
        }
    }
}

/// A file system that has the bytes, and what it has them for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// The way from the device asked about to the one that carries it, the latter last.
    pub(crate) stack: Vec<Layer>,
    /// `st_dev` of its files.
    pub(crate) device: Number,
    pub(crate) fs_type: Vec<u8>,
    /// The bytes on it; none where it was asked by an inode.
    pub(crate) bytes: Range<u64>,
    pub(crate) uses: Vec<Use>,
    /// Uses that are not listed.
    pub(crate) more_uses: u64,
    pub(crate) mounts: Vec<Mounted>,
    /// What of it could not be seen.
    pub(crate) notes: Vec<String>,
}

/// What some bytes are used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    /// On the file system.
    pub(crate) bytes: Range<u64>,
    pub(crate) what: What,
}

/// A use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A file's bytes.
    File {
        inode: u64,
        /// In the file system; none where no name was found.
        path: Option<Vec<u8>>,
        /// Where in the file; none where the place does not tell.
        offset: Option<u64>,
        /// How many names it has; 0 where that is not known.
        links: u32,
    },
    /// The file system's own.
    Metadata {
        /// What kind.
        of: String,
        /// Of a certain file or directory.
        inode: Option<u64>,
        path: Option<Vec<u8>>,
    },
    /// Nobody's.
    Free,
    /// Not known.
    Unknown { reason: String },
}

impl What {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            What::File { .. } => "file",
            What::Metadata { .. } => "metadata",
            What::Free => "free",
            What::Unknown { .. } => "unknown",
        }
    }

    /// The path of the file or directory, in the file system.
    pub(crate) fn path(&self) -> Option<&[u8]> {
        match self {
            What::File { path, .. } | What::Metadata { path, .. } => path.as_deref(),
            What::Free | What::Unknown { .. } => None,
        }
    }
}

/// A mount of a file system that was hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    /// Inode number of the mount namespace.
    pub(crate) namespace: u64,
    /// A process that sees it so.
    pub(crate) pid: u32,
    pub(crate) point: Vec<u8>,
    /// What of the file system is mounted.
    pub(crate) root: Vec<u8>,
    /// Whether it is in our own namespace, and `point` a path of ours.
    pub(crate) is_ours: bool,
}

impl Mounted {
    /// The path of one of the file system's files through this mount; `None` where it lies beside
    /// what is mounted.
    pub(crate) fn path_of(&self, file: &[u8]) -> Option<Vec<u8>> {
        mounts::path_through(&self.root, &self.point, file)
    }
}

/// No more uses of one file system in one answer: a block of EROFS may hold many small files. The
/// rest is counted.
const MOST_USES: usize = 256;

impl Hit {
    pub(super) fn limit(&mut self) {
        self.uses.sort_by_key(|one| one.bytes.start);
        let more = self.uses.len().saturating_sub(MOST_USES);
        self.more_uses += u64::try_from(more).unwrap_or(u64::MAX);
        self.uses.truncate(MOST_USES);
    }
}
