//! `[containers]`: containers that nobody registers.
//!
//! ```toml
//! [containers]
//! groups = true                                   # find them by their control groups
//! places = ["/var/lib/docker", "/run/containerd"] # where runtimes' files say what theirs are called
//! ```

use std::path::PathBuf;

use serde::Deserialize;

use super::Config;
use super::written::{Section, Wrong};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Containers {
    groups: bool,
    places: Vec<PathBuf>,
}

/// Where docker, containerd, podman and CRI-O have their files unless they are told otherwise.
const PLACES: [&str; 5] = [
    "/var/lib/docker",
    "/run/containerd",
    "/run/docker/containerd/daemon",
    "/var/lib/containers/storage",
    "/run/containers/storage",
];

impl Default for Containers {
    fn default() -> Containers {
        Containers { groups: true, places: PLACES.map(PathBuf::from).into() }
    }
}

/// More are not looked into for each container.
const MOST_PLACES: usize = 16;

impl Section for Containers {
    const NAME: &'static str = "containers";

    fn check(&self, wrong: &mut Wrong<'_, '_>) {
        if self.places.len() > MOST_PLACES {
            wrong.key("places", format_args!("these are more than {MOST_PLACES}"));
        }
        for (index, place) in self.places.iter().enumerate() {
            wrong.absolute(&format!("places.{index}"), place);
        }
    }
}

impl Config {
    /// Where runtimes' files lie; none where containers are not looked for.
    pub(crate) fn container_places(&self) -> Option<Vec<PathBuf>> {
        self.containers.groups.then(|| self.containers.places.clone())
    }
}

#[cfg(test)]
mod tests {
    use host::bpf::Program;

    use super::super::tests::{mistakes, read};

    #[test]
    fn containers_are_found_unless_it_is_switched_off() {
        assert_eq!(read("").container_places().map(|places| places.len()), Some(5));
        assert!(read("").bpf().programs.contains(&Program::Groups));
        let off = read("[containers]\ngroups = false");
        assert_eq!(off.container_places(), None);
        assert!(!off.bpf().programs.contains(&Program::Groups));
        let set = read("[containers]\nplaces = [\"/a\"]");
        assert_eq!(set.container_places(), Some(vec!["/a".into()]));
        assert_eq!(
            mistakes("[containers]\nplaces = [\"/a\", \"b\"]"),
            ["2: containers.places.1: b is not absolute"]
        );
    }
}
