//! Events of the audit stream that may be a container's, held until all is heard that decides whose
//! they are: two streams, so nothing is decided when it arrives (reference "Audit container
//! identifiers", section 8).
//!
//! ```text
//!  stamp, of a tick before          the event      arrives
//!  ├ from ............................................. to ... the ring was read past `to` ▶ certain
//!                                                      └──────────── due ─────────────────▶ late
//! ```
//!
//! Stamps are of the realtime clock: while it has just been set, none is believed.

use std::collections::VecDeque;
use std::time::Duration;

use engine::containers::Concerned;
use record::EventId;

use super::super::heard::Heard;
use super::accounts::Weight;

/// An event.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) id: EventId,
    /// All of it, where a rule or a quota asks for its container; else it is on its way to the trail already.
    pub(super) whole: Option<Heard>,
    pub(super) concerned: Concerned,
    pub(super) weight: Weight,
    /// It happened between these, in nanoseconds since boot.
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
    /// Then it is decided by what is known.
    due: Duration,
}

impl Event {
    fn whole_bytes(&self) -> u64 {
        if self.whole.is_some() { self.weight.bytes } else { 0 }
    }
}

/// So long after its arrival an event is decided, whatever is heard. The ring is read every 100 ms, and later on a
/// machine that has no time for us; who ended is known for twice as long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Audit takes the time of the last tick, of at most 10 ms (CONFIG_HZ=100), and cuts it to milliseconds.
pub(super) const TICK: Duration = Duration::from_millis(11);

/// One CPU counts the ticks for all. While a hypervisor keeps that one waiting, the others' stamps are older
/// (23 ms were seen on a machine of two): an event happened when it arrived at the latest, and it is taken
/// that no CPU waits longer than this.
const BEHIND_NS: u64 = 1_000_000_000;

/// An event is on its way no longer than this: what comes so long after the clock was set was stamped
/// after that.
const WAY: Duration = Duration::from_nanos(WAY_NS);
const WAY_NS: u64 = 60_000_000_000;

/// No clock is steered by so much between two looks.
const STEP_NS: u64 = 20_000_000;

/// The clocks are read one after the other, and believed if that took no longer.
pub(super) const APART_NS: u64 = STEP_NS / 4;

/// Held at once, of some 200 bytes each: as many as are heard in seconds on a machine that does nothing else.
const MOST: usize = 65_536;

/// Bytes of those that are held as a whole.
const MOST_BYTES: u64 = 32 << 20;

/// In the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Held {
    events: VecDeque<Event>,
    /// The numbers of those that are held as a whole; how many ever were.
    wholes: VecDeque<u64>,
    last: u64,
    bytes: u64,
    /// The realtime clock less the time since boot when that was last looked at, and when it had changed by
    /// a step.
    offset_ns: Option<u64>,
    set: Option<Duration>,
}

impl Held {
    /// The clocks differ by so much now. To be told several times a second.
    pub(super) fn look(&mut self, now: Duration, offset_ns: u64) {
        let before = self.offset_ns.replace(offset_ns);
        if before.is_some_and(|before| before.abs_diff(offset_ns) > STEP_NS) {
            self.set = Some(now);
        }
    }

    /// Holds an event. What finds no room is given back, to be decided at once.
    pub(super) fn hold(
        &mut self,
        now: Duration,
        id: EventId,
        concerned: Concerned,
        weight: Weight,
        whole: Option<Heard>,
    ) -> Option<Event> {
        let arrived = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let stamp = id.millis.saturating_mul(1_000_000);
        let since_boot = stamp.checked_sub(self.offset_ns.unwrap_or(0));
        let was_set = self.set.is_some_and(|set| now.saturating_sub(set) < WAY);
        let (from_ns, to_ns) = span(since_boot.filter(|_| !was_set), arrived);
        let event = Event { id, whole, concerned, weight, from_ns, to_ns, due: now + PATIENCE };
        let bytes = self.bytes + event.whole_bytes();
        if self.events.len() >= MOST || (bytes > MOST_BYTES && event.whole.is_some()) {
            return Some(event);
        }
        self.bytes = bytes;
        if event.whole.is_some() {
            self.last += 1;
            self.wholes.push_back(self.last);
        }
        self.events.push_back(event);
        None
    }

