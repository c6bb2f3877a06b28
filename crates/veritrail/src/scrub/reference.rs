//! What a user calls a device, and which one that is.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use engine::devices::table::Target as Table;
use host::block_device::{Backing, BlockDevice, Kind as DeviceKind, Number};
use host::dm::{Control, Target as MappedTarget};

use super::target::Target;
use crate::outcome::{Failure, Kind};
use crate::served::{Directory, Name};
use crate::verbs::serve::{self, Described};
use crate::verbs::verity;

/// A device that can be checked, not opened yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reference {
    /// One that a server of ours serves.
    Served(Name),
    /// One of the kernel's device mapper.
    Kernel(Number),
    /// An image that a table describes.
    Described(Name),
}

/// What something is made of.
enum Made {
    /// Of a device that can be checked.
    Of(Reference),
    /// It lies on this block device.
    On(Number),
}

/// Where to look.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) served: Directory,
    pub(crate) tab: Option<PathBuf>,
}

impl Reference {
    /// The devices that an operand means, at least one: by a name, by the device file, or by a mount
    /// point that lies on them.
    pub(crate) fn resolve(operand: &OsStr, places: &Places) -> Result<Vec<Reference>, Failure> {
        let path = Path::new(operand);
        let found = if operand.as_bytes().contains(&b'/') {
            places.by_path(path)?
        } else {
            match places.by_name(operand)? {
                Some(reference) => [reference].into(),
                None if path.exists() => places.by_path(path)?,
                None => BTreeSet::new(),
            }
        };
        if found.is_empty() {
            return Err(unknown(operand));
        }
        Ok(found.into_iter().collect())
    }

    /// As another process of ours is told of it.
    pub(crate) fn operand(&self, places: &Places) -> OsString {
        match self {
            Reference::Served(name) => places.served.device(name).into(),
            Reference::Kernel(number) => {
                let (major, minor) = number;
                BlockDevice::read(*number).map_or_else(
                    |_| format!("/dev/block/{major}:{minor}").into(),
                    |device| device.node().into(),
                )
            }
            Reference::Described(name) => name.as_str().into(),
        }
    }

    /// The device, opened.
    pub(crate) fn open(&self, places: &Places) -> Result<Target, Failure> {
        match self {
            Reference::Served(name) => {
                let status = verity::find(&places.served, name)?;
                Target::served(&status.ok_or_else(|| unknown(name.as_str().as_ref()))?)
            }
            Reference::Kernel(number) => {
                let mapped = places.mapper()?.map(|control| control.mapped(*number));
                let gone = || Failure::new(Kind::Environment, "the device is gone");
                let mapped = mapped.transpose().map_err(unanswered)?.flatten();
                Target::mapped(&mapped.ok_or_else(gone)?)
            }
            Reference::Described(name) => {
                let described = serve::described(name, places.tab.as_deref())?;
                let described: Described =
                    described.ok_or_else(|| unknown(name.as_str().as_ref()))?;
                Target::image(verity::describe(&described.args)?)
            }
        }
    }
}

impl Places {
    fn by_name(&self, operand: &OsStr) -> Result<Option<Reference>, Failure> {
        let name = operand.to_str().and_then(|text| Name::parse(text).ok());
        if let Some(name) = name.as_ref().filter(|name| self.served.is_taken(name)) {
            return Ok(Some(Reference::Served(name.clone())));
        }
        // Whoever must not ask the kernel may have a table of his own.
        let mapper = self.mapper();
        if let Ok(Some(control)) = &mapper
            // What can be no name is nobody's.
            && let Ok(Some(info)) = control.find(operand.as_bytes())
        {
            return Ok(Some(Reference::Kernel(info.device)));
        }
        let described = match &name {
            Some(name) => serve::described(name, self.tab.as_deref())?,
            None => None,
        };
        match (described.and(name), mapper) {
            (Some(name), _) => Ok(Some(Reference::Described(name))),
            (None, mapper) => mapper.map(|_| None),
        }
    }

    /// The kernel's device mapper, where it has one.
    pub(crate) fn mapper(&self) -> Result<Option<Control>, Failure> {
        Control::open().map_err(unanswered)
    }

