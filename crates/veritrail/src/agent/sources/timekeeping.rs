//! The witness of the clock: told by the kernel when it is set, it reads the clocks, and it reads them
//! when it is asked to and every few seconds anyway.

use std::io;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use engine::clock::Reading;
use host::clock::{Witness, distance};

use super::{ForSource, Input};
use crate::agent::timekeeping::timex;

/// How soon a question is answered: the timer cannot be waited for together with it.
const LOOK: Duration = Duration::from_millis(50);

/// Reads until the agent stops.
pub(super) fn watch(witness: &Witness, asked: &Receiver<()>, context: &ForSource) {
    if let Err(error) = listen(witness, asked, context) {
        context.ended(&error);
    }
}

fn listen(witness: &Witness, asked: &Receiver<()>, context: &ForSource) -> io::Result<()> {
    let mut last = None::<Instant>;
    loop {
        let was_set = witness.wait(LOOK)?;
        let is_asked = asked.try_recv().is_ok();
        if was_set {
            context.counts.event();
        }
        let stopping = context.is_stopping();
        let every = context.poll.every();
        if was_set || is_asked || stopping || last.is_none_or(|last| last.elapsed() >= every) {
            last = Some(Instant::now());
            context.counts.message();
            context.inbox.put(Input::Clock(read()));
        }
        if stopping {
            return Ok(());
        }
    }
}

/// The clocks and what steers them, as they are now.
pub(in crate::agent) fn read() -> Reading {
    let since_ns = crate::clock::now().boottime_ns;
    let steering = host::clock::timex().ok();
    let distance = distance();
    Reading {
        boottime_ns: distance.boottime_ns,
        since_ns,
        offset_ns: distance.realtime_ns,
        apart_ns: distance.apart_ns,
        timex: steering.map(|read| timex(0, &read)),
    }
}
