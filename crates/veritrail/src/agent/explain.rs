//! Workers that find out what lies at a place: they read disks' maps and other processes' mounts, which
//! takes its time and is nothing for the decision loop.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::devices::{About, Subject};

use super::inbox::Inbox;
use super::journal::OwnRecord;
use super::sources::Input;
use crate::place::{self, Explainer, Explanation, Limits};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// Beside which event the answer goes.
    pub(super) about: About,
    pub(super) subject: Subject,
    /// When asking again and again ends; none where it was not asked yet.
    pub(super) give_up: Option<Duration>,
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
        inbox.put(Input::Explained(explain(job, explainer)));
    }
}

fn explain(job: Job, explainer: &Explainer) -> Explained {
    let Subject::Bytes { mapped, bytes } = &job.subject else {
        // The kernel's own line has the inode; its file system is not known by a number.
        return Explained { job, records: Vec::new(), file: None, is_pending: false };
    };
    let found = explainer.explain(&place::Subject::Device(*mapped), bytes, BUDGET);
    let records = place::record::records(&found);
    let records = records.into_iter().map(|(kind, body)| OwnRecord(kind, body)).collect();
    Explained { records, file: file(&found), is_pending: found.is_pending, job }
}

/// The first file that was hit, as it is seen through a mount where it is mounted.
fn file(found: &Explanation) -> Option<String> {
    found.hits.iter().find_map(|hit| {
        let path = hit.uses.iter().find_map(|one| one.what.path())?;
        let seen = hit.mounts.iter().find_map(|mount| mount.path_of(path));
        let shown = seen.unwrap_or_else(|| path.to_vec());
        Some(String::from_utf8_lossy(&shown).into_owned())
    })
}