    fn by_path(&self, path: &Path) -> Result<BTreeSet<Reference>, Failure> {
        if let Some(name) = self.served_at(path) {
            return Ok([Reference::Served(name)].into());
        }
        let failed = |error| {
            Failure::new(Kind::Io, format!("cannot look at {}", path.display())).because(error)
        };
        let metadata = fs::metadata(path).map_err(failed)?;
        if metadata.file_type().is_block_device() {
            let number = metadata.rdev();
            return Ok(self.below((rustix::fs::major(number), rustix::fs::minor(number))));
        }
        let path = fs::canonicalize(path).map_err(failed)?;
        let text = host::mountinfo::read().map_err(failed)?;
        // Of two on one point the later covers the other.
        let mounts = host::mountinfo::entries(&text).filter(|entry| entry.path() == path);
        let Some(mount) = mounts.last() else {
            let what = format!("{} is neither a device nor a mount point", path.display());
            return Err(Failure::new(Kind::Usage, what)
                .hint("an image needs its tree: --hash HASH --root-hash ROOT"));
        };
        // Of a file system without a device of its own, what it was mounted from.
        let source = Path::new(OsStr::from_bytes(&mount.source));
        Ok(match mount.device {
            (0, _) if source.is_absolute() => match self.source(source) {
                Some(Made::Of(reference)) => [reference].into(),
                Some(Made::On(number)) => self.below(number),
                None => BTreeSet::new(),
            },
            (0, _) => BTreeSet::new(),
            number => self.below(number),
        })
    }

    /// The device that is served at this path.
    fn served_at(&self, path: &Path) -> Option<Name> {
        let path = std::path::absolute(path).ok()?;
        let name = Name::parse(path.file_name()?.to_str()?).ok()?;
        let same = |a: &Path, b: &Path| match (fs::canonicalize(a), fs::canonicalize(b)) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        };
        let here = self.served.device(&name);
        (same(path.parent()?, here.parent()?) && self.served.is_taken(&name)).then_some(name)
    }

    /// What a file system or a loop device is made of, by its path.
    fn source(&self, path: &Path) -> Option<Made> {
        if let Some(name) = self.served_at(path) {
            return Some(Made::Of(Reference::Served(name)));
        }
        let found = fs::metadata(path).ok()?;
        let number = found.file_type().is_block_device().then(|| found.rdev())?;
        Some(Made::On((rustix::fs::major(number), rustix::fs::minor(number))))
    }

    /// The uppermost devices that can be checked, among this one and those that it lies on.
    fn below(&self, number: Number) -> BTreeSet<Reference> {
        /// A stack is a few devices; an array has some more.
        const MOST: usize = 1024;
        let (mut found, mut seen, mut next) = (BTreeSet::new(), BTreeSet::new(), vec![number]);
        // For whoever must not ask it, a device of the device mapper is none that can be checked.
        let mapper = self.mapper().ok().flatten();
        let verifies = |number| {
            let table = mapper.as_ref().and_then(|control| control.table(number).ok().flatten());
            table.is_some_and(|table| table.iter().any(is_verified))
        };
        while let Some(number) = next.pop() {
            if seen.len() == MOST || !seen.insert(number) {
                continue;
            }
            if verifies(number) {
                found.insert(Reference::Kernel(number));
                continue;
            }
            // What is gone meanwhile is not what was meant.
            let Ok(device) = BlockDevice::read(number) else { continue };
            match device.kind {
                DeviceKind::Partition { disk, .. } => next.push(disk),
                DeviceKind::Loop(Some(Backing { file, .. })) => match self.source(&file) {
                    Some(Made::Of(reference)) => drop(found.insert(reference)),
                    Some(Made::On(number)) => next.push(number),
                    None => {}
                },
                _ => next.extend(device.slaves),
            }
        }
        found
    }
}

/// Whether reads of a target are verified by it.
pub(crate) fn is_verified(target: &MappedTarget) -> bool {
    match Table::parse(&target.kind, &target.params) {
        Some(Table::Verity(_)) => true,
        Some(Table::Integrity(integrity)) => integrity.internal_hash,
        Some(Table::Crypt(crypt)) => crypt.authenticated,
        Some(Table::Linear(_)) | None => false,
    }
}

fn unanswered(error: io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => Kind::Environment,
        _ => Kind::Io,
    };
    Failure::new(kind, "cannot ask the kernel's device mapper").because(error)
}

fn unknown(operand: &OsStr) -> Failure {
    let what = format!("{} is nothing that can be checked", operand.display());
    Failure::new(Kind::Usage, what).hint(
        "name a served device, one of the device mapper or of a veritytab, or a mount point on one; for an image give its \
         tree, too: --hash HASH --root-hash ROOT",
    )
}
