//! The kernel's side, and the shell's.

use std::collections::BTreeMap;

use super::super::*;
use crate::tasks::{Change, Image, Label, Namespaces, ProcessId, Sighting, Tasks};

/// The network namespace that everything begins in.
pub(super) const NET: u32 = 4;

#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) id: ProcessId,
    pub(super) parent: u32,
    pub(super) label: Label,
    pub(super) namespaces: Namespaces,
    pub(super) threads: u32,
    /// The path of its control group.
    pub(super) group: String,
}

/// The identifier of a group where nobody gives one.
pub(super) fn first(group: &Group) -> ContId {
    ContId(7000 + group.key().bytes().map(u64::from).sum::<u64>() % 1000)
}

type Interlude = fn(&mut Machine, u32);

pub(super) struct Machine {
    pub(super) containers: Containers,
    pub(super) tasks: Tasks,
    pub(super) now: u64,
    pub(super) kernel: BTreeMap<u32, Running>,
    pub(super) queue: Vec<(Change, Sighting, String)>,
    pub(super) answers: BTreeMap<ReqId, (Result<Answer, Errno>, Option<Ticket>)>,
    pub(super) caller: Caller,
    /// What happens between the first look and the store, and between the store and the second look.
    pub(super) before_store: Option<Interlude>,
    pub(super) after_store: Option<Interlude>,
    pub(super) not_stored: Option<NotStored>,
    pub(super) can_list: bool,
    pub(super) last_ticket: Ticket,
    /// Containers whose files are to be read.
    pub(super) described: Vec<ContId>,
    said: Vec<String>,
    requests: u64,
    next: u32,
}

pub(super) fn caller() -> Caller {
    Caller {
        pid: 628,
        capable: true,
        auid: 1000,
        uid: 0,
        tty: Some("ttyS0".into()),
        ses: 1,
        subj: Some(b"unconfined_u:unconfined_r:unconfined_t:s0".to_vec()),
        comm: b"bash".to_vec(),
        exe: Some(b"/usr/bin/bash".to_vec()),
        contid: ContId::UNSET,
    }
}

impl Machine {
    /// With a shell, 628.
    pub(super) fn new() -> Machine {
        let mut machine = Machine {
            containers: Containers::new(),
            tasks: Tasks::new(10_000, 60_000_000_000),
            now: 5_000_000_001,
            kernel: BTreeMap::new(),
            queue: Vec::new(),
            answers: BTreeMap::new(),
            caller: caller(),
            before_store: None,
            after_store: None,
            not_stored: None,
            can_list: true,
            last_ticket: Ticket(0),
            described: Vec::new(),
            said: Vec::new(),
            requests: 0,
            next: 1000,
        };
        let id = ProcessId { pid: 628, start_ns: machine.now };
        let namespaces = Namespaces { user: 1, mount: 2, pid: 3, network: NET };
        let (label, group) = (Label::UNSET, "/".to_owned());
        let shell = Running { id, parent: 1, label, namespaces, threads: 1, group };
        machine.kernel.insert(628, shell);
        machine.tell(628, Change::Fork);
        machine.containers.handle_labelling(Labelling::Attached);
        machine.containers.handle_groups(true, 2);
        machine
    }

    pub(super) fn pass(&mut self, ns: u64) {
        self.now += ns;
    }

    pub(super) fn moment(&self) -> Moment {
        Moment { boottime_ns: self.now, realtime_ns: self.now + 1_700_000_000_000_000_000 }
    }

    fn sighting(&self, pid: u32) -> Sighting {
        let running = &self.kernel[&pid];
        let mut comm = [0; 16];
        comm[0] = b'p';
        let parent = self.kernel.get(&running.parent).map_or(0, |parent| parent.id.start_ns);
        Sighting {
            at_ns: self.now,
            id: running.id,
            parent: ProcessId { pid: running.parent, start_ns: parent },
            image: Image {
                comm,
                program: None,
                cgroup: 30 + running.group.bytes().map(u64::from).sum::<u64>(),
                uid: 0,
                loginuid: 1000,
                session: 1,
                namespaces: running.namespaces,
            },
            label: Some(running.label),
        }
    }

    fn tell(&mut self, pid: u32, change: Change) {
        self.pass(1000);
        let mut sighting = self.sighting(pid);
        if change == Change::Exit {
            sighting.image.namespaces = Namespaces::default();
        }
        let group = self.kernel[&pid].group.clone();
        self.queue.push((change, sighting, group));
        self.pass(1000);
    }

