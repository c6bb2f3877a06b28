//! Audit container identifiers (ghak90; reference "Records").

use super::kinds::{Id, Or};
use super::{Kind, view};
use crate::contid::ContIds;
use crate::value::Value;

view! {
    /// A container identifier was set (or its last task went, `op=drop`). The order
    /// of the fields differs between revisions; later ones leave the task to the
    /// SYSCALL record and have no result.
    ContainerOp<'a> (CONTAINER_OP) {
        /// `set` or `drop`.
        op: &'a [u8] = "op",
        /// The task that was given it.
        opid: u32 = "opid",
        /// The identifier it had, with its parents from V11 on.
        old_contid: ContIds<'a> = "old-contid",
        /// The identifier it was to have.
        contid: ContIds<'a> = "contid",
        /// The task that wrote it.
        pid: Option<u32> = "pid",
        /// Who that is by login.
        auid: Option<Or<'a, Id>> = "auid",
        /// Who that is.
        uid: Option<Or<'a, Id>> = "uid",
        /// Its terminal.
        tty: Option<&'a [u8]> = "tty",
        /// Its session.
        ses: Option<Or<'a, Id>> = "ses",
        /// Its label.
        subj: Option<&'a [u8]> = "subj",
        /// Its name.
        comm: Option<Value<'a>> = "comm",
        /// Its program.
        exe: Option<Value<'a>> = "exe",
        /// Whether it was set.
        res: Option<bool> = "res",
    }
}

view! {
    /// The containers that an event belongs to.
    ContainerId<'a> (CONTAINER_ID) {
        /// The number other records of the event refer to (V10 and later).
        record: Option<u32> = "record",
        /// The list.
        contid: ContIds<'a> = "contid",
        /// In a record of ours: whose containers these are, `subject` or `opid:N`.
        refers_to: Option<&'a [u8]> = "VT_REF",
    }
}

impl ContainerId<'_> {
    /// Whether these are the containers of whoever did it, and not of whom it was done to.
    #[must_use]
    pub fn is_of_subject(&self) -> bool {
        self.refers_to.is_none_or(|to| to == b"subject")
    }
}

impl<'a> Kind<'a> for ContIds<'a> {
    const WHAT: &'static str = "a list of container identifiers";

    fn from_value(value: Value<'a>) -> Option<ContIds<'a>> {
        ContIds::parse(value.text())
    }
}
