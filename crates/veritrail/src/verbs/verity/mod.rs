//! `veritrail verity`, and `veritysetup` through a link of that name.

use std::io::Write;

use clap::Subcommand;

use crate::outcome::{Failure, Outcome};

/// The verbs of `veritrail verity`.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {}

impl Verb {
    /// Does it.
    pub(crate) fn run(&self, _out: &mut dyn Write) -> Result<Outcome, Failure> {
        match *self {}
    }
}
