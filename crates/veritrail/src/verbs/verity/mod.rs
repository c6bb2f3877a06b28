//! `veritrail verity`, and `veritysetup` through a link of that name.
//!
//! Options, operands and lines are those of veritysetup 2.6.1; options may stand before or
//! behind the verb, as there.

mod backend;
mod cat;
mod check_signature;
mod close;
mod device;
mod dump;
mod fec;
mod findings;
mod format;
mod open;
mod operands;
mod options;
mod records;
mod repair;
mod report;
mod sign;
mod signature;
mod status;
mod verify;

use std::ffi::OsString;
use std::io::Write;

use clap::{ArgAction, Args, FromArgMatches as _, Subcommand};

use crate::cli::Called;
use crate::outcome::{Failure, Kind, Outcome};
use crate::served::Opening;
pub(crate) use device::Device;
use options::Options;
pub(crate) use report::{Progress, write_json};
pub(crate) use status::find;

/// Make, check, serve and repair dm-verity images: format, verify, open, close, status, repair,
/// dump (as veritysetup), cat, sign, check-signature
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
  veritrail verity repair root.img root.hash --root-hash-file root.roothash --fec-device root.fec
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
    Open(open::OpenArgs),
    Close(close::CloseArgs),
    Status(status::StatusArgs),
    Repair(repair::RepairArgs),
    Dump(dump::DumpArgs),
    Cat(cat::CatArgs),
    Sign(sign::SignArgs),
    CheckSignature(check_signature::CheckSignatureArgs),
}

/// An image as arguments of `verity open` describe it, opened and not served.
pub(crate) fn describe(open: &[OsString]) -> Result<Opening, Failure> {
    let program = clap::Command::new("verity").no_binary_name(true);
    let parsed = VerityArgs::augment_args(program)
        .try_get_matches_from([&["open".into()], open].concat())
        .and_then(|mut matches| VerityArgs::from_arg_matches_mut(&mut matches));
    match parsed {
        Ok(VerityArgs { verb: Verb::Open(args), options, .. }) => open::describe(&args, &options),
        Ok(_) => Err(Failure::new(Kind::Usage, "this describes no image")),
        Err(error) => {
            let why = error.to_string();
            let why = why.lines().next().unwrap_or_default().to_owned();
            Err(Failure::new(Kind::Usage, "this describes no image").because(why))
        }
    }
}

impl VerityArgs {
    /// Does it.
    ///
    /// `typed` is the whole command line, with which `open` starts its server.
    pub(crate) fn run(
        &self,
        called_as: Called,
        typed: &[OsString],
        out: &mut dyn Write,
    ) -> Result<Outcome, Failure> {
        let options = &self.options;
        let no_signature = match &self.verb {
            Verb::Format(_) => Some("format"),
            Verb::Dump(_) => Some("dump"),
            Verb::Sign(_) => Some("sign"),
            Verb::CheckSignature(_) => Some("check-signature"),
            Verb::Close(_) => Some("close"),
            Verb::Status(_) => Some("status"),
            // It takes a signature to open a device with, and no other.
            Verb::Verify(_) if called_as == Called::Veritysetup => Some("verify"),
            Verb::Verify(_) | Verb::Repair(_) | Verb::Cat(_) | Verb::Open(_) => None,
        };
        if let Some(verb) = no_signature {
            options.signature.refuse(verb)?;
        }
        let outcome = match &self.verb {
            Verb::Format(args) => format::run(args, options, out),
            Verb::Verify(args) if called_as == Called::Veritysetup => {
                verify::run_as_veritysetup(args, options)
            }
            Verb::Verify(args) => verify::run(args, options, out),
            Verb::Open(args) => open::run(args, options, typed, out),
            Verb::Close(args) => close::run(args),
            Verb::Status(args) => status::run(args, out),
            Verb::Repair(args) => repair::run(args, options, out),
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
