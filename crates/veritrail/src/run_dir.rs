//! The directory of what runs: where served devices and the agent have their locks and sockets.
//!
//! What stands in it is believed and acted upon, so it must be nobody else's to change.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::outcome::{Failure, Kind};

/// The directory given; else /run/veritrail for root, and for others $XDG_RUNTIME_DIR/veritrail or,
/// without one, /tmp/veritrail-UID.
pub(crate) fn locate(given: Option<&Path>) -> Result<PathBuf, Failure> {
    match given {
        Some(dir) => std::path::absolute(dir).map_err(|error| cannot("find", dir, error)),
        None => Ok(default_base()),
    }
}

fn default_base() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/run/veritrail");
    }
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        Some(dir) => dir.join("veritrail"),
        None => PathBuf::from(format!("/tmp/veritrail-{}", rustix::process::geteuid().as_raw())),
    }
}

/// Where container ids stay while no agent runs, and are read by those who are not the agent: of the host's one
/// run directory in the host's bpffs, of another one in a bpffs that is mounted in it as `bpf`.
pub(crate) fn pins(run_dir: &Path) -> Option<PathBuf> {
    if run_dir == Path::new("/run/veritrail") {
        return Some("/sys/fs/bpf/veritrail".into());
    }
    let own = run_dir.join("bpf");
    host::bpf::is_bpffs(&own).is_ok_and(|is_one| is_one).then(|| own.join("veritrail"))
}

/// Makes `dir`, and refuses one that somebody else could play with.
pub(crate) fn make(dir: &Path, mode: u32) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(dir);
    made.map_err(|error| cannot("make", dir, error).hint("--run-dir names another"))?;
    only_ours(dir)
}

/// Refuses a directory that somebody else could change; one that is not there is nobody's.
pub(crate) fn only_ours(dir: &Path) -> Result<(), Failure> {
    let found = match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|error| cannot("look at", dir, error))?,
    };
    let me = rustix::process::geteuid().as_raw();
    if found.is_dir() && [me, 0].contains(&found.uid()) && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    let what = format!("{} is not a directory that only you can change", dir.display());
    Err(Failure::new(Kind::Environment, what)
        .hint("take the rights of others away (chmod go-w), or name another: --run-dir"))
}

/// Does `work` with a path of `dir` that is short enough for a socket's address (108 bytes).
pub(crate) fn near<T>(dir: &Path, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    const LONGEST: usize = 107 - "/events.sock".len();
    if dir.as_os_str().len() <= LONGEST {
        return work(dir);
    }
    let held = File::open(dir)?;
    work(&PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd())))
}

/// Neither to another place nor, at a FIFO, for ever.
pub(crate) fn nofollow() -> i32 {
    i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0)
}

pub(crate) fn cannot(what: &str, path: &Path, error: io::Error) -> Failure {
    Failure::new(Kind::Io, format!("cannot {what} {}", path.display())).because(error)
}
