//! `veritrail verity close`

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::open::record_left_behind;
use crate::mapped::{self, Closed};
use crate::outcome::{Failure, Kind, Outcome};
use crate::served::control::{self, Answer, Question};
use crate::served::{Claim, Directory, Name};

/// End an open device
///
/// Returns when the device is gone and every record that we make of it is durable. A device that somebody
/// uses is not closed, unless --deferred says to do so when its last user has gone. Served devices are
/// looked for first, then those of the kernel's dm-verity, by whomever they were opened. What a server that
/// was killed has left is cleared away.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:
  veritrail verity close root
  veritrail verity close root --deferred",
    disable_help_flag = true,
    args_override_self = true
)]
pub(crate) struct CloseArgs {
    /// Name of the device
    #[arg(value_name = "name")]
    name: String,
    /// Close the device as soon as nobody uses it any more
    #[arg(long)]
    deferred: bool,
    /// Do not close it after all
    #[arg(long, conflicts_with = "deferred")]
    cancel_deferred: bool,
    /// Look below this directory instead of /run/veritrail, and not at the kernel's devices (not in
    /// veritysetup)
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

pub(super) fn run(args: &CloseArgs) -> Result<Outcome, Failure> {
    match Name::parse(&args.name) {
        Ok(name) => close_served(args, &name),
        // One that only a device of the kernel's can have.
        Err(_) if args.run_dir.is_none() => close_mapped(args),
        Err(why) => Err(not_active(&args.name).because(why)),
    }
}

fn close_served(args: &CloseArgs, served: &Name) -> Result<Outcome, Failure> {
    let name = served.as_str();
    let directory = Directory::locate(args.run_dir.as_deref())?;
    let question = match (args.deferred, args.cancel_deferred) {
        (_, true) => Question::CancelDeferred,
        (true, false) => Question::CloseDeferred,
        (false, false) => Question::Close,
    };
    let failed = |error: io::Error| {
        Failure::new(Kind::Io, format!("cannot ask the server of {name}")).because(error)
    };
    let end = Instant::now() + control::ENDING;
    let answer = loop {
        if let Some(answer) = control::ask(&directory, served, question).map_err(failed)? {
            break answer;
        }
        if let Some(claim) = directory.claim_dead(served)? {
            clear_away(&directory, served, claim)?;
            return Ok(Outcome::Good);
        }
        // A keeper on its way out answers no more, and holds its name until it is gone.
        if !directory.is_taken(served) && args.run_dir.is_none() {
            return close_mapped(args);
        }
        if !directory.is_taken(served) || Instant::now() >= end {
            return Err(not_active(name));
        }
        std::thread::sleep(control::LOOK);
    };
    match answer {
        Answer::Closed | Answer::Deferred | Answer::Cancelled => Ok(Outcome::Good),
        Answer::Busy => Err(busy(name)),
        Answer::Failed(why) => {
            Err(Failure::new(Kind::Io, format!("cannot close {name}")).because(why))
        }
        Answer::Status(_) => Err(failed(io::ErrorKind::InvalidData.into())),
    }
}

/// Ends a device of the kernel's.
fn close_mapped(args: &CloseArgs) -> Result<Outcome, Failure> {
    let closed = if args.cancel_deferred {
        mapped::cancel_deferred(&args.name)?
    } else {
        mapped::close(&args.name, args.deferred)?
    };
    match closed {
        Closed::Done | Closed::Later => Ok(Outcome::Good),
        Closed::Busy => Err(busy(&args.name)),
        Closed::Absent => Err(not_active(&args.name)),
    }
}

fn busy(name: &str) -> Failure {
    Failure::new(Kind::Environment, format!("Device {name} is still in use."))
        .because(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "a mount, a loop device or a process has it open",
        ))
        .hint("end them (`losetup -l`, `findmnt`, `fuser` show who), or close it with --deferred")
}

fn clear_away(directory: &Directory, name: &Name, claim: Claim) -> Result<(), Failure> {
    // Whoever could not record the gap leaves it to be found by the next.
    if let Some(left) = directory.left(name).filter(|left| left.ended.is_none())
        && let Err(failure) = record_left_behind(&left, name)
    {
        claim.leave();
        return Err(failure);
    }
    claim.give_back()?;
    let name = name.as_str();
    // Standard error may be closed; it is cleared all the same.
    let _ = writeln!(
        io::stderr(),
        "veritrail: the server of {name} was gone; cleared what it had left"
    );
    Ok(())
}

fn not_active(name: &str) -> Failure {
    Failure::new(Kind::Usage, format!("Device {name} is not active."))
        .because(io::Error::new(
            io::ErrorKind::NotFound,
            "nobody serves it, and the kernel has none of this name",
        ))
        .hint("`veritrail verity status` lists what is open")
}
