//! A disk in memory that loses power, fails to sync and runs full.
//!
//! What a sync covers survives an outage. Of the rest survives anything: of the bytes appended to
//! a file any sectors (the others read as zeros) and any length; of the names of a directory any
//! of the changes, each whole.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use trail::store::{File, Mode, Room, Short, Store};

use crate::kit::Dice;

/// A disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outage(Arc<Mutex<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    files: Vec<Content>,
    directories: BTreeMap<PathBuf, Directory>,
    /// Changes so far.
    changes: usize,
    /// Syncs of files so far, and which of them fails.
    syncs: usize,
    failing_sync: Option<usize>,
    /// Bytes that still fit.
    room: Option<usize>,
    /// What it says about that.
    said: Option<Room>,
    /// Take a picture of the disk at every change.
    filming: bool,
    film: Vec<State>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: usize,
    /// Bytes below this that are not durable never will be: the kernel has forgotten that they
    /// are not on the disk.
    forgotten: usize,
}

#[derive(Clone, Debug, Default)]
struct Directory {
    now: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Link(String, usize),
    Unlink(String),
    Rename(String, String),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Change::Link(name, file) => {
                names.insert(name.clone(), *file);
            }
            Change::Unlink(name) => {
                names.remove(name);
            }
            Change::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }
}

impl Outage {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// From now on every change is filmed.
    pub(crate) fn film(&self) {
        self.state().filming = true;
    }

    /// The pictures: the disk after each change, nothing lost yet.
    pub(crate) fn developed(&self) -> Vec<Outage> {
        let film = std::mem::take(&mut self.state().film);
        film.into_iter().map(|state| Outage(Arc::new(Mutex::new(state)))).collect()
    }

    /// Pictures so far.
    pub(crate) fn pictures(&self) -> usize {
        self.state().film.len()
    }

    /// The `n`th sync of a file from now on fails.
    pub(crate) fn fail_sync(&self, n: usize) {
        let mut state = self.state();
        state.failing_sync = Some(state.syncs + n);
    }

    /// So many bytes fit from now on.
    pub(crate) fn room(&self, bytes: Option<usize>) {
        self.state().room = bytes;
    }

    /// What it says when it is asked for room.
    pub(crate) fn say_room(&self, free: u64, total: u64) {
        self.state().said = Some(Room { free, total });
    }

    /// The disk after an outage: what was not synced is kept as the dice say.
    pub(crate) fn after_outage(&self, dice: &mut Dice) -> Outage {
        let mut state = self.state().clone();
        // Often all or nothing, because that is what happens; else anything.
        let mood = dice.below(6);
        let keeps = |dice: &mut Dice| match mood {
            0 => true,
            1 => false,
            _ => dice.below(3) > 0,
        };
        for file in &mut state.files {
            let sector = [1, 16, 64, 512, 4096][usize::try_from(dice.below(5)).unwrap()];
            let end = match mood {
                0 => file.bytes.len(),
                1 => file.durable,
                _ => {
                    file.durable
                        + usize::try_from(dice.below((file.bytes.len() - file.durable) as u64 + 1))
                            .unwrap()
                }
            };
            file.bytes.truncate(end);
            let mut at = file.durable;
            while at < end {
                let next = ((at / sector + 1) * sector).min(end);
                if at < file.forgotten || !keeps(dice) {
                    file.bytes[at..next].fill(0);
                }
                at = next;
            }
            file.durable = end;
            file.forgotten = 0;
        }
        for directory in state.directories.values_mut() {
            let mut names = directory.durable.clone();
            for change in std::mem::take(&mut directory.changes) {
                if keeps(dice) {
                    change.apply(&mut names);
                } else if mood == 2 {
                    // In order: nothing behind the first that is lost.
                    break;
                }
            }
            directory.now = names.clone();
            directory.durable = names;
        }
        state.filming = false;
        state.failing_sync = None;
        state.room = None;
        Outage(Arc::new(Mutex::new(state)))
    }
}

impl State {
    fn changed(&mut self) {
        self.changes += 1;
        if self.filming {
            let film = std::mem::take(&mut self.film);
            let picture = self.clone();
            self.film = film;
            self.film.push(picture);
        }
    }

    fn directory(&mut self, path: &Path) -> (&mut Directory, String) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let parent = path.parent().unwrap();
        (self.directories.get_mut(parent).expect("a directory that was made"), name)
    }

    fn find(&mut self, path: &Path) -> io::Result<usize> {
        let parent = path.parent().unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let found = self.directories.get(parent).and_then(|directory| directory.now.get(name));
        found.copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Store for Outage {
    type File = Handle;

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.state().directories.entry(path.to_owned()).or_default();
        Ok(())
    }

    fn create(&self, path: &Path, _mode: Mode) -> io::Result<Handle> {
        let mut state = self.state();
        if state.room == Some(0) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = state.files.len();
        state.files.push(Content::default());
        let (directory, name) = state.directory(path);
        if directory.now.contains_key(&name) {
            directory.changes.push(Change::Unlink(name.clone()));
        }
        directory.now.insert(name.clone(), file);
        directory.changes.push(Change::Link(name, file));
        state.changed();
        Ok(Handle { disk: self.clone(), file })
    }

    fn open(&self, path: &Path) -> io::Result<Handle> {
        let file = self.state().find(path)?;
        Ok(Handle { disk: self.clone(), file })
    }

    fn open_append(&self, path: &Path) -> io::Result<Handle> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(from.parent(), to.parent(), "a rename between directories is not atomic");
        let mut state = self.state();
        state.find(from)?;
        let (directory, from) = state.directory(from);
        let change = Change::Rename(from, to.file_name().unwrap().to_str().unwrap().to_owned());
        change.apply(&mut directory.now);
        directory.changes.push(change);
        state.changed();
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let (directory, name) = state.directory(path);
        directory.now.remove(&name);
        directory.changes.push(Change::Unlink(name));
        state.changed();
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let directory = state.directories.get_mut(path).expect("a directory that was made");
        directory.durable = directory.now.clone();
        directory.changes.clear();
        state.changed();
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let directory = state.directories.get(path);
        Ok(directory.map(|directory| directory.now.keys().cloned().collect()).unwrap_or_default())
    }

    fn room(&self) -> io::Result<Room> {
        Ok(self.state().said.unwrap_or(Room { free: u64::MAX, total: u64::MAX }))
    }
}

/// An open file of an [`Outage`].
#[derive(Debug)]
pub(crate) struct Handle {
    disk: Outage,
    file: usize,
}

impl File for Handle {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Short> {
        let mut state = self.disk.state();
        let fits = state.room.unwrap_or(usize::MAX).min(bytes.len());
        if let Some(room) = &mut state.room {
            *room -= fits;
        }
        state.files[self.file].bytes.extend_from_slice(&bytes[..fits]);
        state.changed();
        if fits < bytes.len() {
            return Err(Short { written: fits, source: io::ErrorKind::StorageFull.into() });
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.syncs += 1;
        let failing = state.failing_sync == Some(state.syncs);
        let file = &mut state.files[self.file];
        if failing {
            file.forgotten = file.bytes.len();
            return Err(io::Error::other("the disk does not answer"));
        }
        if file.forgotten <= file.durable {
            file.durable = file.bytes.len();
        }
        state.changed();
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.state();
        let bytes = &state.files[self.file].bytes;
        let from = usize::try_from(offset).unwrap().min(bytes.len());
        let n = buffer.len().min(bytes.len() - from);
        buffer[..n].copy_from_slice(&bytes[from..from + n]);
        Ok(n)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.file].bytes.len() as u64)
    }
}
