//! Why the kernel did not do what audit was asked for, and what to do about it.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

/// Why audit could not be read, asked or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// EPROTONOSUPPORT.
    #[error(
        "cannot {doing}: this kernel runs without audit: boot it without audit=0, built with CONFIG_AUDIT"
    )]
    Unsupported {
        /// What was being done.
        doing: &'static str,
    },
    /// ECONNREFUSED, or EPERM in spite of the capability.
    #[error(
        "cannot {doing}: the kernel's audit answers only processes of the initial user namespace: run outside the container, or in one without a user namespace of its own"
    )]
    UserNamespace {
        /// What was being done.
        doing: &'static str,
    },
    /// EPERM in spite of the capability and of a configuration that is not locked.
    #[error(
        "cannot {doing}: the kernel's audit takes orders only from the initial PID namespace: run with the host's (--pid=host)"
    )]
    PidNamespace {
        /// What was being done.
        doing: &'static str,
    },
    /// EPERM.
    #[error(
        "cannot {doing}: {capability} is lacking: run as root, or give the unit AmbientCapabilities={capability}"
    )]
    Capability {
        /// What was being done.
        doing: &'static str,
        /// The one that it needs.
        capability: &'static str,
    },
    /// EPERM, and `enabled` is 2.
    #[error(
        "cannot {doing}: audit's configuration is locked until the machine is booted again: take -e 2 out of its rules first"
    )]
    Locked {
        /// What was being done.
        doing: &'static str,
    },
    /// EEXIST on registering.
    #[error(
        "cannot {doing}: process {pid} is the audit daemon: stop it (systemctl stop auditd), or read by multicast beside it"
    )]
    DaemonExists {
        /// What was being done.
        doing: &'static str,
        /// The one that is registered; 0 where it is not known.
        pid: u32,
    },
    /// EEXIST on adding a rule.
    #[error("cannot {doing}: the kernel has this very rule: delete that one first, or leave it")]
    RuleExists {
        /// What was being done.
        doing: &'static str,
    },
    /// ENOENT on deleting a rule.
    #[error("cannot {doing}: the kernel has no such rule: compare with auditctl -l")]
    NoSuchRule {
        /// What was being done.
        doing: &'static str,
    },
    /// A user message that the kernel would refuse or cut.
    #[error("cannot {doing}: {why}")]
    Message {
        /// What was being done.
        doing: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// EINVAL.
    #[error("cannot {doing}: the kernel takes no such value here (EINVAL)")]
    Refused {
        /// What was being done.
        doing: &'static str,
    },
    /// The kernel did not answer.
    #[error("cannot {doing}: the kernel did not answer within {} s", .after.as_secs())]
    NoAnswer {
        /// What was being done.
        doing: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The kernel answered with bytes that are no answer, or with too many.
    #[error("cannot {doing}: the kernel's answer cannot be read: {why}")]
    Malformed {
        /// What was being done.
        doing: &'static str,
        /// In what way.
        why: &'static str,
    },
    /// Anything else.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// What `errno` means for something that needs `capability`.
    pub(super) fn of(doing: &'static str, errno: Errno, capability: Capability) -> Self {
        match errno {
            Errno::PROTONOSUPPORT => Error::Unsupported { doing },
            Errno::CONNREFUSED => Error::UserNamespace { doing },
            Errno::PERM if !capability.is_effective() => {
                Error::Capability { doing, capability: capability.name() }
            }
            Errno::PERM if capability == Capability::Read => Error::UserNamespace { doing },
            Errno::PERM => Error::PidNamespace { doing },
            Errno::INVAL => Error::Refused { doing },
            errno => Error::Io { doing, source: errno.into() },
        }
    }

    /// What is no answer of audit but a failure of the system.
    pub(super) fn io(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Error::Io { doing, source }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}

/// What audit demands of a process, in the initial user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Capability {
    /// To read by multicast.
    Read,
    /// To send messages.
    Write,
    /// Everything else.
    Control,
}

impl Capability {
    fn name(self) -> &'static str {
        match self {
            Capability::Read => "CAP_AUDIT_READ",
            Capability::Write => "CAP_AUDIT_WRITE",
            Capability::Control => "CAP_AUDIT_CONTROL",
        }
    }

    /// In this process's own user namespace.
    fn is_effective(self) -> bool {
        let one = match self {
            Capability::Read => CapabilitySet::AUDIT_READ,
            Capability::Write => CapabilitySet::AUDIT_WRITE,
            Capability::Control => CapabilitySet::AUDIT_CONTROL,
        };
        rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(one))
    }
}
