//! Audit container identifiers as text (ghak90; reference "Audit container identifiers", sections 1,
//! 2, 4 and 6): as they are written to `audit_containerid`, as they stand in records, and as a filter
//! spells them.

use std::fmt;

use crate::units::ContId;
use crate::write::{LONGEST_LINE, LONGEST_TAIL};

/// The longest list of one record, in bytes: header, `record=`, `VT_REF=` and the longest tail fit
/// beside it on a line that audit userspace reads.
pub const LONGEST_LIST: usize = LONGEST_LINE - LONGEST_TAIL - 256;

impl ContId {
    /// Whether it is a container's.
    #[must_use]
    pub fn is_set(self) -> bool {
        self != ContId::UNSET
    }

    /// As `ausearch -i` shows it: `unset`, or the number.
    #[must_use]
    pub fn interpreted(self) -> impl fmt::Display {
        fmt::from_fn(move |f| match self {
            ContId::UNSET => f.write_str("unset"),
            id => write!(f, "{id}"),
        })
    }
}

/// Why a write to `audit_containerid` names no identifier, in the order of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// There are no partial writes.
    #[error("not written at the beginning of the file")]
    Offset,
    /// It is no decimal number.
    #[error("not a decimal number")]
    Number,
    /// It is a number of more than 64 bits.
    #[error("a number above 18446744073709551615")]
    Range,
}

/// What was written at `offset` of `audit_containerid`: a decimal number, a `+` before it and a line
/// feed after it allowed. The unset value passes: whether it may be set is not a question of its form.
///
/// # Errors
/// The first test that fails (section 2, steps 2 to 4): EINVAL, EINVAL, ERANGE.
pub fn parse_write(offset: u64, bytes: &[u8]) -> Result<ContId, WriteError> {
    if offset != 0 {
        return Err(WriteError::Offset);
    }
    let digits = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let digits = digits.strip_prefix(b"+").unwrap_or(digits);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(WriteError::Number);
    }
    number(digits, 10).map(ContId).ok_or(WriteError::Range)
}

/// An identifier as a record has it: decimal, `-1` or `unset`.
pub(crate) fn parse(text: &[u8]) -> Option<ContId> {
    match text {
        b"-1" | b"unset" => Some(ContId::UNSET),
        _ => number(text, 10).map(ContId),
    }
}

/// An identifier as `-F contid=` and `--contid` spell it (section 6): decimal, `0x` and hexadecimal,
/// `0` and octal, a `-` before any of them for the two's complement, or `unset`.
#[must_use]
pub fn parse_filter(text: &[u8]) -> Option<ContId> {
    if text == b"unset" {
        return Some(ContId::UNSET);
    }
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let hexadecimal = text.strip_prefix(b"0x").or_else(|| text.strip_prefix(b"0X"));
    let value = match (hexadecimal, text) {
        (Some(digits), _) => number(digits, 16),
        (None, [b'0', octal @ ..]) if !octal.is_empty() => number(octal, 8),
        _ => number(text, 10),
    }?;
    if negative {
        0i64.checked_sub_unsigned(value).map(|value| ContId(value.cast_unsigned()))
    } else {
        Some(ContId(value))
    }
}

/// Digits and nothing else.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        sum.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    })
}

/// A list of identifiers, each with its parents: `4,^2,^1` (V9 and later), `4^2^1` (V8),
/// `123452,123451` (V5: two containers). Checked: every item is a number, and no parent comes without
/// a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContIds<'a> {
    text: &'a [u8],
}

impl<'a> ContIds<'a> {
    /// Checks a list; `None` when it is none.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<ContIds<'a>> {
        let list = ContIds { text };
        let first_is_child = list.raw_items().next().is_some_and(|(_, nested)| !nested);
        let good = list.raw_items().all(|(item, _)| parse(item).is_some());
        (first_is_child && good).then_some(list)
    }

    /// The list as written.
    #[must_use]
    pub fn text(self) -> &'a [u8] {
        self.text
    }

    /// Every identifier in order, and whether it is the parent of the one before.
    pub fn items(self) -> impl Iterator<Item = (ContId, bool)> + 'a {
        self.raw_items().filter_map(|(item, nested)| Some((parse(item)?, nested)))
    }

    /// The containers themselves, without their parents.
    pub fn direct(self) -> impl Iterator<Item = ContId> + 'a {
        self.items().filter_map(|(id, nested)| (!nested).then_some(id))
    }

    /// Each container with its parents, the innermost first.
    #[must_use]
    pub fn chains(self) -> Vec<Vec<ContId>> {
        let mut chains: Vec<Vec<ContId>> = Vec::new();
        for (id, nested) in self.items() {
            match chains.last_mut() {
                Some(chain) if nested => chain.push(id),
                _ => chains.push(vec![id]),
            }
        }
        chains
    }

    /// Whether `id` is one of the containers themselves.
    #[must_use]
    pub fn has(self, id: ContId) -> bool {
        self.direct().any(|item| item == id)
    }

    /// Whether `id` is one of the containers or a parent of one.
    #[must_use]
    pub fn has_nested(self, id: ContId) -> bool {
        self.items().any(|(item, _)| item == id)
    }

    fn raw_items(self) -> impl Iterator<Item = (&'a [u8], bool)> {
        self.text.split(|b| *b == b',').flat_map(|item| {
            let (rest, nested) = match item.strip_prefix(b"^") {
                Some(rest) => (rest, true),
                None => (item, false),
            };
            rest.split(|b| *b == b'^').enumerate().map(move |(at, id)| (id, nested || at > 0))
        })
    }
}

