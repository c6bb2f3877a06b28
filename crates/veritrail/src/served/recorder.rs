//! What a served device records: the kernel's records, and beside them what the kernel does not
//! say (docs/formats/served.md).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use block::verity::{Blocks, Finding, Layout, Refused};
use engine::containers::{Confidence, Labelled};
use record::place::{DeviceId, Position};
use record::task::Task;
use record::violation::{Control, CtrlOp, Module};
use record::write::Body;
use trail::door::Receipt;
use trail::{Class, Door, DoorError, Entry, Field, Lines, Own};

use super::directory::Name;
use super::explaining::Explained;
use super::wire::{Counts, Report, Role};
use crate::config::Config;
use crate::outcome::{Failure, Kind};
use crate::verbs::trail::{create_if_missing, from_door, open_door};

/// The way of one device's records into its trail.
#[derive(Debug)]
pub(crate) struct Recorder {
    trail: PathBuf,
    config: Config,
    name: String,
    device: DeviceId,
    /// None after the door has failed, until it opens again.
    door: Option<Door>,
    /// Events that were lost with a door that failed, at most.
    lost: u64,
    tried: Instant,
}

/// How long to wait before a door that failed is opened again.
const AGAIN: Duration = Duration::from_secs(1);

/// A record to be.
struct Line(&'static str, Body);

/// Who was answered: his VT_READER, and the CONTAINER_ID of his container.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) body: Body,
    pub(super) labelled: Option<Labelled>,
}

/// The files of a device.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) data: PathBuf,
    pub(super) hash: PathBuf,
    pub(super) fec: Option<PathBuf>,
}

impl Files {
    fn of(&self, role: Role) -> &OsStr {
        match role {
            Role::Data => self.data.as_os_str(),
            Role::Hash => self.hash.as_os_str(),
            Role::Fec => self.fec.as_ref().unwrap_or(&self.hash).as_os_str(),
        }
    }
}

impl Recorder {
    /// Opens the trail, and makes it if there is none.
    pub(crate) fn open(trail: PathBuf, config: Config, name: &Name) -> Result<Recorder, Failure> {
        if let Some(key) = create_if_missing(&trail)? {
            let (dir, key) = (trail.display(), key.to_text());
            // Standard output belongs to the path of the device.
            eprintln!(
                "veritrail: made the trail {dir}; keep its public key elsewhere: {}",
                key.trim_end()
            );
        }
        let door = Some(open_door(&trail, &config)?);
        let name = name.as_str().to_owned();
        let tried = Instant::now();
        Ok(Recorder { trail, config, name, device: DeviceId::Unserved, door, lost: 0, tried })
    }

    /// Where the records go.
    pub(crate) fn trail(&self) -> &Path {
        &self.trail
    }

    /// From now on the device is this mount.
    pub(super) fn serve_as(&mut self, instance: (u32, u32)) {
        self.device = DeviceId::Served { name: self.name.clone(), instance };
    }

    /// The device could not be opened: as the kernel says it, a constructor that failed and the
    /// destructor that cleans up behind it, in one event.
    pub(crate) fn not_opened(&mut self, caller: &Task, error: &str) {
        let failed = self.control(CtrlOp::Ctr, caller, Some(error));
        let cleaned = self.control(CtrlOp::Dtr, caller, None);
        self.event(vec![failed, cleaned]);
    }

    /// The device was opened; `facts` say as what.
    pub(super) fn opened(&mut self, caller: &Task, facts: impl FnOnce(Body) -> Body) {
        let device = Line("VT_DEVICE", facts(self.device_body("opened")));
        let lines = vec![self.control(CtrlOp::Ctr, caller, None), device];
        self.event(lines);
    }

    /// The device was closed.
    pub(super) fn closed(&mut self, caller: &Task, counts: Option<Counts>) {
        let device = Line("VT_DEVICE", with_counts(self.device_body("closed"), counts));
        let lines = vec![self.control(CtrlOp::Dtr, caller, None), device];
        self.event(lines);
    }

    /// The volume ended by itself.
    pub(super) fn failed(&mut self, keeper: &Task, reason: &str) {
        let body = self.device_body("failed").phrase("reason", reason);
        let lines = vec![self.control(CtrlOp::Dtr, keeper, None), Line("VT_DEVICE", body)];
        self.event(lines);
    }

