//! What sysfs says of a block device: what it is made of, and what is made of it.
//!
//! ```text
//! /sys/dev/block/254:0 -> ../../devices/virtual/block/dm-0
//!   size  ro  diskseq  holders/  slaves/  dm/{name,uuid}  loop/{backing_file,offset}
//!   dm-0p1/{partition,start,size,dev}
//! ```
//!
//! A device may vanish at any moment, which is `NotFound`. Names of mapped devices and of backing
//! files are somebody else's bytes.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::{fs, fs::File};

use crate::mountinfo::device_pair;
use crate::text::decimal;

/// Major and minor.
pub type Number = (u32, u32);

/// The unit of sysfs, whatever the device's own blocks are.
const SECTOR: u64 = 512;

/// What a block device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDevice {
    /// Its number.
    pub number: Number,
    /// The kernel's name, as in `/sys/block` (a `/` in it is a `!` there): `dm-0`, `loop0p1`.
    pub name: OsString,
    /// Bytes.
    pub size: u64,
    /// Whether it takes no writes.
    pub read_only: bool,
    /// Tells two lives of the same number apart (since Linux 5.15); of a partition its disk's.
    pub diskseq: Option<u64>,
    /// What it is made of.
    pub kind: Kind,
    /// The devices that it lies on, as its driver says: of a mapped device or an array.
    pub slaves: Vec<Number>,
    /// The devices that lie on it, without partitions.
    pub holders: Vec<Number>,
    /// Its partitions.
    pub partitions: Vec<Number>,
}

/// What a block device is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A part of another one.
    Partition {
        /// The whole.
        disk: Number,
        /// Where on it, in bytes.
        start: u64,
    },
    /// A file, as long as it is attached to one.
    Loop(Option<Backing>),
    /// A table of the device mapper.
    Mapped {
        /// The name it was given.
        name: Vec<u8>,
        /// The uuid it was given; often empty.
        uuid: Vec<u8>,
    },
    /// Anything else.
    Other,
}

/// What a loop device is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// The file, as the kernel names it now, seen from the mount namespace of whoever attached it;
    /// with ` (deleted)` behind it once it is.
    pub file: PathBuf,
    /// Where in the file the device begins, in bytes.
    pub offset: u64,
}

impl BlockDevice {
    /// Reads what sysfs says of the device with this number.
    ///
    /// # Errors
    /// `NotFound` where there is none (any more), else what sysfs answered.
    pub fn read(number: Number) -> io::Result<BlockDevice> {
        let folder = folder(number)?;
        let name = folder.file_name().map(OsStr::to_owned).ok_or(io::ErrorKind::NotFound)?;
        let sectors = |file: &str| Ok::<_, io::Error>(number_in(&folder, file)? * SECTOR);
        let size = number_in(&folder, "size")?.saturating_mul(SECTOR);
        let disk = folder.parent().unwrap_or(&folder);
        let is_partition = folder.join("partition").exists();
        let whole = if is_partition { disk } else { &folder };
        let kind = if is_partition {
            Kind::Partition { disk: device_of(disk)?, start: sectors("start")? }
        } else if let Some(name) = optional(line(&folder, "dm/name"))? {
            Kind::Mapped { name, uuid: optional(line(&folder, "dm/uuid"))?.unwrap_or_default() }
        } else if name.as_bytes().starts_with(b"loop") {
            Kind::Loop(backing(&folder)?)
        } else {
            Kind::Other
        };
        Ok(BlockDevice {
            number,
            size,
            read_only: number_in(&folder, "ro")? != 0,
            diskseq: optional(number_in(whole, "diskseq"))?,
            kind,
            slaves: links(&folder.join("slaves"))?,
            holders: links(&folder.join("holders"))?,
            partitions: partitions(&folder)?,
            name,
        })
    }

    /// Where its node is, if udev or devtmpfs made one where it belongs. Whoever opens it has to
    /// see by [`crate::device::identity`] whether it is the device.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        let name: Vec<u8> =
            self.name.as_bytes().iter().map(|b| if *b == b'!' { b'/' } else { *b }).collect();
        Path::new("/dev").join(OsStr::from_bytes(&name))
    }
}

