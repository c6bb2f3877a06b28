//! Served devices as a user has them: `verity open`, what reads the file, `status`, `close`, and the
//! trail behind it. Every test has a run directory and a trail of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backend;
mod bench;
mod closing;
mod files;
mod golden;
mod hostile;
mod modes;
mod mounts;
mod peer;
mod plain;
mod records;
mod rootless;
mod scrub;
mod surroundings;
