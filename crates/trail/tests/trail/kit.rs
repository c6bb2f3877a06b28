//! What the tests share: a clock, entries, and a trail in memory or on disk.

use trail::{Appended, Class, Entry, Field, Lines, Origin, Stamp, Store, Ticket, Writer};

pub(crate) const BOOT: &str = "7b7a5f0e-4a0c-4d55-9d6b-2d3a52f7f3f1";

/// So many seconds after boot.
pub(crate) fn at(seconds: u64) -> Stamp {
    Stamp {
        boottime_ns: seconds * 1_000_000_000,
        realtime_ns: (1_700_000_000 + seconds) * 1_000_000_000,
    }
}

/// The line of event `n`, of a length that depends on it.
pub(crate) fn line(n: u64) -> String {
    let filler = "x".repeat(usize::try_from(n * 37 % 211).unwrap());
    format!("type=USER_LOGIN msg=audit(1700000000.{:03}:{n}): pid={n} filler={filler}\n", n % 1000)
}

/// Appends event `n`, under the ticket `<client>:<n+1>`.
pub(crate) fn append<S: Store>(
    writer: &mut Writer<S>,
    client: &str,
    n: u64,
    now: Stamp,
) -> Result<Appended, trail::Error> {
    let line = line(n);
    writer.append(
        &Entry {
            class: Class::Rest,
            ticket: Some(Ticket { client, seq: n + 1 }),
            lines: Lines::Foreign { origin: Origin::File, lines: &[line.as_bytes()] },
            tail: &[Field { name: "VT_SRC", value: "import" }],
        },
        now,
    )
}
