//! What a device is made of, and what is made of it: partitions, mapped devices, loop devices over
//! files and over devices.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use host::block_device::{self, Backing, BlockDevice, Kind, Number};
use host::device::{Identity, identity};
use host::dm;
use host::loop_device;
use host::mountinfo::{self, MountEntry};

use super::mounts::waits_for_a_server;
use super::table::{self, Above};
use super::{Layer, Made};

/// Reads the table of a mapped device; `None` where it cannot be had.
fn table_of(device: Number) -> Option<Vec<dm::Target>> {
    dm::Control::open().ok()??.table(device).ok()?
}

/// The block devices of the machine, read as they are asked for.
#[derive(Default)]
pub(super) struct Stack {
    known: HashMap<Number, Option<BlockDevice>>,
    loops: Option<Vec<(Number, Backing)>>,
    /// What could not be followed, in words.
    pub(super) gaps: Vec<String>,
}

/// A file that a device may be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BackingFile {
    /// Its file system and inode number.
    pub(super) identity: Option<(Number, u64)>,
    /// Its path in our mount namespace, where it has one.
    pub(super) path: Option<Vec<u8>>,
}

/// A step up: a device, and what of it.
pub(super) type Step = (Number, Range<u64>);

impl Stack {
    /// The device's facts; `None` where it is gone.
    pub(super) fn device(&mut self, number: Number) -> Option<&BlockDevice> {
        let gaps = &mut self.gaps;
        let known = self.known.entry(number).or_insert_with(|| match BlockDevice::read(number) {
            Ok(device) => Some(device),
            Err(error) => {
                let (major, minor) = number;
                gaps.push(if error.kind() == io::ErrorKind::NotFound {
                    format!("{major}:{minor} is gone")
                } else {
                    format!("{major}:{minor} cannot be looked at: {error}")
                });
                None
            }
        });
        known.as_ref()
    }

    /// The device as a layer.
    pub(super) fn layer(&mut self, number: Number, bytes: Option<Range<u64>>) -> Layer {
        let Some(device) = self.device(number) else {
            return Layer { device: Some(number), name: Vec::new(), made: Made::Gone, bytes };
        };
        let name = device.name.as_bytes().to_vec();
        let (name, made) = match &device.kind {
            Kind::Mapped { name, .. } => (name.clone(), Made::Mapped),
            Kind::Loop(_) => (name, Made::Loop),
            Kind::Partition { .. } => (name, Made::Partition),
            Kind::Other => (name, Made::Disk),
        };
        Layer { device: Some(number), name, made, bytes }
    }

    /// What lies directly on `bytes` of a device.
    pub(super) fn above(&mut self, number: Number, bytes: &Range<u64>) -> Vec<Step> {
        let Some(device) = self.device(number).cloned() else { return Vec::new() };
        let mut steps = Vec::new();
        for part in &device.partitions {
            let Some(part) = self.device(*part) else { continue };
            let Kind::Partition { start, .. } = part.kind else { continue };
            let end = start.saturating_add(part.size);
            let (first, last) = (bytes.start.max(start), bytes.end.min(end));
            if first < last {
                steps.push((part.number, first - start..last - start));
            }
        }
        for holder in &device.holders {
            self.mapped_above(number, *holder, bytes, &mut steps);
        }
        for (loop_number, backing) in self.loops().to_vec() {
            let is_it = backing.file.starts_with("/dev")
                && device_at(&backing.file).is_some_and(|at| at == number);
            if is_it {
                self.loop_above(loop_number, backing.offset, bytes, &mut steps);
            }
        }
        steps
    }

    /// The loop devices over `bytes` of a file.
    pub(super) fn over_file(&mut self, file: &BackingFile, bytes: &Range<u64>) -> Vec<Step> {
        let mut steps = Vec::new();
        for (number, backing) in self.loops().to_vec() {
            if self.is_over(number, &backing, file) {
                self.loop_above(number, backing.offset, bytes, &mut steps);
            }
        }
        steps
    }

