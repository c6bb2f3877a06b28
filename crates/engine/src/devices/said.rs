//! What follows from a line of the kernel log, of this boot or the last.

use std::time::Duration;

use block::verity::FecTable;
use record::violation::{EventOp, Module};
use record::write::Body;

use super::inventory::Device;
use super::kernel_log::{Named, Said};
use super::questions::Held;
use super::sightings::{NO_DEVICE, Witness};
use super::table::Target;
use super::uevent::Mismatch;
use super::{About, Confidence, DeviceNumber, Devices, Output, Record, Source, Subject, report};
use crate::attribute::{self, Fault};

/// Corrected blocks that are collected at once.
const MOST_CORRECTIONS: usize = 256;

/// Error correction was busy in one place.
#[derive(Clone, Debug)]
pub(super) struct Correction {
    pub(super) since: Duration,
    data_device: DeviceNumber,
    codeword: u64,
    errors: u64,
}

impl Devices {
    /// A line of the kernel log.
    pub(super) fn hear(&mut self, now: Duration, said: Said<'_>) {
        match said {
            Said::Mismatch { data_device, block } => {
                let fault = Fault::mismatch(data_device, None, block);
                self.consider(now, Held::Log { fault, dm: None });
            }
            Said::Limit { data_device } => {
                let fault = Fault::whole(EventOp::MaxCorruptedErrors, data_device);
                self.consider(now, Held::Log { fault, dm: None });
            }
            Said::Sector { op, device, sector } => {
                let (dev, dm) = match device {
                    Named::Number(number) => (number, None),
                    Named::Dm(minor) => ((0, minor), Some(minor)),
                    Named::Disk(_) => (self.only_inline().unwrap_or(NO_DEVICE), None),
                };
                let fault = Fault { number: Some(sector), ..Fault::whole(op, dev) };
                self.consider(now, Held::Log { fault, dm });
            }
            Said::Unplaced { op } => {
                // The log does not say where; one candidate is as good as certain.
                let dev = self.only_integrity().unwrap_or(NO_DEVICE);
                self.see(now, Witness::Kmsg, Fault::whole(op, dev));
            }
            Said::Corrected { data_device, codeword, errors } => {
                self.correct(now, data_device, codeword, errors);
            }
            Said::File(file) => {
                self.violations += 1;
                let records = vec![report::file(&file)];
                let ticket = self.record(records, Source::Kmsg, Confidence::Certain);
                let subject = Subject::Inode { fs: file.fs.to_vec(), inode: file.inode };
                self.outputs.push_back(Output::Explain { about: About::Own(ticket), subject });
            }
            Said::Suppressed { lines, module } => {
                if module.is_some_and(|module| self.is_audited(module)) {
                    self.counters.spared_lines += lines;
                } else {
                    let what = "the kernel limits the rate of its lines";
                    self.lose(now, Source::Kmsg, what, lines);
                }
            }
            // The machine goes down: what could be written now is what pstore keeps.
            Said::Down { .. } => {}
        }
    }

    /// Whether every violation on a device of this module gets an audit record.
    fn is_audited(&self, module: Module) -> bool {
        let mut devices = self.inventory.current().filter(|device| device.module() == Some(module));
        self.auditing == Some(true)
            && self.audited.get(module.word()) == Some(&true)
            && devices.all(Device::audits)
    }

    fn only_integrity(&self) -> Option<DeviceNumber> {
        let integrity = |device: &&Device| device.module() == Some(Module::Integrity);
        let mut devices = self.inventory.current().filter(integrity);
        let first = devices.next()?;
        devices.next().is_none().then_some(first.number)
    }

    /// Only the inline mode reports the disk below, which the log names otherwise than a record.
    fn only_inline(&self) -> Option<DeviceNumber> {
        let targets = self.inventory.current().flat_map(Device::targets);
        let mut inline = targets.filter_map(|target| match target {
            Target::Integrity(integrity) if integrity.mode == 'I' => Some(integrity.device),
            _ => None,
        });
        let first = inline.next()?;
        inline.next().is_none().then_some(first)
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

    /// A block that is bad after all was not corrected, whatever the decoder counted.
    pub(super) fn was_not_corrected(&mut self, fault: &Fault) {
        let Some(block) = fault.number.filter(|_| fault.op == EventOp::VerifyData) else { return };
        let inventory = &self.inventory;
        self.corrections.retain(|one| {
            let here = inventory.current().filter_map(Device::verity);
            let mut here = here.filter(|verity| verity.data_device == fault.dev);
            !here.any(|verity| {
                let position = one.codeword / u64::from(verity.unit());
                let rounds = verity.table.fec.as_ref().and_then(FecTable::rounds);
                one.data_device == fault.dev
                    && rounds.is_some_and(|rounds| block % rounds == position)
            })
        });
    }

    /// The log has the position within a round of the code: of every round one block could be meant.
    pub(super) fn tell_correction(&mut self, correction: &Correction) {
        let Correction { data_device, codeword, errors, .. } = *correction;
        let fault = Fault::whole(EventOp::VerifyData, data_device);
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
            let unit = verity.unit();
            let block = codeword / u64::from(unit);
            body = body.word("unit", unit);
            if let Some(fec) = &verity.table.fec
                && let Some(rounds) = fec.rounds()
            {
                body = if rounds >= fec.blocks {
                    body.word("blocks", format_args!("{block}-{block}"))
                } else {
                    body.word("first", block).word("step", rounds)
                };
            }
        }
        let body = body.word("errors", errors).word("result", "corrected");
        self.record(vec![("VT_FEC", body)], Source::Kmsg, confidence);
    }

    /// What a line of the last boot says. Its device numbers are those of that boot.
    pub(super) fn recall(&self, said: &Said<'_>, line: &[u8]) -> Option<Vec<Record>> {
        let dm = |named: &Named<'_>| match *named {
            Named::Number(number) => number,
            Named::Dm(minor) => self.inventory.dm(minor).unwrap_or((0, minor)),
            Named::Disk(_) => NO_DEVICE,
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
            Said::Unplaced { op } => report::dm_event(*op, NO_DEVICE, None),
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
