//! Values for people: what `ausearch -i` shows.
//!
//! The reference is audit userspace 3.0.9, byte for byte except for the
//! deviations that `tests/interpret_as_ausearch.rs` lists with their reasons (it
//! runs the tool beside this code). Nothing here reads a file: names of users and
//! groups come from a [`Names`], the date from the caller.
//!
//! | module | what it knows |
//! |---|---|
//! | [`class`] | which field is what |
//! | `text` | strings: quoted, hexadecimal, typed |
//! | `scalar` | ids, modes, flags, capabilities |
//! | `args` | arguments of system calls |
//! | `sockaddr` | socket addresses |
//! | `walk` | a body, field by field, as the tool cuts it |

use std::borrow::Cow;

use crate::line::{Line, Stamp};
use crate::names::RecordType;
use crate::tables::syscall::Machine;
use crate::tables::{file, name_of, net, process};

pub mod class;

mod args;
mod number;
mod scalar;
mod sockaddr;
mod text;
mod walk;

use class::Class;
use number::{TooBig, signed, unsigned, unsigned32};
use scalar::{Unknown, put, word};

/// Names of users and groups. The binary asks the host; [`Numeric`] knows none.
/// Root, which has id 0 everywhere, and unset ids are not asked for.
pub trait Names {
    /// The login name of `uid`.
    fn user(&self, uid: u32) -> Option<Cow<'_, [u8]>>;
    /// The name of group `gid`.
    fn group(&self, gid: u32) -> Option<Cow<'_, [u8]>>;
}

/// Knows no name: ids are shown as `unknown(1000)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numeric;

impl Names for Numeric {
    fn user(&self, _: u32) -> Option<Cow<'_, [u8]>> {
        None
    }

    fn group(&self, _: u32) -> Option<Cow<'_, [u8]>> {
        None
    }
}

/// What the SYSCALL record of an event says, on which the meaning of arguments
/// and call numbers depends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventContext {
    /// The architecture of the call.
    pub machine: Option<Machine>,
    /// The number of the call.
    pub syscall: Option<u32>,
    /// Argument 0.
    pub a0: u64,
    /// Argument 1.
    pub a1: u64,
}

impl EventContext {
    /// Reads the body of a SYSCALL (or SECCOMP) record.
    #[must_use]
    pub fn read(body: &[u8]) -> EventContext {
        let mut context = EventContext::default();
        let mut rest = body;
        // The kernel writes these first, so no more than the start is looked at.
        for _ in 0..32 {
            let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
            let (token, after) = rest.split_at(end);
            if let Some(value) = token.strip_prefix(b"arch=") {
                let arch = unsigned32(value, 16).ok();
                context.machine = arch.and_then(Machine::from_audit_arch);
            } else if let Some(value) = token.strip_prefix(b"syscall=") {
                context.syscall = unsigned32(value, 10).ok();
            } else if let Some(value) = token.strip_prefix(b"a0=") {
                context.a0 = args::number_of(value);
            } else if let Some(value) = token.strip_prefix(b"a1=") {
                context.a1 = args::number_of(value);
                break;
            }
            match after {
                [_, after @ ..] => rest = after,
                [] => break,
            }
        }
        context
    }

    /// The name of the call, where architecture and number are known.
    #[must_use]
    pub fn call(&self) -> Option<&'static str> {
        self.machine?.syscall(self.syscall?)
    }
}

/// The record a value stands in.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// The type of the record.
    pub kind: RecordType,
    /// auditd's ENRICHED tail. What it says of users, groups, calls, architectures
    /// and addresses wins: the log may come from another host.
    pub enriched: &'a [u8],
    /// What the event's SYSCALL record says.
    pub context: EventContext,
}

impl<'a> Reading<'a> {
    /// Values of `line`, a record of an event with `context`. A record that states
    /// its own call (SYSCALL, SECCOMP) is its own context.
    #[must_use]
    pub fn of(line: &Line<'a>, context: &EventContext) -> Reading<'a> {
        let kind = line.effective_type();
        let context = match kind {
            RecordType::SYSCALL | RecordType::SECCOMP => EventContext::read(line.body()),
            _ => *context,
        };
        Reading { kind, enriched: line.enriched().unwrap_or_default(), context }
    }

    /// The value that auditd wrote for field `name`; none where it did not know.
    fn enrichment(&self, name: &[u8]) -> Option<&'a [u8]> {
        let mut rest = self.enriched;
        while !rest.is_empty() {
            let end = if rest.starts_with(b"SADDR={") {
                memchr::memchr(b'}', rest).map_or(rest.len(), |at| at + 1)
            } else {
                memchr::memchr2(b' ', crate::line::TAIL, rest).unwrap_or(rest.len())
            };
            let token = &rest[..end];
            if let Some(equals) = memchr::memchr(b'=', token)
                && token[..equals].eq_ignore_ascii_case(name)
            {
                let value = &token[equals + 1..];
                return (!value.starts_with(b"unknown-")).then_some(value);
            }
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        None
    }
}

/// Makes values readable.
#[derive(Clone, Copy)]
pub struct Interpreter<'n> {
    names: &'n dyn Names,
}

