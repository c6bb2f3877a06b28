//! One check of one device, from where the last one stopped.

use std::fs::File;
use std::io;
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use block::ReadAt;
use block::fec::Corrector;
use block::verity::{Device, Finding, Layout, Summary, Volume, Watch};
use engine::scrub::{Access, Begin, Counts, Ended, Identity, Last, Pass, State, Subject, Why};
use record::units::DataBlock;
use record::violation::EventOp;

use super::disk::{Disk, Pace};
use super::records::Records;
use super::store::{Known, Lock};
use super::target::{How, Target, Tree};
use crate::clock;
use crate::config::Config;
use crate::outcome::{Failure, Kind};

/// How a check is done.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Bytes a second; none is as fast as the disk.
    pub(crate) rate: Option<NonZeroU64>,
    /// Whether to begin anew in any case.
    pub(crate) restart: bool,
    pub(crate) trail: PathBuf,
    pub(crate) config: Config,
    /// Set by a signal.
    pub(crate) stop: Arc<AtomicBool>,
}

/// How a check ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// At its end.
    Finished(Last),
    /// Before: it was told to.
    Stopped(Pass),
}

/// Who is told while a device is checked.
pub(crate) trait Listener {
    /// It has begun, and that is on record. `note` is for people.
    fn began(&mut self, pass: &Pass, note: Option<&str>) -> Result<(), Failure>;

    /// So many bytes of the device are settled.
    fn settled(&mut self, bytes: u64);
}

/// How often the state is written where nothing is found.
const MILESTONE: Duration = Duration::from_secs(1);

/// Checks a device.
pub(crate) fn run(
    target: Target,
    lock: &Lock,
    known: Known,
    plan: &Plan,
    listener: &mut dyn Listener,
) -> Result<Ending, Failure> {
    let Target { subject, identity, named, check, .. } = target;
    let pace = Arc::new(Pace::new(plan.rate, Arc::clone(&plan.stop)));
    let disk = |file: &File| {
        let file = file.try_clone()?;
        Disk::of(file, Arc::clone(&pace))
    };
    let (disks, unit) = match &check {
        How::Tree(tree) => {
            let fec = tree.fec.as_ref().map(|(source, _)| disk(&source.file)).transpose();
            let disks = Disks {
                data: disk(&tree.data.file).map_err(unread)?,
                hash: Some(disk(&tree.hash.file).map_err(unread)?),
                fec: fec.map_err(unread)?,
            };
            (disks, tree.layout.data_block_size().bytes())
        }
        How::Through { file, .. } => {
            let disks = Disks { data: disk(file).map_err(unread)?, hash: None, fec: None };
            let unit = rustix::fs::ioctl_blksszget(file).map_err(io::Error::from)?;
            (disks, unit)
        }
    };
    let (mut state, why, note) = open_state(known, subject, identity, plan.restart);
    let resumed = state.pass.is_some();
    let fresh = fresh_pass(&state.identity, unit, disks.access());
    let pass = state.pass.get_or_insert(fresh);
    (pass.pid, pass.ended, pass.reason) = (std::process::id(), None, None);
    if disks.access() == Access::Buffered {
        pass.access = Access::Buffered;
    }
    lock.write(&state)?;
    let records = Records::open(plan.trail.clone(), &plan.config, named);
    let records = records.inspect_err(|failure| note_failure(&mut state, lock, failure))?;
    // Those who wait for the trail wait for its writer, which has begun and gives way to nobody. A sandbox
    // may refuse this: then it is a check like any other work.
    let _ = host::background::give_way();
    let mut watching = Watching::new(state, lock, records, &pace, listener);
    let done = watching
        .begin(if resumed { "resumed" } else { why.word() }, plan.rate, note.as_deref())
        .and_then(|()| {
            let over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| watch_for_stop(lock, &plan.stop, &over));
                let done = match &check {
                    How::Tree(tree) => watching.tree(tree, &disks),
                    How::Through { op, .. } => watching.through(&disks.data, *op),
                };
                over.store(true, Ordering::Relaxed);
                done
            })
        });
    watching.end(done)
}

