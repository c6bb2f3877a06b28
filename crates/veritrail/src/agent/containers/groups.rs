//! Containers by their control groups: which processes are in one, and the labels that they get.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use engine::containers::{Adoption, Description, Group, Seen};
use engine::tasks::{Label, ProcessId, Sighting};
use host::bpf::Label as Borne;
use host::target::Target;
use record::units::ContId;
use rustix::io::Errno;

use super::super::tasks::{Processes, TICK_NS, listed_one};
use super::files::Files;
use super::kernel::{Kernel, label_threads};
use super::{Containers, moment};
use crate::clock;

impl Containers {
    /// From now on containers that nobody sets are found.
    pub(in crate::agent) fn find(&mut self, files: Files) {
        self.files = Some(files);
        self.engine.handle_groups(true, host_mounts().unwrap_or(0));
    }

    /// A process came into a control group: the path in its hierarchy, empty where `/proc` has to be asked.
    pub(in crate::agent) fn handle_attached(
        &mut self,
        sighting: &Sighting,
        hierarchy: u32,
        path: &[u8],
    ) {
        let group = match path {
            [] => match group_now(sighting.id) {
                Ok(group) => group,
                // Where it was nobody knows any more.
                Err(_) => return,
            },
            path => Group::of_path(hierarchy, path),
        };
        let group = group.map(|group| {
            let first = first(group.key());
            (group, first)
        });
        self.engine.handle_attached(moment(), sighting, hierarchy, group);
    }

    /// The living processes that are in containers' groups.
    pub(in crate::agent) fn handle_grouped(&mut self, grouped: Vec<(Sighting, Group)>) {
        let seen = grouped.into_iter().map(|(sighting, group)| {
            let first = first(group.key());
            Seen { sighting, group, first }
        });
        self.engine.handle_grouped(moment(), seen.collect());
    }

    /// What the runtime's files say.
    pub(in crate::agent) fn handle_described(
        &mut self,
        contid: ContId,
        group: &Group,
        found: Option<Description>,
    ) {
        self.engine.handle_found(contid, group, found);
    }

    /// Labels all that are in a group; until then, and the others later.
    pub(super) fn adopt(
        &mut self,
        adoption: Adoption,
        until: Option<Instant>,
        processes: &mut Processes,
    ) {
        let (adopted, is_whole) = self.kernel.adopt(&adoption, until);
        // Where nobody was without, it is as a whole as it will be.
        if !is_whole && !adopted.is_empty() {
            let (group, id) = (adoption.group.clone(), adoption.label.contid);
            self.engine.handle_cut_short(moment(), group, id);
        }
        for one in &adopted {
            processes.label(one.id, one.at_ns, adoption.label);
        }
        let own = self.caller(std::process::id(), clock::now().boottime_ns);
        self.engine.handle_adopted(moment(), adoption, &adopted, &own);
    }

    pub(super) fn describe(&mut self, contid: ContId, group: &Group) {
        let asked = self.files.as_ref().is_some_and(|files| files.ask(contid, group));
        if !asked {
            self.engine.handle_found(contid, group, None);
        }
    }

    /// The same for the same container of a runtime, today and tomorrow; another one where that is taken.
    pub(super) fn choose(&self, task: u32, description: &Description) -> ContId {
        let name = |text: &Option<String>| text.clone().unwrap_or_default();
        let (runtime, id) = (name(&description.runtime), name(&description.id));
        let first = match engine::containers::is_unique(&id) {
            true => first(&id),
            false => hashed(&format!("{runtime}\0{id}")),
        };
        let group = Target::open(task).ok().and_then(|target| group_of(&target));
        self.engine.number(first, description.id.as_deref(), group.as_ref())
    }
}

/// The identifier for the container of that key, before anybody asks whether it is free.
fn first(key: &str) -> ContId {
    // Of no runtime: each may call the same one by another name.
    hashed(&format!("\0{key}"))
}

fn hashed(text: &str) -> ContId {
    let hasher =
        lanes::BlockHasher::new(lanes::Algorithm::Sha256, &[], lanes::SaltPosition::Before);
    let mut digest = [0; 32];
    hasher.hash_one(text.as_bytes(), &mut digest);
    let first = digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    // Positive as a signed number too: not everybody reads 64 bits.
    ContId(first >> 1)
}

