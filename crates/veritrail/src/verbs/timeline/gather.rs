//! From lines in the order of the trail to the changes of the clock, and to where each stands among the
//! other events. Pure.
//!
//! An event belongs to the stretch between two steps in which it happened. That follows from the order
//! in which events stand, and never from their stamps: these are what the steps made wrong. Only where
//! a step is told by a record of ours, which comes a moment after the fact, the events just before
//! that record are asked by their stamps between which steps they were made (late.rs).

use std::collections::{BTreeMap, VecDeque};

use record::stored::tail_value;
use record::tables::syscall::Machine;
use record::view::{NtpValue, Or, TimeAdjNtpVal, TimeInjOffset, View};
use record::{EventId, Fields, Line, RecordType};

use super::late::{Late, Step};

/// Events whose task is kept for the records of the clock that may follow it, and that are looked at
/// again when a step is told late.
const RECENT: usize = 4096;

/// Who made a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) pid: Option<u32>,
    pub(super) auid: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) comm: Option<Vec<u8>>,
    pub(super) exe: Option<Vec<u8>>,
}

/// One value before and after, in the kernel's units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) op: NtpValue,
    pub(super) old: i64,
    pub(super) new: i64,
}

/// A change of the clock. Times are ns since 1970 as the clock had them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// The event's place among all.
    pub(super) ordinal: u64,
    /// Of the leaf that has it, in a trail.
    pub(super) leaf: Option<u64>,
    pub(super) old: i128,
    pub(super) new: i128,
    /// Zero: no step.
    pub(super) step: i128,
    /// Of this boot's steps until now.
    pub(super) cumulative: i128,
    pub(super) values: Vec<Value>,
    pub(super) call: Option<String>,
    pub(super) by: Option<String>,
    pub(super) who: Who,
    pub(super) confidence: Option<String>,
    /// Whether a record of ours has given the times.
    pub(super) told: bool,
    /// Where it was told first, and whether that was by the kernel.
    pub(super) told_at: u64,
    pub(super) beside: bool,
    /// Whether that says that there was no step.
    pub(super) slews: bool,
    /// When, since boot in ns, where a record of ours says that.
    pub(super) at: Option<u64>,
    /// Which boot, of all machines.
    pub(super) boot: usize,
    /// Which machine; empty: this one.
    pub(super) node: Vec<u8>,
    /// When it was made, as the clock would have had it that is there at the end of the boot.
    pub(super) corrected: i128,
}

/// A system call: which event it is of, who made it, and its name.
type Called = ((Vec<u8>, EventId), Who, Option<&'static str>);

/// The changes of the clock, and what they make of stamps.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) changes: Vec<Change>,
    /// Boot and place of each step, and the sum of it and of those after it.
    steps: Vec<(usize, u64, i128)>,
    by_event: BTreeMap<(Vec<u8>, u64, u32), usize>,
    tasks: VecDeque<Called>,
    /// By node and process, the step that the kernel told of last.
    stepped: BTreeMap<(Vec<u8>, u32), i128>,
    /// The kernel's events of steps that stand before them, which have the stamp of before the step.
    before: BTreeMap<(usize, u64), i128>,
    last: Option<(Vec<u8>, EventId)>,
    ordinal: u64,
    /// How many boots there were before the last one that began.
    boots: usize,
    /// That of the line which was taken last.
    machine: Boot,
    others: BTreeMap<Vec<u8>, Boot>,
}

/// The boot of one machine: its clock is its own.
#[derive(Debug, Default)]
struct Boot {
    node: Vec<u8>,
    number: usize,
    id: Option<Vec<u8>>,
    recent: VecDeque<(u64, i128)>,
    late: Late,
}

