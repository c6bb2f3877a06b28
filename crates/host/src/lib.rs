//! The kernel as safe functions on owned and borrowed descriptors: FUSE volumes, mounts, facts
//! about processes, the sandbox of a device server.
//!
//! No policy here: what a call means is decided elsewhere. There is no unsafe code either: rustix,
//! fuser and seccompiler have it.

pub mod channel;
pub mod device;
pub mod fuse;
pub mod mount;
pub mod mountinfo;
pub mod notify;
pub mod process;
pub mod sandbox;
mod text;
