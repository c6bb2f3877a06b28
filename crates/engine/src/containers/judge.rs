//! Whether an identifier may be set: the tests of the kernel patches, in their order (V5; reference,
//! section 2); of whoever writes by a grant alone, those of V11.

use record::contid::WriteError;
use record::units::ContId;

use super::grants::{Granted, Place, Room};

/// Why a read or write of `audit_containerid` fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Errno {
    /// Operation not permitted.
    Eperm,
    /// No such process.
    Esrch,
    /// Input/output error: the label could not be stored.
    Eio,
    /// Try again: labelling is starting, or too many requests are under way.
    Eagain,
    /// No room for one more container.
    Enomem,
    /// The target has children.
    Ebusy,
    /// The target is in a container already that the writer may not change.
    Eexist,
    /// The target is the writer, or not of its container.
    Exdev,
    /// Invalid argument.
    Einval,
    /// The grant has no room for one more container.
    Enospc,
    /// The number is too big.
    Erange,
    /// The identifier is another one's.
    Enotuniq,
    /// This kernel cannot label tasks.
    Enoprotoopt,
    /// The target has threads, or is one.
    Ealready,
}

impl Errno {
    /// Its number on Linux (`asm-generic`: the same on every machine that is supported).
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Errno::Eperm => 1,
            Errno::Esrch => 3,
            Errno::Eio => 5,
            Errno::Eagain => 11,
            Errno::Enomem => 12,
            Errno::Ebusy => 16,
            Errno::Eexist => 17,
            Errno::Exdev => 18,
            Errno::Einval => 22,
            Errno::Enospc => 28,
            Errno::Erange => 34,
            Errno::Enotuniq => 76,
            Errno::Enoprotoopt => 92,
            Errno::Ealready => 114,
        }
    }
}

impl From<WriteError> for Errno {
    fn from(error: WriteError) -> Errno {
        match error {
            WriteError::Offset | WriteError::Number => Errno::Einval,
            WriteError::Range => Errno::Erange,
        }
    }
}

/// Whether tasks can be labelled here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labelling {
    /// They are.
    Attached,
    /// Not yet.
    Starting,
    /// This kernel has no way.
    Impossible,
}

/// The task that is to be labelled, as it is at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has ended, reaped or not.
    Gone,
    /// It lives.
    Alive {
        /// It has children, of which zombies count.
        children: bool,
        /// It is the only thread of its process.
        single_threaded: bool,
        /// It leads its process.
        leader: bool,
    },
}

/// All that a judgement needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether tasks can be labelled here.
    pub labelling: Labelling,
    /// The writer has CAP_AUDIT_CONTROL in the initial user namespace; root of another has not.
    pub capable: bool,
    /// What a grant says of it, for a writer that has not.
    pub granted: Option<Granted>,
    /// The target.
    pub target: Standing,
    /// What was written.
    pub written: Result<ContId, WriteError>,
}

/// What a refusal leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing: no identifier was asked for, or nobody labels here.
    Unrecorded(Errno),
    /// A record, `res=0`.
    Recorded(Errno, ContId),
}

/// Judges a write.
///
/// # Errors
/// The first test that fails.
pub fn judge(facts: &Facts) -> Result<ContId, Refusal> {
    use Refusal::{Recorded, Unrecorded};
    let Standing::Alive { children, single_threaded, leader } = facts.target else {
        return Err(Unrecorded(Errno::Esrch));
    };
    let id = facts.written.map_err(|error| Unrecorded(error.into()))?;
    match facts.labelling {
        Labelling::Attached => {}
        Labelling::Starting => return Err(Unrecorded(Errno::Eagain)),
        Labelling::Impossible => return Err(Unrecorded(Errno::Enoprotoopt)),
    }
    if !id.is_set() {
        return Err(Recorded(Errno::Einval, id));
    }
    if !facts.capable {
        let alone = !children && single_threaded && leader;
        return match facts.granted.map_or(Err(Errno::Eperm), |granted| within(granted, alone)) {
            Ok(()) => Ok(id),
            Err(errno) => Err(Recorded(errno, id)),
        };
    }
    if children {
        return Err(Recorded(Errno::Ebusy, id));
    }
    if !single_threaded || !leader {
        return Err(Recorded(Errno::Ealready, id));
    }
    Ok(id)
}

/// Judges what a grant is to allow: V11's tests, c to i, and then whether there is room.
fn within(granted: Granted, alone: bool) -> Result<(), Errno> {
    if !granted.in_range {
        return Err(Errno::Eperm);
    }
    if !alone {
        return Err(Errno::Ebusy);
    }
    match granted.place {
        Place::Own => {}
        Place::Writer | Place::Elsewhere => return Err(Errno::Exdev),
        Place::Child => return Err(Errno::Eexist),
    }
    if granted.is_taken {
        return Err(Errno::Enotuniq);
    }
    match granted.room {
        Room::Yes => Ok(()),
        Room::Full => Err(Errno::Enospc),
        Room::Later => Err(Errno::Eagain),
    }
}

#[cfg(test)]
mod tests {
    use record::contid::parse_write;

    use super::*;

    const ALONE: Standing =
        Standing::Alive { children: false, single_threaded: true, leader: true };

    fn facts(target: Standing, capable: bool, bytes: &[u8]) -> Facts {
        let written = parse_write(0, bytes);
        Facts { labelling: Labelling::Attached, capable, granted: None, target, written }
    }

