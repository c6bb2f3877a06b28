use record::task::Task;

use super::*;

mod pairing;

/// The time since boot and the clock's distance to it at which these tests begin.
const BOOT: u64 = 1_000_000_000_000;
const OFFSET: i128 = 1_700_000_000_000_000_000;
const MS: u64 = 1_000_000;
const S: i128 = 1_000_000_000;

/// A machine: its clock and what adjtimex says, and the engine that watches.
struct Machine {
    clock: Clock,
    at: u64,
    offset: i128,
    timex: Timex,
}

impl Machine {
    fn new(sees_calls: bool, auditing: bool) -> Machine {
        let mut clock = Clock::new(250);
        clock.handle_door(sees_calls);
        clock.handle_audit_state(auditing);
        let timex = Timex { tick: 10_000, tai: 37, status: 0x40, ..Timex::default() };
        let mut machine = Machine { clock, at: BOOT, offset: OFFSET, timex };
        machine.read();
        machine.pass(10_000);
        assert_eq!(machine.said(), [""; 0]);
        machine
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.at)
    }

    fn pass(&mut self, millis: u64) {
        self.at += millis * MS;
        self.clock.handle_audited(self.now(), self.at);
        self.clock.handle_timeout(self.now());
    }

    fn reading(&self) -> Reading {
        Reading {
            boottime_ns: self.at,
            since_ns: self.at,
            offset_ns: self.offset,
            apart_ns: 40,
            timex: Some(self.timex),
        }
    }

    fn read(&mut self) {
        self.clock.handle_reading(self.now(), self.reading());
    }

    fn moment(&self) -> Moment {
        let tai = self.offset + i128::from(self.timex.tai) * S;
        Moment { boottime_ns: self.at, tai_offset_ns: Some(tai), apart_ns: 25 }
    }

    /// clock_settime to `step` from what the time is, in 10 us.
    fn set(&mut self, step: i128) -> Call {
        let entry = self.moment();
        self.offset += step;
        let time = i128::from(self.at) + self.offset;
        self.at += 10_000;
        let exit = self.moment();
        let name = Some("clock_settime");
        Call { name, what: What::Set { time }, entry, exit, task: Some(task(77)) }
    }

    /// adjtimex with what the kernel would make of it.
    fn adjust(&mut self, asked: Timex, change: impl FnOnce(&mut Timex)) -> Call {
        let entry = self.moment();
        self.offset += asked.injected().unwrap_or(0);
        change(&mut self.timex);
        self.at += 10_000;
        let exit = self.moment();
        let time = i128::from(self.at) + self.offset;
        let mut after = Timex { modes: asked.modes, ..self.timex };
        let unit = if after.status & 0x2000 == 0 { 1000 } else { 1 };
        (after.seconds, after.fraction) =
            ((time / S).try_into().unwrap(), (time % S / unit).try_into().unwrap());
        let what = What::Adjust { asked, after, exact: None };
        Call { name: Some("adjtimex"), what, entry, exit, task: Some(task(77)) }
    }

    fn call(&mut self, call: Call) {
        self.clock.handle_call(self.now(), call);
    }

    fn event(&mut self, serial: u32, lines: &[&str]) -> EventId {
        let millis = u64::try_from((i128::from(self.at) + self.offset) / S * 1000).unwrap();
        let id = EventId { millis, serial };
        let lines: Vec<String> = lines
            .iter()
            .map(|line| {
                let (kind, body) = line.split_once(' ').unwrap();
                format!("type={kind} msg=audit({id}): {body}")
            })
            .collect();
        let parsed: Vec<Line<'_>> =
            lines.iter().map(|line| Line::parse(line.as_bytes()).unwrap()).collect();
        self.clock.handle_event(self.now(), id, &parsed);
        id
    }

    /// What it wants written, and forgets the readings that it wants.
    fn said(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        let text = |records: &[Record]| {
            let record = |(kind, body): &Record| {
                let body = std::str::from_utf8(body.as_bytes()).unwrap();
                // Only the beginning and the end of what is known of a task.
                let body = match (body.find(" ppid="), body.find(" comm=")) {
                    (Some(from), Some(to)) => format!("{}{}", &body[..from], &body[to..]),
                    _ => body.to_owned(),
                };
                format!("{kind} {body}")
            };
            records.iter().map(record).collect::<Vec<_>>().join(" | ")
        };
        while let Some(output) = self.clock.poll() {
            match output {
                Output::Own { records, source, confidence } => {
                    said.push(format!(
                        "{} {}: {}",
                        source.word(),
                        confidence.word(),
                        text(&records)
                    ));
                }
                Output::Beside { event, records, confidence } => {
                    said.push(format!(
                        "beside {} {}: {}",
                        event.serial,
                        confidence.word(),
                        text(&records)
                    ));
                }
                Output::Read => {}
            }
        }
        said
    }

    /// What it says of a call of which the kernel makes no record, and of the readings behind it.
    fn told(&mut self, call: Call) -> Vec<String> {
        self.call(call);
        self.pass(10);
        self.read();
        self.pass(10_000);
        let said = self.said();
        assert_eq!(self.clock.poll_timeout(), None, "nothing is left over");
        said
    }
}

