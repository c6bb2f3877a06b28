//! What has been heard and waits to learn which device it is about.

use std::time::Duration;

use record::EventId;
use record::violation::{EventOp, Module};
use record::write::Body;

use super::audit::Found;
use super::inventory::Device;
use super::sightings::Witness;
use super::uevent::Mismatch;
use super::{
    Beside, Confidence, DeviceNumber, Devices, Output, Source, UNAUDITED, VERITY_LIMIT, report,
};
use crate::attribute::{self, Fault, Site};

/// Questions that are open at once. Of more, the oldest is answered with what is known.
const MOST_QUESTIONS: usize = 1024;

/// Something that waits for an inventory.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) since: Duration,
    pub(super) held: Held,
}

#[derive(Clone, Debug)]
pub(super) enum Held {
    /// The kernel recorded a violation.
    Audit { event: EventId, found: Found },
    /// dm-verity sent a device event.
    Uevent { device: DeviceNumber, block: Mismatch },
    /// The kernel log has a violation on a device it names by number, or by the number of its mapping.
    Log { fault: Fault, dm: Option<u32> },
    /// A table became live, or will.
    Control { event: EventId, device: DeviceNumber, module: Module, state: &'static str },
}

impl Devices {
    /// Resolves what was heard, or holds it until the devices are known.
    pub(super) fn consider(&mut self, now: Duration, held: Held) {
        let current = self.inventory.read && !self.asking.stale;
        // A device whose superblock is wrong is never there.
        let never = matches!(held, Held::Audit { found, .. } if found.op == EventOp::MacSuperblock);
        let held = if current || never { self.resolve(now, held, never) } else { Some(held) };
        let Some(held) = held else { return };
        self.asking.stale = true;
        self.questions.push_back(Question { since: now, held });
        if self.questions.len() > MOST_QUESTIONS
            && let Some(question) = self.questions.pop_front()
        {
            self.resolve(now, question.held, true);
        }
    }

    /// Resolves what waited for the inventory that just came.
    pub(super) fn answer(&mut self, now: Duration) {
        for question in std::mem::take(&mut self.questions) {
            let since = question.since;
            if let Some(held) = self.resolve(now, question.held, false) {
                self.asking.stale = true;
                self.questions.push_back(Question { since, held });
            }
        }
    }

    /// Gives `held` back if it can wait to learn more; at `last` it cannot.
    pub(super) fn resolve(&mut self, now: Duration, held: Held, last: bool) -> Option<Held> {
        match held {
            Held::Audit { event, found } => {
                let fault = Fault {
                    op: found.op,
                    dev: found.dev,
                    number: found.number,
                    hash_block: None,
                    mapped: None,
                };
                let sites = attribute::sites(&self.inventory, &fault);
                if sites.is_empty() && !last {
                    return Some(held);
                }
                // A second source knows which hash block, and which of several devices.
                let learns = found.op == EventOp::VerifyMetadata || sites.len() > 1;
                let wait = if learns { UNAUDITED } else { Duration::ZERO };
                self.was_not_corrected(&fault);
                self.sightings.note(now, Witness::Audit(event), fault, None, wait);
            }
            Held::Uevent { device, block } => {
                let known = self.inventory.get_or_gone(device).and_then(|one| one.verity());
                let Some(dev) = known.map(|verity| verity.data_device).or(last.then_some(device))
                else {
                    return Some(held);
                };
                let fault = Fault::mismatch(dev, Some(device), block);
                self.count_uevent(device);
                self.see(now, Witness::Uevent, fault);
            }
            Held::Log { mut fault, dm } => {
                if let Some(minor) = dm {
                    match self.inventory.dm(minor) {
                        Some(device) => fault.dev = device,
                        None if !last => return Some(held),
                        None => {}
                    }
                }
                let sites = attribute::sites(&self.inventory, &fault);
                if sites.is_empty() && !last {
                    return Some(Held::Log { fault, dm });
                }
                if fault.op == EventOp::MaxCorruptedErrors {
                    // The audit record names the mapped device here.
                    for site in &sites {
                        self.reach_limit(site.mapped);
                    }
                    let sent = |site: &&Site| {
                        self.inventory.get(site.mapped).map_or(0, |device| device.watch.uevents)
                    };
                    if let Some(site) = sites.iter().max_by_key(sent) {
                        fault.dev = site.mapped;
                    }
                }
                self.see(now, Witness::Kmsg, fault);
            }
            Held::Control { event, device, module, state } => {
                let known = self.inventory.get(device);
                if known.is_none_or(|known| known.module().is_none()) && !last {
                    return Some(held);
                }
                let body = report::device(device, known, state);
                let body = match known.and_then(Device::module) {
                    Some(_) => report::table(body, known),
                    None => body.word("module", module),
                };
                let confidence =
                    if known.is_some() { Confidence::Certain } else { Confidence::Unknown };
                let records = vec![("VT_DEVICE", body)];
                self.outputs.push_back(Output::Beside(Beside { event, records, confidence }));
            }
        }
        None
    }

    /// Notes what a second source saw.
    pub(super) fn see(&mut self, now: Duration, witness: Witness, fault: Fault) {
        self.was_not_corrected(&fault);
        let sites = attribute::sites(&self.inventory, &fault);
        let first = sites.first();
        let covers = first.and_then(|site| site.covers.clone());
        let wait = self.wait(fault.op, first.map(|site| site.mapped));
        self.sightings.note(now, witness, fault, covers, wait);
    }

    /// Counts the device events of a verity device, which end at a hundred.
    fn count_uevent(&mut self, mapped: DeviceNumber) {
        let Some(device) = self.inventory.get_mut(mapped) else { return };
        device.watch.uevents += 1;
        if device.watch.uevents >= VERITY_LIMIT {
            self.reach_limit(mapped);
        }
    }

    /// The kernel says no more of this device. That is a loss where nothing else tells of it.
    fn reach_limit(&mut self, mapped: DeviceNumber) {
        if let Some(device) = self.inventory.get_mut(mapped) {
            device.watch.limit_reached = true;
        }
        self.tell_limits();
    }

    pub(super) fn tell_limits(&mut self) {
        let due = |device: &&Device| {
            device.watch.limit_reached
                && !device.watch.limit_told
                && self.wait(EventOp::VerifyData, Some(device.number)) == UNAUDITED
        };
        let due: Vec<DeviceNumber> =
            self.inventory.current().filter(due).map(|device| device.number).collect();
        for mapped in due {
            let Some(device) = self.inventory.get_mut(mapped) else { continue };
            device.watch.limit_told = true;
            let body = Body::new()
                .word("source", Source::Uevent.word())
                .word("dev", report::number(mapped))
                .untrusted("name", &device.name)
                .phrase("reason", "of mismatches after the 100th the kernel tells nothing here")
                .word("count", "unknown");
            self.record(vec![("VT_GAP", body)], Source::Engine, Confidence::Certain);
        }
    }
}
