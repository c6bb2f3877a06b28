//! Served devices as a user has them: `verity open`, what reads the file, `status`, `close`, and the
//! trail behind it. Every test has a run directory and a trail of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod closing;
mod golden;
mod modes;
mod plain;
