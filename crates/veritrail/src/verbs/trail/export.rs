//! `veritrail trail export`

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use record::units::LeafIndex;
use record::{Line, RecordType};
use trail::export::{ExportError, lines, next_event, raw};
use trail::{Disk, Reader};

use super::from_trail;
use crate::json::Event;
use crate::outcome::{Failure, Kind, Outcome};

/// Give the events of a trail out again
///
/// `raw` gives every line back byte for byte as its source had it, without what veritrail added.
/// `json` gives one object for each event (JSON Lines; docs/formats/json.md). veritrail's own
/// bookkeeping (VT_IMPORT, VT_RECOVER, VT_GAP ...) is left out unless --all.
///
/// Does not verify: `veritrail trail verify` does.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail trail export /var/log/veritrail > audit.log
  veritrail trail export /var/log/veritrail --format json --from 1000 | jq .records[0].type")]
pub(crate) struct ExportArgs {
    /// The trail's directory
    dir: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value_t = Format::Raw)]
    format: Format,
    /// Begin with this leaf
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from: u64,
    /// Stop before this leaf
    #[arg(long, value_name = "INDEX")]
    to: Option<u64>,
    /// Give veritrail's bookkeeping records out as well
    #[arg(long)]
    all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The lines of the sources, byte for byte
    Raw,
    /// One object for each event
    Json,
}

pub(crate) fn run(args: &ExportArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let disk = Disk::new(&args.dir);
    let reader = Reader::open(disk, LeafIndex(args.from));
    let mut reader = reader.map_err(|error| from_trail(&args.dir, error))?;
    let to = args.to.map(LeafIndex);
    match args.format {
        Format::Raw => match raw(&mut reader, to, args.all, out) {
            Ok(_) => Ok(Outcome::Good),
            Err(ExportError::Trail(error)) => Err(from_trail(&args.dir, error)),
            Err(ExportError::Output(error)) => Err(error.into()),
            Err(error @ ExportError::Leaf { .. }) => Err(odd(&args.dir, error)),
        },
        Format::Json => json(args, &mut reader, to, out),
    }
}

fn json(
    args: &ExportArgs,
    reader: &mut Reader<Disk>,
    to: Option<LeafIndex>,
    out: &mut dyn Write,
) -> Result<Outcome, Failure> {
    let mut bytes = Vec::new();
    loop {
        let leaf = next_event(reader, &mut bytes);
        let Some(leaf) = leaf.map_err(|error| from_trail(&args.dir, error))? else { break };
        if to.is_some_and(|to| leaf >= to) {
            break;
        }
        let lines = lines(&bytes)
            .map_err(|source| ExportError::Leaf { leaf, source: source.into() })
            .map_err(|error| odd(&args.dir, error))?;
        if !args.all && lines.iter().all(is_bookkeeping) {
            continue;
        }
        if let Some(event) = Event::new(Some(leaf), &lines) {
            event.write(out)?;
        }
    }
    Ok(Outcome::Good)
}

/// Whether the record is about the trail and not about the host.
fn is_bookkeeping(line: &Line<'_>) -> bool {
    line.type_text().starts_with(b"VT_") && line.record_type() != RecordType::VT_LINE
}

fn odd(dir: &Path, error: ExportError) -> Failure {
    Failure::new(Kind::Tampered, format!("trail {} cannot be given out", dir.display()))
        .because(error)
        .hint(
            "no writer of trails writes that; `veritrail trail verify` says whether it was signed",
        )
}
