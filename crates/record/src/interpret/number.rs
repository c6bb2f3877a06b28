//! Numbers in values, read as the C library reads them: blanks and a sign in
//! front, whatever follows the digits ignored, no digits mean 0.

/// A number that does not fit; shown as `conversion error(VALUE)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooBig;

/// As `strtoul`: a minus sign negates within 64 bits.
pub(super) fn unsigned(text: &[u8], base: u32) -> Result<u64, TooBig> {
    let (negative, sum) = digits(text, base);
    let sum = u64::try_from(sum.ok_or(TooBig)?).map_err(|_| TooBig)?;
    Ok(if negative { sum.wrapping_neg() } else { sum })
}

/// As `strtoll`.
pub(super) fn signed(text: &[u8], base: u32) -> Result<i64, TooBig> {
    let (negative, sum) = digits(text, base);
    let sum = i128::try_from(sum.ok_or(TooBig)?).map_err(|_| TooBig)?;
    i64::try_from(if negative { -sum } else { sum }).map_err(|_| TooBig)
}

/// The low 32 bits, where the field is an `unsigned int` or an `int`.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn low(number: u64) -> u32 {
    number as u32
}

/// [`unsigned`], cut to 32 bits.
pub(super) fn unsigned32(text: &[u8], base: u32) -> Result<u32, TooBig> {
    unsigned(text, base).map(low)
}

fn digits(text: &[u8], base: u32) -> (bool, Option<u128>) {
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count();
    let mut rest = &text[blanks..];
    let negative = rest.first() == Some(&b'-');
    if negative || rest.first() == Some(&b'+') {
        rest = &rest[1..];
    }
    if base == 16
        && let [b'0', b'x' | b'X', next, ..] = rest
        && next.is_ascii_hexdigit()
    {
        rest = &rest[2..];
    }
    let mut sum = 0u128;
    for byte in rest {
        let Some(digit) = char::from(*byte).to_digit(base) else { break };
        sum = sum * u128::from(base) + u128::from(digit);
        if sum > u128::from(u64::MAX) {
            return (negative, None);
        }
    }
    (negative, Some(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_in_c() {
        let cases: &[(&[u8], u32, Result<u64, TooBig>)] = &[
            (b"0", 10, Ok(0)),
            (b"4294967295", 10, Ok(4_294_967_295)),
            (b"-1", 10, Ok(u64::MAX)),
            (b" 12x", 10, Ok(12)),
            (b"x", 10, Ok(0)),
            (b"", 10, Ok(0)),
            (b"0x1F", 16, Ok(31)),
            (b"0x", 16, Ok(0)),
            (b"0xg", 16, Ok(0)),
            (b"ffffff9c", 16, Ok(0xffff_ff9c)),
            (b"0100644", 8, Ok(0o100_644)),
            (b"18446744073709551615", 10, Ok(u64::MAX)),
            (b"18446744073709551616", 10, Err(TooBig)),
        ];
        for (text, base, expected) in cases {
            assert_eq!(unsigned(text, *base), *expected, "{text:?}");
        }
        assert_eq!(signed(b"-13", 10), Ok(-13));
        assert_eq!(signed(b"-9223372036854775808", 10), Ok(i64::MIN));
        assert_eq!(signed(b"9223372036854775808", 10), Err(TooBig));
    }
}
