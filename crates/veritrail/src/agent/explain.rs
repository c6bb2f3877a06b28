//! Workers that find out what lies at a place: they read disks' maps and other processes' mounts, which
//! takes its time and is nothing for the decision loop.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::devices::{About, DeviceNumber, Subject};
use host::block_device;
use record::write::Body;
use trail::Class;

use super::inbox::Inbox;
use super::journal::OwnRecord;
use super::sources::Input;
use crate::place::{self, Explainer, Explanation, Limits};
use crate::verbs::device::Shown;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// Beside which event the answer goes.
    pub(super) about: About,
    pub(super) subject: Subject,
    /// Which life of its device is meant: until the answer, the number may have become another's.
    life: Option<u64>,
    /// When asking again and again ends; none where it was not asked yet.
    pub(super) give_up: Option<Duration>,
}

impl Job {
    /// What lies there now?
    pub(super) fn new(about: About, subject: Subject) -> Job {
        let life = life(&subject);
        Job { about, subject, life, give_up: None }
    }
}

fn life(subject: &Subject) -> Option<u64> {
    block_device::life(device(subject)?)
}

/// The device that it lies on, as long as that is there.
fn device(subject: &Subject) -> Option<DeviceNumber> {
    match subject {
        Subject::Bytes { mapped, .. } => Some(*mapped),
        Subject::Inode { fs, .. } => block_device::named(fs).ok(),
    }
}

/// What a worker is to do.
#[derive(Debug)]
enum Task {
    Explain(Job),
    /// List the files of what is mounted read-only from these devices, before one of them is hit.
    Prepare(Vec<DeviceNumber>),
}

/// An answer.
#[derive(Debug)]
pub(super) struct Explained {
    pub(super) job: Job,
    pub(super) records: Vec<OwnRecord>,
    /// The file that was hit, for people.
    pub(super) file: Option<String>,
    /// Mount namespaces other than ours in which it is mounted, by inode number.
    pub(super) namespaces: Vec<u32>,
    /// Whether more can be told when it is asked again.
    pub(super) is_pending: bool,
}

/// Questions that wait at most; a flood of violations on one device needs one walk, not a thousand.
const MOST_JOBS: usize = 1024;

/// Workers: one device that does not answer must not keep the others.
const WORKERS: usize = 2;

/// How long a worker looks before it says what it has: the answer is to stand beside its event within a
/// second.
const BUDGET: Duration = Duration::from_millis(700);

/// A worker that has no answer for so long has met a disk or a server that gives none: another one takes
/// its place, as long as there are not too many of them.
const STUCK: Duration = Duration::from_secs(10);
const MOST_WORKERS: usize = 16;

/// How a task is done; some have no answer.
type Answer = dyn Fn(Task) -> Option<Explained> + Send + Sync;

/// The workers.
pub(super) struct Explainers {
    jobs: SyncSender<Task>,
    waiting: Arc<Mutex<Receiver<Task>>>,
    inbox: Arc<Inbox<Input>>,
    answer: Arc<Answer>,
    workers: Vec<Worker>,
    stuck: Duration,
    lost: u64,
}

struct Worker {
    /// Since when it has been looking for its answer.
    busy: Arc<Mutex<Option<Instant>>>,
    /// It is not counted on any more.
    given_up: bool,
}

impl Explainers {
    /// Starts them.
    pub(super) fn start(inbox: &Arc<Inbox<Input>>) -> io::Result<Explainers> {
        let explainer = Explainer::new(Limits::default());
        Self::answering(
            inbox,
            STUCK,
            Arc::new(move |task| match task {
                Task::Explain(job) => Some(explain(job, &explainer)),
                Task::Prepare(devices) => {
                    explainer.prepare(&devices);
                    None
                }
            }),
        )
    }

    fn answering(
        inbox: &Arc<Inbox<Input>>,
        stuck: Duration,
        answer: Arc<Answer>,
    ) -> io::Result<Explainers> {
        let (jobs, waiting) = sync_channel(MOST_JOBS);
        let (waiting, inbox) = (Arc::new(Mutex::new(waiting)), Arc::clone(inbox));
        let mut explainers =
            Explainers { jobs, waiting, inbox, answer, workers: Vec::new(), stuck, lost: 0 };
        for _ in 0..WORKERS {
            explainers.add_worker()?;
        }
        Ok(explainers)
    }

    fn add_worker(&mut self) -> io::Result<()> {
        let (waiting, inbox) = (Arc::clone(&self.waiting), Arc::clone(&self.inbox));
        let (answer, busy) = (Arc::clone(&self.answer), Arc::default());
        let worker = Worker { busy: Arc::clone(&busy), given_up: false };
        std::thread::Builder::new()
            .name("explain".into())
            .spawn(move || work(&waiting, &*answer, &inbox, &busy))?;
        self.workers.push(worker);
        Ok(())
    }

