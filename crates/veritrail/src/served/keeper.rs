//! The process that owns a served device: its mount, its records, its end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use host::channel::{Channel, Received};
use host::mount::{Detach, MAX_READ, MountError, Options};
use record::task::Task;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::control::{self, Answer, Question, State, Status};
use super::directory::Claim;
use super::explaining::Explaining;
use super::manager;
use super::opening::Opening;
use super::reader::Readers;
use super::recorder::Recorder;
use super::reports::note_reports;
use super::wire::{self, Counted, Counts, Nonsense, Started};
use crate::json_line;
use crate::outcome::{Failure, Kind};

/// Why a device is not served any more.
enum End {
    /// It was unmounted: somebody asked for it, or did it himself.
    Unmounted(Asked),
    /// The volume has gone and left its mount.
    Died(String),
}

/// Who asked for the end of a device; the stream only if the answer is still waited for.
enum Asked {
    By(Task, Option<UnixStream>),
    Nobody,
}

/// What the main thread is told.
enum Event {
    Close {
        deferred: bool,
        caller: Task,
        stream: UnixStream,
    },
    Cancel {
        stream: UnixStream,
    },
    /// Its reports have ended, or are not taken any more.
    VolumeGone(Result<(), Nonsense>),
    Signal,
}

/// Serves a device until it is closed. `ready` is called with its path when it can be read and its
/// opening is on record.
pub(crate) fn keep(
    opening: Opening,
    claim: Claim,
    mut recorder: Recorder,
    caller: &Task,
    ready: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (event, events) = channel();
    // From the first moment on: what is mounted must be unmounted.
    watch_signals(event.clone())?;
    let begun = begin(opening, &claim, &mut recorder, caller);
    let (started, opening) = match begun {
        Ok(begun) => begun,
        Err(failure) => {
            recorder.not_opened(caller, "Cannot serve the device");
            recorder.close()?;
            return Err(failure);
        }
    };
    let Running { mut child, control, reports } = started;
    let status = opening.status(claim.device(), recorder.trail(), child.id());
    let noted = recorder
        .settle()
        .and_then(|()| claim.note(&status).map_err(|e| cannot("note the state of the device", e)))
        .and_then(|()| claim.listen());
    let listener = match noted {
        Ok(listener) => listener,
        Err(failure) => {
            // Nobody was told of the device, but its opening is on its way into the trail.
            stop(&mut child);
            recorder.closed(caller, None);
            // The failure told is the one before.
            let _ = recorder.close();
            return Err(failure);
        }
    };
    let shared = Arc::new(Shared { status: Mutex::new(status), control: Mutex::new((control, 0)) });
    let reports = {
        let (shared, event) = (Arc::clone(&shared), event.clone());
        let readers = Readers::new(claim.run_dir());
        let mut explaining = Explaining::start(claim.device(), readers.clone());
        std::thread::spawn(move || {
            let (recorder, said) =
                note_reports(&reports, recorder, &opening, &shared, &readers, &mut explaining);
            // The main thread is there as long as the process.
            let _ = event.send(Event::VolumeGone(said));
            recorder
        })
    };
    {
        let shared = Arc::clone(&shared);
        std::thread::spawn(move || answer_all(&listener, &shared, &event));
    }
    let (end, told) = match ready(claim.device()) {
        Ok(()) => (wait_for_end(&claim, &events, &mut child, &shared), Ok(())),
        // Whoever wanted the device is gone, and its opening on record: it is closed again.
        Err(failure) => {
            let _ = host::mount::detach(claim.device(), Detach::Lazy);
            (End::Unmounted(Asked::Nobody), Err(failure))
        }
    };
    finish(end, child, reports, claim, &shared).and(told)
}

