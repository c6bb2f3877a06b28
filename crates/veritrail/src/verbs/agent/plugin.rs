//! `veritrail agent plugin`: what auditd starts, to take its events to the agent.

use std::path::PathBuf;

use clap::Args;

use crate::agent::{Home, relay};
use crate::outcome::{Failure, Outcome};

/// Take auditd's events to the agent; started by auditd, as a plugin
///
/// auditd starts it with events on standard input (plugins.d/veritrail.conf, which `agent install --plugin`
/// writes), as text or binary. It hands them to the agent whose configuration says audit.input = "stdin". While
/// there is none they wait, 16 MiB at most; what finds no room is counted, and the agent records that as a
/// VT_GAP. It ends when auditd does. Exit status 5: what came is not auditd's.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail agent install --plugin && service auditd restart
  ausearch --raw | veritrail agent plugin --run-dir ./run")]
pub(crate) struct PluginArgs {
    /// Take them to the agent of this run directory instead of /run/veritrail
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

pub(crate) fn run(args: &PluginArgs) -> Result<Outcome, Failure> {
    relay(&Home::locate(args.run_dir.as_deref())?).map(|()| Outcome::Good)
}
