//! What a field can hold.

use std::fmt;
use std::str::FromStr;

use super::Kind;
use crate::place::DeviceId;
use crate::units::ContId;
use crate::value::Value;
use crate::violation::{CtrlOp, EventOp, Module};

/// A value of a known kind, or the text that stands where it should: a word of a
/// newer kernel, a name in interpreted text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Or<'a, T> {
    /// What the field is known to hold.
    Known(T),
    /// Something else, as it stands there.
    Other(&'a [u8]),
}

impl<T: Copy> Or<'_, T> {
    /// The known value.
    #[must_use]
    pub fn known(self) -> Option<T> {
        match self {
            Or::Known(value) => Some(value),
            Or::Other(_) => None,
        }
    }
}

/// A uid, gid or session: unset is 2^32-1, which some fields print as `-1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id(pub u32);

impl Id {
    /// What a task has that never logged in.
    pub const UNSET: Id = Id(u32::MAX);
}

/// A number printed in hex, with or without `0x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex(pub u64);

/// A file's type and permissions, `st_mode`, printed in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(pub u32);

/// A device number, decimal `7:1` (device mapper records).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dev {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl Dev {
    /// The device of the kernel that had this number when the record was written.
    #[must_use]
    pub fn device(self) -> DeviceId {
        DeviceId::Kernel { major: self.major, minor: self.minor, diskseq: 0 }
    }
}

impl fmt::Display for Dev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

fn number<T: FromStr>(value: Value<'_>) -> Option<T> {
    let Value::Literal(text) = value else { return None };
    // `FromStr` also takes a plus sign, which no record has.
    let text = std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'))?;
    text.parse().ok()
}

macro_rules! numbers {
    ($($type:ty: $what:literal,)*) => {
        $(impl<'a> Kind<'a> for $type {
            const WHAT: &'static str = $what;

            fn from_value(value: Value<'a>) -> Option<$type> {
                number(value)
            }
        })*
    };
}

numbers! {
    u32: "a number below 2^32",
    u64: "a number below 2^64",
    i32: "a signed number of 32 bits",
    i64: "a signed number of 64 bits",
}

impl<'a> Kind<'a> for Id {
    const WHAT: &'static str = "an id";

    fn from_value(value: Value<'a>) -> Option<Id> {
        match value.text() {
            b"-1" | b"unset" => Some(Id::UNSET),
            _ => number(value).map(Id),
        }
    }
}

impl<'a> Kind<'a> for Hex {
    const WHAT: &'static str = "a hex number";

    fn from_value(value: Value<'a>) -> Option<Hex> {
        let text = std::str::from_utf8(value.text()).ok()?;
        let digits = text.strip_prefix("0x").unwrap_or(text);
        if digits.starts_with('+') {
            return None;
        }
        u64::from_str_radix(digits, 16).ok().map(Hex)
    }
}

impl<'a> Kind<'a> for Mode {
    const WHAT: &'static str = "an octal mode";

    fn from_value(value: Value<'a>) -> Option<Mode> {
        let text = std::str::from_utf8(value.text()).ok().filter(|text| !text.starts_with('+'))?;
        u32::from_str_radix(text, 8).ok().map(Mode)
    }
}

impl<'a> Kind<'a> for Dev {
    const WHAT: &'static str = "a device number, MAJOR:MINOR";

    fn from_value(value: Value<'a>) -> Option<Dev> {
        let text = value.text();
        let colon = memchr::memchr(b':', text)?;
        let major = number(Value::Literal(&text[..colon]))?;
        let minor = number(Value::Literal(&text[colon + 1..]))?;
        Some(Dev { major, minor })
    }
}

impl<'a> Kind<'a> for ContId {
    const WHAT: &'static str = "a container identifier";

    fn from_value(value: Value<'a>) -> Option<ContId> {
        match value {
            Value::Literal(text) => crate::contid::parse(text),
            Value::Quoted(_) | Value::Single(_) => None,
        }
    }
}

impl<'a> Kind<'a> for bool {
    const WHAT: &'static str = "0, 1, no, yes, failed or success";

    fn from_value(value: Value<'a>) -> Option<bool> {
        match value.text() {
            b"1" | b"yes" | b"success" => Some(true),
            b"0" | b"no" | b"failed" => Some(false),
            _ => None,
        }
    }
}

impl<'a> Kind<'a> for Value<'a> {
    const WHAT: &'static str = "a string";

    fn from_value(value: Value<'a>) -> Option<Value<'a>> {
        Some(value)
    }
}

impl<'a> Kind<'a> for &'a [u8] {
    const WHAT: &'static str = "a word";

    fn from_value(value: Value<'a>) -> Option<&'a [u8]> {
        Some(value.text())
    }
}

/// May be missing, or `?`, `(null)`, `(none)`: all the same to a reader.
impl<'a, T: Kind<'a>> Kind<'a> for Option<T> {
    const WHAT: &'static str = T::WHAT;

    fn from_value(value: Value<'a>) -> Option<Option<T>> {
        match value {
            Value::Literal(b"?" | b"(null)" | b"(none)") => Some(None),
            _ => T::from_value(value).map(Some),
        }
    }

    fn absent() -> Option<Option<T>> {
        Some(None)
    }
}

impl<'a, T: Kind<'a>> Kind<'a> for Or<'a, T> {
    const WHAT: &'static str = T::WHAT;

    fn from_value(value: Value<'a>) -> Option<Or<'a, T>> {
        Some(T::from_value(value).map_or(Or::Other(value.text()), Or::Known))
    }
}

/// Kinds that are one of a list of words.
macro_rules! word_kinds {
    ($($type:ty: $what:literal,)*) => {
        $(impl<'a> crate::view::Kind<'a> for $type {
            const WHAT: &'static str = $what;

            fn from_value(value: crate::Value<'a>) -> Option<$type> {
                <$type>::parse(value.text())
            }
        })*
    };
}
pub(super) use word_kinds;

word_kinds! {
    Module: "a device mapper target",
    EventOp: "a device mapper event",
    CtrlOp: "ctr or dtr",
}
