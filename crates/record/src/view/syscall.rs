//! System calls and what accompanies them; packets.

use std::borrow::Cow;

use super::kinds::{Hex, Id, Mode, Or};
use super::{View, ViewError, view};
use crate::fields::Fields;
use crate::names::RecordType;
use crate::value::{Value, decode_hex};

view! {
    /// The task block, which many records share.
    Task<'a> () {
        /// Its parent.
        ppid: u32 = "ppid",
        /// The process (thread group).
        pid: u32 = "pid",
        /// Who it is by login.
        auid: Or<'a, Id> = "auid",
        /// Real user.
        uid: Or<'a, Id> = "uid",
        /// Real group.
        gid: Or<'a, Id> = "gid",
        /// Effective user.
        euid: Or<'a, Id> = "euid",
        /// Saved user.
        suid: Or<'a, Id> = "suid",
        /// User for files.
        fsuid: Or<'a, Id> = "fsuid",
        /// Effective group.
        egid: Or<'a, Id> = "egid",
        /// Saved group.
        sgid: Or<'a, Id> = "sgid",
        /// Group for files.
        fsgid: Or<'a, Id> = "fsgid",
        /// Its terminal.
        tty: Option<&'a [u8]> = "tty",
        /// Its session.
        ses: Or<'a, Id> = "ses",
        /// Its name.
        comm: Value<'a> = "comm",
        /// Its program; none for a thread of the kernel.
        exe: Option<Value<'a>> = "exe",
        /// Its label.
        subj: Option<&'a [u8]> = "subj",
    }
}

view! {
    /// A system call.
    Syscall<'a> (SYSCALL) {
        /// `AUDIT_ARCH_*`: which table `syscall` counts in.
        arch: Or<'a, Hex> = "arch",
        /// Its number.
        syscall: Or<'a, u32> = "syscall",
        /// Personality, when not the usual.
        per: Option<Hex> = "per",
        /// Whether it succeeded; none when it did not return.
        success: Option<bool> = "success",
        /// What it returned.
        exit: Option<Or<'a, i64>> = "exit",
        /// First argument.
        a0: Or<'a, Hex> = "a0",
        /// Second argument.
        a1: Or<'a, Hex> = "a1",
        /// Third argument.
        a2: Or<'a, Hex> = "a2",
        /// Fourth argument.
        a3: Or<'a, Hex> = "a3",
        /// How many PATH records belong to it.
        items: u32 = "items",
        /// The keys of the rule that recorded it, joined by 0x01.
        key: Option<Value<'a>> = "key",
    } task
}

view! {
    /// A file that a call named. What describes the inode is missing when none was found.
    Path<'a> (PATH) {
        /// Which of the event's.
        item: u32 = "item",
        /// As it was named.
        name: Option<Value<'a>> = "name",
        /// The inode.
        inode: Option<u64> = "inode",
        /// The file system's device, hex `fe:00`.
        dev: Option<&'a [u8]> = "dev",
        /// Type and permissions.
        mode: Option<Or<'a, Mode>> = "mode",
        /// Owner.
        ouid: Option<Or<'a, Id>> = "ouid",
        /// Group.
        ogid: Option<Or<'a, Id>> = "ogid",
        /// The device it is, hex.
        rdev: Option<&'a [u8]> = "rdev",
        /// Its label.
        obj: Option<&'a [u8]> = "obj",
        /// NORMAL, PARENT, DELETE, CREATE, UNKNOWN.
        nametype: Option<&'a [u8]> = "nametype",
    }
}

view! {
    /// Where relative names start.
    Cwd<'a> (CWD) {
        /// The directory.
        cwd: Option<Value<'a>> = "cwd",
    }
}

view! {
    /// The command line, as much of it as the kernel keeps (128 bytes).
    Proctitle<'a> (PROCTITLE) {
        /// Arguments with NULs between.
        proctitle: Value<'a> = "proctitle",
    }
}

impl<'a> Proctitle<'a> {
    /// The whole, arguments with NULs between.
    #[must_use]
    pub fn bytes(&self) -> Cow<'a, [u8]> {
        self.proctitle.untrusted().unwrap_or_default()
    }
}

/// A socket address, as the caller gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sockaddr {
    /// `struct sockaddr` in the byte order of the host that wrote the record.
    pub saddr: Vec<u8>,
}

impl<'a> View<'a> for Sockaddr {
    const NAME: &'static str = "Sockaddr";

    fn accepts(kind: RecordType) -> bool {
        kind == RecordType::SOCKADDR
    }

    fn from_fields(fields: &Fields<'a>) -> Result<Self, ViewError> {
        let value: Value<'a> = super::field(fields, "saddr")?;
        let saddr = decode_hex(value.text()).ok_or_else(|| {
            let found = value.text();
            let found = found[..found.len().min(64)].to_vec();
            ViewError::Value { field: "saddr", found, expected: "hex" }
        })?;
        Ok(Sockaddr { saddr })
    }
}

view! {
    /// A packet met an AUDIT target. It names no task and no network namespace.
    NetfilterPkt<'a> (NETFILTER_PKT) {
        /// The packet's mark.
        mark: Hex = "mark",
        /// From; none for a family the kernel does not print.
        saddr: Option<&'a [u8]> = "saddr",
        /// To.
        daddr: Option<&'a [u8]> = "daddr",
        /// IP protocol, -1 unknown.
        proto: Or<'a, i32> = "proto",
    }
}
