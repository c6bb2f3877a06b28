use proptest::prelude::*;

use super::*;

/// Feeds lines such as `SYSCALL 1.000:7` or `h SYSCALL 1.000:7`, at `now` zero.
fn feed(core: &mut Assembler<usize>, lines: &[&str]) {
    for (number, text) in lines.iter().enumerate() {
        feed_at(core, Duration::ZERO, text, number);
    }
}

fn feed_at(core: &mut Assembler<usize>, now: Duration, text: &str, number: usize) {
    let words: Vec<_> = text.split(' ').collect();
    let raw = match words[..] {
        [kind, id] => format!("type={kind} msg=audit({id}): "),
        [node, kind, id] => format!("node={node} type={kind} msg=audit({id}): "),
        _ => panic!("{text}"),
    };
    core.handle_line(now, &Line::parse(raw.as_bytes()).unwrap(), number);
}

fn ready(core: &mut Assembler<usize>) -> Vec<(String, Vec<usize>, End, bool)> {
    std::iter::from_fn(|| core.poll_event())
        .map(|event| {
            let node = event.node.map(|n| format!("{} ", n.escape_ascii())).unwrap_or_default();
            (format!("{node}{}", event.id), event.records, event.end, event.late)
        })
        .collect()
}

#[track_caller]
fn expect(core: &mut Assembler<usize>, expected: &[(&str, &[usize], End, bool)]) {
    let found = ready(core);
    let found: Vec<_> =
        found.iter().map(|(id, records, end, late)| (&id[..], &records[..], *end, *late)).collect();
    assert_eq!(found, expected);
}

#[test]
fn interleaved_events_come_apart() {
    let mut core = Assembler::default();
    feed(
        &mut core,
        &[
            "SYSCALL 1.000:7",
            "SYSCALL 1.000:8",
            "CWD 1.000:7",
            "USER_CMD 1.001:9",
            "CWD 1.000:8",
            "EOE 1.000:8",
            "EOE 1.000:7",
        ],
    );
    expect(
        &mut core,
        &[
            ("1.000:9".replace("1.000", "1.001").as_str(), &[3], End::Single, false),
            ("1.000:8", &[1, 4, 5], End::Eoe, false),
            ("1.000:7", &[0, 2, 6], End::Eoe, false),
        ],
    );
    assert_eq!(core.poll_timeout(), None);
}

#[test]
fn the_key_is_node_time_and_serial() {
    let mut core = Assembler::default();
    feed(
        &mut core,
        &["BPF 1.000:7", "BPF 1.001:7", "a BPF 1.000:7", "b BPF 1.000:7", "a EOE 1.000:7"],
    );
    core.handle_end();
    expect(
        &mut core,
        &[
            ("a 1.000:7", &[2, 4], End::Eoe, false),
            ("1.000:7", &[0], End::Input, false),
            ("1.001:7", &[1], End::Input, false),
            ("b 1.000:7", &[3], End::Input, false),
        ],
    );
}

#[test]
fn what_follows_proctitle_still_joins() {
    let mut core = Assembler::default();
    feed(
        &mut core,
        &[
            "SYSCALL 1.000:7",
            "PROCTITLE 1.000:7",
            "BPF 1.000:8",
            "CONTAINER_ID 1.000:7",
            "EOE 1.000:7",
        ],
    );
    expect(&mut core, &[("1.000:7", &[0, 1, 3, 4], End::Eoe, false)]);

    let mut core = Assembler::default();
    feed(&mut core, &["SYSCALL 1.000:7", "PROCTITLE 1.000:7"]);
    expect(&mut core, &[]);
    for number in 0..LINGER_RECORDS {
        feed_at(&mut core, Duration::ZERO, &format!("USER 1.000:{}", number + 100), 9);
    }
    let found = ready(&mut core);
    let closed = ("1.000:7".to_string(), vec![0, 1], End::Proctitle, false);
    assert_eq!(found.last(), Some(&closed));
    assert_eq!(found.len() as u64, LINGER_RECORDS + 1);
}

#[test]
fn a_late_record_opens_the_event_again() {
    let mut core = Assembler::default();
    feed(
        &mut core,
        &["SYSCALL 1.000:7", "EOE 1.000:7", "CWD 1.000:7", "USER 1.000:8", "USER 1.000:8"],
    );
    core.handle_end();
    expect(
        &mut core,
        &[
            ("1.000:7", &[0, 1], End::Eoe, false),
            ("1.000:8", &[3], End::Single, false),
            ("1.000:8", &[4], End::Single, true),
            ("1.000:7", &[2], End::Input, true),
        ],
    );
}

#[test]
fn two_seconds_of_stamps_end_an_event_of_that_node() {
    let mut core = Assembler::default();
    feed(&mut core, &["BPF 1.000:7", "h BPF 1.000:7", "BPF 2.999:8"]);
    expect(&mut core, &[]);
    feed_at(&mut core, Duration::ZERO, "BPF 3.000:9", 3);
    expect(&mut core, &[("1.000:7", &[0], End::Timeout, false)]);
}