fn stop(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

/// What the threads of a keeper share.
pub(super) struct Shared {
    status: Mutex<Status>,
    /// To the volume, one question at a time, and how many there were.
    control: Mutex<(Channel, u64)>,
}

impl Shared {
    pub(super) fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the counts of the status up to date.
    fn count(&self) {
        if let Some(counts) = self.ask_volume() {
            self.status().counts = Some(counts);
        }
    }

    /// None where it does not answer in time: it is stopped, or not itself any more.
    fn ask_volume(&self) -> Option<Counts> {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let (control, asked) = &mut *control;
        *asked += 1;
        control.send(&serde_json::to_vec(asked).ok()?, &[]).ok()?;
        let end = Instant::now() + PROMPT;
        let mut buf = [0; 4096];
        loop {
            let left = end.checked_duration_since(Instant::now())?;
            let Received::Message { len, .. } = control.recv(&mut buf, Some(left)).ok()? else {
                return None;
            };
            let counted: Counted = serde_json::from_slice(&buf[..len]).ok()?;
            // Others were asked for by those who had given up.
            if counted.asked == *asked {
                return Some(counted.counts);
            }
        }
    }
}

/// How long a volume has for an answer, and for room for a question.
const PROMPT: Duration = Duration::from_secs(2);

/// A volume that serves.
struct Running {
    child: Child,
    control: Channel,
    reports: Channel,
}

/// What the kernel reads ahead of a reader: four requests, so that several threads have something
/// to verify.
const READ_AHEAD_KIB: u32 = 512;

/// Mounts and starts the volume, and hands the opening in.
fn begin(
    opening: Opening,
    claim: &Claim,
    recorder: &mut Recorder,
    caller: &Task,
) -> Result<(Running, Opening), Failure> {
    claim.make_mount_point()?;
    let others = rustix::process::geteuid().is_root();
    // A page cache takes small answers as well, and several threads verify them side by side. Past it
    // a request is a read(2), which is to fail as a whole.
    let max_read = if opening.direct_io { MAX_READ } else { READ_AHEAD_KIB * 1024 / 4 };
    let connection =
        host::mount::attach(claim.device(), Options { others, max_read }).map_err(not_mounted)?;
    let number = host::mount::device_number(claim.device())
        .map_err(|error| cannot("tell the number of the mount", error))?
        .ok_or_else(|| Failure::new(Kind::Io, "the mount is gone before it was used"))?;
    recorder.serve_as(number);
    let running = start_volume(&opening, connection.as_fd())?;
    // Larger requests are verified in fewer rounds. Only root may ask for them, and all goes well
    // without.
    let _ = host::mount::set_read_ahead(number, READ_AHEAD_KIB);
    recorder.opened(caller, |body| opening.facts(body, claim.device()));
    Ok((running, opening))
}

fn not_mounted(error: MountError) -> Failure {
    let remedy = error.remedy();
    let failure = Failure::new(Kind::Environment, "cannot mount the device").because(error);
    match remedy {
        Some(remedy) => failure.hint(remedy),
        None => failure,
    }
}

fn start_volume(opening: &Opening, connection: BorrowedFd<'_>) -> Result<Running, Failure> {
    let failed = |error| cannot("start the volume", error);
    let (control, theirs) = Channel::pair().map_err(failed)?;
    let (reports, their_reports) = Channel::pair().map_err(failed)?;
    let child = Command::new("/proc/self/exe")
        .args(["serve-volume", &std::process::id().to_string()])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let mut child = Unstarted(Some(child));
    let mut descriptors = vec![
        connection,
        their_reports.as_fd(),
        opening.data.file.as_fd(),
        opening.hash.file.as_fd(),
    ];
    if let Some((source, _)) = &opening.fec {
        descriptors.push(source.file.as_fd());
    }
    let setup = serde_json::to_vec(&opening.setup()).map_err(|e| failed(e.into()))?;
    control.send(&setup, &descriptors).map_err(failed)?;
    let mut buf = vec![0; wire::LONGEST];
    let received = control.recv(&mut buf, Some(Duration::from_secs(30))).map_err(failed)?;
    let started = match received {
        Received::Message { len, .. } => serde_json::from_slice(&buf[..len]).ok(),
        Received::Closed | Received::TimedOut => None,
    };
    match started {
        Some(Started::Ready) => {}
        Some(Started::Failed(why)) => {
            return Err(Failure::new(Kind::Unusable, "the volume cannot be served").because(why));
        }
        None => return Err(Failure::new(Kind::Io, "the volume did not start")),
    }
    for channel in [&control, &reports] {
        channel.set_patience(PROMPT).map_err(failed)?;
    }
    let child = child.0.take().ok_or_else(|| Failure::new(Kind::Io, "the volume is gone"))?;
    Ok(Running { child, control, reports })
}

/// A volume that is killed unless it has started.
struct Unstarted(Option<Child>);

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            stop(child);
        }
    }
}

