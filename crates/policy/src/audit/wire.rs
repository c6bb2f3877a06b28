//! A rule as the kernel takes and lists it: `struct audit_rule_data` of linux/audit.h, numbers in
//! the host's order.
//!
//! ```text
//!        0         4         8         c
//! 000    list      action    fields    calls: bit n%32 of word n/32
//! 010    ...
//! 100    ...                           field    64 times
//! 200    ...                           value    64 times: a number, or the length of a text
//! 300    ...                           operator 64 times
//! 400    ...                           length
//! 410    the texts, one after the other, without a NUL
//! ```

use super::field::{Field, Kind, Operator};
use super::rule::{Action, Condition, List, Rule, Syscalls, Value};

/// `AUDIT_FILTER_PREPEND`: the list's number with it puts a rule in front.
const PREPEND: u32 = 0x10;

/// A rule without its texts, as words: the drawing above. A table of its own, since the order
/// and the sizes are all there is to know.
mod at {
    pub(super) const LIST: usize = 0;
    pub(super) const ACTION: usize = 1;
    pub(super) const COUNT: usize = 2;
    pub(super) const CALLS: usize = 3;
    pub(super) const FIELDS: usize = CALLS + 64;
    pub(super) const VALUES: usize = FIELDS + 64;
    pub(super) const OPERATORS: usize = VALUES + 64;
    pub(super) const LENGTH: usize = OPERATORS + 64;
    pub(super) const WORDS: usize = LENGTH + 1;

    // The drawing, as the compiler sees it.
    const _: () = {
        assert!(CALLS * 4 == 0x00c);
        assert!(FIELDS * 4 == 0x10c);
        assert!(VALUES * 4 == 0x20c);
        assert!(OPERATORS * 4 == 0x30c);
        assert!(LENGTH * 4 == 0x40c);
        assert!(WORDS * 4 == 0x410);
    };
}

/// Why bytes are no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Fewer than the header.
    #[error("{length} bytes are no audit rule, which has at least 1040")]
    Short {
        /// How many there are.
        length: usize,
    },
    /// More conditions than there is room for.
    #[error("an audit rule with {0} fields, where 64 is the most")]
    Fields(u32),
    /// A list that is none.
    #[error("an audit rule for list {0}, which there is not")]
    List(u32),
    /// An action that is none.
    #[error("an audit rule with action {0}, which there is not")]
    Action(u32),
    /// An operator that is none.
    #[error("field {field} of an audit rule has operator {bits:#010x}, which there is not")]
    Operator {
        /// Its place, from 0.
        field: usize,
        /// What is there.
        bits: u32,
    },
    /// An audit container identifier that is not 8 bytes.
    #[error("contid of an audit rule has {0} bytes, which are 8")]
    ContId(usize),
    /// A text that goes beyond the texts, or texts that nothing refers to.
    #[error("the texts of an audit rule are {length} bytes, and its fields refer to {referred}")]
    Texts {
        /// How many there are.
        length: u64,
        /// How many the fields want.
        referred: u64,
    },
}

impl Rule {
    /// The bytes that add it behind the others of its list, and that delete it.
    #[must_use]
    pub fn to_wire(&self) -> Vec<u8> {
        self.bytes(self.list.number())
    }

    /// The bytes that add it in front of the others of its list.
    #[must_use]
    pub fn to_wire_in_front(&self) -> Vec<u8> {
        self.bytes(self.list.number() | PREPEND)
    }