/// The containers of an event as lists of at most `limit` bytes, each for a record of its own
/// ([`LONGEST_LIST`]). A chain is a container and its parents, the innermost first; one that is longer
/// than a list goes on in the next under its container's own identifier: `4,^2` and `4,^1`.
#[must_use]
pub fn lists<'a>(chains: impl IntoIterator<Item = &'a [ContId]>, limit: usize) -> Vec<String> {
    // A number, and the caret and comma before a parent's.
    const DIGITS: usize = 20;
    let limit = limit.max(2 * DIGITS + 2);
    let mut lists = Vec::new();
    let mut list = String::new();
    for chain in chains {
        let Some((own, parents)) = chain.split_first() else { continue };
        let own = own.to_string();
        let parents: Vec<String> = parents.iter().map(|parent| format!(",^{parent}")).collect();
        let whole = own.len() + parents.iter().map(String::len).sum::<usize>();
        if !list.is_empty() && list.len() + 1 + whole > limit {
            lists.push(std::mem::take(&mut list));
        }
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(&own);
        for parent in &parents {
            if list.len() + parent.len() > limit {
                lists.push(std::mem::replace(&mut list, own.clone()));
            }
            list.push_str(parent);
        }
    }
    if !list.is_empty() {
        lists.push(list);
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_may_be_written() {
        use WriteError::{Number, Offset, Range};
        let cases: [(u64, &[u8], Result<u64, WriteError>); 20] = [
            (0, b"123456", Ok(123_456)),
            (0, b"123456\n", Ok(123_456)),
            (0, b"+7", Ok(7)),
            (0, b"0", Ok(0)),
            (0, b"007", Ok(7)),
            (0, b"18446744073709551615", Ok(u64::MAX)),
            (0, b"18446744073709551616", Err(Range)),
            (0, b"99999999999999999999999999999999999999999999\n", Err(Range)),
            (7, b"1", Err(Offset)),
            (7, b"x", Err(Offset)),
            (0, b"", Err(Number)),
            (0, b"\n", Err(Number)),
            (0, b"1\n\n", Err(Number)),
            (0, b"-1", Err(Number)),
            (0, b"0x10", Err(Number)),
            (0, b" 1", Err(Number)),
            (0, b"1 ", Err(Number)),
            (0, b"++1", Err(Number)),
            (0, b"1\0", Err(Number)),
            (0, b"18446744073709551616x", Err(Number)),
        ];
        for (offset, bytes, expected) in cases {
            let found = parse_write(offset, bytes);
            assert_eq!(found, expected.map(ContId), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn how_a_filter_spells_it() {
        let cases: [(&str, Option<u64>); 18] = [
            ("123459", Some(123_459)),
            ("0", Some(0)),
            ("0x1F", Some(31)),
            ("0Xff", Some(255)),
            ("017", Some(15)),
            ("-1", Some(u64::MAX)),
            ("-2", Some(u64::MAX - 1)),
            ("-010", Some(u64::MAX - 7)),
            ("-9223372036854775808", Some(1 << 63)),
            ("unset", Some(u64::MAX)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-9223372036854775809", None),
            ("08", None),
            ("0x", None),
            ("", None),
            ("-", None),
            ("+1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_filter(text.as_bytes()), expected.map(ContId), "{text}");
        }
    }

    #[test]
    fn lists_of_containers() {
        let chains = |text: &'static str| {
            let list = ContIds::parse(text.as_bytes())?;
            let numbers = |chain: &Vec<ContId>| chain.iter().map(|id| id.0).collect();
            Some(list.chains().iter().map(numbers).collect::<Vec<Vec<u64>>>())
        };
        for (text, expected) in [
            ("1", vec![vec![1]]),
            ("4,^2,^1", vec![vec![4, 2, 1]]),
            ("4^2^1", vec![vec![4, 2, 1]]),
            ("2,^1,3,^1", vec![vec![2, 1], vec![3, 1]]),
            ("4^2,3^2", vec![vec![4, 2], vec![3, 2]]),
            ("123452,123451", vec![vec![123_452], vec![123_451]]),
            ("-1", vec![vec![u64::MAX]]),
            ("unset", vec![vec![u64::MAX]]),
        ] {
            assert_eq!(chains(text), Some(expected), "{text}");
        }
        let bad =
            ["", ",", "1,", "^1", "1,^", "1^", "x", "+1", "18446744073709551616", "1 2", "0x1"];
        for bad in bad {
            assert_eq!(chains(bad), None, "{bad}");
        }
        assert_eq!(ContId::UNSET.interpreted().to_string(), "unset");
        assert_eq!(ContId(7).interpreted().to_string(), "7");
        assert_eq!(ContId::UNSET.to_string(), "18446744073709551615");
    }

    #[test]
    fn a_list_goes_on_in_the_next() {
        let written = |chains: &[&[ContId]], limit| lists(chains.iter().copied(), limit);
        let [one, two, four] = [1, 2, 4].map(ContId);
        assert_eq!(written(&[&[four, two, one]], 100), ["4,^2,^1"]);
        assert_eq!(written(&[&[two, one], &[], &[ContId(3), one]], 100), ["2,^1,3,^1"]);
        assert!(written(&[], 100).is_empty());
        let long: Vec<ContId> = (0..4).map(|n| ContId(u64::MAX - n)).collect();
        let own = u64::MAX;
        let expected: Vec<String> = (1..4).map(|n| format!("{own},^{}", own - n)).collect();
        assert_eq!(written(&[&long], 0), expected);
        // About 400 of them fill a record of the kernel's.
        let many: Vec<Vec<ContId>> = (0..1000).map(|n| vec![ContId(u64::MAX - n)]).collect();
        let lists = lists(many.iter().map(Vec::as_slice), LONGEST_LIST);
        assert!(lists.len() == 4 && lists.iter().all(|list| list.len() <= LONGEST_LIST));
    }

    /// A container and one of its parents, or none, for each that is named.
    fn pairs(chains: &[Vec<ContId>]) -> Vec<(ContId, Option<ContId>)> {
        chains
            .iter()
            .flat_map(|chain| {
                let own = chain[0];
                let parents: Vec<_> =
                    chain[1..].iter().map(|parent| (own, Some(*parent))).collect();
                if parents.is_empty() { vec![(own, None)] } else { parents }
            })
            .collect()
    }

    proptest! {
        #[test]
        fn what_is_listed_is_read_again(
            chains in prop::collection::vec(prop::collection::vec(any::<u64>(), 1..6), 0..20),
            limit in 0usize..400,
        ) {
            let chains: Vec<Vec<ContId>> =
                chains.into_iter().map(|chain| chain.into_iter().map(ContId).collect()).collect();
            let whole = lists(chains.iter().map(Vec::as_slice), usize::MAX);
            let read: Vec<_> =
                whole.iter().flat_map(|l| ContIds::parse(l.as_bytes()).unwrap().chains()).collect();
            prop_assert_eq!(&read, &chains);
            let pieces = lists(chains.iter().map(Vec::as_slice), limit);
            prop_assert!(pieces.iter().all(|piece| piece.len() <= limit.max(42)));
            let read: Vec<_> =
                pieces.iter().flat_map(|l| ContIds::parse(l.as_bytes()).unwrap().chains()).collect();
            prop_assert_eq!(pairs(&read), pairs(&chains));
        }

        #[test]
        fn any_bytes_are_a_list_or_none(bytes: Vec<u8>) {
            if let Some(list) = ContIds::parse(&bytes) {
                prop_assert_eq!(list.items().count(), list.chains().concat().len());
            }
            let _ = (parse_write(0, &bytes), parse_filter(&bytes));
        }

        #[test]
        fn every_identifier_is_read_as_it_is_printed(id: u64) {
            let text = ContId(id).to_string();
            prop_assert_eq!(parse_write(0, text.as_bytes()), Ok(ContId(id)));
            prop_assert_eq!(parse_filter(text.as_bytes()), Some(ContId(id)));
            prop_assert_eq!(parse(ContId(id).interpreted().to_string().as_bytes()), Some(ContId(id)));
        }
    }
}
