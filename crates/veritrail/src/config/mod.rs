//! The configuration file, `/etc/veritrail/veritrail.toml`. Everything works without one.
//!
//! A table of the file is a section, and a section is a file beside this one: its type (serde reads it), its
//! defaults, its checks ([`Section::check`]), and what it answers (`impl Config`). To add one, write that file
//! and name it in the three lists below.

mod agent;
mod audit;
mod bpf;
mod containers;
mod events;
mod forward;
mod metrics;
mod places;
mod quota;
mod rules;
mod trail;
mod verity;
mod written;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

pub(crate) use audit::Overrides;
pub(crate) use events::Events as EventsSettings;
pub(crate) use forward::Server;
pub(crate) use metrics::Listen;
pub(crate) use places::{default_state, default_trail};
pub(crate) use quota::ContainerQuota;
pub(crate) use written::Mistake;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::outcome::{Failure, Kind};
use written::Written;

/// Where the system's file lies.
pub(crate) const PATH: &str = "/etc/veritrail/veritrail.toml";

/// Bytes that a file may have.
const LONGEST: u64 = 1 << 20;

/// What the file says.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Config {
    /// As it stands there.
    #[serde(skip)]
    text: String,
    trail: trail::Trail,
    verity: verity::Verity,
    agent: agent::Agent,
    events: events::Events,
    bpf: bpf::Bpf,
    containers: containers::Containers,
    metrics: metrics::Metrics,
    forward: forward::Forward,
    audit: audit::Audit,
    rules: rules::Rules,
    quota: quota::Quota,
}

impl Config {
    /// Reads `path`, or the system's file if there is one.
    pub(crate) fn load(path: Option<&Path>) -> Result<Config, Failure> {
        let (path, mistakes) = match Config::look(path)? {
            Ok(config) => return Ok(config),
            Err((path, mistakes)) => (path.display().to_string(), mistakes),
        };
        let all: Vec<_> = mistakes.iter().map(|mistake| format!("{path}:{mistake}")).collect();
        let what = format!("the configuration {path} cannot be used");
        Err(Failure::new(Kind::Unusable, what)
            .because(all.join("\n           "))
            .hint(format!("veritrail agent check-config {path}")))
    }

    /// The same, with the mistakes and the file that they are in where it cannot be used.
    pub(crate) fn look(
        path: Option<&Path>,
    ) -> Result<Result<Config, (&Path, Vec<Mistake>)>, Failure> {
        let (path, named) = path.map_or((Path::new(PATH), false), |path| (path, true));
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) => Ok(Config::read(&bytes).map_err(|mistakes| (path, mistakes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !named => {
                Ok(Ok(Config::default()))
            }
            Err(error) => {
                let what = format!("cannot read the configuration {}", path.display());
                Err(Failure::new(Kind::Io, what).because(error))
            }
        }
    }

    /// What a file of these bytes says, or all that is wrong with it.
    fn read(bytes: &[u8]) -> Result<Config, Vec<Mistake>> {
        let whole =
            |line: usize, what: String| Err(vec![Mistake { line, key: None, what, hint: None }]);
        if u64::try_from(bytes.len()).is_ok_and(|length| length > LONGEST) {
            return whole(1, format!("this is longer than {LONGEST} bytes"));
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = memchr::memchr_iter(b'\n', good).count() + 1;
                return whole(line, "a byte that is not UTF-8".into());
            }
        };
        let mut written = Written::parse(text);
        let config = Config {
            text: text.to_owned(),
            trail: written.section(),
            verity: written.section(),
            agent: written.section(),
            events: written.section(),
            bpf: written.section(),
            containers: written.section(),
            metrics: written.section(),
            forward: written.section(),
            audit: written.section(),
            rules: written.section(),
            quota: written.section(),
        };
        written.finish().map(|()| config)
    }

