//! Arguments of system calls, `a0=` to `a3=`, always hexadecimal without prefix.

use super::number::{TooBig, low, signed, unsigned, unsigned32};
use super::scalar::{self, word};
use super::{EventContext, Names};
use crate::tables::{Named, file, name_of, net, process};

/// Writes argument `index` as the call of `context` understands it; where nothing
/// is known, `0x` and the digits.
pub(super) fn argument(
    index: u8,
    value: &[u8],
    context: &EventContext,
    names: &dyn Names,
    out: &mut Vec<u8>,
) -> Result<(), TooBig> {
    let call = context.call().unwrap_or("");
    match meaning(index, call, context) {
        Meaning::Unknown => hex(value, out),
        Meaning::DirFd => match unsigned32(value, 16)? {
            0xffff_ff9c => word("AT_FDCWD", out),
            _ => hex(value, out),
        },
        Meaning::Name(table, unknown) => scalar::named(table, value, 16, unknown, out)?,
        Meaning::Byte(table, unknown) => match name_of(table, unsigned32(value, 16)? & 0xff) {
            Some(name) => word(name, out),
            None => scalar::unknown(unknown, value, out),
        },
        Meaning::Flags(table) => {
            let bits = unsigned32(value, 16)?;
            if !scalar::flags(table, bits, b"|", out) {
                hex(value, out);
            }
        }
        Meaning::User => scalar::user(unsigned32(value, 16)?, names, out),
        Meaning::Group => scalar::group(unsigned32(value, 16)?, names, out),
        Meaning::Signal => scalar::signal(value, 16, out)?,
        Meaning::Mode => scalar::mode(unsigned32(value, 16)?, out),
        Meaning::ShortMode => scalar::short_mode(unsigned32(value, 16)?, out),
        Meaning::OpenFlags => {
            scalar::open_flags(unsigned32(value, 16)?, context.machine, value, out);
        }
        Meaning::MmapFlags => scalar::mmap_flags(value, out)?,
        Meaning::Prot { sem } => prot(value, sem, out)?,
        Meaning::Access => access(value, out)?,
        Meaning::CloneFlags => clone_flags(value, out)?,
        Meaning::Personality => scalar::personality(value, out)?,
        Meaning::Sched => sched(value, out)?,
        Meaning::ShmFlags => shm_flags(value, out)?,
        Meaning::Capability => scalar::capability(value, 16, out)?,
        Meaning::Counted(table, what) => {
            let number = unsigned32(value, 16)?;
            match name_of(table, number) {
                Some(name) => word(name, out),
                None => scalar::put(out, format_args!("unknown-{what}({})", number.cast_signed())),
            }
        }
        Meaning::Ioctl => scalar::ioctl(value, out)?,
        Meaning::Level => level(value, out)?,
        Meaning::SocketCall => socket_call(value, out)?,
        Meaning::Status => match value {
            b"0" => word("EXIT_SUCCESS", out),
            b"1" => word("EXIT_FAILURE", out),
            _ => hex(value, out),
        },
        Meaning::Descriptor => match unsigned32(value, 16)? {
            1 => word("FD_CLOEXEC", out),
            _ => hex(value, out),
        },
    }
    Ok(())
}