/// Looks for processes that were forked unlabelled meanwhile, at most: those that are found unlabelled get
/// fewer each time, as the others' children have the label.
const ROUNDS: usize = 32;

/// Groups below a container's that are looked into, of which it makes as many as it likes. Where there are
/// more, all processes of the host are looked at instead.
const GROUPS: usize = 4096;

impl Kernel {
    /// Labels all that are in the group and have no label; each with what it was like, and from when on it has
    /// it; and whether there was time for all.
    pub(super) fn adopt(
        &self,
        adoption: &Adoption,
        until: Option<Instant>,
    ) -> (Vec<Sighting>, bool) {
        let Adoption { group, label, first, .. } = adoption;
        let is_over = || until.is_some_and(|until| Instant::now() >= until);
        let mut adopted = Vec::new();
        // Who was seen coming may be alone there.
        let mut first = first.map(|first| first.pid);
        let places = Places::find();
        let directory = places.of(group.hierarchy).map(|at| below(at, &group.path));
        for _ in 0..ROUNDS {
            // Each is looked at all the same.
            let members = directory.as_deref().and_then(|at| members(at, is_over));
            let mut pids = members.unwrap_or_else(all_pids);
            pids.extend(first.take());
            let before = adopted.len();
            // Those that came last have no label yet.
            for pid in pids.into_iter().rev() {
                if is_over() {
                    return (adopted, false);
                }
                // What cannot be labelled has ended, as a rule, and is listed later if it has not.
                if let Ok(Some(sighting)) = self.adopt_one(pid, group, *label, &places) {
                    adopted.push(sighting);
                }
            }
            if adopted.len() == before {
                break;
            }
        }
        let is_whole = !is_over();
        (adopted, is_whole)
    }

    fn adopt_one(
        &self,
        pid: u32,
        group: &Group,
        label: Label,
        places: &Places,
    ) -> io::Result<Option<Sighting>> {
        let Some(labels) = self.labels() else { return Ok(None) };
        let target = Target::open(pid)?;
        // The number may be another one's by now, and who has a label keeps it.
        let is_there = group_of(&target).is_some_and(|there| there.key() == group.key());
        if !is_there || labels.get(&target)?.is_some() {
            return Ok(None);
        }
        let Label { contid, generation } = label;
        let borne = Borne { contid: contid.0, old: ContId::UNSET.0, generation };
        let at_ns = clock::now().boottime_ns;
        labels.set(&target, borne)?;
        label_threads(labels, &target, borne)?;
        let Some(mut sighting) = listed_one(target.tgid()).filter(|_| {
            // One that has ended is not heard of any more.
            target.is_alive().is_ok_and(|is_alive| is_alive)
        }) else {
            return Ok(None);
        };
        let start_ns = target.start_time().saturating_mul(TICK_NS);
        sighting.id = ProcessId { pid: target.tgid(), start_ns };
        sighting.at_ns = at_ns;
        sighting.image.cgroup = places.number_of(&target);
        Ok(Some(sighting))
    }
}

/// The container that the control group of this very process is of.
fn group_now(id: ProcessId) -> io::Result<Option<Group>> {
    let target = Target::open(id.pid)?;
    let group = Group::of_process(&target.control_groups()?);
    // Of one that has ended the path may not be its own.
    let is_it = target.start_time() == id.start_ns / TICK_NS && target.is_alive()?;
    is_it.then_some(group).ok_or_else(|| Errno::SRCH.into())
}

/// The container that a process's control group is of.
pub(in crate::agent) fn group_of(target: &Target) -> Option<Group> {
    Group::of_process(&target.control_groups().ok()?)
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// The processes in a group and in those below it, as far as there is time; none where not all of these can be looked
/// into.
fn members(group: &Path, is_over: impl Fn() -> bool) -> Option<Vec<u32>> {
    let mut pids = Vec::new();
    let mut groups = vec![group.to_owned()];
    let mut looked = 0;
    while let Some(group) = groups.pop()
        && !is_over()
    {
        looked += 1;
        if looked > GROUPS {
            return None;
        }
        // A group of threads has no such list, and its processes are in the one above.
        let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        // 0 stands for one of another pid namespace.
        pids.extend(
            text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0),
        );
        // One that has gone has nobody in it; the container's own has gone as a rule when that is empty.
        let entries = fs::read_dir(&group).into_iter().flatten().flatten();
        let deeper = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        groups.extend(deeper.map(|entry| entry.path()).take(GROUPS));
    }
    Some(pids)
}

