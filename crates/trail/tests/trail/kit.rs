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

/// Numbers that look random and are the same in every run (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }
}
