//! Puts the records of an event together.
//!
//! Records share an event when node, stamp and serial are equal; those of
//! different events interleave freely. Nothing in a log says how many belong
//! together, so an event is released when one of these holds:
//!
//! | [`End`] | when |
//! |---|---|
//! | `Single` | its type never has company (1005, 1007-1299, 1406-1419, 2000, 2100 and up) |
//! | `Eoe` | EOE came |
//! | `Proctitle` | PROCTITLE came and then nothing more of the event among the next records: EOE and ghak90's CONTAINER_ID follow it |
//! | `Timeout` | records of that node 2 s newer came, or 2 s of `now` passed |
//! | `Early` | too much was open at once; the oldest goes first |
//! | `Input` | the input ended |
//!
//! A record that comes after its event was released opens a new event with the
//! same key, marked late; whoever stores events joins them when reading.
//!
//! "Newer" is measured against the newest stamp of the node when the event last
//! grew, not against the event's own: a system call that blocked for a minute
//! carries the stamp of its entry, and its records must not part. Where records are read as they are made
//! stamps are not asked at all ([`Patience::of_stream`]): whoever sets the clock between two of them
//! would part every event that is open then, the one that tells of it first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::line::{EventId, Line};
use crate::names::RecordType;

/// Why an event was taken to be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// A type that never has company.
    Single,
    /// EOE came.
    Eoe,
    /// PROCTITLE came, which is last but for EOE.
    Proctitle,
    /// Nothing more came for long enough.
    Timeout,
    /// Released to bound memory: more may follow, as a late event.
    Early,
    /// The input ended.
    Input,
}

/// The records that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<T> {
    /// The host that wrote them, from `node=`.
    pub node: Option<Arc<[u8]>>,
    /// Time and serial.
    pub id: EventId,
    /// What the caller keeps of each record, in order of arrival; never empty.
    pub records: Vec<T>,
    /// Why it was released.
    pub end: End,
    /// An event with this key was released before.
    pub late: bool,
}

/// How long to wait and how much to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// auditd's `end_of_event_timeout`.
    pub timeout: Duration,
    /// Whether stamps tell that this has passed, or only `now`.
    pub stamps: bool,
    /// Events that may be open at once, counted from the oldest open one.
    pub events: usize,
    /// Records that may be held at once.
    pub records: usize,
}

impl Default for Patience {
    /// 2 s, also by stamps; 65,536 events, 262,144 records.
    fn default() -> Patience {
        let timeout = Duration::from_secs(2);
        Patience { timeout, stamps: true, events: 1 << 16, records: 1 << 18 }
    }
}

impl Patience {
    /// For records that are read as they are made: the same, by `now` alone.
    #[must_use]
    pub fn of_stream() -> Patience {
        Patience { stamps: false, ..Patience::default() }
    }
}

/// After PROCTITLE an event waits for this many further records, and this long.
const LINGER_RECORDS: u64 = 32;
const LINGER: Duration = Duration::from_millis(100);

/// So many records in a row that are older than the timeout allows are not late:
/// the clock was set back.
const CLOCK_SET_BACK: u32 = 256;

/// Released events that are remembered to tell late ones, a power of two.
const RECENT: usize = 1 << 12;

/// More nodes than any log has; beyond, all names are forgotten once.
const NODES: usize = 1 << 16;

/// Records to events; `T` is what the caller keeps per record (a byte range, the
/// bytes).
///
/// Reads no clock: `now` is a time since any fixed moment that never goes back.
/// For a file pass [`Duration::ZERO`] throughout, and stamps alone decide. After
/// every `handle_*` call, poll until `None`.
#[derive(Debug)]
pub struct Assembler<T> {
    patience: Patience,
    /// Open events by order of arrival; released ones leave a hole.
    open: VecDeque<Option<Open<T>>>,
    /// The number of the first of `open`, counted over all that were ever opened.
    base: u64,
    index: HashMap<(usize, EventId), u64>,
    /// The event that the last record joined; the next one mostly does too.
    last: Option<u64>,
    /// Records held in `open`.
    held: usize,
    nodes: Vec<Node>,
    by_name: HashMap<Arc<[u8]>, usize>,
    /// Events that saw PROCTITLE: number, and the record count and `now` at which
    /// to release them.
    lingering: VecDeque<(u64, u64, Duration)>,
    /// Fingerprints of released events, by their low bits.
    recent: Vec<u64>,
    seen: u64,
    ready: VecDeque<Event<T>>,
}

