//! The agent's place in the run directory.
//!
//! ```text
//! /run/veritrail/
//! ├── fs/                    its tree, by FUSE
//! ├── events.sock            events as they come, for whom the configuration names (events/)
//! └── agent/                 for the owner only
//!     ├── lock               held by the doorkeeper as long as it lives
//!     ├── control            its socket
//!     ├── dispatch           where auditd's plugin brings events (sources/audit/dispatched/)
//!     ├── veritrail.toml     the configuration that is used, while the file itself may be wrong by now
//!     └── state.json         what it leaves for the next one (watermark.rs)
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::config::Config;
use crate::outcome::{Failure, Kind};
use crate::run_dir::{self, cannot, near, nofollow, only_ours};
use crate::served::Directory;

/// Where the agent of a run directory is.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    run_dir: PathBuf,
    path: PathBuf,
}

/// The right to be the agent of this run directory, as long as this process lives.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code, reason = "it is held")] File);

impl Home {
    /// Below the run directory given, or the usual one.
    pub(crate) fn locate(given: Option<&Path>) -> Result<Home, Failure> {
        let run_dir = run_dir::locate(given)?;
        let path = run_dir.join("agent");
        only_ours(&run_dir)?;
        only_ours(&path)?;
        Ok(Home { run_dir, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The devices that are served below the same run directory.
    pub(super) fn served(&self) -> Result<Directory, Failure> {
        Directory::locate(Some(&self.run_dir))
    }

    /// What else stands beside the agent's own directory.
    pub(crate) fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// Where the tree is unless something else is said.
    pub(super) fn tree(&self) -> PathBuf {
        self.run_dir.join("fs")
    }

    /// Where container ids stay while no agent runs.
    pub(super) fn pins(&self) -> Option<PathBuf> {
        run_dir::pins(&self.run_dir)
    }

    /// Makes the directory.
    pub(super) fn make(&self) -> Result<(), Failure> {
        run_dir::make(&self.run_dir, 0o755)?;
        run_dir::make(&self.path, 0o700)
    }

    /// Makes the directory and becomes its agent, unless there is one.
    pub(super) fn claim(&self) -> Result<Lock, Failure> {
        self.make()?;
        let path = self.path.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nofollow())
            .open(&path)
            .map_err(|error| cannot("make", &path, error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let what = format!("there is an agent in {} already", self.run_dir.display());
                return Err(Failure::new(Kind::Usage, what).hint(
                    "`veritrail agent status` asks it; another one needs another --run-dir",
                ));
            }
            Err(error) => return Err(cannot("lock", &path, error.into())),
        }
        Ok(Lock(lock))
    }

    /// Where the configuration is kept that the service uses.
    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("veritrail.toml")
    }

    /// Keeps a configuration for the processes that are started from now on.
    pub(super) fn keep(&self, config: &Config) -> Result<(), Failure> {
        let (next, path) = (self.path.join("veritrail.toml.new"), self.config());
        let kept = fs::write(&next, config.text()).and_then(|()| fs::rename(&next, &path));
        kept.map_err(|error| cannot("write", &path, error))
    }

    /// The socket at which the agent is asked, in the place of one that a killed agent has left.
    pub(super) fn listen(&self) -> Result<UnixListener, Failure> {
        self.clear_socket()?;
        near(&self.path, |dir| UnixListener::bind(dir.join("control")))
            .map_err(|error| cannot("listen in", &self.path, error))
    }

    /// Takes the socket away.
    pub(super) fn clear_socket(&self) -> Result<(), Failure> {
        let path = self.path.join("control");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(cannot("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// Does `work` with a path of the socket that is short enough for an address.
    pub(super) fn near_socket<T>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        match near(&self.path, |dir| work(&dir.join("control"))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            done => done,
        }
    }
}

/// Whether a trail is somebody else's: then its writer takes that user's rights.
pub(super) fn is_foreign(trail: &Path) -> bool {
    fs::metadata(trail).is_ok_and(|found| found.uid() != rustix::process::geteuid().as_raw())
}
