//! What a check records: its beginning and end, and every place that is not what was promised
//! (docs/formats/scrub.md).

use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use block::verity::{Blocks, Fault, Finding, Layout};
use engine::scrub::{Counts, Last, Pass, Subject};
use record::place::DeviceId;
use record::units::DataBlock;
use record::violation::{EventOp, Violation};
use record::write::Body;
use trail::door::Receipt;
use trail::{Class, Door, Entry, Field, Lines, Own};

use crate::config::Config;
use crate::outcome::Failure;
use crate::verbs::trail::{create_if_missing, from_door, open_door};

/// How a device is named in records.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// `dev=` of its DM_EVENT records.
    pub(crate) violated: DeviceId,
    /// The mapped device, where the kernel has one: `dev=` of its VT_PLACE records.
    pub(crate) mapped: Option<DeviceId>,
    /// The name of a served device.
    pub(crate) served: Option<String>,
    /// Any bytes: whoever made the device chose them.
    pub(crate) name: Vec<u8>,
    pub(crate) data: PathBuf,
    pub(crate) hash: PathBuf,
    /// Whether the agent hears what the device's driver says when it refuses a block of this check.
    pub(crate) heard: bool,
}

/// A record to be.
struct Line(&'static str, Body);

/// The way of one check's records into a trail.
#[derive(Debug)]
pub(crate) struct Records {
    trail: PathBuf,
    door: Door,
    named: Named,
    /// Events about places so far.
    places: u64,
}

/// After so many events about single blocks those of a run are one: a disk that was overwritten
/// is not worth a trail of its own size.
const SINGLY: u64 = 1000;

impl Records {
    /// Opens the trail, and makes it if there is none.
    pub(crate) fn open(trail: PathBuf, config: &Config, named: Named) -> Result<Records, Failure> {
        if let Some(key) = create_if_missing(&trail)? {
            let (dir, key) = (trail.display(), key.to_text());
            eprintln!(
                "veritrail: made the trail {dir}; keep its public key elsewhere: {}",
                key.trim_end()
            );
        }
        let door = open_door(&trail, config)?;
        Ok(Records { trail, door, named, places: 0 })
    }

    /// The check begins, or goes on.
    pub(crate) fn began(
        &mut self,
        subject: &Subject,
        pass: &Pass,
        why: &str,
        rate: Option<u64>,
    ) -> Result<(), Failure> {
        let body = self
            .body(if pass.next == 0 { "started" } else { "resumed" })
            .word("module", subject.module.word())
            .word("backend", subject.backend.word())
            .word("why", why)
            .word("unit", pass.unit)
            .word("blocks", pass.blocks)
            .word("from", pass.next)
            .word("access", pass.access.word());
        let body = match rate {
            Some(rate) => body.word("rate", rate),
            None => body.word("rate", "max"),
        };
        let body = if self.named.heard { body.word("heard_by", "agent") } else { body };
        let body = body.word("pid", pass.pid).word("uid", rustix::process::getuid().as_raw());
        self.event(&[Line("VT_SCRUB", body)])
    }

    /// The check ended before its end.
    pub(crate) fn ended(
        &mut self,
        pass: &Pass,
        state: &str,
        reason: Option<&str>,
    ) -> Result<(), Failure> {
        let body = self.body(state).word("unit", pass.unit).word("blocks", pass.blocks);
        let body = counted(body.word("next", pass.next), &pass.counts);
        let body = effort(body, pass.bytes, pass.milliseconds).word("access", pass.access.word());
        let body = match reason {
            Some(reason) => body.untrusted("reason", reason.as_bytes()),
            None => body,
        };
        self.event(&[Line("VT_SCRUB", body)])
    }

    /// The check came to its end.
    pub(crate) fn finished(&mut self, last: &Last) -> Result<(), Failure> {
        let body = self
            .body("finished")
            .word("verdict", last.counts.verdict().word())
            .word("unit", last.unit)
            .word("blocks", last.blocks);
        let body = effort(counted(body, &last.counts), last.bytes, last.milliseconds)
            .word("access", last.access.word());
        self.event(&[Line("VT_SCRUB", body)])
    }

    /// Something in a hash tree, or in what stands under it.
    pub(crate) fn found(&mut self, finding: &Finding, layout: &Layout) -> Result<(), Failure> {
        let blocks = match &finding.blocks {
            Blocks::Data(blocks) if self.places < SINGLY => blocks.clone(),
            _ => {
                let first = finding.data_blocks().start;
                return self.place(finding, layout, first);
            }
        };
        (blocks.start.0..blocks.end.0).try_for_each(|number| {
            let block = DataBlock(number);
            let blocks = Blocks::Data(block..DataBlock(number + 1));
            self.place(&Finding { blocks, ..finding.clone() }, layout, block)
        })
    }

    fn place(
        &mut self,
        finding: &Finding,
        layout: &Layout,
        block: DataBlock,
    ) -> Result<(), Failure> {
        let place = self.place_body(finding.place(layout));
        let place = match finding.fault {
            Fault::Unreadable { errno } => place.word("errno", errno),
            _ => place,
        };
        let place = self.in_file(place, finding);
        let event = finding.violation(self.named.violated.clone(), block);
        self.at_place(event, Line("VT_PLACE", place))
    }

    /// The same, and there are right bytes for it.
    pub(crate) fn correctable(
        &mut self,
        finding: &Finding,
        layout: &Layout,
        errors: u64,
    ) -> Result<(), Failure> {
        let body = self.place_body(finding.place(layout));
        let body = body.word("errors", errors).word("result", "repairable");
        self.at_place(None, Line("VT_FEC", self.in_file(body, finding)))
    }

    /// Neighbours that a driver did not give; with `op` because they are not what was written.
    pub(crate) fn through(
        &mut self,
        blocks: Range<u64>,
        unit: u32,
        errno: i32,
        op: Option<EventOp>,
    ) -> Result<(), Failure> {
        if op.is_some() && self.named.heard {
            // The kernel's own records are the agent's to store, with the file and the mounts.
            return Ok(());
        }
        if self.places >= SINGLY {
            return self.through_place(blocks, unit, errno, op);
        }
        for block in blocks {
            self.through_place(block..block + 1, unit, errno, op)?;
        }
        Ok(())
    }

    fn through_place(
        &mut self,
        blocks: Range<u64>,
        unit: u32,
        errno: i32,
        op: Option<EventOp>,
    ) -> Result<(), Failure> {
        let byte = |block: u64| block.saturating_mul(unit.into());
        let (start, end) = (byte(blocks.start), byte(blocks.end));
        let fault = if op.is_some() { "mismatch" } else { "unreadable" };
        let words = format!(
            "role=device unit={unit} fault={fault} blocks={}-{} bytes={start}-{}",
            blocks.start,
            blocks.end.saturating_sub(1),
            end.saturating_sub(1),
        );
        let place = self.place_body(words).word("errno", errno);
        let place = place.untrusted("file", self.named.data.as_os_str().as_bytes());
        let event = op.map(|op| Violation::new(op, self.named.violated.clone(), start / 512));
        self.at_place(event, Line("VT_PLACE", place))
    }

    fn at_place(&mut self, event: Option<Violation>, place: Line) -> Result<(), Failure> {
        self.places = self.places.saturating_add(1);
        let by = Line("VT_SCRUB", self.body("found"));
        let mut lines = Vec::with_capacity(3);
        lines.extend(event.map(|violation| Line("DM_EVENT", Body::of_words(violation))));
        lines.extend([place, by]);
        self.event(&lines)
    }

    fn in_file(&self, body: Body, finding: &Finding) -> Body {
        let file = match &finding.blocks {
            Blocks::Data(_) => &self.named.data,
            Blocks::Hash { .. } => &self.named.hash,
        };
        body.untrusted("file", file.as_os_str().as_bytes())
    }

    /// The words of a place behind those that say on which of the kernel's devices it is.
    fn place_body(&self, words: impl std::fmt::Display) -> Body {
        match &self.named.mapped {
            Some(device) => Body::of_words(format_args!("dev={device} {words}"))
                .untrusted("name", &self.named.name),
            None => Body::of_words(words),
        }
    }

    fn body(&self, state: &str) -> Body {
        let body = Body::new().untrusted("name", &self.named.name).word("state", state);
        match &self.named.mapped {
            Some(device) => body.word("dev", device),
            None => body,
        }
    }

    fn event(&mut self, lines: &[Line]) -> Result<(), Failure> {
        let own: Vec<Own<'_>> =
            lines.iter().map(|Line(kind, body)| Own { kind, body: body.as_bytes() }).collect();
        let mut tail = vec![Field { name: "VT_SRC", value: "engine" }];
        if let Some(name) = &self.named.served {
            tail.push(Field { name: "VT_DEV", value: name });
        }
        let entry =
            Entry { class: Class::Integrity, ticket: None, lines: Lines::Own(&own), tail: &tail };
        self.door.submit(&entry).map(drop).map_err(|error| from_door(&self.trail, &error))
    }

    /// Returns when everything is durable.
    pub(crate) fn settle(&self) -> Result<(), Failure> {
        self.door
            .wait_durable_from(Receipt::default())
            .map_err(|error| from_door(&self.trail, &error))
    }

    /// The same, and gives the trail up.
    pub(crate) fn close(self) -> Result<(), Failure> {
        let Records { trail, door, .. } = self;
        door.close().map_err(|error| from_door(&trail, &error))
    }
}

fn counted(body: Body, counts: &Counts) -> Body {
    let Counts {
        good,
        bad,
        correctable,
        unreadable,
        unverifiable,
        unreachable,
        bad_hash,
        correctable_hash,
        unreadable_hash,
    } = *counts;
    body.word("good", good)
        .word("bad", bad)
        .word("correctable", correctable)
        .word("unreadable", unreadable)
        .word("unverifiable", unverifiable)
        .word("unreachable", unreachable)
        .word("bad_hash", bad_hash)
        .word("correctable_hash", correctable_hash)
        .word("unreadable_hash", unreadable_hash)
}

fn effort(body: Body, bytes: u64, milliseconds: u64) -> Body {
    body.word("bytes", bytes).word("ms", milliseconds)
}
