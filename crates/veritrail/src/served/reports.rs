//! From what the volume reports to what is recorded, and what is known for `status`.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use block::verity::Refused;
use host::channel::{Channel, Received};
use record::units::DataBlock;
use rustix::io::Errno;

use super::control::LastViolation;
use super::explaining::Explaining;
use super::keeper::Shared;
use super::manager::Manager;
use super::opening::{OnCorruption, Opening};
use super::reader::Readers;
use super::recorder::{self, Answered, Files, Recorder};
use super::wire::{self, Nonsense, Report, Ways, What};
use crate::clock;

/// Notes what the volume reports, until it is gone; each is answered as soon as it is handed in, or
/// where a command is to run, when the record is durable and the command has been started.
///
/// A volume that says what cannot be is recorded as that and not listened to any more: whoever has
/// taken it over shall neither go on to serve nor fill the trail.
pub(super) fn note_reports(
    reports: &Channel,
    mut recorder: Recorder,
    opening: &Opening,
    shared: &Shared,
    readers: &Readers,
    explaining: &mut Explaining,
) -> (Recorder, Result<(), Nonsense>) {
    let files = opening.files();
    let mut buf = vec![0; wire::LONGEST];
    let mut command = opening.on_corruption.command();
    let mut manager = Manager::new();
    loop {
        let patience = [manager.due(), explaining.due()].into_iter().flatten().min();
        let len = match reports.recv(&mut buf, patience) {
            Ok(Received::Message { len, .. }) => len,
            Ok(Received::TimedOut) => {
                shared.status().lost_events = recorder.lost();
                tell_if_due(&mut manager);
                explain(explaining, &mut recorder);
                continue;
            }
            Ok(Received::Closed) => return (recorder, Ok(())),
            // Longer than anything it has to say.
            Err(error) if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => 0,
            Err(_) => return (recorder, Ok(())),
        };
        let noted = match serde_json::from_slice::<Report>(&buf[..len]) {
            Ok(report) => {
                let seen = Seen { readers, explaining };
                let noted = note(&report, &mut recorder, opening, &files, shared, seen);
                if noted.is_ok() {
                    manager.heard(&report.what);
                }
                noted
            }
            Err(_) => Err(Nonsense),
        };
        match noted {
            Ok(Refusal::Violation) => {
                if let Some(argv) = command.take() {
                    // Without a durable record the host must not go down.
                    if recorder.settle().is_err() || run(argv).is_err() {
                        command = Some(argv);
                    }
                }
            }
            Ok(Refusal::None) => {}
            Err(nonsense) => {
                recorder.nonsense();
                return (recorder, Err(nonsense));
            }
        }
        shared.status().lost_events = recorder.lost();
        // A volume that cannot take the answer is gone.
        let _ = reports.send(b"+", &[]);
        tell_if_due(&mut manager);
        explain(explaining, &mut recorder);
    }
}

fn tell_if_due(manager: &mut Manager) {
    if manager.due() == Some(Duration::ZERO) {
        manager.tell();
    }
}

/// Records what was found out meanwhile.
fn explain(explaining: &mut Explaining, recorder: &mut Recorder) {
    while let Some(explained) = explaining.answer() {
        recorder.explained(explained);
    }
    match explaining.take_lost() {
        0 => {}
        lost => recorder.unexplained(lost),
    }
}

/// What is found out of a report beyond what it says.
struct Seen<'a> {
    readers: &'a Readers,
    explaining: &'a mut Explaining,
}

/// Whether a reader was refused data that is not what was promised.
enum Refusal {
    Violation,
    None,
}

fn note(
    report: &Report,
    recorder: &mut Recorder,
    opening: &Opening,
    files: &Files,
    shared: &Shared,
    Seen { readers, explaining }: Seen<'_>,
) -> Result<Refusal, Nonsense> {
    let layout = &opening.layout;
    let ways = Ways {
        delivers: opening.on_corruption == OnCorruption::Ignore,
        corrects: opening.fec.is_some(),
    };
    let finding = report.what.finding(layout, ways)?;
    let seen = readers.look(report);
    let reader = |answer: &str| Answered {
        body: recorder::reader(report, seen.task.as_ref(), answer),
        labelled: seen.labelled(),
    };
    match (&report.what, finding) {
        (What::Violation { block, saturated, delivered, .. }, Some(finding)) => {
            // What we come by while we look for the files is asked about by whoever reads it too.
            let is_own = seen.task.as_ref().is_some_and(|task| task.pid == std::process::id());
            if !is_own {
                let bytes = layout.data_range(&(DataBlock(*block)..DataBlock(block + 1)));
                let place = recorder::place(&finding, layout, files);
                explaining.ask(DataBlock(*block), bytes, place, seen.container);
            }
            let refused = Refused { block: DataBlock(*block), finding, saturated: *saturated };
            let reader = reader(if *delivered { "data" } else { "EIO" });
            let event = recorder.violation(&refused, layout, files, &reader);
            let mut status = shared.status();
            status.facts.corrupted = true;
            status.last_violation = Some(LastViolation {
                time: clock::now().realtime_ns / 1_000_000_000,
                event,
                reader: String::from_utf8_lossy(reader.body.as_bytes()).into_owned(),
            });
            Ok(if *delivered { Refusal::None } else { Refusal::Violation })
        }
        (What::Corrected { errors, .. }, Some(finding)) => {
            recorder.corrected(&finding, *errors, layout, files, &reader("data"));
            Ok(Refusal::None)
        }
        (What::Io { role, offset, errno }, None) => {
            recorder.unreadable(*role, *offset, *errno, files, &reader("EIO"));
            Ok(Refusal::None)
        }
        _ => Err(Nonsense),
    }
}

/// Starts a command. One that cannot be started is tried again at the next violation.
fn run(argv: &[String]) -> io::Result<()> {
    let Some((program, args)) = argv.split_first() else { return Ok(()) };
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).env_remove("NOTIFY_SOCKET");
    let mut child = command.spawn()?;
    // Waited for by a thread of its own; without one it stays a zombie as long as the device.
    let _ = std::thread::Builder::new().spawn(move || child.wait());
    Ok(())
}
