//! Who reads, looked at while he waits for his answer: the process, and the container that it is in.

use std::path::{Path, PathBuf};

use engine::containers::{Confidence, Labelled};
use host::bpf::{Label, Labels};
use host::process::{self, Facts};
use host::target::Target;
use record::task::Task;
use record::units::ContId;

use super::wire::Report;
use crate::agent::TICK_NS;
use crate::clock;
use crate::run_dir;

/// A request that waits for longer may be of somebody who has ended: what is read ahead has nobody who waits for it.
const PROMPT_NS: u64 = 1_000_000_000;

/// Whoever is answered, as far as he was seen.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) task: Option<Task>,
    pub(super) container: Option<(ContId, Confidence)>,
}

impl Reader {
    /// The records that name his container.
    pub(super) fn labelled(&self) -> Option<Labelled> {
        self.container.and_then(|(contid, confidence)| Labelled::of_reader(contid, confidence))
    }
}

/// Looks at readers.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    run_dir: PathBuf,
}

impl Readers {
    /// Containers are those of the agent of this run directory: the kernel keeps the labels, whether it lives or not.
    pub(super) fn new(run_dir: &Path) -> Readers {
        Readers { run_dir: run_dir.to_owned() }
    }

    /// A number that was taken over by somebody else meanwhile is nobody's.
    pub(super) fn look(&self, report: &Report) -> Reader {
        let now = clock::now().boottime_ns;
        let waited_ns = report.waited_us.saturating_mul(1000);
        // As long as it is open, its number is its own.
        let target = Target::open(report.tid).ok();
        let Some(facts) = process::facts(report.tid).ok().filter(|facts| {
            let began = facts.start_time.saturating_mul(TICK_NS);
            let is_his = (facts.task.fsuid, facts.task.fsgid) == (report.uid, report.gid);
            is_his && began <= now.saturating_sub(waited_ns)
        }) else {
            return Reader::default();
        };
        let label = target.and_then(|target| label(&self.labels()?, &target, &facts));
        let confidence = match waited_ns {
            ..=PROMPT_NS => Confidence::Certain,
            _ => Confidence::Late,
        };
        let container = label.map(|label| (ContId(label.contid), confidence));
        Reader { task: Some(facts.task), container }
    }

    /// The container that this process is in now.
    pub(super) fn container_of(&self, pid: u32) -> Option<ContId> {
        let target = Target::open(pid).ok()?;
        let facts = process::facts(pid).ok()?;
        label(&self.labels()?, &target, &facts).map(|label| ContId(label.contid))
    }

    /// Opened anew each time: the next agent may have others.
    fn labels(&self) -> Option<Labels> {
        host::bpf::pinned(&run_dir::pins(&self.run_dir)?).ok().flatten()
    }
}

/// The label of the process that the facts are of.
fn label(labels: &Labels, target: &Target, facts: &Facts) -> Option<Label> {
    let label = labels.get(target).ok().flatten()?;
    let again = Target::open(facts.tid).ok()?;
    let of = |target: &Target| (target.tgid(), target.start_time());
    let is_same = of(target) == of(&again) && target.tgid() == facts.task.pid;
    is_same.then_some(label)
}

#[cfg(test)]
mod tests {
    use super::super::wire::What;
    use super::*;

    fn report(tid: u32, waited_us: u64) -> Report {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let what = What::Io { role: super::super::wire::Role::Data, offset: 0, errno: 5 };
        Report { tid, uid, gid, waited_us, what }
    }

    #[test]
    fn who_cannot_have_asked_is_nobody() {
        let readers = Readers::new(Path::new("/nowhere"));
        let tid = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        let seen = readers.look(&report(tid, 0));
        assert_eq!(seen.task.unwrap().pid, std::process::id());
        assert_eq!(seen.container, None, "nobody labels below that run directory");
        // Others have the number now: who began after the request came, who has other rights.
        let since_boot = clock::now().boottime_ns / 1000;
        let other = Report { uid: 4242, ..report(tid, 0) };
        for report in [report(tid, since_boot), report(tid, u64::MAX), other, report(0, 0)] {
            let seen = readers.look(&report);
            assert!(seen.task.is_none() && seen.container.is_none(), "{report:?}");
        }
    }
}
