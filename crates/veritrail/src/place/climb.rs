//! The way up: from a device to what lies on it, to the file systems that have its bytes, and on from
//! their files.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use host::block_device::{BlockDevice, Number};

use super::answer::{Explanation, Hit, Layer, Made, Mounted, Use, What};
use super::files::{self, Files, Key, Known};
use super::judge::{notes, path_in, take_files, uncovered, why_not};
use super::mounts::{self, Entrance, Mounts};
use super::space::{self, Surroundings};
use super::stack::{self, BackingFile, Stack};
use super::walk::End;
use super::{Subject, btrfs, ext4};

/// No more devices on the way up.
const MOST_STEPS: usize = 64;

const STILL_LISTED: &str = "its files are still being listed";

/// What is left where every file is known.
const NO_FILES: &str = "metadata, or a file that was deleted and is still open";

/// One way up.
pub(super) struct Climb<'a> {
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

impl<'a> Climb<'a> {
    pub(super) fn new(files: &'a Files, deadline: Instant) -> Climb<'a> {
        let mut climb = Climb {
            files,
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

    pub(super) fn end(mut self) -> Explanation {
        self.found.gaps.append(&mut self.stack.gaps);
        self.found
    }

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

    pub(super) fn climb(&mut self, subject: &Subject, bytes: &Range<u64>) {
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
        let mut hit = hit_on(system, step.way.clone(), bytes.clone());
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
        let known = self.files.index(key, self.deadline, || entered_again(&entrance));
        self.judge(&mut hit, &known, mount, &entrance);
        self.go_on(hit, &step.way);
    }

    /// What the file of an inode is called, on what is mounted from the device.
    pub(super) fn look_for(&mut self, device: Number, inode: u64) {
        for system in self.systems_on(device) {
            let way = vec![self.stack.layer(device, None)];
            let mut hit = hit_on(&system, way, 0..0);
            let (path, links) = match self.name_of(inode, device, &system) {
                Ok((path, links)) => (Some(path), links),
                Err(why) => {
                    self.note(format!("what inode {inode} is called: {why}"));
                    (None, 0)
                }
            };
            let what = What::File { inode, path, offset: None, links };
            hit.uses.push(Use { bytes: 0..0, what });
            self.found.hits.push(hit);
        }
    }

    /// Its path, and how many it has.
    fn name_of(
        &mut self,
        inode: u64,
        device: Number,
        system: &System,
    ) -> Result<(Vec<u8>, u32), String> {
        if system.member.is_some() {
            return Err("each subvolume of a btrfs has one of that number".to_owned());
        }
        let (mount, entrance) = files::enter(&system.mounts)?;
        let key = self.key(device, system, mount);
        let known = self.files.index(key, self.deadline, || entered_again(&entrance));
        let (index, why_not) = match &known {
            Known::Walked(walked) => (&walked.index, why_not(walked, mount)),
            Known::NotYet => {
                self.found.is_pending = true;
                return Err(STILL_LISTED.to_owned());
            }
            Known::Never(why) => return Err(why.clone()),
        };
        let found = index.of_inode(inode).and_then(|id| Some((id, index.node(id)?)));
        let (id, node) = found.ok_or(why_not.unwrap_or("no file that has a name"))?;
        Ok((path_in(index, id, prefix(mount)), node.links))
    }

    fn key(&mut self, device: Number, system: &System, mount: &mounts::Mount) -> Key {
        Key {
            device: system.device,
            diskseq: self.stack.device(device).and_then(|device| device.diskseq),
            mount: mount.number(),
            read_only: mount.read_only,
        }
    }

    /// Begins to list the files of what is mounted read-only from the device.
    pub(super) fn prepare(&mut self, device: Number) {
        for system in self.systems_on(device) {
            self.prepare_system(device, &system);
        }
    }

    fn prepare_system(&mut self, device: Number, system: &System) {
        if system.member.is_some() {
            return;
        }
        let Ok((mount, entrance)) = files::enter(&system.mounts) else { return };
        if mount.read_only {
            let key = self.key(device, system, mount);
            // Nobody waits for it.
            let _ = self.files.index(key, Instant::now(), || entered_again(&entrance));
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

    fn judge(&mut self, hit: &mut Hit, known: &Known, mount: &mounts::Mount, entrance: &Entrance) {
        let (walked, why_not) = match known {
            Known::Walked(walked) => (Some(walked), why_not(walked, mount).unwrap_or(NO_FILES)),
            Known::NotYet => {
                self.found.is_pending = true;
                (None, STILL_LISTED)
            }
            Known::Never(why) => (None, why.as_str()),
        };
        let mut looked_at = hit.bytes.clone();
        if let Some(walked) = walked {
            hit.notes.extend(notes(walked, mount, entrance));
            looked_at.end = take_files(hit, &walked.index, prefix(mount));
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
            why_not,
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

fn hit_on(system: &System, stack: Vec<Layer>, bytes: Range<u64>) -> Hit {
    Hit {
        stack,
        device: system.device,
        fs_type: system.fs_type.clone(),
        bytes,
        uses: Vec::new(),
        more_uses: 0,
        mounts: system.mounts.iter().map(mounted).collect(),
        notes: Vec::new(),
    }
}

fn entered_again(entrance: &Entrance) -> Result<Entrance, String> {
    entrance.again().map_err(|error| format!("it cannot be entered: {error}"))
}

/// The way from the root of the file system to what is mounted.
fn prefix(mount: &mounts::Mount) -> &[u8] {
    if mount.is_whole() { b"" } else { &mount.root }
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