    #[test]
    fn the_test_vectors() {
        use Refusal::{Recorded, Unrecorded};
        let parent = Standing::Alive { children: true, single_threaded: true, leader: true };
        let threads = Standing::Alive { children: false, single_threaded: false, leader: true };
        let thread = Standing::Alive { children: false, single_threaded: false, leader: false };
        let both = Standing::Alive { children: true, single_threaded: false, leader: true };
        type Case<'a> = (Standing, bool, &'a [u8], Result<u64, Refusal>);
        let cases: [Case<'_>; 17] = [
            (ALONE, true, b"123456", Ok(123_456)),
            (ALONE, true, b"0", Ok(0)),
            (ALONE, true, b"18446744073709551615", Err(Recorded(Errno::Einval, ContId::UNSET))),
            (ALONE, true, b"-1", Err(Unrecorded(Errno::Einval))),
            (ALONE, true, b"0x10", Err(Unrecorded(Errno::Einval))),
            (ALONE, true, b"18446744073709551616", Err(Unrecorded(Errno::Erange))),
            (ALONE, true, b"", Err(Unrecorded(Errno::Einval))),
            (parent, true, b"7", Err(Recorded(Errno::Ebusy, ContId(7)))),
            (threads, true, b"7", Err(Recorded(Errno::Ealready, ContId(7)))),
            (thread, true, b"7", Err(Recorded(Errno::Ealready, ContId(7)))),
            (ALONE, false, b"7", Err(Recorded(Errno::Eperm, ContId(7)))),
            (Standing::Gone, true, b"7", Err(Unrecorded(Errno::Esrch))),
            // The first test that fails is the one that is told.
            (both, true, b"7", Err(Recorded(Errno::Ebusy, ContId(7)))),
            (both, false, b"7", Err(Recorded(Errno::Eperm, ContId(7)))),
            (both, false, b"18446744073709551615", Err(Recorded(Errno::Einval, ContId::UNSET))),
            (both, false, b"x", Err(Unrecorded(Errno::Einval))),
            (Standing::Gone, false, b"x", Err(Unrecorded(Errno::Esrch))),
        ];
        for (target, capable, bytes, expected) in cases {
            let found = judge(&facts(target, capable, bytes));
            assert_eq!(found, expected.map(ContId), "{target:?} {}", bytes.escape_ascii());
        }
        let late = Facts { written: parse_write(7, b"7"), ..facts(both, false, b"") };
        assert_eq!(judge(&late), Err(Unrecorded(Errno::Einval)));
    }

    #[test]
    fn a_grant_is_judged_in_the_order_of_v11() {
        let good = Granted { in_range: true, place: Place::Own, is_taken: false, room: Room::Yes };
        let of = |target: Standing, granted: Granted| {
            let facts = Facts { granted: Some(granted), ..facts(target, false, b"7") };
            judge(&facts).map_err(|refusal| match refusal {
                Refusal::Recorded(errno, ContId(7)) => errno,
                other => panic!("{other:?}"),
            })
        };
        let parent = Standing::Alive { children: true, single_threaded: true, leader: true };
        let threads = Standing::Alive { children: false, single_threaded: false, leader: true };
        assert_eq!(of(ALONE, good), Ok(ContId(7)));
        // Each is worse in one thing more, and the first that fails is told.
        let full = Granted { room: Room::Full, ..good };
        assert_eq!(of(ALONE, full), Err(Errno::Enospc));
        assert_eq!(of(ALONE, Granted { room: Room::Later, ..good }), Err(Errno::Eagain));
        let taken = Granted { is_taken: true, ..full };
        assert_eq!(of(ALONE, taken), Err(Errno::Enotuniq));
        for (place, errno) in [
            (Place::Child, Errno::Eexist),
            (Place::Writer, Errno::Exdev),
            (Place::Elsewhere, Errno::Exdev),
        ] {
            let placed = Granted { place, ..taken };
            assert_eq!(of(ALONE, placed), Err(errno));
            assert_eq!([of(parent, placed), of(threads, placed)], [Err(Errno::Ebusy); 2]);
            assert_eq!(of(parent, Granted { in_range: false, ..placed }), Err(Errno::Eperm));
        }
        // Whoever may anyhow is judged as ever.
        let capable = Facts { granted: Some(full), ..facts(threads, true, b"7") };
        assert_eq!(judge(&capable), Err(Refusal::Recorded(Errno::Ealready, ContId(7))));
    }

    #[test]
    fn without_labels_nothing_else_is_asked() {
        for (labelling, errno) in
            [(Labelling::Starting, Errno::Eagain), (Labelling::Impossible, Errno::Enoprotoopt)]
        {
            let facts = |bytes| Facts { labelling, ..facts(ALONE, false, bytes) };
            assert_eq!(judge(&facts(b"7")), Err(Refusal::Unrecorded(errno)));
            assert_eq!(judge(&facts(b"-7")), Err(Refusal::Unrecorded(Errno::Einval)));
        }
    }

    #[test]
    fn numbers_are_those_of_linux() {
        let known = record::tables::errno::ERRNO;
        for errno in [
            Errno::Eperm,
            Errno::Esrch,
            Errno::Eio,
            Errno::Eagain,
            Errno::Enomem,
            Errno::Ebusy,
            Errno::Eexist,
            Errno::Exdev,
            Errno::Einval,
            Errno::Enospc,
            Errno::Enotuniq,
            Errno::Erange,
            Errno::Enoprotoopt,
            Errno::Ealready,
        ] {
            let number = u32::try_from(errno.number()).unwrap();
            let name = known.iter().find(|row| row.0 == number).unwrap().1;
            assert_eq!(name, format!("{errno:?}").to_uppercase());
        }
    }
}
