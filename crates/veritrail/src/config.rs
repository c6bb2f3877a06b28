//! The configuration file, `/etc/veritrail/veritrail.toml`. Everything works without one.
//!
//! ```toml
//! [trail]
//! sinks = [{ file = "/mnt/elsewhere/anchors" }, { command = ["logger", "-t", "veritrail"] }]
//!
//! [verity]
//! restart_command = ["systemctl", "reboot"]      # --restart-on-corruption
//! panic_command = ["systemctl", "poweroff"]      # --panic-on-corruption
//!
//! [agent]
//! sources = ["audit", "uevent", "kmsg", "dm"]    # what it listens to
//! poll_seconds = 5                               # tables and counters of the device mapper
//! audit_buffer = 67108864                        # bytes that audit records may wait in
//! ```

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use trail::sinks::Sink;

use crate::agent::SourceName;
use crate::outcome::{Failure, Kind};

/// The trail of whoever says nothing else: the system's for root, and for others one of their own.
pub(crate) fn default_trail() -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/log/veritrail"));
    }
    Ok(default_state().map_err(|failure| failure.hint("name one: --trail DIR"))?.join("trail"))
}

/// Where what outlives a boot is kept: of the system for root, and of others their own.
pub(crate) fn default_state() -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/veritrail"));
    }
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    state.map(|state| state.join("veritrail")).ok_or_else(|| {
        let what = "neither XDG_STATE_HOME nor HOME says where to keep what outlives this process";
        Failure::new(Kind::Environment, what)
    })
}

const PATH: &str = "/etc/veritrail/veritrail.toml";

/// The file as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(default)]
    trail: Trail,
    #[serde(default)]
    verity: Verity,
    #[serde(default)]
    agent: Agent,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Agent {
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

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Verity {
    restart_command: Option<Vec<String>>,
    panic_command: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trail {
    #[serde(default)]
    sinks: Vec<SinkEntry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum SinkEntry {
    File(PathBuf),
    Command(Vec<String>),
}

impl Config {
    /// Reads `path`, or the system's file if there is one.
    pub(crate) fn load(path: Option<&Path>) -> Result<Config, Failure> {
        let (path, named) = path.map_or((Path::new(PATH), false), |path| (path, true));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !named => {
                return Ok(Config::default());
            }
            Err(error) => {
                let what = format!("cannot read the configuration {}", path.display());
                return Err(Failure::new(Kind::Io, what).because(error));
            }
        };
        toml::from_str::<Config>(&text)
            .map_err(|error| error.to_string())
            .and_then(Config::check)
            .map_err(|error| {
                let what = format!("the configuration {} cannot be used", path.display());
                Failure::new(Kind::Unusable, what).because(error.trim_end())
            })
    }

    fn check(self) -> Result<Config, String> {
        for sink in &self.trail.sinks {
            match sink {
                SinkEntry::Command(argv) if argv.is_empty() => {
                    return Err("trail.sinks: a command needs at least its program".into());
                }
                SinkEntry::File(path) if path.is_relative() => {
                    return Err(format!("trail.sinks: {} is not absolute", path.display()));
                }
                _ => {}
            }
        }
        let commands = [
            ("restart_command", &self.verity.restart_command),
            ("panic_command", &self.verity.panic_command),
        ];
        for (key, command) in commands {
            if command.as_ref().is_some_and(Vec::is_empty) {
                return Err(format!("verity.{key}: a command needs at least its program"));
            }
        }
        let Agent { sources, poll_seconds, audit_buffer } = &self.agent;
        if sources.is_empty() {
            return Err("agent.sources: without any there is nothing to listen to".into());
        }
        if !POLL_SECONDS.contains(poll_seconds) {
            let (least, most) = POLL_SECONDS.into_inner();
            return Err(format!(
                "agent.poll_seconds: {poll_seconds} is not {least} to {most} seconds"
            ));
        }
        if !AUDIT_BUFFER.contains(audit_buffer) {
            let (least, most) = AUDIT_BUFFER.into_inner();
            return Err(format!(
                "agent.audit_buffer: {audit_buffer} is not {least} to {most} bytes"
            ));
        }
        Ok(self)
    }

    /// What to run when a device of `--restart-on-corruption` is corrupted.
    pub(crate) fn restart_command(&self) -> Option<&[String]> {
        self.verity.restart_command.as_deref()
    }

    /// What to run when a device of `--panic-on-corruption` is corrupted.
    pub(crate) fn panic_command(&self) -> Option<&[String]> {
        self.verity.panic_command.as_deref()
    }

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

    /// Where checkpoints go.
    pub(crate) fn sinks(&self) -> Vec<Sink> {
        let sink = |entry: &SinkEntry| match entry {
            SinkEntry::File(path) => Some(Sink::File(path.clone())),
            SinkEntry::Command(argv) => {
                let (program, args) = argv.split_first()?;
                let args = args.iter().map(Into::into).collect();
                Some(Sink::Command { program: program.into(), args })
            }
        };
        self.trail.sinks.iter().filter_map(sink).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_are_read() {
        let text = r#"[trail]
            sinks = [{ file = "/a" }, { command = ["logger", "-t", "x"] }]"#;
        let config: Config = toml::from_str(text).unwrap();
        let args = vec!["-t".into(), "x".into()];
        let expected = [Sink::File("/a".into()), Sink::Command { program: "logger".into(), args }];
        assert_eq!(config.check().unwrap().sinks(), expected);
        for wrong in ["[trail]\nsink = []", "x = 1", "[trail]\nsinks = [{ file = \"/a\", b = 1 }]"]
        {
            assert!(toml::from_str::<Config>(wrong).is_err(), "{wrong}");
        }
        for wrong in ["sinks = [{ command = [] }]", "sinks = [{ file = \"a\" }]"] {
            let config: Config = toml::from_str(&format!("[trail]\n{wrong}")).unwrap();
            assert!(config.check().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_agent_is_told_what_to_listen_to() {
        let parse = |text: &str| {
            let config = toml::from_str::<Config>(text).map_err(|error| error.to_string())?;
            config.check()
        };
        let config = parse("[agent]\nsources = [\"kmsg\"]\npoll_seconds = 1").unwrap();
        assert_eq!(config.agent_sources(), [SourceName::Kmsg]);
        assert_eq!((config.poll(), config.audit_buffer()), (Duration::from_secs(1), 64 << 20));
        assert_eq!(Config::default().agent_sources(), SourceName::ALL);
        for (wrong, said) in [
            ("sources = []", "agent.sources: without any"),
            ("sources = [\"log\"]", "unknown variant `log`"),
            ("poll_seconds = 0", "agent.poll_seconds: 0 is not 1 to 3600 seconds"),
            ("audit_buffer = 1", "agent.audit_buffer: 1 is not 4096 to 1073741824 bytes"),
            ("buffer = 1", "unknown field `buffer`"),
        ] {
            let error = parse(&format!("[agent]\n{wrong}")).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
