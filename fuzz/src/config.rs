//! The reader of configurations, which belongs to the binary: a binary cannot be depended on, so its file is read
//! here too.

#[path = "../../crates/veritrail/src/config/written.rs"]
#[allow(dead_code, unreachable_pub, reason = "the binary uses all of it")]
mod written;

use serde::Deserialize;
use written::{Section, Written, Wrong};

/// A section with one key of each kind.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sample {
    words: Vec<String>,
    number: u64,
    table: Option<Inner>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Inner {
    File(std::path::PathBuf),
    Command(Vec<String>),
}

impl Section for Sample {
    const NAME: &'static str = "agent";

    fn check(&self, wrong: &mut Wrong<'_, '_>) {
        wrong.range("number", &self.number, &(1..=9), "things");
        for (index, word) in self.words.iter().enumerate() {
            if word.is_empty() {
                wrong.key(&format!("words.{index}"), "it is empty");
            }
        }
        match &self.table {
            Some(Inner::File(path)) => wrong.absolute("table.file", path),
            Some(Inner::Command(argv)) => wrong.command("table.command", argv),
            None => {}
        }
    }
}

/// Any text is read, or its mistakes are told: not too many, each on a line that is there and on one line itself.
pub fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut written = Written::parse(text);
    let _sample: Sample = written.section();
    let Err(mistakes) = written.finish() else { return };
    assert!((1..=50).contains(&mistakes.len()));
    let lines = text.split('\n').count();
    for mistake in mistakes {
        assert!((1..=lines).contains(&mistake.line));
        let said = mistake.to_string();
        assert!(!said.chars().any(char::is_control) && said.len() < 8192);
    }
}