impl Gathered {
    /// Takes the next line of the trail, which is of that machine; this one has no name.
    pub(super) fn line(&mut self, node: &[u8], line: &Line<'_>) {
        let id = line.id();
        self.turn_to(node);
        if self.last.as_ref().is_none_or(|(of, last)| *last != id || of != node) {
            self.last = Some((node.to_vec(), id));
            self.ordinal += 1;
            self.machine.recent.push_back((self.ordinal, stamp(id)));
            if self.machine.recent.len() > RECENT {
                self.machine.recent.pop_front();
            }
        }
        let tail = line.own_tail();
        if tail.is_some_and(|tail| tail_value(tail, "VT_BT").is_some()) {
            // Ours: its stamp is that of when it was written.
            self.machine.recent.pop_back_if(|(of, _)| *of == self.ordinal);
        }
        let boot = tail.and_then(|tail| tail_value(tail, "VT_BOOT"));
        let other = boot.is_some() && boot != self.machine.id.as_deref();
        if other {
            if self.machine.id.is_some() {
                self.next_boot();
                self.machine.late.clear();
            }
            self.machine.id = boot.map(<[u8]>::to_vec);
        }
        match line.effective_type() {
            RecordType::SYSTEM_BOOT if boot.is_none() => self.next_boot(),
            RecordType::SYSCALL => {
                // Its stamp is that of when the call began, and it stands where that ended.
                self.machine.recent.pop_back_if(|(of, _)| *of == self.ordinal);
                self.task(node, id, line);
            }
            RecordType::TIME_INJOFFSET => {
                if let Ok(step) = TimeInjOffset::read(line) {
                    let step = step.nanoseconds();
                    let mut stepped = std::mem::take(&mut self.stepped);
                    self.change(node, id, line, |change| {
                        // The kernel repeats a thread's last step beside later values (clock.md).
                        let pid = change.who.pid;
                        let before = pid.and_then(|pid| stepped.insert((node.to_vec(), pid), step));
                        let repeats = !change.values.is_empty() && before == Some(step);
                        if change.slews || repeats && !change.told {
                            return;
                        }
                        change.step = step;
                        if !change.told {
                            change.new = change.old.saturating_add(step);
                        }
                    });
                    if stepped.len() <= RECENT {
                        self.stepped = stepped;
                    }
                }
            }
            RecordType::TIME_ADJNTPVAL => {
                if let Ok(TimeAdjNtpVal { op: Or::Known(op), old, new }) = TimeAdjNtpVal::read(line)
                {
                    self.change(node, id, line, |change| {
                        if change.values.len() < NtpValue::ALL.len() {
                            change.values.push(Value { op, old, new });
                        }
                    });
                }
            }
            RecordType::VT_CLOCK => self.change(node, id, line, |change| told(change, line)),
            _ => {}
        }
    }

    fn turn_to(&mut self, node: &[u8]) {
        if self.machine.node == node {
            return;
        }
        let next = self.others.remove(node).unwrap_or_else(|| {
            self.boots += 1;
            Boot { node: node.to_vec(), number: self.boots, ..Boot::default() }
        });
        let before = std::mem::replace(&mut self.machine, next);
        self.others.insert(before.node.clone(), before);
    }

    fn next_boot(&mut self) {
        self.boots += 1;
        self.machine.number = self.boots;
    }

    fn task(&mut self, node: &[u8], id: EventId, line: &Line<'_>) {
        let fields = line.fields();
        let number = |name: &[u8]| word(&fields, name).and_then(|text| text.parse().ok());
        let arch = word(&fields, b"arch").and_then(|arch| u32::from_str_radix(&arch, 16).ok());
        let call = arch.and_then(Machine::from_audit_arch).zip(number(b"syscall"));
        let call = call.and_then(|(machine, number)| machine.syscall(number));
        self.tasks.push_back(((node.to_vec(), id), who(&fields), call));
        if self.tasks.len() > RECENT {
            self.tasks.pop_front();
        }
    }

