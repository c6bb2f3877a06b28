//! `[rules]`: the audit rules that the agent has the kernel follow.
//!
//! ```toml
//! [rules]
//! dir = "/etc/veritrail/rules.d"    # *.rules, in auditctl's words
//! key = "veritrail"                 # the first key of what the agent installs
//! clock = true                      # rules for the clock's calls too, where BPF cannot see them
//! ```

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Config;
use super::written::{Section, Wrong};

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Rules {
    dir: PathBuf,
    key: String,
    clock: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { dir: crate::rules::DIRECTORY.into(), key: "veritrail".into(), clock: true }
    }
}

/// What leaves room for a rule's own keys.
const LONGEST_KEY: usize = 64;

impl Section for Rules {
    const NAME: &'static str = "rules";

    fn check(&self, wrong: &mut Wrong<'_, '_>) {
        if self.dir.is_relative() {
            wrong.key("dir", "this is not absolute");
        }
        let plain = self.key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
        if self.key.is_empty() || self.key.len() > LONGEST_KEY || !plain {
            wrong.key(
                "key",
                "a key is 1 to 64 letters, digits and signs, without blanks and quotes",
            );
        }
    }
}

impl Config {
    /// Where the agent's rules stand.
    pub(crate) fn rules_dir(&self) -> &Path {
        &self.rules.dir
    }

    /// The first key of what the agent installs.
    pub(crate) fn rules_key(&self) -> &str {
        &self.rules.key
    }

    /// Whether the agent may install rules for the calls that change the clock.
    pub(crate) fn has_clock_rules(&self) -> bool {
        self.rules.clock
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{mistakes, read};
    use super::*;

    #[test]
    fn rules_have_a_place_and_a_key() {
        let config = read("[rules]\ndir = \"/x\"\nkey = \"ours\"");
        assert_eq!((config.rules_dir(), config.rules_key()), (Path::new("/x"), "ours"));
        assert_eq!(Config::default().rules_key(), "veritrail");
        assert!(config.has_clock_rules() && !read("[rules]\nclock = false").has_clock_rules());
        for wrong in ["dir = \"x\"", "key = \"\"", "key = \"a b\"", "key = \"\\u0001\""] {
            let said = mistakes(&format!("[rules]\n{wrong}"));
            assert!(said.len() == 1 && said[0].starts_with("2: rules."), "{said:?}");
        }
    }
}
