//! Which mapped device an event is about, and which bytes of it: the one normaliser from a record's
//! `module`, `op`, `dev` and `sector` (or the same facts of another source) to places.
//!
//! What the kernel names is not what a reader wants to know (reference: dm-audit and its callers, 6.12):
//!
//! | op | the record's `dev=` | its number | the place |
//! |---|---|---|---|
//! | verify-data | the data device below | data block | that block of the verity device |
//! | verify-metadata | the data device below | the data block that was looked up | the hash block where a second source names it; else the data block it was to vouch for |
//! | max-corrupted-errors | the verity device | none | the device |
//! | integrity-checksum, journal-checksum | the integrity device (inline mode: the one below) | 512-byte sector of the target | the tagged block around it |
//! | integrity-replay-journal, mac-journal, mac-superblock | the integrity device | none | the device |
//! | integrity-aead | the device below the crypt device; before 6.8 the crypt device | 512-byte sector of the target | the tagged sector around it |
//!
//! Several verity devices may lie on one data device. Then nothing in a record tells them apart, and
//! all of them are given.

use std::ops::Range;

use record::units::HashBlock;
use record::violation::EventOp;

use crate::devices::DeviceNumber;
use crate::devices::inventory::{At, Device, Inventory};
use crate::devices::table::{SECTOR, Target};
use crate::devices::uevent::Mismatch;

/// What a source says of a violation, in the source's own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fault {
    pub(crate) op: EventOp,
    /// As in the kernel's record.
    pub(crate) dev: DeviceNumber,
    /// As in the kernel's record: of verify-metadata the data block that was looked up.
    pub(crate) number: Option<u64>,
    /// The block of the hash device that is really bad.
    pub(crate) hash_block: Option<u64>,
    /// The mapped device, where the source names it.
    pub(crate) mapped: Option<DeviceNumber>,
}

impl Fault {
    /// One that names no part of the device.
    pub(crate) fn whole(op: EventOp, dev: DeviceNumber) -> Fault {
        Fault { op, dev, number: None, hash_block: None, mapped: None }
    }

    /// What dm-verity says otherwise than by a record.
    pub(crate) fn mismatch(
        dev: DeviceNumber,
        mapped: Option<DeviceNumber>,
        block: Mismatch,
    ) -> Fault {
        match block {
            Mismatch::Data(number) => {
                let whole = Fault::whole(EventOp::VerifyData, dev);
                Fault { number: Some(number), mapped, ..whole }
            }
            Mismatch::Hash(block) => {
                let whole = Fault::whole(EventOp::VerifyMetadata, dev);
                Fault { hash_block: Some(block), mapped, ..whole }
            }
        }
    }
}

/// What kind of thing is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Data.
    Data,
    /// A block of a hash tree.
    Hash,
    /// The device as a whole.
    Device,
}

impl Role {
    /// As `role=` has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Role::Data => "data",
            Role::Hash => "hash",
            Role::Device => "device",
        }
    }
}

/// A place on a mapped device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The mapped device.
    pub mapped: DeviceNumber,
    /// Its name, any bytes.
    pub name: Vec<u8>,
    /// What is bad.
    pub role: Role,
    /// Bytes per block; 0 where there are none.
    pub unit: u32,
    /// The bad block, in units: of the target, or of the hash device.
    pub block: Option<u64>,
    /// The bad bytes, of the mapped device or of the hash device.
    pub bytes: Option<Range<u64>>,
    /// Data blocks that cannot be vouched for, because a hash block above them is bad.
    pub covers: Option<Range<u64>>,
    /// Bytes of the mapped device that a reader cannot have.
    pub affected: Option<Range<u64>>,
    /// The device and those below it, from the top.
    pub stack: Vec<DeviceNumber>,
    /// It is no more.
    pub gone: bool,
}

