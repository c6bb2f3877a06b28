//! The device-mapper records of an audit event (audit-records: DM_CTRL 1338, DM_EVENT 1339).
//!
//! A failed construction is `ctr res=0` and then `dtr res=1` in the same event; a `dtr` alone is a
//! tear-down, or the old table of a device that got a new one. The ioctl that did it stands in the
//! event's SYSCALL record, where there is one: its number is the low byte of `a1`.

use record::violation::{CtrlOp, EventOp, Module};
use record::{Line, RecordType, Value};

use super::DeviceNumber;
use crate::text::{decimal, device_number, hexadecimal};

/// A violation as the kernel recorded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) op: EventOp,
    pub(crate) dev: DeviceNumber,
    pub(crate) number: Option<u64>,
}

/// What happened to a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Controlled {
    pub(crate) module: Module,
    pub(crate) dev: DeviceNumber,
    pub(crate) change: Change,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A table was made, and waits to become live.
    Made,
    /// It could not be made, in the target's words.
    Refused(String),
    /// A table was destroyed; `ioctl` says by which command, if it is known.
    Destroyed { ioctl: Option<u8> },
}

/// DM_DEV_SUSPEND of linux/dm-ioctl.h: resume, which swaps tables.
pub(crate) const DM_DEV_SUSPEND: u8 = 6;
/// DM_TABLE_LOAD: a loaded table that was never live is replaced.
pub(crate) const DM_TABLE_LOAD: u8 = 9;
/// DM_TABLE_CLEAR: a loaded table that was never live is dropped.
pub(crate) const DM_TABLE_CLEAR: u8 = 10;

/// What an event says of mapped devices.
#[derive(Debug, Default)]
pub(crate) struct DmEvent {
    pub(crate) found: Vec<Found>,
    pub(crate) controlled: Vec<Controlled>,
    /// Records of these types in a form that is not known.
    pub(crate) unknown: u64,
}

impl DmEvent {
    pub(crate) fn read(lines: &[Line<'_>]) -> DmEvent {
        let mut event = DmEvent::default();
        let ioctl = lines.iter().find_map(ioctl);
        for line in lines {
            match line.effective_type() {
                RecordType::DM_EVENT => match found(line) {
                    Some(found) => event.found.push(found),
                    None => event.unknown += 1,
                },
                RecordType::DM_CTRL => match control(line) {
                    Some((module, dev, op, error)) => event.control(module, dev, op, error, ioctl),
                    None => event.unknown += 1,
                },
                _ => {}
            }
        }
        event
    }

    fn control(
        &mut self,
        module: Module,
        dev: DeviceNumber,
        op: CtrlOp,
        error: Option<String>,
        ioctl: Option<u8>,
    ) {
        let change = match (op, error) {
            (CtrlOp::Ctr, None) => Change::Made,
            (CtrlOp::Ctr, Some(error)) => Change::Refused(error),
            (CtrlOp::Dtr, _) => {
                let cleans_up = self.controlled.iter_mut().rev().find(|before| {
                    (before.module, before.dev) == (module, dev)
                        && matches!(before.change, Change::Refused(_))
                });
                if cleans_up.is_some() {
                    return;
                }
                Change::Destroyed { ioctl }
            }
        };
        self.controlled.push(Controlled { module, dev, change });
    }
}

fn value<'a>(line: &Line<'a>, key: &[u8]) -> Option<Value<'a>> {
    line.fields().find_value(key)
}

fn found(line: &Line<'_>) -> Option<Found> {
    let op = EventOp::parse(value(line, b"op")?.text())?;
    let dev = device_number(value(line, b"dev")?.text())?;
    if Module::parse(value(line, b"module")?.text()) != Some(op.module()) {
        return None;
    }
    let number = match value(line, b"sector")?.text() {
        b"?" => None,
        digits => Some(decimal(digits)?),
    };
    Some(Found { op, dev, number })
}

fn control(line: &Line<'_>) -> Option<(Module, DeviceNumber, CtrlOp, Option<String>)> {
    let module = Module::parse(value(line, b"module")?.text())?;
    let op = CtrlOp::parse(value(line, b"op")?.text())?;
    let dev = device_number(value(line, b"dev")?.text())?;
    let error = match value(line, b"res")?.text() {
        b"1" => None,
        _ => {
            let text = value(line, b"error_msg").map_or(&b""[..], Value::text);
            Some(String::from_utf8_lossy(text.get(..256).unwrap_or(text)).into_owned())
        }
    };
    Some((module, dev, op, error))
}

/// The device-mapper command of an ioctl: `_IOWR(0xfd, N, ...)`.
fn ioctl(line: &Line<'_>) -> Option<u8> {
    if line.record_type() != RecordType::SYSCALL {
        return None;
    }
    let command = hexadecimal(value(line, b"a1")?.text())?;
    let [number, kind, ..] = command.to_le_bytes();
    (kind == 0xfd).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> DmEvent {
        let full: Vec<String> = lines
            .iter()
            .map(|line| line.replacen(' ', " msg=audit(1795298400.352:7): ", 1))
            .collect();
        let lines: Vec<Line<'_>> =
            full.iter().map(|line| Line::parse(line.as_bytes()).unwrap()).collect();
        DmEvent::read(&lines)
    }

    #[test]
    fn a_failed_activation_is_told_from_a_tear_down() {
        let failed =
            "type=DM_CTRL module=verity op=ctr dev=253:0 error_msg='Invalid root digest' res=0";
        let gone = "type=DM_CTRL module=verity op=dtr dev=253:0 error_msg='success' res=1";
        let event = read(&[failed, gone]);
        let [one] = &event.controlled[..] else { panic!("{event:?}") };
        assert_eq!(one.change, Change::Refused("Invalid root digest".into()));
        let event = read(&[gone, "type=SYSCALL arch=c000003e syscall=16 a0=6 a1=c138fd04"]);
        let [one] = &event.controlled[..] else { panic!("{event:?}") };
        assert_eq!(one.change, Change::Destroyed { ioctl: Some(4) });
    }

    #[test]
    fn found_records() {
        let event = read(&[
            "type=UNKNOWN[1339] module=verity op=verify-data dev=7:1 sector=10 res=0",
            "type=DM_EVENT module=integrity op=mac-journal dev=253:0 sector=? res=0",
            "type=DM_EVENT module=crypt op=verify-data dev=253:0 sector=1 res=0",
            "type=DM_EVENT module=raid op=what dev=253:0 sector=1 res=0",
        ]);
        let found = [
            Found { op: EventOp::VerifyData, dev: (7, 1), number: Some(10) },
            Found { op: EventOp::MacJournal, dev: (253, 0), number: None },
        ];
        assert_eq!((&event.found[..], event.unknown), (&found[..], 2));
    }
}
