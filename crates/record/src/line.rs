//! One line of an audit log.
//!
//! ```text
//!  [node=NAME ]type=TYPE [msg=]audit(SEC.MMM:SERIAL): BODY[0x1D ENRICHED][0x1D OWN]
//!  `------------ prefix ------------'`------------- payload ----------------------'
//! ```
//!
//! Accepted are the forms of audit userspace (raw and ENRICHED), of netlink
//! captures (numeric type, no `msg=`) and of printk (`audit: type=1300 audit(...)`
//! behind whatever a kernel log or syslog puts in front). Output of
//! `ausearch -i` is recognised and refused: it has lost what it was made from.

use std::fmt;

use memchr::{memchr, memmem, memrchr};

use crate::fields::{Fields, Flat};
use crate::names::{RecordType, is_tail_name};

/// What separates the parts of a line: auditd's ENRICHED tail, then veritrail's.
pub const TAIL: u8 = 0x1d;

/// Milliseconds since 1970, as a record's stamp has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Milliseconds since 1970-01-01 00:00 UTC.
    pub millis: u64,
}

impl Stamp {
    /// The stamp of a line that plainly is a record, `type=T msg=audit(SEC.MMM:`, at a
    /// fraction of the cost of [`Line::parse`]; `None` says nothing about a line.
    #[inline]
    #[must_use]
    pub fn peek(raw: &[u8]) -> Option<Stamp> {
        let name = raw.strip_prefix(b"type=")?;
        let blank = name.iter().take(LONGEST_NAME).position(|b| *b == b' ')?;
        let rest = name[blank..].strip_prefix(b" msg=audit(")?;
        let (seconds, end) = number(rest, 0);
        let [b'.', hundreds, tens, ones, b':'] = *rest.get(end..)?.first_chunk()? else {
            return None;
        };
        let millis = eight_digits([b'0', b'0', b'0', b'0', b'0', hundreds, tens, ones])?;
        Some(Stamp { millis: seconds?.checked_mul(1000)?.checked_add(millis)? })
    }
}

impl fmt::Display for Stamp {
    /// `SEC.MMM`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.millis / 1000, self.millis % 1000)
    }
}

/// What the records of one event share, apart from the node. Orders by time,
/// then serial; across a clock change the serial alone has the true order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// Milliseconds since 1970-01-01 00:00 UTC.
    pub millis: u64,
    /// The kernel's counter, unique within a boot (it wraps).
    pub serial: u32,
}

impl EventId {
    /// The stamp alone.
    #[must_use]
    pub fn stamp(self) -> Stamp {
        Stamp { millis: self.millis }
    }
}

impl fmt::Display for EventId {
    /// `SEC.MMM:SERIAL`, as it stands in the parenthesis.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.stamp(), self.serial)
    }
}

/// Why a line is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} (at byte {at} of the line)")]
pub struct LineError {
    /// What is wrong.
    pub kind: LineErrorKind,
    /// Where, counted from the start of the line.
    pub at: usize,
}

/// See [`LineError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineErrorKind {
    /// No `type=T` where one may stand.
    #[error("no `type=NAME` followed by `audit(`")]
    NoType,
    /// The line ends inside its header; a log that is still being written, or was cut.
    #[error("the line ends inside `audit(SECONDS.MMM:SERIAL):`")]
    Truncated,
    /// The seconds, or the three digits of milliseconds.
    #[error("the time is not SECONDS.MMM")]
    Stamp,
    /// Not a number of 32 bits.
    #[error("the serial is not a number below 2^32")]
    Serial,
    /// Output of `ausearch -i`, which is for people; `at` is where the body starts.
    #[error("interpreted text; use the raw log, or `ausearch --raw`")]
    Interpreted,
}

/// One record as it stands in a log. Borrows everything from the line.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    raw: &'a [u8],
    node: Option<&'a [u8]>,
    type_text: &'a [u8],
    record_type: RecordType,
    id: EventId,
    /// Where `audit(` stands.
    payload: usize,
    body: &'a [u8],
    enriched: Option<&'a [u8]>,
    own: Option<&'a [u8]>,
    cr: bool,
}

