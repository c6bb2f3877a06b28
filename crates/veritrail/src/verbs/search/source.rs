//! Where to search: trails, logs, standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use record::Line;
use record::units::LeafIndex;
use trail::{Disk, Reader};

use super::Manner;
use super::scan::{Part, ReadError};
use crate::outcome::{Failure, Kind};
use crate::verbs::trail::from_trail;

/// The trail of this machine.
const TRAIL: &str = "/var/log/veritrail";
/// The log of auditd.
const AUDIT_LOG: &str = "/var/log/audit/audit.log";

/// One place to search.
#[derive(Clone, Debug)]
enum Place {
    Trail(PathBuf),
    Log(PathBuf),
    StandardInput,
}

/// What is to be searched, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    places: Vec<Place>,
    /// Of how many machines it may be: rotated logs are of one.
    named: usize,
}

impl Sources {
    /// What is named; else standard input, if that is a pipe and not to be passed over, or the default place.
    pub(crate) fn find(
        trails: &[PathBuf],
        inputs: &[PathBuf],
        no_pipe: bool,
        manner: Manner,
    ) -> Result<Sources, Failure> {
        let mut places: Vec<Place> = trails.iter().cloned().map(Place::Trail).collect();
        for path in inputs {
            if path.as_os_str() == "-" {
                places.push(Place::StandardInput);
            } else if path.is_dir() {
                rotated(&path.join("audit.log"), &mut places);
            } else {
                places.push(Place::Log(path.clone()));
            }
        }
        let named = trails.len() + inputs.len();
        if named > 0 {
            return Ok(Sources { places, named });
        }
        if !no_pipe && stdin_is_pipe() {
            places.push(Place::StandardInput);
        } else if manner == Manner::Ausearch {
            rotated(Path::new(AUDIT_LOG), &mut places);
        } else if Path::new(TRAIL).is_dir() {
            places.push(Place::Trail(TRAIL.into()));
        } else {
            return Err(Failure::new(Kind::Environment, format!("there is no trail at {TRAIL}"))
                .hint("name a trail (--trail DIR) or an audit log (-if FILE), or pipe a log in"));
        }
        Ok(Sources { places, named: 1 })
    }

    /// Seconds of stamps after which an event is complete: in a trail records of ours come later.
    pub(super) fn patience(&self) -> u32 {
        let has_trail = self.places.iter().any(|place| matches!(place, Place::Trail(_)));
        if has_trail { 10 } else { 2 }
    }

    /// Why it cannot be read twice, and as the story of one machine.
    pub(crate) fn why_not_twice(&self) -> Option<&'static str> {
        if self.named > 1 {
            return Some("several trails or logs know different containers by one name");
        }
        let piped = self.places.iter().any(|place| matches!(place, Place::StandardInput));
        piped.then_some("a name is looked up before, and standard input can be read once")
    }

    /// Opens it.
    pub(super) fn open(&self) -> Result<Vec<Part>, Failure> {
        let open = |place: &Place| match place {
            Place::Trail(dir) => trail(dir),
            Place::Log(path) => log(path),
            Place::StandardInput => Ok(standard_input()),
        };
        self.places.iter().map(open).collect()
    }

    /// Hands on the lines that `may` be meant, in their order and each with its place: its leaf in a trail,
    /// else its number. What is no record is passed over.
    pub(crate) fn lines(
        &self,
        may: impl Fn(&[u8]) -> bool,
        mut each: impl FnMut(u64, &Line<'_>),
    ) -> Result<(), Failure> {
        let mut number = 0;
        for place in &self.places {
            let path = match place {
                Place::Trail(dir) => {
                    let failed = |error| from_trail(dir, error);
                    let mut reader = Reader::open(Disk::new(dir), LeafIndex(0)).map_err(failed)?;
                    while let Some(leaf) = reader.next().map_err(failed)? {
                        for line in leaf.bytes.split(|b| *b == b'\n').filter(|line| may(line)) {
                            if let Ok(line) = Line::parse_stored(line) {
                                each(leaf.index.0, &line);
                            }
                        }
                    }
                    continue;
                }
                Place::Log(path) => path,
                Place::StandardInput => continue,
            };
            let mut log =
                BufReader::new(File::open(path).map_err(|error| cannot_open(path, error))?);
            let mut line = Vec::new();
            let failed = |source| failure(ReadError { part: path.display().to_string(), source });
            while read_line(&mut log, &mut line).map_err(failed)? {
                number += 1;
                if may(&line)
                    && let Ok(line) = Line::parse(&line)
                {
                    each(number, &line);
                }
            }
        }
        Ok(())
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
fn rotated(newest: &Path, places: &mut Vec<Place>) {
    let older = (1..).map(|number: u32| {
        let mut name = newest.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    });
    let older: Vec<_> = older.take_while(|path| path.exists()).collect();
    places.extend(older.into_iter().rev().map(Place::Log));
    places.push(Place::Log(newest.to_owned()));
}

/// The text of a trail. It is read, not verified: that is `veritrail trail verify`'s job.
fn trail(dir: &Path) -> Result<Part, Failure> {
    let reader = Reader::open(Disk::new(dir), LeafIndex(0));
    let reader = reader.map_err(|error| from_trail(dir, error))?;
    let reader = Box::new(TrailText { reader, text: Vec::new(), at: 0 });
    Ok(Part { name: dir.display().to_string(), stored: true, reader })
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

/// Longer lines are no records, and are passed over without being held.
const LONGEST_LINE: usize = 1 << 16;

/// The next line, without its end; false where there is none. Of a longer one nothing is left, so that no end
/// of it is taken for a record.
pub(crate) fn read_line(log: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let (mut any, mut is_too_long) = (false, false);
    loop {
        let here = log.fill_buf()?;
        if here.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = memchr::memchr(b'\n', here);
        let piece = end.map_or(here, |end| here.get(..end).unwrap_or_default());
        is_too_long |= line.len() + piece.len() > LONGEST_LINE;
        if is_too_long {
            line.clear();
        } else {
            line.extend_from_slice(piece);
        }
        let used = end.map_or(here.len(), |end| end + 1);
        log.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_line_that_is_too_long_is_no_line() {
        let forged = b"type=CONTAINER_OP msg=audit(1.000:1): op=set";
        let log = [b"a\n", &[b'x'; LONGEST_LINE + 1][..], forged, b"\nb"].concat();
        // Whatever comes at once.
        for piece in [1, 7, 4096, log.len()] {
            let mut log = BufReader::with_capacity(piece, &log[..]);
            let (mut line, mut lines) = (Vec::new(), Vec::new());
            while read_line(&mut log, &mut line).unwrap() {
                lines.push(line.clone());
            }
            assert_eq!(lines, [&b"a"[..], b"", b"b"], "{piece}");
        }
    }
}
