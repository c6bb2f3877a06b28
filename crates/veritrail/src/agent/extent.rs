//! How large the trail is, and how old its last checkpoint: looked at only when somebody asks.

use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use trail::layout;

/// What lies on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extent {
    /// Leaves that the checkpoint covers.
    pub(crate) leaves: u64,
    /// Bytes of all segments.
    pub(crate) bytes: u64,
    /// Seconds since the checkpoint was written.
    pub(crate) checkpoint_age: u64,
}

impl Extent {
    /// Of the trail in `dir`; none where it cannot be seen.
    pub(super) fn of(dir: &Path) -> Option<Extent> {
        let (_, leaves) = crate::forward::signed(dir).ok()??;
        let written = std::fs::metadata(dir.join(layout::CHECKPOINT)).ok()?.modified().ok()?;
        let age = SystemTime::now().duration_since(written).unwrap_or_default().as_secs();
        let segments = std::fs::read_dir(dir.join(layout::SEGMENTS)).ok()?;
        let sizes = segments.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
        Some(Extent { leaves, bytes: sizes.sum(), checkpoint_age: age })
    }
}
