use proptest::prelude::*;

use super::*;

const FALLBACK: EventId = EventId { millis: 7_000, serial: 9 };

fn stored(text: &[u8], end: &[u8], origin: Origin, tail: &str) -> Vec<u8> {
    let mut fields = Tail::new();
    for (name, value) in tail.split_whitespace().filter_map(|field| field.split_once('=')) {
        fields.push(name, value).unwrap();
    }
    let mut out = Vec::new();
    push_stored(&mut out, Source { text, end, origin }, &fields, FALLBACK);
    out
}

fn restored(stored: &[u8]) -> Vec<u8> {
    let mut restorer = Restorer::default();
    let mut out = Vec::new();
    for line in stored.split_inclusive(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\n").expect("every stored line ends in LF");
        assert!(line.len() <= LONGEST_LINE, "{} bytes", line.len());
        restorer.push(line, &mut out).unwrap();
    }
    restorer.finish().unwrap();
    out
}

#[test]
fn what_a_source_line_becomes() {
    use Origin::{File, Netlink};
    let cases: &[(&str, &str, Origin, &str, &str)] = &[
        (
            "type=CWD msg=audit(1.002:3): cwd=\"/\"",
            "\n",
            File,
            "",
            "type=CWD msg=audit(1.002:3): cwd=\"/\"\n",
        ),
        (
            "node=h type=CWD msg=audit(1.002:3): a=b",
            "\n",
            File,
            "VT_LEAF=5",
            "node=h type=CWD msg=audit(1.002:3): a=b\x1dVT_LEAF=5\n",
        ),
        (
            "type=CWD msg=audit(1.002:3): a=b",
            "\r\n",
            File,
            "",
            "type=CWD msg=audit(1.002:3): a=b\x1dVT_EOL=0D0A\n",
        ),
        (
            "type=CWD msg=audit(1.002:3): a=b",
            "",
            File,
            "VT_LEAF=5",
            "type=CWD msg=audit(1.002:3): a=b\x1dVT_LEAF=5 VT_EOL=\n",
        ),
        (
            "type=1807 audit(1.002:3): a=b",
            "\n",
            File,
            "",
            "type=INTEGRITY_POLICY_RULE msg=audit(1.002:3): a=b\x1dVT_PRE=747970653D3138303720\n",
        ),
        (
            "type=1399 audit(1.002:3): a=b",
            "\n",
            File,
            "",
            "type=UNKNOWN[1399] msg=audit(1.002:3): a=b\x1dVT_PRE=747970653D3133393920\n",
        ),
        (
            "type=UNKNOWN[1338] msg=audit(1.002:3): a=b",
            "\n",
            File,
            "",
            "type=UNKNOWN[1338] msg=audit(1.002:3): a=b\n",
        ),
        (
            "audit: type=1320 audit(1.002:3): ",
            "\n",
            File,
            "",
            "type=EOE msg=audit(1.002:3): \x1dVT_PRE=61756469743A20747970653D3133323020\n",
        ),
        // A tail of the source stays, and cannot be taken for ours.
        (
            "type=CWD msg=audit(1.002:3): a=b\x1dVT_LEAF=7",
            "\n",
            File,
            "",
            "type=CWD msg=audit(1.002:3): a=b\x1dVT_LEAF=7\x1dVT_EOL=0A\n",
        ),
        (
            "type=CWD msg=audit(1.002:3): a=b\x1dUID=\"root\"",
            "\n",
            File,
            "VT_LEAF=5",
            "type=CWD msg=audit(1.002:3): a=b\x1dUID=\"root\"\x1dVT_LEAF=5\n",
        ),
        (
            "type=CWD msg=audit(1.002:3): a=b\r",
            "\n",
            File,
            "",
            "type=CWD msg=audit(1.002:3): a=b\r\x1dVT_EOL=0A\n",
        ),
        // Nobody forges a line.
        (
            "type=USER msg=audit(1.002:3): pid=1 msg='a\ntype=x\x1dVT_LEAF=1'",
            "\n",
            Netlink,
            "",
            "type=USER msg=audit(1.002:3): pid=1 msg='a type=x VT_LEAF=1'\x1dVT_RAW=7069643D31206D73673D27610A747970653D781D56545F4C4541463D3127\n",
        ),
        (
            "type=CWD msg=audit(1.002:3): a\nb",
            "\n",
            Netlink,
            "",
            "type=VT_LINE msg=audit(1.002:3): part=1/1 data=747970653D435744206D73673D617564697428312E3030323A33293A20610A620A\n",
        ),
        (
            "type=VT_GAP msg=audit(1.002:3): a=b",
            "\n",
            File,
            "",
            "type=VT_LINE msg=audit(1.002:3): part=1/1 data=747970653D56545F474150206D73673D617564697428312E3030323A33293A20613D620A\n",
        ),
        (
            "node=h type=vt_gap msg=audit(1.002:3): ",
            "",
            File,
            "",
            "node=h type=VT_LINE msg=audit(1.002:3): part=1/1 data=6E6F64653D6820747970653D76745F676170206D73673D617564697428312E3030323A33293A20\n",
        ),
        (
            "hello",
            "\n",
            File,
            "VT_LEAF=5",
            "type=VT_LINE msg=audit(7.000:9): part=1/1 data=68656C6C6F0A\x1dVT_LEAF=5\n",
        ),
        ("", "", File, "", "type=VT_LINE msg=audit(7.000:9): part=1/1 data=\n"),
    ];
    for (text, end, origin, tail, expected) in cases {
        let found = stored(text.as_bytes(), end.as_bytes(), *origin, tail);
        assert_eq!(
            found.escape_ascii().to_string(),
            expected.as_bytes().escape_ascii().to_string()
        );
        assert_eq!(restored(&found), [text.as_bytes(), end.as_bytes()].concat());
    }
}

