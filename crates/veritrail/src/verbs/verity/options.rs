//! The options of `veritysetup`, and what they mean together.

use std::fs;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use block::ReadAt;
use block::verity::{
    BlockSize, Digest, HashArea, HashName, HashType, Layout, OpenError, ParamError, Params,
    SUPERBLOCK_SIZE, Salt, Superblock, SuperblockError, Volume,
};
use clap::Args;
use uuid::Uuid;

use super::device::Device;
use super::fec::FecOptions;
use super::signature::SignatureOptions;
use crate::outcome::{Failure, Kind};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Format type (1 - normal, 0 - original Chrome OS)
    #[arg(long = "format", global = true, value_name = "number", default_value_t = 1)]
    format_type: u64,
    /// Hash algorithm
    #[arg(long, short = 'h', global = true, value_name = "string", default_value = "sha256")]
    hash: String,
    /// Block size on the data device
    #[arg(long, global = true, value_name = "bytes", default_value_t = BlockSize::DEFAULT.bytes().into())]
    data_block_size: u64,
    /// Block size on the hash device
    #[arg(long, global = true, value_name = "bytes", default_value_t = BlockSize::DEFAULT.bytes().into())]
    hash_block_size: u64,
    /// The number of blocks in the data file; 0 is as many as it has
    #[arg(long, global = true, value_name = "blocks", default_value_t = 0)]
    data_blocks: u64,
    /// Starting offset on the hash device
    #[arg(long, global = true, value_name = "bytes", default_value_t = 0)]
    hash_offset: u64,
    /// Do not use verity superblock
    #[arg(long, global = true)]
    no_superblock: bool,
    /// Salt, - for none (format takes 32 random bytes if nothing is said)
    #[arg(long, short, global = true, value_name = "hex string", allow_hyphen_values = true)]
    salt: Option<String>,
    /// UUID for device to use
    #[arg(long, global = true, value_name = "STRING")]
    uuid: Option<String>,
    /// Path to root hash file
    #[arg(long, global = true, value_name = "STRING")]
    pub(super) root_hash_file: Option<PathBuf>,
    /// Threads that hash, as many as there are processors if nothing is said (not in veritysetup)
    #[arg(long, global = true, value_name = "number")]
    threads: Option<NonZeroUsize>,
    /// Say what went well, too
    #[arg(long, short, global = true)]
    pub(super) verbose: bool,
    /// Be the server that `open` has started
    #[arg(long, global = true, hide = true)]
    pub(super) keeper: bool,
    /// Show debug messages (there are none)
    #[arg(long, global = true, hide = true)]
    debug: bool,
    #[command(flatten)]
    pub(super) fec: FecOptions,
    #[command(flatten)]
    pub(super) signature: SignatureOptions,
}

/// What an image is made with, and where its hash area is.
pub(super) struct Image {
    pub(super) params: Params,
    /// Of the superblock, where there is one.
    pub(super) uuid: Option<Uuid>,
    pub(super) area: HashArea,
}

impl Options {
    pub(super) fn area(&self) -> HashArea {
        HashArea { offset: self.hash_offset, superblock: !self.no_superblock }
    }

    pub(super) fn threads(&self) -> NonZeroUsize {
        self.threads
            .or_else(|| std::thread::available_parallelism().ok())
            .unwrap_or(NonZeroUsize::MIN)
    }

    /// Parameters as the options have them. `salt` is for when none is given.
    pub(super) fn params(
        &self,
        data: &Device,
        salt: impl FnOnce() -> Result<Salt, Failure>,
    ) -> Result<Params, Failure> {
        let data_block_size =
            BlockSize::new("--data-block-size", self.data_block_size).map_err(usage)?;
        let data_blocks = match self.data_blocks {
            0 => {
                let bytes = data.bytes()?;
                match data_block_size.whole_blocks(bytes) {
                    0 => {
                        return Err(Failure::new(
                            Kind::Unusable,
                            format!(
                                "{} has {bytes} bytes, not one data block of {data_block_size}",
                                data.path().display()
                            ),
                        ));
                    }
                    blocks => blocks,
                }
            }
            given => given,
        };
        Ok(Params {
            hash_type: HashType::from_number(self.format_type).map_err(usage)?,
            hash: HashName::parse(&self.hash).map_err(usage)?,
            data_block_size,
            hash_block_size: BlockSize::new("--hash-block-size", self.hash_block_size)
                .map_err(usage)?,
            data_blocks,
            salt: match &self.salt {
                Some(text) => Salt::parse(text).map_err(usage)?,
                None => salt()?,
            },
        })
    }

    /// The UUID given, or a new one.
    pub(super) fn uuid(&self) -> Result<Uuid, Failure> {
        match &self.uuid {
            None => Ok(Uuid::new_v4()),
            Some(text) => Uuid::try_parse(text).map_err(|error| {
                Failure::new(Kind::Usage, format!("--uuid is {text:?}, not a UUID")).because(error)
            }),
        }
    }

