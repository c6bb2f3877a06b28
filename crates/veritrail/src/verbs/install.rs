//! `veritrail agent install|uninstall`: what belongs onto a machine beside the binary.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::trail::print_json;
use crate::install::{Item, Place, Step, items, plugin};
use crate::outcome::{Failure, Kind, Outcome};

/// Put the binary, its units, man pages, completions and settings onto this machine
///
/// Below PREFIX: bin, lib/systemd, lib/sysusers.d, lib/tmpfiles.d, share/man and the completions of bash, zsh and
/// fish; and /etc/veritrail with a sample configuration and sample rules, where there are none. What is there
/// already and the same stays untouched, settings that somebody changed are kept. On this machine the user
/// veritrail and the directories are made, and systemd is told; nothing is started:
/// `systemctl enable --now veritrail-agent.service` does that.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail agent install --dry-run
  sudo veritrail agent install && sudo systemctl enable --now veritrail-agent.service
  veritrail agent install --root ./image --prefix /usr")]
pub(crate) struct InstallArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Have auditd hand its events on, too: /etc/audit/plugins.d/veritrail.conf, for audit.input = "stdin".
    /// auditd starts the plugin when it is started next
    #[arg(long)]
    plugin: bool,
}

/// Take away what `agent install` has brought
///
/// Services are stopped first. Settings, state and the trail stay, and so does the user veritrail whose they are.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail agent uninstall --dry-run
  sudo veritrail agent uninstall
  sudo veritrail agent uninstall --purge        the trail, too")]
pub(crate) struct UninstallArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Take away settings, state and the trail too; nothing brings them back
    #[arg(long)]
    purge: bool,
}

#[derive(Debug, Args)]
struct PlaceArgs {
    /// Work in this directory as if it were the root of a machine; no user is made there and nothing is told
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Where programs and their data go, below the root
    #[arg(long, value_name = "DIR", default_value = "/usr/local")]
    prefix: PathBuf,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn install(args: &InstallArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let place = args.place.place()?;
    let mut items = args.place.items()?;
    if args.plugin {
        items.push(plugin(&args.place.prefix));
    }
    let steps = place.install(&items)?;
    args.place.print(&steps, out)
}

pub(crate) fn uninstall(args: &UninstallArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let place = args.place.place()?;
    let mut items = args.place.items()?;
    items.push(plugin(&args.place.prefix));
    let steps = place.uninstall(&items, args.purge)?;
    args.place.print(&steps, out)
}

impl PlaceArgs {
    fn place(&self) -> Result<Place, Failure> {
        let root = std::path::absolute(&self.root)
            .map_err(|error| crate::run_dir::cannot("find", &self.root, error))?;
        let climbs = |path: &Path| path.components().any(|part| part.as_os_str() == "..");
        if !self.prefix.is_absolute() || climbs(&self.prefix) {
            let what =
                format!("the prefix {} is not a path from the root on", self.prefix.display());
            return Err(Failure::new(Kind::Usage, what).hint("such as /usr/local"));
        }
        Ok(Place { root, prefix: self.prefix.clone(), dry_run: self.dry_run })
    }

    fn items(&self) -> Result<Vec<Item>, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(Kind::Io, "cannot find our own binary").because(error))?;
        items(&program, &self.prefix)
    }

    fn print(&self, steps: &[Step], out: &mut dyn Write) -> Result<Outcome, Failure> {
        /// What `--json` prints.
        #[derive(serde::Serialize)]
        struct Done<'s> {
            dry_run: bool,
            steps: &'s [Step],
        }
        if self.json {
            print_json(out, &Done { dry_run: self.dry_run, steps })?;
        } else {
            let would = if self.dry_run { "would have " } else { "" };
            for Step { did, what, why } in steps {
                let changes = !["unchanged", "kept", "left"].contains(did);
                let would = if changes { would } else { "" };
                match why {
                    Some(why) => writeln!(out, "{would}{did} {what} ({why})")?,
                    None => writeln!(out, "{would}{did} {what}")?,
                }
            }
        }
        let failed = steps.iter().any(|step| step.did == "failed");
        Ok(if failed { Outcome::No } else { Outcome::Good })
    }
}
