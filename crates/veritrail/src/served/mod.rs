//! Served devices: a verified image as a file, by two processes for each.
//!
//! ```text
//!   verity open ──▶ keeper ── mounts, records, answers `status` and `close`   keeper.rs control.rs
//!                     │ ▲                                        reports.rs ─▶ recorder.rs ─▶ trail
//!         descriptors │ │ reports (wire.rs)
//!                     ▼ │
//!                   volume ── confined: reads, verifies, answers FUSE         volume.rs
//!                     ▲
//!   reader ── read(2) ┘
//! ```
//!
//! What a hostile image or a hostile reader can reach is the volume, which has its descriptors
//! and nothing else. It is believed about blocks and never about text: the keeper writes every
//! record itself, from numbers it has checked. A volume without its keeper ends, so no read is
//! answered that could not be recorded; a keeper without its volume records that and leaves the dead
//! mount, so that readers get an error and never the empty file below it. A service manager, where there
//! is one, hears how it goes (manager.rs); `veritrail serve` is this server in the foreground.

pub(crate) mod control;
pub(crate) mod directory;
mod explaining;
pub(crate) mod keeper;
mod manager;
mod opening;
mod reader;
mod recorder;
mod reports;
pub(crate) mod volume;
pub(crate) mod wire;

pub(crate) use control::{State, Status};
pub(crate) use directory::{Claim, Directory, Name};
pub(crate) use opening::{OnCorruption, Opening, Source};
pub(crate) use recorder::Recorder;
