//! What lies at a bad block of a device: which file, and where it is mounted. A thread finds it out, as walking a file
//! system takes its time, and the reader does not wait for it: it is an event of its own, behind the violation's.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel,
};
use std::time::{Duration, Instant};

use engine::containers::{Confidence, Labelled};
use record::units::{ContId, DataBlock};
use record::write::Body;

use super::reader::Readers;
use crate::place::{self, Explainer, Explanation, Limits, Subject};

/// Questions that wait at most.
const MOST_JOBS: usize = 64;

/// What was asked is asked again only after so long: readers try again and again.
const AGAIN: Duration = Duration::from_secs(60);

/// So many questions are remembered for that.
const MOST_ASKED: usize = 1024;

/// How long the thread looks for one answer; nobody waits for it.
const BUDGET: Duration = Duration::from_secs(20);

/// Where a block is no mount's it is looked at once more after so long: whoever mounts reads ahead before the mount is
/// there.
const LATER: Duration = Duration::from_millis(500);

/// Between two looks for an answer that is on its way.
const LOOK: Duration = Duration::from_millis(20);

/// A question.
#[derive(Debug)]
struct Job {
    bytes: Range<u64>,
    /// The record of the place.
    place: Body,
    container: Option<(ContId, Confidence)>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Explained {
    /// VT_PLACE, and behind it what lies there; nothing else where that is not in use.
    pub(super) records: Vec<(&'static str, Body)>,
    /// Whose it is.
    pub(super) labelled: Option<Labelled>,
}

/// The thread, and what it was asked.
#[derive(Debug)]
pub(super) struct Explaining {
    jobs: SyncSender<Job>,
    answers: Receiver<Option<Explained>>,
    /// Answers that are still to come.
    open: usize,
    asked: BTreeMap<(DataBlock, Option<ContId>), Instant>,
    lost: u64,
}

impl Explaining {
    /// For the device that is this file.
    pub(super) fn start(device: &Path, readers: Readers) -> Explaining {
        let (jobs, waiting) = sync_channel::<Job>(MOST_JOBS);
        let (answer, answers) = channel();
        let path = device.as_os_str().as_bytes().to_vec();
        // Its identity would be asked of our own server.
        let subject = Subject::File { path, identity: None };
        // Without a thread every question is counted as lost.
        let _ = std::thread::Builder::new().name("explain".into()).spawn(move || {
            let explainer = Explainer::new(Limits::default());
            let mut later = VecDeque::new();
            while let Some((job, last)) = next(&waiting, &mut later) {
                let found = explain(&explainer, &subject, &job.bytes);
                let answered = match found.hits.is_empty() {
                    false => answer.send(Some(told(&found, job, &readers))),
                    true if last || later.len() >= MOST_JOBS => answer.send(None),
                    true => {
                        later.push_back((Instant::now() + LATER, job));
                        Ok(())
                    }
                };
                if answered.is_err() {
                    return;
                }
            }
        });
        Explaining { jobs, answers, open: 0, asked: BTreeMap::new(), lost: 0 }
    }

    /// Asks what these bytes, of this block, are.
    pub(super) fn ask(
        &mut self,
        block: DataBlock,
        bytes: Range<u64>,
        place: Body,
        container: Option<(ContId, Confidence)>,
    ) {
        let key = (block, container.map(|(contid, _)| contid));
        let now = Instant::now();
        let is_fresh = |asked: &Instant| now.duration_since(*asked) < AGAIN;
        if self.asked.get(&key).is_some_and(is_fresh) {
            return;
        }
        match self.jobs.try_send(Job { bytes, place, container }) {
            Ok(()) => {
                self.open += 1;
                if self.asked.len() >= MOST_ASKED {
                    self.asked.retain(|_, asked| is_fresh(asked));
                }
                if self.asked.len() < MOST_ASKED {
                    self.asked.insert(key, now);
                }
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.lost += 1,
        }
    }

    /// An answer that has come.
    pub(super) fn answer(&mut self) -> Option<Explained> {
        while let Ok(answer) = self.answers.try_recv() {
            self.open = self.open.saturating_sub(1);
            if answer.is_some() {
                return answer;
            }
        }
        None
    }

    /// In how long to look for one; none where none is to come.
    pub(super) fn due(&self) -> Option<Duration> {
        (self.open > 0).then_some(LOOK)
    }

    /// Questions that were not taken since this was last asked, once there is room again.
    pub(super) fn take_lost(&mut self) -> u64 {
        if self.open < MOST_JOBS { std::mem::take(&mut self.lost) } else { 0 }
    }
}

/// The next question, and whether it is asked for the last time; none where nobody asks any more.
fn next(waiting: &Receiver<Job>, later: &mut VecDeque<(Instant, Job)>) -> Option<(Job, bool)> {
    let due = later.front().map(|(due, _)| due.saturating_duration_since(Instant::now()));
    match due.map_or_else(|| waiting.recv().map_err(Into::into), |due| waiting.recv_timeout(due)) {
        Ok(job) => Some((job, false)),
        Err(RecvTimeoutError::Timeout) => later.pop_front().map(|(_, job)| (job, true)),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

/// Waits for the look at the files to end, and not for ever.
fn explain(explainer: &Explainer, subject: &Subject, bytes: &Range<u64>) -> Explanation {
    let until = Instant::now() + BUDGET;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let found = explainer.explain(subject, bytes, left);
        if !found.is_pending || left.is_zero() {
            return found;
        }
        std::thread::sleep(LOOK);
    }
}

/// The records of what was found. Beside a mount in another namespace than ours stands whose that is; where the
/// reader is nobody's - a thread of the kernel, as through a loop device - those are who use the device.
fn told(found: &Explanation, Job { place, container, .. }: Job, readers: &Readers) -> Explained {
    let mut records = vec![("VT_PLACE", place)];
    let mut users = Vec::new();
    records.extend(place::record::records(found));
    let mounts = found.hits.iter().flat_map(|hit| &hit.mounts);
    let of_mounts = records.iter_mut().filter(|(kind, _)| *kind == "VT_MOUNT");
    for ((_, body), mount) in of_mounts.zip(mounts) {
        if mount.is_ours {
            continue;
        }
        let Some(contid) = readers.container_of(mount.pid) else { continue };
        *body = std::mem::take(body).word("contid", contid);
        if !users.contains(&contid) {
            users.push(contid);
        }
    }
    let labelled = match container {
        Some((contid, confidence)) => Labelled::of_reader(contid, confidence),
        None => Labelled::of_device(&users, Confidence::Inferred, &|_| None),
    };
    Explained { records, labelled }
}
