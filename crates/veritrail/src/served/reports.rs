//! From what the volume reports to what is recorded, and what is known for `status`.

use std::process::{Command, Stdio};
use std::time::Duration;

use block::verity::Refused;
use host::channel::{Channel, Received};
use record::units::DataBlock;

use super::control::LastViolation;
use super::keeper::Shared;
use super::manager::Manager;
use super::opening::Opening;
use super::recorder::{self, Files, Recorder};
use super::wire::{self, Report, What};
use crate::clock;

/// Notes what the volume reports, until it is gone; each is answered as soon as it is handed in, or
/// where a command is to run, when the record is durable and the command has been started.
pub(super) fn note_reports(
    reports: &Channel,
    mut recorder: Recorder,
    opening: &Opening,
    shared: &Shared,
) -> Recorder {
    let files = opening.files();
    let mut buf = vec![0; wire::LONGEST];
    let mut command = opening.on_corruption.command();
    let mut manager = Manager::new();
    loop {
        let len = match reports.recv(&mut buf, manager.due()) {
            Ok(Received::Message { len, .. }) => len,
            Ok(Received::TimedOut) => {
                manager.tell();
                continue;
            }
            Ok(Received::Closed) | Err(_) => return recorder,
        };
        match serde_json::from_slice::<Report>(&buf[..len]) {
            Ok(report) => {
                let violation = note(&report, &mut recorder, opening, &files, shared);
                manager.heard(&report.what);
                if violation && let Some(argv) = command.take() {
                    // Without a durable record the host must not go down.
                    if recorder.settle().is_ok() {
                        run(argv);
                    } else {
                        command = Some(argv);
                    }
                }
            }
            Err(_) => recorder.nonsense(),
        }
        // A volume that cannot take the answer is gone.
        let _ = reports.send(b"+", &[]);
        if manager.due() == Some(Duration::ZERO) {
            manager.tell();
        }
    }
}

/// Whether it was a violation that no reader gets data for.
fn note(
    report: &Report,
    recorder: &mut Recorder,
    opening: &Opening,
    files: &Files,
    shared: &Shared,
) -> bool {
    let layout = &opening.layout;
    // A number that was taken over by somebody else meanwhile is nobody's.
    let seen = host::process::facts(report.tid).ok().map(|facts| facts.task);
    let seen = seen.filter(|task| task.fsuid == report.uid && task.fsgid == report.gid);
    let reader = |answer: &str| recorder::reader(report, seen.as_ref(), answer);
    match &report.what {
        What::Violation { block, found, saturated, delivered } => {
            let Some(finding) = found.finding(layout).filter(|_| *block < layout.data_blocks())
            else {
                recorder.nonsense();
                return false;
            };
            let refused = Refused { block: DataBlock(*block), finding, saturated: *saturated };
            let reader = reader(if *delivered { "data" } else { "EIO" });
            let event = recorder.violation(&refused, layout, files, &reader);
            let mut status = shared.status();
            status.corrupted = true;
            status.last_violation = Some(LastViolation {
                time: clock::now().realtime_ns / 1_000_000_000,
                event,
                reader: String::from_utf8_lossy(reader.as_bytes()).into_owned(),
            });
            !*delivered
        }
        What::Corrected { found, errors } => {
            match found.finding(layout) {
                Some(finding) => {
                    recorder.corrected(&finding, *errors, layout, files, &reader("data"));
                }
                None => recorder.nonsense(),
            }
            false
        }
        What::Io { role, offset, errno } => {
            recorder.unreadable(*role, *offset, *errno, files, &reader("EIO"));
            false
        }
    }
}

fn run(argv: &[String]) {
    let Some((program, args)) = argv.split_first() else { return };
    let command =
        Command::new(program).args(args).stdin(Stdio::null()).env_remove("NOTIFY_SOCKET").spawn();
    match command {
        Ok(mut child) => {
            std::thread::spawn(move || child.wait());
        }
        Err(error) => eprintln!("veritrail: cannot run {program}: {error}"),
    }
}
