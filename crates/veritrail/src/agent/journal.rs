//! The agent's way into the trail. Nothing waits here; what cannot be handed in is counted, and said
//! as soon as the trail can be written again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use record::EventId;
use record::value::push_untrusted;
use record::write::Body;
use trail::door::{Receipt, Role, Standing};
use trail::{Class, Door, DoorError, Entry, Field, Lines, Origin, Own};

use super::heard::Heard;
use crate::config::Config;
use crate::outcome::Failure;
use crate::verbs::trail::{create_if_missing, from_door, open_door_as};

/// A record of ours: its type's name and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnRecord(pub(super) &'static str, pub(super) Body);

/// Something that was handed in, to be asked for later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handed {
    door: u64,
    receipt: Receipt,
}

/// The trail, as long as it can be written.
#[derive(Debug)]
pub(super) struct Journal {
    trail: PathBuf,
    config: Config,
    door: Option<Door>,
    /// How many doors there were before this one.
    doors: u64,
    /// Entries that were lost with a door that failed, at most.
    lost: u64,
    /// Entries handed in.
    entries: u64,
    /// Entries that no trail takes.
    refused: u64,
    tried: Instant,
    last: Option<Handed>,
}

/// How long to wait before a door that failed is opened again.
const AGAIN: Duration = Duration::from_secs(1);

/// How long nothing may become durable before it is said that the trail cannot be written.
const SLOW: Duration = Duration::from_secs(5);

impl Journal {
    /// Makes the trail unless there is one, and says the key of one that was made.
    pub(super) fn make(trail: &Path) -> Result<(), Failure> {
        if let Some(key) = create_if_missing(trail)? {
            eprintln!(
                "veritrail: made the trail {}; keep its public key elsewhere: {}",
                trail.display(),
                key.to_text().trim_end()
            );
        }
        Ok(())
    }

    /// Opens the trail, which starts threads.
    pub(super) fn open(trail: PathBuf, config: Config) -> Result<Journal, Failure> {
        let door = Some(open_door_as(Role::Client, &trail, &config)?);
        Ok(Journal {
            trail,
            config,
            door,
            doors: 0,
            lost: 0,
            entries: 0,
            refused: 0,
            tried: Instant::now(),
            last: None,
        })
    }

    pub(super) fn trail(&self) -> &Path {
        &self.trail
    }

    /// What the trail was opened with.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// The kernel's event, as it came; and the keys of the rule that asks for it, where those of the record are
    /// another one's.
    pub(super) fn kernel(&mut self, heard: &Heard, asked_by: Option<&[u8]>) {
        let value = if heard.is_foreign { "auditd" } else { "kernel" };
        let ended: Vec<Vec<u8>>;
        let lines: Vec<&[u8]> = match heard.origin {
            Origin::Netlink => heard.lines.iter().map(Vec::as_slice).collect(),
            Origin::File => {
                ended = heard.lines.iter().map(|line| [line, &b"\n"[..]].concat()).collect();
                ended.iter().map(Vec::as_slice).collect()
            }
        };
        let lines = Lines::Foreign { origin: heard.origin, lines: &lines };
        let source = Field { name: "VT_SRC", value };
        match asked_by.map(key_value) {
            None => self.offer(heard.class, lines, &[source]),
            Some(keys) => {
                self.offer(heard.class, lines, &[source, Field { name: "VT_KEY", value: &keys }])
            }
        };
    }

