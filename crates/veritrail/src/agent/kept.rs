//! What the machine kept over its last restart (pstore), and which of it was told: the same lines are
//! there again after the next start, until somebody clears the store.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use engine::devices::Identity;
use host::pstore;

use crate::config::default_state;

/// What was told of the store.
#[derive(Debug)]
pub(super) struct Kept {
    /// Where that is noted; none where there is no place for it.
    note: Option<PathBuf>,
    /// By agents before this one.
    told: BTreeSet<u128>,
    /// What is in the store now; the rest needs no note any more.
    found: BTreeSet<u128>,
}

/// No longer note than this is read, in bytes: 33 for each of 256 lines of 1,024 files.
const LONGEST: u64 = 16 << 20;

impl Kept {
    /// What was told is what the note says. A note that cannot be read says nothing: then it is told
    /// once more.
    pub(super) fn read() -> Kept {
        Kept::noted_in(default_state().ok().map(|state| state.join("agent/told")))
    }

    fn noted_in(note: Option<PathBuf>) -> Kept {
        let text = note.as_ref().and_then(|path| {
            let size = fs::metadata(path).ok()?.len();
            (size <= LONGEST).then(|| fs::read_to_string(path).ok())?
        });
        let number = |line: &str| u128::from_str_radix(line, 16).ok();
        let told = text.iter().flat_map(|text| text.lines()).filter_map(number).collect();
        Kept { note, told, found: BTreeSet::new() }
    }

    /// What the store has; nothing where there is none.
    pub(super) fn texts(&self) -> Vec<pstore::Kept> {
        pstore::read().unwrap_or_default()
    }

    /// Whether an event was not told before. One without an identity never was.
    pub(super) fn is_new(&mut self, identity: Option<Identity>) -> bool {
        let Some(Identity(identity)) = identity else { return true };
        self.found.insert(identity) && !self.told.contains(&identity)
    }

    /// Notes what was found as told. Where that fails, it is told again after the next start.
    pub(super) fn write(&self) {
        if let Some(note) = &self.note
            && self.found != self.told
        {
            let _ = write(note, &self.found);
        }
    }
}

fn write(note: &Path, found: &BTreeSet<u128>) -> io::Result<()> {
    let Some(folder) = note.parent() else { return Ok(()) };
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let next = note.with_extension("new");
    let mut file = File::create(&next)?;
    for identity in found {
        writeln!(file, "{identity:032x}")?;
    }
    file.sync_all()?;
    fs::rename(&next, note)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_not_told_again_and_what_is_gone_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent/told");
        let mut first = Kept::noted_in(Some(path.clone()));
        let seen = [Some(7), Some(7), None, None, Some(u128::MAX)];
        assert_eq!(seen.map(|n| first.is_new(n.map(Identity))), [true, false, true, true, true]);
        first.write();
        let mut second = Kept::noted_in(Some(path.clone()));
        assert_eq!(second.told, BTreeSet::from([7, u128::MAX]));
        assert!(!second.is_new(Some(Identity(7))));
        assert!(second.is_new(Some(Identity(8))));
        second.write();
        assert_eq!(Kept::noted_in(Some(path)).told, BTreeSet::from([7, 8]));
    }
}
