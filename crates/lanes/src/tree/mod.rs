//! The hash tree of dm-verity and fs-verity: where digests lie, and how a tree is built.
//!
//! Level 0 holds the digests of the data blocks, packed into hash blocks; level
//! 1 the digests of level 0's blocks, and so on until one block is left. Its
//! digest is the root hash, which the tree does not hold. On disk the highest
//! level comes first:
//!
//! ```text
//!  hash blocks   0        1 .. 3          4 ..
//!              ┌────────┬───────────────┬──────────────────────────────┐
//!              │ level 2│ level 1       │ level 0                      │
//!              └────────┴───────────────┴──────────────────────────────┘
//!               digest = root hash       digests of data blocks 0, 1, 2 ..
//! ```
//!
//! One data block needs no tree: its digest is the root hash.
//! (Kernel, `drivers/md/dm-verity-target.c` and `fs/verity/open.c`.)

mod builder;
mod geometry;

pub use builder::{BuildError, Builder};
pub use geometry::{Geometry, GeometryError, Packing, Position};
