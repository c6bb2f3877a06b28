//! `veritrail device`: what devices are, and what lies on them.

mod explain;
mod list;

use std::io::Write;

use clap::Subcommand;

pub(crate) use explain::Shown;

use crate::outcome::{Failure, Outcome};

/// The verbs of `veritrail device`.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Explain(explain::ExplainArgs),
    List(list::ListArgs),
}

impl Verb {
    /// Does it.
    pub(crate) fn run(&self, out: &mut dyn Write) -> Result<Outcome, Failure> {
        match self {
            Verb::Explain(args) => explain::run(args, out),
            Verb::List(args) => list::run(args, out),
        }
    }
}