/// The numbers of all block devices.
///
/// # Errors
/// Where sysfs cannot be read.
pub fn all() -> io::Result<Vec<Number>> {
    let names = fs::read_dir("/sys/dev/block")?.map(|entry| Ok(entry?.file_name()));
    let names: Vec<OsString> = names.collect::<io::Result<_>>()?;
    let mut numbers: Vec<Number> =
        names.iter().filter_map(|name| device_pair(name.as_bytes())).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The number of the device that the kernel's log names so: `sda2`, `dm-0`, `cciss/c0d0`.
///
/// # Errors
/// `NotFound` where there is none, else what sysfs answered.
pub fn named(name: &[u8]) -> io::Result<Number> {
    let name: Vec<u8> = name.iter().map(|b| if *b == b'/' { b'!' } else { *b }).collect();
    if name.is_empty() || name.starts_with(b".") || name.contains(&0) {
        return Err(io::ErrorKind::NotFound.into());
    }
    device_of(&Path::new("/sys/class/block").join(OsStr::from_bytes(&name)))
}

/// What tells two lives of the same number apart, see [`BlockDevice::diskseq`]; `None` where there is no
/// such device or it has none. Of a partition it is not asked here.
#[must_use]
pub fn life((major, minor): Number) -> Option<u64> {
    number_in(Path::new(&format!("/sys/dev/block/{major}:{minor}")), "diskseq").ok()
}

fn folder((major, minor): Number) -> io::Result<PathBuf> {
    fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"))
}

/// A small file's text without the kernel's own line feed.
fn line(folder: &Path, file: &str) -> io::Result<Vec<u8>> {
    // A path is the longest of them.
    const ENOUGH: u64 = 64 << 10;
    let mut text = Vec::new();
    File::open(folder.join(file))?.take(ENOUGH).read_to_end(&mut text)?;
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    Ok(text)
}

fn number_in(folder: &Path, file: &str) -> io::Result<u64> {
    decimal(&line(folder, file)?).ok_or_else(|| other_form(&folder.join(file)))
}

fn device_of(folder: &Path) -> io::Result<Number> {
    device_pair(&line(folder, "dev")?).ok_or_else(|| other_form(&folder.join("dev")))
}

fn other_form(file: &Path) -> io::Error {
    let what = format!("{}: text of an unknown form", file.display());
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// What another kind of device, or an older kernel, does not have.
fn optional<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

fn backing(folder: &Path) -> io::Result<Option<Backing>> {
    let Some(file) = optional(line(folder, "loop/backing_file"))? else { return Ok(None) };
    let offset = optional(number_in(folder, "loop/offset"))?.unwrap_or(0);
    Ok(Some(Backing { file: PathBuf::from(OsString::from_vec(file)), offset }))
}

/// The devices that a folder of links leads to, in order.
fn links(folder: &Path) -> io::Result<Vec<Number>> {
    let Some(entries) = optional(fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut numbers = Vec::new();
    for entry in entries {
        // One that vanishes meanwhile is no holder any more.
        numbers.extend(optional(device_of(&entry?.path()))?);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn partitions(folder: &Path) -> io::Result<Vec<Number>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.join("partition").exists() {
            numbers.extend(optional(device_of(&path))?);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there() {
        let error = BlockDevice::read((4095, 1 << 19)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        for name in [&b""[..], b".", b"..", b"../block/loop0", b"loop0\0", b"no such"] {
            let error = named(name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn every_device_of_this_machine_is_read() {
        for number in all().unwrap() {
            let device = BlockDevice::read(number).unwrap();
            assert_eq!(device.number, number);
            assert_eq!(named(device.name.as_bytes()).unwrap(), number);
            for part in &device.partitions {
                let part = BlockDevice::read(*part).unwrap();
                assert!(matches!(part.kind, Kind::Partition { disk, .. } if disk == number));
            }
        }
    }
}