fn watch_signals(event: Sender<Event>) -> Result<(), Failure> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| cannot("watch for signals", error))?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if signal != SIGHUP && event.send(Event::Signal).is_err() {
                break;
            }
        }
    });
    Ok(())
}

/// Answers whoever asks, one after the other: only the owner and root can.
fn answer_all(listener: &UnixListener, shared: &Shared, event: &Sender<Event>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // No descriptor is left; there may be one in a moment.
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        let Ok((question, pid)) = control::listen(&stream) else { continue };
        match question {
            Question::Status => {
                shared.count();
                answer(&stream, &Answer::Status(Box::new(shared.status().clone())));
            }
            Question::CancelDeferred => {
                // The main thread is there as long as the process, and answers.
                let _ = event.send(Event::Cancel { stream });
            }
            Question::Close | Question::CloseDeferred => match host::process::facts(pid) {
                Ok(caller) => {
                    let deferred = question == Question::CloseDeferred;
                    let _ = event.send(Event::Close { deferred, caller: caller.task, stream });
                }
                Err(error) => {
                    answer(&stream, &Answer::Failed(format!("cannot see who asks: {error}")));
                }
            },
        }
    }
}

fn answer(stream: &UnixStream, answer: &Answer) {
    // Whoever asked may have gone.
    let _ = json_line::answer(stream, answer);
}

/// How often to look whether the last user of a device has gone.
const LOOK: Duration = Duration::from_millis(100);

/// How long users of a device have to go when its server is told to.
const GRACE: Duration = Duration::from_secs(5);

