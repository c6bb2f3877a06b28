//! Where things lie that nobody named a place for.

use std::path::PathBuf;

use crate::outcome::{Failure, Kind};

/// The trail of whoever says nothing else: the system's for root, and for others one of their own.
pub(crate) fn default_trail() -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/log/veritrail"));
    }
    Ok(default_state().map_err(|failure| failure.hint("name one: --trail DIR"))?.join("trail"))
}

/// Where what outlives a boot is kept: of the system for root, and of others their own.
pub(crate) fn default_state() -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/veritrail"));
    }
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    state.map(|state| state.join("veritrail")).ok_or_else(|| {
        let what = "neither XDG_STATE_HOME nor HOME says where to keep what outlives this process";
        Failure::new(Kind::Environment, what)
    })
}