fn unread(error: io::Error) -> Failure {
    Failure::new(Kind::Io, "cannot open the device to be read past the page cache").because(error)
}

/// What is read.
struct Disks {
    data: Disk,
    hash: Option<Disk>,
    fec: Option<Disk>,
}

impl Disks {
    fn access(&self) -> Access {
        let all = [Some(&self.data), self.hash.as_ref(), self.fec.as_ref()];
        let buffered = |disk: &&Disk| disk.access() == Access::Buffered;
        if all.iter().flatten().any(buffered) { Access::Buffered } else { Access::Direct }
    }
}

/// The state to go on with, why it has no pass if it has none, and what to say about it.
fn open_state(
    known: Known,
    subject: Subject,
    identity: Identity,
    restart: bool,
) -> (State, Why, Option<String>) {
    let mut state = State::new(subject, identity);
    match known {
        Known::Nothing => (state, Why::First, None),
        Known::Unusable(error) => {
            let note = format!("what was noted of earlier checks cannot be used: {error}");
            (state, Why::First, Some(note))
        }
        Known::State(old) => {
            let begin = old.begin(&state.identity, restart);
            // Of another device nothing is told any more.
            state.last = old.last.filter(|_| begin != Begin::Anew(Why::Changed));
            match begin {
                Begin::After(pass) => {
                    state.pass = Some(pass);
                    (state, Why::Due, None)
                }
                Begin::Anew(why) => {
                    let note = match (why, &old.pass) {
                        (Why::Changed, _) => Some("it is not the device that was checked before"),
                        (Why::Told, Some(_)) => {
                            Some("the check that was not finished is forgotten")
                        }
                        _ => None,
                    };
                    (state, why, note.map(str::to_owned))
                }
            }
        }
    }
}

fn fresh_pass(identity: &Identity, unit: u32, access: Access) -> Pass {
    Pass {
        started: seconds(),
        updated: seconds(),
        pid: 0,
        next: 0,
        blocks: identity.size / u64::from(unit),
        unit,
        bytes: 0,
        milliseconds: 0,
        access,
        counts: Counts::default(),
        ended: None,
        reason: None,
    }
}

fn seconds() -> u64 {
    clock::now().realtime_ns / 1_000_000_000
}

fn note_failure(state: &mut State, lock: &Lock, failure: &Failure) {
    state.end(Ended::Failed, Some(failure.to_string()));
    // The failure told is the first one.
    let _ = lock.write(state);
}

/// Passes on what somebody else asked for.
fn watch_for_stop(lock: &Lock, stop: &AtomicBool, over: &AtomicBool) {
    const LOOK: Duration = Duration::from_millis(100);
    while !over.load(Ordering::Relaxed) {
        if lock.is_told_to_stop() {
            stop.store(true, Ordering::Relaxed);
        }
        std::thread::sleep(LOOK);
    }
}

/// A check that is under way: what it finds becomes records, and from time to time state.
struct Watching<'a> {
    state: State,
    lock: &'a Lock,
    records: Records,
    pace: &'a Pace,
    listener: &'a mut dyn Listener,
    layout: Option<Layout>,
    /// What was done before this process.
    before: Pass,
    began: Instant,
    written: Instant,
    /// Found since the state was written.
    news: bool,
    stopped: bool,
    failed: Option<Failure>,
}

