//! Brings a trail back that was not closed.

use std::path::PathBuf;

/// What the writer found when it opened the trail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Whether the last writer had closed it.
    pub closed: bool,
    /// Leaves that were there but not yet signed.
    pub unsigned: u64,
    /// Bytes behind the last whole event and where they are now.
    pub torn: Option<(u64, PathBuf)>,
}
