//! Records of the Integrity Policy Enforcement LSM (Linux 6.12, `security/ipe/audit.c`).

use super::kinds::{Id, Or, word_kinds};
use super::view;
use crate::value::Value;
use crate::violation::words;

view! {
    /// A decision that was a denial, or any when `success_audit` is set.
    IpeAccess<'a> (IPE_ACCESS) {
        /// What was about to happen.
        ipe_op: Or<'a, Operation> = "ipe_op",
        /// Where the kernel asked.
        ipe_hook: Or<'a, Hook> = "ipe_hook",
        /// Whether a denial denies (or is only logged).
        enforcing: bool = "enforcing",
        /// The process.
        pid: u32 = "pid",
        /// Its name.
        comm: Value<'a> = "comm",
        /// The file; none for what is no file.
        path: Option<Value<'a>> = "path",
        /// The superblock's id.
        dev: Option<Value<'a>> = "dev",
        /// The inode.
        ino: Option<u64> = "ino",
        /// The rule that decided, or `DEFAULT ...`.
        rule: Value<'a> = "rule",
    }
}

view! {
    /// Another policy became the active one.
    IpeConfigChange<'a> (IPE_CONFIG_CHANGE) {
        /// The one before; none if there was none.
        old_name: Option<Value<'a>> = "old_active_pol_name",
        /// Its version, `a.b.c`.
        old_version: Option<&'a [u8]> = "old_active_pol_version",
        /// `sha256:HEX` of the signed blob.
        old_digest: Option<&'a [u8]> = "old_policy_digest",
        /// The one now.
        new_name: Value<'a> = "new_active_pol_name",
        /// Its version.
        new_version: &'a [u8] = "new_active_pol_version",
        /// Its digest.
        new_digest: &'a [u8] = "new_policy_digest",
        /// Who did it, by login.
        auid: Or<'a, Id> = "auid",
        /// In which session.
        ses: Or<'a, Id> = "ses",
        /// Whether it was done.
        res: bool = "res",
    }
}

view! {
    /// A policy was loaded, or from later kernels on refused.
    IpePolicyLoad<'a> (IPE_POLICY_LOAD) {
        /// Its name; none if it could not be read.
        name: Option<Value<'a>> = "policy_name",
        /// Its version, `a.b.c`.
        version: Option<&'a [u8]> = "policy_version",
        /// `sha256:HEX` of the signed blob.
        digest: Option<&'a [u8]> = "policy_digest",
        /// Who did it, by login.
        auid: Or<'a, Id> = "auid",
        /// In which session.
        ses: Or<'a, Id> = "ses",
        /// Whether it was loaded.
        res: bool = "res",
        /// Why not (later kernels).
        errno: Option<i32> = "errno",
    }
}

words! {
    /// What is about to happen, `ipe_op=`.
    Operation {
        /// Code is mapped or run.
        Execute = "EXECUTE",
        /// Firmware is loaded.
        Firmware = "FIRMWARE",
        /// A module is loaded.
        KernelModule = "KMODULE",
        /// A kernel for kexec.
        KexecImage = "KEXEC_IMAGE",
        /// An initramfs for kexec.
        KexecInitramfs = "KEXEC_INITRAMFS",
        /// A policy of IMA.
        Policy = "POLICY",
        /// A certificate.
        X509Cert = "X509_CERT",
        /// None of these.
        Unknown = "UNKNOWN",
    }
}

words! {
    /// Where the kernel asked, `ipe_hook=`.
    Hook {
        /// Before a program runs.
        BprmCheck = "BPRM_CHECK",
        /// A file is mapped.
        Mmap = "MMAP",
        /// A mapping becomes executable.
        Mprotect = "MPROTECT",
        /// The kernel reads a file.
        KernelRead = "KERNEL_READ",
        /// The kernel takes data that is in no file.
        KernelLoad = "KERNEL_LOAD",
        /// A caller asks whether a script may run (after 6.12).
        BprmCredsForExec = "BPRM_CREDS_FOR_EXEC",
    }
}

word_kinds! {
    Operation: "an operation of IPE",
    Hook: "a hook of IPE",
}
