//! Reading logs fast: chunks over threads, lines into events, events to the filter.
//!
//! ```text
//!  parts ─▶ Reader ─▶ worker: find lines, read headers ─╮
//!           (a lock)  worker: find lines, read headers ─┴▶ one thread: assemble, ask the
//!                                                          query, hand events on in order
//! ```
//!
//! Events are complete, and leave in the order, in which ausearch has them: an event is
//! complete when one at least `patience` seconds newer begins, or at once if it can have
//! one record only; the complete event with the lowest stamp goes first.
//!
//! Files are read, never mapped: others write to them.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use memchr::{memchr_iter, memrchr};
use record::{EventId, Line, LineError, RecordType, Stamp};

use super::filter::Query;
use super::needle::Needles;
use crate::pieces::{Source, join_pieces};

/// How much is read at a time.
const CHUNK: usize = 1 << 20;
/// Longer lines are cut, so that a file without line ends is not held in memory.
const LONGEST_LINE: usize = 1 << 24;
/// More events than this are never open at once; the oldest is then taken as complete.
const MOST_OPEN: usize = 1 << 16;
/// More events than this that have one stamp and serial are not looked through: hosts
/// that share both are few, and hostile text must not cost its square.
const MOST_ALIKE: usize = 64;
/// Nor are more chunks kept for the sake of open events.
const MOST_CHUNKS: usize = 64;

/// One log to read, with its name for messages.
pub(super) struct Part {
    pub(super) name: String,
    /// Lines of a trail may end in a tail of ours that is believed.
    pub(super) stored: bool,
    pub(super) reader: Box<dyn Read + Send>,
}

/// What was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) records: u64,
    /// Lines that are no records; separators are not counted.
    pub(super) unreadable: u64,
    /// The first of those.
    pub(super) first: Option<Place>,
}

impl Tally {
    fn add(&mut self, other: &mut Tally) {
        self.records += other.records;
        self.unreadable += other.unreadable;
        self.first = self.first.take().or_else(|| other.first.take());
    }
}

/// A place in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) part: String,
    /// Offset of the line in its part.
    pub(super) byte: u64,
    pub(super) error: LineError,
}

/// A log that could not be read to its end.
#[derive(Debug)]
pub(super) struct ReadError {
    pub(super) part: String,
    pub(super) source: io::Error,
}

/// Whether the search goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Continue,
    Stop,
}

/// Why a scan ended early.
pub(super) enum Stopped<E> {
    Read(ReadError),
    /// What the receiver of the events returned.
    Receiver(E),
}

/// Hands every event of `parts` that `query` means to `each`, its records in order of
/// arrival.
pub(super) fn scan<E>(
    parts: Vec<Part>,
    query: &Query,
    patience: u32,
    mut each: impl FnMut(&[Line<'_>]) -> Result<Next, E>,
) -> Result<Tally, Stopped<E>> {
    let needles = Needles::of(query);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(8);
    let reader = Mutex::new(Reader::new(parts));
    let working = 2 * threads;
    let (free, taken) = sync_channel(MOST_CHUNKS + 2 * working);
    let taken = Mutex::new(taken);
    let (full, read) = sync_channel(working);
    let mut pool = Pool { free, made: 0, working };
    pool.keep_full(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            let (full, reader, taken, needles) = (full.clone(), &reader, &taken, needles.as_ref());
            scope.spawn(move || work(reader, taken, &full, query, needles));
        }
        drop(full);
        let mut events = Events::new(query, patience);
        let result = assemble(&read, &mut pool, &mut events, &mut each);
        // Whoever still works finds both ends closed and stops.
        drop(read);
        drop(pool);
        result
    })
}

/// One worker: takes a free chunk, fills it, reads its headers, passes it on.
fn work(
    reader: &Mutex<Reader>,
    free: &Mutex<Receiver<Chunk>>,
    full: &SyncSender<Result<Chunk, ReadError>>,
    query: &Query,
    needles: Option<&Needles>,
) {
    loop {
        let taken = free.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut chunk) = taken else { return };
        let filled = reader.lock().unwrap_or_else(PoisonError::into_inner).fill(&mut chunk);
        let message = match filled {
            Ok(true) => {
                chunk.index(query, needles);
                Ok(chunk)
            }
            Ok(false) => return,
            Err(error) => Err(error),
        };
        if full.send(message).is_err() {
            return;
        }
    }
}

