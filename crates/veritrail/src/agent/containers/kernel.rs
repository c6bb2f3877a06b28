//! Labels as the kernel has them, and the facts that a judgement needs: each read when it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use engine::containers::{Again, Caller, NotStored, ReqId, Target as Looked};
use engine::tasks::{Label, ProcessId};
use host::bpf::{Label as Borne, Labels};
use host::process;
use host::target::{Target, may_control_audit};
use record::units::ContId;
use rustix::io::Errno;

use super::super::tasks::{TICK_NS, listed_one};
use super::groups::group_of;

/// The labels, and the tasks that requests under way are about.
#[derive(Debug)]
pub(super) struct Kernel {
    labels: Option<Labels>,
    /// When the task of a request started, in clock ticks since boot.
    meant: BTreeMap<ReqId, u64>,
    targets: BTreeMap<ReqId, Target>,
}

impl Kernel {
    pub(super) fn new(labels: Option<Labels>) -> Kernel {
        Kernel { labels, meant: BTreeMap::new(), targets: BTreeMap::new() }
    }

    pub(super) fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref()
    }

    pub(super) fn can_label(&self) -> bool {
        self.labels.is_some()
    }

    /// The request is about the task that started then; none: it had gone before it was asked about.
    pub(super) fn mean(&mut self, req: ReqId, started: Option<u64>) {
        self.meant.extend(started.map(|started| (req, started)));
    }

    /// How the task stands. It is held until the request is answered.
    pub(super) fn look(&mut self, req: ReqId, tid: u32) -> Looked {
        let Some(meant) = self.meant.get(&req) else { return Looked::Gone };
        // What cannot be looked at has gone: /proc hides nothing from us.
        let Ok((target, looked)) = self.read(tid) else { return Looked::Gone };
        // As it is the one that was meant now, it was then.
        if process::start_time(tid).ok() != Some(*meant) {
            return Looked::Gone;
        }
        self.targets.insert(req, target);
        looked
    }

    fn read(&self, tid: u32) -> io::Result<(Target, Looked)> {
        let gone = || io::Error::from(Errno::SRCH);
        let target = Target::open(tid)?;
        let pid = target.tgid();
        let mut seen = listed_one(pid).ok_or_else(gone)?;
        seen.image.cgroup = cgroup(pid).unwrap_or(0);
        let id = ProcessId { pid, start_ns: target.start_time().saturating_mul(TICK_NS) };
        let looked = Looked::Alive {
            id,
            children: !target.children()?.is_empty(),
            single_threaded: target.threads()? == 1,
            leader: target.is_leader(),
            label: self.label(&target)?,
            image: Box::new(seen.image),
            group: group_of(&target),
        };
        if target.is_alive()? { Ok((target, looked)) } else { Err(gone()) }
    }

    fn label(&self, target: &Target) -> io::Result<Label> {
        let Some(labels) = &self.labels else { return Ok(Label::UNSET) };
        Ok(labels.get(target)?.map_or(Label::UNSET, told))
    }

    pub(super) fn store(&self, req: ReqId, label: Label, old: ContId) -> Result<(), NotStored> {
        let (Some(labels), Some(target)) = (&self.labels, self.targets.get(&req)) else {
            return Err(NotStored::Failed);
        };
        let Label { contid, generation } = label;
        let borne = Borne { contid: contid.0, old: old.0, generation };
        labels.set(target, borne).and_then(|()| label_threads(labels, target, borne)).map_err(
            |error| match Errno::from_io_error(&error) {
                Some(Errno::SRCH) => NotStored::Gone,
                Some(Errno::NOMEM) => NotStored::NoRoom,
                _ => NotStored::Failed,
            },
        )
    }

    /// Whether the target lives still, and has a child that does not bear this generation.
    pub(super) fn look_again(&self, req: ReqId, generation: u64) -> Again {
        let Some(target) = self.targets.get(&req) else { return Again::Gone };
        // Children that are gone were waited for by the target; nobody is left to belong anywhere.
        let others = target.children().map(|children| {
            let bears = |pid: u32| {
                let label = Target::open(pid).and_then(|child| self.label(&child));
                match label {
                    Ok(label) => label.generation == generation,
                    // It is gone. What cannot be told counts as another.
                    Err(error) => Errno::from_io_error(&error) == Some(Errno::SRCH),
                }
            };
            !children.into_iter().all(bears)
        });
        match (others, target.is_alive()) {
            (Ok(has_other_children), Ok(true)) => Again::Alive { has_other_children },
            _ => Again::Gone,
        }
    }

    /// Takes a set back. The kernel does it at once for whoever bears it.
    pub(super) fn abort(&self, generation: u64) {
        if let Some(labels) = &self.labels {
            // It fails for no reason that a kernel has.
            let _ = labels.abort(generation);
        }
    }

    /// The request is answered.
    pub(super) fn release(&mut self, req: ReqId) {
        self.meant.remove(&req);
        self.targets.remove(&req);
    }

    /// Whose request it is; `asked_ns` is when it was taken. Whoever has the number and began later
    /// is somebody else, and may nothing. `container_of` is the container of a label as it counts now.
    pub(super) fn caller(
        &self,
        tid: u32,
        asked_ns: u64,
        container_of: impl FnOnce(Label) -> ContId,
    ) -> Caller {
        let nobody = Caller {
            pid: 0,
            capable: false,
            auid: u32::MAX,
            uid: u32::MAX,
            tty: None,
            ses: u32::MAX,
            subj: None,
            comm: Vec::new(),
            exe: None,
            contid: ContId::UNSET,
        };
        let Ok(facts) = process::facts(tid) else { return nobody };
        if facts.start_time.saturating_mul(TICK_NS) > asked_ns {
            return nobody;
        }
        let contid = Target::open(tid).and_then(|target| self.label(&target));
        Caller {
            pid: facts.task.pid,
            capable: may_control_audit(tid).unwrap_or(false),
            auid: facts.task.auid,
            uid: facts.task.uid,
            tty: facts.task.tty,
            ses: facts.task.ses,
            subj: security_label(tid),
            comm: facts.task.comm,
            exe: facts.task.exe,
            contid: contid.map_or(ContId::UNSET, container_of),
        }
    }
}

