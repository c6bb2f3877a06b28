//! `veritrail verity format`

use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use block::fec::{self, CoverError, EncodeError};
use block::verity::{self, Digest, FormatError, Layout, ParamError, Params, Salt};
use clap::Args;

use super::device::Device;
use super::fec::Fec;
use super::options::{Options, check_place, unusable};
use super::report::{Header, Progress, write_header, write_json};
use crate::outcome::{Failure, Kind, Outcome};

/// Format device
///
/// Writes the hash tree over DATA to HASH (which is made if it does not exist) and prints the
/// root hash. Whoever verifies needs that root hash from a place that can be trusted. With
/// --fec-device also writes parity by which bad blocks of both can be made good again.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:
  veritrail verity format root.img root.hash --root-hash-file root.roothash
  veritrail verity format image.img image.img --data-blocks 256 --hash-offset 1048576
  veritrail verity format root.img root.hash --fec-device root.fec --fec-roots 24",
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
    options.fec.check(&layout)?;
    // Only now: a mistake in the options must not leave an empty file behind.
    let made = Made::default();
    let hash = made.create(&args.hash_device)?;
    check_place(&layout, &data, &hash)?;
    let fec = options.fec.open(|path| made.create(path), Some(&data), &hash, &layout)?;
    if let Some(fec) = &fec {
        check_covered(fec, &layout, &hash)?;
    }
    made.keep();
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

    if let Some(fec) = &fec {
        encode(&data, &hash, fec, options)?;
    }

    let (fec, root_hash) = (fec.as_ref(), Some(&root));
    let printed = if args.json {
        write_json(out, &Header::new(&args.hash_device, uuid, &params, &layout, fec, root_hash))
    } else {
        write_header(out, &args.hash_device, uuid, &params, &layout, fec, root_hash)
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

/// Files that were made for this and go again if it comes to nothing.
#[derive(Default)]
struct Made(RefCell<Vec<PathBuf>>);

impl Made {
    fn create(&self, path: &Path) -> Result<Device, Failure> {
        let is_new = fs::symlink_metadata(path).is_err();
        let device = Device::create(path)?;
        if is_new {
            self.0.borrow_mut().push(path.to_owned());
        }
        Ok(device)
    }

    fn keep(self) {
        self.0.take();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.get_mut() {
            // An empty file more is no harm.
            let _ = fs::remove_file(path);
        }
    }
}

/// Refuses a gap between the end of a hash device and parity behind it.
fn check_covered(fec: &Fec, layout: &Layout, hash: &Device) -> Result<(), Failure> {
    let (covered, size) = (fec.area.covered_hash_bytes(), hash.bytes()?);
    let end = size.max(layout.tree_bytes().end);
    if covered.end <= end || covered.is_empty() {
        return Ok(());
    }
    let (hash, offset) = (hash.path().display(), fec.area.offset());
    let message = format!(
        "FEC at byte {offset} covers all of {hash} before it, which will end at byte {end}"
    );
    Err(Failure::new(Kind::Unusable, message).hint(format!("--fec-offset {end} leaves no gap")))
}

fn encode(data: &Device, hash: &Device, fec: &Fec, options: &Options) -> Result<(), Failure> {
    let size = u64::from(fec.area.block_size().bytes());
    let progress = Progress::of_bytes(fec.area.covered() * size);
    let encoded = fec::encode(data, hash, &fec.device, &fec.area, options.threads(), &mut |done| {
        progress.set(done);
    });
    progress.finish();
    encoded.map_err(|error| {
        let device = match error {
            EncodeError::Write(_) => &fec.device,
            EncodeError::Read(
                CoverError::Read { role: "data", .. } | CoverError::Shrunk { role: "data", .. },
            ) => data,
            EncodeError::Read(_) => hash,
        };
        let what = format!("cannot make error correction data with {}", device.path().display());
        Failure::new(Kind::Io, what).because(error).hint("the tree is good, only FEC is missing")
    })
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
