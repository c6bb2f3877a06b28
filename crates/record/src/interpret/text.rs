//! Strings: quoted, hexadecimal, with NULs, typed at terminals.

use crate::tables::keys;

/// The key separator of the kernel, `AUDIT_KEY_SEPARATOR`.
pub(super) const KEY_SEPARATOR: u8 = 0x01;

/// Writes the string that `value` encodes: quotes taken off, or the bytes of an
/// even number of upper-case digits, or `value` as it stands. The leading NUL of
/// an abstract socket's name is left out.
pub(super) fn text(value: &[u8], out: &mut Vec<u8>) {
    match value {
        [b'"', rest @ ..] => out.extend_from_slice(until(rest, b'"')),
        [b'0', b'0', rest @ ..] if is_hex(rest) => unhex(rest, out),
        _ if is_hex(value) => unhex(value, out),
        _ => out.extend_from_slice(value),
    }
}

/// As [`text`], with the NULs between arguments shown as blanks.
pub(super) fn proctitle(value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    text(value, out);
    for byte in &mut out[start..] {
        if *byte == 0 {
            *byte = b' ';
        }
    }
}

/// Rule keys, with `between` in the place of each separator.
pub(super) fn keys(value: &[u8], between: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    text(value, out);
    if memchr::memchr(KEY_SEPARATOR, &out[start..]).is_none() {
        return escape(out, start);
    }
    let joined = out.split_off(start);
    for (at, key) in joined.split(|byte| *byte == KEY_SEPARATOR).enumerate() {
        if at > 0 {
            out.extend_from_slice(between);
        }
        let start = out.len();
        out.extend_from_slice(key);
        escape(out, start);
    }
}

/// What was typed: printable bytes in quotes, keys by name in angle brackets.
pub(super) fn typed(value: &[u8], out: &mut Vec<u8>) {
    if value.len() < 2 || !value.iter().all(u8::is_ascii_hexdigit) {
        return out.extend_from_slice(value);
    }
    let mut bytes = Vec::with_capacity(value.len() / 2);
    unhex(value, &mut bytes);
    let start = out.len();
    let mut quoted = false;
    let mut rest = &bytes[..];
    while let Some(&byte) = rest.first() {
        if let Some((name, len)) = keys::key(rest) {
            if quoted {
                out.push(b'"');
                quoted = false;
            }
            if out.len() > start {
                out.push(b',');
            }
            out.push(b'<');
            out.extend_from_slice(name.as_bytes());
            out.push(b'>');
            rest = &rest[len..];
            continue;
        }
        if !quoted {
            if out.len() > start {
                out.push(b',');
            }
            out.push(b'"');
            quoted = true;
        }
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x20..=0x7e => out.push(byte),
            _ => octal(byte, out),
        }
        rest = &rest[1..];
    }
    if quoted {
        out.push(b'"');
    }
}

/// Makes control characters from `start` on visible as `\ooo`, so that no log
/// can steer the terminal that shows it.
pub(super) fn escape(out: &mut Vec<u8>, start: usize) {
    if out[start..].iter().all(|byte| *byte >= 0x20) {
        return;
    }
    let tail = out.split_off(start);
    for byte in tail {
        if byte < 0x20 {
            octal(byte, out);
        } else {
            out.push(byte);
        }
    }
}

/// Appends `bytes` with control characters made visible.
pub(super) fn plain(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(bytes);
    escape(out, start);
}

/// The bytes before the first `end`, all of them if there is none.
pub(super) fn until(bytes: &[u8], end: u8) -> &[u8] {
    &bytes[..memchr::memchr(end, bytes).unwrap_or(bytes.len())]
}

/// Decodes pairs of hexadecimal digits; stops at the first that is none.
pub(super) fn unhex(digits: &[u8], out: &mut Vec<u8>) {
    for pair in digits.chunks_exact(2) {
        let (Some(high), Some(low)) = (nibble(pair[0]), nibble(pair[1])) else { return };
        out.push(high << 4 | low);
    }
}

/// What an encoder of audit writes: pairs of upper-case digits, at least one.
fn is_hex(value: &[u8]) -> bool {
    !value.is_empty()
        && value.len().is_multiple_of(2)
        && value.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'))
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn octal(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    type Writer = fn(&[u8], &mut Vec<u8>);

    #[test]
    fn strings_are_shown_as_they_were() {
        let cases: &[(Writer, &[u8], &[u8])] = &[
            (text, b"\"bash\"", b"bash"),
            (text, b"\"\"", b""),
            (text, b"\"open end", b"open end"),
            (text, b"6220632F64", b"b c/d"),
            (text, b"002F746D702F78", b"/tmp/x"),
            (text, b"(null)", b"(null)"),
            (text, b"dev", b"dev"),
            (text, b"ABC", b"ABC"),
            (text, b"?", b"?"),
            (text, b"", b""),
            (proctitle, b"6C73002D6C", b"ls -l"),
            (proctitle, b"\"init\"", b"init"),
            (typed, b"6C730D", b"\"ls\",<ret>"),
            (typed, b"1B5B411B5B421B", b"<up>,<down>,<esc>"),
            (typed, b"615C22C3", b"\"a\\\\\\\"\\303\""),
            (typed, b"notHex", b"notHex"),
            (plain, b"a\x1b[31mb", b"a\\033[31mb"),
        ];
        for (writer, value, expected) in cases {
            let mut out = b"before ".to_vec();
            writer(value, &mut out);
            assert_eq!(&out[7..], *expected, "{}", value.escape_ascii());
        }
    }

    #[test]
    fn several_keys_stand_apart() {
        let mut out = Vec::new();
        keys(b"610162", b" key=", &mut out);
        assert_eq!(out, b"a key=b");
        out.clear();
        keys(b"\"one\"", b",", &mut out);
        assert_eq!(out, b"one");
    }
}