#[test]
fn two_seconds_of_now_end_an_event() {
    let mut core = Assembler::default();
    let second = Duration::from_secs(1);
    feed_at(&mut core, second, "DM_EVENT 1.000:7", 0);
    feed_at(&mut core, second * 2, "SYSCALL 1.000:8", 1);
    feed_at(&mut core, second * 2, "PROCTITLE 1.000:8", 2);
    assert_eq!(core.poll_timeout(), Some(second * 2 + LINGER));
    core.handle_timeout(second * 2 + LINGER);
    expect(&mut core, &[("1.000:8", &[1, 2], End::Proctitle, false)]);
    assert_eq!(core.poll_timeout(), Some(second * 3));
    core.handle_timeout(second * 3 - Duration::from_nanos(1));
    expect(&mut core, &[]);
    core.handle_timeout(second * 3);
    expect(&mut core, &[("1.000:7", &[0], End::Timeout, false)]);
    assert_eq!(core.poll_timeout(), None);
}

#[test]
fn a_call_that_blocked_for_a_minute_stays_whole() {
    let mut core = Assembler::default();
    feed(
        &mut core,
        &[
            "USER 61.000:6",
            "SYSCALL 1.000:7",
            "BPF 61.001:8",
            "SOCKADDR 1.000:7",
            "BPF 61.002:9",
            "EOE 1.000:7",
        ],
    );
    expect(
        &mut core,
        &[("61.000:6", &[0], End::Single, false), ("1.000:7", &[1, 3, 5], End::Eoe, false)],
    );
}

#[test]
fn a_clock_that_is_set_parts_no_event_of_a_stream() {
    // 3 s on, and another processor's record comes between two of the call that did it.
    let lines = ["SYSCALL 1.000:7", "BPF 4.001:8", "TIME_INJOFFSET 1.000:7", "EOE 1.000:7"];
    let mut core = Assembler::new(Patience::of_stream());
    feed(&mut core, &lines);
    core.handle_timeout(Duration::from_secs(2));
    expect(
        &mut core,
        &[("1.000:7", &[0, 2, 3], End::Eoe, false), ("4.001:8", &[1], End::Timeout, false)],
    );
    // A log says nothing else of time.
    let mut core = Assembler::default();
    feed(&mut core, &lines);
    let parted = ready(&mut core);
    assert!(parted.iter().any(|(id, .., late)| id == "1.000:7" && *late), "{parted:?}");
}

#[test]
fn a_clock_set_back_is_followed() {
    let mut core = Assembler::default();
    feed_at(&mut core, Duration::ZERO, "BPF 9000.000:1", 0);
    for number in 0..u64::from(CLOCK_SET_BACK) + 3000 {
        let text = format!("BPF {}.{:03}:{}", number / 1000, number % 1000, number + 2);
        feed_at(&mut core, Duration::ZERO, &text, 1);
    }
    let found = ready(&mut core);
    // Two seconds' worth stays open; the rest has left, and none twice.
    assert_eq!(found.len(), 1 + 3000 + CLOCK_SET_BACK as usize - 2000);
    assert!(found.iter().all(|(.., end, late)| *end == End::Timeout && !late));
}

#[test]
fn what_is_held_is_bounded() {
    let patience = Patience { events: 10, records: 25, ..Patience::default() };
    let mut core = Assembler::new(patience);
    for serial in 0..100 {
        feed_at(&mut core, Duration::ZERO, &format!("BPF 1.000:{serial}"), serial);
        assert!(core.open.len() <= 10);
    }
    assert_eq!(ready(&mut core)[0], ("1.000:0".into(), vec![0], End::Early, false));
    // One event that does not end is no way around it, nor are holes behind an open one.
    for number in 0..1000 {
        feed_at(&mut core, Duration::ZERO, "PATH 1.000:500", number);
        feed_at(&mut core, Duration::ZERO, &format!("BPF 1.000:{}", number + 1000), number);
        feed_at(&mut core, Duration::ZERO, &format!("EOE 1.000:{}", number + 1000), number);
        assert!(core.open.len() <= 10 && core.held <= 25);
        assert!(core.nodes[0].order.len() <= 11 && core.lingering.len() <= 64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    /// Whatever the order, every record leaves exactly once, with its own key.
    #[test]
    fn no_record_is_lost_or_joined_wrongly(
        lines in proptest::collection::vec((0usize..5, 0u64..6000, 0u32..4, 0usize..3), 0..200),
        events in 1usize..20,
    ) {
        let kinds = ["SYSCALL", "CWD", "PROCTITLE", "EOE", "USER"];
        let nodes = ["", "a ", "b "];
        let mut core = Assembler::new(Patience { events, ..Patience::default() });
        let mut keys = Vec::new();
        for (number, (kind, millis, serial, node)) in lines.iter().enumerate() {
            let id = EventId { millis: *millis, serial: *serial };
            feed_at(&mut core, Duration::ZERO, &format!("{}{} {id}", nodes[*node], kinds[*kind]), number);
            keys.push(format!("{}{id}", nodes[*node]));
        }
        core.handle_end();
        let found = ready(&mut core);
        let mut seen: Vec<_> = found.iter().flat_map(|(_, records, ..)| records.clone()).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..lines.len()).collect::<Vec<_>>());
        for (key, records, ..) in &found {
            prop_assert!(records.iter().all(|r| keys[*r] == *key));
            prop_assert!(records.is_sorted());
        }
        prop_assert_eq!((core.held, core.poll_timeout()), (0, None));
    }
}
