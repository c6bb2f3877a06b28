//! The kernel's verity, integrity and crypt devices: what happened on them, told once and placed.
//!
//! ```text
//!   audit event ──┐
//!   device event ─┤▶ fault ─▶ which device? ─▶ sightings ─▶ decided ─▶ DM_EVENT of ours, or nothing
//!   kernel log ───┘            (inventory)      (once)                 VT_PLACE beside, Explain
//!   polled status ────────────────────────────────────────▶ a rise that no event explains
//!   pstore ───────────────────────────────────────────────▶ what the last boot said before its end
//! ```
//!
//! Where the kernel writes an audit record, that record is the event, and ours stand beside it. Where
//! it does not (auditing off, a kernel without DM_AUDIT for that target, `ignore_corruption`, a record
//! that was lost) the failure is told by an event of our own in the kernel's words, with its source.
//!
//! The shell reads tables and status when asked ([`Output::Inventory`]) and every few seconds anyway,
//! and polls outputs after every `handle_*`. An event that names a device which is not known waits for
//! one reading ([`PATIENCE`]); then its place is unknown, and that is said.
//!
//! Everything is bounded: 4,096 devices, 8,192 failures being matched, 1,024 events that wait for an
//! inventory. What finds no room is told at once, with less known about it; only devices are left out,
//! counted in a VT_GAP.

mod audit;
mod control;
pub(crate) mod inventory;
pub mod kernel_log;
mod polled;
mod questions;
mod report;
mod said;
mod sightings;
pub mod table;
pub mod uevent;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use record::violation::{EventOp, Module};
use record::write::Body;
use record::{EventId, Line};

pub use self::inventory::{Device, Mapped, MappedTarget, State};
pub use self::report::{Beside, Confidence, Identity, Own, Record, Source, Ticket};

use self::audit::DmEvent;
use self::inventory::Inventory;
use self::kernel_log::{Kept, Said};
use self::questions::{Held, Question};
use self::said::Correction;
use self::sightings::{Decided, Sightings};
use self::uevent::{Action, Uevent};
use crate::attribute::{self, Site};

/// Major and minor number.
pub type DeviceNumber = (u32, u32);

/// So long an event waits to learn which device it is about.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// How long the other sources of a failure are waited for, where no audit record is to come.
const UNAUDITED: Duration = Duration::from_millis(300);

/// And where one may: its event may be held together for two seconds.
const AUDITED: Duration = Duration::from_millis(2500);

/// Inventories are asked for no more often.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Losses are collected for so long.
const COLLECT: Duration = Duration::from_secs(1);

/// Lines of one text of pstore that are told.
const MOST_KEPT: usize = 256;

/// Places that are given where it could be any of them.
const MOST_SITES: usize = 16;

/// dm-verity sends device events for so many mismatches of an activation.
const VERITY_LIMIT: u32 = 100;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Read the tables and the status of all mapped devices, and hand them in.
    Inventory,
    /// Write an event of our own.
    Record(Own),
    /// Write records beside an event of the kernel.
    Beside(Beside),
    /// Find out what lies there, and write it beside.
    Explain {
        /// Beside which event.
        about: About,
        /// What.
        subject: Subject,
    },
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The kernel's.
    Event(EventId),
    /// The one of [`Own::ticket`].
    Own(Ticket),
}

/// What is to be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// What lies in these bytes of a mapped device.
    Bytes {
        /// The device.
        mapped: DeviceNumber,
        /// Which.
        bytes: Range<u64>,
    },
    /// What a file is called.
    Inode {
        /// What its file system calls itself in the kernel log: `sda2`.
        fs: Vec<u8>,
        /// The file.
        inode: u64,
    },
}

