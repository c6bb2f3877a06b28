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

mod btrfs;
mod ext4;
mod files;
mod index;
mod mounts;
pub(crate) mod record;
mod space;
mod stack;
mod table;
mod walk;

use std::collections::VecDeque;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use host::block_device::{BlockDevice, Number};

use files::{Files, Key, Known};
use index::{Content, Index, NodeId};
use mounts::{Entrance, Mounts};
use space::Surroundings;
use stack::{BackingFile, Stack};
use walk::{End, Walked};

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

/// All that was found out about a stretch of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Explanation {
    /// What the device is made of, the nearest first.
    pub(crate) below: Vec<Layer>,
    /// The file systems that have those bytes.
    pub(crate) hits: Vec<Hit>,
    /// What could not be found out, in words.
    pub(crate) gaps: Vec<String>,
    /// Files are still being looked for: asked again, later, there is more to tell.
    pub(crate) is_pending: bool,
}

impl Explanation {
    /// Whether the use of every byte is known.
    pub(crate) fn is_certain(&self) -> bool {
        let is_known = |one: &Use| !matches!(one.what, What::Unknown { .. });
        !self.hits.is_empty() && self.hits.iter().all(|hit| hit.uses.iter().all(is_known))
    }
}

/// Whether asking the file system of this path for anything may keep one waiting.
pub(crate) fn may_keep_waiting(path: &Path) -> bool {
    stack::lies_behind_a_server(path.as_os_str().as_bytes())
}

/// A device or file of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Its number, if it is a device.
    pub(crate) device: Option<Number>,
    /// Name of the mapped device, the kernel's name of another, path of a file.
    pub(crate) name: Vec<u8>,
    pub(crate) made: Made,
    /// The bytes in question on it, where they can be told.
    pub(crate) bytes: Option<Range<u64>>,
}

/// How a layer comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    Disk,
    Partition,
    Loop,
    Mapped,
    File,
    /// It is not there any more.
    Gone,
}

impl Made {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Made::Disk => "disk",
            Made::Partition => "partition",
            Made::Loop => "loop",
            Made::Mapped => "mapped",
            Made::File => "file",
            Made::Gone => "gone",
        }
    }
}

/// A file system that has the bytes, and what it has them for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// The way from the device asked about to the one that carries it, the latter last.
    pub(crate) stack: Vec<Layer>,
    /// `st_dev` of its files.
    pub(crate) device: Number,
    pub(crate) fs_type: Vec<u8>,
    /// The bytes on it.
    pub(crate) bytes: Range<u64>,
    pub(crate) uses: Vec<Use>,
    /// Uses that are not listed.
    pub(crate) more_uses: u64,
    pub(crate) mounts: Vec<Mounted>,
    /// What of it could not be seen.
    pub(crate) notes: Vec<String>,
}

/// What some bytes are used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    /// On the file system.
    pub(crate) bytes: Range<u64>,
    pub(crate) what: What,
}

/// A use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A file's bytes.
    File {
        inode: u64,
        /// In the file system; none where no name was found.
        path: Option<Vec<u8>>,
        /// Where in the file; none where the place does not tell.
        offset: Option<u64>,
        /// How many names it has; 0 where that is not known.
        links: u32,
    },
    /// The file system's own.
    Metadata {
        /// What kind.
        of: String,
        /// Of a certain file or directory.
        inode: Option<u64>,
        path: Option<Vec<u8>>,
    },
    /// Nobody's.
    Free,
    /// Not known.
    Unknown { reason: String },
}

impl What {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            What::File { .. } => "file",
            What::Metadata { .. } => "metadata",
            What::Free => "free",
            What::Unknown { .. } => "unknown",
        }
    }

    /// The path of the file or directory, in the file system.
    pub(crate) fn path(&self) -> Option<&[u8]> {
        match self {
            What::File { path, .. } | What::Metadata { path, .. } => path.as_deref(),
            What::Free | What::Unknown { .. } => None,
        }
    }
}

/// A mount of a file system that was hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    /// Inode number of the mount namespace.
    pub(crate) namespace: u64,
    /// A process that sees it so.
    pub(crate) pid: u32,
    pub(crate) point: Vec<u8>,
    /// What of the file system is mounted.
    pub(crate) root: Vec<u8>,
    /// Whether it is in our own namespace, and `point` a path of ours.
    pub(crate) is_ours: bool,
}