    fn bytes(&self, list: u32) -> Vec<u8> {
        let mut words = [0_u32; at::WORDS];
        let mut texts: Vec<u8> = Vec::new();
        words[at::LIST] = list;
        words[at::ACTION] = self.action.number();
        words[at::CALLS..at::FIELDS].copy_from_slice(&self.syscalls.0);
        let columns = words[at::FIELDS..].split_at_mut(64);
        let (fields, (values, operators)) = (columns.0, columns.1.split_at_mut(64));
        let rows = fields.iter_mut().zip(values).zip(operators);
        let mut count = 0;
        for (((field, value), operator), condition) in rows.zip(&self.conditions) {
            count += 1;
            *field = condition.field.number();
            *operator = condition.operator.bits();
            *value = match &condition.value {
                Value::Number(number) => *number,
                Value::Wide(wide) => {
                    texts.extend(ours_wide(*wide));
                    8
                }
                Value::Text(text) => {
                    texts.extend(text);
                    u32::try_from(text.len()).unwrap_or(u32::MAX)
                }
            };
        }
        words[at::COUNT] = count;
        words[at::LENGTH] = u32::try_from(texts.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(at::WORDS * 4 + texts.len());
        bytes.extend(words.into_iter().flat_map(ours));
        bytes.extend(texts);
        bytes
    }

    /// The rule of these bytes, wherever in its list it is. What pads them is left out.
    ///
    /// # Errors
    /// Where they are none.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, WireError> {
        let (head, mut texts) = bytes
            .split_at_checked(at::WORDS * 4)
            .ok_or(WireError::Short { length: bytes.len() })?;
        let mut words = [0_u32; at::WORDS];
        for (word, bytes) in words.iter_mut().zip(head.chunks_exact(4)) {
            *word = number(bytes);
        }
        let list = words[at::LIST] & !PREPEND;
        let list = List::from_number(list).ok_or(WireError::List(list))?;
        let action = words[at::ACTION];
        let action = Action::from_number(action).ok_or(WireError::Action(action))?;
        let mut syscalls = Syscalls::NONE;
        syscalls.0.copy_from_slice(&words[at::CALLS..at::FIELDS]);
        let count = words[at::COUNT];
        let conditions = usize::try_from(count).unwrap_or(usize::MAX);
        if conditions > Self::MOST_CONDITIONS {
            return Err(WireError::Fields(count));
        }
        let length = u64::from(words[at::LENGTH]);
        let mut referred = 0_u64;
        let conditions = (0..conditions).map(|index| {
            let field = Field::from_number(words[at::FIELDS + index]);
            let bits = words[at::OPERATORS + index];
            let operator =
                Operator::from_bits(bits).ok_or(WireError::Operator { field: index, bits })?;
            let mut value = Value::Number(words[at::VALUES + index]);
            let kind = field.row().map(|row| row.kind);
            if kind.is_some_and(|kind| kind.is_text() || kind == Kind::ContId)
                && let Value::Number(size) = value
            {
                referred += u64::from(size);
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                let (text, rest) =
                    texts.split_at_checked(size).ok_or(WireError::Texts { length, referred })?;
                texts = rest;
                value = match (kind, <[u8; 8]>::try_from(text)) {
                    (Some(Kind::ContId), Ok(wide)) => Value::Wide(theirs_wide(wide)),
                    (Some(Kind::ContId), Err(_)) => return Err(WireError::ContId(text.len())),
                    _ => Value::Text(text.to_vec()),
                };
            }
            Ok(Condition { field, operator, value })
        });
        let conditions = conditions.collect::<Result<Vec<_>, _>>()?;
        if referred != length {
            return Err(WireError::Texts { length, referred });
        }
        Ok(Self { list, action, syscalls, conditions })
    }
}

#[expect(clippy::host_endian_bytes, reason = "the kernel's order is the host's")]
fn ours(number: u32) -> [u8; 4] {
    number.to_ne_bytes()
}

#[expect(clippy::host_endian_bytes, reason = "the kernel's order is the host's")]
fn ours_wide(number: u64) -> [u8; 8] {
    number.to_ne_bytes()
}

#[expect(clippy::host_endian_bytes, reason = "the kernel's order is the host's")]
fn theirs_wide(bytes: [u8; 8]) -> u64 {
    u64::from_ne_bytes(bytes)
}

fn number(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_ne_bytes)
}
