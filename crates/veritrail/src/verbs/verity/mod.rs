//! `veritrail verity`, and `veritysetup` through a link of that name.
//!
//! Options, operands and lines are those of veritysetup 2.6.1; options may stand before or
//! behind the verb, as there.

mod cat;
mod check_signature;
mod device;
mod dump;
mod fec;
mod format;
mod operands;
mod options;
mod records;
mod report;
mod sign;
mod signature;
mod verify;

use std::io::Write;

use clap::{ArgAction, Args, Subcommand};

use crate::cli::Called;
use crate::outcome::{Failure, Outcome};
use options::Options;

/// Make and check dm-verity images: format, verify, dump, cat (as veritysetup), sign, check-signature
///
/// DATA and HASH may be files or block devices, and may be the same one (--hash-offset).
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    version,
    arg_required_else_help = true,
    args_override_self = true,
    after_help = "Examples:
  veritrail verity format root.img root.hash --root-hash-file root.roothash
  veritrail verity verify root.img root.hash --root-hash-file root.roothash
  veritrail verity cat root.img root.hash --root-hash-file root.roothash > copy.img
  veritrail verity dump root.hash"
)]
pub(crate) struct VerityArgs {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    options: Options,
    /// Show this help message
    #[arg(long, short = '?', alias = "usage", global = true, action = ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Format(format::FormatArgs),
    Verify(verify::VerifyArgs),
    Dump(dump::DumpArgs),
    Cat(cat::CatArgs),
    Sign(sign::SignArgs),
    CheckSignature(check_signature::CheckSignatureArgs),
}

impl VerityArgs {
    /// Does it.
    pub(crate) fn run(&self, called_as: Called, out: &mut dyn Write) -> Result<Outcome, Failure> {
        let options = &self.options;
        match &self.verb {
            Verb::Format(_) => options.signature.refuse("format")?,
            Verb::Dump(_) => options.signature.refuse("dump")?,
            Verb::Sign(_) => options.signature.refuse("sign")?,
            Verb::CheckSignature(_) => options.signature.refuse("check-signature")?,
            // It takes a signature to open a device with, and no other.
            Verb::Verify(_) if called_as == Called::Veritysetup => {
                options.signature.refuse("verify")?;
            }
            Verb::Verify(_) | Verb::Cat(_) => {}
        }
        let outcome = match &self.verb {
            Verb::Format(args) => format::run(args, options, out),
            Verb::Verify(args) if called_as == Called::Veritysetup => {
                verify::run_as_veritysetup(args, options)
            }
            Verb::Verify(args) => verify::run(args, options, out),
            Verb::Dump(args) => dump::run(args, options, out),
            Verb::Cat(args) => cat::run(args, options, out),
            Verb::Sign(args) => sign::run(args, options),
            Verb::CheckSignature(args) => check_signature::run(args, options, out),
        }?;
        if options.verbose && called_as == Called::Veritysetup && outcome == Outcome::Good {
            writeln!(out, "Command successful.")?;
        }
        Ok(outcome)
    }
}
