//! A file that only grows, with what is still to be written to it.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::store::{File as _, Mode, Short, Store};

/// Bytes kept back before they are written: enough that a write costs nothing per event.
const HELD: usize = 256 << 10;

/// A file that only grows.
#[derive(Debug)]
pub(crate) struct Growing<F> {
    file: F,
    pub(crate) path: PathBuf,
    /// Bytes in the file.
    written: u64,
    /// What follows them.
    pub(crate) pending: Vec<u8>,
}

impl<F: crate::store::File> Growing<F> {
    pub(crate) fn new(file: F, path: PathBuf) -> Result<Growing<F>, Error> {
        let written = file.len().map_err(Error::io("read", &path))?;
        Ok(Growing { file, path, written, pending: Vec::new() })
    }

    pub(crate) fn create<S: Store<File = F>>(
        store: &S,
        path: PathBuf,
    ) -> Result<Growing<F>, Error> {
        let file = store.create(&path, Mode::Group).map_err(Error::write("create", &path))?;
        Ok(Growing { file, path, written: 0, pending: Vec::new() })
    }

    /// Opens a file that must have `length` bytes; `None` if it has not.
    pub(crate) fn resume<S: Store<File = F>>(
        store: &S,
        path: PathBuf,
        length: u64,
    ) -> Result<Option<Growing<F>>, Error> {
        let file = match store.open_append(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io("open", &path))?,
        };
        let growing = Growing::new(file, path)?;
        Ok((growing.written == length).then_some(growing))
    }

    /// Bytes in it, those not yet written included.
    pub(crate) fn len(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    pub(crate) fn file(&self) -> &F {
        &self.file
    }

    /// Writes if there is much to write.
    pub(crate) fn relieve(&mut self) -> Result<(), Error> {
        if self.pending.len() < HELD { Ok(()) } else { self.flush() }
    }

    /// Writes what is pending. After an error what was not written still is.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        match self.file.append(&self.pending) {
            Ok(()) => {
                self.written += self.pending.len() as u64;
                self.pending.clear();
                Ok(())
            }
            Err(Short { written, source }) => {
                self.written += written as u64;
                self.pending.drain(..written);
                Err(Error::write("write", &self.path)(source))
            }
        }
    }

    /// Writes what is pending and makes everything durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        self.flush()?;
        self.file.sync().map_err(Error::io("sync", &self.path))
    }
}

/// Writes a small file so that there is always either the old or the new one.
pub(crate) fn replace<S: Store>(
    store: &S,
    path: &Path,
    bytes: &[u8],
    mode: Mode,
) -> Result<(), Error> {
    let unfinished = crate::layout::unfinished(path);
    let mut file = store.create(&unfinished, mode).map_err(Error::write("create", &unfinished))?;
    file.append(bytes).map_err(|short| Error::write("write", &unfinished)(short.source))?;
    file.sync().map_err(Error::write("sync", &unfinished))?;
    rename(store, &unfinished, path)
}

/// Gives a file its name for good.
pub(crate) fn rename<S: Store>(store: &S, from: &Path, to: &Path) -> Result<(), Error> {
    store.rename(from, to).map_err(Error::write("rename", from))?;
    let directory = to.parent().unwrap_or(Path::new(""));
    store.sync_dir(directory).map_err(Error::io("sync", directory))
}

/// Reads a small file; `None` if there is none. More than `most` bytes are not read.
pub(crate) fn read<S: Store>(store: &S, path: &Path, most: u64) -> Result<Option<Vec<u8>>, Error> {
    let file = match store.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("open", path))?,
    };
    let length = file.len().map_err(Error::io("read", path))?.min(most);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let n = file.read_at(0, &mut bytes).map_err(Error::io("read", path))?;
    bytes.truncate(n);
    Ok(Some(bytes))
}
