//! `veritrail rules`, and `auditctl` through a link of that name.

mod check;
mod list;
mod load;
mod message;
mod perform;

use std::ffi::OsString;
use std::io::Write;

use clap::{Args, Subcommand};
use host::audit::Error;

use crate::outcome::{Failure, Kind, Outcome};

/// Audit rules: check, list and load them, or say one as to auditctl
///
/// Behind `rules` stand auditctl's own options (-a -A -d -D -w -W -l -s -e -f -r -b -m -R -t -q -c -i, each with
/// what belongs to it), which do what they do there. A link to this program that is named `auditctl` takes them
/// without `rules`, with auditctl's exit statuses.
///
/// What the agent is to ask the kernel for stands in /etc/veritrail/rules.d/*.rules, see `veritrail agent`.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  veritrail rules check
  veritrail rules check /etc/audit/rules.d/*.rules
  veritrail rules -a always,exit -F arch=b64 -S execve -F auid!=unset -k commands
  veritrail rules -w /etc/shadow -p wa -k identity
  veritrail rules -l
  veritrail rules -D -k identity"
)]
pub(crate) struct RulesArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// auditctl's options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    words: Vec<OsString>,
    /// They stood behind that name.
    #[arg(skip)]
    as_auditctl: bool,
}

/// The verbs of `veritrail rules`.
#[derive(Debug, Subcommand)]
enum Verb {
    Check(check::CheckArgs),
    List(list::ListArgs),
    Load(load::LoadArgs),
}

impl RulesArgs {
    /// What stands behind `auditctl`.
    pub(crate) fn of_auditctl(words: Vec<OsString>) -> RulesArgs {
        RulesArgs { verb: None, words, as_auditctl: true }
    }

    /// Does it.
    pub(crate) fn run(&self, out: &mut dyn Write) -> Result<Outcome, Failure> {
        match &self.verb {
            Some(Verb::Check(args)) => check::run(args, out),
            Some(Verb::List(args)) => list::run(args, out),
            Some(Verb::Load(args)) => load::run(args),
            None => perform::run(&self.words, self.as_auditctl, out),
        }
    }
}

/// Why the kernel did not, and whose fault that is.
fn refused(error: Error) -> Failure {
    let kind = match &error {
        // Nothing was done, and nothing is broken.
        Error::RuleExists { .. } | Error::NoSuchRule { .. } => Kind::Refused,
        Error::Refused { .. } | Error::Message { .. } => Kind::Unusable,
        Error::Io { .. } | Error::NoAnswer { .. } | Error::Malformed { .. } => Kind::Io,
        _ => Kind::Environment,
    };
    match &error {
        Error::Io { doing, .. } => Failure::new(kind, format!("cannot {doing}")).because(error),
        _ => Failure::new(kind, error.to_string()),
    }
}
