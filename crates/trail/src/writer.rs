//! Appends to a trail.

use record::units::LeafIndex;

use crate::store::Store;
use crate::{Entry, Error, PublicKey, Recovered, Stamp};

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is this leaf (the first of them if it is long), durable after the next sync.
    New(LeafIndex),
    /// Its ticket has been used: it is in the trail already, durable after the next sync.
    Known,
}

/// Makes a trail in an empty or missing directory: a new origin `<host>/<128-bit id>`, a new key
/// and a signed checkpoint of nothing. Characters of `host` that a key's name may not have become
/// `-`.
///
/// # Errors
/// [`Error::Exists`], I/O.
pub fn create<S: Store>(_store: &S, _host: &str) -> Result<PublicKey, Error> {
    Err(Error::NoTrail)
}

/// The one that appends. Whoever makes one holds the trail's lock, which is not this crate
/// part's business.
pub struct Writer<S: Store> {
    _store: S,
    public: PublicKey,
}

impl<S: Store> Writer<S> {
    /// Opens a trail, recovering it first if it was not closed. `boot` is the kernel's
    /// `boot_id`; it goes into the mark of an open trail and into `VT_BOOT` of our own records.
    ///
    /// # Errors
    /// [`Error::Tampered`], [`Error::NoTrail`], [`Error::Unusable`] for the key, I/O.
    pub fn open(_store: S, _boot: &str, _now: Stamp) -> Result<(Writer<S>, Recovered), Error> {
        Err(Error::NoTrail)
    }

    /// Takes an entry. It is neither durable nor visible to readers before [`Writer::sync`].
    ///
    /// # Errors
    /// [`Error::Full`] and [`Error::Entry`]: nothing was taken. [`Error::Stopped`], I/O.
    pub fn append(&mut self, _entry: &Entry<'_>, _now: Stamp) -> Result<Appended, Error> {
        Err(Error::Stopped)
    }

    /// Makes all that was taken durable and says how long the trail is now: every leaf below
    /// may be acknowledged.
    ///
    /// # Errors
    /// [`Error::Full`]: what was taken may become durable by a later call. [`Error::Stopped`]
    /// after any other failure, which is never tried again on the same file.
    pub fn sync(&mut self) -> Result<LeafIndex, Error> {
        Err(Error::Stopped)
    }

    /// Leaves that are durable.
    #[must_use]
    pub fn durable(&self) -> LeafIndex {
        LeafIndex(0)
    }

    /// The index that the next leaf will have.
    #[must_use]
    pub fn next_leaf(&self) -> LeafIndex {
        LeafIndex(0)
    }

    /// The last number that a client has used, as far as this trail remembers.
    #[must_use]
    pub fn seen(&self, _client: &str) -> Option<u64> {
        None
    }

    /// When, in nanoseconds since boot, [`Writer::checkpoint`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        None
    }

    /// Signs what has become durable since the last checkpoint, if a second has passed since
    /// (and syncs first). Gives the new checkpoint, for the sinks.
    ///
    /// # Errors
    /// As [`Writer::sync`].
    pub fn checkpoint(&mut self, _now: Stamp) -> Result<Option<&str>, Error> {
        Err(Error::Stopped)
    }

    /// The last checkpoint, a signed note.
    #[must_use]
    pub fn latest_checkpoint(&self) -> &str {
        ""
    }

    /// The trail's public key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Syncs, signs and closes. A closed trail ends exactly at its checkpoint. Gives that.
    ///
    /// # Errors
    /// As [`Writer::sync`]; the trail then stays open and will be recovered.
    pub fn close(self, _now: Stamp) -> Result<String, Error> {
        Err(Error::Stopped)
    }
}