/// Labels the other threads of a process, those too that begin meanwhile. A kernel before 6.9 has no
/// descriptor of a thread: there a runtime has to run the container's program by its first one, as runc
/// does.
pub(super) fn label_threads(labels: &Labels, target: &Target, label: Borne) -> io::Result<()> {
    let mut done = BTreeSet::from([target.tgid()]);
    loop {
        let threads = target.thread_ids()?;
        let new: Vec<u32> = threads.into_iter().filter(|tid| done.insert(*tid)).collect();
        // Those that began since have it of the ones that did: a process cannot keep us here.
        let mut lacked = false;
        for tid in new {
            match target.thread(tid) {
                Ok(Some(thread)) if bears(labels, &thread, label) => {}
                Ok(Some(thread)) => match labels.set(&thread, label) {
                    Err(error) if Errno::from_io_error(&error) != Some(Errno::SRCH) => {
                        return Err(error);
                    }
                    _ => lacked = true,
                },
                Ok(None) => return Ok(()),
                // It has ended.
                Err(_) => {}
            }
        }
        if !lacked {
            return Ok(());
        }
    }
}

fn bears(labels: &Labels, thread: &OwnedFd, label: Borne) -> bool {
    labels.get(thread).is_ok_and(|it| it.is_some_and(|it| it.generation == label.generation))
}

/// A label as programs tell it.
fn told(label: Borne) -> Label {
    Label { contid: ContId(label.contid), generation: label.generation }
}

/// The task's label of a security module; none without one.
fn security_label(tid: u32) -> Option<Vec<u8>> {
    let text = fs::read(format!("/proc/{tid}/attr/current")).ok()?;
    let end = text.iter().position(|byte| [0, b'\n'].contains(byte)).unwrap_or(text.len());
    (end > 0).then(|| text.get(..end).unwrap_or_default().to_vec())
}

/// The inode number of its directory in the unified hierarchy, where that is mounted as usual.
fn cgroup(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(fs::metadata(format!("/sys/fs/cgroup{path}")).ok()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_alone_is_no_task() {
        let mut kernel = Kernel::new(None);
        let own = std::process::id();
        let started = process::start_time(own).unwrap();
        for (req, meant) in [Some(started), Some(started - 1), Some(started + 1), None]
            .into_iter()
            .enumerate()
            .map(|(at, meant)| (ReqId(at as u64), meant))
        {
            kernel.mean(req, meant);
            let is_gone = kernel.look(req, own) == Looked::Gone;
            assert_eq!(is_gone, meant != Some(started), "{meant:?}");
            kernel.release(req);
        }
        assert!(kernel.meant.is_empty() && kernel.targets.is_empty());
    }
}
