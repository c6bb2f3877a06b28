//! `veritrail rules list`: the rules that the kernel has.

use std::io::Write;

use clap::Args;
use host::audit::Control;
use policy::audit::{Context, Rule};
use serde::Serialize;

use super::refused;
use crate::outcome::{Failure, Outcome};
use crate::rules::Here;
use crate::verbs::trail::print_json;

/// List the rules that the kernel has, in its order
///
/// What is printed is the same rule when it is read again. Needs CAP_AUDIT_CONTROL.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail rules list
  veritrail rules list --key identity
  veritrail rules list --json | jq -r '.rules[] | select(.list == \"exit\") | .text'")]
pub(super) struct ListArgs {
    /// Only rules that have this in a key
    #[arg(short, long, value_name = "KEY")]
    key: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A rule of the kernel.
#[derive(Serialize)]
struct Row {
    list: &'static str,
    action: &'static str,
    /// In auditctl's words.
    text: String,
    keys: Vec<String>,
}

#[derive(Serialize)]
struct Report {
    rules: Vec<Row>,
}

pub(super) fn run(args: &ListArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let machine = Here::find()?.machine();
    let mut control = Control::open().map_err(refused)?;
    let rules: Vec<Row> = listed(&mut control)?
        .iter()
        .filter(|rule| args.key.as_ref().is_none_or(|key| has(rule, key.as_bytes())))
        .map(|rule| Row {
            list: rule.list().name(),
            action: rule.action().name(),
            text: rule.to_text(machine),
            keys: rule.keys().map(|key| String::from_utf8_lossy(key).into_owned()).collect(),
        })
        .collect();
    if args.json {
        print_json(out, &Report { rules })?;
    } else {
        for rule in rules {
            writeln!(out, "{}", rule.text)?;
        }
    }
    Ok(Outcome::Good)
}

/// The kernel's rules; what a younger kernel has that is none here is said, and left out.
pub(super) fn listed(control: &mut Control) -> Result<Vec<Rule>, Failure> {
    let mut rules = Vec::new();
    for wire in control.rules().map_err(refused)? {
        match Rule::from_wire(&wire) {
            Ok(rule) => rules.push(rule),
            // Nobody is left to tell if standard error is gone.
            Err(error) => drop(writeln!(std::io::stderr(), "veritrail: {error}")),
        }
    }
    Ok(rules)
}

/// Whether that is in one of its keys, as auditctl looks for it.
pub(super) fn has(rule: &Rule, part: &[u8]) -> bool {
    rule.keys().any(|key| memchr::memmem::find(key, part).is_some())
}
