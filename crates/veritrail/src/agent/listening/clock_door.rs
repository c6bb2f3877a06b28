//! How changes of the clock are seen here: by programs in the kernel; where there are none, by rules of our
//! own, which have the kernel tell; where there can be none, by what they do alone, and that is recorded.

use record::write::Body;

use super::{Agent, OURS};
use crate::agent::journal::OwnRecord;
use crate::agent::sources::Name;
use crate::agent::status::SourceState;

impl Agent {
    /// Says what the rules are wanted for, before they are loaded.
    pub(super) fn want_rules_for_clock(&mut self) {
        // Who does not ask for the clock gets no rules for it.
        let wanted = self.listens(Name::Clock)
            && self.listens(Name::Audit)
            && !self.timekeeping.sees_calls();
        if let Some(rules) = &mut self.rules {
            rules.want_clock(wanted);
        }
    }

    /// Records that nobody sees who changes the clock, or somebody does again.
    pub(super) fn look_at_clock_door(&mut self) {
        if !self.listens(Name::Clock) {
            return;
        }
        let loss = match &self.rules {
            _ if self.timekeeping.sees_calls() => None,
            _ if !self.listens(Name::Audit) => Some("audit is not listened to"),
            Some(rules) => rules.clock_is_unseen(),
            None => Some("there are none"),
        };
        let loss = loss.map(|why| {
            format!("who changes it is not seen: by BPF nobody, by audit rules of ours not ({why})")
        });
        if loss == self.clock_loss {
            return;
        }
        let body = match &loss {
            Some(loss) => {
                Body::new().word("state", "degraded").word("source", "clock").phrase("reason", loss)
            }
            None => Body::new().word("state", "restored").word("source", "clock"),
        };
        self.journal.own(&[OwnRecord("VT_AGENT", body)], OURS);
        for (_, source) in self.sources.iter_mut().filter(|(name, _)| *name == Name::Clock) {
            source.consequence.clone_from(&loss);
        }
        self.clock_loss = loss;
    }

    fn listens(&self, name: Name) -> bool {
        let is_it = |(of, source): &(Name, super::Source)| {
            *of == name && source.state == SourceState::Listening
        };
        self.sources.iter().any(is_it)
    }
}
