//! `veritrail trail check-proof`

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use trail::{Proof, check_proof};

use super::{from_trail, print_json, read_input, read_key};
use crate::json::Text;
use crate::outcome::{Failure, Outcome};

/// Check a proof that an event is in a trail
///
/// Needs the public key and nothing else: no trail, no network. Exits 0 and prints the event if
/// the bundle proves it, 1 if it does not, 5 if it is not a bundle.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail trail check-proof event.proof --public-key web1.pub")]
pub(crate) struct CheckProofArgs {
    /// The bundle that `trail prove` wrote, or - for standard input
    bundle: PathBuf,
    /// The trail's public key: a file, or the key itself (NAME+HASH+BASE64)
    #[arg(long, value_name = "KEY")]
    public_key: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is printed with --json.
#[derive(Serialize)]
#[serde(tag = "proof", rename_all = "lowercase")]
enum Answer<'a> {
    Good { origin: &'a str, leaf: u64, size: u64, event: Text<'a> },
    False { why: &'a str },
}

pub(crate) fn run(args: &CheckProofArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let key = read_key(&args.public_key)?;
    let bundle = read_input(&args.bundle)?;
    match check_proof(&bundle, &key).map_err(|error| from_trail(&args.bundle, error))? {
        Proof::Good(proven) => {
            let checkpoint = &proven.checkpoint;
            let (leaf, size) = (proven.index.0, checkpoint.size);
            if args.json {
                let (origin, event) = (checkpoint.origin.as_str(), Text(&proven.leaf));
                print_json(out, &Answer::Good { origin, leaf, size, event })?;
            } else {
                writeln!(out, "proven: leaf {leaf} of {size} in {}", checkpoint.origin)?;
                out.write_all(&proven.leaf)?;
            }
            Ok(Outcome::Good)
        }
        Proof::False(why) => {
            if args.json {
                print_json(out, &Answer::False { why: &why })?;
            } else {
                writeln!(out, "not proven: {why}")?;
            }
            Ok(Outcome::No)
        }
    }
}
