//! `[containers]`: containers that nobody registers.
//!
//! ```toml
//! [containers]
//! groups = true                                   # find them by their control groups
//! places = ["/var/lib/docker", "/run/containerd"] # where runtimes' files say what theirs are called
//!
//! [[containers.grants]]                           # a container that may make others within itself
//! name = "ci"                                     # what records call it
//! container = "ci-runner"                         # its name or its runtime's id; a number is its identifier
//! ids = [1000000, 1000999]                        # the identifiers that it may give: from, to
//! containers = 64                                 # that may live under it at a time
//! ```

use std::ops::RangeInclusive;
use std::path::PathBuf;

use engine::containers::{Grantee, LIVES, LONGEST_TEXT};
use record::units::ContId;

use serde::{Deserialize, Serialize};

use super::Config;
use super::written::{Section, Wrong};

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Containers {
    groups: bool,
    places: Vec<PathBuf>,
    grants: Vec<Grant>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Grant {
    name: String,
    container: Who,
    ids: [u64; 2],
    #[serde(default = "containers")]
    containers: usize,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(
    untagged,
    expecting = "a container is its name or its runtime's id, or a number: its identifier"
)]
enum Who {
    Contid(u64),
    Called(String),
}

fn containers() -> usize {
    64
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
        Containers { groups: true, places: PLACES.map(PathBuf::from).into(), grants: Vec::new() }
    }
}

/// More are not looked into for each container.
const MOST_PLACES: usize = 16;

const MOST_GRANTS: usize = 64;

/// A grant's name begins the names of the containers that are made under it.
const LONGEST_NAME: usize = 32;

const CONTAINERS: RangeInclusive<usize> = 1..=LIVES;

impl Section for Containers {
    const NAME: &'static str = "containers";

    fn check(&self, wrong: &mut Wrong<'_, '_>) {
        if self.places.len() > MOST_PLACES {
            wrong.key("places", format_args!("these are more than {MOST_PLACES}"));
        }
        for (index, place) in self.places.iter().enumerate() {
            wrong.absolute(&format!("places.{index}"), place);
        }
        if self.grants.len() > MOST_GRANTS {
            wrong.key("grants", format_args!("these are more than {MOST_GRANTS}"));
        }
        for (index, grant) in self.grants.iter().enumerate() {
            let key = |key: &str| format!("grants.{index}.{key}");
            let before = self.grants.get(..index).unwrap_or_default();
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if !(1..=LONGEST_NAME).contains(&grant.name.len()) || !grant.name.bytes().all(is_plain)
            {
                let why = format_args!("a name is 1 to {LONGEST_NAME} letters, digits and `-_.`");
                wrong.key(&key("name"), why);
            }
            if before.iter().any(|other| other.name == grant.name) {
                wrong.key(&key("name"), format_args!("there are two grants `{}`", grant.name));
            }
            if let Who::Called(text) = &grant.container
                && !(1..=LONGEST_TEXT).contains(&text.len())
            {
                wrong.key(&key("container"), format_args!("it has 1 to {LONGEST_TEXT} bytes"));
            }
            let [first, last] = grant.ids;
            if first > last {
                wrong.key(&key("ids"), format_args!("{first} is behind {last}: from, to"));
            }
            // Whoever could give another one's identifiers could be him.
            let meets = |other: &&Grant| other.ids[0] <= last && first <= other.ids[1];
            if let Some(other) = before.iter().find(meets) {
                let why = format_args!("some of them are those of the grant `{}` too", other.name);
                wrong.key(&key("ids"), why);
            }
            let is_own = |other: &Grant| matches!(other.container, Who::Contid(id) if (first..=last).contains(&id));
            if let Some(other) = self.grants.iter().find(|other| is_own(other)) {
                let why = format_args!("one of them is the container of `{}` itself", other.name);
                wrong.key(&key("ids"), why);
            }
            wrong.range(&key("containers"), &grant.containers, &CONTAINERS, "containers");
        }
    }
}

impl Config {
    /// Where runtimes' files lie; none where containers are not looked for.
    pub(crate) fn container_places(&self) -> Option<Vec<PathBuf>> {
        self.containers.groups.then(|| self.containers.places.clone())
    }

    /// Which containers may make others within themselves.
    pub(crate) fn container_grants(&self) -> Vec<engine::containers::Grant> {
        let grants = self.containers.grants.iter().cloned();
        let grant = |Grant { name, container, ids: [first, last], containers }| {
            let container = match container {
                Who::Contid(contid) => Grantee::Contid(ContId(contid)),
                Who::Called(text) => Grantee::Called(text),
            };
            engine::containers::Grant { name, container, ids: first..=last, most: containers }
        };
        grants.map(grant).collect()
    }
}

#[cfg(test)]
mod tests {
    use host::bpf::Program;

    use super::super::tests::{mistakes, read};
    use super::*;

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

    #[test]
    fn a_grant_says_whose_it_is_and_what_it_may_give() {
        let one =
            "[[containers.grants]]\nname = \"ci\"\ncontainer = \"runner\"\nids = [100, 199]\n";
        let grants = read(&format!(
            "{one}[[containers.grants]]\nname = \"b\"\ncontainer = 7\nids = [200, 200]\ncontainers = 1\n"
        ))
        .container_grants();
        let grant = |name: &str, container, ids, most| engine::containers::Grant {
            name: name.into(),
            container,
            ids,
            most,
        };
        assert_eq!(
            grants,
            [
                grant("ci", Grantee::Called("runner".into()), 100..=199, 64),
                grant("b", Grantee::Contid(ContId(7)), 200..=200, 1),
            ]
        );
        let all = |more: &str| mistakes(&format!("{one}[[containers.grants]]\n{more}\n"));
        assert_eq!(
            all("name = \"ci\"\ncontainer = 150\nids = [199, 300]\ncontainers = 0"),
            [
                "4: containers.grants.0.ids: one of them is the container of `ci` itself",
                "6: containers.grants.1.name: there are two grants `ci`",
                "8: containers.grants.1.ids: some of them are those of the grant `ci` too",
                "9: containers.grants.1.containers: 0 is not 1 to 16384 containers",
            ]
        );
        assert_eq!(
            all("name = \"c i\"\ncontainer = \"\"\nids = [9, 5]"),
            [
                "6: containers.grants.1.name: a name is 1 to 32 letters, digits and `-_.`",
                "7: containers.grants.1.container: it has 1 to 512 bytes",
                "8: containers.grants.1.ids: 9 is behind 5: from, to",
            ]
        );
        let found = all("name = \"x\"\ncontainer = true\nids = [1, 2]");
        assert!(
            matches!(&found[..], [only] if only.starts_with("7: ") && only.contains("its runtime's id")),
            "{found:?}"
        );
    }
}
