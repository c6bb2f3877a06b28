//! `veritrail verity dump`

use std::io::Write;
use std::path::PathBuf;

use block::verity::Layout;
use clap::Args;

use super::device::Device;
use super::options::{Options, unusable};
use super::report::{Header, write_header, write_json};
use crate::outcome::{Failure, Kind, Outcome};

/// Show on-disk information
///
/// Reads the superblock only, and needs no root hash. With --fec-device also says what is covered and
/// where the parity lies; no superblock says so.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:
  veritrail verity dump root.hash
  veritrail verity dump image.img --hash-offset 1073741824 --json",
    disable_help_flag = true,
    args_override_self = true
)]
pub(crate) struct DumpArgs {
    /// Device with the superblock
    #[arg(value_name = "hash_device")]
    hash_device: PathBuf,
    /// Print one JSON object instead (not in veritysetup)
    #[arg(long)]
    json: bool,
}

pub(super) fn run(
    args: &DumpArgs,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Outcome, Failure> {
    if !options.area().superblock {
        return Err(Failure::new(
            Kind::Usage,
            "dump shows the superblock; --no-superblock leaves none",
        ));
    }
    let hash = Device::open(&args.hash_device)?;
    let superblock = options.superblock(&hash)?;
    let layout = Layout::new(&superblock.params, options.area()).map_err(unusable)?;
    let fec = options.fec.open(Device::open, None, &hash, &layout)?;
    let uuid = Some(superblock.uuid);
    if args.json {
        write_json(
            out,
            &Header::new(&args.hash_device, uuid, &superblock.params, &layout, fec.as_ref(), None),
        )?;
    } else {
        write_header(
            out,
            &args.hash_device,
            uuid,
            &superblock.params,
            &layout,
            fec.as_ref(),
            None,
        )?;
    }
    Ok(Outcome::Good)
}