    /// An earlier keeper of this name was killed: what it had not handed in is lost.
    pub(crate) fn left_behind(&mut self, opened: u64) {
        let body = Body::new()
            .word("source", "device")
            .word("device", &self.name)
            .word("opened", opened)
            .word("count", "unknown");
        self.event(vec![Line("VT_GAP", body)]);
    }

    /// The volume said something that cannot be.
    pub(super) fn nonsense(&mut self) {
        let body = Body::new()
            .word("source", "volume")
            .word("device", &self.name)
            .word("integrity", 1)
            .word("count", "exact");
        self.event(vec![Line("VT_GAP", body)]);
    }

    /// A block was not what was promised. One event, and before the one of the hundredth refusal
    /// that of the device. Gives the text of the last record, for `status`.
    pub(super) fn violation(
        &mut self,
        refused: &Refused,
        layout: &Layout,
        files: &Files,
        reader: &Answered,
    ) -> String {
        let mut last = String::new();
        // As the kernel has it, a violation is of the data device, which here is the device itself.
        for violation in refused.violations(self.device.clone(), self.device.clone()) {
            let place = match violation.place.position {
                Position::Whole => Body::new().word("role", "device"),
                _ => place(&refused.finding, layout, files),
            };
            last = violation.to_string();
            let event = Line("DM_EVENT", Body::of_words(&violation));
            self.event_of(vec![event, Line("VT_PLACE", place)], reader);
        }
        last
    }

    /// A block was not what was promised, and error correction brought it back.
    pub(super) fn corrected(
        &mut self,
        finding: &Finding,
        errors: u64,
        layout: &Layout,
        files: &Files,
        reader: &Answered,
    ) {
        let role = role_of(finding);
        let body = place_words(finding, layout)
            .word("errors", errors)
            .word("result", "corrected")
            .untrusted("file", files.of(role).as_bytes());
        self.event_of(vec![Line("VT_FEC", body)], reader);
    }

    /// A disk did not answer, which says nothing about integrity; the reader had no data all the same.
    pub(super) fn unreadable(
        &mut self,
        role: Role,
        offset: u64,
        errno: i32,
        files: &Files,
        reader: &Answered,
    ) {
        let body = Body::new()
            .word("role", role.word())
            .word("unit", 1)
            .word("fault", "unreadable")
            .word("bytes", format_args!("{offset}-"))
            .word("errno", errno)
            .untrusted("file", files.of(role).as_bytes());
        self.event_of(vec![Line("VT_PLACE", body)], reader);
    }

    /// What lies at the place of a violation was found out.
    pub(super) fn explained(&mut self, explained: Explained) {
        let Explained { records, labelled } = explained;
        let lines = records.into_iter().map(|(kind, body)| Line(kind, body)).collect();
        self.event_labelled(lines, labelled.as_ref());
    }

    /// Of so many violations it was not found out.
    pub(super) fn unexplained(&mut self, places: u64) {
        let body = Body::new()
            .word("source", "explain")
            .word("device", &self.name)
            .word("records", places)
            .word("count", "exact");
        self.event(vec![Line("VT_GAP", body)]);
    }

    /// Returns when everything is durable.
    pub(crate) fn settle(&self) -> Result<(), Failure> {
        let door = self.door.as_ref().ok_or_else(|| self.shut())?;
        door.wait_durable_from(Receipt::default()).map_err(|e| from_door(&self.trail, &e))
    }

    /// The same, and gives the trail up.
    pub(crate) fn close(mut self) -> Result<(), Failure> {
        self.reopen();
        let door = self.door.take().ok_or_else(|| self.shut())?;
        door.close().map_err(|error| from_door(&self.trail, &error))
    }

    /// How many events are lost at most since the trail could last be written.
    pub(super) fn lost(&self) -> u64 {
        let failed = self.door.as_ref().filter(|door| door.has_failed());
        self.lost + failed.map_or(0, Door::unaccounted)
    }

    fn shut(&self) -> Failure {
        let what = format!("the trail {} cannot be written", self.trail.display());
        Failure::new(Kind::Io, what).because(format!("{} records are lost at most", self.lost))
    }

    fn control(&self, op: CtrlOp, task: &Task, error: Option<&str>) -> Line {
        let control = Control { module: Module::Verity, op, device: &self.device, error };
        Line("DM_CTRL", control.body(task))
    }

