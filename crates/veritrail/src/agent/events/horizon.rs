//! How far the trail is durable, for all readers.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::Errno;
use trail::follow::{Durable, Extent};
use trail::{Disk, layout};

/// How often the trail is looked at where the kernel does not say that it grows.
const LOOK: Duration = Duration::from_millis(100);

/// How long a wake-up waits for more of them: writes come in bunches.
const GATHER: Duration = Duration::from_millis(2);

/// The horizon.
#[derive(Debug)]
pub(super) struct Horizon {
    segments: PathBuf,
    /// Held while the disk is asked.
    durable: Mutex<Keeper>,
    seen: Mutex<Seen>,
    moved: Condvar,
    /// Readers that want to know.
    wanted: AtomicUsize,
}

struct Keeper(Durable<Disk>);

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keeper")
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    extent: Extent,
    /// How often somebody was woken for another reason.
    woken: u64,
}

impl Horizon {
    pub(super) fn new(trail: &Path) -> Horizon {
        Horizon {
            segments: trail.join(layout::SEGMENTS),
            durable: Mutex::new(Keeper(Durable::new(Disk::new(trail)))),
            seen: Mutex::default(),
            moved: Condvar::new(),
            wanted: AtomicUsize::new(0),
        }
    }

    /// Asks the disk, and tells all who wait. `anew`: there may be another file. What cannot be made
    /// sure of is not told.
    pub(super) fn look(&self, anew: bool) -> Extent {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        // The writer meets the same error and says so; readers get what is durable.
        if let Ok(extent) = durable.0.advance(anew) {
            self.seen().extent = extent;
            self.moved.notify_all();
        }
        self.seen().extent
    }

    pub(super) fn extent(&self) -> Extent {
        self.seen().extent
    }

    /// Waits until the extent is another one, for so long at most.
    pub(super) fn wait_beyond(&self, known: Extent, patience: Duration) {
        let seen = self.seen();
        let woken = seen.woken;
        let same = |seen: &mut Seen| seen.extent == known && seen.woken == woken;
        drop(self.moved.wait_timeout_while(seen, patience, same));
    }

    /// Wakes all who wait.
    pub(super) fn wake(&self) {
        self.seen().woken += 1;
        self.moved.notify_all();
    }

    /// From now on somebody wants to know.
    pub(super) fn want(&self) -> Want<'_> {
        self.wanted.fetch_add(1, Ordering::AcqRel);
        self.look(true);
        Want(self)
    }

    /// Looks whenever the trail's files change, until `stop`.
    pub(super) fn watch(&self, stop: &AtomicBool) {
        let mut changes = None;
        while !stop.load(Ordering::Acquire) {
            if changes.is_none() {
                // Without it there is a look at every turn.
                changes = Changes::watch(&self.segments).ok();
            }
            let found = match &mut changes {
                Some(watched) => watched.wait(LOOK),
                None => {
                    std::thread::sleep(LOOK);
                    Ok(Found { grown: true, anew: true })
                }
            };
            let found = found.unwrap_or_else(|_| {
                changes = None;
                Found { grown: true, anew: true }
            });
            // A reader that comes looks by itself.
            if found.grown && self.wanted.load(Ordering::Acquire) > 0 {
                self.look(found.anew);
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody wants to know.
pub(super) struct Want<'a>(&'a Horizon);

impl Drop for Want<'_> {
    fn drop(&mut self) {
        self.0.wanted.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Changes in a directory, from inotify.
struct Changes {
    inotify: OwnedFd,
}

#[derive(Clone, Copy, Debug, Default)]
struct Found {
    grown: bool,
    /// There is another file.
    anew: bool,
}

impl Changes {
    fn watch(dir: &Path) -> io::Result<Changes> {
        let inotify =
            inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let flags = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::ONLYDIR;
        inotify::add_watch(&inotify, dir, flags)?;
        Ok(Changes { inotify })
    }

    /// What has happened, after a wait for it.
    fn wait(&mut self, patience: Duration) -> io::Result<Found> {
        let mut fds = [PollFd::new(&self.inotify, PollFlags::IN)];
        let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&patience)) {
            Ok(0) | Err(Errno::INTR) => return Ok(Found::default()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        std::thread::sleep(GATHER);
        let mut found = Found::default();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut entries = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            let events = match entries.next() {
                Ok(entry) => entry.events(),
                Err(Errno::AGAIN) => return Ok(found),
                Err(error) => return Err(error.into()),
            };
            found.grown = true;
            found.anew |= events != inotify::ReadFlags::MODIFY;
            if events.contains(inotify::ReadFlags::IGNORED) {
                // The directory itself has gone.
                return Err(io::ErrorKind::NotFound.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_and_other_files_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let mut changes = Changes::watch(dir.path()).unwrap();
        let found = |changes: &mut Changes| {
            let Found { grown, anew } = changes.wait(Duration::from_millis(50)).unwrap();
            (grown, anew)
        };
        assert_eq!(found(&mut changes), (false, false));
        std::fs::write(dir.path().join("a"), "").unwrap();
        assert_eq!(found(&mut changes), (true, true));
        std::fs::write(dir.path().join("a"), "more").unwrap();
        assert_eq!(found(&mut changes), (true, false));
        std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        assert_eq!(found(&mut changes), (true, true));
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert!(changes.wait(Duration::from_secs(5)).is_err());
    }
}
