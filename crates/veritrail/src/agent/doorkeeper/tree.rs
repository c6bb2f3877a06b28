//! The tree's mount, which outlives the agent, and the names in it (design section 5, "The tree"):
//!
//! ```text
//!  devices/NAME  devices/NAME.status                       what the agent last said
//!  proc/PID/audit_containerid  proc/PID/task/TID/...       asked of the agent at each call
//! ```

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host::fuse::Errno;
use host::fuse_tree::{Caller, Entry, Kind as Node, Operation, Reply};
use host::mount::{Detach, MountError};
use host::{fuse_tree, mount, mountinfo};

use super::requests::Request;
use super::{Event, SyncSender};
use crate::agent::tree::Names;
use crate::outcome::{Failure, Kind};
use crate::run_dir::cannot;

/// The mounted tree. Dropped, it is unmounted.
pub(super) struct Tree {
    point: PathBuf,
    session: Option<fuse_tree::Session>,
}

impl Tree {
    /// Mounts it, in the place of one that was left by a process that was killed.
    pub(super) fn attach(point: PathBuf) -> (Tree, Result<OwnedFd, Failure>) {
        let mounted = attach(&point);
        (Tree { point, session: None }, mounted)
    }

    pub(super) fn point(&self) -> &Path {
        &self.point
    }

    /// Serves what was mounted.
    pub(super) fn serve(&mut self, connection: OwnedFd, shown: Shown) -> Result<(), Failure> {
        let session = fuse_tree::serve(connection, shown);
        self.session = Some(
            session
                .map_err(|error| Failure::new(Kind::Io, "cannot serve the tree").because(error))?,
        );
        Ok(())
    }

    /// Takes it away.
    pub(super) fn unmount(&mut self) -> Result<(), Failure> {
        let Some(session) = self.session.take() else { return Ok(()) };
        match mount::detach(&self.point, Detach::Lazy) {
            // Somebody else did it.
            Ok(()) | Err(MountError::NotMounted(_)) => {}
            Err(error) => {
                let what = format!("cannot unmount {}", self.point.display());
                return Err(Failure::new(Kind::Io, what).because(error));
            }
        }
        let until = Instant::now() + Duration::from_secs(2);
        // Whoever stands in it keeps the connection; it ends with this process.
        while !session.has_ended() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // Whoever wants to know calls `unmount`.
        let _ = self.unmount();
    }
}

fn attach(point: &Path) -> Result<OwnedFd, Failure> {
    let lacks = |error: MountError| {
        let remedy = error.remedy();
        let failure = Failure::new(Kind::Environment, "it cannot be mounted").because(error);
        match remedy {
            Some(remedy) => failure.hint(remedy),
            None => failure,
        }
    };
    if is_left_over(point).map_err(|error| cannot("look at", point, error))? {
        mount::detach(point, Detach::Lazy).map_err(lacks)?;
    }
    let made = DirBuilder::new().recursive(true).mode(0o755).create(point);
    made.map_err(|error| cannot("make", point, error))?;
    mount::attach_tree(point, mount::Options::default()).map_err(lacks)
}

/// What the tree shows, and who hears of requests.
pub(super) struct Shown {
    pub(super) names: Names,
    pub(super) events: SyncSender<Event>,
}

const LABEL: &str = "audit_containerid";

/// What a path is.
#[derive(Debug, PartialEq, Eq)]
enum Name<'a> {
    Root,
    Devices,
    Device(&'a OsStr),
    Proc,
    /// `proc/PID`, or `proc/PID/task/TID`.
    Task {
        tid: u32,
        is_process: bool,
    },
    /// `proc/PID/task`.
    Threads(u32),
    /// The label of this task.
    Label(u32),
}

impl Name<'_> {
    fn of(path: &Path) -> Option<Name<'_>> {
        // One more than there is any use for.
        let mut names = path.iter();
        let names: [Option<&OsStr>; 6] = std::array::from_fn(|_| names.next());
        let names = names.map(|name| name.map(OsStr::as_encoded_bytes));
        Some(match names {
            [None, ..] => Name::Root,
            [Some(b"devices"), None, ..] => Name::Devices,
            [Some(b"devices"), Some(_), None, ..] => Name::Device(path.file_name()?),
            [Some(b"proc"), None, ..] => Name::Proc,
            [Some(b"proc"), Some(pid), rest @ ..] => {
                let pid = number(pid)?;
                match rest {
                    [None, ..] => Name::Task { tid: pid, is_process: true },
                    [Some(name), None, ..] if name == LABEL.as_bytes() => Name::Label(pid),
                    [Some(b"task"), None, ..] => Name::Threads(pid),
                    [Some(b"task"), Some(tid), rest @ ..] => {
                        let tid = number(tid)?;
                        // A thread of another process is not here.
                        exists(&format!("/proc/{pid}/task/{tid}")).then_some(())?;
                        match rest {
                            [None, ..] => Name::Task { tid, is_process: false },
                            [Some(name), None] if name == LABEL.as_bytes() => Name::Label(tid),
                            _ => return None,
                        }
                    }
                    _ => return None,
                }
            }
            _ => return None,
        })
    }
}

