//! Files and directories that are open.

use std::collections::HashMap;
use std::ffi::OsString;

use fuser::{FileHandle, FileType};

use crate::fuse::Errno;

/// Open files and directories whose contents are held at once, and the bytes of these: whoever opens more, and
/// keeps them open, loses those that were used least lately (ESTALE), and nobody is refused.
const MOST_HANDLES: usize = 1024;
const MOST_BYTES: usize = 16 << 20;

/// What is open, as it was then. Attributes are not among it: inode and handle tell which one is meant, and as many
/// may be open as the kernel lets anybody have.
#[derive(Debug, Default)]
pub(super) struct Handles {
    open: HashMap<u64, Held>,
    bytes: usize,
    last: u64,
    uses: u64,
}

#[derive(Debug)]
struct Held {
    handle: Handle,
    bytes: usize,
    used: u64,
}

#[derive(Debug)]
pub(super) enum Handle {
    File(Vec<u8>),
    Directory(Vec<(OsString, FileType)>),
}

impl Handle {
    /// What it takes, about.
    fn bytes(&self) -> usize {
        match self {
            Handle::File(bytes) => bytes.len(),
            Handle::Directory(names) => {
                let one = |(name, _): &(OsString, FileType)| name.len() + 16;
                names.iter().map(one).sum::<usize>()
                    + names.len() * size_of::<(OsString, FileType)>()
            }
        }
    }
}

/// Handles of attributes have this bit; those of others never get so far.
const ATTRIBUTE: u64 = 1 << 63;

/// The handle of this attribute.
pub(super) fn attribute(which: u64) -> FileHandle {
    FileHandle(which | ATTRIBUTE)
}

/// The attribute that the handle is of, if it is one's.
pub(super) fn which(handle: FileHandle) -> Option<u64> {
    (handle.0 & ATTRIBUTE != 0).then_some(handle.0 & !ATTRIBUTE)
}

impl Handles {
    pub(super) fn add(&mut self, handle: Handle) -> FileHandle {
        let bytes = handle.bytes();
        while self.open.len() >= MOST_HANDLES || self.bytes + bytes > MOST_BYTES {
            let oldest = self.open.iter().min_by_key(|(_, held)| held.used);
            let Some(oldest) = oldest.map(|(number, _)| *number) else { break };
            self.remove(oldest);
        }
        self.last += 1;
        self.uses += 1;
        self.bytes += bytes;
        self.open.insert(self.last, Held { handle, bytes, used: self.uses });
        FileHandle(self.last)
    }

    pub(super) fn get(&mut self, number: u64) -> Result<&Handle, Errno> {
        self.uses += 1;
        let held = self.open.get_mut(&number).ok_or(Errno::STALE)?;
        held.used = self.uses;
        Ok(&held.handle)
    }

    pub(super) fn remove(&mut self, number: u64) {
        if let Some(held) = self.open.remove(&number) {
            self.bytes = self.bytes.saturating_sub(held.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_says_which_attribute_was_opened() {
        for number in [0, 7, ATTRIBUTE - 1] {
            assert_eq!(which(attribute(number)), Some(number));
        }
        assert_eq!(which(Handles::default().add(Handle::File(Vec::new()))), None);
    }

    #[test]
    fn who_opens_most_loses_what_was_used_least() {
        let mut handles = Handles::default();
        let names =
            |length| Handle::Directory(vec![("a".repeat(length).into(), FileType::RegularFile)]);
        let first = handles.add(names(1));
        let second = handles.add(Handle::File(b"b".to_vec()));
        for _ in 2..MOST_HANDLES {
            handles.add(names(1));
        }
        assert!(matches!(handles.get(first.0), Ok(Handle::Directory(_))));
        handles.add(names(1));
        // The first was used after it.
        assert_eq!(handles.get(second.0).err(), Some(Errno::STALE));
        assert!(handles.get(first.0).is_ok());
        assert_eq!(handles.open.len(), MOST_HANDLES);
        // Long ones take the room of many, and one that is longer than all of it takes all.
        handles.add(names(MOST_BYTES - 4096));
        assert!(handles.bytes <= MOST_BYTES && handles.open.len() < 100);
        let longest = handles.add(names(MOST_BYTES * 2));
        assert_eq!((handles.open.len(), handles.get(longest.0).is_ok()), (1, true));
        handles.remove(longest.0);
        assert_eq!((handles.open.len(), handles.bytes), (0, 0));
    }
}
