//! What the audit daemon's socket brings beside the multicast group's. Pure.
//!
//! The kernel's one thread gives each record to the multicast group first, which drops what does not fit, and
//! then to the registered daemon, where it waits for room and tries again. So while we are both, multicast is
//! what is read, whatever happens to the registration, and the other socket only gives what multicast dropped:
//!
//! ```text
//! multicast   a b . . e f g …        dropped 2 (the kernel's count)
//! unicast     a b c d e   g …        c, d: filled in.  f: the kernel gave up; it is there already
//! lost = dropped - filled, told when unicast has passed the place
//! ```

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use record::RecordType;

/// Which records came both ways.
#[derive(Debug)]
pub(super) struct Pairing {
    /// Nobody can make two records of one fingerprint, since the key is ours.
    key: RandomState,
    /// Fingerprints of what multicast brought and unicast has not yet.
    ahead: VecDeque<u64>,
    /// The number of the first of them, counted from the beginning.
    first: u64,
    /// Those that unicast passed over, which may still come: the kernel tries again what it could not
    /// deliver, and not always in order. The newer and the older ones.
    passed: [HashMap<u64, u32>; 2],
    turned: Duration,
    dropped: u64,
    placed: u64,
    filled: u64,
    told: u64,
    /// Drops that unicast has not passed yet: the number of the record behind them, and all that were
    /// dropped until then.
    open: VecDeque<(u64, u64)>,
}

/// The beginning of a record, in bytes: 34 are its stamp and serial.
const FIRST: usize = 96;

/// Records that one side may be ahead of the other: more than the kernel keeps for a daemon that is slow
/// (the backlog limit) and 64 MiB of buffer hold together. 8 bytes each.
const MOST_AHEAD: usize = 1 << 20;

/// Of those that were passed over.
const MOST_PASSED: usize = 1 << 16;

/// How long those are known at least.
const KNOWN: Duration = Duration::from_secs(30);

/// Drops that are told of apart.
const MOST_OPEN: usize = 64;

impl Default for Pairing {
    fn default() -> Pairing {
        Pairing {
            key: RandomState::new(),
            ahead: VecDeque::new(),
            first: 0,
            passed: Default::default(),
            turned: Duration::ZERO,
            dropped: 0,
            placed: 0,
            filled: 0,
            told: 0,
            open: VecDeque::new(),
        }
    }
}

impl Pairing {
    /// A record's fingerprint. Of those that most events have the beginning is enough: the kernel's counter,
    /// which stands first, tells events apart, and behind it stands which path or argument of the event it is.
    pub(super) fn fingerprint(&self, kind: u16, text: &[u8]) -> u64 {
        let is_told_apart = matches!(
            RecordType(kind),
            RecordType::SYSCALL
                | RecordType::EXECVE
                | RecordType::CWD
                | RecordType::PATH
                | RecordType::PROCTITLE
                | RecordType::EOE
        );
        let first = text.get(..FIRST).filter(|_| is_told_apart).unwrap_or(text);
        self.key.hash_one((kind, text.len(), first))
    }

    /// Multicast brought this.
    pub(super) fn heard(&mut self, fingerprint: u64) {
        if self.ahead.len() == MOST_AHEAD {
            self.ahead.pop_front();
            self.first += 1;
        }
        self.ahead.push_back(fingerprint);
    }

    /// Multicast dropped so many, somewhere before or behind what waits in its socket.
    pub(super) fn dropped(&mut self, records: u64) {
        self.dropped += records;
    }

    /// Multicast has brought all it had: what it dropped is before what it brings next.
    pub(super) fn emptied(&mut self) {
        if self.dropped == self.placed {
            return;
        }
        self.placed = self.dropped;
        let behind = self.first + self.ahead.len() as u64;
        let is_full = self.open.len() >= MOST_OPEN;
        self.open.pop_back_if(|(at, _)| is_full || *at == behind);
        self.open.push_back((behind, self.dropped));
    }

    /// Unicast brought this: whether multicast had.
    pub(super) fn pair(&mut self, fingerprint: u64, now: Duration) -> bool {
        if self.ahead.front() == Some(&fingerprint) {
            self.ahead.pop_front();
            self.first += 1;
            return true;
        }
        if now.saturating_sub(self.turned) >= KNOWN || self.passed[0].len() >= MOST_PASSED {
            self.turned = now;
            self.passed.swap(0, 1);
            self.passed[0].clear();
        }
        for passed in &mut self.passed {
            if let Some(count) = passed.get_mut(&fingerprint) {
                *count -= 1;
                if *count == 0 {
                    passed.remove(&fingerprint);
                }
                return true;
            }
        }
        let Some(at) = self.ahead.iter().position(|known| *known == fingerprint) else {
            return false;
        };
        for passed in self.ahead.drain(..at) {
            *self.passed[0].entry(passed).or_default() += 1;
        }
        self.ahead.pop_front();
        self.first += at as u64 + 1;
        true
    }

    /// Unicast brought what multicast had dropped, and it was taken from there.
    pub(super) fn filled(&mut self) {
        self.filled += 1;
    }

