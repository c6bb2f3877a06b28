//! Labels that stay and are inherited while no process of ours runs: the maps and the program that
//! inherits have names in a folder of bpffs.
//!
//! ```text
//!  /sys/fs/bpf/veritrail/{labels, aborted, unstored, unstored_ever}    the maps
//!                        inherit                                       the link: it runs
//!                        NAME-new                                      a name that is about to be NAME
//! ```
//!
//! A new program runs before the old one ends, so that no fork falls between: one that both see gets
//! its label once.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use libbpf_rs::{Link, MapCore, MapHandle, MapType, Object};

use super::labels::{self, Labels};

/// The maps that are pinned, with their form: type, bytes of keys and values, entries.
const MAPS: [(&str, MapType, [u32; 3]); 4] = [
    ("labels", MapType::TaskStorage, [4, 24, 0]),
    ("aborted", MapType::LruHash, [8, 8, 4096]),
    ("unstored", MapType::LruHash, [4, 32, 4096]),
    ("unstored_ever", MapType::Array, [4, 8, 1]),
];
const LINK: &str = "inherit";

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPFFS: u64 = 0xcafe_4a11;

/// What became of the pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pins {
    /// Nobody asked for them, or there are no labels.
    Off,
    /// There were none: no task had a label.
    New,
    /// Tasks have the labels that they had.
    Adopted,
    /// There were some of another form, or some were missing: labels set before are gone.
    Replaced(String),
    /// There are none, and why: labels end with these programs.
    Missing(String),
}

/// The folder, and what was in it.
pub(super) struct Folder {
    path: PathBuf,
    maps: Vec<MapHandle>,
    found: Pins,
}

impl Folder {
    /// Makes or opens it. Takes the right to write in bpffs, and CAP_BPF for the maps.
    ///
    /// # Errors
    /// Why there can be no pins.
    pub(super) fn open(path: &Path) -> Result<Folder, String> {
        let cannot = |error: io::Error| format!("{}: {error}", path.display());
        let parent = path.parent().unwrap_or(path);
        if !is_bpffs(parent).map_err(cannot)? {
            return Err(format!("{} is no bpffs", parent.display()));
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(cannot(error));
            }
            _ => {}
        }
        let meta = fs::symlink_metadata(path).map_err(cannot)?;
        // Whoever may write there says what labels are.
        if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(format!("{} is not our own folder", path.display()));
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(cannot)?;
        // Of one that was killed before it was done. A link there was running a second time.
        for name in names() {
            remove(&path.join(new(name))).map_err(cannot)?;
        }
        let (maps, found) = match adopt(path) {
            Ok(maps) if maps.is_empty() => (maps, Pins::New),
            Ok(maps) => (maps, Pins::Adopted),
            Err(why) => (Vec::new(), Pins::Replaced(why)),
        };
        Ok(Folder { path: path.to_owned(), maps, found })
    }

    /// The maps to be used again; none where new ones are to be made.
    pub(super) fn take_maps(&mut self) -> Vec<MapHandle> {
        std::mem::take(&mut self.maps)
    }

    /// Gives names to the maps of the object and to the link, in the place of those that had them.
    ///
    /// # Errors
    /// Why there are no pins. Those from before may still be there, and are given up.
    pub(super) fn pin(self, object: &Object, link: &mut Link) -> Result<Pins, String> {
        let pinned = self.try_pin(object, link);
        // What is there now would have labels inherited that nobody reads.
        pinned.inspect_err(|_| drop(unpin(&self.path)))?;
        Ok(self.found)
    }

    fn try_pin(&self, object: &Object, link: &mut Link) -> Result<(), String> {
        let put = |name: &str| {
            fs::rename(self.path.join(new(name)), self.path.join(name))
                .map_err(|error| format!("cannot pin {name}: {error}"))
        };
        let cannot = |name: &str, error: libbpf_rs::Error| format!("cannot pin {name}: {error}");
        if self.found != Pins::Adopted {
            for (name, ..) in MAPS {
                let map = object.maps().find(|map| map.name() == name);
                let map = map.ok_or_else(|| format!("there is no map {name}"))?;
                let pin = |mut map: MapHandle| map.pin(self.path.join(new(name)));
                MapHandle::try_from(&map).and_then(pin).map_err(|error| cannot(name, error))?;
                put(name)?;
            }
        }
        // Over the one before, which ends by that.
        link.pin(self.path.join(new(LINK))).map_err(|error| cannot(LINK, error))?;
        put(LINK)
    }
}

/// Whether a bpffs is mounted there, or this is a folder in one.
///
/// # Errors
/// Where it is not there.
pub fn is_bpffs(path: &Path) -> io::Result<bool> {
    let file_system = rustix::fs::statfs(path)?;
    Ok(u64::try_from(file_system.f_type) == Ok(BPFFS))
}

/// The labels that are pinned there, for whoever asks and loads nothing: those of the programs that run, or that ran
/// last. None where there are none.
///
/// # Errors
/// Where they are not root's or our own, or of another form.
pub fn pinned(path: &Path) -> io::Result<Option<Labels>> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        meta => meta?,
    };
    // Whoever may write there says what labels are.
    let owners = [0, rustix::process::geteuid().as_raw()];
    if !meta.is_dir() || !owners.contains(&meta.uid()) || meta.mode() & 0o022 != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    if !is_bpffs(path)? || !path.join(LINK).exists() {
        return Ok(None);
    }
    let open = |(name, ..): (&str, u64, u64)| {
        let map = MapHandle::from_pinned_path(path.join(name)).map_err(io::Error::other)?;
        map.as_fd().try_clone_to_owned()
    };
    let [labels, aborted, unstored] = labels::MAPS.map(open);
    Labels::new([labels?, aborted?, unstored?]).map(Some)
}

/// Whether this map is one of those that are pinned.
pub(super) fn is_of_labels(name: &OsStr) -> bool {
    MAPS.iter().any(|(one, ..)| name == *one)
}

fn names() -> impl Iterator<Item = &'static str> {
    MAPS.into_iter().map(|(name, ..)| name).chain([LINK])
}

fn new(name: &str) -> String {
    format!("{name}-new")
}

/// The maps that are pinned there, all of them or none; or why they cannot be used.
fn adopt(path: &Path) -> Result<Vec<MapHandle>, String> {
    let mut found = Vec::new();
    for (name, kind, form) in MAPS {
        let path = path.join(name);
        if !path.exists() {
            continue;
        }
        let map = MapHandle::from_pinned_path(&path).map_err(|error| format!("{name}: {error}"))?;
        let info = map.info().map_err(|error| format!("{name}: {error}"))?.info;
        // BPF_F_NO_PREALLOC, which storage has to have.
        let flags = u32::from(kind == MapType::TaskStorage);
        let has = [info.key_size, info.value_size, info.max_entries];
        if map.map_type() != kind || has != form || info.map_flags != flags {
            return Err(format!("{name} was of another form"));
        }
        found.push(map);
    }
    if found.is_empty() || found.len() == MAPS.len() {
        Ok(found)
    } else {
        Err("some were missing".into())
    }
}

/// Takes the pins away: labels are inherited no more, unless a process has the programs loaded. True
/// where there were some.
///
/// # Errors
/// What the file system answered.
pub fn unpin(path: &Path) -> io::Result<bool> {
    let mut had = false;
    // First what runs.
    for name in names().collect::<Vec<_>>().into_iter().rev() {
        had |= remove(&path.join(name))?;
        had |= remove(&path.join(new(name)))?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(had),
        answer => answer.map(|()| had),
    }
}

/// True where it was there.
fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