    /// What a device is made of, down to where nothing more is known, the nearest first.
    pub(super) fn below(&mut self, number: Number, bytes: &Range<u64>) -> Vec<Layer> {
        /// Deeper than anybody builds.
        const MOST: usize = 16;
        let mut layers: Vec<Layer> = Vec::new();
        let mut ahead = vec![(number, Some(bytes.clone()))];
        while let Some((number, bytes)) = ahead.pop() {
            let Some(device) = self.device(number).cloned() else { continue };
            let mut under: Vec<(Number, Option<Range<u64>>)> = Vec::new();
            match &device.kind {
                Kind::Partition { disk, start } => {
                    under.push((*disk, bytes.as_ref().and_then(|bytes| shifted(bytes, *start))));
                }
                Kind::Loop(Some(backing)) => layers.push(Layer {
                    device: None,
                    name: backing.file.as_os_str().as_bytes().to_vec(),
                    made: Made::File,
                    bytes: bytes.as_ref().and_then(|bytes| shifted(bytes, backing.offset)),
                }),
                Kind::Mapped { .. } => {
                    let lines = table_of(number).unwrap_or_default();
                    let place = |slave: Number| {
                        let bytes = bytes.as_ref()?;
                        let lower = lines.iter().filter_map(|line| table::below(line, bytes));
                        lower.filter(|(lower, _)| *lower == slave).map(|(_, bytes)| bytes).next()
                    };
                    under.extend(device.slaves.iter().map(|slave| (*slave, place(*slave))));
                }
                Kind::Loop(None) | Kind::Other => {
                    under.extend(device.slaves.iter().map(|slave| (*slave, None)));
                }
            }
            for (lower, bytes) in under.into_iter().rev() {
                let seen = layers.iter().any(|layer| layer.device == Some(lower));
                if !seen && layers.len() < MOST {
                    layers.push(self.layer(lower, bytes.clone()));
                    ahead.push((lower, bytes));
                }
            }
        }
        layers
    }

    fn mapped_above(
        &mut self,
        number: Number,
        holder: Number,
        bytes: &Range<u64>,
        steps: &mut Vec<Step>,
    ) {
        let (major, minor) = holder;
        let Some(lines) = table_of(holder) else {
            self.gaps.push(format!("{major}:{minor} lies on it, but its table cannot be read"));
            return;
        };
        for line in &lines {
            match table::above(line, number, bytes) {
                Above::Bytes(bytes) => steps.push((holder, bytes)),
                Above::Nothing => {}
                Above::Unclear => self.gaps.push(format!(
                    "{major}:{minor} lies on it; where, a {} target does not tell",
                    line.kind.escape_default()
                )),
            }
        }
    }

    fn loop_above(
        &mut self,
        number: Number,
        offset: u64,
        bytes: &Range<u64>,
        steps: &mut Vec<Step>,
    ) {
        let Some(size) = self.device(number).map(|device| device.size) else { return };
        let (first, last) = (bytes.start.max(offset), bytes.end.min(offset.saturating_add(size)));
        if first < last {
            steps.push((number, first - offset..last - offset));
        }
    }

    fn loops(&mut self) -> &[(Number, Backing)] {
        /// Of linux/major.h.
        const LOOP_MAJOR: u32 = 7;
        self.loops.get_or_insert_with(|| {
            let numbers = match block_device::all() {
                Ok(numbers) => numbers,
                Err(error) => {
                    self.gaps.push(format!("loop devices cannot be listed: {error}"));
                    Vec::new()
                }
            };
            let loops = numbers.into_iter().filter(|(major, _)| *major == LOOP_MAJOR);
            let backing = |number| match BlockDevice::read(number).ok()?.kind {
                Kind::Loop(Some(backing)) => Some((number, backing)),
                _ => None,
            };
            loops.filter_map(backing).collect()
        })
    }

    /// Whether a loop device is made of that file: by its inode, which a path in another mount
    /// namespace or a deleted file do not hide; by its path, where its file system might keep us
    /// waiting.
    fn is_over(&mut self, number: Number, backing: &Backing, file: &BackingFile) -> bool {
        let path = backing.file.as_os_str().as_bytes();
        let same_path = file.path.as_deref() == Some(path);
        let Some(wanted) = file.identity else { return same_path };
        if lies_behind_a_server(path) {
            return same_path;
        }
        let Some(node) = self.device(number).map(BlockDevice::node) else { return same_path };
        match open_device(&node, number).and_then(|device| loop_device::backing_inode(&device)) {
            Ok(found) => found == wanted,
            Err(_) => same_path,
        }
    }
}

/// Opens the node of a device, if it is one of that device.
pub(super) fn open_device(node: &Path, number: Number) -> io::Result<File> {
    let file = File::open(node)?;
    match identity(&file)? {
        Identity::Block { device } if device == number => Ok(file),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "its node is another device's")),
    }
}

/// The number of the block device that a path leads to.
fn device_at(path: &Path) -> Option<Number> {
    let stat = rustix::fs::stat(path).ok()?;
    let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
    (kind == rustix::fs::FileType::BlockDevice)
        .then(|| (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)))
}

/// Whether the file system that has this path in our mount namespace may never answer.
pub(super) fn lies_behind_a_server(path: &[u8]) -> bool {
    let Ok(text) = mountinfo::read() else { return true };
    let holds = |entry: &MountEntry<'_>| {
        let point = entry.point.strip_suffix(b"/").unwrap_or(&entry.point);
        path.strip_prefix(point).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    let nearest = mountinfo::entries(&text).filter(holds).max_by_key(|entry| entry.point.len());
    nearest.is_none_or(|entry| waits_for_a_server(entry.fs_type))
}

fn shifted(bytes: &Range<u64>, by: u64) -> Option<Range<u64>> {
    Some(bytes.start.checked_add(by)?..bytes.end.checked_add(by)?)
}