#[derive(Debug)]
struct Open<T> {
    node: usize,
    id: EventId,
    records: Vec<T>,
    late: bool,
    closing: bool,
    /// The node's newest stamp when the event last grew, in milliseconds.
    grown_at: u64,
    deadline: Duration,
}

#[derive(Debug, Default)]
struct Node {
    name: Option<Arc<[u8]>>,
    /// Its open events by order of arrival; released ones stay until they are first.
    order: VecDeque<u64>,
    /// The newest stamp seen, in milliseconds.
    newest: u64,
    /// Records in a row that were older than the timeout allows.
    behind: u32,
    /// No open event has a greater id.
    greatest: EventId,
}

impl<T> Default for Assembler<T> {
    fn default() -> Assembler<T> {
        Assembler::new(Patience::default())
    }
}

impl<T> Assembler<T> {
    /// An assembler without events.
    #[must_use]
    pub fn new(patience: Patience) -> Assembler<T> {
        Assembler {
            patience,
            open: VecDeque::new(),
            base: 0,
            index: HashMap::new(),
            last: None,
            held: 0,
            nodes: vec![Node::default()],
            by_name: HashMap::new(),
            lingering: VecDeque::new(),
            recent: vec![0; RECENT],
            seen: 0,
            ready: VecDeque::new(),
        }
    }

    /// Takes the next record of the input; `kept` is what its event will hold of it.
    pub fn handle_line(&mut self, now: Duration, line: &Line<'_>, kept: T) {
        self.handle(now, line.node(), line.id(), line.effective_type(), kept);
    }

    /// The same, for who keeps the very bytes that the line was read from.
    pub fn handle(
        &mut self,
        now: Duration,
        node: Option<&[u8]>,
        id: EventId,
        kind: RecordType,
        kept: T,
    ) {
        self.seen += 1;
        let node = self.node(node);
        self.advance(node, id.millis);
        let at = match self.find(node, id) {
            Some(at) => at,
            None => {
                let late = self.is_recent(node, id);
                if kind.is_single() {
                    let name = self.nodes[node].name.clone();
                    self.remember(node, id);
                    let records = vec![kept];
                    self.ready.push_back(Event { node: name, id, records, end: End::Single, late });
                    self.let_go(now);
                    return;
                }
                self.start(now, node, id, late)
            }
        };
        self.last = Some(at);
        self.held += 1;
        let newest = self.nodes[node].newest;
        if let Some(event) = self.event_mut(at) {
            event.records.push(kept);
            event.grown_at = newest;
            if kind == RecordType::EOE {
                self.release(at, End::Eoe);
            } else if kind == RecordType::PROCTITLE && !event.closing {
                event.closing = true;
                self.lingering.push_back((at, self.seen + LINGER_RECORDS, now + LINGER));
            }
        }
        self.let_go(now);
        while self.held > self.patience.records || self.open.len() > self.patience.events {
            self.release(self.base, End::Early);
        }
    }

