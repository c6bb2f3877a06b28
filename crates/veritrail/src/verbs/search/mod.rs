//! `veritrail search`, and `ausearch` through a link of that name.

mod args;
mod criteria;
mod filter;
mod needle;
mod output;
mod scan;
mod source;
mod time;
mod whose;

use std::io::{self, Write};

pub(crate) use args::{Arguments, spell_out};
pub(crate) use output::Host;
pub(crate) use source::{Sources, read_line};
pub(crate) use time::{Bound, Clock};
pub(crate) use whose::{Meant, containers, meant, place};

use filter::{Query, Type};
use output::Printer;
use record::{Line, RecordType};
use scan::{Next, Stopped, Tally};

use crate::outcome::{Failure, Kind, Outcome};

/// Under which name the search was called, which decides what ausearch's users rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As `veritrail search`.
    Own,
    /// As `ausearch`: its default log, its order of records.
    Ausearch,
}

impl Arguments {
    /// Does it.
    pub(crate) fn run(
        &self,
        manner: Manner,
        clock: &Clock,
        out: &mut dyn Write,
    ) -> Result<Outcome, Failure> {
        let format = self.output().map_err(|why| Failure::new(Kind::Usage, why))?;
        let mut query = self.query(clock)?;
        let sources = Sources::find(&self.trail, &self.input, self.input_logs, manner)?;
        query.containers = self.contid.as_ref().map(|word| meant(word, &sources)).transpose()?;
        let parts = sources.open()?;
        let patience = self.eoe_timeout.unwrap_or_else(|| sources.patience());
        let mut found = false;
        let zone = clock.zone().clone();
        let mut printer = Printer::new(out, format, zone, manner, self.line_buffered);
        let tally = scan::scan(parts, &query, patience, |event| {
            found = true;
            printer.print(event)?;
            Ok(if self.just_one { Next::Stop } else { Next::Continue })
        });
        let tally = tally.map_err(|stopped: Stopped<io::Error>| match stopped {
            Stopped::Read(error) => source::failure(error),
            Stopped::Receiver(error) => Failure::from(error),
        })?;
        report(&tally);
        if tally.records == 0 && tally.unreadable > 0 {
            return Err(Failure::new(Kind::Unusable, "the input is not an audit log").hint(
                "audit logs have lines like `type=DM_EVENT msg=audit(1677619463.786:1074): ...`; \
                 unpack one first that is compressed (zcat FILE | veritrail search)",
            ));
        }
        if found {
            return Ok(Outcome::Good);
        }
        if format != args::Format::Raw {
            // Nobody is left to tell if standard error is gone.
            let _ = writeln!(io::stderr(), "<no matches>");
        }
        Ok(Outcome::No)
    }
}

/// Hands on every event that has a record of one of these types, between two times in ms since 1970.
pub(crate) fn events(
    sources: &Sources,
    types: &[RecordType],
    [from, to]: [Option<i64>; 2],
    mut each: impl FnMut(&[Line<'_>]),
) -> Result<(), Failure> {
    let types = types.iter().copied().map(Type::Known).collect();
    let query = Query { types, from, to, ..Query::default() };
    let tally = scan::scan(sources.open()?, &query, sources.patience(), |event| {
        each(event);
        Ok::<_, std::convert::Infallible>(Next::Continue)
    });
    let tally = tally.map_err(|stopped| match stopped {
        Stopped::Read(error) => source::failure(error),
        Stopped::Receiver(never) => match never {},
    })?;
    report(&tally);
    Ok(())
}

/// Says what could not be searched.
fn report(tally: &Tally) {
    if let Some(first) = &tally.first {
        let (lines, are) = match tally.unreadable {
            1 => ("line", "is no record"),
            _ => ("lines", "are no records"),
        };
        let _ = writeln!(
            io::stderr(),
            "veritrail: {} {lines} {are}; the first is in {}, at byte {}: {}",
            tally.unreadable,
            first.part,
            first.byte,
            first.error,
        );
    }
}