impl<'a> Watching<'a> {
    fn new(
        state: State,
        lock: &'a Lock,
        records: Records,
        pace: &'a Pace,
        listener: &'a mut dyn Listener,
    ) -> Watching<'a> {
        let before =
            state.pass.clone().unwrap_or_else(|| fresh_pass(&state.identity, 512, Access::Direct));
        let now = Instant::now();
        Watching {
            state,
            lock,
            records,
            pace,
            listener,
            layout: None,
            before,
            began: now,
            written: now,
            news: false,
            stopped: false,
            failed: None,
        }
    }

    fn begin(
        &mut self,
        why: &str,
        rate: Option<NonZeroU64>,
        note: Option<&str>,
    ) -> Result<(), Failure> {
        let rate = rate.map(NonZeroU64::get);
        self.records.began(&self.state.subject, &self.before, why, rate)?;
        self.records.settle()?;
        self.listener.began(&self.before, note)
    }

    fn tree(&mut self, tree: &Tree, disks: &Disks) -> Result<(), Failure> {
        let Some(hash) = &disks.hash else { return Ok(()) };
        let unusable = |error: block::verity::OpenError| {
            Failure::new(Kind::Unusable, "the hash tree cannot be used").because(error)
        };
        let open = || {
            Volume::open(&disks.data, hash, &tree.params, tree.area, &tree.root).map_err(unusable)
        };
        self.layout = Some(tree.layout.clone());
        // One reads while the other hashes; more would only take what others want.
        let threads = NonZeroUsize::MIN.saturating_add(1);
        let start = DataBlock(self.before.next);
        let volume = open()?;
        let summary = match (&disks.fec, &tree.fec) {
            (Some(parity), Some((_, area))) => {
                let corrector = Corrector::new(area.clone(), parity);
                let device = Device::new(open()?).with_correction(corrector);
                volume.verify_and_correct_from(start, threads, &device, self)
            }
            _ => volume.verify_from(start, threads, self),
        };
        match self.failed.take() {
            Some(failure) => Err(failure),
            None => {
                if !self.stopped {
                    self.note(self.before.blocks, counts_of(&summary));
                }
                Ok(())
            }
        }
    }

    /// Reads a device whose driver verifies what it gives, and names each block that it does not.
    fn through(&mut self, disk: &Disk, op: EventOp) -> Result<(), Failure> {
        /// Bytes asked for at once as long as all is well.
        const CHUNK: usize = 256 * 1024;
        let size = u64::from(self.before.unit);
        let unit = usize::try_from(size).unwrap_or(CHUNK);
        let most = (CHUNK / unit).max(1);
        let mut buf = vec![0; most * unit];
        let (mut at, mut counts) = (self.before.next, Counts::default());
        while at < self.before.blocks {
            let left = usize::try_from(self.before.blocks - at).unwrap_or(most);
            let count = left.min(most);
            let bytes = &mut buf[..count * unit];
            let offset = |block: u64| block.saturating_mul(size);
            if disk.read_full(bytes, offset(at)).is_ok_and(|read| read == count * unit) {
                counts.good += count as u64;
            } else {
                let mut run: Option<(Range<u64>, i32)> = None;
                for (block, bytes) in (at..).zip(bytes.chunks_exact_mut(unit)) {
                    let errno = match disk.read_full(bytes, offset(block)) {
                        Ok(read) if read == unit => None,
                        // It has become shorter.
                        Ok(_) => Some(rustix::io::Errno::IO.raw_os_error()),
                        Err(error) => {
                            let eio = rustix::io::Errno::IO.raw_os_error();
                            Some(error.raw_os_error().unwrap_or(eio))
                        }
                    };
                    match errno {
                        None => counts.good += 1,
                        Some(errno) if is_violation(errno) => counts.bad += 1,
                        Some(_) => counts.unreadable += 1,
                    }
                    match (&mut run, errno) {
                        (Some((blocks, last)), Some(errno)) if *last == errno => {
                            blocks.end = block + 1;
                        }
                        (_, errno) => {
                            self.through_found(run.take(), op)?;
                            run = errno.map(|errno| (block..block + 1, errno));
                        }
                    }
                }
                self.through_found(run, op)?;
            }
            at += count as u64;
            self.listener.settled(offset(at));
            if self.wants_milestone() && self.reached(at, counts)?.is_break() {
                return Ok(());
            }
        }
        self.note(at, counts);
        Ok(())
    }

    fn through_found(
        &mut self,
        run: Option<(Range<u64>, i32)>,
        op: EventOp,
    ) -> Result<(), Failure> {
        let Some((blocks, errno)) = run else { return Ok(()) };
        self.news = true;
        let op = is_violation(errno).then_some(op);
        self.records.through(blocks, self.before.unit, errno, op)
    }

    /// Takes down how far it is.
    fn note(&mut self, next: u64, counts: Counts) {
        let Some(pass) = &mut self.state.pass else { return };
        pass.updated = seconds();
        pass.next = next;
        pass.counts = self.before.counts.plus(&counts);
        pass.bytes = self.before.bytes.saturating_add(self.pace.read());
        let took = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        pass.milliseconds = self.before.milliseconds.saturating_add(took);
    }

    /// Everything before `next` is done: first the records become durable, then the state.
    fn reached(&mut self, next: u64, counts: Counts) -> Result<ControlFlow<()>, Failure> {
        self.note(next, counts);
        if self.news {
            self.records.settle()?;
        }
        self.lock.write(&self.state)?;
        (self.news, self.written) = (false, Instant::now());
        self.stopped = self.pace.is_stopped() && next < self.before.blocks;
        Ok(if self.stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// The last record, and the last state.
    fn end(self, done: Result<(), Failure>) -> Result<Ending, Failure> {
        let Watching { mut state, lock, mut records, stopped, .. } = self;
        let done = done.and_then(|()| {
            let Some(pass) = state.pass.clone() else {
                return Err(Failure::new(Kind::Io, "the check has no state"));
            };
            if stopped {
                records.ended(&pass, "stopped", None)?;
                records.settle()?;
                state.end(Ended::Stopped, None);
                lock.write(&state)?;
                return Ok(Ending::Stopped(pass));
            }
            let mut finished = state.clone();
            finished.finish(seconds());
            let Some(last) = finished.last.clone() else {
                return Err(Failure::new(Kind::Io, "the check has no state"));
            };
            records.finished(&last)?;
            records.settle()?;
            lock.write(&finished)?;
            Ok(Ending::Finished(last))
        });
        let closed = match &done {
            Ok(_) => records.close(),
            Err(failure) => {
                if let Some(pass) = &state.pass {
                    // The failure told is the first one; it may be that of the trail.
                    let _ = records.ended(pass, "failed", Some(&failure.to_string()));
                }
                note_failure(&mut state, lock, failure);
                let _ = records.close();
                Ok(())
            }
        };
        done.and_then(|ending| closed.map(|()| ending))
    }

    fn go_on(&mut self, told: Result<ControlFlow<()>, Failure>) -> ControlFlow<()> {
        told.unwrap_or_else(|failure| {
            self.failed = Some(failure);
            ControlFlow::Break(())
        })
    }
}

impl Watch for Watching<'_> {
    fn found(&mut self, finding: &Finding) -> ControlFlow<()> {
        self.news = true;
        let Some(layout) = &self.layout else { return ControlFlow::Continue(()) };
        let told = self.records.found(finding, layout);
        self.go_on(told.map(ControlFlow::Continue))
    }

    fn mended(&mut self, finding: &Finding, errors: u64, _: &[u8]) -> ControlFlow<()> {
        self.news = true;
        let Some(layout) = &self.layout else { return ControlFlow::Continue(()) };
        let told = self.records.correctable(finding, layout, errors);
        self.go_on(told.map(ControlFlow::Continue))
    }

    fn progress(&mut self, done: u64) {
        self.listener.settled(done.saturating_mul(self.before.unit.into()));
    }

    fn wants_milestone(&self) -> bool {
        self.news || self.pace.is_stopped() || self.written.elapsed() >= MILESTONE
    }

    fn milestone(&mut self, next: DataBlock, so_far: &Summary) -> ControlFlow<()> {
        let reached = self.reached(next.0, counts_of(so_far));
        self.go_on(reached)
    }
}

/// dm-integrity and dm-crypt give it to a block that is not what was written (`BLK_STS_PROTECTION`).
fn is_violation(errno: i32) -> bool {
    errno == rustix::io::Errno::ILSEQ.raw_os_error()
}

fn counts_of(summary: &Summary) -> Counts {
    Counts {
        good: summary.good,
        bad: summary.mismatched + summary.missing,
        correctable: summary.mended,
        unreadable: summary.unreadable,
        unverifiable: summary.unverifiable,
        unreachable: summary.unreachable,
        bad_hash: summary.bad_hash_blocks,
        correctable_hash: summary.mended_hash_blocks,
        unreadable_hash: summary.unreadable_hash_blocks,
    }
}
