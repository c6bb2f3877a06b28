//! What is appended: one event, with what veritrail knows about it.

use record::EventId;
use record::stored::Origin;

/// A moment, on both clocks. Only the outermost shell makes one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Nanoseconds since boot, suspend included (`CLOCK_BOOTTIME`): for intervals.
    pub boottime_ns: u64,
    /// Nanoseconds since 1970 (`CLOCK_REALTIME`): for people.
    pub realtime_ns: u64,
}

/// Who is refused first when room gets scarce (design.md section 4, "Priorities").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Integrity, container, time, policy, gap.
    Integrity,
    /// Keyed audit events.
    Keyed,
    /// The rest.
    Rest,
}

/// How a client knows its own entry again: its name and a number that strictly increases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket<'a> {
    /// One to 64 bytes of `[A-Za-z0-9._:-]`, the same over a restart of the client.
    pub client: &'a str,
    /// Larger than every number this client has used in this trail.
    pub seq: u64,
}

/// A record that veritrail writes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own<'a> {
    /// The type's name as it stands after `type=`: `[A-Z0-9_]`.
    pub kind: &'a str,
    /// What follows `audit(...): `, from [`record::write::Body`].
    pub body: &'a [u8],
}

/// The lines of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines<'a> {
    /// Ours: stamp and serial are the writer's.
    Own(&'a [Own<'a>]),
    /// Ours, about an event that is stored already or was stored by somebody else: they carry
    /// its stamp and serial, and whoever reads joins them.
    Beside {
        /// The event.
        event: EventId,
        /// What there is to say about it.
        records: &'a [Own<'a>],
    },
    /// Those of the kernel or of a log, in their order.
    Foreign {
        /// Where they came from; decides what may be changed in them.
        origin: Origin,
        /// A message from netlink as it came; a line of a file with what ends it (LF, CR LF, or
        /// nothing if it is the last), as `split_inclusive(b'\n')` gives it.
        lines: &'a [&'a [u8]],
    },
}

/// One field of the tail that veritrail adds to the event's last line: `VT_SRC=kernel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// One of [`record::names::TAIL_NAMES`]; `VT_LEAF`, `VT_MORE` and `VT_SEQ` are the writer's.
    pub name: &'a str,
    /// Printable ASCII without a blank.
    pub value: &'a str,
}

/// One event to append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// How much it matters.
    pub class: Class,
    /// Whose it is, where a client may send it twice.
    pub ticket: Option<Ticket<'a>>,
    /// Its lines.
    pub lines: Lines<'a>,
    /// What veritrail knows about it.
    pub tail: &'a [Field<'a>],
}