/// The places that `fault` can mean, by what is there now, else by what was there a moment ago.
pub(crate) fn sites(inventory: &Inventory, fault: &Fault) -> Vec<Site> {
    let here: Vec<Site> = inventory.current().filter_map(|device| on(device, fault)).collect();
    if !here.is_empty() {
        let stacked = here.into_iter().map(|site| {
            let stack = inventory.stack(site.mapped);
            Site { stack, ..site }
        });
        return stacked.collect();
    }
    let gone = inventory.gone().find_map(|device| on(device, fault));
    gone.map(|site| Site { gone: true, ..site }).into_iter().collect()
}

/// The place on `device`, if `fault` can be about it.
fn on(device: &Device, fault: &Fault) -> Option<Site> {
    if fault.mapped.is_some_and(|mapped| mapped != device.number) {
        return None;
    }
    device.targets.iter().find_map(|at| in_target(device, at, fault))
}

fn in_target(device: &Device, at: &At, fault: &Fault) -> Option<Site> {
    let named = fault.dev == device.number;
    let below = fault.dev == at.target.below();
    let site = |role, unit: u32, block: Option<u64>| Site {
        mapped: device.number,
        name: device.name.clone(),
        role,
        unit,
        block,
        bytes: None,
        covers: None,
        affected: None,
        stack: vec![device.number, at.target.below()],
        gone: false,
    };
    let bytes = |blocks: Range<u64>, unit: u32| {
        let start = blocks.start.checked_mul(u64::from(unit))?.checked_add(at.start)?;
        let end = blocks.end.checked_mul(u64::from(unit))?.checked_add(at.start)?;
        Some(start..end)
    };
    let tagged = |unit: u32| {
        let block = fault.number? / (u64::from(unit) / SECTOR).max(1);
        let range = bytes(block..block.checked_add(1)?, unit)?;
        let place = site(Role::Data, unit, Some(block));
        Some(Site { bytes: Some(range.clone()), affected: Some(range), ..place })
    };
    match (&at.target, fault.op) {
        (Target::Verity(verity), EventOp::VerifyData) if below => {
            let block = fault.number.filter(|block| *block < verity.table.data_blocks);
            if block.is_none() && fault.number.is_some() {
                return None;
            }
            let range = block.and_then(|block| bytes(block..block + 1, verity.unit()));
            let place = site(Role::Data, verity.unit(), block);
            Some(Site { bytes: range.clone(), affected: range, ..place })
        }
        (Target::Verity(verity), EventOp::VerifyMetadata) if below => {
            let asked = fault.number.filter(|block| *block < verity.table.data_blocks);
            if asked.is_none() && fault.number.is_some() {
                return None;
            }
            let hash_bytes = |block: u64| {
                let unit = u64::from(verity.table.hash_block_size.bytes());
                let start = block.checked_mul(unit)?;
                Some(start..start.checked_add(unit)?)
            };
            let covers = match fault.hash_block {
                Some(block) => Some(verity.table.covered(HashBlock(block))?),
                None => asked.map(|block| block..block + 1),
            };
            // What the reader wanted, where that is known; else all that hangs below.
            let affected = asked.map(|block| block..block + 1).or_else(|| covers.clone());
            Some(Site {
                bytes: fault.hash_block.and_then(hash_bytes),
                affected: affected.and_then(|blocks| bytes(blocks, verity.unit())),
                covers,
                ..site(Role::Hash, verity.table.hash_block_size.bytes(), fault.hash_block)
            })
        }
        (Target::Verity(_), EventOp::MaxCorruptedErrors) if named || below => {
            Some(site(Role::Device, 0, None))
        }
        (Target::Integrity(integrity), EventOp::IntegrityChecksum | EventOp::JournalChecksum)
            if named || (below && integrity.mode == 'I') =>
        {
            match fault.number {
                Some(_) => tagged(integrity.block_size),
                None => Some(site(Role::Device, 0, None)),
            }
        }
        (
            Target::Integrity(_),
            EventOp::IntegrityReplayJournal | EventOp::MacJournal | EventOp::MacSuperblock,
        ) if named => Some(site(Role::Device, 0, None)),
        (Target::Crypt(crypt), EventOp::IntegrityAead)
            if (named || below) && crypt.authenticated =>
        {
            tagged(crypt.sector_size)
        }
        _ => None,
    }
}
