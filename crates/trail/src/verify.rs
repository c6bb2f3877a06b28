//! Whether a trail is what was signed.

use std::fmt;
use std::path::PathBuf;

use record::units::LeafIndex;

use crate::checkpoint::Checkpoint;
use crate::derived;
use crate::error::Error;
use crate::identity;
use crate::merkle::{Range, leaf_hash};
use crate::note::{Note, PublicKey};
use crate::scan::{Found, Scan, segments};
use crate::store::Store;

/// What to hold the trail against.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// The key it must be signed with; without it the one that lies beside the checkpoint.
    pub public_key: Option<PublicKey>,
    /// Checkpoints kept elsewhere (signed notes): the trail must contain what each of them signed.
    pub anchors: Vec<String>,
    /// What a report calls each of them; one without a name is called by its number.
    pub anchor_names: Vec<String>,
    /// A single older checkpoint, the same way.
    pub older: Option<String>,
}

/// What is known about the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyTrust {
    /// It is the one that was given.
    Proven,
    /// It lies in the trail itself: whoever can write there could have put it there.
    SelfConsistent,
}

/// A trail that is what was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The head, whose `size` is the number of signed leaves.
    pub checkpoint: Checkpoint,
    /// Whole leaves behind it, not signed yet: at most a second's worth.
    pub unsigned: u64,
    /// Bytes behind those that are no whole event: what a crash, or a writer at work, leaves.
    pub torn: u64,
    /// Whose signature it is.
    pub key: KeyTrust,
    /// Anchors and older checkpoints that are in it.
    pub anchors: usize,
}

/// A place in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Relative to the trail.
    pub segment: PathBuf,
    /// In bytes.
    pub offset: u64,
}

/// The first thing that is not what was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tampered {
    /// The first wrong leaf, where it can be told.
    pub leaf: Option<LeafIndex>,
    /// Where it lies, or should.
    pub place: Option<Place>,
    /// What is wrong.
    pub what: String,
}

impl Tampered {
    /// Something that is wrong with the trail as a whole.
    pub(crate) fn of(what: impl Into<String>) -> Tampered {
        Tampered { leaf: None, place: None, what: what.into() }
    }
}

impl fmt::Display for Tampered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(leaf) = self.leaf {
            write!(f, "leaf {leaf}: ")?;
        }
        if let Some(place) = &self.place {
            write!(f, "{} at byte {}: ", place.segment.display(), place.offset)?;
        }
        f.write_str(&self.what)
    }
}

/// The answer of [`verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The trail is what was signed.
    Good(Report),
    /// It is not.
    Tampered(Tampered),
}

/// Says whether a trail is what was signed. Needs no secret, no root and no writer; one may be at
/// work meanwhile. Memory does not grow with the trail. What is derived is not looked at, unless
/// to name the place of what was found wrong without it.
///
/// # Errors
/// [`Error::NoTrail`], [`Error::Unusable`] for a bad anchor, I/O. Never for what a trail holds.
pub fn verify<S: Store>(store: &S, options: &VerifyOptions) -> Result<Verdict, Error> {
    // A closed trail may be opened, grow and be closed again while it is read.
    for _ in 0..8 {
        match once(store, options)? {
            Once::Answer(verdict) => return Ok(verdict),
            Once::Moved => {}
        }
    }
    Ok(Verdict::Tampered(Tampered::of("its end does not stay where a closed trail's would")))
}

enum Once {
    Answer(Verdict),
    /// A writer came in between.
    Moved,
}