#[test]
fn a_number_of_ours_from_netlink_is_not_ours() {
    let mut text = Vec::new();
    push_netlink(&mut text, 2901, b"audit(1.002:3): contid=7");
    assert_eq!(text, b"type=UNKNOWN[2901] msg=audit(1.002:3): contid=7");
    assert_eq!(Line::parse(&text).unwrap().record_type(), RecordType::USER_UNNAMED);
    text.clear();
    push_netlink(&mut text, 1339, b"audit(1.002:3): module=verity");
    assert_eq!(text, b"type=DM_EVENT msg=audit(1.002:3): module=verity");
}

#[test]
fn the_longest_line_and_one_byte_more() {
    for (extra, pieces) in [(0, 1), (1, 2)] {
        let mut text = b"type=CWD msg=audit(1.002:3): cwd=".to_vec();
        text.resize(LONGEST_LINE - "\x1dVT_LEAF=5".len() + extra, b'a');
        let found = stored(&text, b"\n", Origin::File, "VT_LEAF=5");
        assert_eq!(memchr_iter(b'\n', &found).count(), if pieces == 1 { 1 } else { 3 });
        assert_eq!(restored(&found), [&text[..], b"\n"].concat());
    }
}

#[test]
fn pieces_that_are_missing_are_missed() {
    let found = stored(&vec![b'x'; 20_000], b"\n", Origin::File, "");
    let lines: Vec<_> = found.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
    assert!(lines.len() > 3);
    let mut out = Vec::new();
    let mut restorer = Restorer::default();
    restorer.push(lines[0], &mut out).unwrap();
    let of = lines.len() as u64;
    assert_eq!(
        restorer.clone().push(lines[2], &mut out),
        Err(RestoreError::Piece { found: 3, of, expected: 2 })
    );
    assert_eq!(restorer.finish(), Err(RestoreError::Piece { found: 0, of, expected: 2 }));
}

fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let byte = || prop_oneof![4 => any::<u8>(), 1 => Just(0x1d), 1 => Just(b'\r'), 1 => Just(b'='), 1 => Just(b' ')];
    let head = prop_oneof![
        Just(""),
        Just("type=1300 audit(1.002:3): "),
        Just("type=SYSCALL msg=audit(0001.002:03):"),
        Just("node=a type=USER msg=audit(1.002:3): "),
        Just("x: audit: type=1100 audit(1.002:3): \x1dVT_LEAF=1\x1dVT_PRE=00"),
        Just("type=VT_LINE msg=audit(1.002:3): part=1/2 data="),
        Just("type=2910 msg=audit(1.002:3): part=1/2 data="),
    ];
    let rest = prop_oneof![
        9 => proptest::collection::vec(byte(), 0..60),
        1 => proptest::collection::vec(byte(), 8900..9000),
        1 => proptest::collection::vec(byte(), 4400..30000),
    ];
    (head, rest).prop_map(|(head, rest)| [head.as_bytes(), &rest].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_line_of_a_file_comes_back(mut text in any_text(), end in prop_oneof![Just("\n"), Just("\r\n"), Just(""), Just("\r")], tail in prop_oneof![Just(""), Just("VT_LEAF=5 VT_SRC=import")]) {
        text.retain(|b| *b != b'\n');
        let line = [&text[..], end.as_bytes()].concat();
        let (text, end) = split_end(&line);
        let found = stored(text, end, Origin::File, tail);
        prop_assert_eq!(restored(&found), line);
        // What veritrail adds is in the last line's tail and nowhere else.
        let lines: Vec<_> = found.split_inclusive(|b| *b == b'\n').collect();
        let last = Line::parse_stored(&lines[lines.len() - 1][..lines[lines.len() - 1].len() - 1]).unwrap();
        prop_assert!(last.own_tail().unwrap_or_default().starts_with(tail.as_bytes()));
    }

    #[test]
    fn a_netlink_message_comes_back(number: u16, rest in any_text(), tail in prop_oneof![Just(""), Just("VT_LEAF=5")]) {
        let mut text = Vec::new();
        push_netlink(&mut text, number, &[b"audit(1.002:3): ", &rest[..]].concat());
        let found = stored(&text, b"\n", Origin::Netlink, tail);
        text.push(b'\n');
        prop_assert_eq!(restored(&found), text);
    }

    #[test]
    fn no_stored_line_makes_it_panic(line: Vec<u8>, head in prop_oneof![Just(""), Just("type=VT_LINE msg=audit(1.002:3): part="), Just("type=CWD msg=audit(1.002:3): a\x1dVT_PRE=")]) {
        let mut out = Vec::new();
        let _ = Restorer::default().push(&[head.as_bytes(), &line].concat(), &mut out);
    }
}
