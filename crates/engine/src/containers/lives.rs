//! What is known of a container from its set to its end.

use record::units::ContId;

use super::Moment;
use super::groups::Group;
use crate::tasks::{Image, Namespaces, ProcessId, Sighting};

/// Who reads or writes `audit_containerid`: as the request showed it, and its process at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its process; 0 where it is in a pid namespace that ours does not see.
    pub pid: u32,
    /// Whether it has CAP_AUDIT_CONTROL in the initial user namespace.
    pub capable: bool,
    /// Login uid; `u32::MAX` without one.
    pub auid: u32,
    /// Real user.
    pub uid: u32,
    /// Its terminal without `/dev/`.
    pub tty: Option<String>,
    /// Session; `u32::MAX` without one.
    pub ses: u32,
    /// Its security label, where the kernel has such.
    pub subj: Option<Vec<u8>>,
    /// Its name, which it chose itself.
    pub comm: Vec<u8>,
    /// Its program.
    pub exe: Option<Vec<u8>>,
    /// The container it is in itself, which becomes the parent of what it makes.
    pub contid: ContId,
}

impl Caller {
    /// Whether it may: one that cannot be looked at may not.
    pub(super) fn may(&self) -> bool {
        self.capable && self.pid != 0
    }
}

/// Who made a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registrar {
    /// Its process.
    pub pid: u32,
    /// Real user.
    pub uid: u32,
    /// Login uid; `u32::MAX` without one.
    pub auid: u32,
    /// Its name.
    pub comm: Vec<u8>,
    /// Its program.
    pub exe: Option<Vec<u8>>,
}

/// What a runtime calls a container. What is not known is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Description {
    /// The runtime.
    pub runtime: Option<String>,
    /// Its id for the container.
    pub id: Option<String>,
    /// Its name for it.
    pub name: Option<String>,
    /// The image's name.
    pub image: Option<String>,
    /// The image's digest.
    pub digest: Option<String>,
}

impl Description {
    /// This, and what it leaves open as the other one has it.
    #[must_use]
    pub fn or(&self, other: &Description) -> Description {
        let [this, other] = [self.clone(), other.clone()];
        Description {
            runtime: this.runtime.or(other.runtime),
            id: this.id.or(other.id),
            name: this.name.or(other.name),
            image: this.image.or(other.image),
            digest: this.digest.or(other.digest),
        }
    }

    /// Whether every text is short enough to be kept.
    #[must_use]
    pub fn fits(&self) -> bool {
        let Description { runtime, id, name, image, digest } = self;
        let texts = [runtime, id, name, image, digest];
        texts.into_iter().flatten().all(|text| text.len() <= LONGEST_TEXT)
    }
}

/// The longest text of a [`Description`], in bytes.
pub const LONGEST_TEXT: usize = 512;

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Of users.
    User,
    /// Of mounts.
    Mount,
    /// Of processes.
    Pid,
    /// Of networks.
    Network,
    /// No namespace: the container's control group.
    Group,
}

impl Kind {
    pub(super) const ALL: [Kind; 4] = [Kind::User, Kind::Mount, Kind::Pid, Kind::Network];

    /// As `/proc/PID/ns` has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Mount => "mnt",
            Kind::Pid => "pid",
            Kind::Network => "net",
            Kind::Group => "cgroup",
        }
    }

    fn bit(self) -> u8 {
        1 << (self as u8)
    }

    /// None of a kind that is no namespace.
    fn of(self, namespaces: &mut Namespaces) -> Option<&mut u32> {
        match self {
            Kind::User => Some(&mut namespaces.user),
            Kind::Mount => Some(&mut namespaces.mount),
            Kind::Pid => Some(&mut namespaces.pid),
            Kind::Network => Some(&mut namespaces.network),
            Kind::Group => None,
        }
    }
}

/// A process of a container is in a namespace, or a control group, that is not the container's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The process.
    pub process: ProcessId,
    /// Which kind.
    pub kind: Kind,
    /// The container's, by inode number.
    pub old: u64,
    /// The process's.
    pub new: u64,
}

