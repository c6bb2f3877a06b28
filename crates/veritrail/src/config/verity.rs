//! `[verity]`: what a corrupted device of a mode that ends the system does.
//!
//! ```toml
//! [verity]
//! restart_command = ["systemctl", "reboot"]      # --restart-on-corruption
//! panic_command = ["systemctl", "poweroff"]      # --panic-on-corruption
//! ```

use serde::{Deserialize, Serialize};

use super::Config;
use super::written::{Section, Wrong};

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Verity {
    restart_command: Option<Vec<String>>,
    panic_command: Option<Vec<String>>,
}

impl Section for Verity {
    const NAME: &'static str = "verity";

    fn check(&self, wrong: &mut Wrong<'_, '_>) {
        let commands =
            [("restart_command", &self.restart_command), ("panic_command", &self.panic_command)];
        for (key, command) in commands {
            if let Some(argv) = command {
                wrong.command(key, argv);
            }
        }
    }
}

impl Config {
    /// What to run when a device of `--restart-on-corruption` is corrupted.
    pub(crate) fn restart_command(&self) -> Option<&[String]> {
        self.verity.restart_command.as_deref()
    }

    /// What to run when a device of `--panic-on-corruption` is corrupted.
    pub(crate) fn panic_command(&self) -> Option<&[String]> {
        self.verity.panic_command.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{mistakes, read};

    #[test]
    fn a_command_has_a_program() {
        let config = read("[verity]\npanic_command = [\"systemctl\", \"poweroff\"]");
        assert_eq!(config.panic_command(), Some(&["systemctl".into(), "poweroff".into()][..]));
        assert_eq!(config.restart_command(), None);
        assert_eq!(
            mistakes("[verity]\nrestart_command = []"),
            ["2: verity.restart_command: a command needs at least its program"]
        );
    }
}
