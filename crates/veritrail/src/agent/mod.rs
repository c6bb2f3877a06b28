//! The agent: one process that listens to the kernel and writes down what it says, with what that means.
//!
//! ```text
//!   audit   uevent   kmsg   dm         a thread each                      sources/
//!     └───────┴──┬────┴──────┘
//!              inbox                   bounded; what finds no room is counted   inbox.rs gaps.rs
//!                │
//!          decision loop ──▶ trail     one thread                         listening.rs journal.rs
//!            │       │
//!          board   names               for whoever asks                   status.rs tree.rs
//! ```
//!
//! The lock, the control socket and the note for the next agent lie in the run directory (home.rs).

mod devices;
mod explain;
mod gaps;
mod heard;
mod home;
mod inbox;
mod journal;
mod listening;
mod sources;
mod start;
mod status;
mod tree;
mod watermark;

pub(crate) use home::Home;
pub(crate) use sources::Name as SourceName;
pub(crate) use start::{Options, run};
pub(crate) use status::{Device, SourceState, Status};

use crate::outcome::{Failure, Kind};

/// Asks the agent of this run directory; none if there is none.
pub(crate) fn ask(home: &Home) -> Result<Option<Status>, Failure> {
    home.near_socket(status::ask).map_err(|error| {
        let what = format!("the agent in {} does not answer", home.path().display());
        Failure::new(Kind::Io, what).because(error).hint("is it stopped, or its trail's disk?")
    })
}
