//! The kernel's log, record by record (`/dev/kmsg`, Documentation/ABI/testing/dev-kmsg).
//!
//! ```text
//! 4,1234,5678901,-;device-mapper: verity: 7:0: data block 10 is corrupted
//! prefix,sequence,microseconds,flags;text           and on further lines, each with a blank in front:
//!  SUBSYSTEM=block
//! ```
//!
//! Every record has the next number, so whatever was overwritten before it was read is counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::text::decimal;
use crate::wait::readable;

/// The log, open.
#[derive(Debug)]
pub struct Kmsg {
    file: File,
    buf: Vec<u8>,
    /// The number that comes next, once there was one.
    next: Option<u64>,
    /// Length of a record that was read and not given away yet, and its number.
    held: Option<(usize, Option<u64>)>,
}

/// What is read first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// What comes from now on.
    Now,
    /// What the kernel still has, then what comes.
    Start,
}

/// What [`Kmsg::recv`] came back with.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A record, as the kernel gave it.
    Record(&'a [u8]),
    /// So many records were overwritten before they were read.
    Lost(u64),
    /// Nothing came in time.
    TimedOut,
}

/// The kernel's longest is 8192 bytes (`CONSOLE_EXT_LOG_MAX`, 2048 from 6.3 on).
const LONGEST: usize = 16 << 10;

impl Kmsg {
    /// Opens the log.
    ///
    /// # Errors
    /// Where it is not there (a container), or not to be read by us (`kernel.dmesg_restrict`).
    pub fn open(from: From) -> io::Result<Self> {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file = OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg")?;
        let mut log = Self { file, buf: vec![0; LONGEST], next: None, held: None };
        if from == From::Now {
            // Not by lseek(2), which tells no number to count from.
            while !matches!(log.recv(Some(Duration::ZERO))?, Received::TimedOut) {}
        }
        Ok(log)
    }

    /// Takes what comes next, waiting for it at most `timeout` (`None`: as long as it takes).
    ///
    /// # Errors
    /// What read(2) answered, but for a loss.
    pub fn recv(&mut self, timeout: Option<Duration>) -> io::Result<Received<'_>> {
        let (len, number) = match self.held.take() {
            Some(held) => held,
            None => loop {
                match self.file.read(&mut self.buf) {
                    Ok(len) => break (len, sequence(&self.buf[..len])),
                    Err(error) => match Errno::from_io_error(&error) {
                        Some(Errno::AGAIN) if readable(&self.file, timeout)? => {}
                        Some(Errno::AGAIN) => return Ok(Received::TimedOut),
                        // Overwritten; what comes now tells how many.
                        Some(Errno::PIPE | Errno::INTR) => {}
                        _ => return Err(error),
                    },
                }
            },
        };
        if let (Some(next), Some(number)) = (self.next, number)
            && number > next
        {
            self.next = Some(number);
            self.held = Some((len, Some(number)));
            return Ok(Received::Lost(number - next));
        }
        self.next = number.map(|number| number.saturating_add(1)).or(self.next);
        Ok(Received::Record(&self.buf[..len]))
    }
}

impl AsFd for Kmsg {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The number of a record.
fn sequence(record: &[u8]) -> Option<u64> {
    decimal(record.split(|b| *b == b',').nth(1)?)
}