/// What an argument is.
#[derive(Clone, Copy)]
enum Meaning {
    Unknown,
    DirFd,
    /// One of a table; else `unknown-WHAT(0xVALUE)`.
    Name(Named, scalar::Unknown),
    /// One of a table; else `unknown-WHAT(NUMBER)` in decimal.
    Counted(Named, &'static str),
    /// As `Name`, of the low byte only.
    Byte(Named, scalar::Unknown),
    Flags(Named),
    User,
    Group,
    Signal,
    Mode,
    ShortMode,
    OpenFlags,
    MmapFlags,
    /// Protection; `PROT_SEM` is shown for `mmap` only.
    Prot {
        sem: bool,
    },
    Access,
    CloneFlags,
    Personality,
    Sched,
    ShmFlags,
    Capability,
    Ioctl,
    Level,
    SocketCall,
    Status,
    Descriptor,
}

fn meaning(index: u8, call: &str, context: &EventContext) -> Meaning {
    match index {
        0 => first(call),
        1 => second(call, context),
        2 => third(call, context),
        3 => fourth(call),
        _ => Meaning::Unknown,
    }
}

fn first(call: &str) -> Meaning {
    use scalar::Unknown as U;
    match call {
        "rt_sigaction" => Meaning::Signal,
        "readlinkat" | "mkdirat" | "mknodat" | "fchownat" | "futimesat" | "fchmodat"
        | "fchmodat2" | "futimensat" | "unlinkat" | "utimensat" | "linkat" | "newfstatat"
        | "name_to_handle_at" => Meaning::DirFd,
        _ if ["renameat", "faccessat", "openat"].iter().any(|start| call.starts_with(start)) => {
            Meaning::DirFd
        }
        "clock_settime" => Meaning::Name(process::CLOCKS, U::hex("clk_id")),
        "personality" => Meaning::Personality,
        "ptrace" => Meaning::Name(process::PTRACE, U::hex("ptrace")),
        "prctl" => Meaning::Name(process::PRCTL, U::hex("prctl-option")),
        "clone" | "unshare" => Meaning::CloneFlags,
        "getrlimit" | "setrlimit" => Meaning::Name(process::RLIMITS, U::hex("rlimit")),
        "setuid" | "setreuid" | "setresuid" | "setfsuid" => Meaning::User,
        "setgid" | "setregid" | "setresgid" | "setfsgid" => Meaning::Group,
        "socket" => Meaning::Name(net::FAMILIES, U::hex("family")),
        "socketcall" => Meaning::SocketCall,
        "bpf" => Meaning::Name(process::BPF, U::bare("bpf-cmd")),
        _ if call.starts_with("exit") => Meaning::Status,
        _ => Meaning::Unknown,
    }
}

fn second(call: &str, context: &EventContext) -> Meaning {
    use scalar::Unknown as U;
    match call {
        "chmod" | "fchmod" | "creat" | "mkdir" => Meaning::ShortMode,
        "mknod" => Meaning::Mode,
        _ if call.starts_with("fcntl") => Meaning::Counted(file::FCNTL, "fcntl-command"),
        _ if call.starts_with('c') && call.contains("chown") => Meaning::User,
        "setreuid" | "setresuid" => Meaning::User,
        "setregid" | "setresgid" => Meaning::Group,
        "getsockopt" | "setsockopt" => Meaning::Level,
        "socket" => Meaning::Byte(net::SOCKET_TYPES, U::bare("type")),
        "setns" => Meaning::CloneFlags,
        "sched_setscheduler" => Meaning::Sched,
        "open" | "mq_open" => Meaning::OpenFlags,
        "access" => Meaning::Access,
        "epoll_ctl" => Meaning::Counted(file::EPOLL, "epoll_ctl-operation"),
        "kill" | "tkill" => Meaning::Signal,
        "prctl" => match context.a0 {
            23 | 24 => Meaning::Capability,
            1 => Meaning::Signal,
            _ => Meaning::Unknown,
        },
        "umount2" => Meaning::Flags(file::UMOUNT_FLAGS),
        "ioctl" => Meaning::Ioctl,
        _ => Meaning::Unknown,
    }
}

fn third(call: &str, context: &EventContext) -> Meaning {
    use scalar::Unknown as U;
    /// `O_CREAT`: only with it is there a mode.
    const CREATE: u64 = 0o100;
    match call {
        _ if call.starts_with("fcntl") => match context.a1 {
            8 => Meaning::User,
            2 => Meaning::Descriptor,
            _ => Meaning::Unknown,
        },
        "getsockopt" | "setsockopt" => match context.a1 {
            0 => Meaning::Name(net::IP_OPTIONS, U::hex("ipopt-name")),
            1 => Meaning::Name(net::SOCKET_OPTIONS, U::hex("sockopt-name")),
            6 => Meaning::Name(net::TCP_OPTIONS, U::hex("tcpopt-name")),
            17 => Meaning::Name(net::UDP_OPTIONS, U::hex("udpopt-name")),
            41 => Meaning::Name(net::IP6_OPTIONS, U::hex("ip6opt-name")),
            263 => Meaning::Name(net::PACKET_OPTIONS, U::hex("pktopt-name")),
            _ => Meaning::Unknown,
        },
        "openat" | "open_by_handle_at" => Meaning::OpenFlags,
        "open" | "mq_open" if context.a1 & CREATE != 0 => Meaning::ShortMode,
        "fchmodat" | "fchmodat2" | "mkdirat" | "mknodat" => Meaning::ShortMode,
        _ if call.starts_with("faccessat") => Meaning::Access,
        "setresuid" => Meaning::User,
        "setresgid" => Meaning::Group,
        "socket" => Meaning::Name(net::PROTOCOLS, U::bare("proto")),
        "sendmsg" | "recvmsg" => Meaning::Flags(net::MESSAGE_FLAGS),
        "shmget" => Meaning::ShmFlags,
        "mmap" => Meaning::Prot { sem: true },
        "mprotect" => Meaning::Prot { sem: false },
        "readlinkat" | "linkat" => Meaning::DirFd,
        _ if call.starts_with("renameat") => Meaning::DirFd,
        "lseek" => Meaning::Byte(file::SEEK, U::bare("whence")),
        "tgkill" => Meaning::Signal,
        _ => Meaning::Unknown,
    }
}

fn fourth(call: &str) -> Meaning {
    match call {
        "mmap" => Meaning::MmapFlags,
        "mount" => Meaning::Flags(file::MOUNT_FLAGS),
        "recv" | "recvfrom" | "recvmmsg" | "send" | "sendto" | "sendmmsg" => {
            Meaning::Flags(net::MESSAGE_FLAGS)
        }
        _ => Meaning::Unknown,
    }
}

fn hex(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"0x");
    out.extend_from_slice(value);
}

