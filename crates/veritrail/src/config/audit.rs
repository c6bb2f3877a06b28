//! `[audit]`: where records come from, whether the agent is the audit daemon, and what it sets where it is.
//!
//! ```toml
//! [audit]
//! input = "netlink"            # "unix:/run/audit/audispd_events": auditd's af_unix plugin; "stdin": ours
//! node = "db1"                 # what auditd calls this machine, where that is not its host name
//! mode = "auto"                # "coexist", "own"
//! backlog_limit = 8192         # records that may wait in the kernel, at least (own)
//! backlog_wait_time = 15000    # jiffies that the kernel lets whoever makes one wait (own)
//! ```

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::Config;
use super::written::{Section, Wrong};
use crate::agent::{AuditInput, AuditLimits, AuditMode};

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Audit {
    input: String,
    node: Option<String>,
    mode: AuditMode,
    backlog_limit: u32,
    backlog_wait_time: Option<u32>,
}

impl Default for Audit {
    fn default() -> Audit {
        // Distributions' rules set as many; the kernel's own 64 are a moment of one busy process.
        Audit {
            input: "netlink".into(),
            node: None,
            mode: AuditMode::Auto,
            backlog_limit: 8192,
            backlog_wait_time: None,
        }
    }
}

/// What `audit.backlog_limit` may be, in records.
const BACKLOG_LIMIT: RangeInclusive<u32> = 64..=1 << 18;

/// What `audit.backlog_wait_time` may be, in jiffies. The kernel takes ten minutes: so many at 1000 Hz, and
/// 150,000 at 250.
const BACKLOG_WAIT_TIME: RangeInclusive<u32> = 0..=600_000;

impl Section for Audit {
    const NAME: &'static str = "audit";

    fn check(&self, wrong: &mut Wrong<'_, '_>) {
        if let Err(why) = self.input.parse::<AuditInput>() {
            wrong.key("input", why);
        }
        wrong.range("backlog_limit", &self.backlog_limit, &BACKLOG_LIMIT, "records");
        if let Some(time) = &self.backlog_wait_time {
            wrong.range("backlog_wait_time", time, &BACKLOG_WAIT_TIME, "jiffies");
        }
    }
}

/// What the command line says instead of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    /// `audit.mode`.
    pub(crate) audit_mode: Option<AuditMode>,
    /// `audit.input`.
    pub(crate) audit_input: Option<AuditInput>,
}

impl Config {
    /// Puts this in the place of what the file says.
    pub(crate) fn apply(&mut self, overrides: &Overrides) {
        let Overrides { audit_mode, audit_input } = overrides;
        self.audit.mode = audit_mode.unwrap_or(self.audit.mode);
        if let Some(input) = audit_input {
            self.audit.input = input.to_string();
        }
    }

    /// Whether the agent is the audit daemon.
    pub(crate) fn audit_mode(&self) -> AuditMode {
        self.audit.mode
    }

    /// Where the agent gets records from.
    pub(crate) fn audit_input(&self) -> AuditInput {
        self.audit.input.parse().unwrap_or_default()
    }

    /// What auditd calls this machine, where somebody says so.
    pub(crate) fn audit_node(&self) -> Option<&str> {
        self.audit.node.as_deref()
    }

    /// What the agent sets where it is the audit daemon.
    pub(crate) fn audit_limits(&self) -> AuditLimits {
        let Audit { backlog_limit, backlog_wait_time, .. } = self.audit;
        AuditLimits { backlog_limit, backlog_wait_time }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{mistakes, read};
    use super::*;

    #[test]
    fn what_it_may_be_is_said() {
        let config = read("[audit]\nmode = \"own\"\nbacklog_wait_time = 100");
        assert_eq!(config.audit_mode(), AuditMode::Own);
        let limits = AuditLimits { backlog_limit: 8192, backlog_wait_time: Some(100) };
        assert_eq!(config.audit_limits(), limits);
        for (wrong, said) in [
            ("backlog_limit = 3", "audit.backlog_limit: 3 is not 64 to 262144 records"),
            (
                "backlog_wait_time = 600001",
                "audit.backlog_wait_time: 600001 is not 0 to 600000 jiffies",
            ),
        ] {
            assert_eq!(mistakes(&format!("[audit]\n{wrong}")), [format!("2: {said}")]);
        }
    }

    #[test]
    fn where_records_come_from_is_said() {
        let input = |value: &str| read(&format!("[audit]\ninput = \"{value}\"")).audit_input();
        assert_eq!(Config::default().audit_input(), AuditInput::Netlink);
        assert_eq!(input("netlink"), AuditInput::Netlink);
        assert_eq!(input("stdin"), AuditInput::Stdin);
        assert_eq!(input("unix:/run/a"), AuditInput::Unix("/run/a".into()));
        let long = format!("unix:/{}", "x".repeat(200));
        for (wrong, said) in [
            ("unix:a", "a is not absolute"),
            (&long, "the path of a socket has 107 bytes at most"),
            ("af_unix", "`af_unix` is none of netlink, unix:PATH and stdin"),
        ] {
            let found = mistakes(&format!("[audit]\ninput = \"{wrong}\""));
            assert_eq!(found, [format!("2: audit.input: {said}")]);
        }
    }
}
