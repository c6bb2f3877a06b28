//! What the agent says of itself (docs/formats/agent.md).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::containers::{Description, Life};
use engine::tasks::Namespaces;
use record::units::ContId;
use serde::{Deserialize, Serialize};

use super::auditing::Auditing;
use super::containers::Counts as Brought;
use super::events::Readers;
pub(crate) use super::extent::Extent;
pub(crate) use super::forwarding::Forward;

/// How the agent is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The process that listens.
    pub(crate) pid: u32,
    /// Seconds since 1970.
    pub(crate) started: u64,
    /// The process that is signalled to end the service.
    #[serde(default)]
    pub(crate) doorkeeper: u32,
    /// How many agents there were before this one since the doorkeeper was started.
    #[serde(default)]
    pub(crate) restarts: u64,
    #[serde(default)]
    pub(crate) writer: Writer,
    pub(crate) trail: String,
    /// Whether the trail can be written.
    pub(crate) trail_works: bool,
    /// Entries handed in to the trail.
    pub(crate) entries: u64,
    /// Entries lost at most and not told of in the trail yet.
    pub(crate) lost_entries: u64,
    /// Where the tree is; none where there is none.
    pub(crate) tree: Option<String>,
    pub(crate) sources: Vec<Source>,
    #[serde(default)]
    pub(crate) audit: Auditing,
    /// Events of our own system calls, which are not kept.
    pub(crate) own_events: u64,
    /// None before any were read.
    #[serde(default)]
    pub(crate) rules: Option<super::rules::Status>,
    #[serde(default)]
    pub(crate) passed_over: PassedOver,
    pub(crate) inbox: Inbox,
    /// Events of class 2 over the quota of whose they were.
    #[serde(default)]
    pub(crate) over_quota: u64,
    /// Of events.sock; none where there is none.
    #[serde(default)]
    pub(crate) events: Option<Readers>,
    /// What tells of processes in the kernel.
    #[serde(default)]
    pub(crate) programs: Vec<Program>,
    /// The processes that are known.
    #[serde(default)]
    pub(crate) tasks: Tasks,
    /// Containers that live.
    #[serde(default)]
    pub(crate) containers: Vec<Container>,
    /// Where the trail is sent; none where it is not.
    #[serde(default)]
    pub(crate) forward: Option<Forward>,
    /// What of the trail lies on the disk.
    #[serde(default)]
    pub(crate) extent: Option<Extent>,
    pub(crate) violations: u64,
    pub(crate) devices: Vec<Device>,
}

/// The process that writes the trail.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Writer {
    /// 0 where there is none at the moment.
    pub(crate) pid: u32,
    /// How many there were before it.
    pub(crate) restarts: u64,
    /// It has not been heard of for seconds, or its disk does not answer.
    pub(crate) silent: bool,
}

/// Where facts come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) state: SourceState,
    /// Why it is not heard, or how.
    pub(crate) detail: String,
    /// What is not known without it.
    pub(crate) consequence: Option<String>,
    /// Messages that came.
    pub(crate) messages: u64,
    /// Whole events made of them.
    pub(crate) events: u64,
    /// Messages that were lost on the way; what nobody counted is one.
    pub(crate) lost: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SourceState {
    Listening,
    /// It cannot be had.
    Missing,
    /// The configuration leaves it out.
    Off,
    /// It was heard and is not any more.
    Ended,
}

impl SourceState {
    pub(crate) fn word(self) -> &'static str {
        match self {
            SourceState::Listening => "listening",
            SourceState::Missing => "missing",
            SourceState::Off => "off",
            SourceState::Ended => "ended",
        }
    }
}

/// A program in the kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) state: ProgramState,
    /// Why it is missing.
    pub(crate) reason: Option<String>,
    /// What is not known without it.
    pub(crate) consequence: Option<String>,
    /// Runs, while the kernel counted them (bpf.statistics).
    pub(crate) runs: u64,
    /// Nanoseconds that they took.
    pub(crate) run_time_ns: u64,
    pub(crate) per_run_ns: Option<u64>,
    /// Events that it could not tell.
    pub(crate) lost: u64,
    /// Events that lack something, which could not be read.
    pub(crate) incomplete: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProgramState {
    Attached,
    /// The kernel refuses it.
    Missing,
    /// Nobody asked for it.
    Off,
}