    /// Asks; false where too many questions wait.
    pub(super) fn ask(&mut self, job: Job) -> bool {
        let taken = self.jobs.try_send(Task::Explain(job)).is_ok();
        self.lost += u64::from(!taken);
        taken
    }

    /// Has the files of these devices listed; where too much waits, they are listed when they are asked
    /// for.
    pub(super) fn prepare(&self, devices: Vec<DeviceNumber>) {
        let _ = self.jobs.try_send(Task::Prepare(devices));
    }

    /// Questions that were not taken or got no answer in time, since this was last asked; often.
    pub(super) fn take_lost(&mut self) -> u64 {
        self.relieve();
        std::mem::take(&mut self.lost)
    }

    fn relieve(&mut self) {
        let mut relieved = 0;
        for worker in &mut self.workers {
            let is_stuck = lock(&worker.busy).is_some_and(|since| since.elapsed() >= self.stuck);
            if is_stuck && !worker.given_up {
                relieved += 1;
            }
            worker.given_up = is_stuck;
        }
        self.lost += relieved;
        let able = self.workers.iter().filter(|worker| !worker.given_up).count();
        for _ in able..WORKERS {
            // Where there is no thread to be had now, there may be one the next time.
            if self.workers.len() >= MOST_WORKERS || self.add_worker().is_err() {
                return;
            }
        }
    }
}

fn work(
    jobs: &Mutex<Receiver<Task>>,
    answer: &Answer,
    inbox: &Inbox<Input>,
    busy: &Mutex<Option<Instant>>,
) {
    loop {
        let task = lock(jobs).recv();
        let Ok(task) = task else { return };
        *lock(busy) = Some(Instant::now());
        let explained = answer(task);
        *lock(busy) = None;
        let Some(explained) = explained else { continue };
        let body = |OwnRecord(_, body): &OwnRecord| body.as_bytes().len() + size_of::<OwnRecord>();
        let bytes = explained.records.iter().map(body).sum();
        inbox.offer(Class::Integrity, bytes, Input::Explained(explained));
    }
}

/// What stands behind one of these is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn explain(job: Job, explainer: &Explainer) -> Explained {
    let found = device(&job.subject).map(|device| match &job.subject {
        Subject::Bytes { bytes, .. } => {
            explainer.explain(&place::Subject::Device(device), bytes, BUDGET)
        }
        Subject::Inode { inode, .. } => explainer.explain_inode(device, *inode, BUDGET),
    });
    // Asked afterwards: it was the same all the time.
    let Some(found) = found.filter(|_| life(&job.subject) == job.life) else {
        let records = vec![gone(&job.subject)];
        return Explained { job, records, file: None, namespaces: Vec::new(), is_pending: false };
    };
    let records = place::record::records(&found);
    let records = records.into_iter().map(|(kind, body)| OwnRecord(kind, body)).collect();
    let (file, namespaces) = (file(&found), namespaces(&found));
    Explained { records, file, namespaces, is_pending: found.is_pending, job }
}

fn namespaces(found: &Explanation) -> Vec<u32> {
    let mounts = found.hits.iter().flat_map(|hit| &hit.mounts).filter(|mount| !mount.is_ours);
    let all: BTreeSet<u32> = mounts.filter_map(|mount| mount.namespace.try_into().ok()).collect();
    all.into_iter().collect()
}

fn gone(subject: &Subject) -> OwnRecord {
    let body = match subject {
        Subject::Bytes { mapped: (major, minor), bytes } => Body::new()
            .word("dev", format_args!("{major}:{minor}"))
            .word("use", "unknown")
            .word("bytes", format_args!("{}-{}", bytes.start, bytes.end.saturating_sub(1))),
        Subject::Inode { fs, inode } => {
            Body::new().untrusted("fs_name", fs).word("use", "file").word("inode", inode)
        }
    };
    OwnRecord("VT_FILE", body.phrase("reason", "the device went before it could be looked at"))
}

/// The first file that was hit, as it is seen through a mount where it is mounted.
fn file(found: &Explanation) -> Option<String> {
    found.hits.iter().find_map(|hit| {
        let path = hit.uses.iter().find_map(|one| one.what.path())?;
        let seen = hit.mounts.iter().find_map(|mount| mount.path_of(path));
        let shown = seen.unwrap_or_else(|| path.to_vec());
        Some(Shown(&shown).to_string())
    })
}

