//! `veritrail verity status`

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::report::write_json;
use crate::outcome::{Failure, Kind, Outcome};
use crate::scrub::report::Report;
use crate::scrub::store::Key;
use crate::served::control::{self, Answer, Question, State};
use crate::served::{Directory, Name, Status};

/// Tell about a served device, or all of them
///
/// veritysetup's lines, and behind them what it does not say: counts, the last violation, the server.
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
    #[arg(value_name = "name", value_parser = Name::parse)]
    name: Option<Name>,
    /// Print one JSON object for each device instead (not in veritysetup)
    #[arg(long)]
    json: bool,
    /// Look below this directory instead of /run/veritrail (not in veritysetup)
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Look for the last check here instead of in /var/lib/veritrail/scrub (not in veritysetup)
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// A device, and what the last check of all of it found.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    status: &'a Status,
    last_check: Option<Report>,
}

pub(super) fn run(args: &StatusArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let directory = Directory::locate(args.run_dir.as_deref())?;
    let names = match &args.name {
        Some(name) => vec![name.clone()],
        None => directory.names()?,
    };
    let mut outcome = Outcome::Good;
    for name in &names {
        match find(&directory, name)? {
            Some(status) => {
                if status.state == State::Dead {
                    outcome = Outcome::Absent;
                }
                let last_check =
                    Report::find(args.state_dir.as_deref(), &Key::served(&status.path));
                if args.json {
                    write_json(out, &Told { status: &status, last_check })?;
                } else {
                    write(out, &status)?;
                    let line = last_check.map_or_else(|| "never".into(), |report| report.line());
                    writeln!(out, "  last check:  {line}")?;
                }
            }
            None => {
                outcome = Outcome::Absent;
                if args.json {
                    write_json(
                        out,
                        &serde_json::json!({"name": name.as_str(), "state": "inactive"}),
                    )?;
                } else {
                    writeln!(out, "{} is inactive.", directory.device(name).display())?;
                }
            }
        }
    }
    Ok(outcome)
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
            status.state = State::Dead;
            status
                .ended
                .get_or_insert_with(|| "it was killed, with all that it had not recorded".into());
            status
        })),
    }
}

fn write(out: &mut dyn Write, status: &Status) -> io::Result<()> {
    let state = match status.state {
        State::Active => "active",
        State::Deferred => "active, and will be closed when its last user has gone",
        State::Dead => "inactive: its server has ended",
    };
    writeln!(out, "{} is {state}.", status.path)?;
    let verdict = if status.corrupted { "corrupted" } else { "verified" };
    let signed = if status.signed_by.is_some() { " (with signature)" } else { "" };
    writeln!(out, "  type:        VERITY")?;
    writeln!(out, "  status:      {verdict}{signed}")?;
    writeln!(out, "  hash type:   {}", status.hash_type)?;
    writeln!(out, "  data block:  {}", status.data_block_size)?;
    writeln!(out, "  hash block:  {}", status.hash_block_size)?;
    writeln!(out, "  hash name:   {}", status.algorithm)?;
    writeln!(out, "  salt:        {}", status.salt)?;
    writeln!(out, "  data device: {}", status.data_device)?;
    if let Some(backing) = &status.data_loop {
        writeln!(out, "  data loop:   {backing}")?;
    }
    writeln!(out, "  size:        {} sectors", status.size)?;
    writeln!(out, "  mode:        readonly")?;
    writeln!(out, "  hash device: {}", status.hash_device)?;
    if let Some(backing) = &status.hash_loop {
        writeln!(out, "  hash loop:   {backing}")?;
    }
    writeln!(out, "  hash offset: {} sectors", status.hash_offset)?;
    if let (Some(device), Some(offset), Some(roots)) =
        (&status.fec_device, status.fec_offset, status.fec_roots)
    {
        writeln!(out, "  FEC device:  {device}")?;
        if let Some(backing) = &status.fec_loop {
            writeln!(out, "  FEC loop:    {backing}")?;
        }
        writeln!(out, "  FEC offset:  {offset} sectors")?;
        writeln!(out, "  FEC roots:   {roots}")?;
    }
    writeln!(out, "  root hash:   {}", status.root_hash)?;
    if !status.flags.is_empty() {
        writeln!(out, "  flags:       {} ", status.flags.join(" "))?;
    }
    write_more(out, status)
}

/// What veritysetup does not say.
fn write_more(out: &mut dyn Write, status: &Status) -> io::Result<()> {
    let moment = |seconds: u64| {
        let time = i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok());
        time.map_or_else(|| seconds.to_string(), |time| time.to_string())
    };
    writeln!(out, "  backend:     {}", status.backend)?;
    if let Some(signer) = &status.signed_by {
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
