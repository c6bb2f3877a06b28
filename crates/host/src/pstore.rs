//! What a kernel that went down has left: the ends of its log, in `/sys/fs/pstore`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// A file in it. It is read and never removed: systemd-pstore, or the operator, does that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// `dmesg-efi-…`, `console-ramoops-0`; those that end in `.enc.z` could not be decompressed.
    pub name: OsString,
    /// What is in it, [`MOST_BYTES`] at most.
    pub bytes: Vec<u8>,
    /// Whether there is more.
    pub is_cut: bool,
}

/// The most that is read of one file.
pub const MOST_BYTES: u64 = 1 << 20;

/// The most files that are read.
pub const MOST_FILES: usize = 1024;

/// Everything that is kept, in the order of the names; nothing where no store is mounted.
///
/// # Errors
/// Where it cannot be listed. A file that cannot be read, or goes away meanwhile, is left out.
pub fn read() -> io::Result<Vec<Kept>> {
    read_from(Path::new("/sys/fs/pstore"))
}

fn read_from(store: &Path) -> io::Result<Vec<Kept>> {
    let entries = match fs::read_dir(store) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries.take(MOST_FILES) {
        names.push(entry?.file_name());
    }
    names.sort();
    Ok(names.into_iter().filter_map(|name| kept(&store.join(&name), name).ok()).collect())
}

fn kept(path: &Path, name: OsString) -> io::Result<Kept> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    let most = usize::try_from(MOST_BYTES).unwrap_or(usize::MAX);
    let is_cut = bytes.len() > most;
    bytes.truncate(most);
    Ok(Kept { name, bytes, is_cut })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_in_order_and_stays() {
        let store = tempfile::tempdir().unwrap();
        fs::write(store.path().join("dmesg-efi-2"), b"Panic#1 Part2\n").unwrap();
        fs::write(store.path().join("dmesg-efi-1"), b"\xff\0").unwrap();
        fs::write(store.path().join("long"), vec![b'x'; (1 << 20) + 1]).unwrap();
        fs::create_dir(store.path().join("no-file")).unwrap();
        for _ in 0..2 {
            let kept = read_from(store.path()).unwrap();
            let names: Vec<_> = kept.iter().map(|kept| kept.name.to_str().unwrap()).collect();
            assert_eq!(names, ["dmesg-efi-1", "dmesg-efi-2", "long"]);
            assert_eq!(kept[0].bytes, b"\xff\0");
            assert_eq!((kept[2].bytes.len(), kept[2].is_cut), (1 << 20, true));
            assert!(!kept[0].is_cut);
        }
        assert_eq!(read_from(&store.path().join("none")).unwrap(), []);
    }
}