fn task(pid: u32) -> Task {
    let id = 0;
    Task {
        ppid: 1,
        pid,
        auid: 1000,
        uid: id,
        gid: id,
        euid: id,
        suid: id,
        fsuid: id,
        egid: id,
        sgid: id,
        fsgid: id,
        tty: None,
        ses: 1,
        comm: b"date".to_vec(),
        exe: Some(b"/bin/date".to_vec()),
    }
}

/// Without the part that is about the times and the task.
fn kernels(said: &[String]) -> Vec<&str> {
    said.iter().map(|said| said.split(" | VT_CLOCK").next().unwrap()).collect()
}

fn syscall(number: u32, pid: u32) -> String {
    format!("SYSCALL arch=c000003e syscall={number} success=yes exit=0 pid={pid} key=\"t\"")
}

#[test]
fn a_step_is_told_in_the_kernels_words_with_the_times_and_the_task() {
    let mut machine = Machine::new(true, false);
    let call = machine.set(-3_006_128_364_968);
    assert_eq!(
        machine.told(call),
        ["bpf certain: TIME_INJOFFSET sec=-3007 nsec=871635032 | VT_CLOCK call=clock_settime \
          clock=realtime kind=step old=1700001010000000000 new=1699998003871635032 \
          step=-3006128364968 within=50 at=1010000010000 by=task comm=\"date\" exe=\"/bin/date\""]
    );
    let call = machine.set(86_400 * S);
    assert_eq!(kernels(&machine.told(call)), ["bpf certain: TIME_INJOFFSET sec=86400 nsec=0"]);
    let call = machine.set(0);
    assert_eq!(machine.told(call), [""; 0], "the time that it was");
}

