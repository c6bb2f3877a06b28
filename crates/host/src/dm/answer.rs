//! The device mapper's answers, from bytes to what they say (`linux/dm-ioctl.h`).
//!
//! Every function takes the whole buffer of an answer, whatever is in it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::ioctl::Header;
use super::{Info, Listed, Target, TargetVersion, unpack};

/// An answer of another form than the interface has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the device mapper's answer has an unknown form: {0}")]
pub struct Malformed(&'static str);

/// `DM_READONLY_FLAG` and its neighbours.
pub(super) mod flag {
    pub(in crate::dm) const READ_ONLY: u32 = 1 << 0;
    pub(in crate::dm) const SUSPENDED: u32 = 1 << 1;
    pub(in crate::dm) const STATUS_TABLE: u32 = 1 << 4;
    pub(in crate::dm) const BUFFER_FULL: u32 = 1 << 8;
    pub(in crate::dm) const NO_FLUSH: u32 = 1 << 11;
    pub(in crate::dm) const SECURE_DATA: u32 = 1 << 15;
    pub(in crate::dm) const DEFERRED_REMOVE: u32 = 1 << 17;
}

/// Whether the kernel had more to say than the buffer holds.
#[must_use]
pub(super) fn is_cut(answer: &[u8]) -> bool {
    Header::read_from_prefix(answer).is_ok_and(|(header, _)| header.flags & flag::BUFFER_FULL != 0)
}

fn header(answer: &[u8]) -> Result<Header, Malformed> {
    let (header, _) =
        Header::read_from_prefix(answer).map_err(|_| Malformed("it has no header"))?;
    if header.version[0] == 4 { Ok(header) } else { Err(Malformed("its version is not 4")) }
}

/// The header, and what follows it.
fn split(answer: &[u8]) -> Result<(Header, &[u8]), Malformed> {
    let header = header(answer)?;
    let start = usize::try_from(header.data_start).unwrap_or(usize::MAX);
    let end = usize::try_from(header.data_size).unwrap_or(usize::MAX);
    // Where nothing follows, the size ends within the header's own padding.
    let data = answer.get(start..end.max(start)).ok_or(Malformed("its data lies outside it"))?;
    Ok((header, data))
}

/// How a device is.
///
/// # Errors
/// [`Malformed`].
pub fn info(answer: &[u8]) -> Result<Info, Malformed> {
    let header = header(answer)?;
    let has = |flag| header.flags & flag != 0;
    Ok(Info {
        device: unpack(header.dev).ok_or(Malformed("a device number of more than 32 bits"))?,
        name: text(&header.name)?.to_vec(),
        uuid: text(&header.uuid)?.to_vec(),
        open_count: header.open_count,
        read_only: has(flag::READ_ONLY),
        suspended: has(flag::SUSPENDED),
        deferred_remove: has(flag::DEFERRED_REMOVE),
    })
}

/// Every device.
///
/// ```text
/// struct dm_name_list: dev u64 | next u32 (from this one, 0 = last) | name NUL | …
/// ```
///
/// # Errors
/// [`Malformed`].
pub fn list(answer: &[u8]) -> Result<Vec<Listed>, Malformed> {
    const NAME: usize = 12;
    let (_, data) = split(answer)?;
    let mut devices = Vec::new();
    let mut rest = data;
    while let Some((dev, behind)) = number::<u64>(rest) {
        // The kernel's way to say that there is none.
        if dev == 0 {
            break;
        }
        let (next, _) = number::<u32>(behind).ok_or(Malformed("a device is cut"))?;
        let name = rest.get(NAME..).ok_or(Malformed("a device is cut"))?;
        devices.push(Listed {
            device: unpack(dev).ok_or(Malformed("a device number of more than 32 bits"))?,
            name: text(name)?.to_vec(),
        });
        match step(rest, next, NAME)? {
            Some(next) => rest = next,
            None => break,
        }
    }
    Ok(devices)
}

/// `struct dm_target_spec`, in front of the parameters of each target.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Spec {
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) status: u32,
    /// Where the next one begins: in a table that is loaded, from this one; in an answer, from the
    /// first.
    pub(super) next: u32,
    pub(super) kind: [u8; 16],
}

