use proptest::prelude::*;

use super::*;

const USER: &str =
    "audit(1795359066.544:131306858): pid=19808 uid=0 msg='text=a exe=\"/x\" res=success'";

/// A message as auditd writes it, with what its memory held behind it.
fn padded(version: u32, kind: u16, data: &[u8], memory: &[u8]) -> Vec<u8> {
    let mut message = packed(version, kind, data);
    message.extend(memory.iter().copied().cycle().take(HEADER + LONGEST - message.len()));
    message
}

fn packed(version: u32, kind: u16, data: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    push_message(&mut message, Version(version), kind, data);
    message
}

/// What is read of `bytes` that come in pieces: each line with whether it is verbatim, and how it ended.
type Read = (Vec<(Vec<u8>, bool)>, Result<(), DispatchError>);

fn read(mut reader: Reader, bytes: &[u8], piece: usize) -> Read {
    let mut lines = Vec::new();
    for piece in bytes.chunks(piece) {
        reader.push(piece);
        loop {
            match reader.next() {
                Ok(Some(Message::Record(Record { line, verbatim, .. }))) => {
                    lines.push((line.raw().to_vec(), verbatim));
                }
                Ok(Some(Message::Dropped(dropped))) => {
                    lines.push((format!("{dropped:?}").into_bytes(), false));
                }
                Ok(None) => break,
                Err(error) => return (lines, Err(error)),
            }
        }
    }
    (lines, Ok(()))
}

fn auditd() -> Reader {
    Reader::new(Writer::Auditd, vec![b"vm".to_vec()])
}

#[test]
fn every_form_is_the_same_record() {
    let expected = (format!("type=USER msg={USER}").into_bytes(), true);
    let text = (expected.0.clone(), false);
    let memory = b"pid=19791 auid=4294967295\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let line = format!("type=USER msg={USER}");
    for (bytes, expected) in [
        (padded(0, 1005, USER.as_bytes(), memory), &expected),
        (padded(0, 1005, format!("{USER}\n\0").as_bytes(), memory), &expected),
        (padded(1, 1005, line.as_bytes(), memory), &text),
        (padded(1, 1005, format!("node=vm {line}").as_bytes(), memory), &text),
        (packed(0, 1005, USER.as_bytes()), &expected),
        (packed(1, 1005, line.as_bytes()), &text),
        (format!("{line}\n").into_bytes(), &text),
        (format!("node=vm type=1005 msg={USER}\n").into_bytes(), &text),
        (format!("type=UNKNOWN[1005] msg={USER}\n").into_bytes(), &text),
    ] {
        for piece in [1, 7, 1000, 9000, 1 << 20] {
            let (lines, ended) = read(auditd(), &bytes.repeat(2), piece);
            assert_eq!(ended, Ok(()));
            // Of a packed one alone nobody knows whether the rest is still to come.
            assert_eq!(lines, [expected.clone(), expected.clone()][..lines.len()]);
            assert!(lines.len() == 2, "{} in pieces of {piece}", bytes.escape_ascii());
        }
    }
}

#[test]
fn what_auditd_adds_is_kept_and_known() {
    let text = "type=DM_EVENT msg=audit(1.000:8): module=verity op=verify-data\x1dARCH=x86_64\n\
                type=UNKNOWN[1339] msg=audit(1.000:8): module=verity\n\
                node=other type=UNKNOWN[1339] msg=audit(1.000:8): module=verity\n\
                type=DAEMON_START msg=audit(1.000:9097): op=start\n\
                type=NEWER_TYPE msg=audit(1.000:9): a=b\n\
                node=vm type=NEWER_TYPE msg=audit(1.000:9): a=b\n\
                type=VT_PLACE msg=audit(1.000:10): forged\n";
    let mut reader = auditd();
    reader.push(text.as_bytes());
    let mut seen = Vec::new();
    while let Ok(Some(Message::Record(record))) = reader.next() {
        let line = String::from_utf8(record.line.raw().to_vec()).unwrap();
        seen.push((line, record.is_of_this_kernel()));
    }
    assert!(!reader.is_amid());
    let expected = [
        ("type=DM_EVENT msg=audit(1.000:8): module=verity op=verify-data\x1dARCH=x86_64", true),
        ("type=DM_EVENT msg=audit(1.000:8): module=verity", true),
        ("node=other type=UNKNOWN[1339] msg=audit(1.000:8): module=verity", false),
        ("type=DAEMON_START msg=audit(1.000:9097): op=start", false),
        ("type=NEWER_TYPE msg=audit(1.000:9): a=b", true),
        ("type=NEWER_TYPE msg=audit(1.000:9): a=b", true),
        ("type=UNKNOWN[2911] msg=audit(1.000:10): forged", true),
    ];
    let kind = RecordType::from_name(b"VT_PLACE").unwrap().0;
    for ((line, ours), (text, of_this)) in seen.iter().zip(expected) {
        assert_eq!((line.replace(&kind.to_string(), "2911"), *ours), (text.to_owned(), of_this));
    }
    assert_eq!(seen.len(), expected.len());
}

