//! `[agent]`: what the agent listens to.
//!
//! ```toml
//! [agent]
//! sources = ["audit", "uevent", "kmsg", "dm", "clock", "bpf"]    # what it listens to
//! poll_seconds = 5                               # tables and counters of the device mapper
//! audit_buffer = 67108864                        # bytes that audit records may wait in
//! ```

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Config;
use super::written::{Section, Wrong};
use crate::agent::SourceName;

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Agent {
    sources: Vec<SourceName>,
    poll_seconds: u64,
    audit_buffer: usize,
}

impl Default for Agent {
    fn default() -> Agent {
        // Between two polls a counter may have risen by a violation that nothing else told. 30,000 user
        // messages at once fit a quarter of the buffer.
        Agent { sources: SourceName::ALL.to_vec(), poll_seconds: 5, audit_buffer: 64 << 20 }
    }
}

/// What `agent.poll_seconds` may be.
const POLL_SECONDS: RangeInclusive<u64> = 1..=3600;

/// What `agent.audit_buffer` may be, in bytes.
const AUDIT_BUFFER: RangeInclusive<usize> = 4096..=1 << 30;

impl Section for Agent {
    const NAME: &'static str = "agent";

    fn check(&self, wrong: &mut Wrong<'_, '_>) {
        if self.sources.is_empty() {
            wrong.key("sources", "without any there is nothing to listen to");
        }
        wrong.range("poll_seconds", &self.poll_seconds, &POLL_SECONDS, "seconds");
        wrong.range("audit_buffer", &self.audit_buffer, &AUDIT_BUFFER, "bytes");
    }
}

impl Config {
    /// What the agent listens to.
    pub(crate) fn agent_sources(&self) -> Vec<SourceName> {
        self.agent.sources.clone()
    }

    /// Bytes in which audit records may wait for the agent.
    pub(crate) fn audit_buffer(&self) -> usize {
        self.agent.audit_buffer
    }

    /// The time between two looks of the agent at what it has to ask for.
    pub(crate) fn poll(&self) -> Duration {
        Duration::from_secs(self.agent.poll_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{mistakes, read};
    use super::*;

    #[test]
    fn the_agent_is_told_what_to_listen_to() {
        let config = read("[agent]\nsources = [\"kmsg\"]\npoll_seconds = 1");
        assert_eq!(config.agent_sources(), [SourceName::Kmsg]);
        assert_eq!((config.poll(), config.audit_buffer()), (Duration::from_secs(1), 64 << 20));
        assert_eq!(Config::default().agent_sources(), SourceName::ALL);
        for (wrong, said) in [
            ("sources = []", "agent.sources: without any there is nothing to listen to"),
            ("poll_seconds = 0", "agent.poll_seconds: 0 is not 1 to 3600 seconds"),
            ("audit_buffer = 1", "agent.audit_buffer: 1 is not 4096 to 1073741824 bytes"),
        ] {
            assert_eq!(mistakes(&format!("[agent]\n{wrong}")), [format!("2: {said}")]);
        }
    }
}
