//! `veritrail verity cat`

use std::io::{self, Write};
use std::path::PathBuf;

use block::verity::{Device as Verity, ReadError, Refused};
use clap::Args;
use record::place::DeviceId;
use record::units::DataBlock;

use super::device::Device;
use super::options::{self, Options};
use super::records::{self, Records};
use super::report::sentence;
use crate::outcome::{Failure, Kind, Outcome};

/// Stream verified data to standard output (not in veritysetup)
///
/// Not a byte that was not verified is written; stops with exit status 1 at the first block that
/// is not what the root hash promises.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:
  veritrail verity cat root.img root.hash 4e6969b4...2053 | mount-somewhere
  veritrail verity cat root.img root.hash --root-hash-file root.roothash > copy.img",
    disable_help_flag = true
)]
pub(crate) struct CatArgs {
    /// Device with the data
    #[arg(value_name = "data_device")]
    data_device: PathBuf,
    /// Device with the tree
    #[arg(value_name = "hash_device")]
    hash_device: PathBuf,
    /// The root hash, unless --root-hash-file gives it
    #[arg(value_name = "root_hash")]
    root_hash: Option<String>,
}

/// Bytes asked for at once.
const REQUEST: usize = 1024 * 1024;

pub(super) fn run(
    args: &CatArgs,
    options: &Options,
    out: &mut dyn Write,
    records: &mut dyn Records,
) -> Result<Outcome, Failure> {
    let (data, hash) = (Device::open(&args.data_device)?, Device::open(&args.hash_device)?);
    let image = options.image(&data, &hash)?;
    let root = options.root(args.root_hash.as_deref(), &image.params)?;
    let device = Verity::new(options::open(&data, &hash, &image, &root)?);

    let size = device.layout().data_block_size().as_usize();
    let blocks = device.layout().data_blocks();
    let mut buf = vec![0; REQUEST.max(size)];
    let mut at = 0;
    while at < blocks {
        let room = usize::try_from(blocks - at)
            .map_or(buf.len(), |left| left.saturating_mul(size).min(buf.len()));
        match device.read(DataBlock(at), &mut buf[..room]) {
            Ok(()) => {
                out.write_all(&buf[..room])?;
                at += (room / size) as u64;
            }
            Err(ReadError::Refused(refused)) => {
                // What precedes the bad block in this request is good; it is asked for again, so
                // that only verified bytes leave.
                let good = usize::try_from(refused.block.0 - at).unwrap_or(0) * size;
                if good > 0 {
                    device.read(DataBlock(at), &mut buf[..good]).map_err(failure)?;
                    out.write_all(&buf[..good])?;
                }
                return refuse(&refused, &device, args, records);
            }
            Err(error) => return Err(failure(error)),
        }
    }
    Ok(Outcome::Good)
}

fn refuse<D: block::ReadAt, H: block::ReadAt>(
    refused: &Refused,
    device: &Verity<D, H>,
    args: &CatArgs,
    records: &mut dyn Records,
) -> Result<Outcome, Failure> {
    let layout = device.layout();
    // Standard error may be closed; the exit status says it too.
    let _ = writeln!(
        io::stderr(),
        "veritrail: stopped before data block {}: {}",
        refused.block,
        sentence(&refused.finding, layout, &args.data_device, &args.hash_device)
    );
    let violations = refused.violations(DeviceId::Unserved, DeviceId::Unserved);
    records::write(records, violations, &refused.finding, layout)?;
    Ok(Outcome::No)
}

fn failure(error: ReadError) -> Failure {
    Failure::new(Kind::Io, "cannot go on").because(error)
}
