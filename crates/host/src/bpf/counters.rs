//! What the programs could not tell, by program.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use rustix::mm::ProtFlags;

use super::program::Program;
use super::ring::Mapping;

/// `FAILURES` and `PROGRAMS` of `events.h`.
const KINDS: usize = 4;
const PROGRAMS: usize = 16;

/// Failed calls of one program since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// The ring had no room: events lost.
    pub reserve: u64,
    /// A map had no room or no entry: events lost. Of [`Program::Labels`]: the label is kept elsewhere. Of
    /// packets as of the ring: their namespace is not told.
    pub storage: u64,
    /// Memory could not be read: events that lack something.
    pub read: u64,
    /// Tasks that are without the label which they should have.
    pub label: u64,
}

impl Failures {
    /// Events that nobody heard of.
    #[must_use]
    pub fn lost(self) -> u64 {
        self.reserve.saturating_add(self.storage)
    }
}

/// The programs' own counters, mapped.
#[derive(Debug)]
pub struct Counters(Mapping);

impl Counters {
    /// Maps the counters behind this descriptor.
    ///
    /// # Errors
    /// Where they are not these, or memory is short.
    pub fn new(fd: impl AsFd) -> io::Result<Counters> {
        Mapping::new(fd, ProtFlags::READ, 0, PROGRAMS * KINDS * 8).map(Counters)
    }

    /// The counters of one.
    #[must_use]
    pub fn of(&self, program: Program) -> Failures {
        let read = |kind| {
            let at = usize::try_from(program.number()).ok()? * KINDS + kind;
            Some(self.0.u64_at(at * 8).ok()?.load(Ordering::Relaxed))
        };
        let [reserve, storage, read, label] = [0, 1, 2, 3].map(|kind| read(kind).unwrap_or(0));
        Failures { reserve, storage, read, label }
    }

    /// Events of all programs that nobody heard of.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let telling = Program::ALL.into_iter().filter(|program| program.can_lose());
        let lost = telling.map(|program| self.of(program).lost());
        lost.fold(0, u64::saturating_add)
    }
}