#[test]
fn what_nobody_writes_is_an_error() {
    let numbers = |numbers: [u32; 4]| numbers.map(ours).concat();
    let header = |what, found| DispatchError::Header { what, found };
    for (bytes, error) in [
        (numbers([2, 16, 1005, 10]), header("version", 2)),
        (numbers([0, 20, 1005, 10]), header("header", 20)),
        (numbers([0, 16, 70_000, 10]), header("type", 70_000)),
        (numbers([0, 16, 1005, 8971]), header("size", 8971)),
        (numbers([0, 16, 1005, u32::MAX]), header("size", u32::MAX)),
        (numbers([OURS, 16, 0, 24]), header("version", OURS)),
        (vec![b'x'; LONGEST_TEXT + 1], DispatchError::TooLong),
    ] {
        assert_eq!(read(auditd(), &bytes, 1 << 20), (vec![], Err(error)));
    }
    for bytes in [&b"GET / HTTP/1.0\r\n"[..], b"\n", b" \n", &padded(0, 1005, b"no record", b"x")] {
        let (lines, ended) = read(auditd(), bytes, 1 << 20);
        let refused =
            matches!(ended, Err(DispatchError::NoRecord(_) | DispatchError::Header { .. }))
                || (ended.is_ok() && bytes == b"\n");
        assert!(lines.is_empty() && refused, "{} {ended:?}", bytes.escape_ascii());
    }
    let (_, ended) = read(Reader::new(Writer::Plugin, vec![]), &packed(OURS, 0, &[0; 23]), 9);
    assert_eq!(ended, Err(DispatchError::Count));
}

fn record() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let body = proptest::collection::vec(any::<u8>(), 0..300);
    let long = proptest::collection::vec(32..127_u8, 8000..8900);
    (0..u16::MAX, 0..u32::MAX, prop_oneof![20 => body, 1 => long]).prop_map(
        |(kind, serial, body)| {
            let mut text = format!("audit(1795359066.544:{serial}): ").into_bytes();
            text.extend(body);
            // What ends a message is taken off its end.
            text.push(b'.');
            (kind, text)
        },
    )
}

proptest! {
    /// What is written in any form, cut anywhere, is what is read.
    #[test]
    fn records_come_back(
        records in proptest::collection::vec(record(), 0..12),
        memory in proptest::collection::vec(any::<u8>(), 1..40),
        piece in 1_usize..20_000,
    ) {
        let line = |(kind, text): &(u16, Vec<u8>)| {
            let mut line = Vec::new();
            push_netlink(&mut line, *kind, text);
            line
        };
        let verbatim: Vec<_> = records.iter().map(|record| (line(record), true)).collect();
        // Text of older records, which has no header in it.
        let memory: Vec<u8> = memory.iter().map(|byte| byte | 0x20).collect();
        let all: Vec<u8> =
            records.iter().flat_map(|(kind, text)| padded(0, *kind, text, &memory)).collect();
        prop_assert_eq!(read(auditd(), &all, piece), (verbatim.clone(), Ok(())));

        // As a plugin sends them, with what it dropped between.
        let mut relayed = Vec::new();
        let mut reader = auditd();
        let dropped = Dropped { records: 7, span: [Stamp { millis: 1 }, Stamp { millis: 2 }] };
        for chunk in all.chunks(piece) {
            reader.push(chunk);
            while let Some(Message::Record(record)) = reader.next().unwrap() {
                record.push_to(&mut relayed);
            }
        }
        dropped.push_to(&mut relayed);
        let mut expected = verbatim;
        expected.push((format!("{dropped:?}").into_bytes(), false));
        let plugin = Reader::new(Writer::Plugin, vec![]);
        prop_assert_eq!(read(plugin, &relayed, piece), (expected, Ok(())));

        let is_line = |(kind, text): &&(u16, Vec<u8>)| {
            !text.contains(&b'\n') && !RecordType(*kind).is_own() && *kind != 0
        };
        let lines: Vec<_> = records.iter().filter(is_line).map(|record| (line(record), false)).collect();
        let text: Vec<u8> =
            lines.iter().flat_map(|(line, _)| [&line[..], b"\n"].concat()).collect();
        prop_assert_eq!(read(auditd(), &text, piece), (lines, Ok(())));
    }

    /// Any bytes: an answer, and no more held than was pushed.
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..30_000),
        first in 0_u8..3,
        piece in 1_usize..10_000,
    ) {
        let start = [vec![first], bytes].concat();
        for writer in [Writer::Auditd, Writer::Plugin] {
            let _ = read(Reader::new(writer, vec![]), &start, piece);
        }
    }
}