    /// The file's text; empty where there is none.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The keys (`agent.sources`) that mean something else in `new`.
    pub(crate) fn changed(&self, new: &Config) -> Vec<String> {
        let sections = |config: &Config| match serde_json::to_value(config) {
            Ok(Value::Object(sections)) => sections,
            // What was read from TOML can be written as JSON.
            _ => Map::new(),
        };
        let (before, now) = (sections(self), sections(new));
        let mut changed = Vec::new();
        for (name, section) in &now {
            for (key, value) in section.as_object().into_iter().flatten() {
                if before.get(name).and_then(|section| section.get(key)) != Some(value) {
                    changed.push(format!("{name}.{key}"));
                }
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `text` says; it is right.
    pub(super) fn read(text: &str) -> Config {
        Config::read(text.as_bytes()).unwrap()
    }

    /// What is wrong with `text`: `LINE: KEY: WHAT`.
    pub(super) fn mistakes(text: &str) -> Vec<String> {
        let mistakes = Config::read(text.as_bytes()).err().unwrap_or_default();
        mistakes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_mistake_is_told_by_its_line_and_key() {
        let text = "[agent]\n\
                    sources = [\"audit\", \"log\"]\n\
                    poll_second = 5\n\
                    audit_buffer = \"64M\"\n\
                    \n\
                    [agnet]\n\
                    x = 1\n\
                    [trail]\n\
                    sinks = [{ file = \"/a\" }, { fil = \"/b\" }]\n\
                    [verity.deeper]\n\
                    panic_command = 1\n";
        assert_eq!(
            mistakes(text),
            [
                "2: agent.sources.1: unknown variant `log`, expected one of `audit`, `uevent`, `kmsg`, `dm`, `clock`, `bpf`",
                "3: agent.poll_second: unknown field `poll_second`, expected one of `sources`, `poll_seconds`, \
                 `audit_buffer` (did you mean `poll_seconds`?)",
                "4: agent.audit_buffer: invalid type: string \"64M\", expected usize",
                "6: there is no section `agnet` (did you mean `agent`?)",
                "9: trail.sinks.1.fil: unknown variant `fil`, expected one of `file`, `command`, `syslog`, `audit` (did you mean \
                 `file`?)",
                "10: verity.deeper: unknown field `deeper`, expected `restart_command` or `panic_command`",
            ]
        );
        let found = mistakes("\n[else]\n");
        assert!(
            matches!(&found[..], [only] if only.starts_with("2: there is no section `else` (there are "))
        );
    }

    #[test]
    fn what_is_no_toml_is_told_by_its_line() {
        assert_eq!(mistakes("[agent]\npoll_seconds = 5 5\n").len(), 1);
        for (text, start) in [
            ("[agent]\npoll_seconds =\n", "2: "),
            ("[agent]\nsources = [\"audit\"\npoll_seconds = 5\n", "3: "),
            ("[agent]\npoll_seconds = 5\npoll_seconds = 5\n", "3: "),
            ("agent = 5", "1: agent: this is a section: [agent]"),
        ] {
            let found = mistakes(text);
            assert!(found.first().is_some_and(|said| said.starts_with(start)), "{text}: {found:?}");
        }
        let found = Config::read(b"[agent]\n\n\xff").unwrap_err();
        assert_eq!(found.first().unwrap().to_string(), "3: a byte that is not UTF-8");
        assert!(Config::read(&vec![b'\n'; 1 << 21]).is_err());
        assert!(mistakes("").is_empty());
    }

    proptest! {
        /// Whatever stands in the file: an answer, a bounded number of mistakes, each on a line that is there.
        #[test]
        fn any_text_is_read_or_refused(
            words in prop::collection::vec(prop::sample::select(&[
                "[agent]", "[trail]", "[[trail]]", "[verity.x]", "sources", "sinks", "file", "=", " = ", "[", "]",
                "{", "}", "\"a\"", "'''", "\n", "\n", "5", "-1", "1e9", ",", ".", "true", "poll_seconds",
                "audit_buffer", "#", "\u{0}", "\u{e4}", "1979-05-27",
            ][..]), 0..60),
        ) {
            let text = words.concat();
            if let Err(found) = Config::read(text.as_bytes()) {
                prop_assert!((1..=50).contains(&found.len()));
                let lines = text.split('\n').count();
                prop_assert!(found.iter().all(|mistake| (1..=lines).contains(&mistake.line)));
            }
        }
    }
}
