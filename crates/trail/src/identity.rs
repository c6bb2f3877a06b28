//! Who a trail is: its origin, its keys, its signed head.

use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::growing::{read, replace};
use crate::layout;
use crate::note::{Note, PublicKey, SecretKey};
use crate::store::{Mode, Store};
use crate::verify::Tampered;

/// More than any of the small files of a trail has.
const SMALL: u64 = 64 << 10;

/// Makes a trail in an empty or missing directory: a new origin `<host>/<128-bit id>`, a new key
/// and a signed checkpoint of nothing. Characters of `host` that a key's name may not have become
/// `-`.
///
/// The file `id` comes last, so that a crash leaves a trail or none; none may be made anew.
///
/// # Errors
/// [`Error::Exists`], [`Error::Tampered`] where there are segments and no `id`, I/O.
pub fn create<S: Store>(store: &S, host: &str) -> Result<PublicKey, Error> {
    match origin(store) {
        Err(Error::NoTrail) => {}
        // A trail that has lost its `id` keeps its key and its segments.
        found => return Err(found?.map_or_else(Error::Tampered, Error::Exists)),
    }
    for directory in ["", layout::SEGMENTS, layout::HASHES, layout::TORN] {
        let path = Path::new(directory);
        store.create_dir(path).map_err(Error::write("create", path))?;
    }
    let (mut id, mut seed) = ([0; 16], [0; 32]);
    for random in [&mut id[..], &mut seed[..]] {
        getrandom::fill(random).map_err(|error| {
            Error::io("draw a random key for", Path::new(layout::KEY))(error.into())
        })?;
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-' || c == '_';
    let host: String = host.chars().map(|c| if fits(c) { c } else { '-' }).take(64).collect();
    let origin = format!("{host}/{:032x}", u128::from_be_bytes(id));
    let key = SecretKey::from_seed(&origin, &seed)
        .map_err(|error| Error::unusable(layout::KEY, error.to_string()))?;
    let nothing = Checkpoint::of(&origin, &crate::merkle::Range::new());

    replace(store, Path::new(layout::KEY), key.to_text().as_bytes(), Mode::Secret)?;
    replace(store, Path::new(layout::KEY_PUB), key.public().to_text().as_bytes(), Mode::Public)?;
    let note = nothing.sign(&key);
    replace(store, Path::new(layout::CHECKPOINT), note.as_bytes(), Mode::Public)?;
    replace(store, Path::new(layout::ID), format!("{origin}\n").as_bytes(), Mode::Public)?;
    Ok(key.public().clone())
}

/// The origin, if this is a trail and its `id` is one.
pub(crate) fn origin<S: Store>(store: &S) -> Result<Result<String, Tampered>, Error> {
    let Some(id) = read(store, Path::new(layout::ID), SMALL)? else {
        if crate::scan::segments(store)?.is_empty() {
            return Err(Error::NoTrail);
        }
        return Ok(Err(Tampered::of("there is no file `id` beside the segments")));
    };
    let text = std::str::from_utf8(&id).ok().and_then(|text| text.strip_suffix('\n'));
    Ok(match text {
        Some(text) if !text.is_empty() && !text.contains('\n') => Ok(text.to_owned()),
        _ => Err(Tampered::of("the file `id` is not one line of text")),
    })
}

/// The private key.
pub(crate) fn secret<S: Store>(store: &S, origin: &str) -> Result<SecretKey, Error> {
    let path = Path::new(layout::KEY);
    let text = read(store, path, SMALL)?.ok_or_else(|| {
        Error::unusable(path, "there is none; without it a trail can be verified, not continued")
    })?;
    let key = std::str::from_utf8(&text).map_err(|_| "it is not text".to_owned());
    let key = key.and_then(|text| SecretKey::parse(text).map_err(|error| error.to_string()));
    let key = key.map_err(|what| Error::unusable(path, what))?;
    if key.public().name() != origin {
        return Err(Error::unusable(path, format!("it is the key of {}", key.public().name())));
    }
    Ok(key)
}

/// The public key that lies beside the checkpoint.
pub(crate) fn public<S: Store>(store: &S) -> Result<Result<PublicKey, Tampered>, Error> {
    let Some(text) = read(store, Path::new(layout::KEY_PUB), SMALL)? else {
        return Ok(Err(Tampered::of("there is no file `key.pub`, and no public key was given")));
    };
    let key = std::str::from_utf8(&text).ok().and_then(|text| PublicKey::parse(text).ok());
    Ok(match key {
        Some(key) if key.to_text().as_bytes() == text => Ok(key),
        _ => Err(Tampered::of("the file `key.pub` does not hold a key in canonical form")),
    })
}

/// The signed head, held against a key: the note and what it says.
pub(crate) fn head<S: Store>(
    store: &S,
    origin: &str,
    key: &PublicKey,
) -> Result<Result<(String, Checkpoint), Tampered>, Error> {
    let Some(bytes) = read(store, Path::new(layout::CHECKPOINT), SMALL)? else {
        return Ok(Err(Tampered::of("there is no file `checkpoint`")));
    };
    if key.name() != origin {
        let what = format!("the trail is {origin}, the key that of {}", key.name());
        return Ok(Err(Tampered::of(what)));
    }
    let wrong = |error: crate::note::NoteError| Tampered::of(format!("its checkpoint: {error}"));
    Ok(
        match (Checkpoint::open(&bytes, key), Note::parse(&bytes), String::from_utf8(bytes.clone()))
        {
            (Ok(checkpoint), Ok(note), Ok(text)) => {
                if note.signatures() == 1 {
                    Ok((text, checkpoint))
                } else {
                    Err(Tampered::of("its checkpoint has more than one signature"))
                }
            }
            (Err(error), ..) | (_, Err(error), _) => Err(wrong(error)),
            (.., Err(_)) => Err(Tampered::of("its checkpoint is not text")),
        },
    )
}

/// Whether the trail bears the mark of an open one.
pub(crate) fn is_open<S: Store>(store: &S) -> Result<bool, Error> {
    Ok(read(store, Path::new(layout::OPEN), SMALL)?.is_some())
}