const _: () = assert!(size_of::<Spec>() == 40);

/// The targets of a table, or their status.
///
/// # Errors
/// [`Malformed`].
pub fn targets(answer: &[u8]) -> Result<Vec<Target>, Malformed> {
    const CUT: Malformed = Malformed("a target is cut");
    let (header, data) = split(answer)?;
    let mut targets = Vec::new();
    let mut at = 0;
    for _ in 0..header.target_count {
        let (spec, params) = Spec::read_from_prefix(data.get(at..).ok_or(CUT)?).map_err(|_| CUT)?;
        targets.push(Target {
            start: spec.start,
            length: spec.length,
            kind: word(&spec.kind)?,
            params: text(params)?.to_vec(),
        });
        // The last one need not say where another would be.
        let next = usize::try_from(spec.next).ok();
        at = next.filter(|next| *next >= at + size_of::<Spec>()).unwrap_or(usize::MAX);
    }
    Ok(targets)
}

/// The kinds of targets that the kernel has at the moment.
///
/// ```text
/// struct dm_target_versions: next u32 (from this one, 0 = last) | version u32[3] | name NUL
/// ```
///
/// # Errors
/// [`Malformed`].
pub fn versions(answer: &[u8]) -> Result<Vec<TargetVersion>, Malformed> {
    const NAME: usize = 16;
    let (_, data) = split(answer)?;
    let mut versions = Vec::new();
    let mut rest = data;
    while let Ok((numbers, name)) = <[u32; 4]>::read_from_prefix(rest) {
        let [next, major, minor, patch] = numbers;
        versions.push(TargetVersion { kind: word(name)?, version: (major, minor, patch) });
        match step(rest, next, NAME)? {
            Some(next) => rest = next,
            None => break,
        }
    }
    Ok(versions)
}

/// What is `next` bytes further on; none where that is 0. It has to be behind what was read.
fn step(rest: &[u8], next: u32, least: usize) -> Result<Option<&[u8]>, Malformed> {
    match usize::try_from(next) {
        Ok(0) => Ok(None),
        Ok(next) if next > least => {
            rest.get(next..).map(Some).ok_or(Malformed("it points outside itself"))
        }
        _ => Err(Malformed("it points back")),
    }
}

fn number<T: FromBytes>(bytes: &[u8]) -> Option<(T, &[u8])> {
    T::read_from_prefix(bytes).ok()
}

/// Up to its NUL.
fn text(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let end = memchr::memchr(0, bytes).ok_or(Malformed("a text has no end"))?;
    Ok(&bytes[..end])
}

