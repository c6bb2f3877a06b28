//! The ring that the programs write to, as a reader sees it (Documentation/bpf/ringbuf.rst).
//!
//! ```text
//!  page 0   consumer's position     ours to write
//!  page 1   producer's position     the kernel's
//!  page 2   the records, twice one behind the other, so that none is in two pieces
//!
//!  record   u32 length, top bits: being written, given up; u32 page; bytes; to a multiple of 8
//! ```
//!
//! Mapping it takes no right beyond the descriptor, which is why this is no call of libbpf.

#![allow(unsafe_code, reason = "memory shared with the kernel")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::program::{fdinfo, field};
use super::wire::{Event, LONGEST, Malformed};
use crate::wait::readable;

/// `BPF_RINGBUF_BUSY_BIT` and `BPF_RINGBUF_DISCARD_BIT` of linux/bpf.h, and the header's bytes.
const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
const HEADER: u64 = 8;

/// Reads the ring. There can be one at a time.
#[derive(Debug)]
pub struct Reader {
    fd: OwnedFd,
    consumer: Mapping,
    producer: Mapping,
    page: usize,
    /// Bytes of records; a power of two.
    size: u64,
    /// How far we have read.
    position: u64,
}

/// What [`Reader::read`] came by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Events that were given away.
    pub events: u64,
    /// Of a kind that is not known here: the program is newer.
    pub unknown: u64,
    /// Cut short: the program is of another version.
    pub short: u64,
    /// Everything up to this time was read, in nanoseconds since boot: a program makes room for an event
    /// first and looks at the clock then. None where one was still being written.
    pub heard: Option<u64>,
}

impl Reader {
    /// Maps the ring behind this descriptor, and begins where the last reader of it ended.
    ///
    /// # Errors
    /// Where it is no ring, or memory is short.
    pub fn new(fd: OwnedFd) -> io::Result<Reader> {
        let size = field(&fdinfo(&fd)?, b"max_entries:").filter(|size| size.is_power_of_two());
        let bytes = size.and_then(|size| usize::try_from(size).ok()?.checked_mul(2));
        let (Some(size), Some(bytes)) = (size, bytes) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no ring of BPF"));
        };
        let page = rustix::param::page_size();
        let both = ProtFlags::READ | ProtFlags::WRITE;
        let consumer = Mapping::new(&fd, both, 0, page)?;
        let producer = Mapping::new(&fd, ProtFlags::READ, page, page.saturating_add(bytes))?;
        let position = consumer.u64_at(0)?.load(Ordering::Acquire);
        Ok(Reader { fd, consumer, producer, page, size, position })
    }

    /// Takes what is there. Where nothing is, waits for at most `timeout` until the programs say
    /// that there is much: a timeout is how soon a few are seen.
    ///
    /// # Errors
    /// Where waiting fails, or the ring holds what no kernel writes.
    pub fn read(&mut self, timeout: Duration, mut take: impl FnMut(Event)) -> io::Result<Read> {
        if !self.has_data()? {
            readable(&self.fd, Some(timeout))?;
        }
        let mut read = Read::default();
        let mut bytes = [0; LONGEST];
        let now = boottime_ns();
        // What comes meanwhile is for the next call, so that this one ends.
        let end = self.producer_position()?;
        while self.position < end {
            let Some(length) = self.next(&mut bytes)? else { break };
            let Some(length) = length else { continue };
            match Event::parse(bytes.get(..length).unwrap_or_default()) {
                Ok(event) => {
                    read.events += 1;
                    take(event);
                }
                Err(Malformed::Unknown(_)) => read.unknown += 1,
                Err(Malformed::Short(_)) => read.short += 1,
            }
        }
        read.heard = (self.position >= end).then_some(now);
        Ok(read)
    }

    /// Bytes that wait.
    ///
    /// # Errors
    /// None that a ring of a kernel has.
    pub fn waiting(&self) -> io::Result<u64> {
        Ok(self.producer_position()?.saturating_sub(self.position))
    }

    fn has_data(&self) -> io::Result<bool> {
        self.waiting().map(|bytes| bytes > 0)
    }

    fn producer_position(&self) -> io::Result<u64> {
        Ok(self.producer.u64_at(0)?.load(Ordering::Acquire))
    }

    /// Copies the next record and frees its room. None: it is being written. Within: one that was
    /// given up has no length.
    fn next(&mut self, out: &mut [u8; LONGEST]) -> io::Result<Option<Option<usize>>> {
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "the ring of BPF is broken");
        let offset = usize::try_from(self.position & (self.size - 1)).map_err(|_| broken())?;
        let offset = self.page.checked_add(offset).ok_or_else(broken)?;
        let head = self.producer.u32_at(offset)?.load(Ordering::Acquire);
        if head & BUSY != 0 {
            return Ok(None);
        }
        let length = u64::from(head & !(BUSY | DISCARD));
        let room = length.checked_add(HEADER).ok_or_else(broken)?.next_multiple_of(8);
        if room > self.size {
            return Err(broken());
        }
        let copied = usize::try_from(length).map_err(|_| broken())?.min(LONGEST);
        self.producer.copy(offset + 8, out.get_mut(..copied).unwrap_or_default())?;
        self.position = self.position.checked_add(room).ok_or_else(broken)?;
        self.consumer.u64_at(0)?.store(self.position, Ordering::Release);
        Ok(Some((head & DISCARD == 0).then_some(copied)))
    }
}

