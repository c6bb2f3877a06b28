//! The kernel as safe functions on owned and borrowed descriptors: FUSE volumes, mounts, facts
//! about processes, the sandbox of a device server.
//!
//! No policy here: what a call means is decided elsewhere.

pub mod channel;
pub mod fuse;
pub mod mount;
pub mod mountinfo;
mod text;
