//! `veritrail verity status`

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::report::write_json;
use crate::mapped::{self, Mapped};
use crate::outcome::{Failure, Kind, Outcome};
use crate::scrub::report::Report;
use crate::scrub::store::Key;
use crate::served::control::{self, Answer, Question, State};
use crate::served::{Directory, Name, Status};

/// Tell about an open device, or all of them
///
/// veritysetup's lines, and behind them what it does not say: counts, the last violation, the server. Served
/// devices are looked for first, then those of the kernel's dm-verity, by whomever they were opened.
/// Exits 1 when the device is not active.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:
  veritrail verity status root
  veritrail verity status --json",
    disable_help_flag = true,
    args_override_self = true
)]
pub(crate) struct StatusArgs {
    /// Name of the device; all of them if nothing is said
    #[arg(value_name = "name")]
    name: Option<String>,
    /// Print one JSON object for each device instead (not in veritysetup)
    #[arg(long)]
    json: bool,
    /// Look below this directory instead of /run/veritrail, and not at the kernel's devices (not in
    /// veritysetup)
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Look for the last check here instead of in /var/lib/veritrail/scrub (not in veritysetup)
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// A device, and what the last check of all of it found.
#[derive(Serialize)]
struct Told<'a, D> {
    #[serde(flatten)]
    device: &'a D,
    last_check: Option<Report>,
}

/// A device that is open, and who verifies it.
enum Open {
    Served(Box<Status>),
    Mapped(Box<Mapped>),
}

pub(super) fn run(args: &StatusArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let directory = Directory::locate(args.run_dir.as_deref())?;
    let with_mapped = args.run_dir.is_none();
    match &args.name {
        Some(name) => match look(&directory, name, with_mapped)? {
            Some(open) => write_open(args, &open, out),
            None => write_inactive(args, &directory, name, out),
        },
        None => {
            let mut outcome = Outcome::Good;
            let mut write = |found: Outcome| {
                if found != Outcome::Good {
                    outcome = found;
                }
            };
            for name in &directory.names()? {
                write(match find(&directory, name)? {
                    Some(status) => write_open(args, &Open::Served(Box::new(status)), out)?,
                    None => write_inactive(args, &directory, name.as_str(), out)?,
                });
            }
            for mapped in if with_mapped { mapped::all()? } else { Vec::new() } {
                write(write_open(args, &Open::Mapped(Box::new(mapped)), out)?);
            }
            Ok(outcome)
        }
    }
}

/// The served device of this name, else the kernel's.
fn look(directory: &Directory, name: &str, with_mapped: bool) -> Result<Option<Open>, Failure> {
    if let Ok(name) = Name::parse(name)
        && let Some(status) = find(directory, &name)?
    {
        return Ok(Some(Open::Served(Box::new(status))));
    }
    if !with_mapped {
        return Ok(None);
    }
    Ok(mapped::find(name)?.map(|mapped| Open::Mapped(Box::new(mapped))))
}

fn write_open(args: &StatusArgs, open: &Open, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let (key, state) = match open {
        Open::Served(status) => (Key::served(&status.facts.path), status.facts.state),
        Open::Mapped(mapped) => {
            (Key::new("kernel", mapped.facts.name.as_bytes()), mapped.facts.state)
        }
    };
    let last_check = Report::find(args.state_dir.as_deref(), &key);
    if args.json {
        match open {
            Open::Served(device) => write_json(out, &Told { device, last_check })?,
            Open::Mapped(device) => write_json(out, &Told { device, last_check })?,
        }
    } else {
        match open {
            Open::Served(status) => write(out, status)?,
            Open::Mapped(mapped) => write_mapped(out, mapped)?,
        }
        let line = last_check.map_or_else(|| "never".into(), |report| report.line());
        writeln!(out, "  last check:  {line}")?;
    }
    Ok(if state == State::Dead { Outcome::Absent } else { Outcome::Good })
}