fn wait_for_end(
    claim: &Claim,
    events: &Receiver<Event>,
    child: &mut Child,
    shared: &Shared,
) -> End {
    let mut deferred: Option<Task> = None;
    let mut signalled: Option<Instant> = None;
    loop {
        let waiting = deferred.is_some() || signalled.is_some();
        let next = if waiting {
            events.recv_timeout(LOOK)
        } else {
            events.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match next {
            Ok(Event::Close { deferred: later, caller, stream }) => {
                shared.count();
                match detach(claim) {
                    Ok(()) => return End::Unmounted(Asked::By(caller, Some(stream))),
                    Err(MountError::Busy(_)) if later => {
                        shared.status().facts.state = State::Deferred;
                        deferred = Some(caller);
                        answer(&stream, &Answer::Deferred);
                    }
                    Err(MountError::Busy(_)) => answer(&stream, &Answer::Busy),
                    Err(error) => answer(&stream, &Answer::Failed(error.to_string())),
                }
            }
            Ok(Event::Cancel { stream }) => {
                shared.status().facts.state = State::Active;
                deferred = None;
                answer(&stream, &Answer::Cancelled);
            }
            Ok(Event::Signal) => {
                if signalled.is_none() {
                    manager::stopping();
                }
                signalled = signalled.or(Some(Instant::now()));
            }
            Ok(Event::VolumeGone(Err(Nonsense))) => {
                stop(child);
                return End::Died("stopped, for it said what cannot be".into());
            }
            Ok(Event::VolumeGone(Ok(()))) => {
                return match host::mount::is_mounted(claim.device()) {
                    Ok(false) => End::Unmounted(Asked::Nobody),
                    _ => End::Died(how_it_ended(child)),
                };
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return End::Died("it hangs".into()),
        }
        if deferred.is_some() || signalled.is_some() {
            shared.count();
            if detach(claim).is_ok() {
                return End::Unmounted(
                    deferred.map_or(Asked::Nobody, |task| Asked::By(task, None)),
                );
            }
        }
        if signalled.is_some_and(|since| since.elapsed() > GRACE) {
            // Told to end, whoever still reads.
            let _ = host::mount::detach(claim.device(), Detach::Lazy);
            return End::Unmounted(Asked::Nobody);
        }
    }
}

/// Unmounts what nobody uses. A reader that was killed uses it until its request is answered.
fn detach(claim: &Claim) -> Result<(), MountError> {
    const TRIES: usize = 5;
    let mut tries = 0;
    loop {
        tries += 1;
        match host::mount::detach(claim.device(), Detach::Now) {
            Err(MountError::NotMounted(_)) => return Ok(()),
            Err(MountError::Busy(_)) if tries < TRIES => {
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}

fn how_it_ended(child: &mut Child) -> String {
    use std::os::unix::process::ExitStatusExt;
    match wait_at_most(child, Duration::from_secs(2)) {
        Some(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("killed by signal {signal}"),
            (None, code) => format!("ended with status {}", code.unwrap_or(-1)),
        },
        None => "it hangs".into(),
    }
}

fn wait_at_most(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
            _ => return None,
        }
    }
}

/// The last records, and nothing left behind.
fn finish(
    end: End,
    mut child: Child,
    reports: JoinHandle<Recorder>,
    claim: Claim,
    shared: &Shared,
) -> Result<(), Failure> {
    manager::stopping();
    if wait_at_most(&mut child, GRACE).is_none() {
        stop(&mut child);
    }
    let myself = host::process::facts(std::process::id())
        .map(|facts| facts.task)
        .map_err(|error| cannot("see myself in /proc", error))?;
    let mut recorder = reports
        .join()
        .map_err(|_| Failure::new(Kind::Io, "the thread that records has panicked"))?;
    match end {
        End::Unmounted(asked) => {
            let (caller, stream) = match asked {
                Asked::By(caller, stream) => (caller, stream),
                Asked::Nobody => (myself, None),
            };
            recorder.closed(&caller, shared.status().counts);
            let done = recorder.close().and_then(|()| claim.give_back());
            if let Some(stream) = stream {
                let said = match &done {
                    Ok(()) => Answer::Closed,
                    Err(failure) => Answer::Failed(failure.to_string()),
                };
                answer(&stream, &said);
                // Whoever asked waits until it is closed, which is to be when this process ends.
                let _ = stream.into_raw_fd();
            }
            done
        }
        End::Died(reason) => {
            recorder.failed(&myself, &reason);
            let status = {
                let mut status = shared.status();
                status.facts.state = State::Dead;
                status.ended = Some(reason.clone());
                status.clone()
            };
            // Only what is durable is noted: to whoever finds no note, there is a gap.
            let noted = recorder.close().and_then(|()| {
                claim.note(&status).map_err(|e| cannot("note the state of the device", e))
            });
            claim.leave();
            noted?;
            Err(Failure::new(Kind::Io, format!("the server of the device: {reason}")))
        }
    }
}

fn cannot(what: &str, error: io::Error) -> Failure {
    Failure::new(Kind::Io, format!("cannot {what}")).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(control: Channel) -> Shared {
        control.set_patience(Duration::from_millis(50)).unwrap();
        let status = serde_json::json!({
            "name": "v", "path": "", "state": "active", "backend": "user", "corrupted": false,
            "hash_type": 1, "data_block_size": 4096, "hash_block_size": 4096,
            "algorithm": "sha256", "salt": "", "data_device": "", "data_blocks": 1, "size": 8,
            "hash_device": "", "hash_offset": 0, "root_hash": "", "flags": [], "trail": "",
            "pid": 1, "volume_pid": 1, "opened": 0,
        });
        let status = Status::parse(status.to_string().as_bytes()).unwrap();
        Shared { status: Mutex::new(status), control: Mutex::new((control, 0)) }
    }

    fn reply(volume: &Channel, asked: u64, reads: u64) {
        let counts = Counts { reads, ..Counts::default() };
        volume.send(&serde_json::to_vec(&Counted { asked, counts }).unwrap(), &[]).unwrap();
    }

    /// What was asked for in vain comes all the same when the volume goes on: it is not the answer
    /// to a later question.
    #[test]
    fn an_answer_that_comes_late_is_not_taken_for_another() {
        let (control, volume) = Channel::pair().unwrap();
        let shared = shared(control);
        assert_eq!(shared.ask_volume(), None);
        reply(&volume, 1, 10);
        reply(&volume, 2, 20);
        assert_eq!(shared.ask_volume().unwrap().reads, 20);
        volume.send(b"no answer at all", &[]).unwrap();
        assert_eq!(shared.ask_volume(), None);
    }

    /// Nobody who asks, and no close, waits for a volume that does not even read.
    #[test]
    fn a_volume_that_never_reads_holds_nobody_up() {
        let (control, _volume) = Channel::pair().unwrap();
        let shared = shared(control);
        let full = |shared: &Shared| {
            let control = shared.control.lock().unwrap();
            (0..100_000).any(|_| control.0.send(b"7", &[]).is_err())
        };
        assert!(full(&shared));
        let began = Instant::now();
        assert_eq!(shared.ask_volume(), None);
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}
