//! IMA and EVM records.

use super::kinds::{Id, Or};
use super::{View, ViewError, view};
use crate::fields::{Field, Fields};
use crate::names::RecordType;
use crate::value::Value;

view! {
    /// The general form: appraisal, metadata, policy updates, violations of the list.
    Integrity<'a> (
        INTEGRITY_DATA INTEGRITY_METADATA INTEGRITY_STATUS INTEGRITY_HASH INTEGRITY_PCR
    ) {
        /// The thread (not the process).
        pid: u32 = "pid",
        /// Its user.
        uid: Or<'a, Id> = "uid",
        /// Its login.
        auid: Or<'a, Id> = "auid",
        /// Its session.
        ses: Or<'a, Id> = "ses",
        /// Its label.
        subj: Option<&'a [u8]> = "subj",
        /// What was done.
        op: &'a [u8] = "op",
        /// Why it came out so; may hold blanks.
        cause: &'a [u8] = "cause",
        /// Its name.
        comm: Value<'a> = "comm",
        /// The file.
        name: Option<Value<'a>> = "name",
        /// The superblock's id: `sda2`, `tmpfs`.
        dev: Option<Value<'a>> = "dev",
        /// The inode.
        ino: Option<u64> = "ino",
        /// Whether it went well.
        res: bool = "res",
        /// An errno, or 0 (also on many failures); not in older kernels.
        errno: Option<i32> = "errno",
    }
}

view! {
    /// A file met an `audit` rule.
    IntegrityRule<'a> (INTEGRITY_RULE) {
        /// The file, in the reader's mount namespace.
        file: Value<'a> = "file",
        /// `ALGO:hex`.
        hash: Value<'a> = "hash",
    } task
}

impl<'a> IntegrityRule<'a> {
    /// The name of the algorithm and the digest in lower-case hex.
    #[must_use]
    pub fn digest(&self) -> Option<(&'a [u8], &'a [u8])> {
        let text = self.hash.text();
        let colon = memchr::memchr(b':', text)?;
        Some((&text[..colon], &text[colon + 1..]))
    }
}

view! {
    /// An attribute was added to those that EVM covers.
    EvmXattr<'a> (INTEGRITY_EVM_XATTR) {
        /// Its name.
        xattr: Value<'a> = "xattr",
        /// Whether it was.
        res: bool = "res",
    }
}

/// A line of a policy, as the kernel read it.
#[derive(Clone, Debug)]
pub struct PolicyRule<'a> {
    /// Its words in the order written, each with its operator, `res` not among
    /// them. A word that the kernel does not know is `UNKNOWN=word`.
    pub words: Vec<Field<'a>>,
    /// Whether the kernel took it.
    pub res: bool,
}

impl<'a> View<'a> for PolicyRule<'a> {
    const NAME: &'static str = "PolicyRule";

    fn accepts(kind: RecordType) -> bool {
        kind == RecordType::INTEGRITY_POLICY_RULE
    }

    fn from_fields(fields: &Fields<'a>) -> Result<Self, ViewError> {
        let mut words: Vec<_> = fields.clone().collect();
        let last = words.pop().filter(|last| last.key == b"res");
        let last = last.ok_or_else(|| ViewError::Missing { field: "res".to_string() })?;
        let res = super::field(&Fields::new(last.raw), "res")?;
        Ok(PolicyRule { words, res })
    }
}
