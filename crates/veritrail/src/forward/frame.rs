//! A stored line as a syslog message (RFC 5424), counted by octets (RFC 6587, as RFC 5425 has it).
//!
//! ```text
//! 312 <108>1 2023-02-28T21:24:23.786Z host veritrail - DM_EVENT [veritrail@32473 leaf="7" line="1" ...] type=DM_EVENT ...
//! ```

use std::fmt::Write as _;

use record::stored::tail_value;
use record::{Line, RecordType};

/// log audit (RFC 5424 section 6.2.1).
const FACILITY: u8 = 13;

/// The element of structured data. The number is the one that RFC 5612 keeps for whoever has none.
const ELEMENT: &str = "veritrail@32473";

/// Where a line stands in a trail.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    /// The host of the trail.
    pub(super) host: &'a str,
    pub(super) leaf: u64,
    /// From 1 on.
    pub(super) line: usize,
}

/// Appends the message of a line, given without its LF; and says when that happened, in milliseconds since 1970.
pub(super) fn push(out: &mut Vec<u8>, at: At<'_>, raw: &[u8]) -> Option<u64> {
    let line = Line::parse_stored(raw).ok();
    let millis = line.as_ref().map(|line| line.id().millis);
    let time = millis
        .and_then(|millis| jiff::Timestamp::from_millisecond(i64::try_from(millis).ok()?).ok())
        .map_or_else(|| "-".to_owned(), |time| format!("{time:.3}"));
    let kind = line.as_ref().map(Line::effective_type);
    let (class, severity) = match kind {
        Some(kind) if is_integrity(kind) => ("integrity", 4),
        _ => ("rest", 6),
    };
    let name = kind.map_or_else(|| "-".to_owned(), |kind| word(&kind.to_string(), 32));
    let host = line.as_ref().and_then(Line::node).and_then(|node| str::from_utf8(node).ok());
    let mut head = format!(
        "<{}>1 {time} {} veritrail - {name} [{ELEMENT} leaf=\"{}\" line=\"{}\" class=\"{class}\"",
        FACILITY * 8 + severity,
        word(host.unwrap_or(at.host), 255),
        at.leaf,
        at.line,
    );
    let tail = line.as_ref().and_then(Line::own_tail).unwrap_or_default();
    for (param, field) in [("src", "VT_SRC"), ("conf", "VT_CONF"), ("contid", "CONTID")] {
        if let Some(value) = tail_value(tail, field).and_then(|value| str::from_utf8(value).ok()) {
            // A string takes everything.
            let _ = write!(head, " {param}=\"{}\"", Param(value));
        }
    }
    head.push_str("] ");
    // The tail is ours, and what it says stands in the structured data.
    let text = raw.get(..raw.len().saturating_sub(tail.len())).unwrap_or(raw);
    let text = if tail.is_empty() { text } else { text.strip_suffix(b"\x1d").unwrap_or(text) };
    out.extend_from_slice((head.len() + text.len()).to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(text);
    millis
}

/// What integrity, time and containers are about, and what we say ourselves.
fn is_integrity(kind: RecordType) -> bool {
    kind.is_own()
        || [
            RecordType::DM_CTRL,
            RecordType::DM_EVENT,
            RecordType::TIME_INJOFFSET,
            RecordType::TIME_ADJNTPVAL,
            RecordType::CONTAINER_ID,
            RecordType::CONTAINER_OP,
        ]
        .contains(&kind)
        || matches!(kind, RecordType(1420..=1422 | 1800..=1899))
}

/// As a word of the header: visible ASCII, not empty, not too long.
fn word(text: &str, most: usize) -> String {
    let word: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if word.is_empty() { "-".into() } else { word }
}

/// A value of structured data.
struct Param<'a>(&'a str);

impl std::fmt::Display for Param<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            if matches!(c, '"' | '\\' | ']') {
                f.write_char('\\')?;
            }
            f.write_char(c)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: At<'_> = At { host: "h", leaf: 7, line: 1 };

    #[test]
    fn a_line_is_a_message_with_its_place() {
        let mut out = Vec::new();
        let line = b"type=DM_EVENT msg=audit(1677619463.786:1074): module=verity op=verify-data dev=7:0 sector=1000 res=0\x1dVT_LEAF=7 VT_SRC=kernel CONTID=5";
        assert_eq!(push(&mut out, AT, line), Some(1_677_619_463_786));
        let expected = "<108>1 2023-02-28T21:24:23.786Z h veritrail - DM_EVENT [veritrail@32473 leaf=\"7\" line=\"1\" class=\"integrity\" src=\"kernel\" contid=\"5\"] type=DM_EVENT msg=audit(1677619463.786:1074): module=verity op=verify-data dev=7:0 sector=1000 res=0";
        assert_eq!(String::from_utf8(out).unwrap(), format!("{} {expected}", expected.len()));
    }

    proptest! {
        /// Any bytes: one message, as long as it says.
        #[test]
        fn any_line_is_one_message(raw in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            push(&mut out, AT, &raw);
            let space = out.iter().position(|byte| *byte == b' ').unwrap();
            let said: usize = str::from_utf8(&out[..space]).unwrap().parse().unwrap();
            prop_assert_eq!(said, out.len() - space - 1);
        }
    }
}
