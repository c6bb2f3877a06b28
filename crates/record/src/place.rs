//! Where something happened: a device, and a number in the unit that device counts in.

use std::fmt;

use crate::units::{DataBlock, Sector};

/// A device, whichever engine stands behind it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DeviceId {
    /// A block device of the running kernel.
    Kernel {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
        /// `BLKGETDISKSEQ`: tells two lives of the same number apart. 0 where unknown.
        diskseq: u64,
    },
    /// A device that a veritrail device server exports as a file.
    Served {
        /// The name given at `open`.
        name: String,
        /// `st_dev` of its mount, as major and minor.
        instance: (u32, u32),
    },
    /// No device at all: `verify`, `cat` and `demo` read files. Prints as `0:0`.
    Unserved,
}

impl fmt::Display for DeviceId {
    /// As the field `dev=` has it: decimal `major:minor`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = match *self {
            DeviceId::Kernel { major, minor, .. } => (major, minor),
            DeviceId::Served { instance, .. } => instance,
            DeviceId::Unserved => (0, 0),
        };
        write!(f, "{major}:{minor}")
    }
}

/// What the number in a record's `sector=` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Position {
    /// dm-verity reports its data block.
    DataBlock(DataBlock),
    /// dm-integrity and dm-crypt report a 512-byte sector of the mapped device.
    Sector(Sector),
    /// The event concerns the device as a whole, `sector=?`.
    Whole,
}

impl fmt::Display for Position {
    /// As the field `sector=` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::DataBlock(block) => block.fmt(f),
            Position::Sector(sector) => sector.fmt(f),
            Position::Whole => f.write_str("?"),
        }
    }
}

/// A device and a position on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The device that the record names, which for dm-verity is the data device.
    pub device: DeviceId,
    /// Where on it.
    pub position: Position,
}
