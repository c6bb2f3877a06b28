//! How a device of the kernel's is made.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use block::verity::{FecTable, Table};
use host::device::Identity;
use host::dm::{Control, Target, node};
use host::loop_device::{self, Loop};
use rustix::io::Errno;
use uuid::Uuid;

use super::refusal::Listening;
use crate::outcome::{Failure, Kind};
use crate::served::Name;
use crate::verbs::verity::Device;

/// Everything that is decided before the kernel is asked.
pub(crate) struct Opening {
    pub(crate) name: Name,
    /// The image's own; none without a superblock.
    pub(crate) uuid: Option<Uuid>,
    pub(crate) data: Device,
    pub(crate) hash: Device,
    pub(crate) fec: Option<Fec>,
    /// What the kernel is told, but for its devices.
    pub(crate) table: Table,
    /// Size of the device, in 512-byte sectors.
    pub(crate) sectors: u64,
    /// For the kernel to judge.
    pub(crate) signature: Option<Vec<u8>>,
}

/// Error correction: where, and the numbers of the table, in blocks.
pub(crate) struct Fec {
    pub(crate) device: Device,
    pub(crate) blocks: u64,
    pub(crate) start: u64,
    pub(crate) roots: u64,
}

impl Opening {
    /// Makes the device and gives its path. Where that fails, nothing of it stays.
    pub(crate) fn open(mut self, control: &Control) -> Result<PathBuf, Failure> {
        let name = self.name.as_str().to_owned();
        if control.find(name.as_bytes()).map_err(super::cannot_ask)?.is_some() {
            return Err(taken(&name));
        }
        // Open until the kernel has them in its table: then they are the table's.
        let mut backings = Backings(Vec::new());
        self.table.data_device = backings.number(&self.data)?;
        self.table.hash_device = backings.number(&self.hash)?;
        if let Some(Fec { device, blocks, start, roots }) = &self.fec {
            let (blocks, start, roots) = (*blocks, *start, *roots);
            let device = backings.number(device)?;
            self.table.fec = Some(FecTable { device, blocks, start, roots });
        }
        if let Some(signature) = &self.signature {
            let key = self.key_description();
            host::keyring::add_user_key(&key, signature).map_err(|error| {
                Failure::new(Kind::Io, "cannot hand the signature to the kernel as a key")
                    .because(error)
            })?;
            self.table.signature_key = Some(key);
        }
        let target = Target {
            start: 0,
            length: self.sectors,
            kind: "verity".to_owned(),
            params: self.table.to_string().into_bytes(),
        };
        let made = Made::new(control, &name, self.uuid())?;
        let listening = Listening::begin();
        if let Err(error) =
            control.load(made.number, &[target], true).and_then(|()| control.resume(made.number))
        {
            return Err(listening.failure(&name, made.number, error));
        }
        let path = node::appear(name.as_bytes(), made.number).map_err(|error| {
            let what = format!("cannot make {}", node::path(name.as_bytes()).display());
            Failure::new(Kind::Io, what).because(error)
        })?;
        made.keep();
        Ok(path)
    }

    /// As libcryptsetup makes it (`dm_prepare_uuid`), which knows its own devices by it. Without room for
    /// all of it, its end is missing there, too.
    fn uuid(&self) -> String {
        let name = self.name.as_str();
        let mut uuid = match &self.uuid {
            Some(uuid) => format!("CRYPT-VERITY-{}-{name}", uuid.simple()),
            None => format!("CRYPT-VERITY-{name}"),
        };
        uuid.truncate(LONGEST_UUID);
        uuid
    }

    /// As libcryptsetup calls it.
    fn key_description(&self) -> String {
        match &self.uuid {
            Some(uuid) => format!("cryptsetup:{uuid}-{}", self.name.as_str()),
            None => format!("cryptsetup:{}", self.name.as_str()),
        }
    }
}

/// `DM_UUID_LEN` without its NUL; a name has ASCII letters only.
const LONGEST_UUID: usize = 128;

/// Loop devices for files, one for each.
struct Backings(Vec<(Identity, Loop)>);

impl Backings {
    /// The number of a device, as a table has it.
    fn number(&mut self, device: &Device) -> Result<String, Failure> {
        let failed = |error: io::Error| {
            let what = format!("cannot make a loop device of {}", device.path().display());
            Failure::new(Kind::Environment, what)
                .because(error)
                .hint("load the module (modprobe loop), or take --backend user, which needs none")
        };
        let file: &File = device.file();
        let identity = host::device::identity(file).map_err(failed)?;
        if let Identity::Block { device: (major, minor) } = identity {
            return Ok(format!("{major}:{minor}"));
        }
        let known = self.0.iter().position(|(known, _)| *known == identity);
        let at = match known {
            Some(at) => at,
            None => {
                let path = std::path::absolute(device.path()).map_err(failed)?;
                self.0.push((identity, attach(file, &path).map_err(failed)?));
                self.0.len() - 1
            }
        };
        let (major, minor) = self.0[at].1.number();
        Ok(format!("{major}:{minor}"))
    }
}

fn attach(file: &File, path: &Path) -> io::Result<Loop> {
    let options = loop_device::Options { read_only: true, direct_io: false };
    loop_device::attach(file, path, options)
}

/// A device that is removed again unless it is kept.
struct Made<'a> {
    control: &'a Control,
    number: (u32, u32),
    kept: bool,
}

impl<'a> Made<'a> {
    fn new(control: &'a Control, name: &str, uuid: String) -> Result<Self, Failure> {
        let number = control.create(name.as_bytes(), uuid.as_bytes()).map_err(|error| {
            match Errno::from_io_error(&error) {
                Some(Errno::BUSY) => taken(name),
                Some(Errno::PERM | Errno::ACCESS) => {
                    Failure::new(Kind::Environment, format!("cannot make the device {name}"))
                        .because(error)
                        .hint("run with CAP_SYS_ADMIN, or take --backend user")
                }
                _ => {
                    Failure::new(Kind::Io, format!("cannot make the device {name}")).because(error)
                }
            }
        })?;
        Ok(Self { control, number, kept: false })
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // The failure told is the one before.
            let _ = self.control.remove(self.number, true);
        }
    }
}

/// In the words of a served device whose name is taken.
pub(crate) fn taken(name: &str) -> Failure {
    Failure::new(Kind::Usage, format!("Device {name} already exists."))
        .because(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the kernel's device mapper has one of this name, or of this image's UUID and name",
        ))
        .hint(format!("`veritrail verity close {name}` ends it"))
}