impl Mounted {
    /// The path of one of the file system's files through this mount; `None` where it lies beside
    /// what is mounted.
    pub(crate) fn path_of(&self, file: &[u8]) -> Option<Vec<u8>> {
        mounts::path_through(&self.root, &self.point, file)
    }
}

/// Finds out what was hit; shared by all threads that ask.
pub(crate) struct Explainer {
    files: Files,
}

/// No more uses of one file system in one answer: a block of EROFS may hold many small files. The
/// rest is counted, up to the second number.
const MOST_USES: usize = 256;
const MOST_COUNTED: usize = 1 << 16;

/// How long the mounts may take to be read where nobody waits for the answer.
const PREPARE: Duration = Duration::from_secs(10);

/// No more devices on the way up.
const MOST_STEPS: usize = 64;

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
        let mut climb = self.start(Instant::now() + budget);
        climb.climb(subject, bytes);
        let mut found = climb.found;
        found.gaps.append(&mut climb.stack.gaps);
        found
    }

    /// Begins to list the files of the read-only file systems on these devices, so that whoever
    /// asks about a place on one has its answer at once. Those that can be written are not listed:
    /// their list would be old when it is wanted.
    pub(crate) fn prepare(&self, devices: &[Number]) {
        let mut climb = self.start(Instant::now() + PREPARE);
        for device in devices {
            for system in climb.systems_on(*device) {
                climb.prepare(*device, &system);
            }
        }
    }

    fn start(&self, deadline: Instant) -> Climb<'_> {
        let mut climb = Climb {
            files: &self.files,
            stack: Stack::default(),
            mounts: Mounts::default(),
            ahead: VecDeque::new(),
            seen: Vec::new(),
            deadline,
            found: Explanation::default(),
        };
        match Mounts::read(deadline) {
            Ok(mounts) => climb.take_mounts(mounts),
            Err(error) => climb.note(format!("mounts cannot be listed: {error}")),
        }
        climb
    }
}

/// One way up.
struct Climb<'a> {
    files: &'a Files,
    stack: Stack,
    mounts: Mounts,
    ahead: VecDeque<Step>,
    seen: Vec<(Number, Range<u64>)>,
    deadline: Instant,
    found: Explanation,
}

/// A device to look at, and how we came to it.
struct Step {
    device: Number,
    bytes: Range<u64>,
    way: Vec<Layer>,
}

/// A mounted file system.
struct System {
    device: Number,
    fs_type: Vec<u8>,
    /// In the order in which they are tried.
    mounts: Vec<mounts::Mount>,
    /// Of btrfs: which of its devices the one is that was come by.
    member: Option<u64>,
}

