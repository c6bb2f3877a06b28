//! The veritrail binary: wires the crates together, one file per verb.

mod agent;
mod cli;
mod clock;
mod config;
mod detached;
mod facts;
mod forward;
mod install;
mod json;
mod json_line;
mod lives;
mod mapped;
mod metrics;
mod outcome;
mod pieces;
mod place;
mod rules;
mod run_dir;
mod scrub;
mod served;
mod verbs;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    let command = match cli::parse(args) {
        Ok(command) => command,
        Err(answer) => return answer,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let result = command.run(&mut out).and_then(|outcome| match out.flush() {
        // Whoever reads has seen enough; that does not change the answer.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(outcome),
    });
    match result {
        Ok(outcome) => command.exit_code(outcome),
        // Whoever reads our output has seen enough; that is not a failure.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            // What was printed before the failure is still worth reading.
            let _ = out.flush();
            failure.print(&mut io::stderr().lock());
            command.failure_code(&failure)
        }
    }
}
