//! `[events]`: who may read events as they come (docs/formats/agent.md, events.sock).
//!
//! ```toml
//! [events]
//! enabled = true
//! group = "adm"                                  # may read beside root and the trail's owner
//! readers = 16                                   # at once, of all users
//! readers_per_user = 8
//! ```

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::Config;
use super::written::{Section, Wrong};

/// The section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Events {
    /// Whether there is a socket at all.
    pub(crate) enabled: bool,
    /// The group that may read beside root and the trail's owner.
    pub(crate) group: Option<String>,
    /// Readers at once, of all users.
    pub(crate) readers: usize,
    /// Readers at once, of one user.
    pub(crate) readers_per_user: usize,
}

impl Default for Events {
    fn default() -> Events {
        Events { enabled: true, group: None, readers: 16, readers_per_user: 8 }
    }
}

/// Each has a thread and up to 2 MiB of memory.
const READERS: RangeInclusive<usize> = 1..=256;

impl Section for Events {
    const NAME: &'static str = "events";

    fn check(&self, wrong: &mut Wrong<'_, '_>) {
        wrong.range("readers", &self.readers, &READERS, "readers");
        wrong.range("readers_per_user", &self.readers_per_user, &READERS, "readers");
        if self.group.as_ref().is_some_and(|group| group.is_empty() || group.contains('\0')) {
            wrong.key("group", "that is no name of a group");
        }
    }
}

impl Config {
    /// Who may read events as they come.
    pub(crate) fn events(&self) -> Events {
        self.events.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{mistakes, read};
    use super::*;

    #[test]
    fn readers_are_bounded() {
        assert_eq!(read("").events(), Events::default());
        assert_eq!(read("[events]\ngroup = \"adm\"").events().group.as_deref(), Some("adm"));
        for (wrong, said) in [
            ("readers = 0", "events.readers: 0 is not 1 to 256 readers"),
            ("readers_per_user = 257", "events.readers_per_user: 257 is not 1 to 256 readers"),
            ("group = \"\"", "events.group: that is no name of a group"),
        ] {
            assert_eq!(mistakes(&format!("[events]\n{wrong}")), [format!("2: {said}")]);
        }
    }
}