#[cfg(test)]
mod tests {
    use record::EventId;

    use super::*;

    #[test]
    fn who_waits_for_ever_keeps_nobody_else() {
        let inbox = Arc::new(Inbox::new(1 << 20));
        let (hold, held) = sync_channel::<()>(0);
        let held = Mutex::new(held);
        let answer = move |task: Task| {
            let Task::Explain(job) = task else { return None };
            if let Subject::Inode { inode: 0, .. } = job.subject {
                let _ = lock(&held).recv();
            }
            let (records, namespaces) = (Vec::new(), Vec::new());
            Some(Explained { job, records, file: None, namespaces, is_pending: false })
        };
        let stuck = Duration::from_millis(50);
        let mut explainers = Explainers::answering(&inbox, stuck, Arc::new(answer)).unwrap();
        let about = About::Event(EventId { millis: 1000, serial: 2 });
        let job = |inode| Job::new(about, Subject::Inode { fs: b"sda".to_vec(), inode });
        // More than there are workers, and then one that can be answered.
        for inode in [0, 0, 0, 7] {
            assert!(explainers.ask(job(inode)));
        }
        let began = Instant::now();
        let mut lost = 0;
        let explained = loop {
            assert!(began.elapsed() < Duration::from_secs(20), "nobody answers");
            lost += explainers.take_lost();
            if let Some(input) = inbox.take(Duration::from_millis(20)) {
                break input;
            }
        };
        let Input::Explained(explained) = explained else { panic!("{explained:?}") };
        assert_eq!(explained.job, job(7));
        assert!((2..=3).contains(&lost), "{lost}");
        for _ in 0..1000 {
            explainers.ask(job(0));
            explainers.take_lost();
            if explainers.workers.len() == MOST_WORKERS {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(explainers.workers.len(), MOST_WORKERS);
        std::thread::sleep(2 * stuck);
        explainers.take_lost();
        assert_eq!(explainers.workers.len(), MOST_WORKERS, "there is an end to it");
        drop(hold);
    }

    #[test]
    fn a_name_gives_no_orders_to_a_terminal() {
        let path = Some(b"/a\x1b]0;b\x07".to_vec());
        let what = place::What::File { inode: 1, path, offset: None, links: 1 };
        let hit = place::Hit {
            stack: Vec::new(),
            device: (7, 0),
            fs_type: b"ext4".to_vec(),
            bytes: 0..1,
            uses: vec![place::Use { bytes: 0..1, what }],
            more_uses: 0,
            mounts: Vec::new(),
            notes: Vec::new(),
        };
        let found = Explanation { hits: vec![hit], ..Explanation::default() };
        assert_eq!(file(&found).as_deref(), Some("/a\\u{1b}]0;b\\u{7}"));
    }

    #[test]
    fn a_number_that_became_another_devices_names_no_file_of_that() {
        let device =
            block_device::all().unwrap().into_iter().find(|n| block_device::life(*n).is_some());
        let Some(device) = device else {
            eprintln!("SKIPPED: a_number_that_became_another_devices: no device with a diskseq");
            return;
        };
        let about = About::Event(EventId { millis: 1000, serial: 2 });
        let subject = Subject::Bytes { mapped: device, bytes: 4096..8192 };
        let explainer = Explainer::new(Limits::default());
        let job = Job::new(about, subject);
        let before = Job { life: job.life.map(|life| life.wrapping_sub(1)), ..job.clone() };
        let explained = explain(before, &explainer);
        let text = |one: &OwnRecord| one.1.as_bytes().escape_ascii().to_string();
        let texts: Vec<String> = explained.records.iter().map(text).collect();
        let [one] = &texts[..] else { panic!("{texts:?}") };
        assert!(one.contains("use=unknown bytes=4096-8191 reason="), "{one}");
        assert!(explained.file.is_none() && !explained.is_pending);
        let explained = explain(job, &explainer);
        assert!(!explained.records.iter().any(|one| text(one).contains("went before")));
    }

    #[test]
    fn the_name_of_no_device_is_told_as_gone() {
        let about = About::Event(EventId { millis: 1000, serial: 2 });
        let subject = Subject::Inode { fs: b"../loop0".to_vec(), inode: 12 };
        let explained = explain(Job::new(about, subject), &Explainer::new(Limits::default()));
        let [OwnRecord("VT_FILE", body)] = &explained.records[..] else { panic!("{explained:?}") };
        let text = body.as_bytes().escape_ascii().to_string();
        assert!(
            text.contains("use=file inode=12 reason=") && text.contains("the device went"),
            "{text}"
        );
    }
}
