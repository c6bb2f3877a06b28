//! What stands below `devices` in the agent's mount: `NAME`, a link to the device, and `NAME.status`,
//! what is known of it as one JSON object. doorkeeper/tree.rs has the rest of the mount.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use host::fuse::Errno;
use host::fuse_tree::{Entry, Kind};

use super::doorkeeper::wire::Entries;

const STATUS: &[u8] = b".status";

/// One device, as the tree shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Its name, any bytes.
    pub(super) name: Vec<u8>,
    /// Where it is.
    pub(super) path: PathBuf,
    /// What its status file says.
    pub(super) status: String,
}

/// What the tree shows of these devices. Of two with one name the first keeps it.
pub(super) fn entries(devices: Vec<Shown>) -> Entries {
    let mut names = Entries::new();
    for Shown { name, path, status } in devices {
        let name = escape(&name);
        let mut status_name = name.clone();
        status_name.extend_from_slice(STATUS);
        let mut text = status.into_bytes();
        text.push(b'\n');
        names.entry(OsString::from_vec(name)).or_insert(Entry::Link(path));
        names.entry(OsString::from_vec(status_name)).or_insert(Entry::File(text));
    }
    names
}

/// What the tree shows now. Cheap to hand out, and replaced as a whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(Arc<Mutex<Arc<Entries>>>);

impl Names {
    /// From now on this is there.
    pub(super) fn replace(&self, entries: Entries) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(entries);
    }

    fn now(&self) -> Arc<Entries> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What stands at `name` below `devices`.
    pub(super) fn look(&self, name: &OsStr) -> Result<Entry, Errno> {
        self.now().get(name).cloned().ok_or(Errno::NOENT)
    }

    /// What stands below `devices`.
    pub(super) fn list(&self) -> Vec<(OsString, Kind)> {
        let kind = |entry: &Entry| match entry {
            Entry::Directory => Kind::Directory,
            Entry::Link(_) => Kind::Link,
            Entry::File(_) | Entry::Attribute(_) => Kind::File,
        };
        self.now().iter().map(|(name, entry)| (name.clone(), kind(entry))).collect()
    }
}

/// A device's name as a file name, in the way of libdevmapper and udev: what is not a letter, a digit
/// or one of `#+-.:=@_` becomes `\xNN`. So does a dot in front, and that of a `.status` at the end: it
/// would be another device's file.
pub(super) fn escape(name: &[u8]) -> Vec<u8> {
    let status = name.ends_with(STATUS).then(|| name.len() - STATUS.len());
    let mut escaped = Vec::with_capacity(name.len());
    for (at, byte) in name.iter().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(byte);
        if plain && !(*byte == b'.' && (at == 0 || Some(at) == status)) {
            escaped.push(*byte);
        } else {
            escaped.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_file_name_whatever_is_in_it() {
        for (name, file) in [
            (&b"usr-1.2"[..], "usr-1.2"),
            (b"a b\n\xff\\", "a\\x20b\\x0a\\xff\\x5c"),
            (b"..", "\\x2e."),
            (b"a.status", "a\\x2estatus"),
            (b"a/b", "a\\x2fb"),
            (b"", ""),
        ] {
            assert_eq!(escape(name), file.as_bytes());
        }
    }

    proptest::proptest! {
        #[test]
        fn two_names_never_meet(a: Vec<u8>, b: Vec<u8>) {
            let status = [&escape(&b)[..], STATUS].concat();
            assert_ne!(escape(&a), status);
            assert_eq!(a == b, escape(&a) == escape(&b));
        }
    }

    #[test]
    fn devices_and_their_status_are_shown() {
        let names = Names::default();
        let shown = |name: &[u8], path: &str| Shown {
            name: name.into(),
            path: path.into(),
            status: "{}".into(),
        };
        names.replace(entries(vec![
            shown(b"b c", "/dev/mapper/b\\x20c"),
            shown(b"a", "/x"),
            shown(b"a", "/y"),
        ]));
        let list = || names.list().into_iter().map(|(name, _)| name.into_string().unwrap());
        let devices = ["a", "a.status", "b\\x20c", "b\\x20c.status"].map(String::from);
        assert_eq!(list().collect::<Vec<_>>(), devices);
        let look = |name: &str| names.look(OsStr::new(name));
        assert_eq!(look("a"), Ok(Entry::Link("/x".into())));
        assert_eq!(look("a.status"), Ok(Entry::File(b"{}\n".to_vec())));
        assert_eq!(look("c"), Err(Errno::NOENT));
        names.replace(Entries::new());
        assert_eq!(list().count(), 0);
    }
}
