use proptest::prelude::*;

use super::*;

/// type number, stamp, serial, node, prefix, payload, body, enriched, cr
type Parts<'a> = (u16, u64, u32, Option<&'a str>, &'a str, &'a str, &'a str, Option<&'a str>, bool);

fn parts<'a>(line: &Line<'a>) -> Parts<'a> {
    let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).unwrap();
    (
        line.record_type().0,
        line.stamp().millis,
        line.serial(),
        line.node().map(text),
        text(line.prefix()),
        text(line.payload()),
        text(line.body()),
        line.enriched().map(text),
        line.has_cr(),
    )
}

#[test]
fn every_form_a_line_may_have() {
    let cases: &[(&str, Parts<'_>)] = &[
        (
            "type=DM_EVENT msg=audit(1795298401.916:8): module=verity res=0",
            (
                1339,
                1_795_298_401_916,
                8,
                None,
                "type=DM_EVENT msg=",
                "audit(1795298401.916:8): module=verity res=0",
                "module=verity res=0",
                None,
                false,
            ),
        ),
        (
            "node=web 1=x type=BPF msg=audit(1.002:3): a=b",
            // A blank ends the node's name; what follows is then no type.
            (0, 0, 0, None, "", "", "", None, false),
        ),
        (
            "node=web type=UNKNOWN[1338] msg=audit(1.002:3): a=b\r",
            (
                1338,
                1002,
                3,
                Some("web"),
                "node=web type=UNKNOWN[1338] msg=",
                "audit(1.002:3): a=b",
                "a=b",
                None,
                true,
            ),
        ),
        (
            "type=1807 audit(1795301216.969:5): action=audit res=1",
            (
                1807,
                1_795_301_216_969,
                5,
                None,
                "type=1807 ",
                "audit(1795301216.969:5): action=audit res=1",
                "action=audit res=1",
                None,
                false,
            ),
        ),
        (
            "type=EOE msg=audit(1.002:3): ",
            (1320, 1002, 3, None, "type=EOE msg=", "audit(1.002:3): ", "", None, false),
        ),
        (
            "type=EOE msg=audit(1.002:3):",
            (1320, 1002, 3, None, "type=EOE msg=", "audit(1.002:3):", "", None, false),
        ),
        (
            "audit: type=1300 audit(1.002:3): a=b",
            (1300, 1002, 3, None, "audit: type=1300 ", "audit(1.002:3): a=b", "a=b", None, false),
        ),
        (
            "[    5.113263] audit: type=1807 audit(1.002:3): a=b",
            (
                1807,
                1002,
                3,
                None,
                "[    5.113263] audit: type=1807 ",
                "audit(1.002:3): a=b",
                "a=b",
                None,
                false,
            ),
        ),
        (
            "<5>audit: type=1300 audit(1.002:3): a=b",
            (
                1300,
                1002,
                3,
                None,
                "<5>audit: type=1300 ",
                "audit(1.002:3): a=b",
                "a=b",
                None,
                false,
            ),
        ),
        (
            "Nov  1 10:00:00 host kernel: [  1.5] audit: type=1300 audit(1.002:3): a=b",
            (
                1300,
                1002,
                3,
                None,
                "Nov  1 10:00:00 host kernel: [  1.5] audit: type=1300 ",
                "audit(1.002:3): a=b",
                "a=b",
                None,
                false,
            ),
        ),
        (
            "Nov  1 10:00:00 host audispd: node=h type=CWD msg=audit(1.002:3): cwd=\"/\"",
            (
                1307,
                1002,
                3,
                Some("h"),
                "Nov  1 10:00:00 host audispd: node=h type=CWD msg=",
                "audit(1.002:3): cwd=\"/\"",
                "cwd=\"/\"",
                None,
                false,
            ),
        ),
        (
            "type=SYSCALL msg=audit(1.002:3): uid=0\u{1d}UID=\"root\"",
            (
                1300,
                1002,
                3,
                None,
                "type=SYSCALL msg=",
                "audit(1.002:3): uid=0",
                "uid=0",
                Some("UID=\"root\""),
                false,
            ),
        ),
        (
            "type=SYSCALL msg=audit(1.002:3): uid=0\u{1d}VT_LEAF=5\r",
            (
                1300,
                1002,
                3,
                None,
                "type=SYSCALL msg=",
                "audit(1.002:3): uid=0",
                "uid=0",
                Some("VT_LEAF=5"),
                true,
            ),
        ),
        (
            "type=NEW_NAME msg=audit(18446744073709551.615:4294967295): ",
            (
                0,
                u64::MAX,
                u32::MAX,
                None,
                "type=NEW_NAME msg=",
                "audit(18446744073709551.615:4294967295): ",
                "",
                None,
                false,
            ),
        ),
    ];
    for (text, expected) in cases {
        match Line::parse(text.as_bytes()) {
            Ok(line) => {
                assert_eq!(parts(&line), *expected, "{text}");
                assert_eq!(line.raw(), text.as_bytes());
                assert_eq!(line.own_tail(), None, "{text}");
            }
            Err(error) => {
                assert_eq!((expected.1, error.kind), (0, LineErrorKind::NoType), "{text}")
            }
        }
    }
}

#[test]
fn what_is_no_record_says_why_and_where() {
    use LineErrorKind::{Interpreted, NoType, Serial, Stamp, Truncated};
    let cases: &[(&str, LineErrorKind, usize)] = &[
        ("", NoType, 0),
        ("----", NoType, 0),
        ("type", NoType, 0),
        ("type= msg=audit(1.002:3): ", NoType, 0),
        ("hello type=SYSCALL msg=audit(1.002:3): ", NoType, 0),
        ("type=SYS", Truncated, 8),
        ("type=SYSCALL ", Truncated, 13),
        ("type=SYSCALL ms", Truncated, 15),
        ("type=SYSCALL msg=au", Truncated, 19),
        ("type=SYSCALL msg=audit(1795", Truncated, 27),
        ("type=SYSCALL msg=audit(1795.00", Truncated, 30),
        ("type=SYSCALL msg=audit(1795.000:", Truncated, 32),
        ("type=SYSCALL msg=audit(1795.000:5)", Truncated, 34),
        ("type=SYSCALL msg=audit(1795.00:5): ", Stamp, 30),
        ("type=SYSCALL msg=audit(x.000:5): ", Stamp, 23),
        ("type=SYSCALL msg=audit(-1.000:5): ", Stamp, 23),
        ("type=SYSCALL msg=audit(18446744073709551.616:5): ", Stamp, 44),
        ("type=SYSCALL msg=audit(99999999999999999999.000:5): ", Stamp, 43),
        ("type=SYSCALL msg=audit(1.000:4294967296): ", Serial, 39),
        ("type=SYSCALL msg=audit(1.000:): ", Serial, 29),
        ("type=SYSCALL msg=audit(1.000:5)x", Serial, 31),
        (
            "type=CONTAINER_ID msg=audit(03/15/2019 14:16:13.369:244) : contid=123452,123451",
            Interpreted,
            59,
        ),
        (
            "type=CONTAINER_ID msg=audit(2018-06-06 12:46:31.707:26953) : contid=123459",
            Interpreted,
            61,
        ),
        ("type=CONTAINER_ID msg=audit(1.707:26953) : contid=123459", Interpreted, 43),
    ];
    for (text, kind, at) in cases {
        let found = Line::parse(text.as_bytes()).map(|_| ()).unwrap_err();
        assert_eq!(found, LineError { kind: *kind, at: *at }, "{text}");
    }
}

#[test]
fn in_a_trail_the_last_tail_is_ours_if_it_bears_our_name() {
    let cases: &[(&str, &str, Option<&str>, Option<&str>)] = &[
        ("a=b", "a=b", None, None),
        ("a=b\u{1d}VT_LEAF=5 VT_SRC=kernel", "a=b", None, Some("VT_LEAF=5 VT_SRC=kernel")),
        ("a=b\u{1d}UID=\"root\"", "a=b", Some("UID=\"root\""), None),
        ("a=b\u{1d}UID=\"root\"\u{1d}CONTID=7", "a=b", Some("UID=\"root\""), Some("CONTID=7")),
        ("a=b\u{1d}VT_LEAF=9\u{1d}VT_LEAF=5", "a=b", Some("VT_LEAF=9"), Some("VT_LEAF=5")),
        ("a=b\u{1d}VT_LEAFS=9", "a=b", Some("VT_LEAFS=9"), None),
    ];
    for (rest, body, enriched, own) in cases {
        let raw = format!("type=SYSCALL msg=audit(1.002:3): {rest}");
        let line = Line::parse_stored(raw.as_bytes()).unwrap();
        assert_eq!(line.body(), body.as_bytes(), "{rest}");
        assert_eq!(line.enriched(), enriched.map(str::as_bytes), "{rest}");
        assert_eq!(line.own_tail(), own.map(str::as_bytes), "{rest}");
        assert_eq!(line.payload(), format!("audit(1.002:3): {body}").as_bytes());
    }
}

#[test]
fn numbers_that_were_used_twice() {
    let cases = [
        ("UNKNOWN[1336]", "module=integrity op=ctr", RecordType::DM_CTRL),
        ("UNKNOWN[1337]", "module=integrity op=integrity-checksum", RecordType::DM_EVENT),
        ("URINGOP", "uring_op=18 items=0", RecordType::URINGOP),
        ("1336", "contid=4,^2", RecordType::CONTAINER_ID),
        ("UNKNOWN[1336]", "record=1 contid=4", RecordType::CONTAINER_ID),
        ("UNKNOWN[1332]", "contid=1", RecordType::CONTAINER_ID),
        ("UNKNOWN[1332]", "sec=1 nsec=2", RecordType::TIME_INJOFFSET),
        ("UNKNOWN[1020]", "op=set opid=1", RecordType::CONTAINER_OP),
        ("UNKNOWN[1335]", "record= contid=1", RecordType::CONTAINER_ID),
        ("UNKNOWN[1338]", "contid=1", RecordType::DM_CTRL),
    ];
    for (name, body, expected) in cases {
        let raw = format!("type={name} msg=audit(1.002:3): {body}");
        assert_eq!(Line::parse(raw.as_bytes()).unwrap().effective_type(), expected, "{raw}");
    }
}

#[test]
fn a_line_of_a_mebibyte() {
    let mut raw = b"type=USER msg=audit(1.002:3): msg='".to_vec();
    raw.extend(std::iter::repeat_n(*b"a=b ", 1 << 18).flatten());
    raw.push(b'\'');
    let line = Line::parse(&raw).unwrap();
    assert_eq!(line.flat_fields().count(), 1 << 18);
}

proptest! {
    #[test]
    fn a_number_is_what_its_digits_say(text in "[0-9]{0,25}[^0-9]?.{0,9}", eight: [u8; 8]) {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        prop_assert_eq!(number(text.as_bytes(), 0), (digits.parse().ok(), digits.len()));
        let expected = std::str::from_utf8(&eight).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
        prop_assert_eq!(eight_digits(eight), expected.and_then(|t| t.parse().ok()));
    }

    #[test]
    fn no_bytes_make_it_panic(raw: Vec<u8>, stored: bool) {
        let _ = Line::parse_as(&raw, stored);
    }

    #[test]
    fn a_peek_never_sees_another_stamp(
        name in "(type=)?[A-Z]{0,33}( msg=)?", seconds in "[0-9]{0,21}", rest in "[.:0-9]{0,6}[:)] ?",
    ) {
        let raw = format!("{name}audit({seconds}.{rest}1): a=1");
        if let Ok(line) = Line::parse(raw.as_bytes()) {
            let seen = Stamp::peek(raw.as_bytes());
            prop_assert!(seen.is_none_or(|stamp| stamp == line.stamp()), "{raw}");
        }
        let plain = format!("type=PATH msg=audit({}.042:7): a=1", seconds.len());
        let seen = Stamp::peek(plain.as_bytes());
        prop_assert_eq!(seen, Some(Stamp { millis: seconds.len() as u64 * 1000 + 42 }));
    }

    #[test]
    fn the_parts_are_the_line(
        rest in proptest::collection::vec(prop_oneof![Just(0x1d), Just(b'='), Just(b' '), any::<u8>()], 0..80),
        own in prop_oneof![Just(&b""[..]), Just(&b"\x1dVT_LEAF=5"[..])],
        stored: bool,
    ) {
        let raw = [b"type=1300 audit(1.002:3): ", &rest[..], own].concat();
        let line = Line::parse_as(&raw, stored).unwrap();
        let mut back = [line.prefix(), line.payload()].concat();
        for tail in [line.enriched(), line.own_tail()].into_iter().flatten() {
            back.push(TAIL);
            back.extend_from_slice(tail);
        }
        back.extend(line.has_cr().then_some(b'\r'));
        prop_assert_eq!(back, raw);
    }
}