    fn change(
        &mut self,
        node: &[u8],
        id: EventId,
        line: &Line<'_>,
        with: impl FnOnce(&mut Change),
    ) {
        let key = (node.to_vec(), id.millis, id.serial);
        let at = match self.by_event.get(&key) {
            Some(at) => *at,
            None => {
                let task = self.tasks.iter().rev().find(|(of, ..)| of.1 == id && of.0 == node);
                let (who, call) =
                    task.map(|(_, who, call)| (who.clone(), *call)).unwrap_or_default();
                let change = Change {
                    ordinal: self.ordinal,
                    told_at: self.ordinal,
                    old: stamp(id),
                    new: stamp(id),
                    call: call.map(str::to_owned),
                    who,
                    boot: self.machine.number,
                    node: node.to_vec(),
                    ..Change::default()
                };
                self.changes.push(change);
                self.by_event.insert(key, self.changes.len() - 1);
                self.changes.len() - 1
            }
        };
        let Some(change) = self.changes.get_mut(at) else { return };
        with(change);
        if let Some(tail) = line.own_tail() {
            let text = |name| {
                let value = tail_value(tail, name)?;
                Some(String::from_utf8_lossy(value).into_owned())
            };
            change.leaf = change.leaf.or_else(|| text("VT_LEAF")?.parse().ok());
            let is_ours = line.effective_type() == RecordType::VT_CLOCK;
            change.confidence = text("VT_CONF").filter(|_| is_ours).or(change.confidence.take());
            // It was told by us, and so after the fact: which events came between?
            if let Some(since_boot) = change.at.filter(|_| is_ours && change.step != 0) {
                let since_boot = i128::from(since_boot);
                let step = Step {
                    change: at,
                    at: since_boot,
                    before: change.old.saturating_sub(since_boot),
                    after: change.new.saturating_sub(since_boot),
                    ordinal: change.ordinal,
                };
                change.beside = tail_value(tail, "VT_SRC") == Some(b"engine");
                for (change, ordinal) in
                    self.machine.late.push(step, self.machine.recent.iter().rev())
                {
                    if let Some(change) = self.changes.get_mut(change) {
                        change.ordinal = ordinal;
                    }
                }
            }
        }
    }

    /// Puts the changes in order, and adds up their steps.
    pub(super) fn finish(&mut self) {
        // Those of which the time since boot is known are in its order, whenever they were told.
        self.changes.sort_by_key(|change| change.ordinal);
        let mut timed: Vec<usize> = (0..self.changes.len()).collect();
        timed.retain(|at| self.changes.get(*at).is_some_and(|change| change.at.is_some()));
        timed.sort_by_key(|at| self.changes.get(*at).map(|change| (change.boot, change.at)));
        let (mut boot, mut next) = (usize::MAX, u64::MAX);
        for at in timed.into_iter().rev() {
            if let Some(change) = self.changes.get_mut(at) {
                if change.boot != boot {
                    (boot, next) = (change.boot, u64::MAX);
                }
                change.ordinal = change.ordinal.min(next);
                next = change.ordinal;
            }
        }
        self.changes.sort_by_key(|change| (change.ordinal, change.at));
        let mut sums: BTreeMap<usize, i128> = BTreeMap::new();
        for change in &mut self.changes {
            let sum = sums.entry(change.boot).or_default();
            *sum = sum.saturating_add(change.step);
            change.cumulative = *sum;
        }
        for change in &mut self.changes {
            // Its own step and those after it.
            let sum = sums.get(&change.boot).copied().unwrap_or_default();
            let rest = sum.saturating_sub(change.cumulative).saturating_add(change.step);
            change.corrected = change.old.saturating_add(rest);
        }
        let moved = self.changes.iter().filter(|one| one.beside && one.ordinal < one.told_at);
        self.before = moved.map(|one| ((one.boot, one.told_at), one.step)).collect();
        let steps = self.changes.iter().filter(|change| change.step != 0);
        self.steps = steps.map(|change| (change.boot, change.ordinal, change.step)).collect();
        self.steps.sort_by_key(|(boot, ordinal, _)| (*boot, *ordinal));
        let (mut boot, mut sum) = (usize::MAX, 0i128);
        for (of, _, step) in self.steps.iter_mut().rev() {
            if *of != boot {
                (boot, sum) = (*of, 0);
            }
            sum = sum.saturating_add(*step);
            *step = sum;
        }
    }

