//! Who is and was process N, for whoever asks in the loop.

use std::fs::DirEntry;
use std::io;

use engine::containers::Group;
use engine::tasks::{Change, Counts, Image, Label, Namespaces, ProcessId, Sighting, Tasks};
use host::bpf::{Event, Labels, Task};
use host::process;
use host::target::Target;
use record::units::ContId;

use super::containers::{Containers, Places, group_of};
use super::sources::bpf::{Batch, Listed};
use super::status;
use crate::clock;

/// Processes that are kept: living ones, 20,000 of them in containers, and those that ended in the last seconds. About
/// 300 bytes each.
const LIMIT: usize = 40_000;

/// How long one that ended is kept. Whatever asks about it has happened before, and the slowest source
/// is five seconds late.
const LINGER_NS: u64 = 10_000_000_000;

/// `/proc/PID/stat` counts ticks of so many nanoseconds (USER_HZ is 100 everywhere).
pub(crate) const TICK_NS: u64 = 10_000_000;

/// Living processes in containers' control groups.
pub(super) type Grouped = Vec<(Sighting, Group)>;

/// The processes.
#[derive(Debug)]
pub(super) struct Processes {
    tasks: Tasks,
    /// The labelled of a listing that began then, none where it is not complete, and those in containers' groups,
    /// until everything before it is heard.
    listed: Option<(u64, Option<Vec<Sighting>>, Grouped)>,
    programs: Vec<status::Program>,
}

impl Default for Processes {
    fn default() -> Processes {
        Processes { tasks: Tasks::new(LIMIT, LINGER_NS), listed: None, programs: Vec::new() }
    }
}

impl Processes {
    /// What the source `bpf` has brought.
    pub(super) fn handle(&mut self, batch: Batch, containers: &mut Containers) {
        if let Some([from, to]) = batch.lost {
            self.tasks.handle_lost(from, to);
            containers.handle_lost(to);
        }
        if let Some(Listed { began_ns, processes, grouped, is_complete }) = batch.listed {
            let is_labelled =
                |one: &&Sighting| one.label.is_some_and(|label| label.contid.is_set());
            let labelled = || processes.iter().filter(is_labelled).cloned().collect();
            self.listed = Some((began_ns, is_complete.then(labelled), grouped));
            for sighting in processes {
                self.tasks.handle_listed(sighting);
            }
        }
        for event in &batch.events {
            if let Event::Packet(packet) = event {
                containers.handle_packet(packet);
            }
            if let Some(change) = change(event)
                && let Some(task) = event.task()
            {
                let sighting = sighting(task);
                containers.handle_process(&change, &sighting);
                if let Event::Group { hierarchy, path, .. } = event {
                    containers.handle_attached(&sighting, *hierarchy, path);
                }
                self.tasks.handle(change, sighting);
            }
        }
        if let Some(heard) = batch.heard {
            self.tasks.handle_heard(heard);
            let listed = self.listed.take_if(|(began, ..)| *began <= heard);
            if let Some((began_ns, labelled, grouped)) = listed {
                containers.handle_listed(began_ns, labelled.as_deref());
                containers.handle_grouped(grouped);
            }
        }
        if let Some(programs) = batch.programs {
            self.programs = programs;
        }
    }

    /// Who had which number when.
    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// This process has this label from then on.
    pub(super) fn label(&mut self, process: ProcessId, at_ns: u64, label: Label) {
        self.tasks.handle_labelled(process, at_ns, label);
    }

    /// The set of that generation does not count: whoever has its label belongs to `before`.
    pub(super) fn take_back(&mut self, generation: u64, before: ContId) {
        self.tasks.handle_aborted(generation, before);
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
        Event::Group { .. } => Some(Change::Group),
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
        label: Some(Label { contid: ContId(task.contid), generation: task.generation }),
    }
}

fn padded(comm: &[u8]) -> [u8; 16] {
    let mut padded = [0; 16];
    for (to, from) in padded.iter_mut().zip(comm) {
        *to = *from;
    }
    padded
}

