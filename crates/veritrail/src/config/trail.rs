//! `[trail]`: where checkpoints go.
//!
//! ```toml
//! [trail]
//! sinks = [{ file = "/mnt/elsewhere/anchors" }, { command = ["logger", "-t", "veritrail"] }]
//! ```

use std::path::PathBuf;

use serde::Deserialize;
use trail::sinks::Sink;

use super::Config;
use super::written::{Section, Wrong};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Trail {
    sinks: Vec<SinkEntry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum SinkEntry {
    File(PathBuf),
    Command(Vec<String>),
}

impl Section for Trail {
    const NAME: &'static str = "trail";

    fn check(&self, wrong: &mut Wrong<'_, '_>) {
        for (index, sink) in self.sinks.iter().enumerate() {
            let key = format!("sinks.{index}");
            match sink {
                SinkEntry::File(path) => wrong.absolute(&key, path),
                SinkEntry::Command(argv) => wrong.command(&key, argv),
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
        };
        self.trail.sinks.iter().filter_map(sink).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{mistakes, read};
    use super::*;

    #[test]
    fn sinks_are_read() {
        let text = r#"[trail]
            sinks = [{ file = "/a" }, { command = ["logger", "-t", "x"] }]"#;
        let args = vec!["-t".into(), "x".into()];
        let expected = [Sink::File("/a".into()), Sink::Command { program: "logger".into(), args }];
        assert_eq!(read(text).sinks(), expected);
    }

    #[test]
    fn a_sink_that_goes_nowhere_is_told_by_its_line() {
        let text =
            "[trail]\nsinks = [\n  { file = \"/a\" },\n  { file = \"a\" },\n  { command = [] },\n]";
        assert_eq!(
            mistakes(text),
            [
                "4: trail.sinks.1: a is not absolute",
                "5: trail.sinks.2: a command needs at least its program"
            ]
        );
        assert_eq!(
            mistakes("[trail]\nsink = []"),
            ["2: trail.sink: unknown field `sink`, expected `sinks` (did you mean `sinks`?)"]
        );
    }
}
