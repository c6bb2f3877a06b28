//! Numbers in the kernel's text files.

use std::str::FromStr;

/// Decimal digits and nothing else: no sign, no blanks, no overflow.
pub(crate) fn decimal<T: FromStr>(text: &[u8]) -> Option<T> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}
