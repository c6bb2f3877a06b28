//! Which mapped devices there are, and which there were a moment ago.
//!
//! Device numbers are used again: a device with another UUID, name or table under the same number is
//! another device, with a life of its own. One that went is remembered for [`REMEMBERED`], because
//! what was found on it may be told after it is gone.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use block::verity::OnCorruption;
use record::violation::{EventOp, Module};
use record::write::Body;

use super::DeviceNumber;
use super::report::Identity;
use super::table::{SECTOR, Status, Target, Verity};

/// Devices that are known at once; of more, those with the highest numbers are left out, and counted.
pub(crate) const MOST_DEVICES: usize = 4096;

/// Devices that are remembered after they went.
const MOST_GONE: usize = 256;

/// How long.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(60);

/// DM_NAME_LEN and DM_UUID_LEN of linux/dm-ioctl.h are 128 and 129, with a NUL.
const LONGEST_NAME: usize = 128;

/// Levels of a stack of devices: a loop in what the kernel says must not be followed for ever.
const MOST_LEVELS: usize = 16;

/// A mapped device as the shell read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    /// Its number.
    pub device: DeviceNumber,
    /// Its name, any bytes.
    pub name: Vec<u8>,
    /// Its UUID, empty without one.
    pub uuid: Vec<u8>,
    /// The targets of its live table; none where no table is live yet.
    pub targets: Vec<MappedTarget>,
}

/// One line of a table, and what its status says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappedTarget {
    /// First sector on the mapped device.
    pub start: u64,
    /// Sectors.
    pub length: u64,
    /// `verity`, `linear` ...
    pub kind: String,
    /// The table line behind the type.
    pub params: Vec<u8>,
    /// The status line behind the type.
    pub status: Vec<u8>,
}

/// A target and where on its device it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// The first byte.
    pub(crate) start: u64,
    pub(crate) target: Target,
    status: Option<Status>,
}

/// What is going on with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In use, and nothing was found.
    Active,
    /// Something on it is not what was promised.
    Corrupted,
    /// It was taken away.
    Gone,
}

impl State {
    /// As `status` and `device list` print it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Corrupted => "corrupted",
            State::Gone => "gone",
        }
    }
}

/// One life of a mapped device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its number.
    pub number: DeviceNumber,
    /// Its name, any bytes.
    pub name: Vec<u8>,
    /// Its UUID, empty without one.
    pub uuid: Vec<u8>,
    /// What is going on with it.
    pub state: State,
    /// Violations that were told of it in this life.
    pub violations: u64,
    /// The last of them: what, and when (since boot).
    pub last: Option<(EventOp, Duration)>,
    /// The VT_PLACE of that, if it has a place.
    pub place: Option<Body>,
    pub(crate) targets: Vec<At>,
    /// A digest of the table, to tell lives apart; none while there is none. The text itself may
    /// hold the key of a crypt device.
    table: Option<Identity>,
    pub(crate) watch: Watch,
    gone_at: Duration,
}

/// What is remembered of a device between two looks at its status.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    /// The status that was last explained.
    pub(crate) explained: Option<Status>,
    /// Since when a status waits that nothing explains yet, and whether it was there at our start.
    pub(crate) waiting: Option<(Duration, bool)>,
    /// The kernel will say no more of mismatches, and whether we said so.
    pub(crate) limit_reached: bool,
    pub(crate) limit_told: bool,
    /// Mismatches of which the kernel sent a device event.
    pub(crate) uevents: u32,
    /// That it came, and that it went, was looked at.
    pub(crate) came: bool,
    went: bool,
}

impl Device {
    fn new(mapped: Mapped) -> Device {
        let mut targets = Vec::new();
        let mut table = Vec::new();
        let any = !mapped.targets.is_empty();
        for one in mapped.targets {
            let status = Status::parse(&one.kind, &one.status);
            if let Some(target) = Target::parse(&one.kind, &one.params)
                && let Some(start) = one.start.checked_mul(SECTOR)
            {
                targets.push(At { start, target, status });
            }
            table.extend(one.start.to_le_bytes().iter().chain(&one.length.to_le_bytes()));
            table.extend(one.kind.bytes().chain([0]).chain(one.params).chain([0]));
        }
        let cut = |mut text: Vec<u8>| {
            text.truncate(LONGEST_NAME);
            text
        };
        Device {
            number: mapped.device,
            name: cut(mapped.name),
            uuid: cut(mapped.uuid),
            state: State::Active,
            violations: 0,
            last: None,
            place: None,
            targets,
            table: any.then(|| Identity::of(&table)),
            watch: Watch::default(),
            gone_at: Duration::ZERO,
        }
    }

    /// The first target that speaks in records.
    #[must_use]
    pub fn module(&self) -> Option<Module> {
        self.targets.iter().find_map(|at| at.target.module())
    }

