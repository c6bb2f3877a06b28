//! What is kept of the containers over a restart of the agent, in a file (docs/formats/containers.md).
//!
//! The processes are not: which of them have gone meanwhile nobody heard, and those that live are listed
//! with the labels that the kernel kept. Whoever can write the file can say anything; what cannot be true
//! is left out.

use std::collections::BTreeSet;

use record::units::ContId;
use serde::{Deserialize, Serialize};

use super::groups::Group;
use super::lives::{Description, Life, Registrar};
use super::{Confidence, Containers, LIVES, Moment};
use crate::tasks::Namespaces;

/// Everything that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    version: u32,
    /// The id of the boot.
    boot: String,
    /// The newest set.
    generation: u64,
    /// Sets that were taken back, the oldest first: generation, container before.
    aborted: Vec<(u64, u64)>,
    lives: Vec<Kept>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    contid: u64,
    boottime_ns: u64,
    realtime_ns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grant: Option<String>,
    namespaces: [u32; 4],
    cgroup: u64,
    drifted: u8,
    last: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registrar: Option<KeptRegistrar>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<Group>,
    #[serde(default)]
    description: Description,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptRegistrar {
    pid: u32,
    uid: u32,
    auid: u32,
    /// Any bytes.
    comm: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exe: Option<Vec<u8>>,
}

const VERSION: u32 = 1;

/// Programs' names and files are no longer.
const LONGEST_PATH: usize = 4096;

impl Containers {
    /// What to keep. `boot` is the id of this boot.
    #[must_use]
    pub fn state(&self, boot: &str) -> State {
        let lives = self.lives.iter().map(|(id, life)| Kept::of(*id, life)).collect();
        let aborted = self.aborted.iter().map(|(generation, id)| (generation, id.0)).collect();
        let generation = self.generation;
        State { version: VERSION, boot: boot.to_owned(), generation, aborted, lives }
    }

    /// Goes on from there, before anything else was handed in. Containers of another boot have ended;
    /// those of this one end unless a listing finds them.
    pub fn restore(&mut self, now: Moment, boot: &str, state: State) {
        if state.version != VERSION {
            return;
        }
        let is_this_boot = state.boot == boot;
        let mut seen = BTreeSet::new();
        for kept in state.lives.into_iter().take(LIVES) {
            let (id, Some(life)) = kept.read() else { continue };
            if seen.insert(id) {
                if let Some(group) = &life.group {
                    self.adoptions.name(group, id);
                }
                self.lives.insert(id, life);
            }
        }
        for id in &seen {
            // The outermost first.
            for id in self.chain(*id).into_iter().rev() {
                if let Some(life) = self.lives.get(&id) {
                    self.roots.begin(id, life.parent, life.grant.is_some());
                }
            }
        }
        self.revision += 1;
        if is_this_boot {
            self.generation = state.generation.min(now.boottime_ns);
            for (generation, before) in state.aborted {
                self.aborted.push(generation, ContId(before));
            }
            self.doubt(now.boottime_ns);
            self.list(now);
        } else {
            for id in seen {
                self.end(id, None, Confidence::Inferred);
            }
        }
    }
}

impl Kept {
    fn of(id: ContId, life: &Life) -> Kept {
        let Namespaces { user, mount, pid, network } = life.namespaces;
        let registrar = life.registrar.clone().map(|registrar| {
            let Registrar { pid, uid, auid, comm, exe } = registrar;
            KeptRegistrar { pid, uid, auid, comm, exe }
        });
        Kept {
            contid: id.0,
            boottime_ns: life.begun.boottime_ns,
            realtime_ns: life.begun.realtime_ns,
            parent: life.parent.is_set().then_some(life.parent.0),
            grant: life.grant.clone(),
            namespaces: [user, mount, pid, network],
            cgroup: life.cgroup,
            drifted: life.drifted,
            last: life.last,
            registrar,
            group: life.group.clone(),
            description: life.description.clone(),
        }
    }

    fn read(self) -> (ContId, Option<Life>) {
        let id = ContId(self.contid);
        let [user, mount, pid, network] = self.namespaces;
        let registrar = self.registrar.map(|registrar| {
            let KeptRegistrar { pid, uid, auid, comm, exe } = registrar;
            Registrar { pid, uid, auid, comm, exe }
        });
        let is_short = registrar.as_ref().is_none_or(|registrar| {
            let exe = registrar.exe.as_ref().map_or(0, Vec::len);
            registrar.comm.len().max(exe) <= LONGEST_PATH
        });
        let is_short =
            is_short && self.grant.as_ref().is_none_or(|grant| grant.len() <= LONGEST_PATH);
        let is_good = id.is_set() && is_short && self.description.fits();
        let life = Life {
            begun: Moment { boottime_ns: self.boottime_ns, realtime_ns: self.realtime_ns },
            registrar,
            parent: self.parent.map_or(ContId::UNSET, ContId),
            grant: self.grant,
            namespaces: Namespaces { user, mount, pid, network },
            cgroup: self.cgroup,
            group: self.group.filter(|group| group.path.len().max(group.id.len()) <= LONGEST_PATH),
            description: self.description,
            processes: 0,
            refused: 0,
            drifted: self.drifted,
            entering: None,
            last: self.last,
        };
        (id, is_good.then_some(life))
    }
}
