//! How an event that was found is printed.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use nix::unistd::{Gid, Group, Uid, User};
use record::interpret::{EventContext, Interpreter, Names};
use record::{Line, RecordType, Stamp};

use super::Manner;
use super::args::Format;
use crate::json;

/// Prints events in one format.
pub(super) struct Printer<'o> {
    out: &'o mut dyn Write,
    format: Format,
    /// Where local times are read.
    zone: TimeZone,
    manner: Manner,
    /// Whether a reader waits for each event.
    flush: bool,
    names: Host,
}

impl<'o> Printer<'o> {
    /// Prints to `out`; with `flush`, every event at once.
    pub(super) fn new(
        out: &'o mut dyn Write,
        format: Format,
        zone: TimeZone,
        manner: Manner,
        flush: bool,
    ) -> Printer<'o> {
        Printer { out, format, zone, manner, flush, names: Host::default() }
    }

    /// Prints the records of one event, given in order of arrival.
    pub(super) fn print(&mut self, event: &[Line<'_>]) -> io::Result<()> {
        match self.format {
            Format::Raw => self.raw(event),
            Format::Default => self.default(event),
            Format::Interpret => self.interpret(event),
            Format::Json => {
                let leaf = event.iter().rev().find_map(json::leaf);
                json::Event::new(leaf, event).map_or(Ok(()), |event| event.write(self.out))
            }
        }?;
        if self.flush { self.out.flush() } else { Ok(()) }
    }

    fn raw(&mut self, event: &[Line<'_>]) -> io::Result<()> {
        for line in event {
            self.out.write_all(line.raw())?;
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }

    fn default(&mut self, event: &[Line<'_>]) -> io::Result<()> {
        let Some(first) = event.first() else { return Ok(()) };
        let time = local(first.stamp(), &self.zone).strftime("%a %b %e %H:%M:%S %Y");
        writeln!(self.out, "----\ntime->{time}")?;
        for line in in_order(event, self.manner) {
            // What stands before the tails.
            let end = line.prefix().len() + line.payload().len();
            let end = if end + usize::from(line.has_cr()) == line.raw().len() {
                line.raw().len()
            } else {
                end
            };
            write_escaped(self.out, &line.raw()[..end])?;
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }

    fn interpret(&mut self, event: &[Line<'_>]) -> io::Result<()> {
        // ausearch has the date of the locale, which a script cannot rely on; ours is one
        // that sorts.
        let format = match self.manner {
            Manner::Ausearch => "%m/%d/%y %H:%M:%S",
            Manner::Own => "%Y-%m-%d %H:%M:%S",
        };
        let date = |stamp: Stamp, out: &mut Vec<u8>| {
            let _ = write!(out, "{}", local(stamp, &self.zone).strftime(format));
        };
        let call = event.iter().find(|line| line.record_type() == RecordType::SYSCALL);
        let context = call.map_or_else(EventContext::default, |c| EventContext::read(c.body()));
        let interpreter = Interpreter::new(&self.names);
        let mut text = b"----\n".to_vec();
        for line in in_order(event, self.manner) {
            interpreter.line(line, &context, &date, &mut text);
            text.push(b'\n');
        }
        self.out.write_all(&text)
    }
}

/// The records of an event in the order of printing: ausearch begins with the last.
fn in_order<'e, 'l>(
    event: &'e [Line<'l>],
    manner: Manner,
) -> impl Iterator<Item = &'e Line<'l>> + use<'e, 'l> {
    let last = event.len().saturating_sub(1);
    (0..event.len()).map(move |at| match manner {
        Manner::Own => &event[at],
        Manner::Ausearch => &event[last - at],
    })
}

/// The local time of a stamp; the epoch for one outside every calendar.
fn local(stamp: Stamp, zone: &TimeZone) -> Zoned {
    let millis = i64::try_from(stamp.millis).unwrap_or(i64::MAX);
    let moment = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
    moment.to_zoned(zone.clone())
}

/// The users and groups of this machine, each asked for once.
#[derive(Default)]
pub(crate) struct Host {
    users: RefCell<HashMap<u32, Option<String>>>,
    groups: RefCell<HashMap<u32, Option<String>>>,
}

impl Names for Host {
    fn user(&self, uid: u32) -> Option<Cow<'_, [u8]>> {
        let mut users = self.users.borrow_mut();
        let name = users
            .entry(uid)
            .or_insert_with(|| Some(User::from_uid(Uid::from_raw(uid)).ok()??.name));
        Some(Cow::Owned(name.clone()?.into_bytes()))
    }

    fn group(&self, gid: u32) -> Option<Cow<'_, [u8]>> {
        let mut groups = self.groups.borrow_mut();
        let name = groups
            .entry(gid)
            .or_insert_with(|| Some(Group::from_gid(Gid::from_raw(gid)).ok()??.name));
        Some(Cow::Owned(name.clone()?.into_bytes()))
    }
}

/// Control characters as `\ooo`: a log must not talk to the terminal.
fn write_escaped(out: &mut dyn Write, text: &[u8]) -> io::Result<()> {
    for part in text.chunk_by(|a, b| (*a >= b' ') == (*b >= b' ')) {
        if part[0] >= b' ' {
            out.write_all(part)?;
        } else {
            part.iter().try_for_each(|byte| write!(out, "\\{byte:03o}"))?;
        }
    }
    Ok(())
}
