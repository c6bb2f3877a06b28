//! Where to search: trails, logs, standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use record::units::LeafIndex;
use trail::{Disk, Reader};

use super::Manner;
use super::args::Arguments;
use super::scan::{Part, ReadError};
use crate::outcome::{Failure, Kind};
use crate::verbs::trail::from_trail;

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

/// The text of a trail. It is read, not verified: that is `veritrail trail verify`'s job.
fn trail(dir: &Path, parts: &mut Vec<Part>) -> Result<(), Failure> {
    let reader = Reader::open(Disk::new(dir), LeafIndex(0));
    let reader = reader.map_err(|error| from_trail(dir, error))?;
    let reader = Box::new(TrailText { reader, text: Vec::new(), at: 0 });
    parts.push(Part { name: dir.display().to_string(), stored: true, reader });
    Ok(())
}

/// The leaves of a trail, one after the other, as far as they have been written.
struct TrailText {
    reader: Reader<Disk>,
    text: Vec<u8>,
    /// How much of `text` has been given out.
    at: usize,
}

impl Read for TrailText {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.text.len() {
            self.text.clear();
            self.at = 0;
            while self.text.len() < out.len() {
                match self.reader.next().map_err(io::Error::other)? {
                    Some(leaf) => self.text.extend_from_slice(leaf.bytes),
                    None => break,
                }
            }
        }
        let count = out.len().min(self.text.len() - self.at);
        out[..count].copy_from_slice(&self.text[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// What it means that a part could not be read to its end.
pub(super) fn failure(error: ReadError) -> Failure {
    match error.source.downcast::<trail::Error>() {
        Ok(of_trail) => from_trail(Path::new(&error.part), of_trail),
        Err(source) => {
            Failure::new(Kind::Io, format!("cannot read {} to its end", error.part)).because(source)
        }
    }
}
