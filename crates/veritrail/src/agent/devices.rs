//! The kernel's devices: what the engine makes of what was heard, on its way into the trail, to the
//! explainers and to whoever asks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use engine::devices::{
    About, Counters, DeviceNumber, Devices, Mapped, Output, Own, State, Subject, Ticket,
};
use record::Line;
use trail::{Class, Field};

use super::explain::{Explained, Explainers, Job};
use super::heard::Heard;
use super::journal::{Journal, OwnRecord};
use super::kept::Kept;
use super::status::{Device, PassedOver};
use super::tree::{Shown, escape};
use crate::clock;

/// So long an event of ours is held back for what lies at its place: then both are one event. (Records
/// beside an event of the kernel need not be waited for.)
const HOLD: Duration = Duration::from_secs(1);

/// So long the look for a file is asked after.
const ASK_FOR: Duration = Duration::from_secs(60);

/// Between two questions.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Looks that are asked after at once.
const MOST_PENDING: usize = 1024;

/// What is known of the kernel's devices.
pub(super) struct Watched {
    engine: Devices,
    explainers: Explainers,
    /// Events of ours that are held back, with the explanations still to come and the time of their end.
    held: BTreeMap<Ticket, (Own, usize, Duration)>,
    /// Places of events that were written before all that lies there was found: what is found later is
    /// written with its place again.
    late: BTreeMap<Ticket, OwnRecord>,
    /// Looks that go on, and when to ask.
    pending: Vec<(Duration, Job)>,
    /// The file that was hit last, by device.
    files: BTreeMap<DeviceNumber, String>,
    kept: Kept,
    /// Devices and mounts when files were last listed ahead.
    prepared: (Vec<DeviceNumber>, Vec<u8>),
}

impl Watched {
    pub(super) fn new(explainers: Explainers) -> Watched {
        let mut engine = Devices::new();
        if let Some(release) = clock::kernel_release() {
            engine.handle_release(release);
        }
        Watched {
            engine,
            explainers,
            held: BTreeMap::new(),
            late: BTreeMap::new(),
            pending: Vec::new(),
            files: BTreeMap::new(),
            kept: Kept::read(),
            prepared: Default::default(),
        }
    }

    pub(super) fn handle_event(&mut self, now: Duration, heard: &Heard) {
        let Some(id) = heard.id else { return };
        let lines: Vec<Line<'_>> =
            heard.lines.iter().filter_map(|line| Line::parse(line).ok()).collect();
        self.engine.handle_event(now, id, &lines);
    }

    pub(super) fn handle_uevent(&mut self, now: Duration, raw: &[u8]) {
        self.engine.handle_uevent(now, raw);
    }

    pub(super) fn handle_kmsg(&mut self, now: Duration, raw: &[u8]) {
        self.engine.handle_kmsg(now, raw);
    }

    pub(super) fn handle_inventory(&mut self, now: Duration, devices: Vec<Mapped>) {
        self.engine.handle_inventory(now, devices);
        self.prepare();
    }

    /// Lists the files of what is mounted, once for every change: to look for one of ten thousand when
    /// its block was read is too late to be told within a second. Mounts of other namespaces are seen
    /// with the next change of these.
    fn prepare(&mut self) {
        let verifying = |device: &&engine::devices::Device| {
            device.state != State::Gone && device.module().is_some()
        };
        let devices: Vec<_> =
            self.engine.devices().filter(verifying).map(|device| device.number).collect();
        // Where they cannot be read, files are listed when they are asked for.
        let now = (devices, host::mountinfo::read().unwrap_or_default());
        if now != self.prepared {
            if !now.0.is_empty() {
                self.explainers.prepare(now.0.clone());
            }
            self.prepared = now;
        }
    }

    /// What the machine kept over its last restart; says what of it cannot be read whole.
    pub(super) fn recall(&mut self, now: Duration, journal: &mut Journal) {
        for text in self.kept.texts() {
            if text.is_cut {
                let body = record::write::Body::new().word("source", "pstore");
                let body = body.untrusted("file", text.name.as_encoded_bytes());
                let body = body.word("count", "unknown");
                journal.own(&[OwnRecord("VT_GAP", body)], &[SOURCE]);
            }
            self.engine.handle_pstore(now, &text.bytes);
        }
    }

    /// What was recalled is durable: the next agent of this machine need not tell it again.
    pub(super) fn keep_recalled(&self) {
        self.kept.write();
    }

    pub(super) fn handle_auditing(&mut self, now: Duration, on: bool) {
        self.engine.handle_audit_state(now, on);
    }

    /// What lies at a place was found out, or as much of it as could be in time.
    pub(super) fn handle_explained(
        &mut self,
        now: Duration,
        explained: Explained,
        journal: &mut Journal,
    ) {
        let Explained { mut job, records, file, is_pending, .. } = explained;
        if let Subject::Bytes { mapped, .. } = job.subject
            && let Some(file) = file
        {
            self.files.insert(mapped, file);
        }
        let again = job.give_up.is_some();
        let give_up = *job.give_up.get_or_insert(now + ASK_FOR);
        let goes_on = is_pending && now < give_up;
        // That the look goes on is said once, and then how it ended.
        let records = if goes_on && again { Vec::new() } else { records };
        match job.about {
            About::Event(event) => {
                if !records.is_empty() {
                    journal.beside(event, Class::Integrity, &records, &[SOURCE]);
                }
            }
            About::Own(ticket) => match self.held.get_mut(&ticket) {
                Some((own, open, _)) => {
                    own.records
                        .extend(records.into_iter().map(|OwnRecord(kind, body)| (kind, body)));
                    *open = open.saturating_sub(1);
                    if goes_on {
                        remember(&mut self.late, ticket, own);
                    }
                }
                // Too late to be in the same event: whoever finds it alone is to know where that is.
                None => {
                    if !records.is_empty() {
                        let place = self.late.get(&ticket).cloned();
                        let records: Vec<OwnRecord> = place.into_iter().chain(records).collect();
                        journal.own(&records, &[SOURCE]);
                    }
                    if !goes_on {
                        self.late.remove(&ticket);
                    }
                }
            },
        }
        if goes_on && self.pending.len() < MOST_PENDING {
            self.pending.push((now + ASK_AGAIN, job));
        }
    }

