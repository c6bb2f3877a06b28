//! Audit's netlink messages as bytes: requests out, replies in (linux/netlink.h, linux/audit.h).
//! Pure.
//!
//! ```text
//!      0        4        8        c
//! 00   length   type,    sequence port     struct nlmsghdr; numbers in the host's order
//!               flags
//! 10   payload, to a multiple of 4
//! ```
//!
//! `length` counts the header, except in records for a registered reader, where it does not, and
//! no record is padded: a datagram is one record, and its own length is what counts.

/// The header's bytes.
pub(super) const HEADER: usize = 16;

/// `NLMSG_ERROR`: a failure, or the acknowledgement of a request.
const ERROR: u16 = 2;
/// `NLMSG_DONE`: the last of a list.
const DONE: u16 = 3;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// `NLM_F_ACK`.
pub(super) const ACKNOWLEDGE: u16 = 4;

/// What a request asks for.
pub(super) mod kind {
    pub(crate) const GET: u16 = 1000;
    pub(crate) const SET: u16 = 1001;
    pub(crate) const ADD_RULE: u16 = 1011;
    pub(crate) const DEL_RULE: u16 = 1012;
    pub(crate) const LIST_RULES: u16 = 1013;
    pub(crate) const TRIM: u16 = 1014;
    pub(crate) const MAKE_EQUIVALENT: u16 = 1015;
    pub(crate) const SET_FEATURE: u16 = 1018;
    pub(crate) const GET_FEATURE: u16 = 1019;
    /// `AUDIT_REPLACE`: is the registered reader still there?
    pub(crate) const REPLACE: u16 = 1329;
}

/// One message to the kernel.
pub(super) fn request(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(HEADER.checked_add(payload.len())?).ok()?;
    let padded = payload.len().checked_next_multiple_of(4)?;
    let mut bytes = Vec::with_capacity(HEADER + padded);
    bytes.extend(ours(length));
    bytes.extend(ours16(kind));
    bytes.extend(ours16(REQUEST | flags));
    bytes.extend(ours(sequence));
    bytes.extend(ours(0));
    bytes.extend(payload);
    bytes.resize(HEADER + padded, 0);
    Some(bytes)
}

/// The type and the text of a record, which is all of a datagram.
pub(super) fn record(datagram: &[u8]) -> Option<(u16, &[u8])> {
    let (header, text) = datagram.split_at_checked(HEADER)?;
    Some((number16(header.get(4..6)?)?, text))
}

/// True for what answers a request of ours, which is no record.
pub(super) fn is_answer(kind: u16) -> bool {
    kind == ERROR || kind == DONE
}

/// One of the messages that answer requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The number that the request had.
    pub sequence: u32,
    /// What it says.
    pub body: ReplyBody<'a>,
}

/// What a [`Reply`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyBody<'a> {
    /// 0: done. Below: refused, the negative of an errno. Above: done, and the answer is a number.
    Acknowledged(i32),
    /// The end of a list.
    Done,
    /// The type and the bytes of what was asked for.
    Data(u16, &'a [u8]),
}

/// The messages of a datagram of replies, one after the other. After bytes that are none (`Err`)
/// there is nothing more.
pub fn replies(datagram: &[u8]) -> impl Iterator<Item = Result<Reply<'_>, Malformed>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let reply = take(&mut rest);
        if reply.is_none() {
            rest = &[];
        }
        Some(reply.ok_or(Malformed))
    })
}

/// Bytes that are no netlink message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

fn take<'a>(rest: &mut &'a [u8]) -> Option<Reply<'a>> {
    let bytes = *rest;
    let length = usize::try_from(number(bytes.get(0..4)?)?).ok()?;
    let kind = number16(bytes.get(4..6)?)?;
    let sequence = number(bytes.get(8..12)?)?;
    let payload = bytes.get(HEADER..length)?;
    // The last message of a datagram may lack its padding.
    *rest = bytes.get(length.checked_next_multiple_of(4)?..).unwrap_or_default();
    let body = match kind {
        ERROR => ReplyBody::Acknowledged(number(payload.get(0..4)?)?.cast_signed()),
        DONE => ReplyBody::Done,
        kind => ReplyBody::Data(kind, payload),
    };
    Some(Reply { sequence, body })
}

