//! Where file systems are mounted, in all mount namespaces, and the way into one.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use host::block_device::Number;
use host::mount_namespaces::{self, Missed, MountNamespace};
use host::mountinfo::{self, MountEntry};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::mount::OpenTreeFlags;

/// A mount of a file system, as one mount namespace has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) namespace: u64,
    /// A process that sees it.
    pub(super) pid: u32,
    /// Whether the namespace is our own.
    pub(super) is_own: bool,
    id: u32,
    /// As mountinfo has it; of btrfs and of file-backed EROFS no block device.
    pub(super) device: Number,
    /// What of the file system is mounted.
    pub(super) root: Vec<u8>,
    /// Where, seen from the root directory of `pid` or, in our namespace, from ours.
    pub(super) point: Vec<u8>,
    pub(super) fs_type: Vec<u8>,
    pub(super) source: Vec<u8>,
    pub(super) read_only: bool,
    /// The way to it leads through a file system that may never answer.
    is_behind_a_server: bool,
}

/// What mounts there are that a block device may carry.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) all: Vec<Mount>,
    pub(super) missed: Missed,
    /// Mounts that were left out because there were too many.
    pub(super) left_out: u64,
}

/// A hundred namespaces with a hundred such mounts each, and ten times that.
const MOST: usize = 100_000;

impl Mounts {
    /// Reads the mounts of all mount namespaces, as far as it comes until `deadline`.
    pub(super) fn read(deadline: Instant) -> io::Result<Mounts> {
        let mut mounts = Mounts::default();
        let missed = mount_namespaces::walk(deadline, |namespace| mounts.take(&namespace))?;
        mounts.missed = missed;
        Ok(mounts)
    }

    fn take(&mut self, namespace: &MountNamespace) {
        let entries: Vec<MountEntry<'_>> = mountinfo::entries(&namespace.mountinfo).collect();
        let behind = behind_servers(&entries);
        for entry in entries.iter().filter(|entry| may_lie_on_a_device(entry)) {
            if self.all.len() >= MOST {
                self.left_out += 1;
                continue;
            }
            self.all.push(Mount {
                namespace: namespace.inum,
                pid: namespace.pid,
                is_own: namespace.is_own,
                id: entry.id,
                device: entry.device,
                root: entry.root.to_vec(),
                point: entry.point.to_vec(),
                fs_type: entry.fs_type.to_vec(),
                source: entry.source.to_vec(),
                read_only: entry.read_only,
                is_behind_a_server: behind.get(&entry.id).copied().unwrap_or(true),
            });
        }
    }
}

fn may_lie_on_a_device(entry: &MountEntry<'_>) -> bool {
    // 0 is the major number of what has no device of its own; those two may have one all the same.
    entry.device.0 != 0 || entry.fs_type == b"btrfs" || entry.fs_type == b"erofs"
}