    fn device_body(&self, state: &str) -> Body {
        Body::new().untrusted("name", self.name.as_bytes()).word("state", state)
    }

    /// Hands one event in. Nobody waits for it here, and a door that fails loses what it held:
    /// that is counted, and said as soon as there is a door again.
    fn event(&mut self, lines: Vec<Line>) {
        self.event_labelled(lines, None);
    }

    /// The same of what a reader ran into.
    fn event_of(&mut self, mut lines: Vec<Line>, reader: &Answered) {
        lines.push(Line("VT_READER", reader.body.clone()));
        self.event_labelled(lines, reader.labelled.as_ref());
    }

    fn event_labelled(&mut self, mut lines: Vec<Line>, labelled: Option<&Labelled>) {
        let records = labelled.iter().flat_map(|labelled| &labelled.records);
        lines.extend(records.map(|(kind, body)| Line(kind, body.clone())));
        let confidence = labelled.map(|labelled| labelled.confidence);
        if self.door.is_none() && self.tried.elapsed() >= AGAIN {
            self.reopen();
        }
        let Some(door) = &self.door else {
            self.lost += 1;
            return;
        };
        if submit(door, &self.name, &lines, confidence).is_err() {
            self.lost += door.unaccounted() + 1;
            self.door = None;
        }
    }

    fn reopen(&mut self) {
        if self.door.is_some() {
            return;
        }
        self.tried = Instant::now();
        let Ok(door) = open_door(&self.trail, &self.config) else { return };
        let body = Body::new()
            .word("source", "door")
            .word("device", &self.name)
            .word("integrity", self.lost)
            .word("count", "at-most");
        if submit(&door, &self.name, &[Line("VT_GAP", body)], None).is_ok() {
            self.lost = 0;
            self.door = Some(door);
        }
    }
}

fn submit(
    door: &Door,
    name: &str,
    lines: &[Line],
    confidence: Option<Confidence>,
) -> Result<(), DoorError> {
    let own: Vec<Own<'_>> =
        lines.iter().map(|Line(kind, body)| Own { kind, body: body.as_bytes() }).collect();
    let ours = [Field { name: "VT_SRC", value: "engine" }, Field { name: "VT_DEV", value: name }];
    let sure = confidence.map(|sure| Field { name: "VT_CONF", value: sure.word() });
    let tail: Vec<Field<'_>> = ours.into_iter().chain(sure).collect();
    let entry =
        Entry { class: Class::Integrity, ticket: None, lines: Lines::Own(&own), tail: &tail };
    door.offer(&entry).map(drop)
}

fn role_of(finding: &Finding) -> Role {
    match finding.blocks {
        Blocks::Data(_) => Role::Data,
        Blocks::Hash { .. } => Role::Hash,
    }
}

pub(super) fn place(finding: &Finding, layout: &Layout, files: &Files) -> Body {
    let file = files.of(role_of(finding));
    place_words(finding, layout).untrusted("file", file.as_bytes())
}

fn place_words(finding: &Finding, layout: &Layout) -> Body {
    Body::of_words(finding.place(layout))
}

fn with_counts(body: Body, counts: Option<Counts>) -> Body {
    let Some(Counts { reads, violations, corrected, io_errors }) = counts else { return body };
    body.word("reads", reads)
        .word("violations", violations)
        .word("corrected", corrected)
        .word("io_errors", io_errors)
}

/// The body of VT_READER: who was answered, and with what. Of a reader that was not seen only the numbers are there that came with its
/// request.
pub(super) fn reader(report: &Report, seen: Option<&Task>, answer: &str) -> Body {
    let body = match seen {
        Some(task) => {
            let body = Body::new()
                .word("pid", task.pid)
                .word("tid", report.tid)
                .word("uid", report.uid)
                .word("gid", report.gid)
                .word("auid", task.auid)
                .word("ses", task.ses)
                .untrusted("comm", &task.comm);
            match &task.exe {
                Some(exe) => body.untrusted("exe", exe),
                None => body.word("exe", "(null)"),
            }
        }
        None => Body::new()
            .word("pid", "?")
            .word("tid", report.tid)
            .word("uid", report.uid)
            .word("gid", report.gid),
    };
    body.word("answer", answer)
}
