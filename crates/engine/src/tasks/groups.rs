//! Which control group a process was in, by time. It has one all its life, or comes into one once; its images
//! change more often.

/// By inode number of the unified hierarchy: the newest, and the one before it.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    newest: Option<(u64, u64)>,
    before: Option<Box<(u64, u64)>>,
}

impl Groups {
    /// It was in this one at that time, and from then on. 0: not known.
    pub(super) fn saw(&mut self, since: u64, cgroup: u64) {
        match &mut self.newest {
            _ if cgroup == 0 => {}
            Some((known_since, known)) if *known == cgroup => {
                *known_since = (*known_since).min(since);
            }
            Some((known_since, _)) if since < *known_since => {}
            newest => {
                let before = newest.replace((since, cgroup));
                self.before = before.map(Box::new).or(self.before.take());
            }
        }
    }

    /// The one of that time, where that is known.
    pub(super) fn at(&self, at: u64) -> Option<u64> {
        let mut known = self.newest.iter().chain(self.before.as_deref());
        known.find(|(since, _)| *since <= at).map(|(_, cgroup)| *cgroup)
    }
}