    pub(super) fn fork(&mut self, parent: u32) -> u32 {
        self.next += 1;
        self.fork_as(parent, self.next);
        self.next
    }

    pub(super) fn fork_as(&mut self, parent: u32, pid: u32) {
        self.pass(1000);
        let id = ProcessId { pid, start_ns: self.now };
        let child = Running { id, parent, threads: 1, ..self.kernel[&parent].clone() };
        self.kernel.insert(pid, child);
        self.tell(pid, Change::Fork);
    }

    pub(super) fn exec(&mut self, pid: u32) {
        self.tell(pid, Change::Exec(b"/bin/true".to_vec()));
    }

    pub(super) fn exit(&mut self, pid: u32) {
        self.tell(pid, Change::Exit);
        self.kernel.remove(&pid);
    }

    pub(super) fn unshare(&mut self, pid: u32, change: impl FnOnce(&mut Namespaces)) {
        change(&mut self.kernel.get_mut(&pid).unwrap().namespaces);
        self.tell(pid, Change::Namespaces);
    }

    /// A process is put into a control group.
    pub(super) fn attach(&mut self, pid: u32, path: &str) {
        self.kernel.get_mut(&pid).unwrap().group = path.to_owned();
        self.tell(pid, Change::Group);
    }

    /// All events arrive.
    pub(super) fn deliver(&mut self) {
        for (change, sighting, path) in std::mem::take(&mut self.queue) {
            let now = self.moment();
            self.containers.handle(now, &change, &sighting);
            if change == Change::Group {
                let group = Group::of_path(0, path.as_bytes());
                let group = group.map(|group| (group.clone(), first(&group)));
                self.containers.handle_attached(now, &sighting, 0, group);
            }
            self.tasks.handle(change, sighting);
        }
        self.tasks.handle_heard(self.now);
        self.run();
    }

    /// All events that have not arrived are lost.
    pub(super) fn lose(&mut self) {
        self.queue.clear();
        let from = self.now;
        self.pass(1000);
        self.tasks.handle_lost(from, self.now);
        let now = self.moment();
        self.containers.handle_lost(now, self.now);
        self.run();
    }

    pub(super) fn tick(&mut self) {
        let now = self.moment();
        self.containers.handle_timeout(now);
        self.run();
    }

    pub(super) fn listed(&self) -> Vec<Sighting> {
        let labelled = self.kernel.iter().filter(|(_, running)| running.label.generation != 0);
        labelled.map(|(pid, _)| self.sighting(*pid)).collect()
    }

    pub(super) fn restart(&mut self, state: &str, boot: &str) {
        self.containers = Containers::new();
        self.containers.handle_labelling(Labelling::Attached);
        self.containers.handle_groups(true, 2);
        let now = self.moment();
        self.containers.restore(now, boot, serde_json::from_str(state).unwrap());
        self.run();
    }

    fn target(&self, pid: u32) -> Target {
        let Some(running) = self.kernel.get(&pid) else { return Target::Gone };
        Target::Alive {
            id: running.id,
            children: self.kernel.values().any(|child| child.parent == pid),
            single_threaded: running.threads == 1,
            leader: true,
            label: running.label,
            image: Box::new(self.sighting(pid).image),
            group: Group::of_path(0, running.group.as_bytes()),
        }
    }

    /// The living, in their groups.
    fn grouped(&self) -> Vec<Seen> {
        let seen = |(pid, running): (&u32, &Running)| {
            let group = Group::of_path(0, running.group.as_bytes())?;
            Some(Seen { sighting: self.sighting(*pid), first: first(&group), group })
        };
        self.kernel.iter().filter_map(seen).collect()
    }

    fn adopt(&mut self, adoption: Adoption) {
        let is_in = |running: &Running| {
            let group = Group::of_path(0, running.group.as_bytes());
            group.is_some_and(|group| group.key() == adoption.group.key())
        };
        let new = self
            .kernel
            .iter()
            .filter(|(_, running)| is_in(running) && !self.tasks_label(running).contid.is_set());
        let new: Vec<u32> = new.map(|(pid, _)| *pid).collect();
        let mut adopted = Vec::new();
        for pid in new {
            let sighting = self.sighting(pid);
            self.tasks.handle_labelled(sighting.id, self.now, adoption.label);
            self.kernel.get_mut(&pid).unwrap().label = adoption.label;
            adopted.push(sighting);
        }
        let now = self.moment();
        self.containers.handle_adopted(now, adoption, &adopted, &caller());
    }