    /// By how much a stamp of the event of that place is behind the clock as it is at the end of its
    /// boot: the steps that came after it.
    pub(super) fn correction(&self, ordinal: u64, boot: usize) -> i128 {
        // The kernel's own event has the stamp of before its step.
        let at = self.steps.partition_point(|(of, step, _)| (*of, *step) < (boot, ordinal));
        let next = self.steps.get(at).filter(|(of, ..)| *of == boot);
        let before = self.before.get(&(boot, ordinal)).copied().unwrap_or(0);
        next.map_or(0, |(.., sum)| *sum).saturating_add(before)
    }

    /// Where the line that was taken last stands: its event, and its boot.
    pub(super) fn here(&self) -> (u64, usize) {
        (self.ordinal, self.machine.number)
    }
}

/// What a record of ours says.
fn told(change: &mut Change, line: &Line<'_>) {
    let fields = line.fields();
    let number = |name: &[u8]| word(&fields, name).and_then(|text| text.parse::<i128>().ok());
    if let Some(new) = number(b"new") {
        change.new = new;
        change.old = number(b"old").unwrap_or(change.new);
    }
    if let Some(step) = number(b"step").filter(|_| change.step == 0) {
        change.step = step;
    }
    if word(&fields, b"kind").as_deref() == Some("slew") {
        (change.step, change.slews) = (0, true);
    }
    change.told = true;
    change.at = word(&fields, b"at").and_then(|text| text.parse().ok());
    change.call = word(&fields, b"call").filter(|call| call != "?").or(change.call.take());
    change.by = word(&fields, b"by");
    if change.who == Who::default() {
        change.who = who(&fields);
    }
}

fn who(fields: &Fields<'_>) -> Who {
    let number = |name: &[u8]| word(fields, name).and_then(|text| text.parse().ok());
    let text = |name: &[u8]| {
        let value = fields.clone().find_value(name)?;
        let text = value.untrusted()?;
        (&*text != b"(null)").then(|| text.into_owned())
    };
    Who {
        pid: number(b"pid"),
        auid: number(b"auid"),
        uid: number(b"uid"),
        comm: text(b"comm"),
        exe: text(b"exe"),
    }
}

fn word(fields: &Fields<'_>, name: &[u8]) -> Option<String> {
    let value = fields.clone().find_value(name)?;
    Some(String::from_utf8_lossy(value.text()).into_owned())
}