/// The living processes, as `/proc` has them now, with their labels; and those of them that are in a container's
/// control group; and whether that is all of them. Those that end meanwhile are left out.
pub(super) fn listed(labels: Option<&Labels>) -> (Vec<Sighting>, Grouped, bool) {
    listed_of(std::fs::read_dir("/proc").into_iter().flatten(), LIMIT, labels)
}

fn listed_of(
    entries: impl Iterator<Item = io::Result<DirEntry>>,
    most: usize,
    labels: Option<&Labels>,
) -> (Vec<Sighting>, Grouped, bool) {
    let places = Places::find();
    let (mut processes, mut grouped) = (Vec::new(), Vec::new());
    // We ourselves are always there.
    let mut is_complete = false;
    for entry in entries {
        let Ok(entry) = entry else { return (processes, grouped, false) };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if processes.len() >= most {
            return (processes, grouped, false);
        }
        is_complete |= pid == std::process::id();
        let Some(mut sighting) = listed_one(pid) else { continue };
        if let Some(labels) = labels
            && let Some(target) = held(&sighting)
        {
            sighting.label = label_of(&target, labels);
            if let Some(group) = group_of(&target) {
                sighting.image.cgroup = places.number_of(&target);
                grouped.push((sighting.clone(), group));
            }
        }
        processes.push(sighting);
    }
    (processes, grouped, is_complete)
}

/// None where it has ended.
fn held(sighting: &Sighting) -> Option<Target> {
    let target = Target::open(sighting.id.pid).ok()?;
    let is_same = target.start_time().saturating_mul(TICK_NS) == sighting.id.start_ns;
    is_same.then_some(target)
}

fn label_of(target: &Target, labels: &Labels) -> Option<Label> {
    let told = |label: host::bpf::Label| Label {
        contid: ContId(label.contid),
        generation: label.generation,
    };
    labels.get(target).ok().map(|label| label.map_or(Label::UNSET, told))
}

pub(super) fn listed_one(pid: u32) -> Option<Sighting> {
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
    use engine::tasks::Who;

    use super::*;

    #[test]
    fn the_running_test_is_listed_as_it_is() {
        let (listed, grouped, is_complete) = listed(None);
        assert!(is_complete && grouped.is_empty(), "without labels nobody asks for groups");
        let own = listed.iter().find(|one| one.id.pid == std::process::id()).unwrap();
        assert!(own.id.start_ns > 0 && own.id.start_ns <= own.at_ns);
        assert_ne!(own.image.namespaces.user, 0);
        assert_eq!(
            own.image.program.as_deref(),
            process::facts(own.id.pid).unwrap().task.exe.as_deref()
        );
        let mut processes = Processes::default();
        let at = own.at_ns;
        let listed = Some(Listed { began_ns: at, processes: listed, grouped, is_complete });
        let folder = tempfile::tempdir().unwrap();
        let mut containers = Containers::new(None, folder.path(), "boot");
        let batch = Batch { listed, heard: Some(at), ..Batch::default() };
        processes.handle(batch, &mut containers);
        assert!(matches!(processes.tasks().who(std::process::id(), at), Who::Certain(..)));
        assert!(processes.shown().kept > 0);
    }

    #[test]
    fn a_listing_that_ends_early_is_not_all() {
        let all = || std::fs::read_dir("/proc").unwrap();
        let broken = || Err(io::Error::from(io::ErrorKind::OutOfMemory));
        let is_complete = |listed: (Vec<Sighting>, Grouped, bool)| listed.2;
        assert!(is_complete(listed_of(all(), LIMIT, None)));
        assert!(!is_complete(listed_of(all().chain([broken()]), LIMIT, None)));
        assert!(!is_complete(listed_of(std::iter::empty(), LIMIT, None)));
        let (processes, _, is_complete) = listed_of(all().chain(all()), 1, None);
        assert_eq!((processes.len(), is_complete), (1, false));
    }
}
