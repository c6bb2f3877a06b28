//! The crate against the running kernel: real mounts, real readers, real deaths.
//!
//! What needs root, `/dev/fuse` or a tool that is missing is skipped visibly. Servers are
//! processes of their own (this binary again, in a [`role`]) and end by themselves after a
//! minute, so that no reader can wait longer.

#![allow(clippy::unwrap_used)] // Also in the functions that the tests share.

mod channel;
mod device;
mod files;
mod fuse;
mod messages;
mod notify;
mod process;
mod role;
mod serving;
mod spawn;
