//! An image that exists, as the command line names it.

use std::path::{Path, PathBuf};

use ::signature::Trusted;
use block::fec::Corrector;
use block::verity::{Device as Verity, Digest, Layout, Volume};
use clap::Args;

use super::device::Device;
use super::fec::Fec;
use super::options::{self, Image, Options};
use super::signature;
use crate::outcome::Failure;

/// The operands of every verb that reads an image.
#[derive(Debug, Args)]
pub(super) struct Operands {
    /// Device with the data
    #[arg(value_name = "data_device")]
    pub(super) data_device: PathBuf,
    /// Device with the tree
    #[arg(value_name = "hash_device")]
    pub(super) hash_device: PathBuf,
    /// The root hash, unless --root-hash-file gives it
    #[arg(value_name = "root_hash")]
    pub(super) root_hash: Option<String>,
}

/// An image whose devices are open, and whose parameters and root hash are known.
pub(super) struct Opened {
    pub(super) data: Device,
    pub(super) hash: Device,
    /// If there is error correction.
    pub(super) fec: Option<Fec>,
    pub(super) image: Image,
    pub(super) root: Digest,
    /// Who signed the root hash, if a signature is given.
    pub(super) signer: Option<Box<Trusted>>,
    pub(super) layout: Layout,
}

impl Operands {
    /// Opens the image for reading only.
    pub(super) fn open(&self, options: &Options) -> Result<Opened, Failure> {
        Opened::new(
            Device::open(&self.data_device)?,
            Device::open(&self.hash_device)?,
            Device::open,
            options,
            self.root_hash.as_deref(),
        )
    }

    /// Opens data and tree for writing, too.
    pub(super) fn open_to_write(&self, options: &Options) -> Result<Opened, Failure> {
        Opened::new(
            Device::open_to_write(&self.data_device)?,
            Device::open_to_write(&self.hash_device)?,
            Device::open,
            options,
            self.root_hash.as_deref(),
        )
    }
}

impl Opened {
    /// Finds out how an image was made, whether its root hash is vouched for as was asked, and
    /// whether its parts go together; `open` opens the device with error correction data, if one is
    /// given.
    pub(super) fn new(
        data: Device,
        hash: Device,
        open: impl FnOnce(&Path) -> Result<Device, Failure>,
        options: &Options,
        root_operand: Option<&str>,
    ) -> Result<Opened, Failure> {
        let image = options.image(&data, &hash)?;
        let root = options.root(root_operand, &image.params)?;
        let signer = signature::check(&options.signature, &root)?;
        let layout = Layout::new(&image.params, image.area).map_err(options::unusable)?;
        options::check_place(&layout, &data, &hash)?;
        let fec = options.fec.open(open, Some(&data), &hash, &layout)?;
        Ok(Opened { data, hash, fec, image, root, signer, layout })
    }

    /// What can be verified.
    pub(super) fn volume(&self) -> Result<Volume<&Device, &Device>, Failure> {
        self.volume_under(&self.root)
    }

    /// The same, to be read with error correction, if there is any.
    pub(super) fn correcting(&self) -> Result<Option<Verity<&Device, &Device>>, Failure> {
        let Some(fec) = &self.fec else { return Ok(None) };
        let corrector = Corrector::new(fec.area.clone(), &fec.device);
        Ok(Some(Verity::new(self.volume()?).with_correction(corrector)))
    }

    /// The same under another root hash.
    pub(super) fn volume_under(&self, root: &Digest) -> Result<Volume<&Device, &Device>, Failure> {
        options::volume(&self.data, &self.hash, &self.image, root)
    }
}
