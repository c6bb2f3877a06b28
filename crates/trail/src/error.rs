//! Why the trail could not do what was asked. What it found out about a trail is no error but
//! a [`Verdict`](crate::Verdict); here it stands only where a tampered trail stops other work.

use std::io;
use std::path::{Path, PathBuf};

use crate::verify::Tampered;

/// Why the trail could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk did not do what was asked. Exit 6.
    #[error("cannot {what} {path}", path = path.display())]
    Io {
        /// `read`, `write`, `sync` ...
        what: &'static str,
        /// Relative to the trail.
        path: PathBuf,
        /// The operating system's word.
        source: io::Error,
    },
    /// There is no room for more. Nothing of the entry was taken; entries taken before may be
    /// made durable by a later `sync`. Exit 6.
    #[error("no room left to append to {path}; free some and try again", path = path.display())]
    Full {
        /// The segment, relative to the trail.
        path: PathBuf,
    },
    /// A sync failed before, and what the disk holds since is not known. Open the trail anew:
    /// recovery keeps what is whole. Exit 6.
    #[error("the trail's writer has stopped after a failed write; open the trail again")]
    Stopped,
    /// The trail is not what was signed. Exit 4.
    #[error("the trail was tampered with: {0}")]
    Tampered(Tampered),
    /// Something is not in its format. Exit 5.
    #[error("{path} is not usable: {what}", path = path.display())]
    Unusable {
        /// What was read: a file of the trail, or what the caller called it.
        path: PathBuf,
        /// What is wrong with it, and where.
        what: String,
    },
    /// There is no trail in this directory. Exit 5.
    #[error("there is no trail here: no file `id`")]
    NoTrail,
    /// There is a trail already. Exit 2.
    #[error("there is a trail here already: {0}")]
    Exists(String),
    /// A trail is made in a directory of its own, and this one holds something else. Exit 2.
    #[error("no trail is made in a directory that holds other files: {}", name.display())]
    Occupied {
        /// One of them.
        name: PathBuf,
    },
    /// The entry cannot stand in a trail. The caller's mistake.
    #[error("the entry cannot be appended: {0}")]
    Entry(String),
    /// No such leaf. Exit 1.
    #[error("there is no leaf {index}; the signed part of the trail has {size}")]
    NoLeaf {
        /// What was asked for.
        index: u64,
        /// Leaves in the signed part.
        size: u64,
    },
}

impl Error {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { what, path, source }
    }

    /// As [`Error::io`], a full disk told apart.
    pub(crate) fn write(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full { path },
            _ => Error::Io { what, path, source },
        }
    }

    pub(crate) fn unusable(path: impl Into<PathBuf>, what: impl Into<String>) -> Error {
        Error::Unusable { path: path.into(), what: what.into() }
    }
}
