//! Whoever takes part of what is there for all: nobody gets more of it by asking from more processes.

use std::fs::File;
use std::io::Read;

use engine::containers::Group;

/// A user, in a container or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Peer {
    uid: u32,
    /// What tells its container from others. None where it could choose that itself: its own pid namespaces and
    /// groups are as many as it likes.
    container: Option<String>,
}

/// The longest text of a process's groups that is read, in bytes.
const LONGEST: u64 = 64 << 10;

impl Peer {
    /// The user's task of that number; 0 stands for one that cannot be seen.
    pub(super) fn of(uid: u32, tid: u32) -> Peer {
        let mut text = Vec::new();
        let read = File::open(format!("/proc/{tid}/cgroup"))
            .and_then(|file| file.take(LONGEST).read_to_end(&mut text));
        let group = read.ok().and_then(|_| Group::of_process(&text));
        let group = group.filter(Group::is_in_a_place_of_root);
        Peer { uid, container: group.map(|group| group.key().to_owned()) }
    }
}
