//! `veritrail trail checkpoint`

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use trail::Checkpoint;
use trail::note::Note;

use super::{from_door, open_door, print_json};
use crate::config::Config;
use crate::outcome::{Failure, Kind, Outcome};

/// Sign what a trail holds now, and print the signed checkpoint
///
/// Asks the trail's writer where one is at work, else signs itself, which takes a user that may
/// read the key. The checkpoint goes to the sinks too. Keep it where the host cannot reach it:
/// `veritrail trail verify --checkpoint` holds any later state of the trail against it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail trail checkpoint /var/log/veritrail | ssh witness 'cat >> web1.anchors'")]
pub(crate) struct CheckpointArgs {
    /// The trail's directory
    dir: PathBuf,
    /// Read this configuration instead of /etc/veritrail/veritrail.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is printed with --json.
#[derive(Serialize)]
struct Answer<'a> {
    origin: &'a str,
    size: u64,
    note: &'a str,
}

pub(crate) fn run(args: &CheckpointArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let config = Config::load(args.config.as_deref())?;
    let door = open_door(&args.dir, &config)?;
    let note = door.checkpoint().map_err(|error| from_door(&args.dir, &error))?;
    door.close().map_err(|error| from_door(&args.dir, &error))?;
    if !args.json {
        out.write_all(&note)?;
        return Ok(Outcome::Good);
    }
    let unusable = |why: String| {
        Failure::new(Kind::Unusable, "the writer's answer is not a checkpoint").because(why)
    };
    let parsed = Note::parse(&note).map_err(|error| unusable(error.to_string()))?;
    let checkpoint = Checkpoint::parse(parsed.text).map_err(|error| unusable(error.to_string()))?;
    let note = String::from_utf8_lossy(&note);
    print_json(out, &Answer { origin: &checkpoint.origin, size: checkpoint.size, note: &note })?;
    Ok(Outcome::Good)
}
