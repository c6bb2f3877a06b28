//! Tables and status of the kernel's mapped devices.

use std::io;
use std::sync::mpsc::Receiver;

use host::dm::{self, Control, Listed, Target};
use trail::Class;

use super::{ForSource, Input, wait_for_turn};

pub(in crate::agent) use engine::devices::{Mapped, MappedTarget};

/// Reads them when asked and with every poll.
pub(super) fn read(control: &Control, asked: &Receiver<()>, context: &ForSource) {
    loop {
        match inventory(control) {
            Ok(devices) => {
                context.counts.message();
                let bytes = devices.iter().map(bytes).sum();
                context.inbox.offer(Class::Integrity, bytes, Input::Inventory(devices));
            }
            Err(error) => return context.ended(&error),
        }
        if !wait_for_turn(asked, context) {
            return;
        }
    }
}

/// Every device; one that vanishes meanwhile is left out.
fn inventory(control: &Control) -> io::Result<Vec<Mapped>> {
    let mut devices = Vec::new();
    for listed in control.list()? {
        let found = control.mapped(listed.device);
        devices.extend(one(listed, found)?);
    }
    Ok(devices)
}

/// One with an answer that cannot be read is known by name only: it must not hide all others.
fn one(listed: Listed, found: io::Result<Option<dm::Mapped>>) -> io::Result<Option<Mapped>> {
    match found {
        Ok(found) => Ok(found.map(|found| Mapped {
            device: found.info.device,
            name: found.info.name,
            uuid: found.info.uuid,
            targets: joined(found.table, found.status),
        })),
        Err(error)
            if [io::ErrorKind::InvalidData, io::ErrorKind::FileTooLarge]
                .contains(&error.kind()) =>
        {
            let Listed { device, name } = listed;
            Ok(Some(Mapped { device, name, uuid: Vec::new(), targets: Vec::new() }))
        }
        Err(error) => Err(error),
    }
}

/// Each line of the table with the line of the status that is about the same sectors.
fn joined(table: Vec<Target>, status: Vec<Target>) -> Vec<MappedTarget> {
    let mut status = status.into_iter().peekable();
    let target = |Target { start, length, kind, params }| {
        let of_it = status.next_if(|s| (s.start, s.length, &s.kind) == (start, length, &kind));
        let status = of_it.map(|status| status.params).unwrap_or_default();
        MappedTarget { start, length, kind, params, status }
    };
    table.into_iter().map(target).collect()
}

fn bytes(mapped: &Mapped) -> usize {
    let target = |target: &MappedTarget| {
        size_of::<MappedTarget>() + target.params.len() + target.status.len()
    };
    size_of::<Mapped>() + mapped.name.len() + mapped.targets.iter().map(target).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_cannot_be_read_hides_no_other() {
        let listed = || Listed { device: (254, 3), name: b"odd".to_vec() };
        let found = |kind: io::ErrorKind| one(listed(), Err(kind.into()));
        for kind in [io::ErrorKind::InvalidData, io::ErrorKind::FileTooLarge] {
            let known = found(kind).unwrap().unwrap();
            assert_eq!((known.device, &known.name[..]), ((254, 3), &b"odd"[..]));
        }
        assert!(found(io::ErrorKind::PermissionDenied).is_err());
        assert_eq!(one(listed(), Ok(None)).unwrap(), None);
    }
}
