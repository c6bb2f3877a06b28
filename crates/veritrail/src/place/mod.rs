//! From a place on a device to what was hit: up the stack of devices to those that carry file
//! systems, to the file (or free space, or metadata) there, and to all mounts that show it.
//!
//! ```text
//!   (device, bytes) ─▶ partitions, mapped devices, loop devices above
//!        │                       │
//!        └──────────┬────────────┘
//!                   ▼
//!        mounts of it, in all mount namespaces ─▶ index of its files ─▶ Explanation
//!                                                       │
//!                          a file with a loop device ◀──┘  and on from there
//! ```

mod answer;
mod btrfs;
mod climb;
mod ext4;
mod files;
mod index;
mod judge;
mod mounts;
pub(crate) mod record;
mod space;
mod stack;
mod table;
mod walk;

use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use host::block_device::Number;

use climb::Climb;
use files::Files;

pub(crate) use answer::{Explanation, Hit, Layer, Made, Mounted, Use, What};
pub(crate) use files::Limits;

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A block device.
    Device(Number),
    /// A file that a device may be made of: an image, the file of a served device.
    File {
        /// Its absolute path.
        path: Vec<u8>,
        /// Its file system and inode, where asking for them keeps nobody waiting.
        identity: Option<(Number, u64)>,
    },
}

/// Whether asking the file system of this path for anything may keep one waiting.
pub(crate) fn may_keep_waiting(path: &Path) -> bool {
    stack::lies_behind_a_server(path.as_os_str().as_bytes())
}

/// Finds out what was hit; shared by all threads that ask.
pub(crate) struct Explainer {
    files: Files,
}

/// How long the mounts may take to be read where nobody waits for the answer.
const PREPARE: Duration = Duration::from_secs(10);

impl Explainer {
    /// One that has no answers yet.
    pub(crate) fn new(limits: Limits) -> Explainer {
        Explainer { files: Files::new(limits) }
    }

    /// What `bytes` of the subject are. Whatever was not found out within `budget` is said; the
    /// look for files then goes on, for whoever asks again.
    pub(crate) fn explain(
        &self,
        subject: &Subject,
        bytes: &Range<u64>,
        budget: Duration,
    ) -> Explanation {
        let mut climb = Climb::new(&self.files, Instant::now() + budget);
        climb.climb(subject, bytes);
        climb.end()
    }

    /// What the file of this inode is called, on the file systems that lie directly on a device.
    /// What was not found out within `budget` is said as above.
    pub(crate) fn explain_inode(
        &self,
        device: Number,
        inode: u64,
        budget: Duration,
    ) -> Explanation {
        let mut climb = Climb::new(&self.files, Instant::now() + budget);
        climb.look_for(device, inode);
        climb.end()
    }

    /// Begins to list the files of the read-only file systems on these devices, so that whoever
    /// asks about a place on one has its answer at once. Those that can be written are not listed:
    /// their list would be old when it is wanted.
    pub(crate) fn prepare(&self, devices: &[Number]) {
        let mut climb = Climb::new(&self.files, Instant::now() + PREPARE);
        for device in devices {
            climb.prepare(*device);
        }
    }
}
