//! `veritrail rules load`: a file of rules, whole or not at all.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use host::audit::Control;

use super::check::files;
use super::perform::{self, Performer};
use super::refused;
use crate::outcome::{Failure, Kind, Outcome};
use crate::rules::{Here, RulesFile, Trust};

/// Do what files of rules say, if all of them can be read
///
/// As `auditctl -R`, but nothing is done where a line is wrong, and a rule that the kernel has already is no
/// error. What the agent is to have while it runs does not stand here but in /etc/veritrail/rules.d.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail rules load /etc/audit/audit.rules
  veritrail rules load rules.d")]
pub(super) struct LoadArgs {
    /// Files of rules, or directories of them
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

pub(super) fn run(args: &LoadArgs) -> Result<Outcome, Failure> {
    let here = Here::find()?;
    let mut lines = Vec::new();
    let mut faults = 0_usize;
    for path in files(&args.files)? {
        let file = RulesFile::read(&path, Trust::Owner)?;
        for line in file.statements(&here) {
            match line {
                Ok(placed) => {
                    placed.warn(&file.name, &here);
                    lines.push((file.name.clone(), placed));
                }
                Err(fault) => {
                    faults += 1;
                    // Nobody is left to tell if standard error is gone.
                    let _ = fault.print(&mut io::stderr());
                }
            }
        }
    }
    if faults > 0 {
        let what = format!("{faults} lines are wrong: nothing was done");
        return Err(Failure::new(Kind::Unusable, what).hint("veritrail rules check"));
    }
    let mut performer = Performer::new(here, Control::open().map_err(refused)?);
    for (file, placed) in lines {
        match performer.perform(&placed.statement, &mut io::sink()) {
            Ok(_) => {}
            Err(failure) if failure.kind == Kind::Refused => {}
            Err(failure) => {
                let _ = writeln!(io::stderr(), "{}", perform::in_line(&file, &placed));
                return Err(failure);
            }
        }
    }
    Ok(Outcome::Good)
}