fn write_inactive(
    args: &StatusArgs,
    directory: &Directory,
    name: &str,
    out: &mut dyn Write,
) -> Result<Outcome, Failure> {
    if args.json {
        write_json(out, &serde_json::json!({"name": name, "state": "inactive"}))?;
    } else {
        writeln!(out, "{} is inactive.", directory.path().join(name).display())?;
    }
    Ok(Outcome::Absent)
}

/// How a device is; none if nobody has opened it. One whose server is gone is dead.
pub(crate) fn find(directory: &Directory, name: &Name) -> Result<Option<Status>, Failure> {
    let failed = |error: io::Error| {
        let what = format!("cannot ask the server of {}", name.as_str());
        Failure::new(Kind::Io, what).because(error)
    };
    match control::ask(directory, name, Question::Status).map_err(failed)? {
        Some(Answer::Status(status)) => Ok(Some(*status)),
        Some(_) => Err(failed(io::ErrorKind::InvalidData.into())),
        None => Ok(directory.left(name).map(|mut status| {
            status.facts.state = State::Dead;
            status
                .ended
                .get_or_insert_with(|| "it was killed, with all that it had not recorded".into());
            status
        })),
    }
}

fn write(out: &mut dyn Write, status: &Status) -> io::Result<()> {
    let state = match status.facts.state {
        State::Active => "active",
        State::Deferred => "active, and will be closed when its last user has gone",
        State::Dead => "inactive: its server has ended",
    };
    status.facts.write(out, state)?;
    write_more(out, status)
}

fn write_mapped(out: &mut dyn Write, mapped: &Mapped) -> io::Result<()> {
    let used = if mapped.open_count > 0 { "active and is in use" } else { "active" };
    let state = match mapped.facts.state {
        State::Deferred => format!("{used}, and will be closed when its last user has gone"),
        State::Active | State::Dead => used.to_owned(),
    };
    mapped.facts.write(out, &state)?;
    writeln!(out, "  backend:     {}", mapped.facts.backend)?;
    if let Some(key) = &mapped.facts.signature_key {
        writeln!(out, "  signed by:   the kernel has judged the key {key}")?;
    }
    writeln!(out, "  device:      {} {}", mapped.device, mapped.uuid)?;
    if mapped.suspended {
        writeln!(out, "               suspended: its readers wait")?;
    }
    if !mapped.other_options.is_empty() {
        writeln!(
            out,
            "  options:     {}, unknown to this program",
            mapped.other_options.join(" ")
        )?;
    }
    Ok(())
}

/// What veritysetup does not say.
fn write_more(out: &mut dyn Write, status: &Status) -> io::Result<()> {
    let moment = |seconds: u64| {
        let time = i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok());
        time.map_or_else(|| seconds.to_string(), |time| time.to_string())
    };
    writeln!(out, "  backend:     {}", status.facts.backend)?;
    if let Some(signer) = &status.facts.signed_by {
        writeln!(out, "  signed by:   {signer}")?;
    }
    writeln!(out, "  trail:       {}", status.trail)?;
    if status.lost_events > 0 {
        writeln!(
            out,
            "               cannot be written: {} events are lost at most",
            status.lost_events
        )?;
    }
    match &status.ended {
        None => writeln!(out, "  server:      process {}", status.pid)?,
        Some(why) => writeln!(out, "  server:      {why}")?,
    }
    writeln!(out, "  opened:      {}", moment(status.opened))?;
    if let Some(counts) = &status.counts {
        writeln!(
            out,
            "  reads:       {}, {} violations, {} blocks corrected, {} I/O errors",
            counts.reads, counts.violations, counts.corrected, counts.io_errors
        )?;
    }
    if let Some(last) = &status.last_violation {
        writeln!(out, "  last:        {} {}", moment(last.time), last.event)?;
        writeln!(out, "               {}", last.reader)?;
    }
    Ok(())
}