/// ns since 1970.
pub(super) fn stamp(id: EventId) -> i128 {
    i128::from(id.millis) * 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(lines: &[&str]) -> Gathered {
        let mut gathered = Gathered::default();
        for line in lines {
            let line = line.replace("<1D>", "\x1d");
            let line = Line::parse_stored(line.as_bytes()).unwrap();
            gathered.line(line.node().unwrap_or_default(), &line);
        }
        gathered.finish();
        gathered
    }

    /// A log of the kernel's with nothing of ours: 10 s back, then 3 s on, and events around them.
    const KERNELS: &[&str] = &[
        "type=USER msg=audit(1000.000:1): pid=1 msg='a'",
        "type=SYSCALL msg=audit(1001.000:2): arch=c000003e syscall=227 success=yes exit=0 pid=7 auid=5 uid=0 comm=\"date\" exe=\"/bin/date\"",
        "type=TIME_INJOFFSET msg=audit(1001.000:2): sec=-10 nsec=0",
        "type=USER msg=audit(992.000:3): pid=1 msg='b'",
        "type=TIME_ADJNTPVAL msg=audit(993.000:4): op=freq old=0 new=65536000",
        "type=TIME_INJOFFSET msg=audit(994.000:5): sec=3 nsec=500000000",
        "type=USER msg=audit(998.500:6): pid=1 msg='c'",
    ];

    #[test]
    fn a_log_of_the_kernels_alone_gives_steps_sums_and_who() {
        let found = gathered(KERNELS);
        let steps: Vec<_> = found.changes.iter().map(|c| (c.step, c.cumulative)).collect();
        const S: i128 = 1_000_000_000;
        assert_eq!(steps, [(-10 * S, -10 * S), (0, -10 * S), (3 * S + S / 2, -6 * S - S / 2)]);
        let first = &found.changes[0];
        assert_eq!((first.old, first.new), (1001 * S, 991 * S));
        assert_eq!(first.call.as_deref(), Some("clock_settime"));
        assert_eq!((first.who.pid, first.who.comm.as_deref()), (Some(7), Some(&b"date"[..])));
        // The clock at the end was right: what was stamped before is moved to it.
        let corrected = |ordinal, at: i128| at * S + found.correction(ordinal, 0);
        assert_eq!(corrected(1, 1000), 993 * S + S / 2);
        assert_eq!(corrected(3, 992), 995 * S + S / 2);
        assert_eq!(corrected(6, 998), 998 * S);
    }

    #[test]
    fn a_step_that_the_kernel_repeats_is_added_once() {
        let event = |serial: u32, pid: u32, values: &str, more: &str| {
            let id = format!("msg=audit(1000.000:{serial})");
            let call = format!(
                "type=SYSCALL {id}: arch=c000003e syscall=305 success=yes exit=0 pid={pid}"
            );
            let mut lines = vec![call];
            if !values.is_empty() {
                lines.push(format!("type=TIME_ADJNTPVAL {id}: op=freq {values}"));
            }
            lines.push(format!("type=TIME_INJOFFSET {id}: sec=3 nsec=0"));
            if !more.is_empty() {
                lines.push(format!("type=VT_CLOCK {id}: call=clock_adjtime {more}"));
            }
            lines
        };
        let step = "kind=step old=1000000000000 new=1003000000000 step=3000000000";
        let slew = "kind=slew old=1000000000000 new=1000000000000";
        for (lines, steps) in [
            // The kernel's alone.
            ([event(1, 7, "", ""), event(2, 7, "old=0 new=1", "")], [3, 0]),
            ([event(1, 7, "", ""), event(2, 8, "old=0 new=1", "")], [3, 3]),
            ([event(1, 7, "", ""), event(2, 7, "", "")], [3, 3]),
            // With what we know of it.
            ([event(1, 7, "", step), event(2, 7, "old=0 new=1", slew)], [3, 0]),
            ([event(1, 8, "old=0 new=1", slew), event(2, 7, "old=1 new=2", step)], [0, 3]),
        ] {
            let lines = lines.concat();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let found = gathered(&lines);
            let found: Vec<_> = found.changes.iter().map(|one| one.step / 1_000_000_000).collect();
            assert_eq!(found, steps, "{lines:#?}");
        }
    }

    #[test]
    fn a_step_that_is_told_late_stands_where_it_was_made() {
        let step = "type=TIME_INJOFFSET msg=audit(2003.000:2147483650): sec=1000 nsec=0";
        let clock = "type=VT_CLOCK msg=audit(2003.000:2147483650): call=clock_settime clock=realtime \
                     kind=step old=1001000000000 new=2001000000000 step=1000000000000 at=5000000000 by=task \
                     ppid=1 pid=9 auid=4294967295 uid=0 comm=\"date\" exe=(null)<1D>VT_LEAF=9 \
                     VT_BT=8 VT_BOOT=b VT_SRC=bpf VT_CONF=certain";
        let found = gathered(&[
            "type=USER msg=audit(1000.900:1): pid=1 msg='before'",
            "type=USER msg=audit(2001.100:2): pid=1 msg='after'",
            "type=USER msg=audit(2002.000:3): pid=1 msg='after'",
            step,
            clock,
        ]);
        let [change] = &found.changes[..] else { panic!("{found:?}") };
        assert_eq!(change.ordinal, 1, "before the two that have the new time");
        assert_eq!((change.leaf, change.who.pid), (Some(9), Some(9)));
        assert_eq!(change.confidence.as_deref(), Some("certain"));
        assert_eq!(found.correction(1, 0), 1_000_000_000_000);
        assert_eq!((found.correction(2, 0), found.correction(3, 0)), (0, 0));
    }

    #[test]
    fn steps_that_are_told_together_are_in_the_order_in_which_they_were_made() {
        let step = |serial: u32, at: u32, old: i64, new: i64| {
            let step = new - old;
            format!(
                "type=VT_CLOCK msg=audit(1002.000:{serial}): call=clock_settime clock=realtime \
                 kind=step old={old}000000000 new={new}000000000 step={step}000000000 at={at}000000000 \
                 by=task<1D>VT_LEAF=9 VT_BT=8 VT_BOOT=b"
            )
        };
        let (on, back) = (step(8, 5, 1000, 2000), step(9, 6, 2000, 1000));
        let found = gathered(&[
            "type=USER msg=audit(1000.900:1): pid=1 msg='before'",
            "type=USER msg=audit(1999.900:2): pid=1 msg='between'",
            &on,
            "type=USER msg=audit(1001.000:3): pid=1 msg='after'",
            &back,
        ]);
        let steps: Vec<_> = found.changes.iter().map(|change| change.step.signum()).collect();
        assert_eq!(steps, [1, -1]);
        assert_eq!(found.changes[1].cumulative, 0);
    }

    #[test]
    fn steps_of_another_boot_correct_nothing() {
        let found = gathered(&[
            "type=TIME_INJOFFSET msg=audit(1000.000:5): sec=7 nsec=0",
            "type=SYSTEM_BOOT msg=audit(1009.000:1): pid=1",
            "type=TIME_INJOFFSET msg=audit(1010.000:2): sec=1 nsec=0",
        ]);
        assert_eq!(found.changes[1].cumulative, 1_000_000_000);
        assert_eq!(found.correction(1, 0), 7_000_000_000);
    }

    #[test]
    fn each_machine_has_a_clock_and_boots_of_its_own() {
        let found = gathered(&[
            "node=a type=TIME_INJOFFSET msg=audit(1000.000:5): sec=7 nsec=0",
            "node=b type=TIME_INJOFFSET msg=audit(1000.000:5): sec=100 nsec=0",
            "node=b type=SYSTEM_BOOT msg=audit(1109.000:1): pid=1",
            "node=a type=TIME_INJOFFSET msg=audit(1010.000:6): sec=1 nsec=0",
            "node=b type=TIME_INJOFFSET msg=audit(1110.000:2): sec=50 nsec=0",
            "type=TIME_INJOFFSET msg=audit(1000.000:9): sec=3 nsec=0",
        ]);
        const S: i128 = 1_000_000_000;
        let found: Vec<_> = found
            .changes
            .iter()
            .map(|one| {
                let node = String::from_utf8(one.node.clone()).unwrap();
                (node, one.cumulative / S, (one.corrected - one.old) / S)
            })
            .collect();
        let told = [("a", 7, 8), ("b", 100, 100), ("a", 8, 1), ("b", 50, 50), ("", 3, 3)];
        assert_eq!(found, told.map(|(node, sum, rest)| (node.to_owned(), sum, rest)));
    }

    #[test]
    fn what_is_hostile_is_no_number() {
        let found = gathered(&[
            "type=TIME_INJOFFSET msg=audit(18446744073709551.615:5): sec=9223372036854775807 nsec=9223372036854775807",
            "type=TIME_INJOFFSET msg=audit(1.000:6): sec=x nsec=",
            "type=VT_CLOCK msg=audit(1.000:7): old=- new=99999999999999999999999999999999999999999999 step=",
        ]);
        assert_eq!(found.changes.len(), 2);
    }
}
