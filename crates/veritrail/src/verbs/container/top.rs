//! `veritrail container top`: the containers that live, by what they do now.

mod rows;
mod screen;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::rows::{Frame, Sort};
use self::screen::Screen;
use super::super::trail::print_json;
use crate::agent::{self, Home, Status};
use crate::clock;
use crate::outcome::{Failure, Kind, Outcome};

/// Show what containers do, and bring it up to date
///
/// Events a second, violations, refused sets, processes, what a quota held back and bytes in the trail of each
/// container that lives, the busiest first. The figures are the agent's, counted since it was started; those of a
/// second are of the last interval.
///
/// On a terminal the list is drawn anew in each interval: q, or Ctrl-C, ends it. Elsewhere each interval is
/// printed behind the one before, the first at its end. Exit status 3: there is no agent.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail container top
  veritrail container top --sort bytes --interval 5
  veritrail container top -n 1 | head -5
  veritrail container top --json -n 1 | jq '.containers[] | select(.violations > 0) | .contid'")]
pub(crate) struct TopArgs {
    /// Between two looks, in seconds: 0.1 to 3600
    #[arg(short, long, value_name = "SECONDS", default_value = "2", value_parser = interval)]
    interval: Duration,
    /// End after so many
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// By what they are ordered, the most first
    #[arg(long, value_enum, value_name = "BY", default_value = "events")]
    sort: Sort,
    /// Print one JSON object for each interval
    #[arg(long)]
    json: bool,
    /// Ask the agent of this run directory instead of /run/veritrail
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is a number of seconds".to_owned())?;
    let interval = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    match (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&interval) {
        true => Ok(interval),
        false => Err("it is 0.1 to 3600 seconds".to_owned()),
    }
}

/// Somebody who wants the end is not kept waiting longer.
const SLICE: Duration = Duration::from_millis(100);

impl TopArgs {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Outcome, Failure> {
        let home = Home::locate(self.run_dir.as_deref())?;
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        let mut before = (Instant::now(), look(&home)?);
        let is_drawn = !self.json && io::stdout().is_terminal();
        let mut screen = is_drawn.then(Screen::open).transpose()?;
        if let Some(screen) = &screen {
            // Without figures of a second, but at once.
            let frame = Frame::new(None, &before.1, Duration::ZERO, self.sort);
            screen.draw(&frame, out)?;
        }
        let mut left = self.count;
        while left != Some(0) {
            if self.is_enough(&stop, screen.as_mut()) {
                break;
            }
            let now = (Instant::now(), look(&home)?);
            let frame = Frame::new(Some(&before.1), &now.1, now.0 - before.0, self.sort);
            match &screen {
                Some(screen) => screen.draw(&frame, out)?,
                None if self.json => {
                    print_json(out, &frame.told(clock::now().realtime_ns))?;
                    out.flush()?;
                }
                None => {
                    frame.print(out)?;
                    writeln!(out)?;
                    out.flush()?;
                }
            }
            before = now;
            left = left.map(|left| left - 1);
        }
        Ok(Outcome::Good)
    }

    /// Waits for the end of the interval. True where somebody wants no more.
    fn is_enough(&self, stop: &AtomicBool, mut screen: Option<&mut Screen>) -> bool {
        let until = Instant::now() + self.interval;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if stop.load(Ordering::Relaxed) {
                return true;
            }
            if left.is_zero() {
                return false;
            }
            let slice = left.min(SLICE);
            match &mut screen {
                Some(screen) => {
                    if screen.wants_end(slice) {
                        return true;
                    }
                }
                None => std::thread::sleep(slice),
            }
        }
    }
}

fn look(home: &Home) -> Result<Status, Failure> {
    agent::ask(home)?.ok_or_else(|| {
        let what = format!("there is no agent in {}", home.run_dir().display());
        Failure::new(Kind::Environment, what).hint("start one: veritrail agent run")
    })
}
