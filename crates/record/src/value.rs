//! How strings that nobody vouches for stand in a record (reference: the
//! kernel's `audit_log_untrustedstring`, libaudit's `audit_encode_nv_string`).

use std::borrow::Cow;

/// The value of a field, as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value<'a> {
    /// Without quotes: a number, a word, hex of an untrusted string.
    Literal(&'a [u8]),
    /// Between double quotes; the text without them.
    Quoted(&'a [u8]),
    /// Between single quotes (`msg='...'`, `error_msg='...'`); the text without them.
    Single(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The bytes between the quotes, if any, undecoded.
    #[must_use]
    pub fn text(self) -> &'a [u8] {
        match self {
            Value::Literal(text) | Value::Quoted(text) | Value::Single(text) => text,
        }
    }

    /// The string that an untrusted-string field (comm, exe, name, path, key ...)
    /// stands for: quoted text as it is, hex decoded, `(null)` absent (`None`).
    /// What is neither is taken literally.
    ///
    /// Only for fields of that class: a number would be taken for hex.
    #[must_use]
    pub fn untrusted(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Value::Quoted(text) | Value::Single(text) => Some(Cow::Borrowed(text)),
            Value::Literal(b"(null)") => None,
            Value::Literal(text) => Some(decode_hex(text).map_or(Cow::Borrowed(text), Cow::Owned)),
        }
    }
}

/// The bytes that upper-case hex stands for; `None` when `text` is empty, of odd
/// length, or holds anything but `0-9A-F`.
#[must_use]
pub fn decode_hex(text: &[u8]) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks_exact(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Appends `bytes` as upper-case hex.
pub fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.reserve(bytes.len() * 2);
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Appends `bytes` by the kernel's rule: hex if any byte is `"`, below 0x21 or
/// above 0x7e, else between double quotes.
pub fn push_untrusted(out: &mut Vec<u8>, bytes: &[u8]) {
    push_either(out, bytes, bytes.iter().any(|b| *b == b'"' || !(0x21..=0x7e).contains(b)));
}

/// Appends `bytes` by libaudit's rule: as [`push_untrusted`], but bytes from
/// 0x80 up stay as they are.
pub fn push_user_string(out: &mut Vec<u8>, bytes: &[u8]) {
    push_either(out, bytes, bytes.iter().any(|b| matches!(b, b'"' | 0x7f | ..=0x20)));
}

fn push_either(out: &mut Vec<u8>, bytes: &[u8], hex: bool) {
    if hex {
        push_hex(out, bytes);
    } else {
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn both(bytes: &[u8]) -> (String, String) {
        let (mut kernel, mut user) = (Vec::new(), Vec::new());
        push_untrusted(&mut kernel, bytes);
        push_user_string(&mut user, bytes);
        (kernel.escape_ascii().to_string(), user.escape_ascii().to_string())
    }

    #[test]
    fn the_rules_of_kernel_and_libaudit() {
        let cases: [(&[u8], &str, &str); 8] = [
            (b"", r#"\"\""#, r#"\"\""#),
            (b"sh", r#"\"sh\""#, r#"\"sh\""#),
            (b"w/ b", "772F2062", "772F2062"),
            (b"a\"b", "612262", "612262"),
            (b"it's=(\\", r#"\"it\'s=(\\\""#, r#"\"it\'s=(\\\""#),
            (b"\x7f", "7F", "7F"),
            ("\u{e4}".as_bytes(), "C3A4", r#"\"\xc3\xa4\""#),
            (b"a\nb", "610A62", "610A62"),
        ];
        for (bytes, kernel, user) in cases {
            assert_eq!(both(bytes), (kernel.to_string(), user.to_string()));
        }
    }

    #[test]
    fn what_is_not_hex_is_taken_literally() {
        let text = |v: Value<'static>| v.untrusted().map(Cow::into_owned);
        assert_eq!(text(Value::Literal(b"(null)")), None);
        assert_eq!(text(Value::Quoted(b"(null)")), Some(b"(null)".to_vec()));
        assert_eq!(text(Value::Literal(b"?")), Some(b"?".to_vec()));
        assert_eq!(text(Value::Literal(b"7")), Some(b"7".to_vec()));
        assert_eq!(text(Value::Literal(b"6a")), Some(b"6a".to_vec()));
        assert_eq!(text(Value::Literal(b"6A")), Some(b"j".to_vec()));
        assert_eq!(text(Value::Literal(b"")), Some(b"".to_vec()));
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(bytes: Vec<u8>) {
            let (mut kernel, mut user) = (Vec::new(), Vec::new());
            push_untrusted(&mut kernel, &bytes);
            push_user_string(&mut user, &bytes);
            for written in [kernel, user] {
                let body = [b"k=", &written[..]].concat();
                let field = crate::fields::Fields::new(&body).next().unwrap();
                prop_assert_eq!(field.value.untrusted().unwrap(), &bytes[..]);
            }
        }
    }
}