    /// Its targets of types that are known.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().map(|at| &at.target)
    }

    /// Its first verity target.
    #[must_use]
    pub fn verity(&self) -> Option<&Verity> {
        self.targets().find_map(|target| match target {
            Target::Verity(verity) => Some(&**verity),
            _ => None,
        })
    }

    /// The status of its first target that has one.
    pub(crate) fn status(&self) -> Option<Status> {
        self.targets.iter().find_map(|at| at.status)
    }

    /// Whether the kernel writes an audit record for what is found on it, where it writes any.
    pub(crate) fn audits(&self) -> bool {
        self.verity().is_none_or(|verity| verity.table.on_corruption == OnCorruption::Fail)
    }

    /// Whether `other`, found later under the same number, is the same device. Its name may change.
    fn is(&self, other: &Device) -> bool {
        let went_back = match (self.status(), other.status()) {
            (
                Some(Status::Verity { corrupted: true }),
                Some(Status::Verity { corrupted: false }),
            ) => true,
            (
                Some(Status::Integrity { mismatches: before }),
                Some(Status::Integrity { mismatches: now }),
            ) => now < before,
            _ => false,
        };
        // A table that is loaded but not live yet is the same device a moment earlier.
        let same_table = self.table.is_none() || self.table == other.table;
        let same_name = self.name == other.name || !self.uuid.is_empty();
        self.uuid == other.uuid && same_name && same_table && !went_back
    }
}

/// All mapped devices.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    current: BTreeMap<DeviceNumber, Device>,
    gone: VecDeque<Device>,
    /// Whether it was ever read.
    pub(crate) read: bool,
    /// Devices that found no room.
    pub(crate) left_out: u64,
}

impl Inventory {
    /// Takes a complete snapshot.
    pub(crate) fn replace(&mut self, now: Duration, snapshot: Vec<Mapped>) {
        self.read = true;
        let mut before = std::mem::take(&mut self.current);
        for mapped in snapshot {
            let mut device = Device::new(mapped);
            let number = device.number;
            if self.current.len() == MOST_DEVICES {
                self.left_out += 1;
                continue;
            }
            match before.remove(&number) {
                Some(known) if known.is(&device) => {
                    device.state = known.state;
                    device.violations = known.violations;
                    device.last = known.last;
                    device.place = known.place;
                    device.watch = known.watch;
                }
                Some(other) => self.bury(now, other),
                None => {}
            }
            self.current.insert(number, device);
        }
        for (_, device) in before {
            self.bury(now, device);
        }
        self.forget(now);
    }

    /// Takes a device away.
    pub(crate) fn remove(&mut self, now: Duration, number: DeviceNumber) {
        if let Some(device) = self.current.remove(&number) {
            self.bury(now, device);
        }
    }

    fn bury(&mut self, now: Duration, mut device: Device) {
        device.state = State::Gone;
        device.gone_at = now;
        self.gone.push_back(device);
        if self.gone.len() > MOST_GONE {
            self.gone.pop_front();
        }
    }

    pub(crate) fn forget(&mut self, now: Duration) {
        while self.gone.front().is_some_and(|device| device.gone_at + REMEMBERED < now) {
            self.gone.pop_front();
        }
    }

    pub(crate) fn current(&self) -> impl Iterator<Item = &Device> {
        self.current.values()
    }

    /// Those that went, the latest first.
    pub(crate) fn gone(&self) -> impl Iterator<Item = &Device> {
        self.gone.iter().rev()
    }

    /// Devices that speak in records and came since this was last asked.
    pub(crate) fn take_came(&mut self) -> Vec<Device> {
        let new = |device: &&mut Device| !device.watch.came && device.module().is_some();
        let came = self.current.values_mut().filter(new);
        came.map(|device| {
            device.watch.came = true;
            device.clone()
        })
        .collect()
    }

    /// Those that came and went.
    pub(crate) fn take_went(&mut self) -> Vec<Device> {
        let new = |device: &&mut Device| device.watch.came && !device.watch.went;
        let went = self.gone.iter_mut().filter(new);
        went.map(|device| {
            device.watch.went = true;
            device.clone()
        })
        .collect()
    }

    pub(crate) fn get(&self, number: DeviceNumber) -> Option<&Device> {
        self.current.get(&number)
    }

    /// The device of this number, else the last one that had it.
    pub(crate) fn get_or_gone(&self, number: DeviceNumber) -> Option<&Device> {
        self.get(number).or_else(|| self.gone().find(|device| device.number == number))
    }

    pub(crate) fn get_mut(&mut self, number: DeviceNumber) -> Option<&mut Device> {
        self.current.get_mut(&number)
    }

    /// The number of the mapped device `dm-MINOR`: all of them have one major number.
    pub(crate) fn dm(&self, minor: u32) -> Option<DeviceNumber> {
        let with_minor = |device: &&Device| device.number.1 == minor;
        self.current()
            .find(with_minor)
            .or_else(|| self.gone().find(with_minor))
            .or_else(|| self.current().next())
            .map(|device| (device.number.0, minor))
    }

    /// `number` and what lies below it, from the top.
    pub(crate) fn stack(&self, number: DeviceNumber) -> Vec<DeviceNumber> {
        let mut stack = vec![number];
        let mut at = number;
        while let Some(target) = self.get(at).and_then(|device| device.targets().next())
            && stack.len() < MOST_LEVELS
            && !stack.contains(&target.below())
        {
            at = target.below();
            stack.push(at);
        }
        stack
    }
}
