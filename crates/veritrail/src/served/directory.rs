//! Where served devices appear, and who may use a name.
//!
//! ```text
//! /run/veritrail/devices/
//! ├── root                  the device file: a FUSE mount point
//! └── .root/                for the owner only
//!     ├── lock              held by the keeper as long as it lives
//!     ├── control           its socket
//!     └── status.json       what was opened, and how it ended if it did not end well
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};

use super::control::{self, Answer, Question, State, Status};
use crate::json_line::LONGEST;
use crate::outcome::{Failure, Kind};
use crate::run_dir::{self, cannot, near, nofollow, only_ours};

const STATUS: &str = "status.json";
const NEXT_STATUS: &str = "status.json.new";

/// The name of a served device: a file name that needs no escaping anywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(String);

impl Name {
    /// As long as the kernel's device mapper lets a name be, `DM_NAME_LEN` without its NUL.
    const LONGEST: usize = 127;

    /// Letters, digits and `#+-.:=@_`, which is what udev leaves unescaped; no dot in front.
    pub(crate) fn parse(text: &str) -> Result<Name, String> {
        let known = |b: u8| b.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&b);
        if text.is_empty() || text.len() > Self::LONGEST {
            Err(format!("a name has 1 to {} characters", Self::LONGEST))
        } else if text.starts_with('.') {
            Err("a name does not begin with a dot".into())
        } else if let Some(bad) = text.chars().find(|c| !u8::try_from(*c).is_ok_and(known)) {
            Err(format!("{bad:?} cannot stand in a name; letters, digits and #+-.:=@_ can"))
        } else {
            Ok(Name(text.to_owned()))
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The directory of all served devices of this user.
#[derive(Clone, Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// `devices` below the directory given; else below /run/veritrail for root, and for others
    /// below $XDG_RUNTIME_DIR/veritrail or, without one, /tmp/veritrail-UID.
    pub(crate) fn locate(given: Option<&Path>) -> Result<Directory, Failure> {
        let directory = Directory(run_dir::locate(given)?.join("devices"));
        // What stands in it is believed and acted upon, by `status` and `close` too.
        directory.levels().into_iter().try_for_each(only_ours)?;
        Ok(directory)
    }

    /// Where device files are.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Those directories that somebody else could put into our way, the outermost first.
    fn levels(&self) -> [&Path; 2] {
        [self.0.parent().unwrap_or(&self.0), &self.0]
    }

    /// Where the device file of `name` is or would be.
    pub(crate) fn device(&self, name: &Name) -> PathBuf {
        self.0.join(name.as_str())
    }

    fn state(&self, name: &Name) -> PathBuf {
        self.0.join(format!(".{}", name.as_str()))
    }

    /// The names that somebody has used and not given back, in order.
    pub(crate) fn names(&self) -> Result<Vec<Name>, Failure> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| cannot("list", &self.0, error))?,
        };
        let name = |entry: io::Result<fs::DirEntry>| {
            let name = entry.ok()?.file_name();
            Name::parse(name.to_str()?.strip_prefix('.')?).ok()
        };
        let mut names: Vec<Name> = entries.filter_map(name).collect();
        names.sort();
        Ok(names)
    }

    /// Takes a name, or says why it cannot be had. That of a keeper on its way out is waited for.
    pub(crate) fn claim(&self, name: &Name) -> Result<Claim, Failure> {
        self.make()?;
        let end = Instant::now() + control::ENDING;
        let claim = loop {
            if let Some(claim) = self.lock(name)? {
                break claim;
            }
            let ending = match control::ask(self, name, Question::Status) {
                Ok(Some(Answer::Status(status))) => status.facts.state == State::Dead,
                // It answers no more; or not yet, and then it soon will.
                Ok(None) => true,
                _ => false,
            };
            if !ending || Instant::now() >= end {
                return Err(taken(name));
            }
            std::thread::sleep(control::LOOK);
        };
        claim.clear()?;
        Ok(claim)
    }

    /// Whether somebody has the name, or has left something of it.
    pub(crate) fn is_taken(&self, name: &Name) -> bool {
        self.state(name).exists()
    }

    /// Takes the name of a device whose keeper is gone, with what it left; none if it is alive.
    pub(crate) fn claim_dead(&self, name: &Name) -> Result<Option<Claim>, Failure> {
        if !self.is_taken(name) {
            return Ok(None);
        }
        self.lock(name)
    }

    /// The lock of a name, unless somebody else has it.
    fn lock(&self, name: &Name) -> Result<Option<Claim>, Failure> {
        let state = self.state(name);
        let failed = |error| cannot("make", &state, error);
        loop {
            match DirBuilder::new().mode(0o700).create(&state) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(error));
                }
                _ => {}
            }
            let path = state.join("lock");
            let opened = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(nofollow())
                .open(&path);
            let lock = match opened {
                // Whoever had the name has just given it back; or else it is a link to nowhere.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !state.is_symlink() => {
                    continue;
                }
                lock => lock.map_err(failed)?,
            };
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(failed(error.into())),
            }
            // The lock is worth something only if it is the one that others will find.
            let same = fs::metadata(&path)
                .and_then(|found| Ok(found.ino() == lock.metadata()?.ino()))
                .unwrap_or(false);
            if same {
                let device = self.device(name);
                return Ok(Some(Claim { device, state, _lock: lock, done: false }));
            }
        }
    }

    /// Makes the directory, and refuses one that somebody else could play with.
    fn make(&self) -> Result<(), Failure> {
        self.levels().into_iter().try_for_each(|dir| run_dir::make(dir, 0o755))
    }

    /// Connects to the keeper of `name`; none if there is none.
    pub(crate) fn connect(&self, name: &Name) -> io::Result<Option<UnixStream>> {
        let connected = near(&self.state(name), |dir| UnixStream::connect(dir.join("control")));
        match connected {
            Ok(stream) => Ok(Some(stream)),
            Err(error)
                if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused]
                    .contains(&error.kind()) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What the last keeper of `name` has left.
    pub(crate) fn left(&self, name: &Name) -> Option<Status> {
        let path = self.state(name).join(STATUS);
        let file = OpenOptions::new().read(true).custom_flags(nofollow()).open(path);
        let mut text = Vec::new();
        file.ok()?.take(LONGEST).read_to_end(&mut text).ok()?;
        Status::parse(&text)
    }
}