    /// Releases what has waited long enough at `now`.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.let_go(now);
        while let Some(Some(first)) = self.open.front()
            && first.deadline <= now
        {
            let end = if first.closing { End::Proctitle } else { End::Timeout };
            self.release(self.base, end);
        }
    }

    /// Releases everything: no more input will come.
    pub fn handle_end(&mut self) {
        while let Some(first) = self.open.front() {
            let closing = first.as_ref().is_some_and(|first| first.closing);
            self.release(self.base, if closing { End::Proctitle } else { End::Input });
        }
    }

    /// The next whole event.
    pub fn poll_event(&mut self) -> Option<Event<T>> {
        self.ready.pop_front()
    }

    /// When [`Assembler::handle_timeout`] next has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let first = self.open.front().and_then(Option::as_ref).map(|first| first.deadline);
        let linger = self.lingering.front().map(|(.., until)| *until);
        first.into_iter().chain(linger).min()
    }

    fn node(&mut self, name: Option<&[u8]>) -> usize {
        let Some(name) = name else { return 0 };
        if let Some(&node) = self.by_name.get(name) {
            return node;
        }
        if self.nodes.len() > NODES {
            self.handle_end();
            self.nodes.truncate(1);
            self.by_name.clear();
        }
        let name: Arc<[u8]> = name.into();
        self.nodes.push(Node { name: Some(Arc::clone(&name)), ..Node::default() });
        self.by_name.insert(name, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    /// Moves the node's time to a record's stamp, and releases what that makes old.
    fn advance(&mut self, node: usize, millis: u64) {
        if !self.patience.stamps {
            return;
        }
        let patience = u64::try_from(self.patience.timeout.as_millis()).unwrap_or(u64::MAX);
        let state = &mut self.nodes[node];
        if millis >= state.newest {
            (state.newest, state.behind) = (millis, 0);
        } else if state.newest - millis > patience {
            state.behind += 1;
            if state.behind == CLOCK_SET_BACK {
                (state.newest, state.behind) = (millis, 0);
            }
        } else {
            state.behind = 0;
        }
        let newest = state.newest;
        while let Some(&at) = self.nodes[node].order.front() {
            let end = match self.event_mut(at) {
                None => None,
                Some(event) if newest.abs_diff(event.grown_at) < patience => return,
                Some(event) => Some(if event.closing { End::Proctitle } else { End::Timeout }),
            };
            self.nodes[node].order.pop_front();
            if let Some(end) = end {
                self.release(at, end);
            }
        }
    }

    fn find(&self, node: usize, id: EventId) -> Option<u64> {
        if let Some(last) = self.last
            && let Some(event) = self.event(last)
            && event.id == id
            && event.node == node
        {
            return Some(last);
        }
        if id > self.nodes[node].greatest {
            return None;
        }
        self.index.get(&(node, id)).copied()
    }

    fn start(&mut self, now: Duration, node: usize, id: EventId, late: bool) -> u64 {
        let at = self.base + self.open.len() as u64;
        let state = &mut self.nodes[node];
        if self.patience.stamps {
            state.order.push_back(at);
        }
        state.greatest = state.greatest.max(id);
        self.index.insert((node, id), at);
        self.open.push_back(Some(Open {
            node,
            id,
            records: Vec::new(),
            late,
            closing: false,
            grown_at: state.newest,
            deadline: now + self.patience.timeout,
        }));
        at
    }

    /// Releases the events that have lingered behind their PROCTITLE.
    fn let_go(&mut self, now: Duration) {
        while let Some(&(at, count, until)) = self.lingering.front()
            && (count <= self.seen || until <= now)
        {
            self.release(at, End::Proctitle);
        }
    }

    fn event(&self, at: u64) -> Option<&Open<T>> {
        let place = usize::try_from(at.checked_sub(self.base)?).ok()?;
        self.open.get(place)?.as_ref()
    }

    fn event_mut(&mut self, at: u64) -> Option<&mut Open<T>> {
        let place = usize::try_from(at.checked_sub(self.base)?).ok()?;
        self.open.get_mut(place)?.as_mut()
    }

    /// Makes the event number `at` ready, if it is still open, and forgets holes
    /// at the front.
    fn release(&mut self, at: u64, end: End) {
        let place = at.checked_sub(self.base).and_then(|place| usize::try_from(place).ok());
        if let Some(event) = place.and_then(|place| self.open.get_mut(place)?.take()) {
            self.held -= event.records.len();
            self.index.remove(&(event.node, event.id));
            self.remember(event.node, event.id);
            self.ready.push_back(Event {
                node: self.nodes[event.node].name.clone(),
                id: event.id,
                records: event.records,
                end,
                late: event.late,
            });
        }
        while let Some(None) = self.open.front() {
            self.open.pop_front();
            self.base += 1;
        }
        while let Some(&(first, ..)) = self.lingering.front()
            && self.event(first).is_none()
        {
            self.lingering.pop_front();
        }
    }

    fn is_recent(&self, node: usize, id: EventId) -> bool {
        let (slot, print) = fingerprint(node, id);
        self.recent[slot] == print
    }

    fn remember(&mut self, node: usize, id: EventId) {
        let (slot, print) = fingerprint(node, id);
        self.recent[slot] = print;
    }
}

/// Where a released event is remembered, and as what (never 0).
fn fingerprint(node: usize, id: EventId) -> (usize, u64) {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (id.millis ^ (u64::from(id.serial) << 32)).wrapping_mul(ODD);
    let mixed =
        (mixed ^ (mixed >> 29) ^ u64::from(id.serial) ^ ((node as u64) << 40)).wrapping_mul(ODD);
    let slot = usize::try_from(mixed >> 52).unwrap_or_default() % RECENT;
    (slot, mixed | 1)
}

#[cfg(test)]
mod tests;
