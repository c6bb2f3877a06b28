//! What is served, decided before anything is.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use block::verity::{Digest, HashArea, Layout, Params};
use host::device::Identity;
use record::write::Body;

use super::control::{Descriptors, State, Status};
use super::directory::Name;
use super::recorder::Files;
use super::wire::{self, Setup};
use crate::clock;
use crate::facts::Facts;

/// Everything that is decided before a device is served.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) name: Name,
    pub(crate) data: Source,
    pub(crate) hash: Source,
    pub(crate) fec: Option<(Source, wire::Fec)>,
    pub(crate) params: Params,
    pub(crate) area: HashArea,
    pub(crate) layout: Layout,
    pub(crate) root: Digest,
    pub(crate) signed_by: Option<String>,
    pub(crate) on_corruption: OnCorruption,
    pub(crate) ignore_zero_blocks: bool,
    pub(crate) check_at_most_once: bool,
    pub(crate) direct_io: bool,
    pub(crate) threads: usize,
}

/// A device to read from.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: File,
    /// Absolute: whoever reads a record has another working directory.
    pub(crate) path: PathBuf,
}

/// What happens when a block is not what was promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OnCorruption {
    /// The reader gets EIO.
    Fail,
    /// The reader gets the data.
    Ignore,
    /// A command runs, once the record is durable, and the reader gets EIO.
    Restart(Vec<String>),
    /// The same, for another command.
    Panic(Vec<String>),
}

impl OnCorruption {
    fn word(&self) -> &'static str {
        match self {
            OnCorruption::Fail => "eio",
            OnCorruption::Ignore => "ignore",
            OnCorruption::Restart(_) => "restart",
            OnCorruption::Panic(_) => "panic",
        }
    }

    pub(super) fn command(&self) -> Option<&[String]> {
        match self {
            OnCorruption::Restart(command) | OnCorruption::Panic(command) => Some(command),
            OnCorruption::Fail | OnCorruption::Ignore => None,
        }
    }
}

impl Opening {
    /// As veritysetup's options are called.
    fn flags(&self) -> Vec<String> {
        let mode = match self.on_corruption {
            OnCorruption::Fail => None,
            OnCorruption::Ignore => Some("ignore_corruption"),
            OnCorruption::Restart(_) => Some("restart_on_corruption"),
            OnCorruption::Panic(_) => Some("panic_on_corruption"),
        };
        let zero = self.ignore_zero_blocks.then_some("ignore_zero_blocks");
        let once = self.check_at_most_once.then_some("check_at_most_once");
        [mode, zero, once].into_iter().flatten().map(str::to_owned).collect()
    }

    pub(super) fn files(&self) -> Files {
        Files {
            data: self.data.path.clone(),
            hash: self.hash.path.clone(),
            fec: self.fec.as_ref().map(|(source, _)| source.path.clone()),
        }
    }

    pub(super) fn setup(&self) -> Setup {
        Setup {
            image: wire::Image::new(&self.params, self.area, &self.root),
            // As a device of the device mapper: for root and nobody else.
            mode: 0o400,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            direct_io: self.direct_io,
            threads: self.threads,
            ignore_corruption: self.on_corruption == OnCorruption::Ignore,
            ignore_zero_blocks: self.ignore_zero_blocks,
            check_at_most_once: self.check_at_most_once,
            fec: self.fec.as_ref().map(|(_, fec)| fec.clone()),
        }
    }

    pub(super) fn status(&self, device: &Path, trail: &Path, volume_pid: u32) -> Status {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let loop_of = |source: &Source| {
            let Ok(Identity::Block { device }) = host::device::identity(&source.file) else {
                return None;
            };
            host::device::backing_of_loop(device).ok().flatten().map(|path| text(&path))
        };
        let facts = Facts {
            name: self.name.as_str().to_owned(),
            path: text(device),
            state: State::Active,
            backend: "user".into(),
            corrupted: false,
            signed_by: self.signed_by.clone(),
            signature_key: None,
            hash_type: self.params.hash_type.number(),
            data_block_size: self.params.data_block_size.bytes(),
            hash_block_size: self.params.hash_block_size.bytes(),
            algorithm: self.params.hash.to_string(),
            salt: self.params.salt.to_string(),
            data_device: text(&self.data.path),
            data_loop: loop_of(&self.data),
            data_blocks: self.params.data_blocks,
            size: self.layout.data_bytes() / 512,
            hash_device: text(&self.hash.path),
            hash_loop: loop_of(&self.hash),
            hash_offset: self.layout.tree_bytes().start / 512,
            fec_device: self.fec.as_ref().map(|(source, _)| text(&source.path)),
            fec_loop: self.fec.as_ref().and_then(|(source, _)| loop_of(source)),
            fec_offset: self.fec.as_ref().map(|(_, fec)| fec.offset / 512),
            fec_roots: self.fec.as_ref().map(|(_, fec)| fec.roots),
            root_hash: self.root.to_string(),
            flags: self.flags(),
        };
        Status {
            facts,
            trail: text(trail),
            pid: std::process::id(),
            volume_pid,
            files: Some(Descriptors {
                data: self.data.file.as_raw_fd(),
                hash: self.hash.file.as_raw_fd(),
                fec: self.fec.as_ref().map(|(source, _)| source.file.as_raw_fd()),
            }),
            opened: clock::now().realtime_ns / 1_000_000_000,
            counts: None,
            last_violation: None,
            lost_events: 0,
            ended: None,
        }
    }

    /// What the VT_DEVICE record of an opening says.
    pub(super) fn facts(&self, body: Body, device: &Path) -> Body {
        let body = body
            .untrusted("path", device.as_os_str().as_bytes())
            .untrusted("data_device", self.data.path.as_os_str().as_bytes())
            .untrusted("hash_device", self.hash.path.as_os_str().as_bytes());
        let body = match &self.fec {
            Some((source, _)) => body.untrusted("fec_device", source.path.as_os_str().as_bytes()),
            None => body,
        };
        let body = body
            .word("root_hash", &self.root)
            .word("algorithm", &self.params.hash)
            .word("data_blocks", self.params.data_blocks)
            .word("unit", self.params.data_block_size)
            .word("on_corruption", self.on_corruption.word());
        let flags: Vec<String> = self.flags();
        let body = if flags.is_empty() { body } else { body.word("options", flags.join(",")) };
        match &self.signed_by {
            Some(signer) => body.untrusted("signed_by", signer.as_bytes()),
            None => body,
        }
    }
}
