//! From what was typed to what is searched for: names become numbers here.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use record::RecordType;
use record::tables::errno;
use record::tables::syscall::Machine;

use super::args::{Arguments, Success};
use super::filter::{Device, Integrity, Number, Query, Text, Type, User, Users};
use super::time::{Bound, Clock, FORMS, Millis};
use crate::outcome::{Failure, Kind};

impl Arguments {
    /// The query. Looks up users, groups and device names on this machine.
    pub(super) fn query(&self, clock: &Clock) -> Result<Query, Failure> {
        let bytes = |text: &std::ffi::OsString| text.as_bytes().to_vec();
        let text = |item, text: &Option<std::ffi::OsString>| Some((item, bytes(text.as_ref()?)));
        let texts = [
            text(Text::Key, &self.key),
            text(Text::Exe, &self.executable),
            text(Text::File, &self.file),
            text(Text::Comm, &self.comm),
            text(Text::Uuid, &self.uuid),
            text(Text::Vm, &self.vm_name),
            text(Text::Host, &self.host),
            text(Text::Terminal, &self.terminal),
        ];
        let session = self.session.as_deref().map(|text| id("session", text)).transpose()?;
        let number = |item, number: Option<u32>| number.map(|number| (item, number));
        let numbers = [
            number(Number::Pid, self.pid),
            number(Number::Ppid, self.ppid),
            number(Number::Session, session),
        ];
        let user = |text: &Option<String>| text.as_deref().map(user).transpose();
        let group = |text: &Option<String>| text.as_deref().map(group).transpose();
        let any_group = group(&self.gid_all)?;
        let context = self.context.as_ref();
        let (machine, syscall) = self.call()?;
        let all_types = self.message.iter().any(|list| list.eq_ignore_ascii_case("all"));
        Ok(Query {
            from: bound(Bound::Start, &self.start, clock)?,
            to: bound(Bound::End, &self.end, clock)?,
            serial: self.event,
            nodes: self.node.iter().map(bytes).collect(),
            types: if all_types { Vec::new() } else { types(&self.message)? },
            numbers: numbers.into_iter().flatten().collect(),
            users: Users {
                uid: user(&self.uid)?,
                euid: user(&self.uid_effective)?,
                auid: user(&self.loginuid)?,
                any: user(&self.uid_all)?,
            },
            gid: any_group.or(group(&self.gid)?),
            egid: any_group.or(group(&self.gid_effective)?),
            any_group: any_group.is_some(),
            syscall,
            arch: machine.map(Machine::audit_arch),
            exit: self.exit.as_deref().map(exit).transpose()?,
            success: self.success.map(|success| success == Success::Yes),
            texts: texts.into_iter().flatten().collect(),
            subject: self.subject.as_ref().or(context).map(bytes),
            object: self.object.as_ref().or(context).map(bytes),
            any_context: context.is_some(),
            word: self.word,
            integrity: Integrity {
                device: self.device.as_deref().map(device),
                sector: self.sector,
                op: self.op.as_ref().map(|op| op.clone().into_bytes()),
            },
            containers: None,
        })
    }

    /// The architecture and the call; a call by name is one of an architecture.
    fn call(&self) -> Result<(Option<Machine>, Option<u32>), Failure> {
        let machine = match self.arch.as_deref() {
            Some(name) => Some(Machine::from_name(name.as_bytes()).ok_or_else(|| {
                usage(format!("no architecture is called `{name}`"))
                    .hint("x86_64, i386, aarch64, arm, riscv64, b64 or b32")
            })?),
            None => None,
        };
        let Some(call) = self.syscall.as_deref() else { return Ok((machine, None)) };
        if let Ok(number) = call.parse() {
            return Ok((machine, Some(number)));
        }
        let machine = machine.or_else(|| Machine::from_name(std::env::consts::ARCH.as_bytes()));
        let number = machine.and_then(|machine| machine.syscall_number(call.as_bytes()));
        match number {
            Some(number) => Ok((machine, Some(number))),
            None => Err(usage(format!(
                "no system call of {} is called `{call}`",
                machine.map_or("this machine", Machine::name),
            ))
            .hint("name the architecture with --arch, or give the number")),
        }
    }
}

fn usage(message: String) -> Failure {
    Failure::new(Kind::Usage, message)
}

fn bound(bound: Bound, words: &[String], clock: &Clock) -> Result<Option<Millis>, Failure> {
    if words.is_empty() {
        return Ok(None);
    }
    let moment = bound.parse(words, clock).map_err(|error| usage(error.to_string()).hint(FORMS))?;
    Ok(Some(moment))
}

fn types(lists: &[String]) -> Result<Vec<Type>, Failure> {
    let names = lists.iter().flat_map(|list| list.split(','));
    let types = names.map(|name| match RecordType::from_name(name.as_bytes()) {
        Some(known) if name.as_bytes()[0].is_ascii_digit() => Ok(Type::Numbered(known)),
        Some(known) => Ok(Type::Known(known)),
        // A newer kernel's, or a newer auditd's.
        None if !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') =>
        {
            Ok(Type::Named(name.as_bytes().to_vec()))
        }
        None => Err(usage(format!("`{name}` is not a record type"))
            .hint("a type is a name like DM_EVENT, a number like 1339, or ALL")),
    });
    types.collect()
}

/// A number of 32 bits; -1 is the largest, which stands for "unset".
fn id(what: &str, text: &str) -> Result<u32, Failure> {
    if text == "-1" {
        return Ok(u32::MAX);
    }
    text.parse().map_err(|_| usage(format!("`{text}` is not a {what}")).hint("give a number"))
}

fn user(text: &str) -> Result<User, Failure> {
    if let Ok(number) = id("user", text) {
        return Ok(User { number, name: None });
    }
    let number = match nix::unistd::User::from_name(text) {
        Ok(Some(found)) => found.uid.as_raw(),
        _ if text == "unset" => u32::MAX,
        _ => {
            return Err(usage(format!("no user is called `{text}` on this machine"))
                .hint("search a log of another machine by number"));
        }
    };
    Ok(User { number, name: Some(text.as_bytes().to_vec()) })
}

fn group(text: &str) -> Result<u32, Failure> {
    if let Ok(number) = id("group", text) {
        return Ok(number);
    }
    match nix::unistd::Group::from_name(text) {
        Ok(Some(found)) => Ok(found.gid.as_raw()),
        _ => Err(usage(format!("no group is called `{text}` on this machine"))
            .hint("search a log of another machine by number")),
    }
}

/// A number, or the name of an errno, which a system call returns negated.
fn exit(text: &str) -> Result<i64, Failure> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let name = text.strip_prefix('-').unwrap_or(text);
    match errno::number(name.as_bytes()) {
        Some(number) => Ok(-i64::from(number)),
        None => Err(usage(format!("`{text}` is neither a number nor the name of an errno"))
            .hint("for example -13, EACCES or -EACCES")),
    }
}

/// A device by number or by name. The name of a block device here has a number too.
fn device(text: &str) -> Device {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if text.split_once(':').is_some_and(|(major, minor)| is_number(major) && is_number(minor)) {
        return Device { number: Some(text.as_bytes().to_vec()), name: None };
    }
    let number = ["/dev/mapper", "/dev"].iter().find_map(|dir| {
        let device = fs::metadata(Path::new(dir).join(text)).ok()?.rdev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        (major != 0).then(|| format!("{major}:{minor}").into_bytes())
    });
    Device { number, name: Some(text.as_bytes().to_vec()) }
}
