//! Who is and was process N, for whoever asks in the loop.

use engine::tasks::{Change, Counts, Image, Namespaces, ProcessId, Sighting, Tasks, Who};
use host::bpf::{Event, Task};
use host::process;

use super::sources::bpf::Batch;
use super::status;
use crate::clock;

/// Processes that are kept: living ones, and those that ended in the last seconds. About 300 bytes each.
const LIMIT: usize = 20_000;

/// How long one that ended is kept. Whatever asks about it has happened before, and the slowest source
/// is five seconds late.
const LINGER_NS: u64 = 10_000_000_000;

/// `/proc/PID/stat` counts ticks of so many nanoseconds (USER_HZ is 100 everywhere).
const TICK_NS: u64 = 10_000_000;

/// The processes.
#[derive(Debug)]
pub(super) struct Processes {
    tasks: Tasks,
    programs: Vec<status::Program>,
}

impl Default for Processes {
    fn default() -> Processes {
        Processes { tasks: Tasks::new(LIMIT, LINGER_NS), programs: Vec::new() }
    }
}

impl Processes {
    /// What the source `bpf` has brought.
    pub(super) fn handle(&mut self, batch: Batch) {
        if let Some([from, to]) = batch.lost {
            self.tasks.handle_lost(from, to);
        }
        for sighting in batch.listed {
            self.tasks.handle_listed(sighting);
        }
        for event in &batch.events {
            if let Some(change) = change(event) {
                self.tasks.handle(change, sighting(event.task()));
            }
        }
        if let Some(heard) = batch.heard {
            self.tasks.handle_heard(heard);
        }
        if let Some(programs) = batch.programs {
            self.programs = programs;
        }
    }

    /// Who had this number then, in nanoseconds since boot.
    #[allow(dead_code, reason = "for whoever asks")]
    pub(super) fn who(&self, pid: u32, at_ns: u64) -> Who<'_> {
        self.tasks.who(pid, at_ns)
    }

    /// The program's file that this very process asked for last, where that is a whole path.
    pub(super) fn program(&self, pid: u32, start_ns: u64) -> Option<Vec<u8>> {
        let (_, image) = self.tasks.process(ProcessId { pid, start_ns })?;
        image.program.as_deref().filter(|path| path.starts_with(b"/")).map(<[u8]>::to_vec)
    }

    /// What is shown of the programs.
    pub(super) fn programs(&self) -> &[status::Program] {
        &self.programs
    }

    /// What is shown of the table.
    pub(super) fn shown(&self) -> status::Tasks {
        let Counts { forgotten_early, turned_away, .. } = self.tasks.counts();
        let kept = u64::try_from(self.tasks.len()).unwrap_or(u64::MAX);
        status::Tasks { kept, forgotten_early, turned_away }
    }
}

fn change(event: &Event) -> Option<Change> {
    match event {
        Event::Fork(_) => Some(Change::Fork),
        Event::Exec { filename, .. } => Some(Change::Exec(filename.clone())),
        Event::Exit { .. } => Some(Change::Exit),
        // Another thread's are not the process's.
        Event::Namespaces { task, .. } if task.pid == task.tgid => Some(Change::Namespaces),
        _ => None,
    }
}

fn sighting(task: &Task) -> Sighting {
    Sighting {
        at_ns: task.boottime_ns,
        id: ProcessId { pid: task.tgid, start_ns: task.start_boottime },
        parent: ProcessId { pid: task.parent, start_ns: task.parent_start },
        image: Image {
            comm: padded(&task.comm),
            program: None,
            cgroup: task.cgroup,
            uid: task.uid,
            loginuid: task.loginuid,
            session: task.session,
            namespaces: Namespaces {
                user: task.user_ns,
                mount: task.mnt_ns,
                pid: task.pid_ns,
                network: task.net_ns,
            },
        },
        label: None,
    }
}

fn padded(comm: &[u8]) -> [u8; 16] {
    let mut padded = [0; 16];
    for (to, from) in padded.iter_mut().zip(comm) {
        *to = *from;
    }
    padded
}

/// The living processes, as `/proc` has them now. Those that end meanwhile are left out.
pub(super) fn listed() -> Vec<Sighting> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pid = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let pids = entries.filter_map(Result::ok).filter_map(pid).take(LIMIT);
    pids.filter_map(listed_one).collect()
}

fn listed_one(pid: u32) -> Option<Sighting> {
    let facts = process::facts(pid).ok()?;
    let namespace = |name: &str| {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{name}")).ok()?;
        let (_, number) = link.to_str()?.split_once(":[")?;
        number.strip_suffix(']')?.parse().ok()
    };
    let [user, mount, for_children, network] =
        ["user", "mnt", "pid_for_children", "net"].map(|name| namespace(name).unwrap_or(0));
    // Still the same one: what was read by number is of it.
    let again = process::facts(pid).ok()?;
    let start_ns = facts.start_time.checked_mul(TICK_NS)?;
    (again.start_time == facts.start_time).then(|| Sighting {
        at_ns: clock::now().boottime_ns,
        id: ProcessId { pid, start_ns },
        // When the parent began is not told.
        parent: ProcessId { pid: facts.task.ppid, start_ns: 0 },
        image: Image {
            comm: padded(&facts.task.comm),
            program: facts.task.exe.as_deref().map(Into::into),
            cgroup: 0,
            uid: facts.task.uid,
            loginuid: facts.task.auid,
            session: facts.task.ses,
            namespaces: Namespaces { user, mount, pid: for_children, network },
        },
        label: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_test_is_listed_as_it_is() {
        let listed = listed();
        let own = listed.iter().find(|one| one.id.pid == std::process::id()).unwrap();
        assert!(own.id.start_ns > 0 && own.id.start_ns <= own.at_ns);
        assert_ne!(own.image.namespaces.user, 0);
        assert_eq!(
            own.image.program.as_deref(),
            process::facts(own.id.pid).unwrap().task.exe.as_deref()
        );
        let mut processes = Processes::default();
        let at = own.at_ns;
        processes.handle(Batch { listed, heard: Some(at), ..Batch::default() });
        assert!(matches!(processes.who(std::process::id(), at), Who::Certain(..)));
        assert!(processes.shown().kept > 0);
    }
}
