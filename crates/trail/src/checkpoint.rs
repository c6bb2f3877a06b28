//! A checkpoint: how long a trail is and what it hashes to (c2sp.org/tlog-checkpoint).
//!
//! ```text
//!  web1/5f0c...e1          origin
//!  20852163                leaves
//!  CsUYap...kqCI=          root, base64
//!                          (no extension lines)
//!  — web1/5f0c...e1 Az3grlgtzPICa5OS...
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::merkle::{Hash, Range};
use crate::note::{Note, NoteError, PublicKey, SecretKey};

/// How long a trail is and what it hashes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which trail.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// RFC 6962 root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// That of a trail which consists of the leaves in `tree`.
    #[must_use]
    pub fn of(origin: &str, tree: &Range) -> Checkpoint {
        Checkpoint { origin: origin.to_owned(), size: tree.size(), root: tree.root() }
    }

    /// The text that is signed.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// The signed note.
    #[must_use]
    pub fn sign(&self, key: &SecretKey) -> String {
        key.sign(&self.to_text())
    }

    /// Reads the signed text. Only the bytes that [`Checkpoint::to_text`] would write are one.
    ///
    /// # Errors
    /// [`NoteError::Form`]
    pub fn parse(text: &str) -> Result<Checkpoint, NoteError> {
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err(NoteError::Form("a checkpoint has three lines"));
        };
        let size = size.parse().map_err(|_| NoteError::Form("its size is no number"))?;
        let root = STANDARD
            .decode(root)
            .ok()
            .and_then(|root| root.try_into().ok())
            .ok_or(NoteError::Form("its root is not 32 bytes in base64"))?;
        let checkpoint = Checkpoint { origin: origin.to_owned(), size, root };
        if origin.is_empty() || checkpoint.to_text() != text {
            return Err(NoteError::Form("it is not in canonical bytes"));
        }
        Ok(checkpoint)
    }

    /// Reads a note that `key` has signed for the trail of its name. Signatures of others,
    /// witnesses for example, may stand beside.
    ///
    /// # Errors
    /// Everything about a note in [`NoteError`].
    pub fn open(note: &[u8], key: &PublicKey) -> Result<Checkpoint, NoteError> {
        let note = Note::parse(note)?;
        note.check(key)?;
        let checkpoint = Checkpoint::parse(note.text)?;
        if checkpoint.origin != key.name() {
            return Err(NoteError::Form("it is for another trail"));
        }
        Ok(checkpoint)
    }
}

/// Cuts a file of checkpoints, one behind the other as a sink writes them, into notes. Empty
/// lines between two are passed over; the last piece may be anything.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches('\n');
        if rest.is_empty() {
            return None;
        }
        let mut end = 0;
        let mut signed = false;
        for line in rest.split_inclusive('\n') {
            let signature = line.starts_with('\u{2014}');
            if signed && !signature {
                break;
            }
            signed |= signature;
            end += line.len();
        }
        let (note, behind) = rest.split_at(end);
        rest = behind;
        Some(note)
    })
}
