//! Integrity-protected block devices over [`ReadAt`]: bytes in, data or a violation out.
//!
//! No I/O of its own and no clock: whoever calls brings the bytes, so that every
//! corrupt disk, torn file and failing read is a test of a few lines.

pub mod access;
pub mod fec;
mod ordered;
pub mod verity;

pub use access::{ReadAt, WriteAt};
