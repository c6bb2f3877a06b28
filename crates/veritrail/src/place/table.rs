//! A line of a device mapper's table: what of the device below stands where on the one above.

use std::ops::Range;

use engine::devices::table::{SECTOR, Target};
use host::block_device::Number;
use host::dm;

/// What a line says of a device below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Above {
    /// The bytes of the device below are these bytes of the mapped one.
    Bytes(Range<u64>),
    /// The line does not use them.
    Nothing,
    /// It uses the device in a way that no arithmetic follows.
    Unclear,
}

/// What `bytes` of the device `lower` are on the mapped device.
pub(super) fn above(target: &dm::Target, lower: Number, bytes: &Range<u64>) -> Above {
    let Some(start) = offset_on(target, lower) else {
        let named = format!("{}:{}", lower.0, lower.1).into_bytes();
        let named = target.params.split(|b| *b == b' ').any(|word| word == named);
        return if named { Above::Unclear } else { Above::Nothing };
    };
    let Some(mapped) = mapped(target, start) else { return Above::Unclear };
    let (first, last) = (bytes.start.max(mapped.start), bytes.end.min(mapped.end));
    if first >= last {
        return Above::Nothing;
    }
    let base = target.start.saturating_mul(SECTOR);
    let up = |byte: u64| base.checked_add(byte - mapped.start);
    match (up(first), up(last)) {
        (Some(first), Some(last)) => Above::Bytes(first..last),
        _ => Above::Unclear,
    }
}

/// The device below that holds the bytes of the mapped one, and which of its bytes; `None` where
/// they are not on one device in one piece.
pub(super) fn below(target: &dm::Target, bytes: &Range<u64>) -> Option<(Number, Range<u64>)> {
    let base = target.start.checked_mul(SECTOR)?;
    let end = base.checked_add(target.length.checked_mul(SECTOR)?)?;
    let (first, last) = (bytes.start.max(base), bytes.end.min(end));
    let (lower, start) = data(target)?;
    let start = start.checked_mul(SECTOR)?;
    let down = |byte: u64| start.checked_add(byte - base);
    (first < last).then_some(())?;
    Some((lower, down(first)?..down(last)?))
}

fn mapped(target: &dm::Target, start: u64) -> Option<Range<u64>> {
    let first = start.checked_mul(SECTOR)?;
    Some(first..first.checked_add(target.length.checked_mul(SECTOR)?)?)
}

fn offset_on(target: &dm::Target, lower: Number) -> Option<u64> {
    data(target).filter(|(number, _)| *number == lower).map(|(_, start)| start)
}

/// The device whose bytes are those of the mapped one in their order, and the sector where they
/// begin. Integrity puts its tags between; stripes, mirrors, pools and caches have maps.
fn data(line: &dm::Target) -> Option<(Number, u64)> {
    let target = Target::parse(&line.kind, &line.params)?;
    Some((target.below(), target.start_below()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(start: u64, length: u64, kind: &str, params: &str) -> dm::Target {
        dm::Target { start, length, kind: kind.to_owned(), params: params.as_bytes().to_vec() }
    }

    #[test]
    fn what_lies_where_above() {
        let linear = target(8, 16, "linear", "7:0 100");
        let at = |sector: u64| sector * SECTOR;
        for (bytes, expected) in [
            (at(100)..at(101), Above::Bytes(at(8)..at(9))),
            (at(0)..at(104), Above::Bytes(at(8)..at(12))),
            (at(110)..at(500), Above::Bytes(at(18)..at(24))),
            (at(0)..at(100), Above::Nothing),
            (at(116)..at(117), Above::Nothing),
        ] {
            assert_eq!(above(&linear, (7, 0), &bytes), expected, "{bytes:?}");
        }
        assert_eq!(above(&linear, (7, 1), &(0..1 << 40)), Above::Nothing);
        let key = ":64:logon:x";
        let crypt =
            target(0, 16, "crypt", &format!("aes-xts-plain64 {key} 0 7:0 32768 1 allow_discards"));
        assert_eq!(above(&crypt, (7, 0), &(at(32769)..at(32770))), Above::Bytes(at(1)..at(2)));
        let verity = target(
            0,
            16,
            "verity",
            &format!("1 7:0 7:1 4096 4096 2 1 sha256 {} -", "00".repeat(32)),
        );
        assert_eq!(above(&verity, (7, 0), &(4096..8192)), Above::Bytes(4096..8192));
        assert_eq!(above(&verity, (7, 1), &(4096..8192)), Above::Unclear);
        let integrity = target(0, 16, "integrity", "7:0 0 32 J 0");
        assert_eq!(above(&integrity, (7, 0), &(0..512)), Above::Unclear);
        assert_eq!(above(&integrity, (7, 2), &(0..512)), Above::Nothing);
    }

    proptest! {
        /// Down and up again is where one began, and no text or number makes it panic.
        #[test]
        fn down_and_up(
            start in prop_oneof![0..100u64, Just(u64::MAX), any::<u64>()],
            length in prop_oneof![0..100u64, Just(u64::MAX)],
            offset in prop_oneof![0..100u64, Just(u64::MAX), any::<u64>()],
            first in 0..200_000u64,
            size in 0..5000u64,
            params in "[0-9: a-z]{0,20}",
        ) {
            let bytes = first..first + size;
            let _ = above(&target(start, length, "crypt", &params), (7, 0), &bytes);
            let linear = target(start, length, "linear", &format!("7:0 {offset}"));
            if let Some((lower, below)) = below(&linear, &bytes) {
                prop_assert_eq!(lower, (7, 0));
                prop_assert!(below.end - below.start <= size);
                let Above::Bytes(again) = above(&linear, lower, &below) else {
                    return Err(TestCaseError::fail("it is there"));
                };
                prop_assert!(again.start >= bytes.start && again.end <= bytes.end);
                prop_assert_eq!(again.end - again.start, below.end - below.start);
            }
        }
    }
}
