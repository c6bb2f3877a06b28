//! What docs/specification.md says to hold its promises is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn all_that_the_specification_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = fs::read_to_string(root.join("docs/specification.md")).unwrap();
    let files: Vec<PathBuf> =
        ["crates", "tests", "benches"].iter().flat_map(|name| sources(&root.join(name))).collect();
    let functions: BTreeSet<String> =
        files.iter().flat_map(|file| functions(&fs::read_to_string(file).unwrap())).collect();
    let fuzz = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();

    let mut missing = Vec::new();
    let mut named = 0;
    let mut name = |what: &str, is_there: bool| {
        named += 1;
        if !is_there {
            missing.push(what.to_owned());
        }
    };
    let cells = text.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    for held_by in cells.filter_map(|row| row.rsplit('|').next()) {
        let is_word = |c: char| c.is_alphanumeric() || "_*./".contains(c);
        for file in held_by.split(|c| !is_word(c)).filter(|word| word.ends_with(".rs")) {
            name(file, files.iter().any(|path| path.ends_with(file)));
        }
        for word in held_by.split('`').skip(1).step_by(2) {
            let plain = word.trim_end_matches('*');
            if !plain.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                continue;
            }
            name(
                word,
                if plain != word {
                    functions.iter().any(|function| function.starts_with(plain))
                } else if word.contains('_') {
                    functions.contains(word)
                } else {
                    root.join("benches/src/bin").join(word).with_extension("rs").exists()
                },
            );
        }
        for scenario in listed(held_by, "tests/vm: ") {
            name(scenario, root.join(format!("tests/vm/scenarios/{scenario}.sh")).exists());
        }
        for target in listed(held_by, "fuzz: ") {
            name(target, fuzz.contains(&format!("name = \"{target}\"")));
        }
    }
    assert_eq!(missing, [""; 0]);
    assert!(named > 200, "only {named} names were found: the form of the file is another one");
}

/// All Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
    found
}

/// The names of the functions of a source.
fn functions(source: &str) -> Vec<String> {
    let names = source.lines().filter_map(|line| line.trim_start().strip_prefix("fn "));
    names.filter_map(|rest| rest.split(['(', '<']).next()).map(str::to_owned).collect()
}

/// The words of the lists that stand behind `what`.
fn listed<'t>(cell: &'t str, what: &str) -> Vec<&'t str> {
    let lists = cell.split(what).skip(1).filter_map(|rest| rest.split([';', '(', '`']).next());
    lists.flat_map(|list| list.split(',')).map(str::trim).filter(|word| !word.is_empty()).collect()
}
