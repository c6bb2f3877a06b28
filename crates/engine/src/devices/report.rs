//! The records that tell of all this (docs/formats/agent.md).

use std::ops::Range;

use record::EventId;
use record::place::{DeviceId, Place, Position};
use record::violation::{EventOp, Violation};
use record::write::Body;

use super::DeviceNumber;
use super::inventory::Device;
use super::kernel_log::CorruptedFile;
use super::table::Target;
use crate::attribute::{Role, Site};

/// One record: the name of its type, and its body.
pub type Record = (&'static str, Body);

/// What an event of our own was learned from, `VT_SRC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The audit log.
    Audit,
    /// A device event.
    Uevent,
    /// The kernel log.
    Kmsg,
    /// A status that was polled.
    Status,
    /// What the machine kept over a restart.
    Pstore,
    /// Nothing but the engine itself.
    Engine,
}

impl Source {
    /// As `VT_SRC` and `source=` have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Source::Audit => "audit",
            Source::Uevent => "uevent",
            Source::Kmsg => "kmsg",
            Source::Status => "status",
            Source::Pstore => "pstore",
            Source::Engine => "engine",
        }
    }
}

/// How sure it is, `VT_CONF`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confidence {
    /// The kernel said so.
    Certain,
    /// It happened before it was learned of.
    Late,
    /// It follows from something else.
    Inferred,
    /// It is one of several, and all are given.
    Ambiguous,
    /// Nothing could be found out.
    Unknown,
}

impl Confidence {
    /// As `VT_CONF` has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Confidence::Certain => "certain",
            Confidence::Late => "late",
            Confidence::Inferred => "inferred",
            Confidence::Ambiguous => "ambiguous",
            Confidence::Unknown => "unknown",
        }
    }

    /// How sure it is that something happened at one of `sites`.
    pub(crate) fn of(sites: &[Site]) -> Confidence {
        match sites {
            [] => Confidence::Unknown,
            [site] if site.gone => Confidence::Inferred,
            [_] => Confidence::Certain,
            _ => Confidence::Ambiguous,
        }
    }
}

/// An event of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// To ask what lies there, see [`super::Output::Explain`].
    pub ticket: Ticket,
    /// Its records.
    pub records: Vec<Record>,
    /// What it was learned from.
    pub source: Source,
    /// How sure it is.
    pub confidence: Confidence,
    /// What is read again at every start (pstore) must be written once: the shell remembers this.
    pub identity: Option<Identity>,
}

/// Our records in an event of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// The kernel's event.
    pub event: EventId,
    /// What is said beside it.
    pub records: Vec<Record>,
    /// How sure it is.
    pub confidence: Confidence,
}

/// An event of ours that has no serial yet; counts from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Tells a line that pstore kept from all others, over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(pub u128);

impl Identity {
    /// Of a line with its time (FNV-1a, 128 bits: nobody gains by two lines that collide).
    pub(crate) fn of(line: &[u8]) -> Identity {
        const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        Identity(line.iter().fold(BASIS, |sum, b| (sum ^ u128::from(*b)).wrapping_mul(PRIME)))
    }
}

/// The kernel's DM_EVENT.
pub(crate) fn dm_event(op: EventOp, dev: DeviceNumber, number: Option<u64>) -> Record {
    let (major, minor) = dev;
    let device = DeviceId::Kernel { major, minor, diskseq: 0 };
    let position = number.map_or(Position::Whole, |number| op.position(number));
    ("DM_EVENT", Body::of_words(Violation { op, place: Place { device, position } }))
}

/// Where it is.
pub(crate) fn place(site: &Site) -> Record {
    let mut body = Body::new()
        .word("dev", number(site.mapped))
        .untrusted("name", &site.name)
        .word("role", site.role.word());
    if site.unit != 0 {
        body = body.word("unit", site.unit);
    }
    if site.role != Role::Device {
        body = body.word("fault", "mismatch");
    }
    if let Some(block) = site.block {
        body = body.word("blocks", format_args!("{block}-{block}"));
    }
    body = range(body, "bytes", site.bytes.as_ref());
    body = range(body, "covers", site.covers.as_ref());
    if site.stack.len() > 1 {
        let stack: Vec<String> = site.stack.iter().map(|device| number(*device)).collect();
        body = body.word("stack", stack.join(","));
    }
    if site.gone {
        body = body.word("state", "gone");
    }
    ("VT_PLACE", body)
}

/// Nothing is known about where it is.
pub(crate) fn no_place(dev: DeviceNumber, reason: &str) -> Record {
    ("VT_PLACE", Body::new().word("dev", number(dev)).phrase("reason", reason))
}

/// Both ends are in it.
fn range(body: Body, key: &str, range: Option<&Range<u64>>) -> Body {
    match range.and_then(|range| Some((range.start, range.end.checked_sub(1)?))) {
        Some((first, last)) => body.word(key, format_args!("{first}-{last}")),
        None => body,
    }
}

/// What happened to a device: its name and table, as far as they are known.
pub(crate) fn device(dev: DeviceNumber, known: Option<&Device>, state: &str) -> Body {
    let mut body = Body::new().word("dev", number(dev));
    if let Some(known) = known.filter(|known| !known.name.is_empty()) {
        body = body.untrusted("name", &known.name);
        if !known.uuid.is_empty() {
            body = body.untrusted("uuid", &known.uuid);
        }
    }
    body.word("state", state)
}

/// The facts of its first target that speaks in records.
pub(crate) fn table(body: Body, known: Option<&Device>) -> Body {
    let target = known.and_then(|known| known.targets().find(|one| one.module().is_some()));
    match target {
        Some(Target::Verity(verity)) => body
            .word("module", "verity")
            .word("data_dev", number(verity.data_device))
            .word("hash_dev", number(verity.hash_device))
            .word("data_blocks", verity.table.data_blocks)
            .word("unit", verity.unit())
            .word("algorithm", &verity.table.algorithm)
            .word("root_hash", &verity.table.root_hash)
            .word("on_corruption", verity.table.on_corruption.word()),
        Some(Target::Integrity(integrity)) => body
            .word("module", "integrity")
            .word("data_dev", number(integrity.device))
            .word("mode", integrity.mode)
            .word("unit", integrity.block_size),
        Some(Target::Crypt(crypt)) => body
            .word("module", "crypt")
            .word("data_dev", number(crypt.device))
            .word("cipher", &crypt.cipher)
            .word("unit", crypt.sector_size)
            .word("authenticated", if crypt.authenticated { "yes" } else { "no" }),
        Some(Target::Linear(_)) | None => body,
    }
}

/// A file whose bytes do not match its fs-verity tree.
pub(crate) fn file(file: &CorruptedFile<'_>) -> Record {
    let mut body = Body::new()
        .untrusted("fs_name", file.fs)
        .word("use", "file")
        .word("inode", file.inode)
        .word("fault", "mismatch");
    if let Some(position) = file.position {
        body = body.word("offset", position);
    }
    let body = body
        .word("level", file.level)
        .word("expected", file.expected.escape_ascii())
        .word("found", file.found.escape_ascii());
    ("VT_FILE", body)
}

/// `MAJOR:MINOR`
pub(crate) fn number((major, minor): DeviceNumber) -> String {
    format!("{major}:{minor}")
}