/// Nanoseconds since boot.
fn boottime_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let part = |part: i64| u64::try_from(part).unwrap_or(0);
    part(time.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(time.tv_nsec))
}

impl AsFd for Reader {
    /// Becomes readable when the programs say that there is much.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Memory shared with the kernel, which may change it at any time: only read by atomic loads, or
/// copied where the kernel has finished.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is memory of the process, not of a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    pub(super) fn new(
        fd: impl AsFd,
        access: ProtFlags,
        offset: usize,
        len: usize,
    ) -> io::Result<Mapping> {
        let offset = u64::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: at an address that the kernel chooses, so no memory that anybody uses changes.
        let start = unsafe {
            mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, fd.as_fd(), offset)
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { start, len })
    }

    /// The number at this offset, a multiple of 8.
    pub(super) fn u64_at(&self, offset: usize) -> io::Result<&AtomicU64> {
        let at = self.at(offset, 8)?;
        // SAFETY: `at` gave 8 bytes of the mapping, aligned, which lives as long as `self`; whoever
        // else writes them does it atomically. Only whoever mapped them for writing stores.
        Ok(unsafe { AtomicU64::from_ptr(at.cast().as_ptr()) })
    }

    /// The number at this offset, a multiple of 8 here too.
    fn u32_at(&self, offset: usize) -> io::Result<&AtomicU32> {
        let at = self.at(offset, 4)?;
        // SAFETY: as above, with 4 bytes.
        Ok(unsafe { AtomicU32::from_ptr(at.cast().as_ptr()) })
    }

    /// Copies what the kernel has finished.
    fn copy(&self, offset: usize, out: &mut [u8]) -> io::Result<()> {
        let from = self.at(offset, out.len())?;
        // SAFETY: `at` gave as many bytes of the mapping as `out` has; the kernel does not write them
        // before the consumer's position passes them, and `out` is not part of the mapping.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    /// Where that many bytes begin, at an offset that is a multiple of 8.
    fn at(&self, offset: usize, len: usize) -> io::Result<NonNull<u8>> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        if !inside || !offset.is_multiple_of(8) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "outside of a map of BPF"));
        }
        // SAFETY: it stays in the mapping, by the check above.
        Ok(unsafe { self.start.add(offset) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and every reference into it borrowed `self`.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}