fn word(bytes: &[u8]) -> Result<String, Malformed> {
    let word = str::from_utf8(text(bytes)?).map_err(|_| Malformed("the name of a target"))?;
    Ok(word.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;
    use crate::dm::pack;

    /// An answer as the kernel writes it: the header, and this behind it.
    fn answer(change: impl FnOnce(&mut Header), data: &[u8]) -> Vec<u8> {
        let mut header = Header::new();
        header.version = [4, 48, 0];
        header.data_size = u32::try_from(312 + data.len()).unwrap();
        change(&mut header);
        // The rest of the buffer is the question's.
        [header.as_bytes(), data, &[0xaa; 64]].concat()
    }

    fn chained(entries: &[Vec<u8>], next_at: usize) -> Vec<u8> {
        let mut data = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            let mut entry = entry.clone();
            entry.resize(entry.len().next_multiple_of(8), 0);
            let next = if i + 1 == entries.len() { 0 } else { u32::try_from(entry.len()).unwrap() };
            entry[next_at..next_at + 4].copy_from_slice(next.as_bytes());
            data.extend(entry);
        }
        data
    }

    fn name() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(1_u8.., 1..127)
    }

    proptest! {
        #[test]
        fn a_list_is_read(devices in prop::collection::vec(((1_u32..4096, 0_u32..9), name()), 1..20)) {
            let entries: Vec<Vec<u8>> = devices
                .iter()
                .map(|(device, name)| {
                    // Behind the name: its number of events, flags, perhaps a UUID.
                    [pack(*device).as_bytes(), &[0; 4], name, b"\0\0\0\x07\0\0\0"].concat()
                })
                .collect();
            let devices: Vec<Listed> =
                devices.into_iter().map(|(device, name)| Listed { device, name }).collect();
            prop_assert_eq!(list(&answer(|_| (), &chained(&entries, 8))), Ok(devices));
        }

        #[test]
        fn versions_are_read(kinds in prop::collection::vec(("[a-z-]{1,15}", any::<[u32; 3]>()), 1..9)) {
            let entries: Vec<Vec<u8>> = kinds
                .iter()
                .map(|(kind, version)| [&[0; 4], version.as_bytes(), kind.as_bytes(), b"\0"].concat())
                .collect();
            let kinds: Vec<TargetVersion> = kinds
                .into_iter()
                .map(|(kind, [a, b, c])| TargetVersion { kind, version: (a, b, c) })
                .collect();
            prop_assert_eq!(versions(&answer(|_| (), &chained(&entries, 0))), Ok(kinds));
        }

        #[test]
        fn a_table_is_read(lines in prop::collection::vec(("[a-z]{1,15}", name()), 0..9)) {
            let mut data = Vec::new();
            let mut wanted = Vec::new();
            for (kind, params) in lines {
                let end = (data.len() + 40 + params.len() + 1).next_multiple_of(8);
                let mut spec =
                    Spec { start: 3, length: 5, status: 0, next: u32::try_from(end).unwrap(), kind: [0; 16] };
                spec.kind[..kind.len()].copy_from_slice(kind.as_bytes());
                data.extend(spec.as_bytes());
                data.extend(&params);
                data.resize(end, 0);
                wanted.push(Target { start: 3, length: 5, kind, params });
            }
            let count = u32::try_from(wanted.len()).unwrap();
            let whole = answer(|header| header.target_count = count, &data);
            prop_assert_eq!(targets(&whole), Ok(wanted));
            let more = answer(|header| header.target_count = u32::MAX, &data);
            prop_assert!(targets(&more).is_err());
        }

        #[test]
        fn no_bytes_are_too_much(
            change in any::<(u32, u32, u32)>(),
            data in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let (start, size, count) = change;
            for (start, size) in [(start, size), (312, 312 + size % 200)] {
                let bytes = answer(
                    |header| {
                        header.data_start = start;
                        header.data_size = size;
                        header.target_count = count;
                    },
                    &data,
                );
                let _ = (info(&bytes), list(&bytes), targets(&bytes), versions(&bytes));
            }
        }
    }

    #[test]
    fn what_a_device_is() {
        let bytes = answer(
            |header| {
                header.dev = 0xfe01;
                header.name[..2].copy_from_slice(b"a\xff");
                header.uuid[..3].copy_from_slice(b"u-1");
                header.open_count = 2;
                header.flags = flag::READ_ONLY;
                // Where nothing follows.
                header.data_size = 305;
            },
            b"",
        );
        let info = info(&bytes).unwrap();
        assert_eq!((info.device, info.open_count), ((254, 1), 2));
        assert_eq!((&info.name[..], &info.uuid[..]), (&b"a\xff"[..], &b"u-1"[..]));
        assert!(info.read_only && !info.suspended && !info.deferred_remove);
        assert_eq!(targets(&bytes), Ok(Vec::new()));
        let nothing_listed = answer(|_| (), &[0; 16]);
        assert_eq!(list(&nothing_listed), Ok(Vec::new()));
    }

    #[test]
    fn other_forms_are_refused() {
        assert!(info(b"").is_err() && info(&[0; 312]).is_err());
        let without_end = answer(|header| header.name = [b'x'; 128], b"");
        assert!(info(&without_end).is_err());
        // A name that goes back to itself, and one that leads outside.
        for next in [1_u32, 12, 999] {
            let data = [0xfe00_u64.as_bytes(), next.as_bytes(), b"abc\0"].concat();
            assert!(list(&answer(|_| (), &data)).is_err(), "{next}");
        }
    }
}