    /// The oldest, if all is heard up to it or it has waited long enough.
    pub(super) fn next(
        &mut self,
        now: Duration,
        has_heard: impl FnOnce(u64) -> bool,
    ) -> Option<Event> {
        let oldest = self.events.front()?;
        if oldest.due > now && !has_heard(oldest.to_ns) {
            return None;
        }
        if oldest.whole.is_some() {
            self.wholes.pop_front();
        }
        let event = self.events.pop_front()?;
        self.bytes -= event.whole_bytes();
        Some(event)
    }

    /// How many were ever held as a whole.
    pub(super) fn wholes(&self) -> u64 {
        self.last
    }

    /// Whether one of the first `number` that were held as a whole is still here.
    pub(super) fn holds_whole(&self, number: u64) -> bool {
        self.wholes.front().is_some_and(|oldest| *oldest <= number)
    }

    /// When the oldest has waited long enough.
    pub(super) fn due(&self) -> Option<Duration> {
        self.events.front().map(|event| event.due)
    }
}

/// Between which times an event happened: after its stamp, before it arrived; without a stamp that can be
/// believed at any time on its way.
fn span(stamp_ns: Option<u64>, arrived_ns: u64) -> (u64, u64) {
    match stamp_ns.filter(|stamp| *stamp <= arrived_ns) {
        Some(stamp) => (stamp, stamp.saturating_add(BEHIND_NS).min(arrived_ns)),
        None => (arrived_ns.saturating_sub(WAY_NS), arrived_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_of_the_time_after_its_stamp() {
        let second = 1_000_000_000;
        let at = |stamp, arrived| span(Some(stamp), arrived);
        assert_eq!(at(5 * second, 9 * second), (5 * second, 5 * second + BEHIND_NS));
        assert_eq!(at(5 * second, 5 * second + 7), (5 * second, 5 * second + 7));
        // The clock was set back by an hour.
        assert_eq!(at(3605 * second, 65 * second), (5 * second, 65 * second));
    }

    #[test]
    fn while_the_clock_has_just_been_set_no_stamp_is_believed() {
        let mut held = Held::default();
        let second = Duration::from_secs(1);
        let mut hold = |now: Duration, offset: u64, millis: u64| {
            held.look(now, offset);
            let id = EventId { serial: 1, millis };
            held.hold(now, id, Concerned::default(), weight(1), None);
            let event = held.next(Duration::MAX, |_| true).unwrap();
            (event.from_ns, event.to_ns)
        };
        let exact = (1_000_000_000, 1_000_000_000 + BEHIND_NS);
        assert_eq!(hold(10 * second, 0, 1000), exact);
        // Steered, and then set on by a second: the event had its stamp before that.
        assert_eq!(hold(11 * second, 1000, 1000).1, exact.1 - 1000);
        assert_eq!(hold(100 * second, 1_000_001_000, 99_000), (40_000_000_000, 100_000_000_000));
        assert_eq!(hold(161 * second, 1_000_001_000, 161_000).0, 159_999_999_000);
    }

    #[test]
    fn what_is_heard_decides_or_the_time() {
        let mut held = Held::default();
        let id = EventId { serial: 1, millis: 4999 };
        let at = Duration::from_secs(5);
        held.look(at, 0);
        assert!(held.hold(at, id, Concerned::default(), weight(1), None).is_none());
        assert!(held.next(at, |_| false).is_none());
        assert_eq!(held.due(), Some(at + PATIENCE));
        assert!(held.next(at, |until| until == 5_000_000_000).is_some());
        assert!(held.hold(at, id, Concerned::default(), weight(1), None).is_none());
        assert!(held.next(at + PATIENCE, |_| false).is_some());
        assert!(held.next(at + PATIENCE, |_| true).is_none());
    }

    fn weight(bytes: u64) -> Weight {
        Weight::of(&Heard::no_record(vec![0; usize::try_from(bytes).unwrap() - 1]))
    }

    #[test]
    fn what_is_held_as_a_whole_has_room_for_so_many_bytes() {
        let mut held = Held::default();
        let id = EventId { serial: 1, millis: 4999 };
        let at = Duration::from_secs(5);
        let hold = |held: &mut Held, whole| {
            let heard = Heard::no_record(Vec::new());
            let weight = weight(MOST_BYTES / 2 + 1);
            held.hold(at, id, Concerned::default(), weight, Some(heard).filter(|_| whole)).is_none()
        };
        assert!(hold(&mut held, true));
        assert!(!hold(&mut held, true), "it is decided at once");
        assert!(hold(&mut held, false));
        assert!(held.next(at, |_| true).is_some());
        assert!(held.next(at, |_| true).is_some());
        assert!(hold(&mut held, true), "there is room again");
    }
}
