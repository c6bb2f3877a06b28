//! Where the states of checks lie, and who may check a device.
//!
//! ```text
//! /var/lib/veritrail/scrub/          for the owner only
//! ├── served-%2Frun%2F…%2Froot.json  the state (engine::scrub::State)
//! ├── served-%2Frun%2F…%2Froot.lock  held by whoever checks the device
//! └── served-%2Frun%2F…%2Froot.stop  there: whoever checks it is to stop
//! ```

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::scrub::{State, StateError};
use rustix::fs::{FlockOperation, OFlags, flock};

use crate::outcome::{Failure, Kind};

/// The file name of a device, without its ending: unlike for unlike devices.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(String);

impl Key {
    /// File names have 255 bytes, endings and the word in front included.
    const LONGEST: usize = 200;

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Of the device file of a served device.
    pub(crate) fn served(path: &str) -> Key {
        Key::new("served", path.as_bytes())
    }

    /// Of a device of the kernel's device mapper.
    pub(crate) fn kernel(name: &[u8]) -> Key {
        Key::new("kernel", name)
    }

    /// Of what `kind` calls `name`.
    pub(crate) fn new(kind: &str, name: &[u8]) -> Key {
        let mut text = format!("{kind}-");
        for byte in name {
            if byte.is_ascii_alphanumeric() || b"+-.:=@_".contains(byte) {
                text.push(char::from(*byte));
            } else {
                let _ = write!(text, "%{byte:02X}");
            }
        }
        if text.len() > Key::LONGEST {
            let hasher =
                lanes::BlockHasher::new(lanes::Algorithm::Sha256, &[], lanes::SaltPosition::Before);
            let mut digest = [0; 32];
            hasher.hash_one(text.as_bytes(), &mut digest);
            // '#' is in no other name.
            text.truncate(Key::LONGEST - 65);
            text.push('#');
            for byte in digest {
                let _ = write!(text, "{byte:02x}");
            }
        }
        Key(text)
    }
}

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Store(PathBuf);

/// What is known of a device.
#[derive(Debug)]
pub(crate) enum Known {
    /// Nothing.
    Nothing,
    /// This.
    State(Box<State>),
    /// There is a file, and it cannot be used.
    Unusable(StateError),
}

impl Store {
    /// The folder given; else /var/lib/veritrail/scrub for root, and for others one below
    /// $XDG_STATE_HOME.
    pub(crate) fn locate(given: Option<&Path>) -> Result<Store, Failure> {
        if let Some(dir) = given {
            return Ok(Store(std::path::absolute(dir)?));
        }
        let base = crate::config::default_state();
        let base = base.map_err(|failure| failure.hint("name a folder: --state-dir DIR"))?;
        Ok(Store(base.join("scrub")))
    }

    fn file(&self, key: &Key, ending: &str) -> PathBuf {
        self.0.join(format!("{}.{ending}", key.0))
    }

