//! What becomes of an event of audit: whether it is kept, by its rules and by its container's quota, and when
//! that can be known.

use trail::Class;

use super::{Agent, now};
use crate::agent::containers::{self, Ready};
use crate::agent::heard::Heard;
use crate::agent::rules::{Verdict, Whose};

impl Agent {
    pub(super) fn handle_event(&mut self, heard: Heard) {
        if let Some(id) = heard.id
            && !self.hears
            && !self.before.as_ref().is_some_and(|note| note.has_passed(id))
        {
            self.hears = true;
            self.tell_missing(id);
        }
        let is_own =
            |pid: u32| self.own.is_some_and(|own| own.contains(&pid) || self.plugin == Some(pid));
        if heard.pid.is_some_and(is_own) && heard.class != Class::Integrity {
            // What we do would make us do more.
            self.own_events += 1;
            return;
        }
        let whose = self.containers.whose();
        // A quota is its container's, and a rule may be too: both are asked when that is known.
        let waits =
            self.containers.limits(whose) && heard.class != Class::Integrity && heard.id.is_some();
        let verdict = if waits { Verdict::Wait } else { self.judge(&heard, whose) };
        match (verdict, heard.id) {
            (Verdict::Drop, _) => {}
            (Verdict::Wait, Some(id)) => self.containers.handle_whole(id, heard, &self.processes),
            (verdict, _) => {
                self.keep(&heard, &verdict);
                self.containers.handle_event(&heard, &self.processes);
            }
        }
    }

    fn judge(&mut self, heard: &Heard, whose: Whose) -> Verdict {
        self.rules.as_mut().map_or(Verdict::KEEP, |rules| rules.judge(heard, whose))
    }

    fn keep(&mut self, heard: &Heard, verdict: &Verdict) {
        let asked_by = match verdict {
            Verdict::Keep { asked_by } => asked_by.as_deref(),
            Verdict::Drop | Verdict::Wait => None,
        };
        self.journal.kernel(heard, asked_by);
        // All that these look for is of the first class.
        if heard.class == Class::Integrity {
            let now = now();
            self.devices.handle_event(now, heard);
            self.timekeeping.handle_event(now, heard);
        }
    }

    /// Writes what waited for its container.
    pub(super) fn write_ready(&mut self) {
        for Ready { id, class, whole, whose, records, charge } in self.containers.take_ready() {
            let verdict = whole.as_ref().map_or(Verdict::KEEP, |heard| self.judge(heard, whose));
            if verdict == Verdict::Drop {
                continue;
            }
            let is_there = whole.is_none();
            if let Some(over) = charge.and_then(|it| self.containers.admit(&it, is_there)) {
                self.over_quota += 1;
                self.gaps.note_container(&over, id.millis);
                continue;
            }
            if let Some(heard) = &whole {
                self.keep(heard, &verdict);
            }
            if let Some((records, confidence)) = records {
                self.journal.beside(id, class, &records, &containers::tail(confidence));
            }
        }
        while let Some(mark) = self.marks.next(|number| self.containers.holds_whole(number)) {
            self.watermark.pass(mark, self.journal.last());
        }
    }
}
