//! `veritrail trail import`

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use trail::Door;
use trail::import::{ImportError, Imported, import};

use super::{create_if_missing, from_door, open_door, print_json};
use crate::config::Config;
use crate::outcome::{Failure, Kind, Outcome};

/// Bring audit logs into a trail
///
/// Every event becomes a leaf; a line that is no record becomes a leaf of its own, and the number
/// of those is printed. At the end of each file a VT_IMPORT record says what was read: name,
/// bytes, SHA-256. A trail that does not exist is made, with a key of its own.
///
/// Accepts raw and ENRICHED logs of auditd, netlink captures and kernel logs. Importing a file
/// again is allowed and makes new leaves. Others may write to the trail meanwhile.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail trail import /var/log/veritrail /var/log/audit/audit.log
  ausearch --raw -ts today | veritrail trail import ./today -")]
pub(crate) struct ImportArgs {
    /// The trail's directory; made if it does not exist
    dir: PathBuf,
    /// Logs, or - for standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Read this configuration instead of /etc/veritrail/veritrail.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is printed with --json.
#[derive(Serialize)]
struct Answer {
    /// The public key of a trail that was made.
    created: Option<String>,
    sources: Vec<Source>,
}

#[derive(Serialize)]
struct Source {
    source: String,
    bytes: u64,
    sha256: String,
    lines: u64,
    events: u64,
    unparsed: u64,
}

pub(crate) fn run(args: &ImportArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let config = Config::load(args.config.as_deref())?;
    // Nothing is made for a file that is not there. A FIFO can be opened only once.
    for path in args.files.iter().filter(|path| *path != Path::new("-")) {
        let kind = fs::metadata(path).map_err(|error| cannot(path, error))?.file_type();
        if kind.is_file() || kind.is_dir() {
            drop(open(path)?);
        }
    }
    let created = create_if_missing(&args.dir)?;
    if let (Some(key), false) = (&created, args.json) {
        writeln!(
            out,
            "made the trail {} of {}; keep its public key elsewhere:\n  {}",
            args.dir.display(),
            key.name(),
            key.to_text().trim_end()
        )?;
    }
    let door = open_door(&args.dir, &config)?;
    let mut sources = Vec::new();
    for path in &args.files {
        let source = import_one(&door, &args.dir, path)?;
        if !args.json {
            print(&source, out)?;
        }
        sources.push(source);
    }
    door.close().map_err(|error| from_door(&args.dir, &error))?;
    if args.json {
        let created = created.map(|key| key.to_text().trim_end().to_owned());
        print_json(out, &Answer { created, sources })?;
    }
    Ok(Outcome::Good)
}

fn open(path: &Path) -> Result<Box<dyn Read>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = fs::File::open(path).map_err(|error| cannot(path, error))?;
    let meta = file.metadata().map_err(|error| cannot(path, error))?;
    if meta.is_dir() {
        return Err(cannot(path, io::ErrorKind::IsADirectory.into()));
    }
    if meta.is_file() && meta.len() > 0 {
        // A log that is written meanwhile ends where it ended when it was opened, or one of
        // the trail's own segments would never end. Files of /proc say they are empty.
        return Ok(Box::new(file.take(meta.len())));
    }
    Ok(Box::new(file))
}

fn cannot(path: &Path, error: io::Error) -> Failure {
    Failure::new(Kind::Io, format!("cannot read {}", path.display())).because(error)
}

fn import_one(door: &Door, dir: &Path, path: &Path) -> Result<Source, Failure> {
    let input = open(path)?;
    let bar = progress(path);
    let name = path.as_os_str().as_bytes();
    let imported = import(door, name, input, &mut |bytes| {
        if let Some(bar) = &bar {
            bar.set_position(bytes);
        }
    });
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    match imported {
        Ok(imported) => Ok(Source::new(path, &imported)),
        Err(ImportError::Door(error)) => Err(from_door(dir, &error)),
        Err(error) => {
            Err(Failure::new(Kind::Io, format!("cannot import {}", path.display())).because(error))
        }
    }
}

/// A bar with rate and time left, on a terminal.
fn progress(path: &Path) -> Option<ProgressBar> {
    if !io::stderr().is_terminal() {
        return None;
    }
    let length = fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|meta| meta.len());
    let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let template = if length.is_some() {
        "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}"
    } else {
        "{msg} {spinner} {bytes} {bytes_per_sec} {elapsed}"
    };
    bar.set_style(ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()));
    bar.set_message(path.display().to_string());
    Some(bar)
}

impl Source {
    fn new(path: &Path, imported: &Imported) -> Source {
        let hex = imported.sha256.iter().map(|byte| format!("{byte:02x}"));
        Source {
            source: path.display().to_string(),
            bytes: imported.bytes,
            sha256: hex.collect(),
            lines: imported.lines,
            events: imported.events,
            unparsed: imported.unparsed,
        }
    }
}

fn print(source: &Source, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(
        out,
        "{}: {} lines, {} events, {} lines that are no records",
        source.source, source.lines, source.events, source.unparsed
    )?;
    writeln!(out, "  {} bytes, SHA-256 {}", source.bytes, source.sha256)?;
    Ok(())
}
