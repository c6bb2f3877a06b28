//! Audit rules on this machine: what their words mean here, and the files that they stand in.

mod clock;
mod file;
mod here;
mod installed;
mod meant;
mod plan;

pub(crate) use file::{Fault, Placed, RulesFile, Trust, in_directory, warn};
pub(crate) use here::Here;
pub(crate) use installed::{Change, Installed, State};
pub(crate) use meant::{Meant, keys};
pub(crate) use plan::Way;

/// Where the agent's rules stand.
pub(crate) const DIRECTORY: &str = "/etc/veritrail/rules.d";
