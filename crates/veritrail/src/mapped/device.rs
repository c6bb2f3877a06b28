//! A device of the kernel's that is there: what there is to say about it, and its end.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use block::verity::Table;
use host::dm::{self, Control, Info, Removed, node};
use rustix::io::Errno;
use serde::Serialize;

use crate::facts::{Facts, State};
use crate::outcome::{Failure, Kind};

/// What there is to say about a device of the kernel's.
#[derive(Debug, Serialize)]
pub(crate) struct Mapped {
    #[serde(flatten)]
    pub(crate) facts: Facts,
    /// Major and minor number.
    pub(crate) device: String,
    /// `CRYPT-VERITY-…` where veritysetup or we made it.
    pub(crate) uuid: String,
    /// How often it is open.
    pub(crate) open_count: u32,
    /// Whether its readers wait.
    pub(crate) suspended: bool,
    /// Options of the table that this program does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) other_options: Vec<String>,
}

/// The verity device of this name; none if the kernel has no such device, or no device mapper, or lets
/// us not look.
///
/// # Errors
/// [`Kind::Usage`] for a device of another kind.
pub(crate) fn find(name: &str) -> Result<Option<Mapped>, Failure> {
    let Some(control) = look()? else { return Ok(None) };
    let Some(info) = control.find(&mangled(name)).map_err(super::cannot_ask)? else {
        return Ok(None);
    };
    let Some(mapped) = control.mapped(info.device).map_err(super::cannot_ask)? else {
        return Ok(None);
    };
    describe(&mapped)?.map_or_else(|| Err(another_kind(name, &mapped)), |found| Ok(Some(found)))
}

/// Every verity device, in the order of the names.
pub(crate) fn all() -> Result<Vec<Mapped>, Failure> {
    let Some(control) = look()? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for listed in control.list().map_err(super::cannot_ask)? {
        if let Some(mapped) = control.mapped(listed.device).map_err(super::cannot_ask)? {
            found.extend(describe(&mapped)?);
        }
    }
    found.sort_by(|one, other| one.facts.name.cmp(&other.facts.name));
    Ok(found)
}

/// The device mapper, where there is one that we may ask.
fn look() -> Result<Option<Control>, Failure> {
    match Control::open() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        control => control.map_err(super::cannot_ask),
    }
}

/// None for a device of another kind.
fn describe(mapped: &dm::Mapped) -> Result<Option<Mapped>, Failure> {
    let ([target], [status]) = (&*mapped.table, &*mapped.status) else { return Ok(None) };
    if target.kind != "verity" {
        return Ok(None);
    }
    let name = String::from_utf8_lossy(&mapped.info.name).into_owned();
    let table: Table = String::from_utf8_lossy(&target.params).parse().map_err(|error| {
        let what = format!("the kernel's table of {name} is not understood");
        Failure::new(Kind::Unusable, what).because(error)
    })?;
    let (major, minor) = mapped.info.device;
    Ok(Some(Mapped {
        device: format!("{major}:{minor}"),
        uuid: String::from_utf8_lossy(&mapped.info.uuid).into_owned(),
        open_count: mapped.info.open_count,
        suspended: mapped.info.suspended,
        other_options: table.others.clone(),
        facts: facts(name, &mapped.info, target.length, &table, status.params.starts_with(b"C")),
    }))
}

fn facts(name: String, info: &Info, sectors: u64, table: &Table, corrupted: bool) -> Facts {
    let fec = table.fec.as_ref();
    let per_block = u64::from(table.hash_block_size.bytes()) / 512;
    let flags = [
        table.on_corruption.option(),
        table.ignore_zero_blocks.then_some("ignore_zero_blocks"),
        table.check_at_most_once.then_some("check_at_most_once"),
        table.try_verify_in_tasklet.then_some("try_verify_in_tasklet"),
    ];
    Facts {
        path: node::path(&info.name).to_string_lossy().into_owned(),
        name,
        state: if info.deferred_remove { State::Deferred } else { State::Active },
        backend: "kernel".into(),
        corrupted,
        signed_by: None,
        signature_key: table.signature_key.clone(),
        hash_type: table.hash_type.number(),
        data_block_size: table.data_block_size.bytes(),
        hash_block_size: table.hash_block_size.bytes(),
        algorithm: table.algorithm.clone(),
        salt: table.salt.to_string(),
        data_device: path_of(&table.data_device),
        data_loop: loop_of(&table.data_device),
        data_blocks: table.data_blocks,
        size: sectors,
        hash_device: path_of(&table.hash_device),
        hash_loop: loop_of(&table.hash_device),
        hash_offset: table.hash_start.saturating_mul(per_block),
        fec_device: fec.map(|fec| path_of(&fec.device)),
        fec_loop: fec.and_then(|fec| loop_of(&fec.device)),
        fec_offset: fec.map(|fec| fec.start.saturating_mul(per_block)),
        fec_roots: fec.map(|fec| fec.roots),
        root_hash: table.root_hash.to_string(),
        flags: flags.into_iter().flatten().map(str::to_owned).collect(),
    }
}

