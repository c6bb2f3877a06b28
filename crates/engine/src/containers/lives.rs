//! What is known of a container from its set to its end.

use record::units::ContId;

use super::Moment;
use crate::tasks::{Image, Namespaces, ProcessId};

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
        }
    }

    fn bit(self) -> u8 {
        1 << (self as u8)
    }

    fn of(self, namespaces: &mut Namespaces) -> &mut u32 {
        match self {
            Kind::User => &mut namespaces.user,
            Kind::Mount => &mut namespaces.mount,
            Kind::Pid => &mut namespaces.pid,
            Kind::Network => &mut namespaces.network,
        }
    }
}

/// A process of a container is in a namespace that is not the container's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The process.
    pub process: ProcessId,
    /// Which kind.
    pub kind: Kind,
    /// The container's.
    pub old: u32,
    /// The process's.
    pub new: u32,
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
    /// The namespaces of its first process when it was set.
    pub namespaces: Namespaces,
    /// The control group of its first process when it was set; 0: not known.
    pub cgroup: u64,
    /// What its runtime calls it.
    pub description: Description,
    /// Its processes that are known.
    pub processes: u32,
    /// Kinds of namespaces for which it was told that a process has left.
    pub(super) drifted: u8,
    /// The process of it that was heard of last.
    pub(super) last: u32,
}

impl Life {
    pub(super) fn new(begun: Moment, parent: ContId, image: &Image, pid: u32) -> Life {
        Life {
            begun,
            registrar: None,
            parent,
            namespaces: image.namespaces,
            cgroup: image.cgroup,
            description: Description::default(),
            processes: 0,
            drifted: 0,
            last: pid,
        }
    }

    /// Where the process has left the container's namespaces, each kind once in a life.
    pub(super) fn drifts(&mut self, process: ProcessId, namespaces: Namespaces) -> Vec<Drift> {
        let mut seen = namespaces;
        let mut drifts = Vec::new();
        for kind in Kind::ALL {
            let new = *kind.of(&mut seen);
            let old = kind.of(&mut self.namespaces);
            if *old == 0 {
                *old = new;
            }
            let old = *old;
            if new != 0 && new != old && self.drifted & kind.bit() == 0 {
                self.drifted |= kind.bit();
                drifts.push(Drift { process, kind, old, new });
            }
        }
        drifts
    }
}