impl std::fmt::Debug for Interpreter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interpreter").finish_non_exhaustive()
    }
}

impl<'n> Interpreter<'n> {
    /// With the names of users and groups that `names` knows.
    #[must_use]
    pub fn new(names: &'n dyn Names) -> Interpreter<'n> {
        Interpreter { names }
    }

    /// Appends field `key` with the text `value` (as it stands, quotes included)
    /// of a record; several rule keys are joined by `,`. Control characters of a
    /// source never get through.
    pub fn value(&self, of: &Reading<'_>, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
        self.classed(Class::of(of.kind, key, value), of, key, value, b",", out);
    }

    /// Appends `line` without a line feed, in the form of `ausearch -i`:
    /// `[node=N ]type=T msg=audit(DATE.MMM:SERIAL) : key=value key=value `, every
    /// value followed by a blank. `date` appends the date and time of the second
    /// (its time zone is the caller's).
    pub fn line(
        &self,
        line: &Line<'_>,
        context: &EventContext,
        date: &dyn Fn(Stamp, &mut Vec<u8>),
        out: &mut Vec<u8>,
    ) {
        if let Some(node) = line.node() {
            out.extend_from_slice(b"node=");
            text::plain(node, out);
            out.push(b' ');
        }
        let of = Reading::of(line, context);
        out.extend_from_slice(b"type=");
        match of.kind.name() {
            Some(name) => word(name, out),
            None => text::plain(line.type_text(), out),
        }
        out.extend_from_slice(b" msg=audit(");
        date(line.stamp(), out);
        put(out, format_args!(".{:03}:{}) : ", line.stamp().millis % 1000, line.serial()));
        self.body(&of, line.body(), out);
    }

    /// Appends the body of a record as [`Interpreter::line`] does.
    pub fn body(&self, of: &Reading<'_>, body: &[u8], out: &mut Vec<u8>) {
        for part in walk::Walk::new(of.kind, body) {
            match part {
                walk::Part::Text(bytes) => text::plain(bytes, out),
                walk::Part::Field { name, value, comma } => {
                    let class = Class::of(of.kind, name, value);
                    self.classed(class, of, name, value, b" key=", out);
                    match class {
                        Class::Tty => {}
                        Class::Plain if comma => out.push(b','),
                        _ => out.push(b' '),
                    }
                }
            }
        }
    }

    fn classed(
        &self,
        class: Class,
        of: &Reading<'_>,
        name: &[u8],
        value: &[u8],
        between_keys: &[u8],
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        match class {
            Class::Key => return text::keys(value, between_keys, out),
            Class::User | Class::Group if !of.enriched.is_empty() => {
                if let Some(name) = of.enrichment(name) {
                    text::text(name, out);
                    return text::escape(out, start);
                }
            }
            Class::Syscall | Class::Arch | Class::Sockaddr | Class::Uring
                if !of.enriched.is_empty() =>
            {
                if let Some(name) = of.enrichment(name) {
                    return text::plain(name, out);
                }
            }
            _ => {}
        }
        if self.read(class, of, value, out).is_err() {
            out.truncate(start);
            out.extend_from_slice(b"conversion error(");
            out.extend_from_slice(value);
            out.push(b')');
        }
        text::escape(out, start);
    }

    fn read(
        &self,
        class: Class,
        of: &Reading<'_>,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), TooBig> {
        use Unknown as U;
        match class {
            Class::User => scalar::user(unsigned32(value, 10)?, self.names, out),
            Class::Group => scalar::group(unsigned32(value, 10)?, self.names, out),
            Class::Session => match value {
                b"4294967295" => word("unset", out),
                _ => out.extend_from_slice(value),
            },
            Class::ContainerId => {
                for (at, item) in value.split(|b| *b == b',').enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    match item {
                        b"18446744073709551615" | b"-1" => word("unset", out),
                        _ => out.extend_from_slice(item),
                    }
                }
            }
            Class::Syscall => self.syscall(of, value, out)?,
            Class::Arch => match Machine::from_audit_arch(unsigned32(value, 16)?) {
                Some(machine) => word(machine.name(), out),
                None => scalar::unknown(U::bare("elf-type"), value, out),
            },
            Class::Exit => scalar::exit(value, out)?,
            Class::Errno => scalar::errno(value, out)?,
            Class::Text => text::text(value, out),
            Class::Key => text::keys(value, b",", out),
            Class::Proctitle => text::proctitle(value, out),
            Class::Perm => scalar::perm(value, out)?,
            Class::Mode => scalar::mode(unsigned32(value, 8)?, out),
            Class::ShortMode => scalar::short_mode(unsigned32(value, 8)?, out),
            Class::Success => scalar::success(value, out)?,
            Class::Sockaddr => sockaddr::sockaddr(value, out),
            Class::Argument(index) => {
                args::argument(index, value, &of.context, self.names, out)?;
            }
            Class::Signal => scalar::signal(value, 10, out)?,
            Class::List => scalar::named(file::LISTS, value, 10, U::bare("list"), out)?,
            Class::Tty => text::typed(value, out),
            Class::Capability => scalar::capability(value, 10, out)?,
            Class::Capabilities => scalar::capabilities(value, out)?,
            Class::NetfilterFamily => {
                let unknown = U::bare("netfilter-protocol");
                scalar::named(net::NETFILTER_FAMILIES, value, 10, unknown, out)?;
            }
            Class::Hook => scalar::named(net::HOOKS, value, 16, U::bare("hook"), out)?,
            Class::Verdict => scalar::named(net::VERDICTS, value, 16, U::bare("action"), out)?,
            Class::EtherType => word(
                match unsigned32(value, 16)? {
                    0x0800 => "IP",
                    0x0806 => "ARP",
                    _ => "UNKNOWN",
                },
                out,
            ),
            Class::Icmp => scalar::named(net::ICMP, value, 10, U::bare("icmp-type"), out)?,
            Class::Protocol => {
                let name = name_of(net::PROTOCOLS, unsigned32(value, 10)?);
                word(name.unwrap_or("undefined protocol"), out);
            }
            Class::Personality => scalar::personality(value, out)?,
            Class::Seccomp => scalar::seccomp(value, out)?,
            // The kernel prints the flags of OPENAT2 in octal, those of MQ_OPEN in hex.
            Class::OpenFlags => {
                let base = if of.kind == RecordType::OPENAT2 { 8 } else { 16 };
                scalar::open_flags(unsigned32(value, base)?, of.context.machine, value, out);
            }
            Class::MmapFlags => scalar::mmap_flags(value, out)?,
            Class::LookupFlags => scalar::lookup_flags(value, out)?,
            Class::Resolve => scalar::resolve(value, out)?,
            Class::Ioctl => scalar::ioctl(value, out)?,
            Class::Fanotify => scalar::fanotify(value, out)?,
            Class::Trust => word(
                match value {
                    b"0" => "no",
                    b"1" => "yes",
                    _ => "unknown",
                },
                out,
            ),
            Class::Promiscuous => {
                word(if signed(value, 10)? == 0 { "no" } else { "yes" }, out);
            }
            Class::Multicast => word(
                if unsigned(value, 16)? == 1 { "audit-netlink-multicast" } else { "audit-none" },
                out,
            ),
            Class::Uring => match name_of(process::URING, unsigned32(value, 10)?) {
                Some(name) => word(name, out),
                None => out.extend_from_slice(value),
            },
            Class::Address | Class::Label | Class::Plain => out.extend_from_slice(value),
        }
        Ok(())
    }

    fn syscall(&self, of: &Reading<'_>, value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
        let number = unsigned32(value, 10)?;
        let Some(machine) = of.context.machine.filter(|machine| machine.has_syscalls()) else {
            out.extend_from_slice(value);
            return Ok(());
        };
        let Some(call) = machine.syscall(number) else {
            put(out, format_args!("unknown-syscall({})", number.cast_signed()));
            return Ok(());
        };
        word(call, out);
        let multiplexed = match call {
            "socketcall" => net::SOCKET_CALLS,
            "ipc" => file::IPC_CALLS,
            _ => return Ok(()),
        };
        let inner = u32::try_from(of.context.a0).ok().and_then(|a0| name_of(multiplexed, a0));
        if let Some(inner) = inner {
            put(out, format_args!("({inner})"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
