//! `veritrail rules check`: whether rules are rules, without asking the kernel.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use policy::audit::Statement;
use serde::Serialize;

use crate::outcome::{Failure, Outcome};
use crate::rules::{self, Fault, Here, RulesFile, Trust};
use crate::run_dir::cannot;
use crate::verbs::trail::print_json;

/// Say whether files of rules are rules, and what is wrong with which word
///
/// Looks only: the kernel is not asked and nothing is changed. Users and groups are looked for on this machine,
/// b64 and b32 are its architectures. Of a directory its *.rules are read, in the order of augenrules. What is
/// a rule and hardly meant so is warned of on standard error. Exit status 1: something is wrong.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail rules check
  veritrail rules check 10-base.rules 30-stig.rules
  veritrail rules check --json rules.d | jq -r '.faults[] | \"\\(.file):\\(.line): \\(.message)\"'")]
pub(super) struct CheckArgs {
    /// Files of rules, or directories of them
    #[arg(value_name = "FILE", default_value = rules::DIRECTORY)]
    files: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What there is to say.
#[derive(Serialize, Default)]
struct Report {
    files: usize,
    rules: usize,
    faults: Vec<Fault>,
}

pub(super) fn run(args: &CheckArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let here = Here::find()?;
    let mut report = Report::default();
    for path in files(&args.files)? {
        let file = RulesFile::read(&path, Trust::Anybody)?;
        report.files += 1;
        for line in file.statements(&here) {
            match line {
                Ok(placed) => {
                    placed.warn(&file.name, &here);
                    report.rules += usize::from(matches!(placed.statement, Statement::Change(_)));
                }
                Err(fault) => {
                    if !args.json {
                        fault.print(out)?;
                    }
                    report.faults.push(fault);
                }
            }
        }
    }
    let wrong = report.faults.len();
    if args.json {
        print_json(out, &report)?;
    } else {
        let count = |number, what| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let (files, rules) = (count(report.files, "file"), count(report.rules, "rule"));
        writeln!(out, "{files}, {rules}, {}", count(wrong, "error"))?;
    }
    Ok(if wrong == 0 { Outcome::Good } else { Outcome::No })
}

/// The files that are named, and those in the directories that are.
pub(super) fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in named {
        if path.is_dir() || path == Path::new(rules::DIRECTORY) {
            files.extend(rules::in_directory(path).map_err(|error| cannot("read", path, error))?);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}
