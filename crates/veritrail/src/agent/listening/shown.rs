//! What is shown of the agent, and what it says of itself at its beginning and end.

use record::write::Body;

use super::Agent;
use crate::agent::events::Meter;
use crate::agent::rules::Rules;
use crate::agent::sources::Served;
use crate::agent::status::{self, SourceState};

impl Agent {
    /// Brings the board up to date.
    pub(super) fn refresh(&mut self) {
        for (name, source) in &mut self.sources {
            let counts = self.context.counts.iter().find(|(of, _)| of == name);
            if let Some((_, counts)) = counts {
                [source.messages, source.events, source.lost] = counts.read();
            }
        }
        let (entries, lost_entries) = self.journal.counts();
        let (peak, capacity) = self.context.inbox.high_water();
        let mut status = self.board.lock();
        status.trail_works = !self.journal.has_failed();
        (status.entries, status.lost_entries) = (entries, lost_entries);
        status.sources = self.sources.iter().map(|(_, source)| source.clone()).collect();
        status.own_events = self.own_events;
        status.rules = self.rules.as_ref().map(Rules::status);
        status.programs = self.processes.programs().to_vec();
        status.tasks = self.processes.shown();
        if let Some(containers) = self.containers.take_shown(true) {
            status.containers = containers;
        }
        status.audit = self.audit.clone();
        status.passed_over = self.devices.passed_over();
        status.over_quota = self.over_quota;
        status.events = self.readers.as_ref().map(Meter::read);
        status.violations = self.devices.violations();
        status.forward = self.forwarding.shown();
        status.devices = self.devices.devices();
        status.devices.extend(self.served.iter().map(Served::device));
        status.inbox = status::Inbox {
            high_water: peak as u64,
            capacity: capacity as u64,
            lost_integrity: self.lost[0],
            lost_keyed: self.lost[1],
            lost_rest: self.lost[2],
        };
    }

    pub(super) fn body(&self, state: &str) -> Body {
        let with = |wanted: SourceState| {
            let names: Vec<&str> = self
                .sources
                .iter()
                .filter(|(_, source)| source.state == wanted)
                .map(|(name, _)| name.word())
                .collect();
            if names.is_empty() { "-".to_owned() } else { names.join(",") }
        };
        let body = Body::new()
            .word("state", state)
            .word("pid", self.pid)
            .word("sources", with(SourceState::Listening));
        let missing = with(SourceState::Missing);
        if missing == "-" { body } else { body.word("missing", missing) }
    }
}
