//! What has been heard and waits to learn which device it is about.

use std::time::Duration;

use record::EventId;
use record::violation::{EventOp, Module};
use record::write::Body;

use super::audit::{Change, Controlled, DM_DEV_SUSPEND, DM_TABLE_CLEAR, DM_TABLE_LOAD, Found};
use super::kernel_log::{Named, Said};
use super::*;

/// Questions that are open at once. Of more, the oldest is answered with what is known.
const MOST_QUESTIONS: usize = 1024;

/// Corrected blocks that are collected at once.
const MOST_CORRECTIONS: usize = 256;

/// Failed activations that are remembered.
const MOST_FAILED: usize = 64;

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

/// Error correction was busy in one place.
#[derive(Clone, Debug)]
pub(super) struct Correction {
    pub(super) since: Duration,
    data_device: DeviceNumber,
    codeword: u64,
    errors: u64,
}

impl Devices {
    /// Resolves what was heard, or holds it until the devices are known.
    pub(super) fn consider(&mut self, now: Duration, held: Held) {
        let current = self.inventory.read && !self.asking.stale;
        let held = if current { self.resolve(now, held, false) } else { Some(held) };
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
                self.sightings.note(now, Witness::Audit(event), fault, None, wait);
            }
            Held::Uevent { device, block } => {
                let known = self.inventory.get_or_gone(device).and_then(|one| one.verity());
                let Some(dev) = known.map(|verity| verity.data_device).or(last.then_some(device))
                else {
                    return Some(held);
                };
                let fault = mismatch(dev, Some(device), block);
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
                    if let [site] = &sites[..] {
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
    fn see(&mut self, now: Duration, witness: Witness, fault: Fault) {
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
        let silent = self.wait(EventOp::VerifyData, Some(mapped)) == UNAUDITED;
        let Some(device) = self.inventory.get_mut(mapped) else { return };
        if std::mem::replace(&mut device.watch.limit_told, true) || !silent {
            return;
        }
        let body = Body::new()
            .word("source", Source::Uevent.word())
            .word("dev", report::number(mapped))
            .untrusted("name", &device.name)
            .phrase(
                "reason",
                "after 100 mismatches the kernel tells of no more, and no audit record will",
            )
            .word("count", "unknown");
        self.record(vec![("VT_GAP", body)], Source::Engine, Confidence::Certain);
    }

    /// A line of the kernel log.
    pub(super) fn hear(&mut self, now: Duration, said: Said<'_>) {
        match said {
            Said::Mismatch { data_device, block } => {
                let fault = mismatch(data_device, None, block);
                self.consider(now, Held::Log { fault, dm: None });
            }
            Said::Limit { data_device } => {
                let fault = whole(EventOp::MaxCorruptedErrors, data_device);
                self.consider(now, Held::Log { fault, dm: None });
            }
            Said::Sector { op, device, sector } => {
                let (dev, dm) = match device {
                    Named::Number(number) => (number, None),
                    Named::Dm(minor) => ((0, minor), Some(minor)),
                    Named::Disk(_) => ((0, 0), None),
                };
                let fault = Fault { number: Some(sector), ..whole(op, dev) };
                self.consider(now, Held::Log { fault, dm });
            }
            Said::Unplaced { op } => {
                // The log does not say where; one candidate is as good as certain.
                let dev = self.only_integrity().unwrap_or((0, 0));
                self.see(now, Witness::Kmsg, whole(op, dev));
            }
            Said::Corrected { data_device, codeword, errors } => {
                self.correct(now, data_device, codeword, errors);
            }
            Said::File(file) => {
                let records = vec![report::file(&file)];
                let ticket = self.record(records, Source::Kmsg, Confidence::Certain);
                let subject = Subject::Inode { fs: file.fs.to_vec(), inode: file.inode };
                self.outputs.push_back(Output::Explain { about: About::Own(ticket), subject });
            }
            Said::Suppressed { lines, .. } => {
                self.lose(
                    now,
                    Source::Kmsg,
                    "the kernel limits the rate of its lines",
                    Lost::Exact(lines),
                );
            }
            // The machine goes down: what could be written now is what pstore keeps.
            Said::Down { .. } => {}
        }
    }

    fn only_integrity(&self) -> Option<DeviceNumber> {
        let integrity = |device: &&Device| device.module() == Some(Module::Integrity);
        let mut devices = self.inventory.current().filter(integrity);
        let first = devices.next()?;
        devices.next().is_none().then_some(first.number)
    }

    fn correct(&mut self, now: Duration, data_device: DeviceNumber, codeword: u64, errors: u64) {
        let same = self
            .corrections
            .iter_mut()
            .find(|one| (one.data_device, one.codeword) == (data_device, codeword));
        if let Some(one) = same {
            one.errors = one.errors.saturating_add(errors);
            return;
        }
        self.corrections.push(Correction { since: now, data_device, codeword, errors });
        if self.corrections.len() > MOST_CORRECTIONS {
            let first = self.corrections.remove(0);
            self.tell_correction(&first);
        }
    }

    /// The log has the position within a round of the code: of every round one block could be meant.
    pub(super) fn tell_correction(&mut self, correction: &Correction) {
        let Correction { data_device, codeword, errors, .. } = *correction;
        let fault = whole(EventOp::VerifyData, data_device);
        let sites = attribute::sites(&self.inventory, &fault);
        let confidence = Confidence::of(&sites);
        let known = sites.first().and_then(|site| self.inventory.get(site.mapped));
        let mut body = match known {
            Some(known) => {
                Body::new().word("dev", report::number(known.number)).untrusted("name", &known.name)
            }
            None => Body::new(),
        };
        body = body.word("data_dev", report::number(data_device)).word("fault", "mismatch");
        if let Some(verity) = known.and_then(|known| known.verity()) {
            let unit = verity.data_block_size;
            let block = codeword / u64::from(unit);
            body = body.word("unit", unit);
            if let Some(fec) = verity.fec {
                let rounds = fec.blocks.div_ceil(255 - u64::from(fec.roots));
                body = body.word("first", block).word("step", rounds);
            }
        }
        let body = body.word("errors", errors).word("result", "corrected");
        self.record(vec![("VT_FEC", body)], Source::Kmsg, confidence);
    }

    /// A table was made, refused or destroyed.
    pub(super) fn control(&mut self, now: Duration, event: EventId, controlled: Controlled) {
        let Controlled { module, dev: device, change } = controlled;
        let live = self.inventory.get(device).is_some_and(|known| known.module().is_some());
        match change {
            Change::Refused(error) => {
                let known = self.inventory.get(device);
                let body = report::device(device, known, "activation-failed")
                    .word("module", module)
                    .phrase("reason", &error);
                let records = vec![("VT_DEVICE", body)];
                let confidence = Confidence::Certain;
                self.outputs.push_back(Output::Beside(Beside { event, records, confidence }));
                self.failed.push_back((device, module));
                if self.failed.len() > MOST_FAILED {
                    self.failed.pop_front();
                }
            }
            Change::Made => {
                if self.loaded.len() < inventory::MOST_DEVICES {
                    *self.loaded.entry(device).or_default() += 1;
                }
                self.asking.stale = true;
                let state = if live { "loaded" } else { "activated" };
                self.consider(now, Held::Control { event, device, module, state });
            }
            Change::Destroyed { ioctl } => {
                let loaded = self.loaded.remove(&device).is_some();
                let state = match ioctl {
                    Some(DM_DEV_SUSPEND) => "reloaded",
                    Some(DM_TABLE_LOAD | DM_TABLE_CLEAR) => "load-dropped",
                    None if loaded && live => "reloaded",
                    _ => "removed",
                };
                if state == "reloaded" {
                    self.asking.stale = true;
                    self.consider(now, Held::Control { event, device, module, state });
                    return;
                }
                let known = self.inventory.get_or_gone(device);
                let body = report::table(report::device(device, known, state), known);
                let body = match known.and_then(Device::module) {
                    Some(_) => body,
                    None => body.word("module", module),
                };
                let records = vec![("VT_DEVICE", body)];
                let confidence = Confidence::Certain;
                self.outputs.push_back(Output::Beside(Beside { event, records, confidence }));
                if state == "removed" {
                    self.inventory.remove(now, device);
                }
                self.asking.stale = true;
            }
        }
    }

    /// What a line of the last boot says. Its device numbers are those of that boot.
    pub(super) fn recall(&self, said: &Said<'_>, line: &[u8]) -> Option<Vec<Record>> {
        let dm = |named: &Named<'_>| match *named {
            Named::Number(number) => number,
            Named::Dm(minor) => self.inventory.dm(minor).unwrap_or((0, minor)),
            Named::Disk(_) => (0, 0),
        };
        let event = match said {
            Said::Mismatch { data_device, block: Mismatch::Data(block) } => {
                report::dm_event(EventOp::VerifyData, *data_device, Some(*block))
            }
            Said::Mismatch { data_device, block: Mismatch::Hash(_) } => {
                report::dm_event(EventOp::VerifyMetadata, *data_device, None)
            }
            Said::Limit { data_device } => {
                report::dm_event(EventOp::MaxCorruptedErrors, *data_device, None)
            }
            Said::Sector { op, device, sector } => report::dm_event(*op, dm(device), Some(*sector)),
            Said::Unplaced { op } => report::dm_event(*op, (0, 0), None),
            Said::Down { panic } => {
                let state = if *panic { "panicked" } else { "restarted" };
                let body = Body::new().word("state", state).word("module", "verity");
                return Some(vec![("VT_DEVICE", body.untrusted("line", line))]);
            }
            Said::File(_) | Said::Corrected { .. } | Said::Suppressed { .. } => return None,
        };
        let place = Body::new()
            .phrase("reason", "from before the last start of the machine")
            .untrusted("line", line.get(..512).unwrap_or(line));
        Some(vec![event, ("VT_PLACE", place)])
    }
}

fn whole(op: EventOp, dev: DeviceNumber) -> Fault {
    Fault { op, dev, number: None, hash_block: None, mapped: None }
}

fn mismatch(dev: DeviceNumber, mapped: Option<DeviceNumber>, block: Mismatch) -> Fault {
    match block {
        Mismatch::Data(number) => {
            Fault { number: Some(number), mapped, ..whole(EventOp::VerifyData, dev) }
        }
        Mismatch::Hash(block) => {
            Fault { hash_block: Some(block), mapped, ..whole(EventOp::VerifyMetadata, dev) }
        }
    }
}
