//! What is to be done, and what whoever asked is answered.

use record::units::ContId;

use super::adopt::Adoption;
use super::groups::Group;
use super::judge::Errno;
use super::{Confidence, Record, ReqId, Ticket};
use crate::tasks::{Label, ProcessId};

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// See how the task `pid` stands, and hand that to [`Containers::handle_looked`].
    Look {
        /// For it.
        req: ReqId,
        /// As the file's path has it.
        pid: u32,
    },
    /// Give the task this label, hand how that went to [`Containers::handle_stored`], and from now on say
    /// so to [`Tasks::handle_labelled`](crate::tasks::Tasks::handle_labelled).
    Store {
        /// For it.
        req: ReqId,
        /// The task; its start was looked at, and must still be that.
        target: ProcessId,
        /// Its label.
        label: Label,
        /// The container it was in.
        old: ContId,
        /// From then on.
        at_ns: u64,
    },
    /// See whether the target lives and has a child that has not the generation, and hand that to
    /// [`Containers::handle_looked_again`].
    LookAgain {
        /// For it.
        req: ReqId,
        /// The task.
        target: ProcessId,
        /// Of the label it has now.
        generation: u64,
    },
    /// Take a label back: give the task the one it had, and say so to
    /// [`Tasks::handle_aborted`](crate::tasks::Tasks::handle_aborted) with that one's container.
    Abort {
        /// The task, which may have gone.
        target: ProcessId,
        /// The generation that does not count.
        generation: u64,
        /// What it had.
        restore: Label,
    },
    /// Write an event of our own.
    Record {
        /// Its records.
        records: Vec<Record>,
        /// How sure it is.
        confidence: Confidence,
        /// Answers may wait for it.
        ticket: Ticket,
    },
    /// Answer a request.
    Answer {
        /// Which.
        req: ReqId,
        /// The bytes written or read.
        result: Result<Answer, Errno>,
        /// Not before this record is durable.
        after: Option<Ticket>,
    },
    /// List all living processes that have a label, and hand that to [`Containers::handle_listed`]; and those
    /// in containers' control groups to [`Containers::handle_grouped`].
    List,
    /// Label every process of a control group that has no label, until there is none, and hand that to
    /// [`Containers::handle_adopted`].
    Adopt(Box<Adoption>),
    /// See what the runtime's own files say of a container, and hand that to
    /// [`Containers::handle_found`].
    Describe {
        /// The container.
        contid: ContId,
        /// Its group.
        group: Group,
    },
}

/// What a request is answered, where it succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// So many bytes were taken.
    Written(usize),
    /// This is what the file holds.
    Read(Vec<u8>),
    /// It is recorded.
    Done,
}
