//! Numbers that count different things are different types.
//!
//! The field `sector=` of a kernel record counts 512-byte sectors for
//! dm-integrity and dm-crypt, but data blocks for dm-verity. A type is the only
//! place where that knowledge does not get lost, so there is no conversion
//! between these types that does not name a block size.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map($name)
            }
        }
    };
}

unit! {
    /// A 512-byte sector, the unit of device-mapper tables.
    Sector
}
unit! {
    /// A data block of a verity device, in units of its data block size.
    DataBlock
}
unit! {
    /// A block of a hash device, in units of its hash block size, counted from
    /// the start of that device (so the superblock lies before the first one).
    HashBlock
}
unit! {
    /// The audit container identifier of a task. 2^64-1 is "unset".
    ContId
}
unit! {
    /// The place of a leaf in a trail, counted from 0. This is the identity of
    /// an event; its stamp is not.
    LeafIndex
}

impl ContId {
    /// What a task has that belongs to no container.
    pub const UNSET: ContId = ContId(u64::MAX);
}
