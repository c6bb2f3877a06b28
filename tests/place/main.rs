//! `veritrail device explain` against the tools that know each file system: debugfs, filefrag,
//! dump.erofs, xfs_io, btrfs. Needs root and loop devices; says so where they are missing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod ext4;
mod mounts;
mod served;
mod systems;
