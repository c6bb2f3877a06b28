//! The command line: what was typed, turned into a verb to run.
//!
//! One binary; a link named like a stock tool makes it behave as that tool does
//! for the verbs that exist, exit codes included.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::outcome::{Failure, Outcome};
use crate::verbs;

/// Every integrity violation, caught where it happens and recorded so that it can be trusted
#[derive(Debug, Parser)]
#[command(name = "veritrail", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// dm-verity images: format, verify, dump, cat (as veritysetup)
    #[command(subcommand)]
    Verity(verbs::verity::Verb),
    Doctor(verbs::doctor::DoctorArgs),
    Completions(verbs::completions::CompletionsArgs),
    Man(verbs::completions::ManArgs),
}

/// What is to be done, and under which name we were called.
#[derive(Debug)]
pub(crate) struct Command {
    verb: Verb,
    called_as: Called,
}

/// The name under which we were called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Called {
    Veritrail,
    Veritysetup,
    Ausearch,
}

impl Called {
    fn from_name(name: &OsString) -> Called {
        match Path::new(name).file_name().and_then(|n| n.to_str()) {
            Some("veritysetup") => Called::Veritysetup,
            Some("ausearch") => Called::Ausearch,
            _ => Called::Veritrail,
        }
    }
}

/// Turns the arguments into a command, or into the exit status of `--help`, `--version`
/// or a usage error (which is printed here).
pub(crate) fn parse(mut args: Vec<OsString>) -> Result<Command, ExitCode> {
    let called_as = args.first().map_or(Called::Veritrail, Called::from_name);
    let under_verb = match called_as {
        Called::Veritrail => None,
        Called::Veritysetup => Some("verity"),
        Called::Ausearch => Some("search"),
    };
    if let Some(verb) = under_verb {
        args.insert(1, verb.into());
    }
    match Cli::try_parse_from(args) {
        Ok(cli) => Ok(Command { verb: cli.verb, called_as }),
        Err(error) => {
            // clap chooses the stream; a closed one is nobody's loss.
            let _ = error.print();
            Err(ExitCode::from(if error.use_stderr() { 2 } else { 0 }))
        }
    }
}

impl Command {
    /// Does it.
    pub(crate) fn run(&self, out: &mut dyn Write) -> Result<Outcome, Failure> {
        match &self.verb {
            Verb::Verity(verb) => verb.run(out),
            Verb::Doctor(args) => verbs::doctor::run(args, out),
            Verb::Completions(args) => verbs::completions::completions(args, out),
            Verb::Man(args) => verbs::completions::man(args),
        }
    }

    /// The exit status for what was found.
    pub(crate) fn exit_code(&self, outcome: Outcome) -> ExitCode {
        ExitCode::from(outcome.code())
    }

    /// The exit status for a failure.
    pub(crate) fn failure_code(&self, failure: &Failure) -> ExitCode {
        failure.code()
    }
}
