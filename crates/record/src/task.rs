//! Who did something: the fields of a task that the kernel puts into its records.

use crate::write::Body;

/// What `audit_log_task_info` of Linux 6.12 says of a task. Ids are those of the initial
/// namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The parent's process id.
    pub ppid: u32,
    /// The process id.
    pub pid: u32,
    /// The login uid; `u32::MAX` where nobody logged in.
    pub auid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Saved user id.
    pub suid: u32,
    /// User id for file access.
    pub fsuid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Saved group id.
    pub sgid: u32,
    /// Group id for file access.
    pub fsgid: u32,
    /// The controlling terminal without `/dev/`; none without one.
    pub tty: Option<String>,
    /// The session of the login; `u32::MAX` where there is none.
    pub ses: u32,
    /// The name of the thread, which it chose itself.
    pub comm: Vec<u8>,
    /// The program's file; none for a kernel thread, or where it could not be seen.
    pub exe: Option<Vec<u8>>,
}

impl Task {
    /// Adds the fields to a record, in the kernel's order.
    #[must_use]
    pub fn push(&self, body: Body) -> Body {
        let body = body
            .word("ppid", self.ppid)
            .word("pid", self.pid)
            .word("auid", self.auid)
            .word("uid", self.uid)
            .word("gid", self.gid)
            .word("euid", self.euid)
            .word("suid", self.suid)
            .word("fsuid", self.fsuid)
            .word("egid", self.egid)
            .word("sgid", self.sgid)
            .word("fsgid", self.fsgid)
            .word("tty", self.tty.as_deref().unwrap_or("(none)"))
            .word("ses", self.ses)
            .untrusted("comm", &self.comm);
        match &self.exe {
            Some(exe) => body.untrusted("exe", exe),
            None => body.word("exe", "(null)"),
        }
    }
}
