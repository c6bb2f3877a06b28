//! The agent: listens to the kernel and writes down what it says, with what that means. It is three
//! processes, which doorkeeper/ draws; this is the one that listens:
//!
//! ```text
//!   audit   uevent   kmsg   dm         a thread each                      sources/
//!     └───────┴──┬────┴──────┘
//!              inbox                   bounded; what finds no room is counted   inbox.rs gaps.rs
//!                │
//!          decision loop ──▶ writer    one thread                         listening.rs journal.rs
//!            │       │
//!          board   names ──▶ doorkeeper   for whoever asks                status.rs tree.rs link.rs
//!
//!     trail ──▶ readers                  a thread each, of the trail's files  events/
//! ```
//!
//! The lock, the control socket and the note for the next agent lie in the run directory (home.rs).

mod auditing;
mod backlog;
mod bucket;
mod checkpoints;
mod containers;
mod control;
mod devices;
mod doorkeeper;
pub(crate) mod events;
mod explain;
mod extent;
mod forwarding;
mod gaps;
mod heard;
mod home;
mod inbox;
mod journal;
mod kept;
mod link;
mod listening;
mod peer;
mod plugin;
mod quota;
mod reload;
mod rules;
mod sources;
mod start;
mod status;
mod tasks;
mod timekeeping;
mod tree;
mod watermark;
mod writer;

pub(crate) use containers::{
    Question as ContainerQuestion, Registration, Told, cut, described, leave_unregistered,
};
pub(crate) use doorkeeper::{Options, run};
pub(crate) use home::Home;
pub(crate) use plugin::relay;
pub(crate) use sources::{
    AuditInput, Limits as AuditLimits, Mode as AuditMode, Name as SourceName,
};
pub(crate) use start::listen;
pub(crate) use status::{
    Container, Device, Forward, OverQuota, ProgramState, SourceState, Status, Writer,
};
pub(crate) use tasks::TICK_NS;
pub(crate) use writer::run as write;

use std::path::Path;

use crate::outcome::{Failure, Kind};

/// Asks the agent of this run directory; none if there is none.
pub(crate) fn ask(home: &Home) -> Result<Option<Status>, Failure> {
    home.near_socket(control::ask).map_err(|error| unanswered(home, error))
}

/// Asks it about a container; none if there is none.
pub(crate) fn ask_of_container(
    home: &Home,
    question: &ContainerQuestion,
) -> Result<Option<Told>, Failure> {
    let ask = |socket: &Path| control::ask_of_container(socket, question);
    home.near_socket(ask).map_err(|error| unanswered(home, error))
}

fn unanswered(home: &Home, error: std::io::Error) -> Failure {
    let what = format!("the agent in {} does not answer", home.path().display());
    Failure::new(Kind::Io, what).because(error).hint("is it stopped, or its trail's disk?")
}

/// Whether there is an agent that hears of each block that the device `MAJOR:MINOR` of the kernel
/// refuses. One that does not answer is taken for none.
pub(crate) fn hears(run_dir: Option<&Path>, device: &str) -> bool {
    let Ok(Some(status)) = Home::locate(run_dir).and_then(|home| ask(&home)) else { return false };
    // What is polled tells how many there were, and not which.
    let heard = |name: &str| {
        let mut sources = status.sources.iter();
        sources.any(|source| source.name == name && source.state == SourceState::Listening)
    };
    let known = |known: &Device| known.device.as_deref() == Some(device);
    (heard("audit") || heard("kmsg")) && status.devices.iter().any(known)
}