impl Climb<'_> {
    fn note(&mut self, gap: String) {
        self.found.gaps.push(gap);
    }

    fn take_mounts(&mut self, mounts: Mounts) {
        let missed = mounts.missed;
        if missed.hidden > 0 {
            let hidden = missed.hidden;
            self.note(format!("mount namespaces are not ours to see (of {hidden} processes)"));
        }
        if missed.unread + mounts.left_out > 0 {
            let (unread, left_out) = (missed.unread, mounts.left_out);
            self.note(format!("not read: {unread} mount namespaces, {left_out} mounts"));
        }
        self.mounts = mounts;
    }

    fn climb(&mut self, subject: &Subject, bytes: &Range<u64>) {
        match subject {
            Subject::Device(device) => {
                self.found.below = self.stack.below(*device, bytes);
                let way = vec![self.stack.layer(*device, Some(bytes.clone()))];
                self.ahead.push_back(Step { device: *device, bytes: bytes.clone(), way });
            }
            Subject::File { path, identity } => {
                let file = BackingFile { identity: *identity, path: Some(path.clone()) };
                self.go_on_from_file(&file, bytes, &[]);
            }
        }
        while let Some(step) = self.ahead.pop_front() {
            let known = (step.device, step.bytes.clone());
            if self.seen.contains(&known) {
                continue;
            }
            if self.seen.len() >= MOST_STEPS {
                self.note("too many devices lie on it to follow all".to_owned());
                return;
            }
            self.seen.push(known);
            self.look_at(&step);
        }
    }

    fn look_at(&mut self, step: &Step) {
        for system in self.systems_on(step.device) {
            self.look_into(step, &system);
        }
        for (device, bytes) in self.stack.above(step.device, &step.bytes) {
            self.push(device, bytes, &step.way);
        }
    }

    fn push(&mut self, device: Number, bytes: Range<u64>, way: &[Layer]) {
        let layer = self.stack.layer(device, Some(bytes.clone()));
        let way = [way, &[layer]].concat();
        self.ahead.push_back(Step { device, bytes, way });
    }

    fn systems_on(&mut self, device: Number) -> Vec<System> {
        let mounts = self.mounts.all.iter().filter(|mount| mount.device == device);
        let mut systems: Vec<System> =
            system(device, mounts.cloned().collect()).into_iter().collect();
        systems.extend(self.btrfs_on(device));
        systems
    }

    /// btrfs has numbers of its own, and may lie on many devices.
    fn btrfs_on(&mut self, device: Number) -> Vec<System> {
        let mounts = self.mounts.all.iter().filter(|mount| mount.fs_type == b"btrfs");
        let mut systems = Vec::new();
        for mut system in by_device(mounts) {
            let member = files::enter(&system.mounts).and_then(|(_, entrance)| {
                btrfs::number_within(&entrance.directory, device).map_err(|error| error.to_string())
            });
            match member {
                Ok(None) => {}
                Ok(member) => {
                    system.member = member;
                    systems.push(system);
                }
                Err(why) => {
                    let (major, minor) = system.device;
                    self.found.gaps.push(format!("the btrfs on {major}:{minor}: {why}"));
                }
            }
        }
        systems
    }

    /// Loop devices and file systems over a file.
    fn go_on_from_file(&mut self, file: &BackingFile, bytes: &Range<u64>, way: &[Layer]) {
        for (device, bytes) in self.stack.over_file(file, bytes) {
            self.push(device, bytes, way);
        }
        let Some(path) = &file.path else { return };
        // File-backed: the source is the file, and the file system has no device.
        let on_file = |mount: &&mounts::Mount| {
            mount.fs_type == b"erofs" && mount.device.0 == 0 && mount.source == *path
        };
        let systems = by_device(self.mounts.all.iter().filter(on_file));
        let layer = Layer {
            device: None,
            name: path.clone(),
            made: Made::File,
            bytes: Some(bytes.clone()),
        };
        let way = if way.is_empty() { vec![layer] } else { way.to_vec() };
        for system in systems {
            let step = Step { device: system.device, bytes: bytes.clone(), way: way.clone() };
            self.look_into(&step, &system);
        }
    }

    /// What the file system has the bytes for.
    fn look_into(&mut self, step: &Step, system: &System) {
        let bytes = &step.bytes;
        let mut hit = Hit {
            stack: step.way.clone(),
            device: system.device,
            fs_type: system.fs_type.clone(),
            bytes: bytes.clone(),
            uses: Vec::new(),
            more_uses: 0,
            mounts: system.mounts.iter().map(mounted).collect(),
            notes: Vec::new(),
        };
        let (mount, entrance) = match files::enter(&system.mounts) {
            Ok(entered) => entered,
            Err(reason) => {
                hit.uses.push(Use { bytes: bytes.clone(), what: What::Unknown { reason } });
                self.found.hits.push(hit);
                return;
            }
        };
        if let Some(member) = system.member {
            hit.uses = btrfs::uses(&entrance.directory, member, bytes, self.deadline);
            hit.limit();
            self.go_on(hit, &step.way);
            return;
        }
        let key = self.key(step.device, system, mount);
        let known = self.files.index(key, self.deadline, || {
            entrance.again().map_err(|error| format!("it cannot be entered: {error}"))
        });
        let prefix = if mount.is_whole() { b"".as_slice() } else { &mount.root };
        self.judge(&mut hit, &known, prefix, mount, &entrance);
        self.go_on(hit, &step.way);
    }

    fn key(&mut self, device: Number, system: &System, mount: &mounts::Mount) -> Key {
        Key {
            device: system.device,
            diskseq: self.stack.device(device).and_then(|device| device.diskseq),
            mount: mount.number(),
            read_only: mount.read_only,
        }
    }

    fn prepare(&mut self, device: Number, system: &System) {
        if system.member.is_some() {
            return;
        }
        let Ok((mount, entrance)) = files::enter(&system.mounts) else { return };
        if mount.read_only {
            let key = self.key(device, system, mount);
            let again = || entrance.again().map_err(|error| error.to_string());
            // Nobody waits for it.
            let _ = self.files.index(key, Instant::now(), again);
        }
    }

    /// On from the files of a hit, for images that lie in one.
    fn go_on(&mut self, hit: Hit, way: &[Layer]) {
        for one in &hit.uses {
            let What::File { inode, path, offset: Some(offset), .. } = &one.what else { continue };
            let Some(end) = offset.checked_add(one.bytes.end - one.bytes.start) else { continue };
            let seen = |mount: &Mounted| mount.path_of(path.as_deref()?);
            let ours = hit.mounts.iter().filter(|mount| mount.is_ours);
            let file = BackingFile {
                // Each subvolume of btrfs has a number of its own.
                identity: (hit.fs_type != b"btrfs").then_some((hit.device, *inode)),
                path: ours.filter_map(seen).next(),
            };
            self.go_on_from_file(&file, &(*offset..end), way);
        }
        self.found.hits.push(hit);
    }

    fn judge(
        &mut self,
        hit: &mut Hit,
        known: &Known,
        prefix: &[u8],
        mount: &mounts::Mount,
        entrance: &Entrance,
    ) {
        let (walked, why_not) = match known {
            Known::Walked(walked) => (Some(walked), why_not(walked, mount)),
            Known::NotYet => {
                self.found.is_pending = true;
                (None, "its files are still being listed".to_owned())
            }
            Known::Never(why) => (None, why.clone()),
        };
        let mut looked_at = hit.bytes.clone();
        if let Some(walked) = walked {
            hit.notes.extend(notes(walked, mount, entrance));
            looked_at.end = take_files(hit, &walked.index, prefix);
        }
        let complete = walked.is_some_and(|walked| {
            walked.end == End::Whole && walked.trouble.is_none() && mount.is_whole()
        });
        let rest = uncovered(&looked_at, hit.uses.iter().map(|one| &one.bytes));
        if rest.is_empty() {
            return hit.limit();
        }
        let place = Surroundings {
            journal: self.journal_of(hit),
            fs_type: &hit.fs_type,
            device: hit.device,
            nothing_is_hidden: complete && mount.read_only,
            why_not: &why_not,
        };
        let index = walked.map(|walked| &walked.index);
        let mut uses = Vec::new();
        for bytes in rest {
            uses.extend(space::classify(&place, &entrance.directory, index, bytes));
        }
        hit.uses.extend(uses);
        hit.limit();
    }

    /// Where the journal of ext4 is: an inode that has no name.
    fn journal_of(&mut self, hit: &mut Hit) -> Vec<Range<u64>> {
        if !matches!(hit.fs_type.as_slice(), b"ext4" | b"ext3") {
            return Vec::new();
        }
        let Some(node) = self.stack.device(hit.device).map(BlockDevice::node) else {
            return Vec::new();
        };
        let read = stack::open_device(&node, hit.device).and_then(|file| ext4::journal(&file));
        read.unwrap_or_else(|error| {
            hit.notes.push(format!("the superblock cannot be read: {error}"));
            Vec::new()
        })
    }
}

