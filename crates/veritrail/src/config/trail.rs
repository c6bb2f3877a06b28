//! `[trail]`: where checkpoints go.
//!
//! ```toml
//! [trail]
//! sinks = [
//!   { file = "/mnt/elsewhere/anchors" },
//!   { command = ["logger", "-t", "veritrail"] },
//!   { syslog = "/dev/log" },                     # or "udp:192.0.2.1:514"
//!   { audit = true },                            # a user message of audit, by the agent
//! ]
//! ```

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use trail::sinks::{Sink, Syslog};

use super::Config;
use super::written::{Section, Wrong};

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Trail {
    sinks: Vec<SinkEntry>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum SinkEntry {
    File(PathBuf),
    Command(Vec<String>),
    Syslog(String),
    Audit(bool),
}

impl Section for Trail {
    const NAME: &'static str = "trail";

    fn check(&self, wrong: &mut Wrong<'_, '_>) {
        for (index, sink) in self.sinks.iter().enumerate() {
            let key = format!("sinks.{index}");
            match sink {
                SinkEntry::File(path) => wrong.absolute(&key, path),
                SinkEntry::Command(argv) => wrong.command(&key, argv),
                SinkEntry::Syslog(to) if Syslog::parse(to).is_none() => wrong.key(
                    &key,
                    format_args!("{to:?} is neither a path such as /dev/log nor udp:ADDRESS:PORT"),
                ),
                SinkEntry::Syslog(_) | SinkEntry::Audit(_) => {}
            }
        }
    }
}

impl Config {
    /// Where checkpoints go.
    pub(crate) fn sinks(&self) -> Vec<Sink> {
        let sink = |entry: &SinkEntry| match entry {
            SinkEntry::File(path) => Some(Sink::File(path.clone())),
            SinkEntry::Command(argv) => {
                let (program, args) = argv.split_first()?;
                let args = args.iter().map(Into::into).collect();
                Some(Sink::Command { program: program.into(), args })
            }
            SinkEntry::Syslog(to) => Syslog::parse(to).map(Sink::Syslog),
            // Whoever writes the trail has no right to send it.
            SinkEntry::Audit(_) => None,
        };
        self.trail.sinks.iter().filter_map(sink).collect()
    }

    /// Whether the agent sends checkpoints to audit.
    pub(crate) fn has_audit_sink(&self) -> bool {
        self.trail.sinks.iter().any(|sink| matches!(sink, SinkEntry::Audit(true)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{mistakes, read};
    use super::*;

    #[test]
    fn sinks_are_read() {
        let text = r#"[trail]
            sinks = [{ file = "/a" }, { command = ["logger", "-t", "x"] }, { syslog = "/dev/log" },
                { audit = true }]"#;
        let args = vec!["-t".into(), "x".into()];
        let expected = [
            Sink::File("/a".into()),
            Sink::Command { program: "logger".into(), args },
            Sink::Syslog(Syslog::Local("/dev/log".into())),
        ];
        assert_eq!(read(text).sinks(), expected);
        assert!(read(text).has_audit_sink());
        assert!(!read("[trail]\nsinks = [{ audit = false }]").has_audit_sink());
    }

    #[test]
    fn a_sink_that_goes_nowhere_is_told_by_its_line() {
        let text = "[trail]\nsinks = [\n  { file = \"/a\" },\n  { file = \"a\" },\n  { command = [] },\n  { syslog = \"log\" },\n]";
        assert_eq!(
            mistakes(text),
            [
                "4: trail.sinks.1: a is not absolute",
                "5: trail.sinks.2: a command needs at least its program",
                "6: trail.sinks.3: \"log\" is neither a path such as /dev/log nor udp:ADDRESS:PORT"
            ]
        );
        assert_eq!(
            mistakes("[trail]\nsink = []"),
            ["2: trail.sink: unknown field `sink`, expected `sinks` (did you mean `sinks`?)"]
        );
    }
}
