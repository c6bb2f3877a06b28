//! The engine of the clock.

use std::time::Duration;

use engine::clock::{Call, Clock, Moment, Output, Reading, Timex, What};
use record::task::Task;
use record::write::{LONGEST_LINE, LONGEST_TAIL, push_record};
use record::{EventId, Line};

/// A machine's story, a line each: calls that set (`s`) or steer (`c`) the clock, records of the kernel
/// (`a`), readings (`r`), time that passes (`t`), how far the audit stream was read (`h`), whether auditing is
/// on (`A`, `O`) and whether calls are seen (`D`, `d`). Every event of the
/// kernel has at most one record of ours beside it, no call is told twice, what is due is done, and at the end
/// nothing is left.
pub fn clock(bytes: &[u8]) {
    let mut clock = Clock::new(250);
    let (mut now, mut serial) = (Duration::from_secs(10), 0);
    let (mut events, mut beside, mut calls, mut own) = (0_u64, 0, 0, 0);
    let mut tell = |clock: &mut Clock| {
        while let Some(output) = clock.poll() {
            let records = match output {
                Output::Read => continue,
                Output::Beside { records, .. } => {
                    beside += 1;
                    records
                }
                Output::Own { records, source, .. } => {
                    own += u64::from(source == engine::clock::Source::Bpf);
                    records
                }
            };
            for (kind, body) in records {
                let mut line = Vec::new();
                push_record(&mut line, kind, EventId::default(), body.as_bytes());
                assert!(line.len() <= LONGEST_LINE - LONGEST_TAIL);
                assert!(line.iter().all(|b| (b' '..=b'~').contains(b)), "{}", line.escape_ascii());
                assert!(Line::parse(&line).expect("a record").fields().count() > 0);
            }
        }
    };
    for line in bytes.split(|b| *b == b'\n') {
        let Some((kind, rest)) = line.split_first() else { continue };
        let mut numbers = rest
            .split(|b| *b == b' ')
            .filter_map(|word| std::str::from_utf8(word).ok()?.parse::<i64>().ok());
        let mut next = || numbers.next().unwrap_or(0);
        match kind {
            b's' => {
                let (step, apart) = (next(), next());
                let what = What::Set { time: i128::from(next()) };
                clock.handle_call(now, call(now, step, apart, what));
                calls += 1;
            }
            b'c' => {
                let (modes, value, seconds) = (next(), next(), next());
                let asked = Timex {
                    modes: u32::try_from(modes & 0xffff).unwrap_or(0),
                    offset: value,
                    freq: value,
                    tick: value,
                    status: i32::try_from(value & 0xffff).unwrap_or(0),
                    seconds,
                    fraction: value,
                    ..Timex::default()
                };
                let what = What::Adjust { asked, after: asked, exact: None };
                clock.handle_call(now, call(now, 0, 0, what));
                calls += u64::from(!asked.only_reads());
            }
            b'a' => {
                serial += 1;
                let id = EventId { millis: 1_700_000_000_000, serial };
                let texts: Vec<Vec<u8>> = rest
                    .split(|b| *b == b'|')
                    .map(|text| [b"type=".as_slice(), text].concat())
                    .collect();
                let lines: Vec<Line<'_>> =
                    texts.iter().filter_map(|text| Line::parse(text).ok()).collect();
                clock.handle_event(now, id, &lines);
                events += u64::from(!lines.is_empty());
            }
            b'r' => clock.handle_reading(
                now,
                Reading {
                    boottime_ns: nanos(now),
                    since_ns: nanos(now),
                    offset_ns: i128::from(next()),
                    apart_ns: next().unsigned_abs(),
                    timex: Some(Timex { freq: next(), tick: next(), ..Timex::default() }),
                },
            ),
            b't' => now += Duration::from_nanos(next().unsigned_abs() % 100_000_000_000),
            b'h' => clock.handle_audited(now, nanos(now)),
            b'A' | b'O' => clock.handle_audit_state(*kind == b'A'),
            b'D' | b'd' => clock.handle_door(*kind == b'D'),
            _ => {}
        }
        if clock.poll_timeout().is_some_and(|due| due <= now) {
            clock.handle_timeout(now);
        }
        tell(&mut clock);
        assert!(clock.poll_timeout().is_none_or(|due| due > now));
    }
    clock.handle_end();
    tell(&mut clock);
    assert_eq!(clock.poll_timeout(), None);
    assert!(beside <= events);
    assert!(own <= calls);
}

/// By process 77, in 10 us.
fn call(now: Duration, step: i64, apart: i64, what: What) -> Call {
    let moment = |ago: u64, offset: i64| Moment {
        boottime_ns: nanos(now).saturating_sub(ago),
        tai_offset_ns: (apart != i64::MIN).then_some(i128::from(offset)),
        apart_ns: apart.unsigned_abs(),
    };
    let task = Task {
        ppid: 1,
        pid: 77,
        auid: 0,
        uid: 0,
        gid: 0,
        euid: 0,
        suid: 0,
        fsuid: 0,
        egid: 0,
        sgid: 0,
        fsgid: 0,
        tty: None,
        ses: 1,
        comm: b"date".to_vec(),
        exe: None,
    };
    Call {
        name: Some("clock_settime"),
        what,
        entry: moment(10_000, 0),
        exit: moment(0, step),
        task: Some(task),
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
