//! Forward error correction of dm-verity: parity that makes bad blocks good again.
//!
//! ```text
//!   Layout, roots, offset ── Area        which blocks are covered, and where their parity lies
//!                              │
//!        parity ── Corrector::correct(bad block, is_bad, is_right) ── the right bytes
//! ```
//!
//! Nothing here knows a tree. Whoever asks for a block has its digest and gives the closure
//! `is_right`; it has the digests of the other blocks of the row as far as they can be told, and
//! gives `is_bad`, which lets twice as many bad blocks be corrected. A hash block is corrected
//! before anything below it is believed: then the kernel's nested look-ups (each of which fails
//! and is audited) do not happen.
//!
//! ```
//! use block::fec::{Area, Corrector, Target};
//! # use block::verity::{BlockSize, HashArea, HashName, HashType, Layout, Params, Salt};
//! # use record::units::DataBlock;
//! # let params = Params {
//! #     hash_type: HashType::Normal,
//! #     hash: HashName::parse("sha256").unwrap(),
//! #     data_block_size: BlockSize::DEFAULT,
//! #     hash_block_size: BlockSize::DEFAULT,
//! #     data_blocks: 2,
//! #     salt: Salt::default(),
//! # };
//! # let layout = Layout::new(&params, HashArea::default())?;
//! # let (data, hash, parity) = (vec![0_u8; 8192], vec![0_u8; 8192], vec![0_u8; 8192]);
//! let area = Area::new(&layout, 2, 0, hash.len() as u64)?;
//! let corrector = Corrector::new(area, &parity);
//! let mut block = vec![0; 4096];
//! let corrected = corrector.correct(
//!     &data,
//!     &hash,
//!     Target::Data(DataBlock(1)),
//!     &mut |_other, _bytes| false,
//!     &mut |bytes| bytes.iter().all(|byte| *byte == 0), // compare the digest here
//!     &mut block,
//! );
//! assert_eq!(corrected.map(|corrected| corrected.errors), Some(0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Sources: Linux 6.12 `drivers/md/dm-verity-fec.c`, cryptsetup 2.6.1 `lib/verity`.

mod area;
mod code;
mod corrector;
mod count;
mod encode;
mod field;
mod tiles;

pub use area::{Area, AreaError, Target};
pub use code::Roots;
pub use corrector::{Corrected, Corrector};
pub use count::{CountError, Counted, count};
pub use encode::{EncodeError, encode};
pub use tiles::CoverError;
