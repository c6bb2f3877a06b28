//! What a process was like, by time: as it is, and as it was before.

use std::sync::Arc;

/// Inode numbers of namespaces; 0: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Of users.
    pub user: u32,
    /// Of mounts.
    pub mount: u32,
    /// Of processes, for children.
    pub pid: u32,
    /// Of networks.
    pub network: u32,
}

/// What a process is like for a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Its name, which it chose itself: any bytes, padded with NUL.
    pub comm: [u8; 16],
    /// The file of its program as execve(2) was asked for it, or as `/proc` has it; none where neither
    /// was seen.
    pub program: Option<Arc<[u8]>>,
    /// Inode number of its directory in the unified hierarchy; 0: not known.
    pub cgroup: u64,
    /// Real user.
    pub uid: u32,
    /// User of the login; `u32::MAX` without one.
    pub loginuid: u32,
    /// Session of the login; `u32::MAX` without one.
    pub session: u32,
    /// Its namespaces.
    pub namespaces: Namespaces,
}

impl Image {
    /// Its name without the padding.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        let end = self.comm.iter().position(|b| *b == 0).unwrap_or(self.comm.len());
        self.comm.get(..end).unwrap_or_default()
    }
}

/// The newest, and the one before it: whoever asks does so within a second, and a process that is
/// made for a program has two.
#[derive(Clone, Debug, Default)]
pub(super) struct Images {
    newest: Option<(u64, Image)>,
    before: Option<Box<(u64, Image)>>,
}

const NOTHING: &Image = &Image {
    comm: [0; 16],
    program: None,
    cgroup: 0,
    uid: u32::MAX,
    loginuid: u32::MAX,
    session: u32::MAX,
    namespaces: Namespaces { user: 0, mount: 0, pid: 0, network: 0 },
};

impl Images {
    pub(super) fn is_empty(&self) -> bool {
        self.newest.is_none()
    }

    pub(super) fn push(&mut self, since: u64, image: Image) {
        let before = self.newest.replace((since, image));
        self.before = before.map(Box::new);
    }

    pub(super) fn newest(&self) -> &Image {
        self.newest.as_ref().map_or(NOTHING, |(_, image)| image)
    }

    /// Since when the newest holds.
    pub(super) fn since(&self) -> u64 {
        self.newest.as_ref().map_or(0, |(since, _)| *since)
    }

    /// Those of that time and later, as far as they are known.
    pub(super) fn since_then(&self, at: u64) -> impl Iterator<Item = &Image> {
        let before = self.before.as_deref().filter(|_| self.since() > at);
        self.newest.iter().chain(before).map(|(_, image)| image)
    }

    /// The one of that time, or the oldest there is, and whether it is of that time.
    pub(super) fn at(&self, at: u64) -> Option<(&Image, bool)> {
        let (since, newest) = self.newest.as_ref()?;
        if *since <= at {
            return Some((newest, true));
        }
        match self.before.as_deref() {
            Some((since, image)) => Some((image, *since <= at)),
            None => Some((newest, false)),
        }
    }

    /// Since when the one of that time holds.
    pub(super) fn since_of(&self, at: u64) -> u64 {
        let before = self.before.as_deref().map_or(0, |(since, _)| *since);
        if self.since() <= at { self.since() } else { before }
    }
}