/// `MAJOR:MINOR` of a table.
fn number(device: &str) -> Option<(u32, u32)> {
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn path_of(device: &str) -> String {
    let path = number(device).and_then(|number| host::device::path(number).ok().flatten());
    path.map_or_else(|| device.to_owned(), |path| path.to_string_lossy().into_owned())
}

fn loop_of(device: &str) -> Option<String> {
    let backing = host::device::backing_of_loop(number(device)?).ok().flatten()?;
    Some(backing.to_string_lossy().into_owned())
}

/// The name as libdevmapper gives it to the kernel: what is none of `0-9A-Za-z#+-.:=@_` as `\xNN`,
/// unless that has been done already.
fn mangled(name: &str) -> Vec<u8> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&b);
    if name.contains("\\x") {
        return name.as_bytes().to_vec();
    }
    let byte = |b: u8| if plain(b) { vec![b] } else { format!("\\x{b:02x}").into_bytes() };
    name.bytes().flat_map(byte).collect()
}

fn another_kind(name: &str, mapped: &dm::Mapped) -> Failure {
    let kinds: Vec<&str> = mapped.table.iter().map(|target| &*target.kind).collect();
    let kinds = if kinds.is_empty() { "no table".to_owned() } else { kinds.join(", ") };
    Failure::new(Kind::Usage, format!("Device {name} is not a dm-verity device."))
        .because(format!("the kernel's device mapper has it with {kinds}"))
        .hint("`dmsetup` looks at and removes devices of every kind")
}

/// What became of a device that was to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    Done,
    /// It will be, when its last user has gone.
    Later,
    Busy,
    /// There is no such device.
    Absent,
}

/// How long somebody who looks at a new device for a moment, such as udev, is waited for.
const MOMENT: Duration = Duration::from_secs(1);

/// Ends the verity device of this name.
///
/// # Errors
/// [`Kind::Usage`] for a device of another kind, and what the kernel answered.
pub(crate) fn close(name: &str, deferred: bool) -> Result<Closed, Failure> {
    let failed = |error| Failure::new(Kind::Io, format!("cannot close {name}")).because(error);
    let Some((control, device)) = to_change(name)? else { return Ok(Closed::Absent) };
    let end = Instant::now() + MOMENT;
    loop {
        match control.remove(device, deferred) {
            Ok(Removed::Now) => break,
            Ok(Removed::Deferred) => return Ok(Closed::Later),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NXIO) => {
                return Ok(Closed::Absent);
            }
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => {
                if Instant::now() >= end {
                    return Ok(Closed::Busy);
                }
                thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(failed(error)),
        }
    }
    node::vanish(&mangled(name)).map_err(failed)?;
    Ok(Closed::Done)
}

/// Does not end it after all.
///
/// # Errors
/// As [`close`].
pub(crate) fn cancel_deferred(name: &str) -> Result<Closed, Failure> {
    let Some((control, device)) = to_change(name)? else { return Ok(Closed::Absent) };
    let failed = |error| Failure::new(Kind::Io, format!("cannot keep {name}")).because(error);
    control.cancel_deferred_remove(device).map_err(failed)?;
    Ok(Closed::Done)
}

fn to_change(name: &str) -> Result<Option<(Control, dm::Number)>, Failure> {
    let (Some(found), Some(control)) = (find(name)?, look()?) else { return Ok(None) };
    Ok(number(&found.device).map(|device| (control, device)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_mangled_as_libdevmapper_does() {
        for (name, mangled_name) in [
            ("root", "root"),
            ("a@b:c=d#e+f_-.", "a@b:c=d#e+f_-."),
            ("a b", "a\\x20b"),
            ("a\\x20b", "a\\x20b"),
            ("ä", "\\xc3\\xa4"),
        ] {
            assert_eq!(String::from_utf8(mangled(name)).unwrap(), mangled_name);
        }
    }
}
