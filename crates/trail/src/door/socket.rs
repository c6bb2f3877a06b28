//! The lock and the socket of a trail directory: who writes, and how the others reach it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::DoorError;
use crate::{Error, layout};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::net::sockopt::socket_peercred;

const LOCK: &str = "lock";
const SOCKET: &str = "trail.sock";

/// Whether a door has a file of this name in the trail's directory.
pub(super) fn is_name(name: &str) -> bool {
    [LOCK, SOCKET].contains(&name)
}

/// `sun_path` holds 108 bytes with the NUL.
const LONGEST_SOCKET_PATH: usize = 107;

/// The right to write to a trail. The kernel takes it back when the process ends, however
/// it ends.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl Lock {
    /// Takes the lock of the trail in `dir`, or returns `None` where another process has it.
    pub(super) fn try_take(dir: &Path) -> io::Result<Option<Lock>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nofollow())
            .open(dir.join(LOCK))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn nofollow() -> i32 {
    i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0)
}

/// The socket's path in a form that fits `sun_path`, and what must stay open while it is
/// used: a directory too deep for it is reached through its descriptor.
struct Address {
    path: PathBuf,
    _dir: Option<OwnedFd>,
}

fn address(dir: &Path) -> io::Result<Address> {
    let path = dir.join(SOCKET);
    if path.as_os_str().as_bytes().len() <= LONGEST_SOCKET_PATH {
        return Ok(Address { path, _dir: None });
    }
    let fd =
        rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = Path::new("/proc/self/fd").join(fd.as_raw_fd().to_string()).join(SOCKET);
    Ok(Address { path, _dir: Some(fd) })
}

/// Listens in `dir`. Only the holder of the [`Lock`] may call this: a socket that is
/// already there was left behind by a writer that is gone.
pub(super) fn listen(dir: &Path, _: &Lock) -> io::Result<UnixListener> {
    let address = address(dir)?;
    forget(dir)?;
    let listener = UnixListener::bind(&address.path)?;
    std::fs::set_permissions(&address.path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Removes the socket.
pub(super) fn forget(dir: &Path) -> io::Result<()> {
    match std::fs::remove_file(dir.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Connects to the writer of the trail in `dir`.
pub(super) fn connect(dir: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(address(dir)?.path)
}

/// Refuses a directory in which anybody may put something: a link that a writer follows, or
/// another key. What stands for a directory of the trail must be one.
pub(super) fn check_place(dir: &Path) -> Result<(), DoorError> {
    let looked = |error| DoorError::Trail(Arc::new(Error::io("look at", dir)(error)));
    let open = std::fs::metadata(dir).map_err(looked)?.mode() & 0o002 != 0;
    if open {
        return Err(DoorError::Exposed);
    }
    for name in [layout::SEGMENTS, layout::HASHES, layout::TORN] {
        match std::fs::symlink_metadata(dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found if found.as_ref().is_ok_and(std::fs::Metadata::is_dir) => {}
            found => {
                found.map_err(looked)?;
                let what = "it is not a directory; a trail lies in one place, without links";
                return Err(Error::unusable(name, what).into());
            }
        }
    }
    Ok(())
}

/// Refuses a user who may not even look into the directory.
pub(super) fn check_entrance(dir: &Path) -> Result<(), DoorError> {
    match std::fs::symlink_metadata(dir.join(layout::ID)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => check_access(dir),
        _ => Ok(()),
    }
}

/// Whether a process that may not read the key can reach a writer, who listens to those
/// whom [`is_trusted`] names.
pub(super) fn check_access(dir: &Path) -> Result<(), DoorError> {
    let uid = rustix::process::geteuid();
    let owner = std::fs::metadata(dir).map_err(DoorError::io("look at the trail"))?.uid();
    if uid.is_root() || uid.as_raw() == owner {
        return Ok(());
    }
    Err(DoorError::NotAllowed { uid: uid.as_raw(), owner })
}

/// The process that connected.
pub(super) fn peer(stream: impl AsFd) -> io::Result<u32> {
    Ok(socket_peercred(stream)?.pid.as_raw_nonzero().get().unsigned_abs())
}

/// Who may be at the other end, from both sides: the owner of the trail, ourselves, root.
pub(super) fn is_trusted(peer: impl AsFd, dir: &Path) -> io::Result<bool> {
    let uid = socket_peercred(peer)?.uid.as_raw();
    Ok(uid == 0
        || uid == rustix::process::geteuid().as_raw()
        || uid == std::fs::metadata(dir)?.uid())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn one_lock_for_one_trail() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::try_take(dir.path()).unwrap().expect("nobody else is here");
        assert!(Lock::try_take(dir.path()).unwrap().is_none());
        drop(held);
        assert!(Lock::try_take(dir.path()).unwrap().is_some());
    }

    #[test]
    fn a_lock_that_is_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("elsewhere", dir.path().join(LOCK)).unwrap();
        assert!(Lock::try_take(dir.path()).is_err());
        assert!(!dir.path().join("elsewhere").exists());
    }

    #[test]
    fn a_socket_is_reached_however_deep_it_lies() {
        for deep in [1, 107, 200, 2000] {
            let root = tempfile::tempdir().unwrap();
            let mut dir = root.path().to_owned();
            while dir.as_os_str().len() < deep {
                dir.push("d".repeat(30));
            }
            std::fs::create_dir_all(&dir).unwrap();
            let lock = Lock::try_take(&dir).unwrap().unwrap();
            // A socket left behind is replaced.
            drop(listen(&dir, &lock).unwrap());
            let listener = listen(&dir, &lock).unwrap();
            let mut client = connect(&dir).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            assert!(is_trusted(&server, &dir).unwrap());
            client.write_all(b"hello").unwrap();
            drop(client);
            let mut heard = String::new();
            server.read_to_string(&mut heard).unwrap();
            assert_eq!(heard, "hello");
            forget(&dir).unwrap();
            assert!(connect(&dir).is_err());
        }
    }
}
