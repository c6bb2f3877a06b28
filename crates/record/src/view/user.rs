//! Messages of user space, and changes of audit's own configuration.

use super::kinds::{Id, Or};
use super::{View, ViewError, view};
use crate::fields::Fields;
use crate::names::RecordType;
use crate::value::Value;

/// A message that a process sent. The kernel vouches for what stands before
/// `msg=`; what stands in it is the sender's.
#[derive(Clone, Debug)]
pub struct User<'a> {
    /// The process.
    pub pid: u32,
    /// Its user.
    pub uid: Or<'a, Id>,
    /// Its login.
    pub auid: Or<'a, Id>,
    /// Its session.
    pub ses: Or<'a, Id>,
    /// Its label.
    pub subj: Option<&'a [u8]>,
    /// What it said; empty where there is no `msg=`.
    pub msg: Fields<'a>,
}

impl<'a> View<'a> for User<'a> {
    const NAME: &'static str = "User";

    fn accepts(kind: RecordType) -> bool {
        kind.is_user_message()
    }

    fn from_fields(fields: &Fields<'a>) -> Result<Self, ViewError> {
        let msg = fields.clone().find_map(|field| field.inner());
        Ok(User {
            pid: super::field(fields, "pid")?,
            uid: super::field(fields, "uid")?,
            auid: super::field(fields, "auid")?,
            ses: super::field(fields, "ses")?,
            subj: super::field(fields, "subj")?,
            msg: msg.unwrap_or_else(|| Fields::new(b"")),
        })
    }
}

impl<'a> User<'a> {
    /// What it did.
    #[must_use]
    pub fn op(&self) -> Option<&'a [u8]> {
        self.msg.clone().find_value(b"op").map(Value::text)
    }

    /// The account concerned, by name or by number (`id=`).
    #[must_use]
    pub fn account(&self) -> Option<Value<'a>> {
        let value = |key| self.msg.clone().find_value(key);
        value(b"acct").or_else(|| value(b"id"))
    }

    /// Whether it succeeded, by its own account. The last `res=` counts: what an
    /// unescaped text says comes before it.
    #[must_use]
    pub fn res(&self) -> Option<bool> {
        let last = self.msg.clone().filter(|field| field.key == b"res").last()?;
        super::field(&Fields::new(last.raw), "res").ok()
    }
}

view! {
    /// A setting, a rule or a watch of audit was changed. What was set stands in
    /// further fields, by its own name.
    ConfigChange<'a> (CONFIG_CHANGE) {
        /// `set`, `add_rule`, `remove_rule`, `updated_rules`, `trim` ...; older
        /// kernels have none for a setting.
        op: Option<&'a [u8]> = "op",
        /// Who did it, by login.
        auid: Option<Or<'a, Id>> = "auid",
        /// In which session.
        ses: Option<Or<'a, Id>> = "ses",
        /// The keys of the rule, joined by 0x01.
        key: Option<Value<'a>> = "key",
        /// The rule's list.
        list: Option<Or<'a, u32>> = "list",
        /// What is watched.
        path: Option<Value<'a>> = "path",
        /// The value before.
        old: Option<&'a [u8]> = "old",
        /// Whether it was changed.
        res: bool = "res",
    }
}