impl<'a> Line<'a> {
    /// Reads a line of a foreign source, given without its LF. A tail of ours
    /// is not believed: whatever follows a 0x1D is text of the source.
    ///
    /// # Errors
    /// When the header is not that of a record; see [`LineErrorKind`].
    pub fn parse(raw: &'a [u8]) -> Result<Line<'a>, LineError> {
        Line::parse_as(raw, false)
    }

    /// Reads a line of a trail, given without its LF. What follows the last
    /// 0x1D and begins with a registered name is veritrail's: the writer ends
    /// every line whose source had a 0x1D with a tail of its own.
    ///
    /// # Errors
    /// As [`Line::parse`].
    pub fn parse_stored(raw: &'a [u8]) -> Result<Line<'a>, LineError> {
        Line::parse_as(raw, true)
    }

    fn parse_as(raw: &'a [u8], stored: bool) -> Result<Line<'a>, LineError> {
        let (text, cr) = match raw.strip_suffix(b"\r") {
            Some(text) => (text, true),
            None => (raw, false),
        };
        let Prefix { node, type_text, payload } = prefix(text)?;
        let (id, body_at) = header(text, payload)?;
        let rest = &text[body_at..];
        let (rest, own) = if stored { split_own(rest) } else { (rest, None) };
        let (body, enriched) = match memchr(TAIL, rest) {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        let record_type = RecordType::from_record(type_text);
        Ok(Line { raw, node, type_text, record_type, id, payload, body, enriched, own, cr })
    }

    /// The line as it was given.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The host that wrote it, from `node=`.
    #[must_use]
    pub fn node(&self) -> Option<&'a [u8]> {
        self.node
    }

    /// The type by number; [`RecordType::UNNAMED`] where no table has the name.
    #[must_use]
    pub fn record_type(&self) -> RecordType {
        self.record_type
    }

    /// The type as written: `DM_EVENT`, `UNKNOWN[1339]`, `1339`.
    #[must_use]
    pub fn type_text(&self) -> &'a [u8] {
        self.type_text
    }

    /// The type it has in today's numbering, judged by the body where numbers
    /// were used twice: the 2021 dm posting called DM_CTRL and DM_EVENT 1336 and
    /// 1337, and CONTAINER_ID moved from 1332 to 1336 while it was discussed.
    #[must_use]
    pub fn effective_type(&self) -> RecordType {
        match self.record_type.0 {
            1336 if self.body.starts_with(b"module=") => RecordType::DM_CTRL,
            1337 if self.body.starts_with(b"module=") => RecordType::DM_EVENT,
            1332..=1336 if is_contid_body(self.body) => RecordType::CONTAINER_ID,
            1020 => RecordType::CONTAINER_OP,
            _ => self.record_type,
        }
    }

    /// The record's time.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.id.stamp()
    }

    /// The record's serial.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.id.serial
    }

    /// Time and serial.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Everything before `audit(`.
    #[must_use]
    pub fn prefix(&self) -> &'a [u8] {
        &self.raw[..self.payload]
    }

    /// From `audit(` on to the end of the body: what the kernel sent, without tails.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        let end =
            self.raw.len() - usize::from(self.cr) - tail_len(self.own) - tail_len(self.enriched);
        &self.raw[self.payload..end]
    }

    /// What follows `): `, without tails.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The fields of the body.
    #[must_use]
    pub fn fields(&self) -> Fields<'a> {
        Fields::new(self.body)
    }

    /// The fields of the body, those inside `msg='...'` in its place.
    #[must_use]
    pub fn flat_fields(&self) -> Flat<'a> {
        self.fields().flat()
    }

    /// auditd's ENRICHED tail: `UID="root" SYSCALL=openat ...`. In a foreign
    /// line anything that follows the first 0x1D.
    #[must_use]
    pub fn enriched(&self) -> Option<&'a [u8]> {
        self.enriched
    }

    /// veritrail's tail; only ever present after [`Line::parse_stored`].
    #[must_use]
    pub fn own_tail(&self) -> Option<&'a [u8]> {
        self.own
    }

    /// Whether the line ended in CR.
    #[must_use]
    pub fn has_cr(&self) -> bool {
        self.cr
    }
}

fn tail_len(tail: Option<&[u8]>) -> usize {
    tail.map_or(0, |tail| tail.len() + 1)
}

fn is_contid_body(body: &[u8]) -> bool {
    let list = body.strip_prefix(b"record=").map_or(body, |rest| {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        rest[digits..].strip_prefix(b" ").unwrap_or_default()
    });
    list.starts_with(b"contid=")
}

/// Splits veritrail's tail off what follows a header.
fn split_own(rest: &[u8]) -> (&[u8], Option<&[u8]>) {
    if let Some(at) = memrchr(TAIL, rest) {
        let tail = &rest[at + 1..];
        if memchr(b'=', &tail[..tail.len().min(16)]).is_some_and(|eq| is_tail_name(&tail[..eq])) {
            return (&rest[..at], Some(tail));
        }
    }
    (rest, None)
}

struct Prefix<'a> {
    node: Option<&'a [u8]>,
    type_text: &'a [u8],
    payload: usize,
}

/// No type's name is longer, `UNKNOWN[65535]` included.
const LONGEST_NAME: usize = 32;

/// How far into a line its `type=` may stand: what a kernel log or syslog puts
/// in front is short, and a hostile line must not be searched to its end.
const LONGEST_LEAD: usize = 1024;

/// Finds `[node=N ]type=T [msg=]audit(`, at the start or after a `: `.
fn prefix(text: &[u8]) -> Result<Prefix<'_>, LineError> {
    if let Some(found) = prefix_at(text, 0) {
        return found;
    }
    let near = &text[..text.len().min(LONGEST_LEAD)];
    for colon in memmem::find_iter(near, b": ") {
        if let Some(found) = prefix_at(text, colon + 2) {
            return found;
        }
    }
    Err(LineError { kind: LineErrorKind::NoType, at: 0 })
}

