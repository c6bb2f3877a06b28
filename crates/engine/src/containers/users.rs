//! Containers in places that are not root's alone: whoever may make groups there makes as many as he likes, and
//! comes into them as often. Each time is a record that is never held back, and takes a look into the group.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use record::units::ContId;

use super::LIVES;
use super::groups::Group;

/// So many times in so long a time, of all users and of one.
pub(super) const MOST: usize = 64;
const MOST_OF_ONE: usize = 32;
const MOST_IN: Duration = Duration::from_secs(10);

/// A group is not looked into sooner again.
const APART: Duration = Duration::from_secs(1);

/// So many of their containers live, of all users and of one.
pub(super) const LIVING: usize = LIVES / 4;
const LIVING_OF_ONE: usize = LIVES / 16;

/// Groups that are remembered by number.
const GROUPS: usize = 16_384;
const GROUPS_OF_USERS: usize = GROUPS / 4;

/// What users had done.
#[derive(Debug, Default)]
pub(super) struct Users {
    /// Since then so many times, by owner.
    done: (Duration, BTreeMap<String, usize>),
    /// When groups were looked into, by key.
    looked: BTreeMap<String, Duration>,
    waiting: BTreeMap<String, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    group: Group,
    first: ContId,
    since: Duration,
    due: Duration,
}

/// Why not now, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Later {
    /// It was looked into a moment ago.
    Hurried(Duration),
    /// Others were, too often.
    Full(Duration),
}

impl Users {
    /// Whether this group of that owner may be looked into, which then counts.
    pub(super) fn admit(&mut self, now: Duration, owner: &str, key: &str) -> Result<(), Later> {
        self.looked.retain(|_, at| now < *at + APART);
        if let Some(at) = self.looked.get(key) {
            return Err(Later::Hurried(*at + APART));
        }
        let (since, done) = &mut self.done;
        if now.saturating_sub(*since) >= MOST_IN {
            *since = now;
            done.clear();
        }
        let own = done.get(owner).copied().unwrap_or(0);
        if own >= MOST_OF_ONE || done.values().sum::<usize>() >= MOST {
            return Err(Later::Full(*since + MOST_IN));
        }
        done.insert(owner.to_owned(), own + 1);
        self.looked.insert(key.to_owned(), now);
        Ok(())
    }

    /// It is to be looked into then. Those who call see to it that it is a container's, or was looked into.
    pub(super) fn wait(&mut self, now: Duration, group: Group, first: ContId, due: Duration) {
        let waiting = self.waiting.entry(group.key().to_owned());
        waiting.or_insert(Waiting { group, first, since: now, due }).due = due;
    }

    pub(super) fn due(&self) -> Option<Duration> {
        self.waiting.values().map(|waiting| waiting.due).min()
    }

    /// Those that are due, who waited longest first.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<(Group, ContId)> {
        let due = self.waiting.extract_if(.., |_, waiting| waiting.due <= now);
        let mut due: Vec<Waiting> = due.map(|(_, waiting)| waiting).collect();
        due.sort_by_key(|waiting| waiting.since);
        due.into_iter().map(|Waiting { group, first, .. }| (group, first)).collect()
    }
}

/// Whether one more container of that owner may live beside these, each with its own.
pub(super) fn has_room<'a>(living: impl Iterator<Item = &'a str>, owner: &str) -> bool {
    let (mut all, mut own) = (0, 0);
    for other in living {
        all += 1;
        own += usize::from(other == owner);
    }
    all < LIVING && own < LIVING_OF_ONE
}

/// Containers by the numbers of their groups, those of users apart: they push out no others.
#[derive(Debug, Default)]
pub(super) struct Numbered {
    of_root: Numbers,
    of_users: Numbers,
}

#[derive(Debug, Default)]
struct Numbers(BTreeMap<u64, ContId>, VecDeque<u64>);

impl Numbered {
    pub(super) fn remember(&mut self, cgroup: u64, group: &Group, id: ContId) {
        let (Numbers(ids, order), most) = match group.owner() {
            None => (&mut self.of_root, GROUPS),
            Some(_) => (&mut self.of_users, GROUPS_OF_USERS),
        };
        if cgroup != 0 && ids.insert(cgroup, id).is_none() {
            order.push_back(cgroup);
            if order.len() > most
                && let Some(oldest) = order.pop_front()
            {
                ids.remove(&oldest);
            }
        }
    }

    pub(super) fn get(&self, cgroup: u64) -> Option<ContId> {
        let [root, users] = [&self.of_root, &self.of_users].map(|Numbers(ids, _)| ids.get(&cgroup));
        root.or(users).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(n: usize) -> Group {
        Group::of_path(0, format!("/user.slice/user-1.slice/{n:064}").as_bytes()).unwrap()
    }

    #[test]
    fn one_user_takes_half_and_all_take_what_there_is() {
        let mut users = Users::default();
        let mut now = Duration::from_secs(100);
        let mut admitted = |now, owner: &str| {
            let key = |n: usize| format!("{owner}{now:?}{n}");
            (0..100).filter(|n| users.admit(now, owner, &key(*n)).is_ok()).count()
        };
        assert_eq!(["a", "b", "c"].map(|owner| admitted(now, owner)), [32, 32, 0]);
        now += Duration::from_secs(9);
        assert_eq!(admitted(now, "c"), 0);
        now += Duration::from_secs(1);
        assert_eq!(admitted(now, "c"), 32);
    }

    #[test]
    fn a_group_is_looked_into_once_a_second() {
        let mut users = Users::default();
        let now = Duration::from_secs(100);
        assert_eq!(users.admit(now, "a", "k"), Ok(()));
        assert_eq!(users.admit(now, "a", "k"), Err(Later::Hurried(now + APART)));
        assert_eq!(users.admit(now + APART, "a", "k"), Ok(()));
        for (n, at) in [(1, 2), (2, 1), (1, 3)] {
            users.wait(now + Duration::from_secs(at), group(n), ContId(n as u64), now + APART * 4);
        }
        assert_eq!(users.due(), Some(now + APART * 4));
        assert!(users.take_due(now + APART).is_empty());
        let due = users.take_due(now + APART * 4);
        assert_eq!(due.iter().map(|(_, id)| id.0).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(users.due(), None);
    }

    #[test]
    fn nobody_fills_the_table_or_pushes_others_out() {
        assert!(has_room(["a"].into_iter().cycle().take(LIVING_OF_ONE - 1), "a"));
        assert!(!has_room(["a"].into_iter().cycle().take(LIVING_OF_ONE), "a"));
        assert!(has_room(["a"].into_iter().cycle().take(LIVING_OF_ONE), "b"));
        assert!(!has_room(["a", "b", "c", "d"].into_iter().cycle().take(LIVING), "e"));
        let mut numbered = Numbered::default();
        let of_root = Group::of_path(0, format!("/docker/{:064}", 1).as_bytes()).unwrap();
        numbered.remember(1, &of_root, ContId(1));
        for n in 2..100_000 {
            numbered.remember(n, &group(1), ContId(2));
        }
        assert_eq!((numbered.get(1), numbered.get(99_999)), (Some(ContId(1)), Some(ContId(2))));
        assert_eq!(numbered.get(2), None);
    }
}