fn taken(name: &Name) -> Failure {
    let name = name.as_str();
    Failure::new(Kind::Usage, format!("Device {name} already exists."))
        .because(io::Error::new(io::ErrorKind::AlreadyExists, "a server has this name"))
        .hint(format!("`veritrail verity close {name}` ends it"))
}

/// The right to a name, as long as this process lives. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Claim {
    device: PathBuf,
    state: PathBuf,
    _lock: File,
    /// Whether everything was removed, or is to stay.
    done: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.done {
            // Whoever wants to know calls `give_back`.
            let _ = self.remove();
        }
    }
}

impl Claim {
    /// The device file.
    pub(crate) fn device(&self) -> &Path {
        &self.device
    }

    /// The run directory that it is in.
    pub(crate) fn run_dir(&self) -> &Path {
        let above = self.device.parent().and_then(Path::parent);
        above.unwrap_or(&self.device)
    }

    /// Removes what a keeper that was killed has left: its mount, its socket.
    fn clear(&self) -> Result<(), Failure> {
        match host::mount::detach(&self.device, host::mount::Detach::Lazy) {
            Ok(()) | Err(host::mount::MountError::NotMounted(_)) => {}
            Err(error) => {
                let what = format!("cannot clear {}", self.device.display());
                return Err(Failure::new(Kind::Io, what).because(error));
            }
        }
        for path in [self.state.join("control"), self.device.clone()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(cannot("remove", &path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the file to mount upon. Nobody may read it (fusermount3 wants it writable): where the mount is missing, a reader
    /// must not take an empty file for the device.
    pub(crate) fn make_mount_point(&self) -> Result<(), Failure> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o200)
            .open(&self.device)
            .map(drop)
            .map_err(|error| cannot("make", &self.device, error))
    }

    /// The socket at which the keeper is asked.
    pub(crate) fn listen(&self) -> Result<UnixListener, Failure> {
        near(&self.state, |dir| UnixListener::bind(dir.join("control")))
            .map_err(|error| cannot("listen in", &self.state, error))
    }

    /// Notes what is known, for whoever asks when the keeper is gone.
    pub(crate) fn note(&self, status: &Status) -> io::Result<()> {
        let (path, next) = (self.state.join(STATUS), self.state.join(NEXT_STATUS));
        fs::write(&next, serde_json::to_vec(status)?)?;
        fs::rename(next, path)
    }

    /// Gives the name back, with everything that was made for it.
    pub(crate) fn give_back(mut self) -> Result<(), Failure> {
        self.done = true;
        self.remove()
    }

    /// Leaves a dead mount and what is known of it, for readers to fail and `status` to tell.
    pub(crate) fn leave(mut self) {
        self.done = true;
    }

    fn remove(&self) -> Result<(), Failure> {
        self.clear()?;
        for name in [STATUS, NEXT_STATUS, "lock"] {
            // What is left over shows when the directory cannot be removed.
            let _ = fs::remove_file(self.state.join(name));
        }
        fs::remove_dir(&self.state).map_err(|error| cannot("remove", &self.state, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_file_name_that_needs_no_escaping() {
        for good in ["root", "usr-1.2", "a@b:c=d#e+f_", &"x".repeat(127)] {
            assert_eq!(Name::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", ".x", "a/b", "a b", "a\nb", "ä", "a\0", &"x".repeat(128)] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
    }
}
