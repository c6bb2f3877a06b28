//! Help, man pages and completions come from one definition; here it is seen that none is left out.

use std::path::Path;
use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_veritrail")).args(args).output().unwrap()
}

/// Every verb, as it is typed.
const VERBS: &[&[&str]] = &[
    &["verity", "format"],
    &["verity", "verify"],
    &["verity", "dump"],
    &["verity", "cat"],
    &["trail", "verify"],
    &["trail", "prove"],
    &["trail", "check-proof"],
    &["trail", "checkpoint"],
    &["trail", "import"],
    &["trail", "export"],
    &["search"],
    &["report", "containers"],
    &["rules"],
    &["rules", "check"],
    &["rules", "list"],
    &["rules", "load"],
    &["serve"],
    &["demo"],
    &["doctor"],
    &["agent", "check-config"],
    &["agent", "install"],
    &["agent", "uninstall"],
    &["agent", "metrics"],
    &["agent", "forward"],
    &["completions"],
    &["man"],
];

#[test]
fn every_verb_has_help_with_examples_and_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run(&["man", &folder.path().to_string_lossy()]).status.success());
    for verb in VERBS {
        let help = run(&[verb, &["--help"][..]].concat());
        let text = String::from_utf8(help.stdout).unwrap();
        assert!(help.status.success() && help.stderr.is_empty(), "{verb:?}");
        assert!(text.contains("Examples:\n  "), "{verb:?} has no examples:\n{text}");
        let page = folder.path().join(format!("veritrail-{}.1", verb.join("-")));
        let page = std::fs::read_to_string(page).unwrap();
        assert!(page.contains("Examples:"), "{verb:?}");
    }
    assert!(Path::new(folder.path()).join("veritrail.1").exists());
}

#[test]
fn completions_know_every_verb() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{shell}");
        for word in VERBS.iter().copied().flatten() {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
}
