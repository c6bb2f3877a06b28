//! What verifies a device that is opened: the kernel's dm-verity or our own engine.

use block::verity::{Layout, OnCorruption, Table};
use clap::ValueEnum;
use host::dm::Control;

use super::device::Device;
use super::fec::Fec;
use super::open::OpenArgs;
use super::options::{self, Options};
use super::signature;
use crate::mapped::{self, Opening};
use crate::outcome::{Failure, Kind};

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Backend {
    /// The kernel where it has dm-verity, we are root and nothing is asked for that only the other
    /// one has; else our own engine
    #[default]
    Auto,
    /// The kernel's device mapper: /dev/mapper/NAME
    Kernel,
    /// Veritrail's own engine: a file, with a record of every failing read and its reader
    User,
}

impl Backend {
    /// The device mapper, if it is the one that verifies.
    ///
    /// # Errors
    /// [`Kind::Usage`] where the kernel is wanted and has not what else is asked for,
    /// [`Kind::Environment`] where it is wanted and not there.
    pub(super) fn choose(self, only_user: Option<&str>) -> Result<Option<Control>, Failure> {
        match (self, only_user) {
            (Backend::User, _) | (Backend::Auto, Some(_)) => Ok(None),
            (Backend::Auto, None) if !rustix::process::geteuid().is_root() => Ok(None),
            (Backend::Auto, None) => Ok(mapped::verity().ok()),
            (Backend::Kernel, None) => mapped::verity().map(Some),
            (Backend::Kernel, Some(option)) => {
                Err(Failure::new(Kind::Usage, format!("{option} is for --backend user"))
                    .because("a device of the kernel's has no process of ours behind it")
                    .hint("`veritrail agent` records what happens to the kernel's devices"))
            }
        }
    }
}

/// From the command line to what the kernel is told. What its constructor judges is left to it, so
/// that a refusal is in its records; what it does not look at (the superblock, whether the parts go
/// together) is judged here.
pub(super) fn opening(args: &OpenArgs, options: &Options) -> Result<Opening, Failure> {
    let data = Device::open(&args.data_device)?;
    let hash = Device::open(&args.hash_device)?;
    let image = options.image(&data, &hash)?;
    let root = options.root_of_any_length(args.root_hash.as_deref(), &image.params)?;
    let signature = signature::for_kernel(&options.signature, &root)?;
    let layout = Layout::new(&image.params, image.area).map_err(options::unusable)?;
    options::check_place(&layout, &data, &hash)?;
    let fec = options.fec.open(Device::open, Some(&data), &hash, &layout)?;
    let on_corruption = if args.ignore_corruption {
        OnCorruption::Ignore
    } else if args.restart_on_corruption {
        OnCorruption::Restart
    } else if args.panic_on_corruption {
        OnCorruption::Panic
    } else {
        OnCorruption::Fail
    };
    let params = image.params;
    Ok(Opening {
        name: args.name.clone(),
        uuid: image.uuid,
        table: Table {
            hash_type: params.hash_type,
            // Numbers, once files have become loop devices.
            data_device: String::new(),
            hash_device: String::new(),
            data_block_size: params.data_block_size,
            hash_block_size: params.hash_block_size,
            data_blocks: params.data_blocks,
            hash_start: params.hash_block_size.whole_blocks(layout.tree_bytes().start),
            algorithm: params.hash.to_string(),
            root_hash: root,
            salt: params.salt,
            on_corruption,
            ignore_zero_blocks: args.ignore_zero_blocks,
            check_at_most_once: args.check_at_most_once,
            try_verify_in_tasklet: args.use_tasklets,
            fec: None,
            signature_key: None,
            others: Vec::new(),
        },
        sectors: layout.data_bytes() / 512,
        fec: fec.map(kernel_fec).transpose()?,
        signature,
        data,
        hash,
    })
}

fn kernel_fec(fec: Fec) -> Result<mapped::Fec, Failure> {
    let Fec { device, area, .. } = fec;
    let size = area.block_size();
    if !area.offset().is_multiple_of(size.bytes().into()) {
        let odd = format!("--fec-offset is {}, and no multiple of {size}", area.offset());
        return Err(Failure::new(Kind::Usage, odd)
            .because("the kernel counts the place of error correction data in blocks")
            .hint("--backend user takes any multiple of 512"));
    }
    Ok(mapped::Fec {
        blocks: area.covered(),
        start: size.whole_blocks(area.offset()),
        roots: area.roots().get().into(),
        device,
    })
}