    /// An event of ours; none where the trail has no room for it now.
    pub(super) fn own(&mut self, records: &[OwnRecord], tail: &[Field<'_>]) -> Option<Handed> {
        self.offer(Class::Integrity, Lines::Own(&borrowed(records)), tail)
    }

    /// Records of ours in an event of the kernel of this class: they are no more than it is.
    pub(super) fn beside(
        &mut self,
        event: EventId,
        class: Class,
        records: &[OwnRecord],
        tail: &[Field<'_>],
    ) {
        let lines = Lines::Beside { event, records: &borrowed(records) };
        self.offer(class, lines, tail);
    }

    fn offer(&mut self, class: Class, lines: Lines<'_>, tail: &[Field<'_>]) -> Option<Handed> {
        self.reopen();
        let Some(door) = &self.door else {
            self.lost += 1;
            return None;
        };
        match door.offer(&Entry { class, ticket: None, lines, tail }) {
            Ok(Some(receipt)) => {
                self.entries += 1;
                self.last = Some(Handed { door: self.doors, receipt });
                return self.last;
            }
            // The door counts it and says so.
            Ok(None) => {}
            Err(DoorError::Refused { .. }) => self.refused += 1,
            Err(_) => {
                self.lost += door.unaccounted() + 1;
                self.door = None;
                self.tried = Instant::now();
            }
        }
        None
    }

    /// What was handed in last.
    pub(super) fn last(&self) -> Option<Handed> {
        self.last
    }

    /// Whether that is durable, or known to be lost and told.
    pub(super) fn is_settled(&self, handed: Handed) -> bool {
        match &self.door {
            Some(door) => handed.door < self.doors || door.is_settled(handed.receipt),
            None => false,
        }
    }

    /// Why the trail cannot be written at all: its door has failed before anything else happened.
    pub(super) fn failure(&self) -> Option<Failure> {
        let door = self.door.as_ref()?;
        door.failure().map(|error| from_door(&self.trail, &error))
    }

    /// Whether the trail cannot be written at the moment: there is no writer, or what waits for it does
    /// not become durable.
    pub(super) fn has_failed(&self) -> bool {
        let hangs = |door: &Door| door.waits_since().is_some_and(|since| since.elapsed() >= SLOW);
        let fails =
            |door: &Door| door.has_failed() || door.standing() == Standing::Looking || hangs(door);
        self.door.as_ref().is_none_or(fails)
    }

    /// Entries handed in, and those that are lost at most and not yet told of.
    pub(super) fn counts(&self) -> (u64, u64) {
        let failed = self.door.as_ref().filter(|door| door.has_failed());
        (self.entries, self.lost + failed.map_or(0, Door::unaccounted))
    }

    /// Entries that no trail takes, since this was last asked.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Returns when everything is durable, and gives the trail up.
    pub(super) fn close(mut self) -> Result<(), Failure> {
        self.tried = self.tried.checked_sub(AGAIN).unwrap_or(self.tried);
        self.reopen();
        let trail = self.trail;
        match self.door {
            Some(door) => door.close().map_err(|error| from_door(&trail, &error)),
            None => Err(Failure::new(
                crate::outcome::Kind::Io,
                format!("the trail {} cannot be written", trail.display()),
            )
            .because(format!("{} events are lost at most", self.lost))),
        }
    }

    /// Opens the door again where it has failed, and says what was lost with it.
    fn reopen(&mut self) {
        if let Some(door) = &self.door {
            if !door.has_failed() {
                return;
            }
            self.lost += door.unaccounted();
            self.door = None;
        }
        if self.tried.elapsed() < AGAIN {
            return;
        }
        self.tried = Instant::now();
        let Ok(door) = open_door_as(Role::Client, &self.trail, &self.config) else { return };
        let body =
            Body::new().word("source", "door").word("events", self.lost).word("count", "at-most");
        let records = [OwnRecord("VT_GAP", body)];
        let lines = Lines::Own(&borrowed(&records));
        let tail = [Field { name: "VT_SRC", value: "engine" }];
        let entry = Entry { class: Class::Integrity, ticket: None, lines, tail: &tail };
        if let Ok(Some(receipt)) = door.offer(&entry) {
            self.lost = 0;
            self.doors += 1;
            self.last = Some(Handed { door: self.doors, receipt });
            self.door = Some(door);
        }
    }
}

fn borrowed(records: &[OwnRecord]) -> Vec<Own<'_>> {
    records.iter().map(|OwnRecord(kind, body)| Own { kind, body: body.as_bytes() }).collect()
}

/// As `key=` of a record has it.
fn key_value(keys: &[u8]) -> String {
    if keys.is_empty() {
        return "(null)".into();
    }
    let mut value = Vec::new();
    push_untrusted(&mut value, keys);
    value.into_iter().map(char::from).collect()
}
