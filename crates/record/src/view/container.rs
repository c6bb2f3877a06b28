//! Audit container identifiers (ghak90; reference "Records").

use super::kinds::{Id, Or};
use super::{Kind, view};
use crate::units::ContId;
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
    }
}

/// A list of identifiers, each with its parents: `4,^2,^1` (V9 and later),
/// `4^2^1` (V8), `123452,123451` (V5: two containers). Checked: every item is a
/// number, and no parent comes without a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContIds<'a> {
    text: &'a [u8],
}

impl<'a> ContIds<'a> {
    /// Checks a list; `None` when it is none.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<ContIds<'a>> {
        let list = ContIds { text };
        let first_is_child = list.raw_items().next().is_some_and(|(_, nested)| !nested);
        let good = list.raw_items().all(|(item, _)| id(item).is_some());
        (first_is_child && good).then_some(list)
    }

    /// The list as written.
    #[must_use]
    pub fn text(self) -> &'a [u8] {
        self.text
    }

    /// Every identifier in order, and whether it is the parent of the one before.
    pub fn items(self) -> impl Iterator<Item = (ContId, bool)> + 'a {
        self.raw_items().filter_map(|(item, nested)| Some((id(item)?, nested)))
    }

    /// Each container with its parents, the innermost first.
    #[must_use]
    pub fn chains(self) -> Vec<Vec<ContId>> {
        let mut chains: Vec<Vec<ContId>> = Vec::new();
        for (id, nested) in self.items() {
            match chains.last_mut() {
                Some(chain) if nested => chain.push(id),
                _ => chains.push(vec![id]),
            }
        }
        chains
    }

    /// Whether `id` is one of the containers themselves.
    #[must_use]
    pub fn has(self, id: ContId) -> bool {
        self.items().any(|(item, nested)| item == id && !nested)
    }

    /// Whether `id` is one of the containers or a parent of one.
    #[must_use]
    pub fn has_nested(self, id: ContId) -> bool {
        self.items().any(|(item, _)| item == id)
    }

    fn raw_items(self) -> impl Iterator<Item = (&'a [u8], bool)> {
        self.text.split(|b| *b == b',').flat_map(|item| {
            let (rest, nested) = match item.strip_prefix(b"^") {
                Some(rest) => (rest, true),
                None => (item, false),
            };
            rest.split(|b| *b == b'^').enumerate().map(move |(at, id)| (id, nested || at > 0))
        })
    }
}

fn id(item: &[u8]) -> Option<ContId> {
    ContId::from_value(Value::Literal(item))
}

impl<'a> Kind<'a> for ContIds<'a> {
    const WHAT: &'static str = "a list of container identifiers";

    fn from_value(value: Value<'a>) -> Option<ContIds<'a>> {
        ContIds::parse(value.text())
    }
}