fn prot(value: &[u8], sem: bool, out: &mut Vec<u8>) -> Result<(), TooBig> {
    let bits = unsigned32(value, 16)?;
    let shown = if sem { bits & 0xf } else { bits & 7 };
    if bits & 7 == 0 {
        word("PROT_NONE", out);
    } else {
        scalar::flags(file::PROT, shown, b"|", out);
    }
    Ok(())
}

fn access(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
    let bits = low(unsigned(value, 16)?);
    if bits & 0xf == 0 {
        word("F_OK", out);
    } else if !scalar::flags(file::ACCESS, bits, b"|", out) {
        hex(value, out);
    }
    Ok(())
}

fn clone_flags(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
    let bits = unsigned32(value, 16)?;
    let mut any = scalar::flags(process::CLONE_FLAGS, bits, b"|", out);
    let signal = bits & 0xff;
    if signal != 0
        && let Some(name) = name_of(process::SIGNALS, signal)
    {
        if any {
            out.push(b'|');
        }
        word(name, out);
        any = true;
    }
    if !any {
        scalar::put(out, format_args!("{bits:#x}"));
    }
    Ok(())
}

fn sched(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
    const RESET_ON_FORK: u32 = 0x4000_0000;
    let policy = unsigned32(value, 16)?;
    match name_of(process::SCHED, policy & 0xf) {
        Some(name) => {
            word(name, out);
            if policy & RESET_ON_FORK != 0 {
                word("|SCHED_RESET_ON_FORK", out);
            }
        }
        None => scalar::unknown(scalar::Unknown::hex("scheduler-policy"), value, out),
    }
    Ok(())
}

fn shm_flags(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
    let bits = unsigned32(value, 16)?;
    if scalar::flags(file::SHM_FLAGS, bits & 0o17_000, b"|", out) {
        out.push(b'|');
    }
    scalar::short_mode(bits & 0o777, out);
    Ok(())
}

fn level(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
    let level = unsigned32(value, 16)?;
    if level == 1 {
        word("SOL_SOCKET", out);
    } else if let Some(name) =
        name_of(net::PROTOCOLS, level).or_else(|| name_of(net::SOCKET_LEVELS, level))
    {
        word(name, out);
    } else {
        scalar::unknown(scalar::Unknown::hex("sockopt-level"), value, out);
    }
    Ok(())
}

fn socket_call(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
    match name_of(net::SOCKET_CALLS, low(signed(value, 16)?.cast_unsigned())) {
        Some(name) => word(name, out),
        None => scalar::unknown(scalar::Unknown::bare("socketcall"), value, out),
    }
    Ok(())
}

/// An argument's number, for the [`EventContext`].
pub(super) fn number_of(value: &[u8]) -> u64 {
    unsigned(value, 16).unwrap_or(0)
}
