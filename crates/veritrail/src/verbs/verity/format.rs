//! `veritrail verity format`

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use block::verity::{self, Digest, FormatError, Layout, ParamError, Params, Salt};
use clap::Args;

use super::device::Device;
use super::options::{Options, check_place, unusable};
use super::report::{Header, Progress, write_header, write_json};
use crate::outcome::{Failure, Kind, Outcome};

/// Format device
///
/// Writes the hash tree over DATA to HASH (which is made if it does not exist) and prints the
/// root hash. Whoever verifies needs that root hash from a place that can be trusted.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:
  veritrail verity format root.img root.hash --root-hash-file root.roothash
  veritrail verity format image.img image.img --data-blocks 256 --hash-offset 1048576",
    disable_help_flag = true,
    args_override_self = true
)]
pub(crate) struct FormatArgs {
    /// Device with the data, only read
    #[arg(value_name = "data_device")]
    data_device: PathBuf,
    /// Device that gets the tree
    #[arg(value_name = "hash_device")]
    hash_device: PathBuf,
    /// Print one JSON object instead (not in veritysetup)
    #[arg(long)]
    json: bool,
}

pub(super) fn run(
    args: &FormatArgs,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Outcome, Failure> {
    let data = Device::open(&args.data_device)?;
    let params = options.params(&data, random_salt)?;
    let uuid = options.area().superblock.then(|| options.uuid()).transpose()?;
    let layout = Layout::new(&params, options.area()).map_err(unusable)?;
    check_data(&params, &layout, data.bytes()?)?;
    // Only now: a mistake in the options must not leave an empty file behind.
    let hash = Device::create(&args.hash_device)?;
    check_place(&layout, &data, &hash)?;
    warn_about_pages(&params);

    let progress = Progress::new(&layout);
    let root = verity::format(
        &data,
        &hash,
        &params,
        &layout,
        uuid.unwrap_or_default(),
        options.threads(),
        &mut |done| progress.set(done),
    );
    progress.finish();
    let root = root.map_err(|error| {
        let (device, kind) = match error {
            FormatError::Read { .. } | FormatError::Shrunk { .. } => (&args.data_device, Kind::Io),
            FormatError::Write(_) => (&args.hash_device, Kind::Io),
        };
        Failure::new(kind, format!("cannot format with {}", device.display())).because(error)
    })?;

    let printed = if args.json {
        write_json(out, &Header::new(&args.hash_device, uuid, &params, &layout, Some(&root)))
    } else {
        write_header(out, &args.hash_device, uuid, &params, &layout, Some(&root))
    };
    // The root hash stands nowhere else: neither of the two may keep it from the other.
    if let Some(path) = &options.root_hash_file {
        save_root(path, &root).map_err(|error| {
            Failure::new(Kind::Io, format!("cannot write root hash file {}", path.display()))
                .because(error)
                .hint("the image is good; the root hash is the one printed")
        })?;
    }
    printed?;
    Ok(Outcome::Good)
}

fn check_data(params: &Params, layout: &Layout, size: u64) -> Result<(), Failure> {
    if layout.data_bytes() > size {
        return Err(unusable(ParamError::DataTooSmall {
            wanted: params.data_blocks,
            block_size: params.data_block_size,
            size,
        }));
    }
    Ok(())
}

fn random_salt() -> Result<Salt, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(Kind::Environment, "cannot get random bytes for the salt").because(error)
    })?;
    Salt::new(&bytes).map_err(unusable)
}

fn warn_about_pages(params: &Params) {
    let page = rustix::param::page_size();
    if params.data_block_size.as_usize() > page {
        // Standard error may be closed; the image is good all the same.
        let _ = writeln!(
            io::stderr(),
            "WARNING: Kernel cannot activate device if data block size exceeds page size ({page})."
        );
    }
}

/// Digits without a newline, as veritysetup has it.
fn save_root(path: &Path, root: &Digest) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    write!(file, "{root}")?;
    file.sync_all()
}