    /// Does what is due and what the engine wants done. True where it wants an inventory.
    pub(super) fn act(&mut self, now: Duration, journal: &mut Journal) -> bool {
        if self.engine.poll_timeout().is_some_and(|due| due <= now) {
            self.engine.handle_timeout(now);
        }
        let mut wants_inventory = false;
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Inventory => wants_inventory = true,
                Output::Record(own) if !self.kept.is_new(own.identity) => {}
                Output::Record(own) => {
                    self.held.insert(own.ticket, (own, 0, now + HOLD));
                }
                Output::Beside(beside) => {
                    let tail = [SOURCE, confidence(beside.confidence.word())];
                    journal.beside(beside.event, Class::Integrity, &owned(beside.records), &tail);
                }
                Output::Explain { about, subject } => {
                    if let Subject::Bytes { mapped, .. } = subject {
                        self.files.remove(&mapped);
                    }
                    let job = Job::new(about, subject);
                    if self.explainers.ask(job)
                        && let About::Own(ticket) = about
                        && let Some((_, open, _)) = self.held.get_mut(&ticket)
                    {
                        *open += 1;
                    }
                }
            }
        }
        let ready = |(_, open, until): &(Own, usize, Duration)| *open == 0 || *until <= now;
        for (ticket, (own, open, _)) in self.held.extract_if(.., |_, held| ready(held)) {
            if open > 0 {
                remember(&mut self.late, ticket, &own);
            }
            write(own, journal);
        }
        for (_, job) in self.pending.extract_if(.., |(due, _)| *due <= now) {
            self.explainers.ask(job);
        }
        wants_inventory
    }

    /// Writes what is held back: nothing more is waited for.
    pub(super) fn end(&mut self, journal: &mut Journal) {
        while let Some((_, (own, ..))) = self.held.pop_first() {
            write(own, journal);
        }
    }

    /// When there next is something to do.
    pub(super) fn due(&self) -> Option<Duration> {
        let held = self.held.values().map(|(_, _, until)| *until);
        let pending = self.pending.iter().map(|(due, _)| *due);
        self.engine.poll_timeout().into_iter().chain(held).chain(pending).min()
    }

    /// Places that nobody had time to explain, since this was last asked.
    pub(super) fn take_unexplained(&mut self) -> u64 {
        self.explainers.take_lost()
    }

    pub(super) fn passed_over(&self) -> PassedOver {
        let Counters { foreign_lines, unreadable_lines, unknown_records, spared_lines } =
            self.engine.counters();
        PassedOver { foreign_lines, unreadable_lines, unknown_records, spared_lines }
    }

    pub(super) fn violations(&self) -> u64 {
        self.engine.violations()
    }

    /// Every device that is there or was a moment ago.
    pub(super) fn devices(&self) -> Vec<Device> {
        let device = |device: &engine::devices::Device| {
            let place =
                device.place.as_ref().map(|place| String::from_utf8_lossy(place.as_bytes()));
            let (major, minor) = device.number;
            Device {
                name: String::from_utf8_lossy(&escape(&device.name)).into_owned(),
                device: Some(format!("{major}:{minor}")),
                module: device.module().map_or("other", |module| module.word()).to_owned(),
                state: device.state.word().to_owned(),
                violations: device.violations,
                last_violation: place.map(Cow::into_owned),
                last_file: self
                    .files
                    .get(&device.number)
                    .filter(|_| device.violations > 0)
                    .cloned(),
            }
        };
        self.engine.devices().map(device).collect()
    }

    /// The same for the tree: those that are there.
    pub(super) fn shown(&self) -> Vec<Shown> {
        let there = self.engine.devices().zip(self.devices());
        let there = there.filter(|(device, _)| device.state != State::Gone);
        let shown = |(device, status): (&engine::devices::Device, Device)| {
            let mut path = b"/dev/mapper/".to_vec();
            path.extend_from_slice(&escape(&device.name));
            Shown {
                name: device.name.clone(),
                path: PathBuf::from(std::ffi::OsString::from_vec(path)),
                status: serde_json::to_string(&status).unwrap_or_default(),
            }
        };
        there.map(shown).collect()
    }
}

/// Keeps the place of an event of ours for what will be found there.
fn remember(late: &mut BTreeMap<Ticket, OwnRecord>, ticket: Ticket, own: &Own) {
    if let Some((kind, body)) = own.records.iter().find(|(kind, _)| *kind == "VT_PLACE") {
        late.insert(ticket, OwnRecord(kind, body.clone()));
    }
    // A look that was given up for want of room is never answered.
    if late.len() > MOST_PENDING {
        late.pop_first();
    }
}

const SOURCE: Field<'static> = Field { name: "VT_SRC", value: "engine" };

fn confidence(value: &str) -> Field<'_> {
    Field { name: "VT_CONF", value }
}

fn owned(records: Vec<(&'static str, record::write::Body)>) -> Vec<OwnRecord> {
    records.into_iter().map(|(kind, body)| OwnRecord(kind, body)).collect()
}

fn write(own: Own, journal: &mut Journal) {
    let Own { records, source, confidence: sure, .. } = own;
    let tail = [Field { name: "VT_SRC", value: source.word() }, confidence(sure.word())];
    journal.own(&owned(records), &tail);
}
