use std::convert::Infallible;

use proptest::prelude::*;

use super::super::filter::{Integrity, Number, Text};
use super::super::whose::Meant;
use super::*;

/// Gives a few bytes at a time, so that every place becomes the border of a chunk.
struct Slow {
    text: Vec<u8>,
    at: usize,
    step: usize,
}

impl Read for Slow {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.step.min(out.len()).min(self.text.len() - self.at);
        out[..count].copy_from_slice(&self.text[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

fn part(text: &[u8], step: usize, stored: bool) -> Part {
    let reader = Box::new(Slow { text: text.to_vec(), at: 0, step });
    Part { name: "log".to_owned(), stored, reader }
}

/// The serials of the records of the events that were found.
fn found(parts: Vec<Part>, query: &Query) -> (Vec<Vec<String>>, Tally) {
    let mut events = Vec::new();
    let tally = scan(parts, query, 2, |event| {
        let raw = |line: &Line<'_>| String::from_utf8_lossy(line.raw()).into_owned();
        events.push(event.iter().map(raw).collect());
        Ok::<_, Infallible>(Next::Continue)
    });
    match tally {
        Ok(tally) => (events, tally),
        Err(Stopped::Read(error)) => panic!("{error:?}"),
        Err(Stopped::Receiver(never)) => match never {},
    }
}

fn all(text: &str) -> Vec<Vec<String>> {
    found(vec![part(text.as_bytes(), usize::MAX, false)], &Query::default()).0
}

#[test]
fn records_join_by_node_time_and_serial_while_their_event_is_open() {
    let text = "\
type=SYSCALL msg=audit(10.000:1): a
node=n type=SYSCALL msg=audit(10.000:1): b
type=USER_ACCT msg=audit(10.001:2): c
type=USER_ACCT msg=audit(10.001:2): d
type=CWD msg=audit(10.000:1): e
type=SYSCALL msg=audit(9.000:9): f
node=n type=CWD msg=audit(10.000:1): g
type=EOE msg=audit(10.000:1): 
type=SYSCALL msg=audit(12.500:3): h
type=PATH msg=audit(10.000:1): too late
type=EOE msg=audit(10.000:7): of nothing
";
    let bodies: Vec<Vec<String>> = all(text)
        .into_iter()
        .map(|event| {
            let body = |line: String| line.split_once("): ").unwrap().1.to_owned();
            event.into_iter().map(body).collect()
        })
        .collect();
    let want: [&[&str]; 7] =
        [&["f"], &["a", "e", ""], &["b", "g"], &["c"], &["d"], &["too late"], &["h"]];
    assert_eq!(bodies, want);
}

#[test]
fn events_go_on_from_one_log_to_the_next() {
    let parts = vec![
        part(b"type=SYSCALL msg=audit(1.000:1): a\ntype=CWD msg=aud", 7, false),
        part(b"it(1.000:1): b\ntype=CWD msg=audit(1.000:1): c", 7, false),
    ];
    let (events, tally) = found(parts, &Query::default());
    let want = ["type=SYSCALL msg=audit(1.000:1): a", "type=CWD msg=audit(1.000:1): c"];
    assert_eq!(events, [want]);
    let place = tally.first.clone().unwrap();
    assert_eq!((tally.records, tally.unreadable, place.byte), (2, 2, 35));
}

#[test]
fn what_ausearch_prints_is_read_and_what_it_interprets_is_refused() {
    let text = "----\ntime->Tue Feb 28 21:24:23 2023\ntype=CWD msg=audit(1.000:1): a\n----\n\r\n";
    let (events, tally) = found(vec![part(text.as_bytes(), 9, false)], &Query::default());
    assert_eq!(events, [["type=CWD msg=audit(1.000:1): a"]]);
    assert_eq!((tally.records, tally.unreadable), (1, 0));
    let text = "----\ntype=CWD msg=audit(02/28/23 21:24:23.786:1) : cwd=/\n";
    let (events, tally) = found(vec![part(text.as_bytes(), 9, false)], &Query::default());
    let first = tally.first.unwrap();
    assert_eq!((events.len(), tally.unreadable, first.byte), (0, 1, 5));
    assert_eq!(first.error.kind, record::LineErrorKind::Interpreted);
}

#[test]
fn many_events_of_one_stamp_and_serial_do_not_cost_their_square() {
    use std::fmt::Write as _;
    let mut text = "type=SYSCALL msg=audit(1.000:0): stays open\n".to_owned();
    for number in 0..60_000 {
        let _ = writeln!(text, "node=n{number} type=CWD msg=audit(1.000:1): a");
        let _ = writeln!(text, "type=USER_ACCT msg=audit(1.000:2): a");
    }
    let start = std::time::Instant::now();
    assert_eq!(all(&text).len(), 120_001);
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

#[test]
fn a_line_that_a_trail_keeps_in_pieces_is_found_and_whole() {
    use record::stored::{Origin, push_stored};
    use record::write::Tail;
    let long = format!("type=EXECVE msg=audit(5.000:6): argc=1 a0=\"{}\"", "x".repeat(30_000));
    let mut stored = b"type=SYSCALL msg=audit(5.000:6): pid=7\n".to_vec();
    let source = record::stored::Source { text: long.as_bytes(), end: b"\n", origin: Origin::File };
    push_stored(&mut stored, source, &Tail::default(), EventId::default());
    assert!(stored.split(|b| *b == b'\n').count() > 3);
    let exec = super::super::filter::Type::Known(RecordType::EXECVE);
    let query = Query { types: vec![exec], ..Query::default() };
    let (events, _) = found(vec![part(&stored, 1000, true)], &query);
    assert_eq!(events, [["type=SYSCALL msg=audit(5.000:6): pid=7".to_owned(), long]]);
}

/// Lines of a small world: few stamps, serials, nodes and values, so that they meet.
fn line() -> impl Strategy<Value = String> {
    let kind = prop_oneof![
        Just("SYSCALL"),
        Just("PATH"),
        Just("DM_EVENT"),
        Just("USER_ACCT"),
        Just("EOE"),
        Just("PROCTITLE"),
        Just("LOGIN"),
        Just("CONTAINER_ID"),
        Just("CWD"),
        Just("SOCKADDR"),
    ];
    let body = prop_oneof![
        Just(
            "pid=1 ppid=2 comm=\"cat\" exe=\"/bin/cat\" ses=4294967295 exit=-13 syscall=59 key=\"k1\""
        ),
        Just(
            "ppid=1 pid=12 comm=636174 exe=2F62696E2F2063 ses=-1 exit=0 syscall=5 key=6B3101666F6F"
        ),
        Just("module=verity op=verify-data dev=7:1 sector=10 res=0"),
        Just("module=integrity op=integrity-checksum dev=253:0 sector=100 res=0"),
        Just("contid=7,^1"),
        Just("item=0 name=\"./cat\""),
        Just("item=0 name=\"/etc/cat\""),
        Just("cwd=\"/home/k1\""),
        Just("saddr=020000357F0000350000000000000000"),
        Just("uid=0 msg='op=x hostname=? addr=127.0.0.53 res=success'"),
    ];
    (0..4_u64, 0..3_u32, any::<bool>(), kind, body).prop_map(|(time, serial, node, kind, body)| {
        let node = if node { "node=n " } else { "" };
        format!("{node}type={kind} msg=audit({time}.000:{serial}): {body}\n")
    })
}

fn query() -> impl Strategy<Value = Query> {
    let text = |item, wanted: &'static str| (Just(item), Just(wanted.as_bytes().to_vec()));
    let texts = prop_oneof![
        text(Text::Comm, "cat"),
        text(Text::Exe, "/bin"),
        text(Text::Key, "k1"),
        text(Text::Key, "foo"),
        text(Text::File, "/home/k1/./cat"),
        text(Text::File, "cat"),
        text(Text::Host, "127.0.0.53"),
        text(Text::File, "/"),
        text(Text::Exe, ""),
    ];
    let of = |integrity| Query { integrity, ..Query::default() };
    let device = super::super::filter::Device { number: Some(b"7:1".to_vec()), name: None };
    let sector = super::super::args::Sectors { first: 10, last: 10 };
    prop_oneof![
        texts.prop_map(|text| Query { texts: vec![text], ..Query::default() }),
        prop_oneof![
            Just((Number::Pid, 1)),
            Just((Number::Pid, 12)),
            Just((Number::Ppid, 1)),
            Just((Number::Session, u32::MAX)),
        ]
        .prop_map(|number| Query { numbers: vec![number], ..Query::default() }),
        Just(of(Integrity { op: Some(b"verify-data".to_vec()), ..Integrity::default() })),
        Just(of(Integrity { device: Some(device), ..Integrity::default() })),
        Just(of(Integrity { sector: Some(sector), ..Integrity::default() })),
        Just(Query { containers: Some(vec![Meant::Identifier(7)]), ..Query::default() }),
        Just(Query { containers: Some(vec![Meant::Identifier(1)]), ..Query::default() }),
        Just(Query { exit: Some(-13), ..Query::default() }),
        Just(Query { syscall: Some(5), success: None, ..Query::default() }),
        Just(Query { success: Some(false), ..Query::default() }),
        Just(Query { from: Some(1000), to: Some(2999), ..Query::default() }),
        Just(Query { serial: Some(1), nodes: vec![b"n".to_vec()], ..Query::default() }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Looking for needles first changes the time that a search takes, never its answer;
    /// nor does it matter where chunks end.
    #[test]
    fn the_answer_is_that_of_asking_every_event(
        lines in proptest::collection::vec(line(), 0..40),
        query in query(),
        step in 1..400_usize,
    ) {
        let text = lines.concat();
        // Lines outside the time range are as if they were not there, as for ausearch:
        // they do not end events either.
        let near = lines.iter().filter(|line| {
            query.in_range(Line::parse(line.trim_end().as_bytes()).unwrap().stamp().millis)
        });
        let asked: Vec<Vec<String>> = all(&near.cloned().collect::<String>())
            .into_iter()
            .filter(|event| {
                let lines: Vec<Line<'_>> =
                    event.iter().map(|raw| Line::parse(raw.as_bytes()).unwrap()).collect();
                query.matches(&lines)
            })
            .collect();
        let (found, tally) = found(vec![part(text.as_bytes(), step, false)], &query);
        prop_assert_eq!(found, asked);
        prop_assert_eq!(usize::try_from(tally.records).unwrap(), lines.len());
    }

    #[test]
    fn no_bytes_panic(text in proptest::collection::vec(any::<u8>(), 0..300), step in 1..50_usize) {
        let mut log = b"type=DM_EVENT msg=audit(1.000:1): a\n".to_vec();
        log.extend_from_slice(&text);
        let query = Query { success: Some(false), ..Query::default() };
        found(vec![part(&log, step, true)], &query);
    }
}
