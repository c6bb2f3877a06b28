//! What outlives the forwarder: how far the server has everything, and how it goes. The agent reads it too.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::outcome::{Failure, Kind};
use crate::run_dir::cannot;

/// The longest state, in bytes.
const LONGEST: u64 = 64 << 10;

/// How it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// The trail that the numbers are of.
    pub(crate) origin: String,
    /// `host:port`.
    pub(crate) server: String,
    /// The process, while it lives.
    pub(crate) pid: u32,
    /// Leaves before this one have been read by the server.
    pub(crate) confirmed: u64,
    /// Leaves before this one have been sent.
    pub(crate) sent: u64,
    /// Leaves that there are.
    pub(crate) end: u64,
    /// Milliseconds since 1970: when the first leaf that is not confirmed happened, where there is one.
    pub(crate) oldest: Option<u64>,
    /// Why nothing can be sent; none where it can.
    pub(crate) failing: Option<String>,
    /// Seconds since 1970: since when that is so.
    pub(crate) since: u64,
    /// Leaves that retention took before they were sent.
    pub(crate) gone: u64,
}

/// The directory of a forwarder that runs.
#[derive(Debug)]
pub(super) struct Desk {
    dir: PathBuf,
    _lock: File,
}

impl Desk {
    /// Makes it and becomes its forwarder.
    pub(super) fn claim(dir: &Path) -> Result<Desk, Failure> {
        let made = DirBuilder::new().recursive(true).mode(0o750).create(dir);
        made.map_err(|error| cannot("make", dir, error))?;
        let path = dir.join("lock");
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o640).open(&path);
        let lock = lock.map_err(|error| cannot("make", &path, error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            let what = format!("there is a forwarder of {} already", dir.display());
            Failure::new(Kind::Usage, what)
        })?;
        Ok(Desk { dir: dir.to_owned(), _lock: lock })
    }

    /// Puts the state in the place of the one before. `durable`: it is there after a crash.
    pub(super) fn keep(&self, state: &State, durable: bool) -> io::Result<()> {
        let (new, path) = (self.dir.join("state.new"), self.dir.join("state.json"));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&new)?;
        serde_json::to_writer(&mut file, state)?;
        file.write_all(b"\n")?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&new, &path)?;
        if durable {
            File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
    }
}

/// What was kept in `dir`; none where nothing was.
pub(crate) fn read(dir: &Path) -> io::Result<Option<State>> {
    let file = match File::open(dir.join("state.json")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}
