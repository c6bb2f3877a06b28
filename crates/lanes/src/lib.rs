//! Hashing of many equal-sized blocks at once, and the hash tree over them.
//!
//! A verified device or file is many blocks of one size, each hashed by itself
//! with the same salt. So the blocks can go through a vector unit side by side,
//! one to a lane: [`BlockHasher`] does that for SHA-256 and picks the fastest
//! [`Path`] this CPU has. [`tree`] knows how the digests stack up into the hash
//! tree of dm-verity and fs-verity.
//!
//! Nothing here reads files, clocks or configuration.

mod algorithm;
mod hasher;
mod library;
mod path;
mod sha256;
pub mod tree;

pub use algorithm::{Algorithm, MAX_DIGEST_SIZE, UnknownAlgorithm};
pub use hasher::{BlockHasher, SaltPosition};
pub use path::{Path, PathUnavailable};