/// The prefix that starts at `start`; `None` if none does.
fn prefix_at(text: &[u8], start: usize) -> Option<Result<Prefix<'_>, LineError>> {
    let mut at = start;
    let mut node = None;
    if text[at..].starts_with(b"node=") {
        let end = at + memchr(b' ', &text[at..])?;
        node = Some(&text[at + 5..end]);
        at = end + 1;
    }
    let name = text[at..].strip_prefix(b"type=")?;
    // Names are short: a plain loop is quicker than a call.
    let Some(end) = name.iter().position(|b| *b == b' ') else {
        return Some(Err(LineError { kind: LineErrorKind::Truncated, at: text.len() }));
    };
    let type_text = &name[..end];
    at += 5 + end + 1;
    if text[at..].starts_with(b"msg=") {
        at += 4;
    }
    if text[at..].starts_with(b"audit(") && !type_text.is_empty() {
        return Some(Ok(Prefix { node, type_text, payload: at }));
    }
    let cut = b"audit(".starts_with(&text[at..]) || b"msg=".starts_with(&text[at..]);
    cut.then_some(Err(LineError { kind: LineErrorKind::Truncated, at: text.len() }))
}

/// Reads `audit(SEC.MMM:SERIAL): ` at `start`; the id and where the body starts.
fn header(text: &[u8], start: usize) -> Result<(EventId, usize), LineError> {
    let fail = |kind, at| {
        // Interpreted text has a date in the parenthesis and ` : ` behind it.
        let near = &text[start..text.len().min(start + 128)];
        match memmem::find(near, b") :") {
            Some(close) if kind != LineErrorKind::Serial => {
                let body = start + close + 3;
                let at = body + usize::from(text.get(body) == Some(&b' '));
                Err(LineError { kind: LineErrorKind::Interpreted, at })
            }
            _ if at >= text.len() => Err(LineError { kind: LineErrorKind::Truncated, at }),
            _ => Err(LineError { kind, at }),
        }
    };
    let mut at = start + b"audit(".len();
    let (seconds, end) = number(text, at);
    let Some(seconds) = seconds else { return fail(LineErrorKind::Stamp, end) };
    at = end;
    if text.get(at) != Some(&b'.') {
        return fail(LineErrorKind::Stamp, at);
    }
    let mut millis = 0u64;
    for place in at + 1..at + 4 {
        let Some(digit) = digit_at(text, place) else { return fail(LineErrorKind::Stamp, place) };
        millis = millis * 10 + u64::from(digit);
    }
    at += 4;
    let Some(millis) = seconds.checked_mul(1000).and_then(|s| s.checked_add(millis)) else {
        return fail(LineErrorKind::Stamp, at);
    };
    if text.get(at) != Some(&b':') {
        return fail(LineErrorKind::Stamp, at);
    }
    let (serial, end) = number(text, at + 1);
    at = end;
    let Some(serial) = serial.and_then(|serial| u32::try_from(serial).ok()) else {
        return fail(LineErrorKind::Serial, at);
    };
    if text.get(at) != Some(&b')') {
        return fail(LineErrorKind::Serial, at);
    }
    match text.get(at + 1) {
        Some(b':') => at += 2,
        Some(b' ') if text.get(at + 2) == Some(&b':') => {
            let body = at + 3 + usize::from(text.get(at + 3) == Some(&b' '));
            return Err(LineError { kind: LineErrorKind::Interpreted, at: body });
        }
        _ => return fail(LineErrorKind::Serial, at + 1),
    }
    if text.get(at) == Some(&b' ') {
        at += 1;
    }
    Ok((EventId { millis, serial }, at))
}

/// The decimal number at `at`, `None` if there is none or it is no u64; and where
/// its digits end.
#[inline]
fn number(text: &[u8], at: usize) -> (Option<u64>, usize) {
    let (mut end, mut sum) = match text.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(eight) => eight_digits(*eight).map_or((at, 0), |sum| (at + 8, sum)),
        None => (at, 0),
    };
    // Nineteen digits cannot overflow.
    while end < text.len().min(at + 19) {
        let digit = text[end].wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        sum = sum * 10 + u64::from(digit);
        end += 1;
    }
    let mut sum = (end > at).then_some(sum);
    while let Some(digit) = digit_at(text, end) {
        sum = sum.and_then(|s| s.checked_mul(10)?.checked_add(u64::from(digit)));
        end += 1;
    }
    (sum, end)
}

/// The number that eight digits are: pairs, then fours, then all, each step in one
/// multiplication.
#[inline]
fn eight_digits(text: [u8; 8]) -> Option<u64> {
    let text = u64::from_le_bytes(text);
    let digits = text.wrapping_sub(0x3030_3030_3030_3030);
    // A byte below `0` or above `9` leaves a high bit in one of the two.
    if (digits | digits.wrapping_add(0x7676_7676_7676_7676)) & 0x8080_8080_8080_8080 != 0 {
        return None;
    }
    let pairs = (digits * 10 + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some((fours * 10_000 + (fours >> 32)) & 0xffff_ffff)
}

fn digit_at(text: &[u8], at: usize) -> Option<u8> {
    text.get(at).filter(|b| b.is_ascii_digit()).map(|b| b - b'0')
}

#[cfg(test)]
mod tests;
