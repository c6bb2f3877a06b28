//! Where to search: trails, logs, standard input.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::Manner;
use super::args::Arguments;
use super::scan::Part;
use crate::outcome::{Failure, Kind};

/// The trail of this machine.
const TRAIL: &str = "/var/log/veritrail";
/// The log of auditd.
const AUDIT_LOG: &str = "/var/log/audit/audit.log";

impl Arguments {
    /// Opens what is to be searched, oldest first.
    pub(super) fn parts(&self, manner: Manner) -> Result<Vec<Part>, Failure> {
        let mut parts = Vec::new();
        for dir in &self.trail {
            trail(dir, &mut parts)?;
        }
        for path in &self.input {
            if path.as_os_str() == "-" {
                parts.push(standard_input());
            } else if path.is_dir() {
                rotated(&path.join("audit.log"), &mut parts)?;
            } else {
                parts.push(log(path)?);
            }
        }
        if !parts.is_empty() {
            return Ok(parts);
        }
        if !self.input_logs && stdin_is_pipe() {
            parts.push(standard_input());
        } else if manner == Manner::Ausearch {
            rotated(Path::new(AUDIT_LOG), &mut parts)?;
        } else if Path::new(TRAIL).is_dir() {
            trail(Path::new(TRAIL), &mut parts)?;
        } else {
            return Err(Failure::new(Kind::Environment, format!("there is no trail at {TRAIL}"))
                .hint("name a trail (--trail DIR) or an audit log (-if FILE), or pipe a log in"));
        }
        Ok(parts)
    }
}

fn stdin_is_pipe() -> bool {
    rustix::fs::fstat(io::stdin())
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_fifo())
}

fn standard_input() -> Part {
    let reader = Box::new(io::stdin());
    Part { name: "standard input".to_owned(), stored: false, reader }
}

fn log(path: &Path) -> Result<Part, Failure> {
    let file = File::open(path).map_err(|error| cannot_open(path, error))?;
    Ok(Part { name: path.display().to_string(), stored: false, reader: Box::new(file) })
}

fn cannot_open(path: &Path, error: io::Error) -> Failure {
    Failure::new(Kind::Io, format!("cannot open {}", path.display())).because(error)
}

/// A log and what auditd has rotated away: `audit.log.2`, `audit.log.1`, `audit.log`.
fn rotated(newest: &Path, parts: &mut Vec<Part>) -> Result<(), Failure> {
    let older = (1..).map(|number: u32| {
        let mut name = newest.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    });
    let older: Vec<_> = older.take_while(|path| path.exists()).collect();
    for path in older.iter().rev() {
        parts.push(log(path)?);
    }
    parts.push(log(newest)?);
    Ok(())
}

/// The segments of a trail in order, each a log.
fn trail(dir: &Path, parts: &mut Vec<Part>) -> Result<(), Failure> {
    let segments = dir.join("segments");
    let entries = fs::read_dir(&segments).map_err(|error| {
        cannot_open(&segments, error).hint(format!("is {} a trail?", dir.display()))
    })?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| cannot_open(&segments, error))?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            paths.push(path);
        }
    }
    // Their names count leaves with leading zeros.
    paths.sort();
    for path in paths {
        parts.push(Part { stored: true, ..log(&path)? });
    }
    Ok(())
}
