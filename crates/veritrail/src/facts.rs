//! What there is to say of an open verity device, whoever verifies it.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

/// What `veritysetup status` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) name: String,
    /// The device file.
    pub(crate) path: String,
    pub(crate) state: State,
    /// What verifies: `user` is veritrail's own engine, `kernel` the kernel's device mapper.
    pub(crate) backend: String,
    /// Whether a block was ever not what was promised.
    pub(crate) corrupted: bool,
    /// Who signed the root hash, where we know.
    pub(crate) signed_by: Option<String>,
    /// The key that had the signature which the kernel took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signature_key: Option<String>,
    pub(crate) hash_type: u8,
    pub(crate) data_block_size: u32,
    pub(crate) hash_block_size: u32,
    pub(crate) algorithm: String,
    pub(crate) salt: String,
    pub(crate) data_device: String,
    pub(crate) data_loop: Option<String>,
    pub(crate) data_blocks: u64,
    /// In 512-byte sectors.
    pub(crate) size: u64,
    pub(crate) hash_device: String,
    pub(crate) hash_loop: Option<String>,
    /// Of the tree, in 512-byte sectors.
    pub(crate) hash_offset: u64,
    pub(crate) fec_device: Option<String>,
    pub(crate) fec_loop: Option<String>,
    /// In 512-byte sectors.
    pub(crate) fec_offset: Option<u64>,
    pub(crate) fec_roots: Option<u64>,
    pub(crate) root_hash: String,
    /// As veritysetup's options are called.
    pub(crate) flags: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Active,
    /// Active, and will be closed when nobody uses it any more.
    Deferred,
    /// Its server has ended; readers get errors.
    Dead,
}

impl Facts {
    /// The lines of `veritysetup status`; the first of them says that the device is `state`.
    pub(crate) fn write(&self, out: &mut dyn Write, state: &str) -> io::Result<()> {
        writeln!(out, "{} is {state}.", self.path)?;
        let verdict = if self.corrupted { "corrupted" } else { "verified" };
        let signed = self.signed_by.is_some() || self.signature_key.is_some();
        let signed = if signed { " (with signature)" } else { "" };
        writeln!(out, "  type:        VERITY")?;
        writeln!(out, "  status:      {verdict}{signed}")?;
        writeln!(out, "  hash type:   {}", self.hash_type)?;
        writeln!(out, "  data block:  {}", self.data_block_size)?;
        writeln!(out, "  hash block:  {}", self.hash_block_size)?;
        writeln!(out, "  hash name:   {}", self.algorithm)?;
        writeln!(out, "  salt:        {}", self.salt)?;
        writeln!(out, "  data device: {}", self.data_device)?;
        if let Some(backing) = &self.data_loop {
            writeln!(out, "  data loop:   {backing}")?;
        }
        writeln!(out, "  size:        {} sectors", self.size)?;
        writeln!(out, "  mode:        readonly")?;
        writeln!(out, "  hash device: {}", self.hash_device)?;
        if let Some(backing) = &self.hash_loop {
            writeln!(out, "  hash loop:   {backing}")?;
        }
        writeln!(out, "  hash offset: {} sectors", self.hash_offset)?;
        if let (Some(device), Some(offset), Some(roots)) =
            (&self.fec_device, self.fec_offset, self.fec_roots)
        {
            writeln!(out, "  FEC device:  {device}")?;
            if let Some(backing) = &self.fec_loop {
                writeln!(out, "  FEC loop:    {backing}")?;
            }
            writeln!(out, "  FEC offset:  {offset} sectors")?;
            writeln!(out, "  FEC roots:   {roots}")?;
        }
        writeln!(out, "  root hash:   {}", self.root_hash)?;
        if !self.flags.is_empty() {
            // Behind the first four words veritysetup has a blank, whatever follows.
            let last = self.flags.last().is_some_and(|last| {
                ["check_at_most_once", "try_verify_in_tasklet"].contains(&last.as_str())
            });
            let end = if last { "" } else { " " };
            writeln!(out, "  flags:       {}{end}", self.flags.join(" "))?;
        }
        Ok(())
    }
}