/// A task's number as /proc has it: no sign, no leading zero.
fn number(name: &[u8]) -> Option<u32> {
    let plain = name.iter().all(u8::is_ascii_digit) && !name.starts_with(b"0");
    plain.then(|| std::str::from_utf8(name).ok()?.parse().ok())?
}

fn exists(path: &str) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXISTS).is_ok()
}

/// The numbers in a directory of /proc.
fn numbers(path: &str) -> Result<Vec<(OsString, Node)>, Errno> {
    let entries = fs::read_dir(path).map_err(|_| Errno::NOENT)?;
    let names = entries.flatten().map(|entry| entry.file_name());
    let numbers = names.filter(|name| number(name.as_encoded_bytes()).is_some());
    Ok(numbers.map(|name| (name, Node::Directory)).collect())
}

impl fuse_tree::Tree for Shown {
    fn look(&self, path: &Path) -> Result<Entry, Errno> {
        let entry = match Name::of(path).ok_or(Errno::NOENT)? {
            Name::Root | Name::Devices | Name::Proc => Entry::Directory,
            Name::Device(name) => return self.names.look(name),
            Name::Task { tid, .. } | Name::Threads(tid) if !exists(&format!("/proc/{tid}")) => {
                return Err(Errno::NOENT);
            }
            Name::Task { .. } | Name::Threads(_) => Entry::Directory,
            Name::Label(tid) => {
                Entry::Attribute(host::process::start_time(tid).map_err(|_| Errno::NOENT)?)
            }
        };
        Ok(entry)
    }

    fn list(&self, path: &Path) -> Result<Vec<(OsString, Node)>, Errno> {
        let directories = |names: &[&str]| {
            names.iter().map(|name| (OsString::from(name), Node::Directory)).collect()
        };
        let label = (OsString::from(LABEL), Node::File);
        match Name::of(path).ok_or(Errno::NOENT)? {
            Name::Root => Ok(directories(&["devices", "proc"])),
            Name::Devices => Ok(self.names.list()),
            Name::Proc => numbers("/proc"),
            Name::Threads(pid) => numbers(&format!("/proc/{pid}/task")),
            Name::Task { is_process: true, .. } => {
                Ok(vec![label, ("task".into(), Node::Directory)])
            }
            Name::Task { is_process: false, .. } => Ok(vec![label]),
            Name::Device(_) | Name::Label(_) => Err(Errno::NOTDIR),
        }
    }

    fn request(
        &self,
        path: &Path,
        started: u64,
        caller: Caller,
        operation: Operation,
        reply: Reply,
    ) {
        // Not looked up anew: that the task is gone is the agent's to say (ESRCH, not ENOENT).
        let tid = path.iter().rev().nth(1).and_then(|name| number(name.as_encoded_bytes()));
        let Some(target) = tid else { return reply.failed(Errno::NOENT) };
        // Where nobody hears it any more it fails.
        let request = Request { target, started, caller, operation, reply };
        let _ = self.events.send(Event::Request(Box::new(request)));
    }
}

/// Whether a mount of ours stands there whose server is gone.
fn is_left_over(point: &Path) -> io::Result<bool> {
    let text = mountinfo::read()?;
    let ours = mountinfo::entries(&text)
        .any(|entry| entry.path() == point && entry.fs_type == b"fuse.veritrail");
    let answer = fs::symlink_metadata(point).err().and_then(|error| error.raw_os_error());
    Ok(ours && answer == Some(Errno::NOTCONN.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_name_or_nothing() {
        let own = std::process::id();
        let (a, b) = (format!("proc/{own}"), format!("proc/{own}/task/{own}"));
        let label = format!("{b}/audit_containerid");
        for (path, name) in [
            ("", Name::Root),
            ("devices", Name::Devices),
            ("devices/a", Name::Device(OsStr::new("a"))),
            ("proc", Name::Proc),
            (&a, Name::Task { tid: own, is_process: true }),
            ("proc/7/audit_containerid", Name::Label(7)),
            ("proc/7/task", Name::Threads(7)),
            (&b, Name::Task { tid: own, is_process: false }),
            (&label, Name::Label(own)),
        ] {
            assert_eq!(Name::of(Path::new(path)), Some(name), "{path}");
        }
        for path in [
            "x",
            "devices/a/b",
            "proc/x",
            "proc/-1",
            "proc/+1",
            "proc/01",
            "proc/0",
            "proc/4294967296",
            "proc/7/x",
            "proc/7/audit_containerid/x",
            "proc/1/task/0",
            &format!("{label}/x"),
            &format!("proc/1/task/{own}"),
        ] {
            assert_eq!(Name::of(Path::new(path)), None, "{path}");
        }
    }
}
