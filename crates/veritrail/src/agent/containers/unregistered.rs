//! Containers that a hook could not register: noted in the run directory by the hook, and told of by the
//! agent, this one or the next.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use engine::containers::Description;
use record::write::Body;
use serde::{Deserialize, Serialize};

use super::super::home::Home;
use super::super::journal::OwnRecord;
use crate::clock;
use crate::outcome::Failure;
use crate::run_dir::{cannot, nofollow};

const NAME: &str = "unregistered";

/// One container.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Note {
    /// Seconds since 1970.
    at: u64,
    description: Description,
    reason: String,
}

/// The most that is read of the notes, in bytes. Only whoever may make containers writes there.
const LONGEST: u64 = 1 << 20;

/// Notes a container for the agent of this run directory.
pub(crate) fn leave(home: &Home, description: &Description, reason: &str) -> Result<(), Failure> {
    // No agent was here since the host began.
    home.make()?;
    let path = home.path().join(NAME);
    let note = Note {
        at: clock::now().realtime_ns / 1_000_000_000,
        description: description.clone(),
        reason: reason.to_owned(),
    };
    let write = || {
        let mut line = serde_json::to_vec(&note)?;
        line.push(b'\n');
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).custom_flags(nofollow());
        // One write: several hooks may note at once.
        options.open(&path)?.write_all(&line)
    };
    write().map_err(|error: io::Error| cannot("note the container in", &path, error))
}

/// What is being told of, until it is durable.
const TAKEN: &str = "unregistered.taken";

/// A VT_GAP for each container that was noted. The notes stay until [`forget`]: what an agent that is killed
/// meanwhile may not have told, the next one tells again.
pub(super) fn take(directory: &Path) -> Vec<OwnRecord> {
    let taken = directory.join(TAKEN);
    let Ok(file) = fs::File::open(&taken) else {
        // Read the next time: a hook that has it open has written by then.
        let _ = fs::rename(directory.join(NAME), &taken);
        return Vec::new();
    };
    let mut text = Vec::new();
    let _ = file.take(LONGEST).read_to_end(&mut text);
    let notes = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let record = |line| OwnRecord("VT_GAP", body(serde_json::from_slice(line).ok()));
    let records: Vec<OwnRecord> = notes.map(record).collect();
    if records.is_empty() {
        forget(directory);
    }
    records
}

/// What was taken is durable.
pub(super) fn forget(directory: &Path) {
    // One that cannot be removed is told of again.
    let _ = fs::remove_file(directory.join(TAKEN));
}

fn body(note: Option<Note>) -> Body {
    let body = Body::new().word("source", "oci-hook");
    let Some(Note { at, description, reason }) = note else {
        return body.word("reason", "unreadable").word("count", "unknown");
    };
    let body = body.phrase("reason", &reason).word("containers", 1).word("count", "exact");
    let Description { runtime, id, name, image, .. } = description;
    let fields = [("runtime", runtime), ("id", id), ("name", name), ("image", image)];
    let body = fields.into_iter().fold(body, |body, (key, value)| match value {
        Some(value) => body.untrusted(key, value.as_bytes()),
        None => body,
    });
    let stamp = record::Stamp { millis: at.saturating_mul(1000) };
    body.word("from", stamp).word("to", stamp)
}