    /// How many came neither way, of those that are certain by now.
    pub(super) fn take_lost(&mut self) -> u64 {
        let mut until = None;
        while let Some((_, dropped)) = self.open.pop_front_if(|(behind, _)| *behind < self.first) {
            until = Some(dropped);
        }
        until.map_or(0, |until| self.tell(until))
    }

    /// Unicast brings nothing more: how many came neither way and were not told of.
    pub(super) fn end(&mut self) -> u64 {
        self.open.clear();
        self.placed = self.dropped;
        self.first += self.ahead.len() as u64;
        self.ahead.clear();
        self.passed = Default::default();
        self.tell(self.dropped)
    }

    fn tell(&mut self, dropped: u64) -> u64 {
        let lost = dropped.saturating_sub(self.filled + self.told);
        self.told += lost;
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn what_multicast_dropped_is_filled_in_and_the_rest_is_lost() {
        let mut pairing = Pairing::default();
        let mark = |pairing: &Pairing, n: u16| pairing.fingerprint(n, b"audit(1.000:1): x");
        let pair = |pairing: &mut Pairing, n| pairing.pair(mark(pairing, n), NOW);
        for n in [1, 2] {
            pairing.heard(mark(&pairing, n));
        }
        pairing.dropped(3);
        pairing.emptied();
        for n in [6, 7, 8] {
            pairing.heard(mark(&pairing, n));
        }
        assert!(pair(&mut pairing, 1) && pair(&mut pairing, 2));
        for dropped in [3, 4] {
            assert!(!pair(&mut pairing, dropped));
            pairing.filled();
        }
        assert_eq!(pairing.take_lost(), 0, "the third may still come");
        // The kernel gave 6 up, and tries it again later.
        assert!(pair(&mut pairing, 7));
        assert_eq!(pairing.take_lost(), 1);
        assert!(pair(&mut pairing, 6) && !pair(&mut pairing, 6));
        assert!(pair(&mut pairing, 8));
        assert_eq!((pairing.take_lost(), pairing.end()), (0, 0));
        pairing.dropped(2);
        pairing.emptied();
        assert_eq!((pairing.take_lost(), pairing.end(), pairing.end()), (0, 2, 0));
    }

    #[test]
    fn the_same_text_twice_is_two_records() {
        let mut pairing = Pairing::default();
        let mark = pairing.fingerprint(1, b"x");
        pairing.heard(mark);
        pairing.heard(mark);
        assert!(pairing.pair(mark, NOW) && pairing.pair(mark, NOW) && !pairing.pair(mark, NOW));
        assert_ne!(mark, pairing.fingerprint(2, b"x"));
    }

    #[test]
    fn records_of_one_event_are_told_apart() {
        let pairing = Pairing::default();
        let of = |RecordType(kind): RecordType, text: &str| {
            pairing
                .fingerprint(kind, format!("audit(1700000000.123:4294967295): {text}").as_bytes())
        };
        let long = "x".repeat(200);
        for (kind, one, other) in [
            (
                RecordType::PATH,
                format!("item=0 name=\"{long}\""),
                format!("item=1 name=\"{long}\""),
            ),
            (RecordType::EXECVE, format!("a1[0]={long}"), format!("a1[1]={long}")),
            // Nothing numbers these.
            (RecordType(1400), format!("avc: denied {long} a"), format!("avc: denied {long} b")),
        ] {
            assert_ne!(of(kind, &one), of(kind, &other), "{kind:?}");
            assert_eq!(of(kind, &one), of(kind, &one));
        }
    }

    proptest! {
        /// Whatever each way loses and however far one lags, each record is taken once or counted once.
        #[test]
        fn each_record_is_taken_once_or_counted(
            fates in proptest::collection::vec((any::<bool>(), any::<bool>(), 0_usize..4), 0..400),
        ) {
            let mut pairing = Pairing::default();
            let mut way: VecDeque<u64> = VecDeque::new();
            let (mut taken, mut lost, mut dropped) = (vec![0; fates.len()], 0, 0);
            let mut read = |pairing: &mut Pairing, way: &mut VecDeque<u64>, taken: &mut Vec<u32>| {
                let Some(n) = way.pop_front() else { return };
                if !pairing.pair(n, NOW) {
                    pairing.filled();
                    taken[usize::try_from(n).unwrap()] += 1;
                }
                lost += pairing.take_lost();
            };
            for (n, (by_multicast, by_unicast, reads)) in (0_u64..).zip(&fates) {
                if *by_multicast {
                    pairing.dropped(std::mem::take(&mut dropped));
                    pairing.heard(n);
                    taken[usize::try_from(n).unwrap()] += 1;
                } else {
                    dropped += 1;
                }
                if *by_unicast {
                    way.push_back(n);
                }
                // It is told of the drops before what is missing is looked for, and those may be behind
                // records that were not read yet.
                pairing.dropped(std::mem::take(&mut dropped));
                if *reads > 0 {
                    pairing.emptied();
                }
                for _ in 0..*reads {
                    read(&mut pairing, &mut way, &mut taken);
                }
            }
            while !way.is_empty() {
                read(&mut pairing, &mut way, &mut taken);
            }
            lost += pairing.end();
            let twice = taken.iter().filter(|times| **times > 1).count();
            let never = taken.iter().filter(|times| **times == 0).count() as u64;
            prop_assert_eq!((twice, lost), (0, never));
        }
    }
}
