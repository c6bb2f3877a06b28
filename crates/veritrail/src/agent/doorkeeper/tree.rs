//! The tree's mount, which outlives the agent.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host::mount::{Detach, MountError};
use host::{fuse_tree, mount, mountinfo};

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
    pub(super) fn serve(&mut self, connection: OwnedFd, names: Names) -> Result<(), Failure> {
        let session = fuse_tree::serve(connection, names);
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

/// Whether a mount of ours stands there whose server is gone.
fn is_left_over(point: &Path) -> io::Result<bool> {
    let text = mountinfo::read()?;
    let ours = mountinfo::entries(&text)
        .any(|entry| entry.path() == point && entry.fs_type == b"fuse.veritrail");
    let answer = fs::symlink_metadata(point).err().and_then(|error| error.raw_os_error());
    Ok(ours && answer == Some(rustix::io::Errno::NOTCONN.raw_os_error()))
}