    /// As the kernel resolves it.
    fn tasks_label(&self, running: &Running) -> Label {
        self.containers.resolve(running.label)
    }

    /// Does what is to be done.
    pub(super) fn run(&mut self) {
        while let Some(act) = self.containers.poll() {
            self.pass(1000);
            match act {
                Act::Look { req, pid } => {
                    let (now, target) = (self.moment(), self.target(pid));
                    self.containers.handle_looked(now, req, target);
                }
                Act::Store { req, target, label, at_ns, .. } => {
                    if let Some(interlude) = self.before_store.take() {
                        interlude(self, target.pid);
                    }
                    self.tasks.handle_labelled(target, at_ns, label);
                    let result = match (self.not_stored.take(), self.kernel.get_mut(&target.pid)) {
                        (Some(why), _) => Err(why),
                        (None, None) => Err(NotStored::Gone),
                        (None, Some(running)) => {
                            running.label = label;
                            Ok(())
                        }
                    };
                    self.containers.handle_stored(req, result);
                    if let Some(interlude) = self.after_store.take() {
                        // Nothing else is done meanwhile.
                        let acts = std::mem::take(&mut self.containers.acts);
                        interlude(self, target.pid);
                        self.containers.acts.extend(acts);
                    }
                }
                Act::LookAgain { req, target, generation } => {
                    let mut children =
                        self.kernel.values().filter(|child| child.parent == target.pid);
                    let other = children.any(|child| child.label.generation != generation);
                    let again = match self.kernel.contains_key(&target.pid) {
                        true => Again::Alive { has_other_children: other },
                        false => Again::Gone,
                    };
                    self.containers.handle_looked_again(req, again);
                }
                Act::Abort { target, generation, restore } => {
                    if let Some(running) = self.kernel.get_mut(&target.pid) {
                        running.label = restore;
                    }
                    self.tasks.handle_aborted(generation, restore.contid);
                }
                Act::Record { records, confidence, ticket } => {
                    self.last_ticket = ticket;
                    for (name, body) in records {
                        let body = String::from_utf8(body.as_bytes().to_vec()).unwrap();
                        let sure = match confidence {
                            Confidence::Certain => String::new(),
                            other => format!(" ({})", other.word()),
                        };
                        self.said.push(format!("{name} {body}{sure}"));
                    }
                }
                Act::Answer { req, result, after } => {
                    self.answers.insert(req, (result, after));
                }
                Act::List => {
                    let (began, listed) = (self.now, self.listed());
                    self.pass(1000);
                    let now = self.moment();
                    let listed = self.can_list.then_some(&listed[..]);
                    self.containers.handle_listed(now, began, listed);
                    let grouped = self.grouped();
                    if self.can_list {
                        self.containers.handle_grouped(now, grouped);
                    }
                }
                Act::Adopt(adoption) => self.adopt(*adoption),
                Act::Describe { contid, .. } => self.described.push(contid),
            }
        }
    }

    fn request(&mut self) -> ReqId {
        self.requests += 1;
        ReqId(1_000_000 + self.requests)
    }

    pub(super) fn write(&mut self, pid: u32, bytes: &[u8]) -> Result<Answer, Errno> {
        let req = self.request();
        self.containers.handle_write(req, pid, self.caller.clone(), 0, bytes);
        self.run();
        self.answers.remove(&req).unwrap().0
    }

    pub(super) fn read(&mut self, pid: u32) -> Result<Answer, Errno> {
        let req = self.request();
        self.containers.handle_read(req, pid, self.caller.clone());
        self.run();
        self.answers.remove(&req).unwrap().0
    }

    pub(super) fn life(&self, id: u64) -> &Life {
        self.containers.life(ContId(id)).unwrap()
    }

    pub(super) fn take_said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    /// Those that are in the namespace now.
    pub(super) fn in_network(&self, network: u32) -> Vec<ContId> {
        self.containers.networks.list_of(network, self.now, self.now).unwrap()
    }

    pub(super) fn attribution(&self, pid: u32, at_ns: u64) -> Attribution {
        let in_group = |cgroup| self.containers.in_group(cgroup);
        Attribution::of(&self.tasks, pid, at_ns, at_ns, in_group)
    }
}