impl Hit {
    fn limit(&mut self) {
        self.uses.sort_by_key(|one| one.bytes.start);
        let more = self.uses.len().saturating_sub(MOST_USES);
        self.more_uses += u64::try_from(more).unwrap_or(u64::MAX);
        self.uses.truncate(MOST_USES);
    }
}

/// The file systems of these mounts.
fn by_device<'a>(mounts: impl Iterator<Item = &'a mounts::Mount>) -> Vec<System> {
    let mut groups: Vec<(Number, Vec<mounts::Mount>)> = Vec::new();
    for mount in mounts {
        match groups.iter_mut().find(|(device, _)| *device == mount.device) {
            Some((_, group)) => group.push(mount.clone()),
            None => groups.push((mount.device, vec![mount.clone()])),
        }
    }
    groups.into_iter().filter_map(|(device, mounts)| system(device, mounts)).collect()
}

fn system(device: Number, mut mounts: Vec<mounts::Mount>) -> Option<System> {
    mounts.sort_by_key(mounts::Mount::rank);
    let fs_type = mounts.first()?.fs_type.clone();
    Some(System { device, fs_type, mounts, member: None })
}

fn mounted(mount: &mounts::Mount) -> Mounted {
    Mounted {
        namespace: mount.namespace,
        pid: mount.pid,
        point: mount.point.clone(),
        root: mount.root.clone(),
        is_ours: mount.is_own,
    }
}