/// The state of audit (`struct audit_status`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// 0: records are neither made nor sent. 1: they are. 2: they are, and nothing can be changed
    /// until the machine is booted again.
    pub enabled: u32,
    /// What the kernel does where it loses a record: 0 nothing, 1 a line in its log, 2 panic.
    pub failure: u32,
    /// The process that is the audit daemon, as this PID namespace numbers it; 0 for none.
    pub pid: u32,
    /// Records in a second, beyond which the kernel drops and counts; 0 for no limit.
    pub rate_limit: u32,
    /// Records that may wait, beyond which whoever makes one sleeps; 0 for no limit.
    pub backlog_limit: u32,
    /// Records that the kernel could not make or keep, since boot or the last reset. What it drops
    /// at the socket of a multicast reader is not among them.
    pub lost: u32,
    /// Records that wait.
    pub backlog: u32,
    /// What this kernel's audit can do (`AUDIT_FEATURE_BITMAP_*`).
    pub feature_bitmap: u32,
    /// How long whoever makes a record sleeps at most where too many wait, in jiffies.
    pub backlog_wait_time: u32,
    /// How long they did in sum, in jiffies.
    pub backlog_wait_time_actual: u32,
}

impl Status {
    /// From the kernel's bytes. An older kernel has fewer, what it lacks is 0, and what a newer
    /// one has more is left out; the first of them, the mask, means nothing in an answer.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let mut numbers = bytes.chunks_exact(4).map(|bytes| number(bytes).unwrap_or(0)).skip(1);
        let mut next = || numbers.next().unwrap_or(0);
        Self {
            enabled: next(),
            failure: next(),
            pid: next(),
            rate_limit: next(),
            backlog_limit: next(),
            lost: next(),
            backlog: next(),
            feature_bitmap: next(),
            backlog_wait_time: next(),
            backlog_wait_time_actual: next(),
        }
    }

    /// Whether records are made.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.enabled != 0
    }

    /// Whether nothing can be changed any more.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.enabled == 2
    }
}

/// What of [`Status`] a request sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    Enabled(u32),
    Failure(u32),
    Pid(u32),
    RateLimit(u32),
    BacklogLimit(u32),
    BacklogWaitTime(u32),
    /// To zero; answered with the number it was.
    Lost,
    /// The same, of [`Status::backlog_wait_time_actual`].
    Waited,
}

impl Setting {
    /// A `struct audit_status` of which the mask names one number.
    pub(super) fn payload(self) -> Vec<u8> {
        // Of the mask, then the place of the number behind it.
        let (bit, place, value) = match self {
            Setting::Enabled(value) => (0x01, 0, value),
            Setting::Failure(value) => (0x02, 1, value),
            Setting::Pid(value) => (0x04, 2, value),
            Setting::RateLimit(value) => (0x08, 3, value),
            Setting::BacklogLimit(value) => (0x10, 4, value),
            Setting::BacklogWaitTime(value) => (0x20, 8, value),
            Setting::Lost => (0x40, 5, 0),
            Setting::Waited => (0x80, 9, 0),
        };
        let numbers = (0..10).map(|at| if at == place { value } else { 0 });
        std::iter::once(bit).chain(numbers).flat_map(ours).collect()
    }
}

/// Switches of audit that are no number of [`Status`] (`struct audit_features`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// A bit for each that is on: 0 only an unset login uid may be set, 1 no login uid may be set
    /// again.
    pub on: u32,
    /// A bit for each that cannot be changed until the machine is booted again.
    pub locked: u32,
}

impl Features {
    /// From the kernel's bytes; what is not there is 0.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let at = |range| bytes.get(range).and_then(number).unwrap_or(0);
        Self { on: at(8..12), locked: at(12..16) }
    }
}

/// `struct audit_features` that switches one on and keeps it so.
pub(super) fn feature_for_ever(bit: u32) -> Vec<u8> {
    // Version, which are meant, which are on, which are locked.
    [1, bit, bit, bit].into_iter().flat_map(ours).collect()
}

/// Two paths that are one tree to the rules that watch it.
pub(super) fn equivalent(mount: &[u8], subtree: &[u8]) -> Option<Vec<u8>> {
    let size = |path: &[u8]| u32::try_from(path.len()).ok().map(ours);
    Some([&size(mount)?[..], &size(subtree)?[..], mount, subtree].concat())
}

/// The process that asks to be the audit daemon, in the probe of the one that is.
pub(super) fn contender(payload: &[u8]) -> u32 {
    payload.get(0..4).and_then(number).unwrap_or(0)
}

#[expect(clippy::host_endian_bytes, reason = "netlink's order is the host's")]
fn ours(number: u32) -> [u8; 4] {
    number.to_ne_bytes()
}