fn all_pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Where hierarchies are mounted from their root on, by number.
#[derive(Debug)]
pub(in crate::agent) struct Places(BTreeMap<u32, PathBuf>);

impl Places {
    pub(in crate::agent) fn find() -> Places {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Places(directories(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo")))
    }

    fn of(&self, hierarchy: u32) -> Option<&Path> {
        self.0.get(&hierarchy).map(PathBuf::as_path)
    }

    /// The number of a process's group in the unified hierarchy, where that is a container's; else 0.
    pub(in crate::agent) fn number_of(&self, target: &Target) -> u64 {
        let number = || {
            let text = target.control_groups().ok()?;
            let mut lines = text.split(|byte| *byte == b'\n');
            let path = lines.find_map(|line| line.strip_prefix(b"0::"))?;
            Group::of_path(0, path)?;
            let about = fs::metadata(below(self.of(0)?, str::from_utf8(path).ok()?)).ok()?;
            Some(about.ino())
        };
        number().unwrap_or(0)
    }
}

/// By the text of `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn directories(groups: &str, mounts: &str) -> BTreeMap<u32, PathBuf> {
    let mut found = BTreeMap::new();
    for line in mounts.lines() {
        // ID PARENT DEVICE ROOT POINT ... - TYPE SOURCE OPTIONS
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let mut before = before.split(' ').skip(3);
        let (Some("/"), Some(point)) = (before.next(), before.next()) else { continue };
        let mut after = after.split(' ');
        let (kind, options) = (after.next(), after.nth(1).unwrap_or_default());
        let hierarchy = match kind {
            Some("cgroup2") => Some(0),
            Some("cgroup") => groups.lines().find_map(|line| {
                let (number, rest) = line.split_once(':')?;
                let (controllers, _) = rest.split_once(':')?;
                // `name=systemd`, or controllers; an option each.
                let has = |one| options.split(',').any(|option| option == one);
                let all = !controllers.is_empty() && controllers.split(',').all(has);
                all.then(|| number.parse().ok())?
            }),
            _ => None,
        };
        if let Some(hierarchy) = hierarchy {
            found.entry(hierarchy).or_insert_with(|| PathBuf::from(point));
        }
    }
    found
}

/// The number of the host's mount namespace, which need not be ours: a service may have one of its own. None where
/// `/proc` does not say.
fn host_mounts() -> Option<u32> {
    let about = fs::metadata("/proc/1/ns/mnt").or_else(|_| fs::metadata("/proc/self/ns/mnt"));
    u32::try_from(about.ok()?.ino()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hierarchy_is_found_where_it_is_mounted() {
        let groups = "9:name=systemd:/\n4:cpu,cpuacct:/x\n1:memory:/\n0::/a\n";
        let mounts = "25 1 0:5 / /sys rw - sysfs sysfs rw\n\
                      30 25 0:26 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n\
                      31 25 0:27 /docker/x /mnt rw - cgroup cgroup rw,memory\n\
                      32 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      33 25 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                      34 25 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                      garbage\n";
        let found = directories(groups, mounts);
        let expected = [(0, "unified"), (1, "memory"), (4, "cpu"), (9, "systemd")];
        let expected = expected.map(|(number, at)| (number, format!("/sys/fs/cgroup/{at}").into()));
        assert_eq!(found, BTreeMap::from(expected));
    }

    #[test]
    fn where_a_process_was_that_is_gone_nobody_says() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = listed_one(child.id()).unwrap().id;
        assert!(group_now(id).is_ok());
        let another = ProcessId { start_ns: id.start_ns + TICK_NS, ..id };
        assert!(group_now(another).is_err());
        child.kill().unwrap();
        // Also while nobody has waited for it.
        while Target::open(id.pid).unwrap().is_alive().unwrap() {
            std::thread::yield_now();
        }
        assert!(group_now(id).is_err());
        child.wait().unwrap();
        assert!(group_now(id).is_err());
    }

    #[test]
    fn an_id_that_is_unique_has_one_number_whoever_calls_it_what() {
        let id = "a".repeat(64);
        assert_eq!(first(&id), hashed(&format!("\0{id}")));
        assert_ne!(first(&id), first("/user.slice/x"));
        assert!(first(&id).0 <= u64::MAX >> 1);
    }
}
