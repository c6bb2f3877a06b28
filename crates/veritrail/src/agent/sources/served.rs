//! The devices that are served from this run directory: each is asked how it is.

use std::path::PathBuf;
use std::time::Instant;

use super::{ForSource, Input, LOOK};
use crate::agent::status::Device;
use crate::agent::tree::Shown;
use crate::served::{Directory, State, Status};
use crate::verbs::verity;

/// One of them.
#[derive(Debug)]
pub(in crate::agent) struct Served(Status);

impl Served {
    /// As the agent's status has it.
    pub(in crate::agent) fn device(&self) -> Device {
        let Served(status) = self;
        let state = match status.facts.state {
            State::Dead => "dead",
            State::Active | State::Deferred if status.facts.corrupted => "corrupted",
            State::Active | State::Deferred => "active",
        };
        Device {
            name: status.facts.name.clone(),
            device: None,
            module: "verity".to_owned(),
            state: state.to_owned(),
            violations: status.counts.as_ref().map_or(0, |counts| counts.violations),
            last_violation: status.last_violation.as_ref().map(|last| last.event.clone()),
            last_file: None,
        }
    }

    /// As the tree shows it.
    pub(in crate::agent) fn shown(&self) -> Shown {
        Shown {
            name: self.0.facts.name.clone().into_bytes(),
            path: PathBuf::from(&self.0.facts.path),
            status: serde_json::to_string(&self.device()).unwrap_or_default(),
        }
    }
}

/// Asks all of them, again and again. Their servers record what happens themselves; a device whose
/// server does not answer is left out until it does.
pub(super) fn read(directory: &Directory, context: &ForSource) {
    loop {
        let names = directory.names().unwrap_or_default();
        let find = |name| verity::find(directory, name).ok().flatten();
        let served = names.iter().filter_map(find).map(Served).collect();
        context.inbox.put(Input::Served(served));
        let until = Instant::now() + context.poll.every();
        while Instant::now() < until {
            if context.is_stopping() {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }
}
