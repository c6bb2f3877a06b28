//! Who asks for a container's identifier, or for one to be set, and how he is answered.

use std::os::unix::net::UnixStream;

use engine::containers::{Answer, Description, Errno};
use record::units::ContId;
use serde::{Deserialize, Serialize};

use super::super::doorkeeper::wire::{Answered, FromAgent};
use super::super::link::Link;
use crate::json_line;

/// What is asked of the control socket about a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Question {
    /// Which container is this task in?
    Get { task: u32 },
    /// From now on this task is one, or the container's first.
    Set(Registration),
}

impl Question {
    /// The same as ours: whoever asks numbers processes as his own pid namespace does.
    pub(in crate::agent) fn in_our_numbers(self, caller: u32) -> Question {
        // 0 is nobody's.
        let ours = |task| host::target::meant_by(caller, task).unwrap_or(0);
        match self {
            Question::Get { task } => Question::Get { task: ours(task) },
            Question::Set(registration) => {
                Question::Set(Registration { task: ours(registration.task), ..registration })
            }
        }
    }

    /// When the task that it is about started, in clock ticks since boot; none where there is none.
    pub(in crate::agent) fn started(&self) -> Option<u64> {
        let (Question::Get { task } | Question::Set(Registration { task, .. })) = self;
        host::process::start_time(*task).ok()
    }
}

/// A task is given an identifier, with what is known of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registration {
    pub(crate) task: u32,
    /// None: one is chosen, the same for the same runtime and id.
    pub(crate) contid: Option<u64>,
    #[serde(default)]
    pub(crate) description: Option<Description>,
    /// A runtime is making a container of it, of threads of its own program still: they all get it.
    #[serde(default)]
    pub(crate) of_runtime: bool,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Told {
    /// The task's identifier.
    Contid(u64),
    /// Why not, as the call in the tree would have failed.
    Errno(i32),
}

/// Somebody who asked by the control socket, and waits.
#[derive(Debug)]
pub(in crate::agent) struct Inquiry {
    pub(in crate::agent) question: Question,
    /// When the task that it is about started, in clock ticks since boot; none where there is none.
    pub(in crate::agent) started: Option<u64>,
    /// Whose it is.
    pub(in crate::agent) caller: u32,
    /// When it was taken, in nanoseconds since boot.
    pub(in crate::agent) asked_ns: u64,
    pub(in crate::agent) stream: UnixStream,
}

/// Who waits for an answer.
#[derive(Debug)]
pub(super) enum Asker {
    /// Of the tree, by number.
    Tree(u64),
    /// Which identifier a task has.
    Asked(UnixStream),
    /// That it has this identifier, of which this is to be said then.
    Registering(UnixStream, ContId, Option<Description>),
    /// The same, and all that is to be said is said.
    Registered(UnixStream, ContId),
}

pub(super) fn answer(asker: Asker, result: Result<Answer, Errno>, link: Option<&Link>) {
    let outcome = result.map_err(Errno::number);
    match asker {
        Asker::Tree(id) => {
            let outcome = outcome.map(|answer| match answer {
                Answer::Read(value) => value,
                Answer::Written(_) | Answer::Done => Vec::new(),
            });
            if let Some(link) = link {
                link.tell(&FromAgent::Answered(Answered { id, outcome }));
            }
        }
        Asker::Asked(stream) => {
            let told = outcome.map(|answer| match answer {
                Answer::Read(value) => {
                    str::from_utf8(&value).ok().and_then(|text| text.parse().ok())
                }
                Answer::Written(_) | Answer::Done => None,
            });
            say(&stream, told.map(|contid| contid.unwrap_or(ContId::UNSET.0)));
        }
        Asker::Registering(stream, contid, _) | Asker::Registered(stream, contid) => {
            say(&stream, outcome.map(|_| contid.0));
        }
    }
}

/// Whoever asked may have gone.
fn say(stream: &UnixStream, told: Result<u64, i32>) {
    let told = match told {
        Ok(contid) => Told::Contid(contid),
        Err(errno) => Told::Errno(errno),
    };
    let _ = json_line::say(stream, &told);
}