#[expect(clippy::host_endian_bytes, reason = "netlink's order is the host's")]
fn ours16(number: u16) -> [u8; 2] {
    number.to_ne_bytes()
}

#[expect(clippy::host_endian_bytes, reason = "netlink's order is the host's")]
fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[expect(clippy::host_endian_bytes, reason = "netlink's order is the host's")]
fn number16(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message as the kernel makes one.
    fn message(kind: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        request(kind, 0, sequence, payload).unwrap()
    }

    proptest! {
        #[test]
        fn several_replies_in_a_datagram_come_out_in_order(
            sent in prop::collection::vec((4_u16.., any::<u32>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8),
        ) {
            let bytes: Vec<u8> =
                sent.iter().flat_map(|(kind, sequence, data)| message(*kind, *sequence, data)).collect();
            let expected: Vec<_> = sent
                .iter()
                .map(|(kind, sequence, data)| Ok(Reply {
                    sequence: *sequence,
                    body: ReplyBody::Data(*kind, data),
                }))
                .collect();
            prop_assert_eq!(replies(&bytes).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn a_reply_cut_anywhere_is_told(code in any::<i32>(), at in 1_usize..20) {
            let whole = message(ERROR, 7, &ours(code.cast_unsigned()));
            let body = ReplyBody::Acknowledged(code);
            prop_assert_eq!(replies(&whole).collect::<Vec<_>>(), [Ok(Reply { sequence: 7, body })]);
            prop_assert_eq!(replies(&whole[..at]).collect::<Vec<_>>(), [Err(Malformed)]);
        }

        #[test]
        fn a_status_of_any_length_has_zeroes_for_the_rest(
            numbers in prop::collection::vec(any::<u32>(), 0..16), more in 0_usize..4,
        ) {
            let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| ours(*number)).collect();
            bytes.extend(vec![0xff; more]);
            let status = Status::parse(&bytes);
            let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
            prop_assert_eq!((status.enabled, status.pid, status.lost), (at(1), at(3), at(6)));
            prop_assert_eq!((status.feature_bitmap, status.backlog_wait_time_actual), (at(8), at(10)));
        }

        #[test]
        fn each_setting_is_read_back_as_what_it_sets(value in any::<u32>()) {
            let set = |setting: Setting| Status::parse(&setting.payload());
            let zero = Status::default();
            prop_assert_eq!(set(Setting::Enabled(value)), Status { enabled: value, ..zero });
            prop_assert_eq!(set(Setting::Failure(value)), Status { failure: value, ..zero });
            prop_assert_eq!(set(Setting::Pid(value)), Status { pid: value, ..zero });
            prop_assert_eq!(set(Setting::RateLimit(value)), Status { rate_limit: value, ..zero });
            prop_assert_eq!(set(Setting::BacklogLimit(value)), Status { backlog_limit: value, ..zero });
            prop_assert_eq!(
                set(Setting::BacklogWaitTime(value)),
                Status { backlog_wait_time: value, ..zero }
            );
            prop_assert_eq!(set(Setting::Lost), zero);
            prop_assert_eq!(set(Setting::Waited), zero);
        }
    }

    #[test]
    fn a_record_is_what_the_datagram_has_whatever_its_header_says() {
        for length in [0_u32, 20, 23, 39, u32::MAX] {
            let mut datagram = message(1339, 0, b"audit(1.000:1): ")[..HEADER + 15].to_vec();
            datagram[..4].copy_from_slice(&ours(length));
            assert_eq!(record(&datagram), Some((1339, b"audit(1.000:1):".as_slice())));
        }
        assert_eq!(record(&[0; 15]), None);
    }

    #[test]
    fn a_switch_and_two_paths_are_laid_out_as_the_kernel_reads_them() {
        let numbers: Vec<u32> = feature_for_ever(2).chunks(4).filter_map(number).collect();
        assert_eq!(numbers, [1, 2, 2, 2]);
        let both = equivalent(b"/proc", b"/sys/x").unwrap();
        assert_eq!((number(&both[..4]), number(&both[4..8])), (Some(5), Some(6)));
        assert_eq!(&both[8..], b"/proc/sys/x");
    }

    #[test]
    fn a_length_below_the_header_ends_the_walk() {
        let mut bytes = message(1013, 1, b"abcd");
        bytes.extend(message(3, 1, b""));
        bytes[..4].copy_from_slice(&ours(15));
        assert_eq!(replies(&bytes).collect::<Vec<_>>(), [Err(Malformed)]);
    }
}