fn once<S: Store>(store: &S, options: &VerifyOptions) -> Result<Once, Error> {
    let no = |what| Ok(Once::Answer(Verdict::Tampered(what)));
    let origin = match identity::origin(store)? {
        Ok(origin) => origin,
        Err(what) => return no(what),
    };
    let (key, trust) = match &options.public_key {
        Some(key) => (key.clone(), KeyTrust::Proven),
        None => match identity::public(store)? {
            Ok(key) => (key, KeyTrust::SelfConsistent),
            Err(what) => return no(what),
        },
    };
    let open = identity::is_open(store)?;
    let (note, head) = match identity::head(store, &origin, &key)? {
        Ok(head) => head,
        Err(what) => return no(what),
    };
    let anchors = match anchors(options, &key, &head)? {
        Ok(anchors) => anchors,
        Err(what) => return no(what),
    };

    let segments = segments(store)?;
    let mut pending = anchors.iter().map(|(name, anchor)| (name, anchor)).peekable();
    let mut tree = Range::new();
    let mut scan = Scan::new(store, segments.clone(), 0);
    loop {
        while let Some((name, anchor)) = pending.next_if(|(_, next)| next.size == tree.size()) {
            if anchor.root != tree.root() {
                let what = format!("its first {} leaves are not those of {name}", anchor.size);
                // Leaves that were changed without signing anew can be named.
                let changed = derived::first_changed(store, &segments, &head)?;
                return no(changed.unwrap_or_else(|| Tampered::of(what)));
            }
        }
        if tree.size() == head.size {
            break;
        }
        let what = match scan.advance()? {
            Found::Leaf { .. } => {
                tree.push(leaf_hash(scan.bytes()));
                continue;
            }
            Found::End => "it is signed but not there",
            Found::Rest(what) | Found::Wrong(what) => what,
        };
        // The first leaf that cannot be read need not be the first that was changed.
        let found = scan.wrong(what);
        return no(derived::first_changed(store, &segments, &head)?.unwrap_or(found));
    }
    if tree.root() != head.root {
        return no(derived::locate(store, &segments, &head)?);
    }

    let mut unsigned = 0;
    loop {
        let found = scan.advance()?;
        if found != Found::End && !open {
            let what = scan.behind(found);
            let moved = identity::is_open(store)?
                || !matches!(identity::head(store, &origin, &key)?, Ok((now, _)) if now == note);
            return if moved { Ok(Once::Moved) } else { no(what) };
        }
        match found {
            Found::Leaf { .. } => unsigned += 1,
            Found::End | Found::Rest(_) => break,
            Found::Wrong(what) => return no(scan.wrong(what)),
        }
    }
    let torn = scan.rest()?;
    let anchors = anchors.len();
    let report = Report { checkpoint: head, unsigned, torn, key: trust, anchors };
    Ok(Once::Answer(Verdict::Good(report)))
}

/// The checkpoints kept elsewhere, by size; tampering if one of them is not of this trail, or of
/// a longer one.
fn anchors(
    options: &VerifyOptions,
    key: &PublicKey,
    head: &Checkpoint,
) -> Result<Result<Vec<(String, Checkpoint)>, Tampered>, Error> {
    let mut anchors = Vec::new();
    for (n, note) in options.anchors.iter().chain(&options.older).enumerate() {
        let name = options.anchor_names.get(n).cloned();
        let name = name.unwrap_or_else(|| format!("checkpoint {} of those kept elsewhere", n + 1));
        let text = Note::parse(note.as_bytes())
            .and_then(|note| Checkpoint::parse(note.text))
            .map_err(|error| Error::unusable(&name, error.to_string()))?;
        if text.origin != head.origin {
            let what = format!("{name} is of {}, this trail is {}", text.origin, head.origin);
            return Ok(Err(Tampered::of(what)));
        }
        let anchor = match Checkpoint::open(note.as_bytes(), key) {
            Ok(anchor) => anchor,
            Err(error) => return Ok(Err(Tampered::of(format!("{name}: {error}")))),
        };
        if anchor.size > head.size {
            return Ok(Err(Tampered::of(format!(
                "its checkpoint has {} leaves, {name} has {}: the end was cut off",
                head.size, anchor.size
            ))));
        }
        anchors.push((name, anchor));
    }
    anchors.sort_by_key(|(_, anchor)| anchor.size);
    Ok(Ok(anchors))
}
