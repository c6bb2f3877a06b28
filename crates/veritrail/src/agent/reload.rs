//! The configuration, read again while the agent listens.

use std::path::{Path, PathBuf};

use record::write::Body;

use super::doorkeeper::wire::FromAgent;
use crate::config::Config;

/// What is configured, and where that was read.
#[derive(Debug)]
pub(super) struct Configured {
    now: Config,
    path: Option<PathBuf>,
}

/// What came of reading it again.
#[derive(Debug)]
pub(super) struct Reloaded {
    /// The body of the VT_AGENT that says so.
    pub(super) body: Body,
    /// What the doorkeeper is told.
    pub(super) told: FromAgent,
    /// The new configuration, where it can be used.
    pub(super) config: Option<Config>,
}

impl Configured {
    pub(super) fn new(now: Config, path: Option<PathBuf>) -> Configured {
        Configured { now, path }
    }

    /// Reads it again. One that cannot be used changes nothing.
    pub(super) fn reload(&mut self) -> Reloaded {
        let body = Body::new().word("state", "reload");
        match Config::load(self.path.as_deref().map(Path::new)) {
            Ok(config) => {
                let later = self.later(&config);
                let sinks = config.sinks() != self.now.sinks();
                self.now = config.clone();
                let body = body.word("res", 1);
                let body =
                    if later.is_empty() { body } else { body.word("later", later.join(",")) };
                let status = "listening, with the configuration read again".to_owned();
                let told = FromAgent::Reloaded { status, sinks };
                Reloaded { body, told, config: Some(config) }
            }
            Err(failure) => {
                let body = body.word("res", 0).phrase("reason", &failure.to_string());
                let status = "listening, with the old configuration: the new one cannot be used \
                              (veritrail agent check-config)";
                let told = FromAgent::Reloaded { status: status.to_owned(), sinks: false };
                Reloaded { body, told, config: None }
            }
        }
    }

    /// What takes effect only when the agent is started again.
    fn later(&self, new: &Config) -> Vec<&'static str> {
        let changed = [
            ("agent.sources", self.now.agent_sources() != new.agent_sources()),
            ("audit.input", self.now.audit_input() != new.audit_input()),
            ("agent.audit_buffer", self.now.audit_buffer() != new.audit_buffer()),
        ];
        changed.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
    }
}
