//! The configuration file, `/etc/veritrail/veritrail.toml`. Everything works without one.
//!
//! ```toml
//! [trail]
//! sinks = [{ file = "/mnt/elsewhere/anchors" }, { command = ["logger", "-t", "veritrail"] }]
//!
//! [verity]
//! restart_command = ["systemctl", "reboot"]      # --restart-on-corruption
//! panic_command = ["systemctl", "poweroff"]      # --panic-on-corruption
//! ```

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use trail::sinks::Sink;

use crate::outcome::{Failure, Kind};

/// The trail of whoever says nothing else: the system's for root, and for others one of their own.
pub(crate) fn default_trail() -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/log/veritrail"));
    }
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    state.map(|state| state.join("veritrail/trail")).ok_or_else(|| {
        Failure::new(Kind::Environment, "neither XDG_STATE_HOME nor HOME says where a trail can be")
            .hint("name one: --trail DIR")
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
}

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
}
