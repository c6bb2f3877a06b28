//! What the status of a device knows and no event told: read every few seconds.
//!
//! A status may be ahead of its event, and one event may count for many in the counter of dm-integrity.
//! So a rise counts for a violation of its own only if no event came shortly before it or within
//! [`GRACE`]. A status or counter that goes back is another device's.

use std::time::Duration;

use record::violation::{EventOp, Module};

use super::inventory::State;
use super::table::Status;
use super::{Confidence, DeviceNumber, Devices, Source, report};

/// How long a rise waits for its event.
const GRACE: Duration = Duration::from_secs(3);

impl Devices {
    /// Looks for what the status of a device knows and no event told.
    pub(super) fn look_at_status(&mut self, now: Duration, first: bool) {
        let looked = self.last_look;
        let quiet = self.questions.is_empty() && self.sightings.is_empty();
        let mut risen = Vec::new();
        for number in self.inventory.current().map(|device| device.number).collect::<Vec<_>>() {
            let Some(device) = self.inventory.get_mut(number) else { continue };
            let Some(status) = device.status() else { continue };
            let before = match (status, device.watch.explained) {
                (Status::Verity { corrupted: false }, _) => None,
                (Status::Verity { corrupted: true }, Some(Status::Verity { corrupted: true })) => {
                    None
                }
                (Status::Verity { corrupted: true }, _) => Some(0),
                (Status::Integrity { mismatches }, before) => {
                    let before = match before {
                        Some(Status::Integrity { mismatches }) => mismatches,
                        _ => 0,
                    };
                    (mismatches > before).then_some(before)
                }
            };
            let Some(before) = before else {
                device.watch.explained = Some(status);
                device.watch.waiting = None;
                continue;
            };
            let told = device.last.is_some_and(|(_, when)| when + GRACE >= looked);
            let verity_told = device.violations > 0 && device.module() == Some(Module::Verity);
            if told || verity_told {
                device.watch.explained = Some(status);
                device.watch.waiting = None;
                continue;
            }
            let (since, before_us) = *device.watch.waiting.get_or_insert((now, first));
            let at_once = first && quiet;
            if at_once || now >= since + GRACE {
                device.watch.explained = Some(status);
                device.watch.waiting = None;
                device.state = State::Corrupted;
                device.violations += 1;
                risen.push((number, status, before, before_us));
            }
        }
        for (number, status, before, before_us) in risen {
            self.tell_status(now, number, status, before, before_us);
        }
    }

    fn tell_status(
        &mut self,
        now: Duration,
        number: DeviceNumber,
        status: Status,
        before: u64,
        before_us: bool,
    ) {
        let Some(device) = self.inventory.get_mut(number) else { return };
        let (op, dev) = match device.verity() {
            Some(verity) => (EventOp::VerifyData, verity.data_device),
            None => (EventOp::IntegrityChecksum, number),
        };
        device.last = Some((op, now));
        device.place = None;
        self.violations += 1;
        let body = report::device(number, Some(device), "corrupted");
        let body = match status {
            Status::Integrity { mismatches } => {
                body.word("mismatches", mismatches).word("before", before)
            }
            Status::Verity { .. } => body,
        };
        let (confidence, reason) = if before_us {
            (Confidence::Late, "so at the start of the agent: when and where is not known")
        } else {
            (Confidence::Inferred, "the status says so, and no event came")
        };
        let body = report::table(body, Some(device)).phrase("reason", reason);
        let records = vec![report::dm_event(op, dev, None), ("VT_DEVICE", body)];
        self.record(records, Source::Status, confidence);
    }
}