/// Which mounts lie on one that may keep us waiting for ever. The topmost one of each point counts,
/// so this may be told of a mount that can be reached; never the other way.
///
/// Each is looked at once: a container can pile a hundred thousand mounts upon each other.
fn behind_servers(entries: &[MountEntry<'_>]) -> HashMap<u32, bool> {
    let by_id: HashMap<u32, &MountEntry<'_>> =
        entries.iter().map(|entry| (entry.id, entry)).collect();
    let mut behind = HashMap::with_capacity(entries.len());
    let mut way = Vec::new();
    for entry in entries {
        let mut at = entry;
        let found = loop {
            if let Some(known) = behind.get(&at.id) {
                break *known;
            }
            // Mounts form a tree; of text that says otherwise nothing is believed.
            behind.insert(at.id, true);
            way.push(at.id);
            match by_id.get(&at.parent).filter(|parent| parent.id != at.id) {
                // What a root directory lies on is not shown. Of another mount that is so where the
                // process has a root directory that no mount begins at: it may be a server's.
                None => break &*at.point != b"/",
                Some(parent) if waits_for_a_server(parent.fs_type) => break true,
                Some(parent) => at = parent,
            }
        };
        behind.extend(way.drain(..).map(|id| (id, found)));
    }
    behind
}

/// Whether calls on such a file system wait for a process or another machine.
pub(super) fn waits_for_a_server(fs_type: &[u8]) -> bool {
    const SERVED: [&[u8]; 12] = [
        b"9p",
        b"afs",
        b"autofs",
        b"ceph",
        b"cifs",
        b"fuse",
        b"fuseblk",
        b"lustre",
        b"nfs",
        b"nfs4",
        b"smb3",
        b"virtiofs",
    ];
    fs_type.starts_with(b"fuse.") || SERVED.contains(&fs_type)
}

/// Why a mount could not be entered.
#[derive(Debug)]
pub(super) enum Closed {
    /// Its point, or a directory above, lies on FUSE or a network file system.
    BehindAServer,
    /// Something else is mounted upon it.
    Covered,
    /// It is a mount of a single file.
    NotADirectory,
    /// The kernel said no.
    Io(io::Error),
}

/// The way into a mounted file system.
#[derive(Debug)]
pub(super) struct Entrance {
    /// Its topmost directory that is mounted, opened for reading.
    pub(super) directory: OwnedFd,
    /// Whether what is mounted upon its directories is not in the way.
    pub(super) is_bare: bool,
}

impl Mount {
    /// Opens the directory that is mounted, and nothing else.
    ///
    /// Where it can be had, as a copy of the mount of its own on which nothing else is mounted, so
    /// that what other mounts cover is seen too, and nobody's umount(8) fails because of us.
    pub(super) fn enter(&self) -> Result<Entrance, Closed> {
        if self.is_behind_a_server || waits_for_a_server(&self.fs_type) {
            return Err(Closed::BehindAServer);
        }
        let found = self.find()?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let copy = rustix::mount::open_tree(&found, "", flags);
        let is_bare = copy.is_ok();
        let way = copy.unwrap_or(found);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let directory = rustix::fs::openat(&way, ".", flags, Mode::empty())
            .map_err(|errno| Closed::Io(errno.into()))?;
        Ok(Entrance { directory, is_bare })
    }

    /// A descriptor that is only a place in the tree.
    fn find(&self) -> Result<OwnedFd, Closed> {
        let failed = |errno: rustix::io::Errno| match errno {
            rustix::io::Errno::NOTDIR => Closed::NotADirectory,
            errno => Closed::Io(errno.into()),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = if self.is_own { "/".to_owned() } else { format!("/proc/{}/root", self.pid) };
        let root = rustix::fs::open(root, flags, Mode::empty()).map_err(failed)?;
        let point = match self.point.strip_prefix(b"/").unwrap_or(&self.point) {
            b"" => b".".as_slice(),
            point => point,
        };
        // The point is somebody else's path: no link in it leads anywhere else.
        let resolve =
            ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let found =
            rustix::fs::openat2(&root, point, flags, Mode::empty(), resolve).map_err(failed)?;
        let stat = rustix::fs::statx(&found, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
            .map_err(failed)?;
        if stat.stx_mnt_id != u64::from(self.id) {
            return Err(Closed::Covered);
        }
        Ok(found)
    }

    /// Whether the whole of the file system can be seen through it.
    pub(super) fn is_whole(&self) -> bool {
        self.root == b"/"
    }

    /// In which order the mounts of a file system are tried: those that show all of it, and of
    /// those ours, since only these can be copied.
    pub(super) fn rank(&self) -> (bool, bool, bool) {
        (self.is_behind_a_server, !self.is_whole(), !self.is_own)
    }

    /// Tells mounts apart, as long as they exist.
    pub(super) fn number(&self) -> u64 {
        u64::from(self.id)
    }
}

impl Entrance {
    /// A second descriptor of it.
    pub(super) fn again(&self) -> io::Result<Entrance> {
        Ok(Entrance { directory: self.directory.try_clone()?, is_bare: self.is_bare })
    }
}

/// The path of a file of a file system, seen through a mount of its directory `root` at `point`;
/// `None` where it lies beside what is mounted.
pub(super) fn path_through(root: &[u8], point: &[u8], file: &[u8]) -> Option<Vec<u8>> {
    let file = file.strip_suffix(b"/").unwrap_or(file);
    let below = match root {
        b"/" => file,
        root => {
            let rest = file.strip_prefix(root)?;
            if !rest.is_empty() && !rest.starts_with(b"/") {
                return None;
            }
            rest
        }
    };
    let point = point.strip_suffix(b"/").unwrap_or(point);
    let path = [point, below].concat();
    Some(if path.is_empty() { b"/".to_vec() } else { path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(text: &str) -> Vec<Mount> {
        let mut mounts = Mounts::default();
        mounts.take(&MountNamespace {
            inum: 1,
            pid: 1,
            is_own: true,
            mountinfo: text.as_bytes().to_vec(),
        });
        mounts.all
    }

    #[test]
    fn a_file_is_seen_below_what_is_mounted() {
        for (root, point, file, path) in [
            ("/", "/", "/etc/motto", Some("/etc/motto")),
            ("/", "/mnt", "/etc/motto", Some("/mnt/etc/motto")),
            ("/", "/mnt", "/", Some("/mnt")),
            ("/etc", "/mnt", "/etc/motto", Some("/mnt/motto")),
            ("/etc/motto", "/mnt", "/etc/motto", Some("/mnt")),
            ("/et", "/mnt", "/etc/motto", None),
            ("/var", "/mnt", "/etc/motto", None),
        ] {
            let seen = path_through(root.as_bytes(), point.as_bytes(), file.as_bytes());
            assert_eq!(seen.as_deref(), path.map(str::as_bytes), "{root} {point} {file}");
        }
    }

    #[test]
    fn no_way_leads_through_a_server() {
        let text = "1 1 8:0 / / rw - ext4 /dev/sda rw
2 1 0:5 / /a rw - fuse.sshfs x rw
3 2 7:0 / /a/b ro - ext4 /dev/loop0 ro
4 1 7:1 / /c ro - ext4 /dev/loop1 ro
5 6 7:2 / /d ro - ext4 /dev/loop2 ro
6 5 7:3 / /e ro - ext4 /dev/loop3 ro
7 1 0:9 / /f rw - tmpfs tmpfs rw
8 3 7:4 / /a/b/c ro - ext4 /dev/loop4 ro
";
        let seen: Vec<_> = mount(text).iter().map(|one| (one.id, one.is_behind_a_server)).collect();
        let expected = [(1, false), (3, true), (4, false), (5, true), (6, true), (8, true)];
        assert_eq!(seen, expected);
        // The root directory of its process is no mount of its own, but a directory of some file
        // system that is not shown.
        let seen = mount("9 2 7:0 / /data ro - ext4 /dev/loop0 ro");
        assert!(seen.iter().all(|one| one.is_behind_a_server), "{seen:?}");
    }

    #[test]
    fn a_pile_of_mounts_takes_no_longer_than_as_many_beside_each_other() {
        const MOUNTS: u32 = 100_000;
        let pile: String = (1..=MOUNTS)
            .map(|id| format!("{id} {} 8:0 / / rw - ext4 /dev/sda rw\n", id.saturating_sub(1)))
            .collect();
        let began = Instant::now();
        let seen = mount(&pile);
        assert_eq!(seen.iter().filter(|one| !one.is_behind_a_server).count(), seen.len());
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    }
}
