//! Where error correction data is, and what it covers.

use std::path::{Path, PathBuf};

use block::fec::{Area, AreaError, Roots};
use block::verity::Layout;
use clap::Args;

use super::device::Device;
use crate::outcome::{Failure, Kind};

/// The options of `veritysetup` about error correction.
#[derive(Debug, Args)]
pub(super) struct FecOptions {
    /// Path to device with error correction data
    #[arg(long = "fec-device", global = true, value_name = "path")]
    device: Option<PathBuf>,
    /// Starting offset on the FEC device
    #[arg(long = "fec-offset", global = true, value_name = "bytes", default_value_t = 0)]
    offset: u64,
    /// FEC parity bytes (2 to 24)
    #[arg(
        long = "fec-roots", global = true, value_name = "bytes",
        default_value_t = Roots::DEFAULT.get().into()
    )]
    roots: u64,
}

/// A device with error correction data, and where it is on it.
pub(super) struct Fec {
    pub(super) device: Device,
    pub(super) area: Area,
    /// Where what is covered of the hash device ends, in bytes.
    pub(super) covered_end: u64,
    /// Whether the tree is on the same device, before it.
    pub(super) behind_the_tree: bool,
}

impl FecOptions {
    /// Refuses what could not be right on any device.
    pub(super) fn check(&self, layout: &Layout) -> Result<(), Failure> {
        if self.device.is_some() {
            self.area(layout, layout.tree_bytes().end)?;
        }
        Ok(())
    }

    /// Opens the device, if one is given, and lays the area out on it. Without `data` nobody asks
    /// whether it lies in the data.
    pub(super) fn open(
        &self,
        open: impl FnOnce(&Path) -> Result<Device, Failure>,
        data: Option<&Device>,
        hash: &Device,
        layout: &Layout,
    ) -> Result<Option<Fec>, Failure> {
        self.check(layout)?;
        let Some(path) = &self.device else { return Ok(None) };
        let device = open(path)?;
        let behind_the_tree = device.is_same_as(hash)?;
        let covered_end = if behind_the_tree {
            self.offset
        } else {
            // As it is, or will be when the tree is made.
            hash.bytes()?.max(layout.tree_bytes().end)
        };
        let area = self.area(layout, covered_end)?;
        let with_the_data = data.map(|data| device.is_same_as(data)).transpose()?.unwrap_or(false);
        let taken = [
            ("data", with_the_data, 0..layout.data_bytes()),
            ("hash", behind_the_tree, layout.hash_bytes()),
        ];
        for (what, same, bytes) in taken {
            if same {
                area.check_beside(what, &bytes).map_err(failure)?;
            }
        }
        Ok(Some(Fec { device, area, covered_end, behind_the_tree }))
    }

    fn area(&self, layout: &Layout, covered_end: u64) -> Result<Area, Failure> {
        Area::new(layout, self.roots, self.offset, covered_end).map_err(failure)
    }
}

impl Fec {
    /// Bytes that the parity takes.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = self.area.bytes();
        bytes.end - bytes.start
    }
}

fn failure(error: AreaError) -> Failure {
    let (kind, hint) = match error {
        AreaError::Roots { .. } => (Kind::Usage, "--fec-roots has their number"),
        AreaError::Offset { .. } => (Kind::Usage, "--fec-offset is in bytes"),
        AreaError::BlockSizes { .. } => (
            Kind::Usage,
            "format with one --data-block-size and --hash-block-size, or leave --fec-device out",
        ),
        AreaError::TreeNotCovered { .. } | AreaError::Overlap { .. } => (
            Kind::Unusable,
            "on one device FEC data lies behind data and tree; --fec-offset says where it begins",
        ),
        AreaError::TooLarge => (Kind::Unusable, "--fec-offset says where it begins"),
    };
    Failure::new(kind, error.to_string()).hint(hint)
}