/// What was passed over, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Lines of the kernel log that a process wrote.
    pub foreign_lines: u64,
    /// Records of the kernel log of an unknown form.
    pub unreadable_lines: u64,
    /// Audit records about mapped devices of an unknown form, or by an unknown target.
    pub unknown_records: u64,
    /// Lines of the kernel log that its rate limit swallowed, where audit records tell the same.
    pub spared_lines: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Devices {
    inventory: Inventory,
    sightings: Sightings,
    questions: VecDeque<Question>,
    corrections: Vec<Correction>,
    /// Devices with a further table, which is not live yet.
    loaded: BTreeSet<DeviceNumber>,
    violations: u64,
    asking: Asking,
    last_look: Duration,
    /// Whether the kernel's auditing is on, where that is known.
    auditing: Option<bool>,
    /// Whether a module's records come, as far as was seen.
    audited: BTreeMap<&'static str, bool>,
    losses: BTreeMap<(Source, &'static str), (Duration, u64)>,
    outputs: VecDeque<Output>,
    tickets: u64,
    counters: Counters,
}

/// Whether an inventory is wanted.
#[derive(Debug, Default)]
struct Asking {
    /// Something changed since the last one.
    stale: bool,
    /// It was asked for and did not come yet.
    asked: Option<Duration>,
    last: Option<Duration>,
}

impl Asking {
    /// When to ask, if one is wanted: an answer that never came is asked for again.
    fn next(&self) -> Duration {
        match (self.asked, self.last) {
            (Some(asked), _) => asked + PATIENCE,
            (None, Some(last)) => last + ASK_AGAIN,
            (None, None) => Duration::ZERO,
        }
    }
}

impl Devices {
    /// Knows nothing yet; asks for an inventory when an event needs one.
    #[must_use]
    pub fn new() -> Devices {
        Devices::default()
    }

    /// A complete snapshot of the mapped devices.
    pub fn handle_inventory(&mut self, now: Duration, snapshot: Vec<Mapped>) {
        let first = !self.inventory.read;
        let left_out = self.inventory.left_out;
        self.inventory.replace(now, snapshot);
        self.asking = Asking { last: Some(now), ..Asking::default() };
        if let more @ 1.. = self.inventory.left_out - left_out {
            self.lose(now, Source::Status, "more mapped devices than are watched", more);
        }
        self.tell_changes(Source::Status, first);
        self.answer(now);
        self.settle(now);
        self.look_at_status(now, first);
        self.last_look = now;
    }

    /// All records of an audit event.
    pub fn handle_event(&mut self, now: Duration, id: EventId, lines: &[Line<'_>]) {
        let event = DmEvent::read(lines);
        self.counters.unknown_records += event.unknown;
        for found in &event.found {
            self.auditing.get_or_insert(true);
            self.audited.insert(found.op.module().word(), true);
            self.consider(now, Held::Audit { event: id, found: *found });
        }
        for controlled in event.controlled {
            self.audited.insert(controlled.module.word(), true);
            self.control(now, id, controlled);
        }
        self.settle(now);
    }

    /// A datagram of the kernel's device events.
    pub fn handle_uevent(&mut self, now: Duration, raw: &[u8]) {
        let Some(uevent) = Uevent::parse(raw) else { return };
        match (uevent.action, uevent.mismatch) {
            (Action::Change, Some(block)) => {
                self.consider(now, Held::Uevent { device: uevent.device, block });
            }
            (Action::Remove, _) => {
                self.inventory.remove(now, uevent.device);
                self.tell_changes(Source::Uevent, false);
                self.asking.stale = true;
            }
            _ => self.asking.stale = true,
        }
        self.settle(now);
    }

    /// A record of the kernel log.
    pub fn handle_kmsg(&mut self, now: Duration, raw: &[u8]) {
        match kernel_log::Record::parse(raw) {
            None => self.counters.unreadable_lines += 1,
            Some(record) if !record.is_kernels() => self.counters.foreign_lines += 1,
            Some(record) => {
                if let Some(said) = Said::parse(&record.text) {
                    self.hear(now, said);
                }
            }
        }
        self.settle(now);
    }

    /// A text that the machine kept over its last restart. What comes of it has an identity: the same
    /// text is there again after the next start.
    pub fn handle_pstore(&mut self, now: Duration, text: &[u8]) {
        let mut told = 0;
        for line in text.split(|byte| *byte == b'\n') {
            let Some(kept) = Kept::parse(line) else { continue };
            let Some(records) =
                Said::parse(kept.text).and_then(|said| self.recall(&said, kept.text))
            else {
                continue;
            };
            told += 1;
            if told > MOST_KEPT {
                self.lose(now, Source::Pstore, "more lines than are told", 1);
                continue;
            }
            let confidence = if kept.certain { Confidence::Late } else { Confidence::Unknown };
            let ticket = self.record(records, Source::Pstore, confidence);
            if let Some(Output::Record(own)) = self.outputs.back_mut() {
                debug_assert_eq!(own.ticket, ticket);
                own.identity = Some(Identity::of(line));
            }
        }
    }

    /// The running kernel, `(6, 1)`: what it cannot write is not waited for. What it does write after
    /// all is believed.
    pub fn handle_release(&mut self, release: (u32, u32)) {
        let first =
            [(Module::Verity, (6, 2)), (Module::Integrity, (5, 16)), (Module::Crypt, (5, 16))];
        for (module, since) in first {
            if release < since {
                self.audited.insert(module.word(), false);
            }
        }
    }

    /// The kernel's auditing was switched on or off, or was found so.
    pub fn handle_audit_state(&mut self, _now: Duration, enabled: bool) {
        self.auditing = Some(enabled);
    }

    /// Time has passed; call it when [`Devices::poll_timeout`] says so.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.inventory.forget(now);
        self.settle(now);
    }

    /// When [`Devices::handle_timeout`] next has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let asks = self.asking.stale.then(|| self.asking.next());
        let question = self.questions.front().map(|question| question.since + PATIENCE);
        let correction = self.corrections.first().map(|one| one.since + UNAUDITED);
        let loss = self.losses.values().map(|(since, _)| *since + COLLECT).min();
        [asks, question, correction, loss, self.sightings.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// What to do next.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The devices that there are, and those that went a moment ago.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.inventory.current().chain(self.inventory.gone())
    }

    /// Violations that were told, since the start; each once.
    #[must_use]
    pub fn violations(&self) -> u64 {
        self.violations
    }

    /// What was passed over.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Does what is due.
    fn settle(&mut self, now: Duration) {
        while self.questions.front().is_some_and(|question| question.since + PATIENCE <= now) {
            if let Some(question) = self.questions.pop_front() {
                self.resolve(now, question.held, true);
            }
        }
        while let Some(decided) = self.sightings.poll(now) {
            self.tell(now, decided);
        }
        while self.corrections.first().is_some_and(|one| one.since + UNAUDITED <= now) {
            let correction = self.corrections.remove(0);
            self.tell_correction(&correction);
        }
        while let Some((&(source, what), &(_, lost))) =
            self.losses.iter().find(|(_, (since, _))| *since + COLLECT <= now)
        {
            self.losses.remove(&(source, what));
            self.tell_loss(source, what, lost);
        }
        if self.asking.stale && self.asking.next() <= now {
            self.asking = Asking { stale: true, asked: Some(now), last: Some(now) };
            self.outputs.push_back(Output::Inventory);
        }
    }

    /// Tells a failure whose sources have all had their time.
    fn tell(&mut self, now: Duration, decided: Decided) {
        let Decided { fault, audit, uevent, told } = decided;
        let mut sites = attribute::sites(&self.inventory, &fault);
        let mut confidence = Confidence::of(&sites);
        let more = sites.len().saturating_sub(MOST_SITES);
        sites.truncate(MOST_SITES);
        let mut records: Vec<Record> = sites.iter().map(report::place).collect();
        if sites.is_empty() && fault.op == EventOp::MacSuperblock && audit.is_some() {
            // Where the superblock is wrong, there will be no device.
            records.push(report::no_place(fault.dev, "its activation failed"));
            confidence = Confidence::Certain;
        } else if sites.is_empty() {
            records.push(report::no_place(fault.dev, "no mapped device that is known is meant"));
        }
        if let Some((_, body)) = records.last_mut() {
            if more > 0 {
                *body = std::mem::take(body).word("more", more);
            }
            if told {
                *body = std::mem::take(body).word("told", "before");
            }
        }
        // The hundredth is told by a record of its own.
        if !told && fault.op != EventOp::MaxCorruptedErrors {
            self.violations += 1;
            for site in &sites {
                if let Some(device) = self.inventory.get_mut(site.mapped) {
                    device.violations += 1;
                    device.state = State::Corrupted;
                    device.last = Some((fault.op, now));
                    device.place = Some(report::place(site).1);
                }
            }
        }
        let about = match audit {
            Some(event) => {
                self.outputs.push_back(Output::Beside(Beside { event, records, confidence }));
                About::Event(event)
            }
            None => {
                let module = fault.op.module().word();
                let waited = self.wait(fault.op, sites.first().map(|site| site.mapped)) == AUDITED;
                if waited && !self.audited.contains_key(module) {
                    // No record came where one could have: this kernel writes none.
                    self.audited.insert(module, false);
                    self.tell_limits();
                }
                let number = match fault.op {
                    EventOp::VerifyMetadata => None,
                    _ => fault.number,
                };
                records.insert(0, report::dm_event(fault.op, fault.dev, number));
                let source = if uevent { Source::Uevent } else { Source::Kmsg };
                About::Own(self.record(records, source, confidence))
            }
        };
        for site in sites.into_iter().filter(|_| !told) {
            self.explain(about, site);
        }
    }

    fn explain(&mut self, about: About, site: Site) {
        if let Some(bytes) = site.affected.filter(|_| !site.gone) {
            let subject = Subject::Bytes { mapped: site.mapped, bytes };
            self.outputs.push_back(Output::Explain { about, subject });
        }
    }

    fn lose(&mut self, now: Duration, source: Source, what: &'static str, lost: u64) {
        let (_, sum) = self.losses.entry((source, what)).or_insert((now, 0));
        *sum = sum.saturating_add(lost);
    }

    fn tell_loss(&mut self, source: Source, what: &'static str, lost: u64) {
        let body = Body::new()
            .word("source", source.word())
            .phrase("reason", what)
            .word("lost", lost)
            .word("count", "exact");
        self.record(vec![("VT_GAP", body)], Source::Engine, Confidence::Certain);
    }

    fn record(&mut self, records: Vec<Record>, source: Source, confidence: Confidence) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let own = Own { ticket, records, source, confidence, identity: None };
        self.outputs.push_back(Output::Record(own));
        ticket
    }

    /// How long to wait for an audit record of `op` on `device`.
    fn wait(&self, op: EventOp, mapped: Option<DeviceNumber>) -> Duration {
        let device = mapped.and_then(|mapped| self.inventory.get(mapped));
        let block = matches!(op, EventOp::VerifyData | EventOp::VerifyMetadata);
        if self.auditing != Some(true) || (block && device.is_some_and(|device| !device.audits())) {
            return UNAUDITED;
        }
        match self.audited.get(op.module().word()) {
            Some(false) => UNAUDITED,
            Some(true) | None => AUDITED,
        }
    }
}

#[cfg(test)]
mod tests;
