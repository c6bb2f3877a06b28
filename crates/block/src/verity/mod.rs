//! dm-verity: read-only data under a hash tree, whose root hash is known from elsewhere.
//!
//! ```text
//!   root hash ── Superblock ── Params ── Layout        what there is, and where
//!        └──────────── Volume ───────────┘             all of it, with the devices
//!              verify │     │ Device::read             everything, or as it is asked for
//!               Watch, Finding, Summary    Refused, Notice
//! ```
//!
//! Sources: Linux 6.12 `drivers/md/dm-verity-target.c`, cryptsetup 2.6.1 `lib/verity`.

mod finding;
mod format;
mod health;
mod layout;
mod params;
mod reader;
mod superblock;
mod table;
mod verify;
mod volume;
mod walk;

pub use finding::{Blocks, Fault, Finding, PlaceBody};
pub use format::{FormatError, format};
pub use health::Health;
pub use layout::{HashArea, Layout};
pub use params::{BlockSize, Digest, HashName, HashType, ParamError, Params, Salt};
pub use reader::{Counts, Device, Notice, Policy, ReadError, Refused};
pub use superblock::{MAGIC, RawSuperblock, SUPERBLOCK_SIZE, Superblock, SuperblockError};
pub use table::{FecTable, OnCorruption, Table, TableError};
pub use verify::{Summary, Watch};
pub use volume::{OpenError, Volume};
