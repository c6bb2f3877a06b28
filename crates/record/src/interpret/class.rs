//! What a field is, by the type of its record and its name.

use crate::names::RecordType;

/// How a value is read. One per kind of text that `ausearch -i` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A user id.
    User,
    /// A group id.
    Group,
    /// A session number.
    Session,
    /// A system call number.
    Syscall,
    /// An architecture.
    Arch,
    /// The result of a system call.
    Exit,
    /// An error number on its own.
    Errno,
    /// A quoted or hexadecimal string.
    Text,
    /// Rule keys, separated by 0x01.
    Key,
    /// Arguments separated by NUL.
    Proctitle,
    /// Permissions of a watch.
    Perm,
    /// A file mode with its type.
    Mode,
    /// A file mode without a type.
    ShortMode,
    /// Success or failure.
    Success,
    /// A socket address.
    Sockaddr,
    /// Argument 0 to 3 of a system call.
    Argument(u8),
    /// A signal.
    Signal,
    /// A rule list.
    List,
    /// Keys typed at a terminal.
    Tty,
    /// One capability.
    Capability,
    /// A set of capabilities.
    Capabilities,
    /// A netfilter family.
    NetfilterFamily,
    /// A netfilter hook.
    Hook,
    /// A netfilter verdict.
    Verdict,
    /// An ethernet protocol.
    EtherType,
    /// A type of ICMP.
    Icmp,
    /// A protocol of IP.
    Protocol,
    /// A personality.
    Personality,
    /// What a seccomp filter returned.
    Seccomp,
    /// Open flags.
    OpenFlags,
    /// Flags of `mmap`.
    MmapFlags,
    /// Flags of a path lookup.
    LookupFlags,
    /// Flags of `openat2`.
    Resolve,
    /// A request of `ioctl`.
    Ioctl,
    /// An answer to fanotify.
    Fanotify,
    /// Trust as a fanotify answer states it.
    Trust,
    /// Promiscuous mode.
    Promiscuous,
    /// A group of audit's netlink family.
    Multicast,
    /// An operation of io_uring.
    Uring,
    /// An audit container identifier.
    ContainerId,
    /// A network address in text.
    Address,
    /// A security label: may hold commas.
    Label,
    /// Anything else, shown as it stands.
    Plain,
}

impl Class {
    /// The class of field `name` with `value` in a record of type `kind`.
    #[must_use]
    pub fn of(kind: RecordType, name: &[u8], value: &[u8]) -> Class {
        // First the fields whose name means something else in some records.
        match (kind, name) {
            (RecordType::EXECVE, [b'a', rest @ ..])
                if rest != b"rgc" && memchr::memmem::find(rest, b"_len").is_none() =>
            {
                return Class::Text;
            }
            (RecordType::AVC, b"saddr") => return Class::Plain,
            (RecordType::USER_TTY, b"msg") => return Class::Text,
            (RecordType::NETFILTER_PKT, b"saddr") => return Class::Address,
            (_, b"acct") => {
                let encoded =
                    value.first() == Some(&b'"') || value.iter().all(u8::is_ascii_hexdigit);
                return if encoded { Class::Text } else { Class::Plain };
            }
            (RecordType::PATH, b"flags") => return Class::LookupFlags,
            (RecordType::MQ_OPEN, b"mode") => return Class::ShortMode,
            (RecordType::CRYPTO_KEY_USER, b"fp") => return Class::Plain,
            (RecordType::ADD_GROUP | RecordType::GRP_MGMT | RecordType::DEL_GROUP, b"id") => {
                return Class::Group;
            }
            (RecordType::TRUSTED_APP, _) => {
                let digits = value.iter().all(u8::is_ascii_digit);
                let hex = value.iter().all(u8::is_ascii_hexdigit);
                let encoded = value.first() == Some(&b'"') || (hex && !digits);
                return if encoded { Class::Text } else { Class::Plain };
            }
            (RecordType::KERN_MODULE, b"name") => return Class::Text,
            // An IMA rule has an action too: only netfilter's is a verdict.
            (RecordType::NETFILTER_PKT | RecordType::NETFILTER_CFG, b"action") => {
                return Class::Verdict;
            }
            (RecordType(1420..=1422 | 1800..=1899), b"errno") => return Class::Errno,
            (RecordType::FANOTIFY, b"subj_trust" | b"obj_trust") => return Class::Trust,
            (RecordType::URINGOP, b"uring_op") => return Class::Uring,
            _ => {}
        }
        Class::by_name(name)
    }

