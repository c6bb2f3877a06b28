//! The kernel's records and the calls that were seen.

use super::*;

#[test]
fn the_kernels_record_and_ours_are_never_both_for_one_change() {
    let inject = "TIME_INJOFFSET sec=5 nsec=20";
    for event_first in [false, true] {
        let mut machine = Machine::new(true, true);
        let call = machine.set(5 * S);
        let event = |machine: &mut Machine| {
            machine.pass(40);
            // Another process's is not this one's.
            machine.event(8, &["SYSCALL arch=c000003e syscall=227 pid=78", inject]);
            machine.event(9, &[&syscall(227, 77), inject]);
        };
        if event_first {
            event(&mut machine);
            machine.call(call);
        } else {
            machine.call(call);
            event(&mut machine);
        }
        machine.pass(nanos(SETTLE) / MS);
        machine.pass(100);
        let mut said = machine.said();
        said.sort();
        let [eight, nine] = &said[..] else { panic!("{said:?}") };
        assert!(eight.starts_with("beside 8 inferred: VT_CLOCK call=clock_settime"), "{eight}");
        assert_eq!(
            *nine,
            "beside 9 certain: VT_CLOCK call=clock_settime clock=realtime kind=step \
             old=1700001010000000000 new=1700001015000000000 step=5000000000 within=50 \
             at=1010000010000 by=task"
        );
    }
}

#[test]
fn a_step_that_was_measured_badly_is_still_the_one_of_the_kernels_record() {
    // Between two readings of the clocks before the call its thread stood still for 30 ms.
    for (apart, told) in [(30 * MS, 1), (25, 2)] {
        let mut machine = Machine::new(true, true);
        let mut call = machine.set(5 * S);
        call.entry.apart_ns = apart;
        call.entry.tai_offset_ns = call.entry.tai_offset_ns.map(|offset| offset - 28_000_000);
        machine.call(call);
        machine.event(9, &[&syscall(227, 77), "TIME_INJOFFSET sec=5 nsec=20"]);
        machine.pass(nanos(LAG) / MS + 500);
        assert_eq!(machine.said().len(), told, "within {apart} ns");
    }
}

#[test]
fn a_step_that_the_kernel_repeats_is_made_once() {
    let chronyd = syscall(305, 77);
    let slew = |units: i64| {
        let (old, new) = ((units - 1) * 65_536_000, units * 65_536_000);
        format!("TIME_ADJNTPVAL op=freq old={old} new={new}")
    };
    let repeated = "TIME_INJOFFSET sec=3 nsec=0";
    for sees_calls in [true, false] {
        let mut machine = Machine::new(sees_calls, true);
        let asked = Timex { modes: 0x100, seconds: 3, ..Timex::default() };
        let call = machine.adjust(asked, |_| ());
        if sees_calls {
            machine.call(call);
        }
        machine.event(1, &[repeated, &chronyd]);
        for units in 1..4 {
            machine.pass(1000);
            let asked = Timex { modes: 2, freq: units, ..Timex::default() };
            let call = machine.adjust(asked, |timex| timex.freq = units);
            if sees_calls {
                machine.call(call);
            }
            machine.event(1 + u32::try_from(units).unwrap(), &[&slew(units), repeated, &chronyd]);
            // It asks for that.
            machine.pass(20);
            machine.read();
        }
        machine.pass(5000);
        let said = machine.said();
        let kinds: Vec<_> = said
            .iter()
            .map(|said| (said.contains("kind=step"), said.contains("earlier call")))
            .collect();
        let slew = (false, true);
        assert_eq!(kinds, [(true, false), slew, slew, slew], "{said:#?}");
        assert_eq!(machine.clock.counters().unknown, 0);
        // One that is a step, with other values, from the kernel alone.
        machine.at += 100 * MS;
        machine.offset -= 2 * S;
        machine.event(9, &[&slew_back(), "TIME_INJOFFSET sec=-2 nsec=0", &syscall(305, 79)]);
        machine.timex.freq = 0;
        machine.pass(20);
        machine.read();
        machine.pass(5000);
        let said = machine.said();
        assert!(said.len() == 1 && said[0].contains("kind=step"), "{said:#?}");
    }
}

fn slew_back() -> String {
    format!("TIME_ADJNTPVAL op=freq old={} new=0", 3 * 65_536_000)
}
