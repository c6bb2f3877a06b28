//! Audit rules on this machine: what their words mean here, and the files that they stand in.

mod file;
mod here;

pub(crate) use file::{Fault, Placed, RulesFile, Trust, in_directory};
pub(crate) use here::Here;

/// Where the agent's rules stand.
pub(crate) const DIRECTORY: &str = "/etc/veritrail/rules.d";
