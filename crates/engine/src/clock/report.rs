//! The records that tell of all this (docs/formats/clock.md).

use record::view::NtpValue;
use record::write::Body;

use super::call::{Call, What};
use super::heard::Heard;
use super::ntp::Change;
use super::pairing::Told;
use super::{Reading, Record};

const NS: i128 = 1_000_000_000;

/// Why a record of the kernel tells of a step and ours beside it of none.
const REPEATS: &str = "TIME_INJOFFSET is of an earlier call";

/// The kernel's own records, in the order in which it writes them.
pub(super) fn kernels(changes: &[Change], step: Option<i128>) -> Vec<Record> {
    let changed = |change: &Change| {
        let body =
            Body::new().word("op", change.value).word("old", change.old).word("new", change.new);
        ("TIME_ADJNTPVAL", body)
    };
    let mut records: Vec<Record> = changes.iter().map(changed).collect();
    if let Some(step) = step.filter(|step| *step != 0) {
        let body = Body::new().word("sec", step.div_euclid(NS)).word("nsec", step.rem_euclid(NS));
        records.push(("TIME_INJOFFSET", body));
    }
    records
}

/// Whether the kernel moves this value by itself while it follows an offset.
pub(super) fn moves(change: &Change) -> bool {
    matches!(change.value, NtpValue::Offset | NtpValue::Freq)
}

/// What a call did, and who called, where no event of the kernel says that.
pub(super) fn of_call(call: &Call, measured: Option<(i128, u64)>, event: Option<Told>) -> Record {
    let name = call.name.unwrap_or(match call.what {
        What::Set { .. } => "settime",
        What::Adjust { .. } => "adjtimex",
    });
    let body = Body::new().word("call", name).word("clock", "realtime");
    let new = match &call.what {
        What::Set { time } => *time,
        What::Adjust { after, .. } => after.time(),
    };
    let body = match measured {
        Some((0, _)) => body.word("kind", "slew").word("old", new).word("new", new),
        Some((step, apart)) => {
            let body = body.word("kind", "step").word("old", new - step).word("new", new);
            let body = body.word("step", step);
            if apart == 0 { body } else { body.word("within", apart) }
        }
        None => body.word("kind", "step").word("new", new),
    };
    let body = body.word("at", call.exit.boottime_ns);
    let body = match (&call.task, event) {
        (Some(task), None) => task.push(body.word("by", "task")),
        (Some(_), Some(_)) => body.word("by", "task"),
        (None, _) => body.word("by", "kernel"),
    };
    let repeats = event.is_some_and(|event| event.repeats);
    ("VT_CLOCK", if repeats { body.phrase("reason", REPEATS) } else { body })
}

/// What the kernel told of, with the times that follow from it and from the step that it was: `offset` is
/// that before it.
pub(super) fn beside_word(heard: &Heard, step: Option<i128>, offset: Option<i128>) -> Record {
    let stamp = i128::from(heard.id.millis) * 1_000_000;
    let body = Body::new()
        .word("call", heard.name.unwrap_or("?"))
        .word("clock", "realtime")
        .word("kind", if step.is_some() { "step" } else { "slew" });
    let new = stamp + step.unwrap_or(0);
    let body = body.word("old", stamp).word("new", new);
    let body = match step {
        Some(step) => body.word("step", step),
        None => body,
    };
    let since_boot = offset.and_then(|offset| u64::try_from(stamp - offset).ok());
    let body = body.word("at", since_boot.unwrap_or(heard.arrived));
    let body = body.word("by", if heard.pid.is_some() { "task" } else { "kernel" });
    ("VT_CLOCK", if heard.step == step { body } else { body.phrase("reason", REPEATS) })
}

/// A step that nobody was seen to make: in which span of the time since boot, and how sure its size is.
pub(super) fn unknown_step(
    before: &Reading,
    after: &Reading,
    step: i128,
    apart: u64,
    leap: bool,
) -> Record {
    let new = i128::from(after.boottime_ns) + after.offset_ns;
    let body = Body::new()
        .word("call", "?")
        .word("clock", "realtime")
        .word("kind", "step")
        .word("old", new - step)
        .word("new", new)
        .word("step", step)
        .word("within", apart)
        .word("at", after.boottime_ns)
        .word("after", before.boottime_ns);
    let body = if leap {
        body.word("by", "kernel").phrase("reason", "leap second")
    } else {
        body.word("by", "unknown")
    };
    ("VT_CLOCK", body)
}

/// Values that are not what they were, and nobody was seen to change them.
pub(super) fn unknown_change(before: &Reading, after: &Reading) -> Record {
    let now = i128::from(after.boottime_ns) + after.offset_ns;
    let body = Body::new()
        .word("call", "?")
        .word("clock", "realtime")
        .word("kind", "slew")
        .word("old", now)
        .word("new", now)
        .word("at", after.boottime_ns)
        .word("after", before.boottime_ns)
        .word("by", "unknown");
    ("VT_CLOCK", body)
}
