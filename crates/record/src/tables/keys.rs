//! What keys of a terminal send, named: control characters and the sequences of
//! xterm and the Linux console (terminfo).

/// Sequence and name; a longer sequence stands before its own beginning.
pub const KEYS: &[(&[u8], &str)] = &[
    (b"\x1b[1;2A", "scroll-backward"),
    (b"\x1b[1;2B", "scroll-forward"),
    (b"\x1b[1;2C", "shift-right"),
    (b"\x1b[1;2D", "shift-left"),
    (b"\x1b[1;2F", "shift-end"),
    (b"\x1b[1;2H", "shift-home"),
    (b"\x1b[11~", "F1"),
    (b"\x1b[12~", "F2"),
    (b"\x1b[13~", "F3"),
    (b"\x1b[14~", "F4"),
    (b"\x1b[15~", "F5"),
    (b"\x1b[17~", "F6"),
    (b"\x1b[18~", "F7"),
    (b"\x1b[19~", "F8"),
    (b"\x1b[20~", "F9"),
    (b"\x1b[21~", "F10"),
    (b"\x1b[23~", "F11"),
    (b"\x1b[24~", "F12"),
    (b"\x1b[25~", "F13"),
    (b"\x1b[26~", "F14"),
    (b"\x1b[28~", "F15"),
    (b"\x1b[29~", "F16"),
    (b"\x1b[31~", "F17"),
    (b"\x1b[32~", "F18"),
    (b"\x1b[33~", "F19"),
    (b"\x1b[34~", "F20"),
    (b"\x1b[1~", "home"),
    (b"\x1b[2~", "insert"),
    (b"\x1b[3~", "delete"),
    (b"\x1b[4~", "end"),
    (b"\x1b[5~", "page-up"),
    (b"\x1b[6~", "page-down"),
    (b"\x1b[[A", "F1"),
    (b"\x1b[[B", "F2"),
    (b"\x1b[[C", "F3"),
    (b"\x1b[[D", "F4"),
    (b"\x1b[[E", "F5"),
    (b"\x1b[A", "up"),
    (b"\x1b[B", "down"),
    (b"\x1b[C", "right"),
    (b"\x1b[D", "left"),
    (b"\x1b[F", "end"),
    (b"\x1b[H", "home"),
    (b"\x1b[Z", "back-tab"),
    (b"\x1bOA", "up"),
    (b"\x1bOB", "down"),
    (b"\x1bOC", "right"),
    (b"\x1bOD", "left"),
    (b"\x1bOF", "end"),
    (b"\x1bOH", "home"),
    (b"\x1bOP", "F1"),
    (b"\x1bOQ", "F2"),
    (b"\x1bOR", "F3"),
    (b"\x1bOS", "F4"),
    (b"\x1b", "esc"),
    (b"\x01", "^A"),
    (b"\x02", "^B"),
    (b"\x03", "^C"),
    (b"\x04", "^D"),
    (b"\x05", "^E"),
    (b"\x06", "^F"),
    (b"\x07", "^G"),
    (b"\x08", "backspace"),
    (b"\t", "tab"),
    (b"\n", "nl"),
    (b"\x0b", "^K"),
    (b"\x0c", "^L"),
    (b"\r", "ret"),
    (b"\x0e", "^N"),
    (b"\x0f", "^O"),
    (b"\x10", "^P"),
    (b"\x11", "^Q"),
    (b"\x12", "^R"),
    (b"\x13", "^S"),
    (b"\x14", "^T"),
    (b"\x15", "^U"),
    (b"\x16", "^V"),
    (b"\x17", "^W"),
    (b"\x18", "^X"),
    (b"\x19", "^Y"),
    (b"\x1a", "^Z"),
    (b"\x7f", "backspace"),
];

/// The key at the start of `typed`: its name and how many bytes it sent.
#[must_use]
pub fn key(typed: &[u8]) -> Option<(&'static str, usize)> {
    if typed.first().is_none_or(|byte| (0x20..0x7f).contains(byte)) {
        return None;
    }
    let (bytes, name) = KEYS.iter().find(|(bytes, _)| typed.starts_with(bytes))?;
    Some((name, bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sequence_hides_a_longer_one() {
        for (at, (bytes, name)) in KEYS.iter().enumerate() {
            assert_eq!(key(bytes), Some((*name, bytes.len())), "entry {at}");
        }
        assert_eq!(key(b"a\x1b"), None);
        assert_eq!(key(b""), None);
    }
}
