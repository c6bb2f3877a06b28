//! `veritrail trail prove`

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use record::units::LeafIndex;
use trail::{Disk, Error, prove};

use super::from_trail;
use crate::outcome::{Failure, Kind, Outcome};

/// Prove that one event is in a trail
///
/// Writes a bundle (c2sp.org/tlog-proof) that holds the event's leaf, its place in the tree and
/// the signed checkpoint. `veritrail trail check-proof` checks it with nothing but the public
/// key. Exits 1 if there is no such leaf in the signed part.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail trail prove /var/log/veritrail 1074 --output event.proof
  veritrail trail prove /var/log/veritrail 1074 | veritrail trail check-proof - --public-key web1.pub")]
pub(crate) struct ProveArgs {
    /// The trail's directory
    dir: PathBuf,
    /// The index of the leaf, VT_LEAF of the event
    index: u64,
    /// Write the bundle to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &ProveArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let bundle = match prove(&Disk::new(&args.dir), LeafIndex(args.index)) {
        Ok(bundle) => bundle,
        Err(error @ Error::NoLeaf { .. }) => {
            eprintln!("veritrail: {error}");
            return Ok(Outcome::No);
        }
        Err(error) => return Err(from_trail(&args.dir, error)),
    };
    match &args.output {
        Some(path) => fs::write(path, bundle).map_err(|error| {
            Failure::new(Kind::Io, format!("cannot write {}", path.display())).because(error)
        })?,
        None => out.write_all(&bundle)?,
    }
    Ok(Outcome::Good)
}