/// A container that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it was set, or first seen.
    pub begun: Moment,
    /// Who set it; none where it was found with processes in it.
    pub registrar: Option<Registrar>,
    /// The container of whoever set it.
    pub parent: ContId,
    /// The grant by which that one might.
    pub grant: Option<String>,
    /// The namespaces of its first process when it was set.
    pub namespaces: Namespaces,
    /// The control group of its first process when it was set; 0: not known.
    pub cgroup: u64,
    /// Where it was found, or was when a runtime's hook told of it.
    pub group: Option<Group>,
    /// What its runtime calls it.
    pub description: Description,
    /// Its processes that are known.
    pub processes: u32,
    /// Sets that were refused since it is known: by its processes, for them, or of its identifier.
    pub refused: u64,
    /// Kinds for which it was told that a process has left.
    pub(super) drifted: u8,
    /// Until then those of its processes that are in this mount namespace are the runtime's own, on their way in.
    pub(super) entering: Option<(u32, u64)>,
    /// The process of it that was heard of last.
    pub(super) last: u32,
}

impl Life {
    pub(super) fn new(begun: Moment, parent: ContId, image: &Image, pid: u32) -> Life {
        Life {
            begun,
            registrar: None,
            parent,
            grant: None,
            namespaces: image.namespaces,
            cgroup: image.cgroup,
            group: None,
            description: Description::default(),
            processes: 0,
            refused: 0,
            drifted: 0,
            entering: None,
            last: pid,
        }
    }

    /// Where nobody was in its namespaces before, whether this process is; then they are known.
    pub(super) fn is_entered_by(&mut self, sighting: &Sighting) -> bool {
        let namespaces = sighting.image.namespaces;
        let is_awaited = self.entering.is_some() && self.namespaces.mount == 0;
        let enters = is_awaited && namespaces.mount != 0 && !self.is_on_its_way(sighting);
        if enters {
            self.namespaces = namespaces;
        }
        enters
    }

    fn is_on_its_way(&self, sighting: &Sighting) -> bool {
        self.entering.is_some_and(|(outside, until_ns)| {
            sighting.image.namespaces.mount == outside && sighting.at_ns < until_ns
        })
    }

    /// Where the process has left the container's namespaces, each kind once in a life.
    pub(super) fn drifts(&mut self, process: ProcessId, sighting: &Sighting) -> Vec<Drift> {
        let mut drifts = Vec::new();
        if self.is_on_its_way(sighting) {
            return drifts;
        }
        let mut seen = sighting.image.namespaces;
        for kind in Kind::ALL {
            let (Some(new), Some(old)) = (kind.of(&mut seen), kind.of(&mut self.namespaces)) else {
                continue;
            };
            if *old == 0 {
                *old = *new;
            }
            let (new, old) = (u64::from(*new), u64::from(*old));
            if new != 0 && new != old && self.tells(kind) {
                drifts.push(Drift { process, kind, old, new });
            }
        }
        drifts
    }

    /// Where the process was put into a group of that hierarchy that is not below the container's own. One
    /// hierarchy is watched, the unified one where it is known.
    pub(super) fn leaves(
        &mut self,
        process: ProcessId,
        sighting: &Sighting,
        hierarchy: u32,
        to: Option<&Group>,
    ) -> Option<Drift> {
        let own = self.group.as_mut()?;
        let is_at_home = to.is_some_and(|to| to.key() == own.key());
        if is_at_home && hierarchy == 0 && own.hierarchy != 0 {
            *own = to?.clone();
            self.cgroup = sighting.image.cgroup;
        }
        if hierarchy != own.hierarchy {
            return None;
        }
        let (kind, old, new) = (Kind::Group, self.cgroup, sighting.image.cgroup);
        (!is_at_home && self.tells(kind)).then_some(Drift { process, kind, old, new })
    }

    /// Whose place its group is in, unless that is root's.
    pub(super) fn owner(&self) -> Option<&str> {
        self.group.as_ref()?.owner()
    }

    /// Whether it is to be told that a process has left in this way: once in a life.
    fn tells(&mut self, kind: Kind) -> bool {
        let told = self.drifted & kind.bit() != 0;
        self.drifted |= kind.bit();
        !told
    }
}
