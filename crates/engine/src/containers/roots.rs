//! Where containers were made that were made in another one: the outermost, whose share they draw on, since whoever
//! may make containers could else have as many shares as he likes; and who made them under a grant, whose rules are
//! theirs too, since he could else be out of them.

use std::collections::{BTreeMap, VecDeque};

use record::units::ContId;

use super::LIVES;

#[derive(Clone, Copy, Debug)]
struct Made {
    root: ContId,
    /// Under a grant.
    by: Option<ContId>,
}

/// Those of containers that were made in another one. What is heard late of one that has ended is its root's too.
#[derive(Debug, Default)]
pub(super) struct Roots {
    of: BTreeMap<ContId, Made>,
    ended: VecDeque<ContId>,
}

impl Roots {
    /// It has begun in that one, or in none; under a grant or not.
    pub(super) fn begin(&mut self, id: ContId, parent: ContId, is_granted: bool) {
        let root = self.of(parent);
        if parent.is_set() && root != id {
            let by = is_granted.then_some(parent);
            self.of.insert(id, Made { root, by });
        } else {
            self.of.remove(&id);
        }
    }

    /// It has ended. As many are remembered as may live.
    pub(super) fn end(&mut self, id: ContId, lives: impl Fn(ContId) -> bool) {
        if self.of.contains_key(&id) {
            self.ended.push_back(id);
        }
        if self.ended.len() > LIVES
            && let Some(oldest) = self.ended.pop_front()
            && !lives(oldest)
        {
            self.of.remove(&oldest);
        }
    }

    /// The outermost, itself where it was made in none.
    pub(super) fn of(&self, id: ContId) -> ContId {
        self.of.get(&id).map_or(id, |made| made.root)
    }

    /// Who made it under a grant.
    pub(super) fn maker(&self, id: ContId) -> Option<ContId> {
        self.of.get(&id)?.by
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_known_after_those_between_have_ended_and_memory_is_bounded() {
        let mut roots = Roots::default();
        roots.begin(ContId(1), ContId::UNSET, false);
        roots.begin(ContId(2), ContId(1), false);
        roots.begin(ContId(3), ContId(2), false);
        roots.end(ContId(2), |_| false);
        roots.begin(ContId(4), ContId(3), false);
        assert_eq!([1, 2, 3, 4].map(|id| roots.of(ContId(id))), [ContId(1); 4]);
        roots.begin(ContId(5), ContId(2), true);
        assert_eq!((roots.of(ContId(5)), roots.maker(ContId(5))), (ContId(1), Some(ContId(2))));
        assert_eq!(roots.maker(ContId(2)), None);
        // An identifier that is used again, by nobody's child, or in its own child.
        roots.begin(ContId(3), ContId::UNSET, false);
        assert_eq!(roots.of(ContId(3)), ContId(3));
        roots.begin(ContId(1), ContId(2), false);
        assert_eq!(roots.of(ContId(1)), ContId(1));
        for id in 10..3 * LIVES as u64 {
            roots.begin(ContId(id), ContId(1), false);
            roots.end(ContId(id), |_| false);
        }
        assert!(roots.of.len() <= LIVES + 4 && roots.ended.len() <= LIVES);
    }
}
