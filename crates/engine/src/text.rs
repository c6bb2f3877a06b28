//! Numbers as the kernel prints them.

use crate::devices::DeviceNumber;

/// A decimal number, digits only.
pub(crate) fn decimal<T: TryFrom<u64>>(text: &[u8]) -> Option<T> {
    radix(text, 10)
}

/// A hexadecimal number, digits only.
pub(crate) fn hexadecimal(text: &[u8]) -> Option<u64> {
    radix(text, 16)
}

fn radix<T: TryFrom<u64>>(text: &[u8], radix: u32) -> Option<T> {
    if text.is_empty() {
        return None;
    }
    let sum = text.iter().try_fold(0u64, |sum, byte| {
        let digit = char::from(*byte).to_digit(radix)?;
        sum.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    })?;
    T::try_from(sum).ok()
}

/// `MAJOR:MINOR`.
pub(crate) fn device_number(text: &[u8]) -> Option<DeviceNumber> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    Some((decimal(text.get(..colon)?)?, decimal(text.get(colon + 1..)?)?))
}

/// The part before the first `separator`, and what follows it.
pub(crate) fn split_once<'a>(text: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(separator.len().max(1)).position(|window| window == separator)?;
    Some((text.get(..at)?, text.get(at + separator.len()..)?))
}