#[test]
fn every_value_is_told_in_the_kernels_units() {
    type Row = (&'static str, Timex, fn(&mut Timex), &'static [&'static str]);
    let asked = |modes| Timex { modes, ..Timex::default() };
    let rows: &[Row] = &[
        ("read", asked(0), |_| {}, &[]),
        ("what is left of adjtime", asked(0xa001), |_| {}, &[]),
        ("the same tick", Timex { tick: 10_000, ..asked(0x4000) }, |_| {}, &[]),
        ("maxerror, esterror, constant", asked(0x4 | 0x8 | 0x20), |_| {}, &[]),
        (
            "one ppm",
            Timex { freq: 65_536, ..asked(0x2) },
            |timex| timex.freq = 65_536,
            &["bpf certain: TIME_ADJNTPVAL op=freq old=0 new=4294967296000"],
        ),
        (
            "and back",
            Timex { freq: 0, ..asked(0x2) },
            |timex| timex.freq = 0,
            &["bpf certain: TIME_ADJNTPVAL op=freq old=4294967296000 new=0"],
        ),
        (
            "more than there is",
            Timex { freq: -99_999_999, ..asked(0x2) },
            |timex| timex.freq = -32_768_000,
            &["bpf certain: TIME_ADJNTPVAL op=freq old=0 new=-2147483648000000"],
        ),
        (
            "tick",
            Timex { tick: 10_001, ..asked(0x4000) },
            |timex| timex.tick = 10_001,
            &["bpf certain: TIME_ADJNTPVAL op=tick old=10000 new=10001"],
        ),
        (
            "tai",
            Timex { constant: 38, ..asked(0x80) },
            |timex| timex.tai = 38,
            &["bpf certain: TIME_ADJNTPVAL op=tai old=37 new=38"],
        ),
        (
            "status",
            Timex { status: 1, ..asked(0x10) },
            |timex| timex.status = 1,
            &["bpf certain: TIME_ADJNTPVAL op=status old=64 new=1"],
        ),
        (
            "offset, by the PLL that status has switched on",
            Timex { offset: 1000, ..asked(0x1) },
            |timex| timex.offset = 1000,
            &["bpf certain: TIME_ADJNTPVAL op=offset old=0 new=17179869184000"],
        ),
        (
            "offset, freq and status in their order; the PLL has moved the first meanwhile",
            Timex { offset: -1_000_000, freq: 7, status: 0x2001, ..asked(0x2013) },
            |timex| (timex.offset, timex.freq, timex.status) = (-1_000_000, 7, 0x2001),
            &["bpf inferred: TIME_ADJNTPVAL op=offset old=17179869184000 new=-17179869184000 | \
               TIME_ADJNTPVAL op=freq old=-2147483648000000 new=458752000 | \
               TIME_ADJNTPVAL op=status old=1 new=8193"],
        ),
        (
            "adjtime",
            Timex { offset: 100, ..asked(0x8001) },
            |timex| timex.offset = 0,
            &["bpf certain: TIME_ADJNTPVAL op=adjust old=0 new=100"],
        ),
        (
            "adjtime again",
            Timex { offset: -5, ..asked(0x8001) },
            |timex| timex.offset = 60,
            &["bpf certain: TIME_ADJNTPVAL op=adjust old=60 new=-5"],
        ),
        (
            "a step in ns",
            Timex { seconds: -1, fraction: 250_000_000, ..asked(0x2100) },
            |timex| (timex.offset, timex.status) = (0, 0x2041),
            &["bpf certain: TIME_INJOFFSET sec=-1 nsec=250000000"],
        ),
        (
            "a step in us, and another frequency",
            Timex { seconds: 3, fraction: 4, freq: 1, ..asked(0x102) },
            |timex| timex.freq = 1,
            &["bpf certain: TIME_ADJNTPVAL op=freq old=458752000 new=65536000 | \
               TIME_INJOFFSET sec=3 nsec=4000"],
        ),
        ("a step of nothing", asked(0x100), |_| {}, &[]),
    ];
    let mut machine = Machine::new(true, false);
    for (what, asked, change, wanted) in rows {
        let call = machine.adjust(*asked, change);
        assert_eq!(kernels(&machine.told(call)), *wanted, "{what}");
    }
    assert_eq!(machine.clock.counters().unknown, 0);
}

#[test]
fn what_the_kernel_itself_has_is_taken_where_it_can_be_seen() {
    let mut machine = Machine::new(true, false);
    let asked = Timex { modes: 0x1, offset: 9, ..Timex::default() };
    let mut call = machine.adjust(asked, |timex| timex.offset = 9);
    let What::Adjust { exact, .. } = &mut call.what else { panic!() };
    *exact = Some(Exact([(5, 38_654_705), (-7, 12), (1, 1), (37, 37), (10_000, 10_000), (0, 0)]));
    let said = machine.told(call);
    assert_eq!(
        kernels(&said),
        ["bpf certain: TIME_ADJNTPVAL op=offset old=5 new=38654705 | \
          TIME_ADJNTPVAL op=freq old=-7 new=12"]
    );
    assert!(said[0].contains(" kind=slew old=1700001010000010000 new=1700001010000010000 at="));
}

#[test]
fn an_event_of_the_kernel_is_waited_for_only_where_one_may_come() {
    let told = ["bpf certain: TIME_INJOFFSET sec=1 nsec=0"];
    // By the time alone, where nobody says how far the stream has been read.
    for (auditing, waits) in [(true, HOLD), (false, SETTLE)] {
        let mut machine = Machine::new(true, auditing);
        let call = machine.set(S);
        machine.call(call);
        machine.at += nanos(waits) - 1;
        machine.clock.handle_timeout(machine.now());
        assert_eq!(machine.said(), [""; 0]);
        machine.at += 1;
        machine.clock.handle_timeout(machine.now());
        assert_eq!(kernels(&machine.said()), told);
    }
    let mut machine = Machine::new(true, true);
    let call = machine.set(S);
    let past = call.exit.boottime_ns + nanos(LAG);
    machine.call(call);
    machine.at += 9_000 * MS;
    machine.clock.handle_audited(machine.now(), past - 1);
    assert_eq!(machine.said(), [""; 0], "its record may be on its way yet");
    machine.clock.handle_audited(machine.now(), past);
    assert_eq!(kernels(&machine.said()), told);
}

#[test]
fn a_call_that_comes_long_after_its_event_is_not_told_again() {
    let mut machine = Machine::new(true, true);
    let call = machine.set(5 * S);
    machine.event(9, &[&syscall(227, 77), "TIME_INJOFFSET sec=5 nsec=20"]);
    machine.pass(5000);
    let said = machine.said();
    assert!(said.len() == 1 && said[0].starts_with("beside 9 inferred: VT_CLOCK"), "{said:?}");
    machine.call(call);
    machine.pass(5000);
    machine.read();
    machine.pass(5000);
    assert_eq!(machine.said(), [""; 0]);
    // The next of the same kind is another one, also where the call of an event never came.
    machine.event(10, &[&syscall(227, 77), "TIME_INJOFFSET sec=5 nsec=0"]);
    machine.offset += 5 * S;
    machine.pass(5000);
    assert_eq!(machine.said().len(), 1);
    let call = machine.set(5 * S);
    assert_eq!(kernels(&machine.told(call)), ["bpf certain: TIME_INJOFFSET sec=5 nsec=0"]);
}

#[test]
fn calls_at_the_same_time_are_told_as_inferred() {
    let mut machine = Machine::new(true, false);
    let mut first = machine.set(S);
    let mut second = machine.set(-3 * S);
    second.task = Some(task(78));
    first.exit.boottime_ns = second.entry.boottime_ns + 1;
    machine.call(second);
    machine.call(first);
    machine.pass(1000);
    let said = machine.said();
    assert_eq!(
        kernels(&said),
        ["bpf inferred: TIME_INJOFFSET sec=1 nsec=0", "bpf inferred: TIME_INJOFFSET sec=-3 nsec=0"]
    );
}

#[test]
fn a_step_that_nobody_was_seen_to_make_is_told_once() {
    for auditing in [false, true] {
        let mut machine = Machine::new(true, auditing);
        machine.offset -= 2 * S;
        machine.read();
        machine.pass(5000);
        machine.read();
        machine.pass(5000);
        assert_eq!(
            machine.said(),
            ["status unknown: VT_CLOCK call=? clock=realtime kind=step old=1700001010000000000 \
              new=1700001008000000000 step=-2000000000 within=580 at=1010000000000 \
              after=1000000000000 by=unknown"]
        );
        assert_eq!(machine.clock.counters().unknown, 1);
    }
}

#[test]
fn a_leap_second_is_the_kernels() {
    let mut machine = Machine::new(true, false);
    let asked = Timex { modes: 0x10, status: 0x51, ..Timex::default() };
    let call = machine.adjust(asked, |timex| timex.status = 0x51);
    machine.told(call);
    machine.offset -= S;
    machine.timex.tai += 1;
    machine.timex.status = 0x41;
    machine.read();
    machine.pass(1000);
    let said = machine.said();
    let [said] = &said[..] else { panic!("{said:?}") };
    assert!(
        said.starts_with("status inferred: VT_CLOCK call=? clock=realtime kind=step"),
        "{said}"
    );
    assert!(said.ends_with(" by=kernel reason='leap second'"), "{said}");
}

#[test]
fn a_reading_in_the_middle_of_a_call_says_nothing() {
    for after_the_step in [false, true] {
        let mut machine = Machine::new(true, false);
        let mut reading = machine.reading();
        let call = machine.set(7 * S);
        reading.boottime_ns += 5_000;
        reading.since_ns += 5_000;
        if after_the_step {
            reading.offset_ns = machine.offset;
        }
        // The witness is faster than the ring.
        machine.clock.handle_reading(machine.now(), reading);
        machine.pass(50);
        let said = machine.told(call);
        assert_eq!(kernels(&said), ["bpf certain: TIME_INJOFFSET sec=7 nsec=0"]);
    }
}

#[test]
fn a_reading_that_a_call_tears_apart_says_nothing() {
    let mut machine = Machine::new(true, false);
    // adjtimex was asked before the call, the clocks were read behind it.
    let mut torn = machine.reading();
    let asked = Timex { modes: 0x2000, ..Timex::default() };
    let call = machine.adjust(asked, |timex| timex.status = 0x2040);
    machine.call(call);
    machine.at += 20 * MS;
    torn.boottime_ns = machine.at;
    machine.clock.handle_reading(machine.now(), torn);
    machine.pass(1000);
    machine.read();
    machine.pass(5000);
    let told = "bpf certain: TIME_ADJNTPVAL op=status old=64 new=8256";
    assert_eq!(kernels(&machine.said()), [told]);
}

#[test]
fn by_the_kernels_records_alone_nothing_is_told_twice() {
    let mut machine = Machine::new(false, true);
    for serial in 1..5 {
        machine.offset += 3 * S;
        machine.at += 100_000;
        // The witness comes first, then the record, some ms later.
        machine.read();
        machine.at += 7 * MS;
        machine.offset -= 3 * S;
        machine.event(serial, &["TIME_INJOFFSET sec=3 nsec=0", &syscall(164, 5)]);
        machine.offset += 3 * S;
        machine.pass(400);
        machine.read();
        machine.pass(3000);
        let said = machine.said();
        let [said] = &said[..] else { panic!("{said:?}") };
        let wanted = format!(
            "beside {serial} inferred: VT_CLOCK call=settimeofday clock=realtime kind=step old="
        );
        assert!(said.starts_with(&wanted), "{said}");
        assert!(said.contains(" step=3000000000 at=") && said.ends_with(" by=task"), "{said}");
    }
    // Its own units are kept for the readings to come.
    machine.timex.freq = 65_536;
    machine.event(9, &[&syscall(159, 5), "TIME_ADJNTPVAL op=freq old=0 new=4294967296000"]);
    machine.pass(1000);
    machine.read();
    machine.pass(9000);
    let said = machine.said();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("VT_CLOCK call=adjtimex clock=realtime kind=slew old="));
    assert_eq!(machine.clock.counters().unknown, 0);
}

#[test]
fn a_value_that_nobody_was_seen_to_change_is_told() {
    let mut machine = Machine::new(false, false);
    machine.timex.freq = -1;
    machine.timex.tick = 9_999;
    // The kernel does that by itself, when nobody has set the time for a day.
    machine.timex.status = 0;
    machine.read();
    machine.pass(1000);
    machine.timex.status = 0x40;
    machine.read();
    machine.pass(1000);
    assert_eq!(
        kernels(&machine.said()),
        ["status inferred: TIME_ADJNTPVAL op=freq old=0 new=-65536000 | \
          TIME_ADJNTPVAL op=tick old=10000 new=9999"]
    );
}

#[test]
fn without_a_clock_of_tai_the_witness_measures() {
    let mut machine = Machine::new(true, false);
    let mut call = machine.set(-S);
    (call.entry.tai_offset_ns, call.exit.tai_offset_ns) = (None, None);
    let What::Set { time } = &mut call.what else { panic!() };
    *time += 5_000;
    let said = machine.told(call);
    assert_eq!(kernels(&said), ["bpf certain: TIME_INJOFFSET sec=-1 nsec=0"]);
    assert!(said[0].contains(" within=5001 "), "{said:?}");
}

#[test]
fn a_flood_is_decided_early_and_stays_small() {
    let mut machine = Machine::new(true, true);
    for _ in 0..3 * MOST {
        let call = machine.set(S);
        machine.call(call);
        machine.read();
        machine
            .event(1, &["SYSCALL arch=c000003e syscall=227 pid=1", "TIME_INJOFFSET sec=1 nsec=0"]);
        assert!(machine.clock.pending.len() <= 2 * MOST && machine.clock.heard.len() <= MOST);
    }
    assert!(machine.clock.counters().hurried > 0);
    machine.clock.handle_end();
    assert_eq!(machine.clock.poll_timeout(), None);
}

#[test]
fn records_of_an_unknown_form_are_passed_over() {
    let mut machine = Machine::new(false, true);
    machine.event(1, &[&syscall(227, 5)]);
    machine.event(2, &["TIME_INJOFFSET sec=x nsec=1"]);
    machine.event(3, &["TIME_ADJNTPVAL op=phase old=1 new=2"]);
    machine.event(4, &["TIME_INJOFFSET sec=9223372036854775807 nsec=9223372036854775807"]);
    machine.pass(9000);
    assert_eq!(machine.said().len(), 1);
}
