//! The kernel as safe functions on owned and borrowed descriptors: FUSE volumes, mounts, facts
//! about processes, the sandbox of a device server, audit.
//!
//! No policy here: what a call means is decided elsewhere. Unsafe code is only in the modules of
//! single system calls that rustix, fuser and seccompiler have not, such as `drops`.

pub mod audit;
pub mod channel;
pub mod device;
mod drops;
pub mod fuse;
pub mod mount;
pub mod mountinfo;
pub mod notify;
pub mod process;
pub mod sandbox;
mod text;
mod wait;