/// A container that lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Container {
    pub(crate) contid: u64,
    /// The container that it was made in.
    pub(crate) parent: Option<u64>,
    /// The grant under which that one made it.
    #[serde(default)]
    pub(crate) grant: Option<String>,
    /// Seconds since 1970: when it was set, or first seen.
    pub(crate) since: u64,
    /// Processes that are known; threads are not told.
    pub(crate) processes: u32,
    /// Who set it; none where it was found with processes in it.
    pub(crate) registrar: Option<Registrar>,
    pub(crate) description: Description,
    pub(crate) namespaces: ContainerNamespaces,
    /// Inode number of its control group; 0: not known.
    pub(crate) cgroup: u64,
    /// The path of the control group by which it was found, or that a hook's has.
    pub(crate) group: Option<String>,
    /// Events of the kernel in the trail that are its, since this agent was started.
    #[serde(default)]
    pub(crate) events: u64,
    /// Their bytes in the trail, about.
    #[serde(default)]
    pub(crate) bytes: u64,
    /// Violations by its processes, or of what only it has mounted.
    #[serde(default)]
    pub(crate) violations: u64,
    /// Sets of identifiers that were refused: by its processes, for them, or of its own.
    #[serde(default)]
    pub(crate) refused: u64,
    /// Held back by its quota.
    #[serde(default)]
    pub(crate) over_quota: OverQuota,
}

/// What a quota has held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OverQuota {
    /// Events of class 1.
    pub(crate) keyed: u64,
    /// Events of class 2.
    pub(crate) rest: u64,
    pub(crate) bytes: u64,
}

impl OverQuota {
    /// Events.
    pub(crate) fn events(&self) -> u64 {
        self.keyed + self.rest
    }
}

/// Who has set an identifier.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Registrar {
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) auid: u32,
    pub(crate) comm: String,
    pub(crate) exe: Option<String>,
}

/// Inode numbers of a container's namespaces; 0: not known.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerNamespaces {
    pub(crate) user: u32,
    pub(crate) mount: u32,
    pub(crate) pid: u32,
    pub(crate) network: u32,
}

impl Container {
    pub(super) fn of(id: ContId, life: &Life, brought: Brought) -> Container {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let Namespaces { user, mount, pid, network } = life.namespaces;
        Container {
            contid: id.0,
            parent: life.parent.is_set().then_some(life.parent.0),
            grant: life.grant.clone(),
            since: life.begun.realtime_ns / 1_000_000_000,
            processes: life.processes,
            registrar: life.registrar.as_ref().map(|by| Registrar {
                pid: by.pid,
                uid: by.uid,
                auid: by.auid,
                comm: text(&by.comm),
                exe: by.exe.as_deref().map(text),
            }),
            description: life.description.clone(),
            namespaces: ContainerNamespaces { user, mount, pid, network },
            cgroup: life.cgroup,
            group: life.group.as_ref().map(|group| group.path.clone()),
            events: brought.events,
            bytes: brought.bytes,
            violations: brought.violations,
            refused: life.refused,
            over_quota: OverQuota {
                keyed: brought.over[0],
                rest: brought.over[1],
                bytes: brought.over[2],
            },
        }
    }
}

/// The table of processes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tasks {
    pub(crate) kept: u64,
    /// Ended ones that were forgotten before their time.
    pub(crate) forgotten_early: u64,
    /// How often there was no room for a living one.
    pub(crate) turned_away: u64,
}

/// What was heard and is nobody's violation.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct PassedOver {
    /// Lines of the kernel log that a process wrote.
    pub(crate) foreign_lines: u64,
    /// Records of the kernel log of an unknown form.
    pub(crate) unreadable_lines: u64,
    /// Audit records about mapped devices of an unknown form, or by an unknown target.
    pub(crate) unknown_records: u64,
    /// Lines of the kernel log that its rate limit swallowed, where audit records tell the same.
    pub(crate) spared_lines: u64,
}

/// The queue between sources and decisions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Inbox {
    /// The most bytes it ever held.
    pub(crate) high_water: u64,
    pub(crate) capacity: u64,
    /// What found no room, by class.
    pub(crate) lost_integrity: u64,
    pub(crate) lost_keyed: u64,
    pub(crate) lost_rest: u64,
}

/// A device that the agent knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) name: String,
    /// Major and minor number; none for a device that veritrail serves.
    pub(crate) device: Option<String>,
    pub(crate) module: String,
    pub(crate) state: String,
    pub(crate) violations: u64,
    pub(crate) last_violation: Option<String>,
    /// The file that the last violation hit.
    pub(crate) last_file: Option<String>,
}

/// Counts of one source, by whoever reads it.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts(Arc<[AtomicU64; 3]>);

impl Counts {
    pub(super) fn message(&self) {
        self.0[0].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn message_many(&self, messages: u64) {
        self.0[0].fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn event_many(&self, events: u64) {
        self.0[1].fetch_add(events, Ordering::Relaxed);
    }

    pub(super) fn event(&self) {
        self.0[1].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lost(&self, messages: u64) {
        self.0[2].fetch_add(messages, Ordering::Relaxed);
    }

    /// Messages, events, lost.
    pub(super) fn read(&self) -> [u64; 3] {
        [0, 1, 2].map(|at: usize| self.0[at].load(Ordering::Relaxed))
    }
}

/// The status as the loop last made it, for whoever asks.
#[derive(Clone, Debug, Default)]
pub(super) struct Board(Arc<Mutex<Status>>);

impl Board {
    pub(super) fn lock(&self) -> MutexGuard<'_, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
