//! Captures from real kernels: every line is a record, and nothing is lost.

use std::path::Path;

use record::view::{
    Cwd, Integrity, IntegrityRule, Path as PathRecord, PolicyRule, Proctitle, Syscall,
};
use record::view::{View, ViewError};
use record::{Line, RecordType};

#[test]
fn every_line_of_the_captures_is_a_record() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/audit");
    let mut lines = 0;
    for entry in std::fs::read_dir(&folder).expect("the goldens are part of the source") {
        let path = entry.unwrap().path();
        let text = std::fs::read(&path).unwrap();
        for (number, raw) in text.split_inclusive(|b| *b == b'\n').enumerate() {
            let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
            let line = Line::parse(raw)
                .unwrap_or_else(|error| panic!("{}:{}: {error}", path.display(), number + 1));
            assert!(line.record_type().name().is_some(), "{}:{}", path.display(), number + 1);
            let mut fields = line.fields();
            let mut back = line.prefix().to_vec();
            back.extend_from_slice(line.payload().strip_suffix(line.body()).unwrap());
            for field in fields.by_ref() {
                assert!(!field.key.is_empty(), "{}:{}: bare word", path.display(), number + 1);
                back.extend_from_slice(field.raw);
            }
            back.extend_from_slice(fields.rest());
            assert_eq!(back, raw);
            let place = || format!("{}:{}", path.display(), number + 1);
            view(&line).unwrap_or_else(|error| panic!("{}: {error}", place()));
            lines += 1;
        }
    }
    assert_eq!(lines, 620, "the captures hold 620 records");
}

/// Reads the line by the view of its type, where there is one.
fn view(line: &Line<'_>) -> Result<(), ViewError> {
    match line.record_type() {
        RecordType::SYSCALL => Syscall::read(line).map(drop),
        RecordType::PATH => PathRecord::read(line).map(drop),
        RecordType::CWD => Cwd::read(line).map(drop),
        RecordType::PROCTITLE => Proctitle::read(line).map(drop),
        RecordType::INTEGRITY_RULE => IntegrityRule::read(line).map(drop),
        RecordType::INTEGRITY_POLICY_RULE => PolicyRule::read(line).map(drop),
        RecordType(1800..=1804) => Integrity::read(line).map(drop),
        _ => Ok(()),
    }
}
