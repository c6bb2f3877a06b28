//! What an event of the kernel says of the clock (audit-records: TIME_INJOFFSET 1332,
//! TIME_ADJNTPVAL 1333).

use record::tables::syscall::Machine;
use record::view::{NtpValue, Or, TimeAdjNtpVal, TimeInjOffset, View};
use record::{EventId, Line, RecordType};

use super::ntp::Change;
use crate::text::{decimal, hexadecimal};

/// An event with such records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) id: EventId,
    /// When it came, since boot in ns.
    pub(crate) arrived: u64,
    /// The process; none where the event has no SYSCALL record.
    pub(crate) pid: Option<u32>,
    /// The system call.
    pub(crate) name: Option<&'static str>,
    /// The step, in ns.
    pub(crate) step: Option<i128>,
    pub(crate) changes: Vec<Change>,
}

impl Heard {
    /// None where the event tells of no change, or in no form that is known.
    pub(crate) fn read(id: EventId, arrived: u64, lines: &[Line<'_>]) -> Option<Heard> {
        let mut heard =
            Heard { id, arrived, pid: None, name: None, step: None, changes: Vec::new() };
        for line in lines {
            match line.effective_type() {
                RecordType::TIME_INJOFFSET => {
                    let step = TimeInjOffset::read(line).ok()?.nanoseconds();
                    heard.step = Some(heard.step.unwrap_or(0).saturating_add(step));
                }
                RecordType::TIME_ADJNTPVAL => {
                    let TimeAdjNtpVal { op: Or::Known(value), old, new } =
                        TimeAdjNtpVal::read(line).ok()?
                    else {
                        continue;
                    };
                    if heard.changes.len() < NtpValue::ALL.len() {
                        heard.changes.push(Change { value, old, new });
                    }
                }
                RecordType::SYSCALL => {
                    let field = |name| line.fields().find_value(name).map(|value| value.text());
                    heard.pid = field(b"pid").and_then(decimal);
                    let arch = field(b"arch").and_then(hexadecimal);
                    let machine = arch
                        .and_then(|arch| u32::try_from(arch).ok())
                        .and_then(Machine::from_audit_arch);
                    let number = field(b"syscall").and_then(decimal);
                    heard.name =
                        machine.zip(number).and_then(|(machine, number)| machine.syscall(number));
                }
                _ => {}
            }
        }
        (heard.step.is_some() || !heard.changes.is_empty()).then_some(heard)
    }

    /// Whether its step may be that of an earlier call: the kernel repeats it beside other values.
    pub(crate) fn may_repeat(&self) -> bool {
        self.step.is_some() && !self.changes.is_empty()
    }
}
