//! The disk as a check reads it: past the page cache, and no faster than it may.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use block::ReadAt;
use engine::scrub::{Access, Budget};
use rustix::fs::{Advice, OFlags, fadvise};

/// What a check may do, shared by all that read for it.
#[derive(Debug)]
pub(crate) struct Pace {
    began: Instant,
    budget: Option<Mutex<Budget>>,
    read: AtomicU64,
    /// To come to the next milestone at once, and end there.
    stop: Arc<AtomicBool>,
}

impl Pace {
    /// `rate` is in bytes a second; none is as fast as the disk.
    pub(crate) fn new(rate: Option<NonZeroU64>, stop: Arc<AtomicBool>) -> Pace {
        let budget = rate.map(|rate| Mutex::new(Budget::new(rate, Duration::ZERO)));
        Pace { began: Instant::now(), budget, read: AtomicU64::new(0), stop }
    }

    /// Bytes read so far.
    pub(crate) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Returns when so many bytes may be read. Whoever is to stop need not wait: what is begun is
    /// little.
    fn pay(&self, bytes: u64) {
        const LOOK: Duration = Duration::from_millis(100);
        self.read.fetch_add(bytes, Ordering::Relaxed);
        let Some(budget) = &self.budget else { return };
        let now = self.began.elapsed();
        let wait = budget.lock().unwrap_or_else(PoisonError::into_inner).take(now, bytes);
        let end = now.saturating_add(wait);
        while let Some(left) = end.checked_sub(self.began.elapsed())
            && !left.is_zero()
            && !self.is_stopped()
        {
            std::thread::sleep(left.min(LOOK));
        }
    }
}

/// A file or block device that is checked.
#[derive(Debug)]
pub(crate) struct Disk {
    file: File,
    size: u64,
    /// To what lengths and places are rounded.
    align: usize,
    direct: bool,
    pace: Arc<Pace>,
}

/// To what addresses are rounded, and in files lengths and places, too: no disk wants more of
/// O_DIRECT.
const ALIGN: usize = 4096;

/// Bytes read at once at most.
const MOST: usize = 1 << 20;

thread_local! {
    /// Room for one read, and for its address to be rounded up.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Disk {
    /// What `file` is open on, which its path may no longer be.
    pub(crate) fn of(mut file: File, pace: Arc<Pace>) -> io::Result<Disk> {
        let metadata = file.metadata()?;
        let (size, align) = if metadata.file_type().is_block_device() {
            // A read that is larger than asked for would fail for the fault of another block.
            let block = usize::try_from(rustix::fs::ioctl_blksszget(&file)?).unwrap_or(ALIGN);
            (file.seek(SeekFrom::End(0))?, block)
        } else {
            (metadata.len(), ALIGN)
        };
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = i32::try_from((OFlags::DIRECT | OFlags::CLOEXEC).bits()).unwrap_or(0);
        match OpenOptions::new().read(true).custom_flags(flags).open(Path::new(&again)) {
            Ok(direct) => Ok(Disk { file: direct, size, align, direct: true, pace }),
            // Its file system has nothing of the kind.
            Err(error) if error.raw_os_error() == Some(EINVAL) => {
                Ok(Disk { file, size, align, direct: false, pace })
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn access(&self) -> Access {
        if self.direct { Access::Direct } else { Access::Buffered }
    }

    /// Reads around `offset`, rounded as the disk wants it, and gives what was read from there on.
    fn read_into(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let skip = offset % self.align as u64;
        let from = offset - skip;
        // Below the size of a block.
        let skip = usize::try_from(skip).unwrap_or(0);
        let wanted = buf.len().min(MOST);
        let whole = (skip + wanted).next_multiple_of(self.align);
        self.pace.pay(whole as u64);
        ROOM.with_borrow_mut(|room| {
            room.resize(MOST + 2 * self.align + ALIGN, 0);
            let start = room.as_ptr().align_offset(ALIGN);
            let room = room.get_mut(start..start + whole).ok_or(io::ErrorKind::OutOfMemory)?;
            let read = self.file.read_at(room, from)?;
            let got = room.get(skip..read).unwrap_or(&[]);
            let got = got.get(..wanted).unwrap_or(got);
            buf[..got.len()].copy_from_slice(got);
            Ok(got.len())
        })
    }
}

/// What the kernel says where O_DIRECT is not to be had (`asm-generic/errno-base.h`).
const EINVAL: i32 = 22;

impl ReadAt for Disk {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        if !self.direct {
            // What is clean is dropped; the kernel says nothing about what it keeps.
            let _ = fadvise(&self.file, offset, NonZeroU64::new(MOST as u64), Advice::DontNeed);
        }
        self.read_into(buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn disk(file: &File, rate: Option<u64>) -> Disk {
        let pace = Pace::new(rate.and_then(NonZeroU64::new), Arc::default());
        Disk::of(file.try_clone().unwrap(), Arc::new(pace)).unwrap()
    }

    #[test]
    fn any_place_and_length_is_read() {
        let bytes: Vec<u8> =
            (0..3_000_123_u32).map(|n| n.to_le_bytes()[1] ^ n.to_le_bytes()[0]).collect();
        for place in ["/tmp", env!("CARGO_MANIFEST_DIR"), "/dev/shm"] {
            let Ok(mut file) = tempfile::tempfile_in(place) else { continue };
            file.write_all(&bytes).unwrap();
            file.sync_all().unwrap();
            let disk = disk(&file, None);
            for (offset, len) in
                [(0, 4096), (1, 1), (4095, 4098), (512, 1 << 20), (0, 3_100_000), (2_999_999, 500)]
            {
                let mut buf = vec![0; len];
                let read = disk.read_full(&mut buf, offset as u64).unwrap();
                let end = (offset + len).min(bytes.len());
                assert!(buf[..read] == bytes[offset..end], "{offset} {len} in {place}");
            }
            assert_eq!(disk.read_at(&mut [0; 10], 3_000_123).unwrap(), 0);
            assert_eq!(disk.read_at(&mut [0; 10], 1 << 40).unwrap(), 0);
        }
    }

    #[test]
    fn the_rate_holds_and_a_stop_is_not_held_up() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 << 20).unwrap();
        let slow = disk(&file, Some(8 << 20));
        let mut buf = vec![0; 1 << 20];
        let began = Instant::now();
        (0..8).for_each(|n| assert_eq!(slow.read_full(&mut buf, n << 20).unwrap(), 1 << 20));
        let took = began.elapsed();
        assert!(took > Duration::from_millis(800), "{took:?}");
        slow.pace.stop.store(true, Ordering::Relaxed);
        let began = Instant::now();
        (0..40).for_each(|n| assert_eq!(slow.read_full(&mut buf, n << 20).unwrap(), 1 << 20));
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}