    fn by_name(name: &[u8]) -> Class {
        match name {
            b"auid" | b"uid" | b"euid" | b"suid" | b"fsuid" | b"ouid" | b"oauid" | b"old-auid"
            | b"iuid" | b"id" | b"inode_uid" | b"sauid" | b"obj_uid" => Class::User,
            b"gid" | b"egid" | b"sgid" | b"fsgid" | b"ogid" | b"igid" | b"obj_gid"
            | b"inode_gid" | b"new_gid" => Class::Group,
            b"ses" => Class::Session,
            b"syscall" => Class::Syscall,
            b"arch" => Class::Arch,
            b"exit" => Class::Exit,
            b"comm" | b"exe" | b"name" | b"path" | b"cwd" | b"file" | b"watch" | b"cmd"
            | b"dir" | b"vm" | b"device" | b"cgroup" | b"ocomm" | b"grp" | b"new_group"
            | b"old-chardev" | b"new-chardev" | b"old-disk" | b"new-disk" | b"old-fs"
            | b"new-fs" | b"old-net" | b"new-net" | b"old-rng" | b"new-rng" | b"apparmor"
            | b"operation" | b"denied_mask" | b"requested_mask" | b"info" | b"profile"
            | b"invalid_context" | b"sw" | b"root_dir" => Class::Text,
            b"key" => Class::Key,
            b"proctitle" => Class::Proctitle,
            b"perm" | b"perm_mask" => Class::Perm,
            b"mode" => Class::Mode,
            b"res" | b"result" => Class::Success,
            b"saddr" => Class::Sockaddr,
            b"a0" => Class::Argument(0),
            b"a1" => Class::Argument(1),
            b"a2" => Class::Argument(2),
            b"a3" => Class::Argument(3),
            b"sig" | b"sigev_signo" => Class::Signal,
            b"list" => Class::List,
            b"data" => Class::Tty,
            b"capability" => Class::Capability,
            b"cap_pi" | b"cap_pe" | b"cap_pp" | b"cap_pa" | b"cap_fi" | b"cap_fp" | b"fp"
            | b"fi" | b"pp" | b"pi" | b"pe" | b"pa" | b"old_pp" | b"old_pi" | b"old_pe"
            | b"old_pa" | b"new_pp" | b"new_pi" | b"new_pe" | b"new_pa" => Class::Capabilities,
            b"family" => Class::NetfilterFamily,
            b"hook" => Class::Hook,
            b"macproto" => Class::EtherType,
            b"icmptype" => Class::Icmp,
            b"proto" => Class::Protocol,
            b"per" => Class::Personality,
            b"code" => Class::Seccomp,
            b"oflag" => Class::OpenFlags,
            b"flags" => Class::MmapFlags,
            b"resolve" => Class::Resolve,
            b"ioctlcmd" => Class::Ioctl,
            b"resp" => Class::Fanotify,
            b"prom" | b"old_prom" => Class::Promiscuous,
            b"nl-mcgrp" => Class::Multicast,
            b"contid" | b"old-contid" => Class::ContainerId,
            b"addr" => Class::Address,
            b"subj" | b"obj" | b"scontext" | b"tcontext" | b"vm-ctx" | b"img-ctx" => Class::Label,
            _ => Class::Plain,
        }
    }
}
