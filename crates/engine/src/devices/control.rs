//! Mappings that are made, refused and taken away: a VT_DEVICE beside each, or of its own where the kernel
//! writes no record of it.

use std::time::Duration;

use record::EventId;

use super::audit::{Change, Controlled, DM_DEV_SUSPEND, DM_TABLE_CLEAR, DM_TABLE_LOAD};
use super::inventory::{Device, MOST_DEVICES};
use super::questions::Held;
use super::{Beside, Confidence, Devices, Output, Source, report};

impl Devices {
    /// Tells of devices that came and went where no audit record does. Those of the `first` look were
    /// there before us.
    pub(super) fn tell_changes(&mut self, source: Source, first: bool) {
        let went = self.inventory.take_went().into_iter().map(|device| (device, "removed"));
        let came = self.inventory.take_came().into_iter().map(|device| (device, "activated"));
        for (device, state) in went.chain(came).collect::<Vec<_>>() {
            let audited = device.module().and_then(|module| self.audited.get(module.word()));
            let is_silent = self.auditing == Some(false) || audited == Some(&false);
            if is_silent && !first {
                let known = Some(&device);
                let body = report::table(report::device(device.number, known, state), known);
                self.record(vec![("VT_DEVICE", body)], source, Confidence::Certain);
            }
        }
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
            }
            Change::Made => {
                if live && self.loaded.len() < MOST_DEVICES {
                    self.loaded.insert(device);
                }
                self.asking.stale = true;
                let state = if live { "loaded" } else { "activated" };
                self.consider(now, Held::Control { event, device, module, state });
            }
            Change::Destroyed { ioctl } => {
                let loaded = self.loaded.remove(&device);
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
                // The number may be another device's by now.
                let known = self.inventory.get_or_gone(device);
                let known = known.filter(|known| known.module() == Some(module));
                let body = report::table(report::device(device, known, state), known);
                let body = match known.and_then(Device::module) {
                    Some(_) => body,
                    None => body.word("module", module),
                };
                let records = vec![("VT_DEVICE", body)];
                let confidence = Confidence::Certain;
                self.outputs.push_back(Output::Beside(Beside { event, records, confidence }));
                self.asking.stale = true;
            }
        }
    }
}