    /// How an image that exists was made: as its superblock says, or without one as the options do.
    pub(super) fn image(&self, data: &Device, hash: &Device) -> Result<Image, Failure> {
        let area = self.area();
        let (params, uuid) = if area.superblock {
            let Superblock { params, uuid } = self.superblock(hash)?;
            (params, Some(uuid))
        } else {
            (self.params(data, || Ok(Salt::default()))?, None)
        };
        Ok(Image { params, uuid, area })
    }

    /// The superblock at the hash offset.
    pub(super) fn superblock(&self, hash: &Device) -> Result<Superblock, Failure> {
        let at = format!("byte {} of {}", self.hash_offset, hash.path().display());
        if !self.hash_offset.is_multiple_of(512) {
            return Err(usage(ParamError::HashOffset { found: self.hash_offset }));
        }
        let mut bytes = [0; SUPERBLOCK_SIZE];
        let read = hash.read_full(&mut bytes, self.hash_offset).map_err(|error| {
            Failure::new(Kind::Io, format!("cannot read the superblock at {at}")).because(error)
        })?;
        Superblock::read(&bytes[..read]).map_err(|error| {
            let hint = match error {
                SuperblockError::Magic { .. } | SuperblockError::Short { .. } => {
                    "is it the hash device? a tree that shares its device needs --hash-offset, \
                     one made without a superblock --no-superblock"
                }
                SuperblockError::Algorithm { .. } => {
                    "the superblock is damaged, or its algorithm not one of this program's"
                }
                _ => "the superblock is damaged, or newer than this program",
            };
            Failure::new(Kind::Unusable, format!("no usable superblock at {at}"))
                .because(error)
                .hint(hint)
        })
    }

    /// The root hash: from --root-hash-file, else from the operand.
    pub(super) fn root(&self, operand: Option<&str>, params: &Params) -> Result<Digest, Failure> {
        let root = self.root_of_any_length(operand, params)?;
        let expected = params.hash.algorithm().digest_size();
        if root.as_bytes().len() == expected {
            Ok(root)
        } else {
            Err(self.wrong_root(ParamError::RootLength {
                found: root.as_bytes().len(),
                algorithm: params.hash.algorithm(),
                expected,
            }))
        }
    }

    /// The same, for somebody who judges its length himself.
    pub(super) fn root_of_any_length(
        &self,
        operand: Option<&str>,
        params: &Params,
    ) -> Result<Digest, Failure> {
        let size = params.hash.algorithm().digest_size();
        let digits = match (&self.root_hash_file, operand) {
            (Some(path), _) => read_root(path, 2 * size)?,
            (None, Some(digits)) => digits.to_owned(),
            (None, None) => {
                return Err(Failure::new(Kind::Usage, "no root hash given")
                    .hint("give it as the last operand or by --root-hash-file FILE"));
            }
        };
        Digest::parse(&digits).map_err(|error| self.wrong_root(error))
    }

    fn wrong_root(&self, error: ParamError) -> Failure {
        match &self.root_hash_file {
            Some(path) => unusable(error).hint(format!("it was read from {}", path.display())),
            None => unusable(error),
        }
    }
}

/// As much of the file as a root hash has digits; what follows is not looked at, as in veritysetup.
pub(super) fn read_root(path: &Path, digits: usize) -> Result<String, Failure> {
    let mut text = Vec::new();
    fs::File::open(path).and_then(|file| file.take(digits as u64).read_to_end(&mut text)).map_err(
        |error| {
            Failure::new(Kind::Io, format!("cannot read root hash file {}", path.display()))
                .because(error)
        },
    )?;
    Ok(String::from_utf8_lossy(text.trim_ascii_end()).into_owned())
}

/// Data, tree and root hash together.
pub(super) fn volume<'d>(
    data: &'d Device,
    hash: &'d Device,
    image: &Image,
    root: &Digest,
) -> Result<Volume<&'d Device, &'d Device>, Failure> {
    Volume::open(data, hash, &image.params, image.area, root).map_err(|error| match error {
        OpenError::Params(error) => unusable(error),
        OpenError::Io(error) => {
            let what = format!("cannot tell the size of {}", hash.path().display());
            Failure::new(Kind::Io, what).because(error)
        }
    })
}

/// On one device the tree must not lie in the data.
pub(super) fn check_place(layout: &Layout, data: &Device, hash: &Device) -> Result<(), Failure> {
    if data.is_same_as(hash)? {
        layout.check_one_device().map_err(|error| {
            unusable(error)
                .hint("--data-blocks says where the data ends, --hash-offset where the tree begins")
        })?;
    }
    Ok(())
}

pub(super) fn usage(error: ParamError) -> Failure {
    Failure::new(Kind::Usage, error.to_string())
}

pub(super) fn unusable(error: ParamError) -> Failure {
    Failure::new(Kind::Unusable, error.to_string())
}
