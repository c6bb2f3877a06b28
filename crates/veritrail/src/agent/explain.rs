//! Workers that find out what lies at a place: they read disks' maps and other processes' mounts, which
//! takes its time and is nothing for the decision loop.

use std::io;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::devices::{About, Subject};
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
    match subject {
        Subject::Bytes { mapped, .. } => block_device::life(*mapped),
        Subject::Inode { .. } => None,
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Explained {
    pub(super) job: Job,
    pub(super) records: Vec<OwnRecord>,
    /// The file that was hit, for people.
    pub(super) file: Option<String>,
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

/// The workers.
#[derive(Debug)]
pub(super) struct Explainers {
    jobs: SyncSender<Job>,
    lost: u64,
}

impl Explainers {
    /// Starts them.
    pub(super) fn start(inbox: &Arc<Inbox<Input>>) -> io::Result<Explainers> {
        let (jobs, receiver) = sync_channel(MOST_JOBS);
        let receiver = Arc::new(Mutex::new(receiver));
        let explainer = Arc::new(Explainer::new(Limits::default()));
        for _ in 0..WORKERS {
            let (receiver, inbox) = (Arc::clone(&receiver), Arc::clone(inbox));
            let explainer = Arc::clone(&explainer);
            std::thread::Builder::new()
                .name("explain".into())
                .spawn(move || work(&receiver, &explainer, &inbox))?;
        }
        Ok(Explainers { jobs, lost: 0 })
    }

    /// Asks; false where too many questions wait.
    pub(super) fn ask(&mut self, job: Job) -> bool {
        let taken = self.jobs.try_send(job).is_ok();
        self.lost += u64::from(!taken);
        taken
    }

    /// Questions that were not taken, since this was last asked.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, explainer: &Explainer, inbox: &Inbox<Input>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let explained = explain(job, explainer);
        let body = |OwnRecord(_, body): &OwnRecord| body.as_bytes().len() + size_of::<OwnRecord>();
        let bytes = explained.records.iter().map(body).sum();
        inbox.offer(Class::Integrity, bytes, Input::Explained(explained));
    }
}

fn explain(job: Job, explainer: &Explainer) -> Explained {
    let Subject::Bytes { mapped, bytes } = &job.subject else {
        // The kernel's own line has the inode; its file system is not known by a number.
        return Explained { job, records: Vec::new(), file: None, is_pending: false };
    };
    let found = explainer.explain(&place::Subject::Device(*mapped), bytes, BUDGET);
    // Asked afterwards: it was the same all the time.
    if life(&job.subject) != job.life {
        let records = vec![another(*mapped, bytes)];
        return Explained { job, records, file: None, is_pending: false };
    }
    let records = place::record::records(&found);
    let records = records.into_iter().map(|(kind, body)| OwnRecord(kind, body)).collect();
    Explained { records, file: file(&found), is_pending: found.is_pending, job }
}

fn another((major, minor): (u32, u32), bytes: &Range<u64>) -> OwnRecord {
    let body = Body::new()
        .word("dev", format_args!("{major}:{minor}"))
        .word("use", "unknown")
        .word("bytes", format_args!("{}-{}", bytes.start, bytes.end.saturating_sub(1)))
        .phrase("reason", "the device went before it could be looked at");
    OwnRecord("VT_FILE", body)
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
}