/// Why a file may have been missed.
fn why_not(walked: &Walked, mount: &mounts::Mount) -> String {
    match walked.end {
        End::Full => "it has too many files to list".to_owned(),
        End::Late => "listing its files took too long".to_owned(),
        End::NoMap => "it does not tell where its files lie".to_owned(),
        End::Whole if walked.trouble.unreadable > 0 => "not every file could be read".to_owned(),
        End::Whole if walked.trouble.covered > 0 => "other mounts cover some files".to_owned(),
        End::Whole if !mount.is_whole() => "only a part of it is mounted".to_owned(),
        End::Whole => "metadata, or a file that was deleted and is still open".to_owned(),
    }
}

fn notes(walked: &Walked, mount: &mounts::Mount, entrance: &Entrance) -> Vec<String> {
    let mut notes = Vec::new();
    let files = walked.index.files();
    match walked.end {
        End::Full => notes.push(format!("too many files: {files} were listed")),
        End::Late => notes.push(format!("too slow: {files} files were listed")),
        End::NoMap | End::Whole => {}
    }
    let trouble = &walked.trouble;
    let age = walked.at.elapsed().as_secs();
    if !mount.read_only && age > 1 {
        notes.push(format!("files as they were {age} seconds ago"));
    }
    if trouble.unreadable > 0 {
        let first = trouble.first.iter();
        let first: Vec<String> =
            first.map(|(path, why)| format!("{}: {why}", path.escape_ascii())).collect();
        notes.push(format!(
            "{} files or directories cannot be read ({})",
            trouble.unreadable,
            first.join("; ")
        ));
    }
    if trouble.covered > 0 && !entrance.is_bare {
        notes.push(format!("{} files or directories are covered by mounts", trouble.covered));
    }
    if !mount.is_whole() {
        notes.push(format!("only {} of it is mounted", mount.root.escape_ascii()));
    }
    notes
}

/// Puts the files that have bytes of the hit among its uses; up to where it looked.
fn take_files(hit: &mut Hit, index: &Index, prefix: &[u8]) -> u64 {
    for found in index.find(&hit.bytes) {
        if hit.uses.len() >= MOST_COUNTED {
            hit.notes.push("too many files to count".to_owned());
            return found.bytes.start;
        }
        let Some(node) = index.node(found.node) else { continue };
        let path = Some(path_in(index, found.node, prefix));
        let what = match found.content {
            Content::Attributes => What::Metadata {
                of: "extended attributes".to_owned(),
                inode: Some(node.inode),
                path,
            },
            Content::Data | Content::Compressed if node.is_directory => {
                What::Metadata { of: "directory".to_owned(), inode: Some(node.inode), path }
            }
            content => What::File {
                inode: node.inode,
                path,
                offset: (content == Content::Data).then_some(found.offset),
                links: node.links,
            },
        };
        hit.uses.push(Use { bytes: found.bytes, what });
    }
    hit.bytes.end
}

fn path_in(index: &Index, node: NodeId, prefix: &[u8]) -> Vec<u8> {
    let path = index.path(node);
    if prefix.is_empty() || path != b"/" { [prefix, &path].concat() } else { prefix.to_vec() }
}

/// The stretches of `bytes` that none of the others has.
fn uncovered<'a>(
    bytes: &Range<u64>,
    others: impl Iterator<Item = &'a Range<u64>>,
) -> Vec<Range<u64>> {
    let mut taken: Vec<&Range<u64>> = others.collect();
    taken.sort_by_key(|range| range.start);
    let mut rest = Vec::new();
    let mut next = bytes.start;
    for range in taken {
        if range.start > next && next < bytes.end {
            rest.push(next..range.start.min(bytes.end));
        }
        next = next.max(range.end);
    }
    if next < bytes.end {
        rest.push(next..bytes.end);
    }
    rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Each byte is of one of the others or of the rest, and never of both.
        #[test]
        fn the_rest_is_what_none_has(
            others in proptest::collection::vec((0..60u64, 0..20u64), 0..8),
            start in 0..60u64,
            length in 0..60u64,
        ) {
            let others: Vec<_> = others.iter().map(|(at, long)| *at..at + long).collect();
            let rest = uncovered(&(start..start + length), others.iter());
            for byte in 0..130 {
                let wanted = (start..start + length).contains(&byte)
                    && !others.iter().any(|other| other.contains(&byte));
                let found = rest.iter().filter(|one| one.contains(&byte)).count();
                prop_assert_eq!(found, usize::from(wanted), "{}", byte);
            }
            prop_assert!(rest.iter().all(|one| one.start < one.end));
        }
    }
}
