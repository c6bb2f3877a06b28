//! `veritrail container list`: the containers that live.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::super::trail::print_json;
use crate::agent::{self, Container, Home};
use crate::outcome::{Failure, Kind, Outcome};

/// List the containers that live
///
/// The identifier, how many processes it has, since when, what it is called, and by whom it was set. Exit
/// status 1 where there is none.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail container list
  veritrail container list --json | jq '.[] | select(.description.image == \"web\") | .contid'")]
pub(crate) struct ListArgs {
    /// Print one JSON array
    #[arg(long)]
    json: bool,
    /// Ask the agent of this run directory instead of /run/veritrail
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

impl ListArgs {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Outcome, Failure> {
        let home = Home::locate(self.run_dir.as_deref())?;
        let Some(status) = agent::ask(&home)? else {
            let what = format!("there is no agent in {}", home.run_dir().display());
            return Err(
                Failure::new(Kind::Environment, what).hint("start one: veritrail agent run")
            );
        };
        let containers = status.containers;
        if self.json {
            print_json(out, &containers)?;
        } else {
            print(&containers, out)?;
        }
        Ok(if containers.is_empty() { Outcome::No } else { Outcome::Good })
    }
}

fn print(containers: &[Container], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{:<20} {:>9}  {:<20}  {:<24}  BY", "CONTID", "PROCESSES", "SINCE", "NAME")?;
    for container in containers {
        let since = jiff::Timestamp::from_second(i64::try_from(container.since).unwrap_or(0))
            .map_or_else(|_| "?".to_owned(), |time| time.to_string());
        let description = &container.description;
        let name = [&description.name, &description.id, &description.image];
        let name = name.into_iter().flatten().next().map_or("-", String::as_str);
        let by = match (&description.runtime, &container.registrar) {
            (Some(runtime), _) => runtime.clone(),
            (None, Some(by)) => format!("{} ({})", by.comm, by.pid),
            (None, None) => "?".to_owned(),
        };
        let (id, processes) = (container.contid, container.processes);
        writeln!(out, "{id:<20} {processes:>9}  {since:<20}  {:<24}  {}", shown(name), shown(&by))?;
    }
    Ok(())
}

/// Nobody's name reaches the terminal's controls.
fn shown(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}
