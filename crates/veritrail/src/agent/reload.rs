//! The configuration, read again while the agent listens.

use std::path::PathBuf;

use record::write::Body;

use super::doorkeeper::wire::FromAgent;
use super::home::Home;
use crate::config::{Config, Overrides};
use crate::outcome::Failure;

/// What takes effect at once, or belongs to verbs that read it when they begin. Every other key does when
/// the service is started again, and is named when it changes.
const AT_ONCE: &[&str] = &[
    "agent.poll_seconds",
    "containers.grants",
    "quota.container_bytes_per_day",
    "quota.container_keyed_per_second",
    "quota.container_rest_per_second",
    "quota.disk_reserve",
    "trail.sinks",
    "verity.panic_command",
    "verity.restart_command",
];

/// What is configured, and where that was read.
#[derive(Debug)]
pub(super) struct Configured {
    /// What this agent began with.
    first: Config,
    now: Config,
    path: Option<PathBuf>,
    overrides: Overrides,
    home: Home,
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
    pub(super) fn new(
        now: Config,
        path: Option<PathBuf>,
        overrides: Overrides,
        home: Home,
    ) -> Configured {
        Configured { first: now.clone(), now, path, overrides, home }
    }

    /// Reads it again. One that cannot be used changes nothing.
    pub(super) fn reload(&mut self) -> Reloaded {
        let body = Body::new().word("state", "reload");
        match self.read() {
            Ok(config) => {
                let later = later(&self.first, &config);
                // Both are read when the trail is opened.
                let writer = config.sinks() != self.now.sinks()
                    || config.disk_reserve() != self.now.disk_reserve();
                self.now = config.clone();
                let mut body = body.word("res", 1);
                let mut status = "listening, with the configuration read again".to_owned();
                if !later.is_empty() {
                    let later = later.join(",");
                    status.push_str(&format!("; a restart is needed for {later}"));
                    body = body.word("later", later);
                }
                let told = FromAgent::Reloaded { status, writer };
                Reloaded { body, told, config: Some(config) }
            }
            Err(failure) => {
                let body = body.word("res", 0).phrase("reason", &failure.to_string());
                let status = "listening, with the old configuration: the new one cannot be used \
                              (veritrail agent check-config)";
                let told = FromAgent::Reloaded { status: status.to_owned(), writer: false };
                Reloaded { body, told, config: None }
            }
        }
    }

    /// One that is not kept would not be that of the next agent or writer.
    fn read(&self) -> Result<Config, Failure> {
        let mut config = Config::load(self.path.as_deref())?;
        config.apply(&self.overrides);
        self.home.keep(&config)?;
        Ok(config)
    }
}

/// What of a change takes effect only when the service is started again.
fn later(first: &Config, new: &Config) -> Vec<String> {
    let mut keys = first.changed(new);
    let sends = first.has_audit_sink() != new.has_audit_sink();
    // Who sends to audit keeps the right to from the beginning on.
    keys.retain(|key| !AT_ONCE.contains(&key.as_str()) || (sends && key == "trail.sinks"));
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys that wait, of a change from `first` to `new`.
    fn later_of(first: &str, new: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            let path = dir.path().join("config");
            std::fs::write(&path, text).unwrap();
            Config::load(Some(&path)).unwrap()
        };
        later(&read(first), &read(new))
    }

    #[test]
    fn every_key_takes_effect_or_is_named() {
        let all = "[agent]\nsources = [\"audit\"]\npoll_seconds = 6\naudit_buffer = 8192\n\
                   [audit]\ninput = \"stdin\"\nnode = \"n\"\nmode = \"own\"\nbacklog_limit = 100\nbacklog_wait_time = 5\n\
                   [bpf]\nring_bytes = 8192\nstatistics = true\n\
                   [containers]\ngroups = false\nplaces = []\n\
                   [events]\nenabled = false\ngroup = \"adm\"\nreaders = 3\nreaders_per_user = 2\n\
                   [quota]\nrest_per_second = 7\ncontainer_rest_per_second = 7\ndisk_reserve = 2000000\n\
                   [rules]\ndir = \"/r\"\nkey = \"k\"\nclock = false\n\
                   [trail]\nsinks = [{ file = \"/a\" }]\n\
                   [verity]\npanic_command = [\"true\"]\n\
                   [metrics]\nlisten = \"127.0.0.1:9000\"\n\
                   [forward]\nserver = \"h:1\"\nconfirm_seconds = 2\n";
        assert_eq!(
            later_of("", all),
            [
                "agent.audit_buffer",
                "agent.sources",
                "audit.backlog_limit",
                "audit.backlog_wait_time",
                "audit.input",
                "audit.mode",
                "audit.node",
                "bpf.ring_bytes",
                "bpf.statistics",
                "containers.groups",
                "containers.places",
                "events.enabled",
                "events.group",
                "events.readers",
                "events.readers_per_user",
                "forward.confirm_seconds",
                "forward.server",
                "metrics.listen",
                "quota.rest_per_second",
                "rules.clock",
                "rules.dir",
                "rules.key",
            ]
        );
        assert!(later_of(all, all).is_empty());
        // What is written down as it was anyway is no change.
        assert!(
            later_of("", "[events]\nenabled = true\n[rules]\nkey = \"veritrail\"\n").is_empty()
        );
        assert_eq!(later_of("", "[trail]\nsinks = [{ audit = true }]\n"), ["trail.sinks"]);
    }

    #[test]
    fn what_takes_effect_at_once_is_a_key_that_there_is() {
        let text = "[agent]\npoll_seconds = 6\n[trail]\nsinks = [{ file = \"/a\" }]\n\
                    [quota]\ncontainer_bytes_per_day = 2000000\ncontainer_keyed_per_second = 1\n\
                    container_rest_per_second = 1\ndisk_reserve = 2000000\n\
                    [[containers.grants]]\nname = \"a\"\ncontainer = \"b\"\nids = [1, 2]\n\
                    [verity]\npanic_command = [\"a\"]\nrestart_command = [\"a\"]\n";
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, text).unwrap();
        let changed = Config::default().changed(&Config::load(Some(&path)).unwrap());
        assert_eq!(changed, AT_ONCE);
    }
}
