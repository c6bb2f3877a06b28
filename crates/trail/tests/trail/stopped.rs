//! A writer that ends between any two calls of the file system.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use trail::store::{File, Mode, Short, Store};
use trail::{Appended, Error, Verdict, VerifyOptions, Writer, create, verify};

use crate::kit::{BOOT, append, at};
use crate::outage::{Handle, Outage};

/// A disk that its process can use so many times before it ends: no later call does anything.
#[derive(Clone)]
struct Ending {
    disk: Outage,
    left: Arc<AtomicU64>,
}

struct Held {
    file: Handle,
    left: Arc<AtomicU64>,
}

fn use_one(left: &AtomicU64) -> io::Result<()> {
    let used = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    used.map(drop).map_err(|_| io::Error::other("the process has ended"))
}

impl Ending {
    fn held(&self, file: Handle) -> Held {
        Held { file, left: Arc::clone(&self.left) }
    }
}

impl Store for Ending {
    type File = Held;

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        use_one(&self.left)?;
        self.disk.create_dir(path)
    }

    fn create(&self, path: &Path, mode: Mode) -> io::Result<Held> {
        use_one(&self.left)?;
        self.disk.create(path, mode).map(|file| self.held(file))
    }

    fn open(&self, path: &Path) -> io::Result<Held> {
        self.disk.open(path).map(|file| self.held(file))
    }

    fn open_append(&self, path: &Path) -> io::Result<Held> {
        self.disk.open_append(path).map(|file| self.held(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        use_one(&self.left)?;
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        use_one(&self.left)?;
        self.disk.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        use_one(&self.left)?;
        self.disk.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }
}

impl File for Held {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Short> {
        // A kill can let a part of a write through.
        let ended = use_one(&self.left);
        let bytes = if ended.is_ok() { bytes } else { &[] };
        self.file.append(bytes)?;
        ended.map_err(|source| Short { written: 0, source })
    }

    fn sync(&mut self) -> io::Result<()> {
        use_one(&self.left)?;
        self.file.sync()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

/// Makes a trail, appends over several segments, signs, closes, and once more. Counts in
/// `acknowledged` what was durable when it ended.
fn live(disk: &Ending, acknowledged: &mut u64) -> Result<(), Error> {
    match create(disk, "host") {
        Ok(_) | Err(Error::Exists(_)) => {}
        Err(error) => return Err(error),
    }
    for round in 0..2 {
        let (mut writer, _) = Writer::open(disk.clone(), BOOT, at(round * 10))?;
        writer.limit_segments(20_000);
        let mut next = writer.seen("a").unwrap_or(0);
        for second in 0..8 {
            for _ in 0..40 {
                append(&mut writer, "a", next, at(round * 10 + second))?;
                next += 1;
            }
            writer.sync()?;
            *acknowledged = next;
            writer.checkpoint(at(round * 10 + second))?;
        }
        writer.close(at(round * 10 + 9))?;
    }
    Ok(())
}

#[test]
fn a_trail_opens_wherever_its_writer_ended() {
    let mut ends = 0;
    loop {
        let disk = Ending { disk: Outage::default(), left: Arc::new(AtomicU64::new(ends)) };
        let mut acknowledged = 0;
        let lived = live(&disk, &mut acknowledged);
        // The next process ends as well, while it recovers.
        for again in [0, 3, 5, 7, 11] {
            disk.left.store(again, Ordering::SeqCst);
            let _ = live(&disk, &mut acknowledged);
        }
        disk.left.store(u64::MAX, Ordering::SeqCst);
        match verify(&disk, &VerifyOptions::default()) {
            Ok(Verdict::Good(report)) => {
                assert!(report.checkpoint.size + report.unsigned >= acknowledged, "{ends}");
            }
            Err(Error::NoTrail) => assert_eq!(acknowledged, 0, "{ends}"),
            other => panic!("{ends}: {other:?}"),
        }
        live(&disk, &mut acknowledged).unwrap();
        let (mut writer, recovered) = Writer::open(disk.clone(), BOOT, at(99)).unwrap();
        assert!(recovered.closed);
        assert_eq!(append(&mut writer, "a", acknowledged - 1, at(99)).unwrap(), Appended::Known);
        assert!(matches!(
            append(&mut writer, "a", acknowledged, at(99)).unwrap(),
            Appended::New(_)
        ));
        writer.close(at(99)).unwrap();
        if lived.is_ok() {
            break;
        }
        ends += 1;
    }
    assert!(ends > 150, "{ends} calls are not a life");
}