    /// The devices of which something is known.
    pub(crate) fn keys(&self) -> Result<Vec<Key>, Failure> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| cannot("list", &self.0, error))?,
        };
        let key = |entry: io::Result<fs::DirEntry>| {
            Some(Key(entry.ok()?.file_name().to_str()?.strip_suffix(".json")?.to_owned()))
        };
        let mut keys: Vec<Key> = entries.filter_map(key).collect();
        keys.sort();
        Ok(keys)
    }

    /// Reads what is known of a device.
    pub(crate) fn read(&self, key: &Key) -> Result<Known, Failure> {
        let path = self.file(key, "json");
        let file = match OpenOptions::new().read(true).custom_flags(nofollow()).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Known::Nothing),
            file => file.map_err(|error| cannot("open", &path, error))?,
        };
        let mut text = Vec::new();
        file.take(State::LONGEST as u64 + 1)
            .read_to_end(&mut text)
            .map_err(|error| cannot("read", &path, error))?;
        Ok(match State::read(&text) {
            Ok(state) => Known::State(Box::new(state)),
            Err(error) => Known::Unusable(error),
        })
    }

    /// Whether somebody checks the device now.
    pub(crate) fn is_running(&self, key: &Key) -> bool {
        let lock =
            OpenOptions::new().read(true).custom_flags(nofollow()).open(self.file(key, "lock"));
        lock.is_ok_and(|lock| {
            flock(&lock, FlockOperation::NonBlockingLockShared)
                == Err(rustix::io::Errno::WOULDBLOCK)
        })
    }

    /// Takes the right to check a device; none where somebody else has it.
    pub(crate) fn lock(&self, key: &Key) -> Result<Option<Lock>, Failure> {
        /// Whoever only looks holds it for a moment.
        const PATIENCE: Duration = Duration::from_millis(500);
        self.make()?;
        let path = self.file(key, "lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nofollow())
            .open(&path)
            .map_err(|error| cannot("make", &path, error))?;
        let end = Instant::now() + PATIENCE;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(cannot("lock", &path, error.into())),
            }
        }
        let lock = Lock {
            state: self.file(key, "json"),
            next: self.file(key, "json.new"),
            stop: self.file(key, "stop"),
            folder: File::open(&self.0).map_err(|error| cannot("open", &self.0, error))?,
            _file: file,
        };
        // For somebody who is gone.
        lock.forget_stop();
        Ok(Some(lock))
    }

    /// Tells whoever checks the device to stop.
    pub(crate) fn ask_to_stop(&self, key: &Key) -> Result<(), Failure> {
        let path = self.file(key, "stop");
        let made = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nofollow())
            .open(&path);
        made.map(drop).map_err(|error| cannot("make", &path, error))
    }

    /// Makes the folder, and refuses one that somebody else could change.
    fn make(&self) -> Result<(), Failure> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(|error| cannot("make", &self.0, error).hint("--state-dir names another"))?;
        let found = fs::metadata(&self.0).map_err(|error| cannot("look at", &self.0, error))?;
        let me = rustix::process::geteuid().as_raw();
        if found.is_dir() && [me, 0].contains(&found.uid()) && found.mode() & 0o022 == 0 {
            return Ok(());
        }
        let what = format!("{} is not a folder that only you can change", self.0.display());
        Err(Failure::new(Kind::Environment, what)
            .hint("take the rights of others away (chmod go-w), or name another: --state-dir"))
    }
}

/// The right to check a device, as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    state: PathBuf,
    next: PathBuf,
    stop: PathBuf,
    folder: File,
    _file: File,
}

impl Lock {
    /// Returns when the state is durable.
    pub(crate) fn write(&self, state: &State) -> Result<(), Failure> {
        let failed = |error| cannot("write", &self.state, error);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(nofollow())
            .open(&self.next)
            .map_err(failed)?;
        file.write_all(&state.to_text()).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&self.next, &self.state).and_then(|()| self.folder.sync_all()).map_err(failed)
    }

    /// Whether somebody wants this check to stop.
    pub(crate) fn is_told_to_stop(&self) -> bool {
        self.stop.exists()
    }

    fn forget_stop(&self) {
        // Mostly there is none.
        let _ = fs::remove_file(&self.stop);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.forget_stop();
    }
}

fn cannot(what: &str, path: &Path, error: io::Error) -> Failure {
    Failure::new(Kind::Io, format!("cannot {what} {}", path.display())).because(error)
}

/// Neither to another place nor, at a FIFO, for ever.
fn nofollow() -> i32 {
    i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlike_devices_have_unlike_names() {
        let long = |end: u8| [&[b'/'; 300][..], &[end]].concat();
        let keys = [
            Key::new("served", b"/a"),
            Key::new("served", b"%2Fa"),
            Key::new("kernel", b"/a"),
            Key::new("kernel", b"\xff\n"),
            Key::new("image", &long(b'a')),
            Key::new("image", &long(b'b')),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(key.0.len() <= Key::LONGEST && !key.0.contains('/'), "{key:?}");
            assert!(!keys[..at].contains(key), "{key:?}");
        }
    }

    #[test]
    fn one_at_a_time_and_whoever_looks_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::locate(Some(&folder.path().join("s"))).unwrap();
        let key = Key::new("image", b"/a");
        assert!(!store.is_running(&key));
        store.make().unwrap();
        store.ask_to_stop(&key).unwrap();
        let lock = store.lock(&key).unwrap().unwrap();
        assert!(!lock.is_told_to_stop(), "that was for another one");
        assert!(store.is_running(&key) && store.lock(&key).unwrap().is_none());
        store.ask_to_stop(&key).unwrap();
        assert!(lock.is_told_to_stop());
        drop(lock);
        assert!(!store.is_running(&key) && store.lock(&key).unwrap().is_some());
        assert!(matches!(store.read(&key).unwrap(), Known::Nothing));
    }
}
