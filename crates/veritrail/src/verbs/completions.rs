//! `veritrail completions` and `veritrail man`: made from the same definitions as `--help`.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::cli::Cli;
use crate::outcome::{Failure, Kind, Outcome};

/// Print the completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail completions bash > /usr/share/bash-completion/completions/veritrail")]
pub(crate) struct CompletionsArgs {
    shell: clap_complete::Shell,
}

/// Write the man pages, one per verb, into a directory
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail man /usr/local/share/man/man1
  man veritrail-trail-verify")]
pub(crate) struct ManArgs {
    /// Where to write them; it must exist
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(crate) fn completions(args: &CompletionsArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let mut command = Cli::command();
    // clap_complete panics on a writer that fails; a vector does not.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "veritrail", &mut script);
    out.write_all(&script)?;
    Ok(Outcome::Good)
}

pub(crate) fn man(args: &ManArgs) -> Result<Outcome, Failure> {
    clap_mangen::generate_to(Cli::command(), &args.directory).map_err(|error| {
        Failure::new(Kind::Io, format!("cannot write man pages to {}", args.directory.display()))
            .because(error)
    })?;
    Ok(Outcome::Good)
}