fn assemble<E>(
    read: &Receiver<Result<Chunk, ReadError>>,
    pool: &mut Pool,
    events: &mut Events<'_>,
    each: &mut impl FnMut(&[Line<'_>]) -> Result<Next, E>,
) -> Result<Tally, Stopped<E>> {
    let mut tally = Tally::default();
    let mut early = BTreeMap::new();
    let mut next = 0;
    let mut failed = None;
    for message in read {
        match message {
            Ok(chunk) => {
                early.insert(chunk.number, chunk);
            }
            Err(error) => failed = failed.or(Some(error)),
        }
        while let Some(mut chunk) = early.remove(&next) {
            next += 1;
            tally.add(&mut chunk.tally);
            if events.take(chunk, each).map_err(Stopped::Receiver)? == Next::Stop {
                return Ok(tally);
            }
            while let Some(chunk) = events.release() {
                pool.put_back(chunk);
            }
            pool.keep_full(events.chunks.len());
        }
    }
    events.finish(each).map_err(Stopped::Receiver)?;
    match failed {
        Some(error) => Err(Stopped::Read(error)),
        None => Ok(tally),
    }
}

/// The chunks that workers may take.
struct Pool {
    free: SyncSender<Chunk>,
    /// How many there are in all.
    made: usize,
    /// How many the workers need so that none of them ever waits for one in vain.
    working: usize,
}

impl Pool {
    fn put_back(&self, chunk: Chunk) {
        // The channel has room for all that are made; without workers nobody minds.
        let _ = self.free.try_send(chunk);
    }

    /// Makes up for the chunks that are `held` because of open events.
    fn keep_full(&mut self, held: usize) {
        while self.made < held + self.working {
            self.made += 1;
            self.put_back(Chunk::default());
        }
    }
}

/// Cuts the parts into chunks at line ends.
struct Reader {
    parts: VecDeque<Part>,
    /// What followed the last line end of the chunk before.
    rest: Vec<u8>,
    /// Where `rest` starts in the current part.
    at: u64,
    number: u64,
    /// Why reading ended early; told after what was read until then.
    failed: Option<ReadError>,
}

impl Reader {
    fn new(parts: Vec<Part>) -> Reader {
        Reader { parts: parts.into(), rest: Vec::new(), at: 0, number: 0, failed: None }
    }

    /// Fills `chunk`; whether there was anything left.
    fn fill(&mut self, chunk: &mut Chunk) -> Result<bool, ReadError> {
        while let Some(part) = self.parts.front_mut() {
            let mut used = self.rest.len();
            let room = used + CHUNK;
            if chunk.bytes.len() < room {
                chunk.bytes.resize(room, 0);
            }
            chunk.bytes[..used].copy_from_slice(&self.rest);
            // A pipe gives what it has, and its lines are not kept waiting for more.
            let ended = loop {
                if chunk.bytes.len() < used + CHUNK {
                    chunk.bytes.resize(used + CHUNK, 0);
                }
                match part.reader.read(&mut chunk.bytes[used..]) {
                    Ok(0) => break true,
                    Ok(count) => {
                        let fresh = &chunk.bytes[used..used + count];
                        used += count;
                        if memrchr(b'\n', fresh).is_some() || used > LONGEST_LINE {
                            break false;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(source) => {
                        self.failed = Some(ReadError { part: part.name.clone(), source });
                        break true;
                    }
                }
            };
            let end = if ended {
                used
            } else {
                memrchr(b'\n', &chunk.bytes[..used]).map_or(used, |at| at + 1)
            };
            self.rest.clear();
            self.rest.extend_from_slice(&chunk.bytes[end..used]);
            chunk.used = end;
            chunk.start = self.at;
            chunk.stored = part.stored;
            self.at += u64::try_from(end).unwrap_or(u64::MAX);
            if end > 0 {
                chunk.part.clone_from(&part.name);
                chunk.number = self.number;
                self.number += 1;
            }
            if ended {
                self.parts.pop_front();
                self.at = 0;
            }
            if self.failed.is_some() {
                self.parts.clear();
            }
            if end > 0 {
                return Ok(true);
            }
        }
        match self.failed.take() {
            Some(error) => Err(error),
            None => Ok(false),
        }
    }
}

/// Whole lines of one part, and what their headers say.
#[derive(Default)]
struct Chunk {
    number: u64,
    part: String,
    /// Offset in the part.
    start: u64,
    stored: bool,
    bytes: Vec<u8>,
    /// How much of `bytes` is in use.
    used: usize,
    heads: Vec<Head>,
    hits: Vec<usize>,
    tally: Tally,
    /// How many records of it are in open events.
    live: usize,
}

/// A line's place in its chunk, and what assembly needs of its header.
#[derive(Clone, Copy)]
struct Head {
    id: EventId,
    start: usize,
    end: usize,
    /// Length of the `node=NAME` at its start.
    node: usize,
    kind: RecordType,
    /// Whether the line meets the necessary condition of an answer.
    hit: bool,
}

impl Chunk {
    /// Finds the lines and reads their headers.
    fn index(&mut self, query: &Query, needles: Option<&Needles>) {
        self.heads.clear();
        self.hits.clear();
        self.tally = Tally::default();
        let bytes = &self.bytes[..self.used];
        if let Some(needles) = needles {
            needles.find(bytes, &mut self.hits);
        }
        let mut hits = self.hits.iter().copied().peekable();
        let timed = query.from.is_some() || query.to.is_some();
        let mut start = 0;
        let open_end = bytes.last().is_some_and(|last| *last != b'\n');
        for end in memchr_iter(b'\n', bytes).chain(open_end.then_some(bytes.len())) {
            let mut hit = false;
            while hits.next_if(|at| *at < end).is_some() {
                hit = true;
            }
            let raw = &bytes[start..end];
            let elsewhen = || Stamp::peek(raw).is_some_and(|stamp| !query.in_range(stamp.millis));
            if timed && elsewhen() {
                self.tally.records += 1;
                start = end + 1;
                continue;
            }
            match parse(raw, self.stored) {
                Ok(line) => {
                    self.tally.records += 1;
                    // Its hexadecimal hides what it is.
                    let piece = self.stored && line.record_type() == RecordType::VT_LINE;
                    if query.in_range(line.stamp().millis) {
                        self.heads.push(Head {
                            id: line.id(),
                            start,
                            end,
                            node: line.node().map_or(0, |node| node.len() + b"node=".len()),
                            kind: line.effective_type(),
                            hit: query.header_fits(&line)
                                && (piece
                                    || if needles.is_some() {
                                        hit
                                    } else {
                                        query.type_fits(&line)
                                    }),
                        });
                    }
                }
                Err(_) if is_separator(raw) => {}
                Err(error) => {
                    self.tally.unreadable += 1;
                    self.tally.first.get_or_insert_with(|| Place {
                        part: self.part.clone(),
                        byte: self.start + u64::try_from(start).unwrap_or(u64::MAX),
                        error,
                    });
                }
            }
            start = end + 1;
        }
    }

    fn node(&self, head: &Head) -> &[u8] {
        &self.bytes[head.start..head.start + head.node]
    }
}

/// Whether the line is empty, or one that ausearch puts between events.
fn is_separator(raw: &[u8]) -> bool {
    let text = raw.trim_ascii();
    text.is_empty() || text == b"----" || text.starts_with(b"time->")
}

fn parse(raw: &[u8], stored: bool) -> Result<Line<'_>, LineError> {
    if stored { Line::parse_stored(raw) } else { Line::parse(raw) }
}

/// The events that are being put together.
struct Events<'q> {
    query: &'q Query,
    /// Milliseconds.
    patience: u64,
    /// Sorted by id, then by arrival.
    open: VecDeque<Event>,
    /// Chunks that have records in open events; the first has the number `first_chunk`.
    chunks: VecDeque<Chunk>,
    first_chunk: u64,
    /// Used lists of records, to be used again.
    spare: Vec<Vec<Record>>,
}

struct Event {
    id: EventId,
    /// Complete as it is: no record can join it.
    single: bool,
    /// One of its records meets the necessary condition.
    hit: bool,
    records: Vec<Record>,
}

#[derive(Clone, Copy)]
struct Record {
    chunk: u64,
    head: usize,
}

impl<'q> Events<'q> {
    fn new(query: &'q Query, patience: u32) -> Events<'q> {
        Events {
            query,
            patience: u64::from(patience) * 1000,
            open: VecDeque::new(),
            chunks: VecDeque::new(),
            first_chunk: 0,
            spare: Vec::new(),
        }
    }

    /// Puts the records of the next chunk into events and hands on what is complete.
    fn take<E>(
        &mut self,
        chunk: Chunk,
        each: &mut impl FnMut(&[Line<'_>]) -> Result<Next, E>,
    ) -> Result<Next, E> {
        let number = chunk.number;
        let count = chunk.heads.len();
        self.chunks.push_back(chunk);
        for head in 0..count {
            let record = Record { chunk: number, head };
            let Some(id) = self.add(record) else { continue };
            // ausearch compares whole seconds.
            let second = id.millis / 1000 * 1000;
            while let Some(first) = self.open.front() {
                let old = first.id.millis / 1000 * 1000 + self.patience <= second;
                if !(old || first.single || self.open.len() > MOST_OPEN) {
                    break;
                }
                if self.complete_first(each)? == Next::Stop {
                    return Ok(Next::Stop);
                }
            }
        }
        while self.chunks.len() > MOST_CHUNKS && self.chunks.front().is_some_and(|c| c.live > 0) {
            if self.complete_first(each)? == Next::Stop {
                return Ok(Next::Stop);
            }
        }
        Ok(Next::Continue)
    }

    /// Hands on what is left, complete or not.
    fn finish<E>(
        &mut self,
        each: &mut impl FnMut(&[Line<'_>]) -> Result<Next, E>,
    ) -> Result<Next, E> {
        while !self.open.is_empty() {
            if self.complete_first(each)? == Next::Stop {
                return Ok(Next::Stop);
            }
        }
        Ok(Next::Continue)
    }

    /// Puts one record where it belongs; the id of the event if it began one.
    fn add(&mut self, record: Record) -> Option<EventId> {
        let head = *self.head(record);
        let end = match self.open.back() {
            Some(last) if last.id <= head.id => self.open.len(),
            _ => self.open.partition_point(|event| event.id <= head.id),
        };
        for at in (end.saturating_sub(MOST_ALIKE)..end).rev() {
            let event = &self.open[at];
            if event.id != head.id {
                break;
            }
            if !event.single && self.node(event.records[0]) == self.node(record) {
                let event = &mut self.open[at];
                event.records.push(record);
                event.hit |= head.hit;
                self.chunk_mut(record.chunk).live += 1;
                return None;
            }
        }
        if head.kind == RecordType::EOE {
            // Its event has gone, and an end mark alone is none.
            return None;
        }
        let mut records = self.spare.pop().unwrap_or_default();
        records.push(record);
        // In a trail a record of ours may follow it: whose it is.
        let single = head.kind.is_single() && !self.chunk_mut(record.chunk).stored
            || head.kind == RecordType::PROCTITLE;
        self.open.insert(end, Event { id: head.id, single, hit: head.hit, records });
        self.chunk_mut(record.chunk).live += 1;
        Some(head.id)
    }

    /// Takes the event with the lowest stamp out and hands it on if it is meant.
    fn complete_first<E>(
        &mut self,
        each: &mut impl FnMut(&[Line<'_>]) -> Result<Next, E>,
    ) -> Result<Next, E> {
        let Some(mut event) = self.open.pop_front() else { return Ok(Next::Continue) };
        let mut next = Next::Continue;
        if event.hit {
            let lines: Vec<Line<'_>> =
                event.records.iter().filter_map(|record| self.line(*record)).collect();
            let whole = join_pieces(&lines);
            let lines: Vec<Line<'_>> = match &whole {
                Some(whole) => whole.iter().filter_map(Source::line).collect(),
                None => lines,
            };
            if self.query.matches(&lines) {
                next = each(&lines)?;
            }
        }
        for record in event.records.drain(..) {
            self.chunk_mut(record.chunk).live -= 1;
        }
        self.spare.push(event.records);
        Ok(next)
    }

    /// The next chunk that no open event needs.
    fn release(&mut self) -> Option<Chunk> {
        if self.chunks.front()?.live > 0 {
            return None;
        }
        self.first_chunk += 1;
        self.chunks.pop_front()
    }

    fn line(&self, record: Record) -> Option<Line<'_>> {
        let chunk = self.chunk(record.chunk);
        let head = &chunk.heads[record.head];
        // It was read once already.
        parse(&chunk.bytes[head.start..head.end], chunk.stored).ok()
    }

    fn head(&self, record: Record) -> &Head {
        &self.chunk(record.chunk).heads[record.head]
    }

    fn node(&self, record: Record) -> &[u8] {
        self.chunk(record.chunk).node(self.head(record))
    }

    fn chunk(&self, number: u64) -> &Chunk {
        &self.chunks[self.place(number)]
    }

    fn chunk_mut(&mut self, number: u64) -> &mut Chunk {
        let place = self.place(number);
        &mut self.chunks[place]
    }

    fn place(&self, number: u64) -> usize {
        usize::try_from(number - self.first_chunk).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests;
