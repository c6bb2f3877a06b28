//! `veritrail agent`: listen to the kernel, and say how that goes.

mod events;
mod plugin;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::forward::{self, ForwardArgs};
use super::install::{self, InstallArgs, UninstallArgs};
use super::metrics::{self, MetricsArgs};
use super::trail::print_json;
use crate::agent::{
    self, AuditInput, AuditMode, Device, Forward, Home, Options, OverQuota, SourceState, Status,
    Writer,
};
use crate::config::{self, Config, Overrides};
use crate::outcome::{Failure, Kind, Outcome};

/// The verbs of `veritrail agent`.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Run(RunArgs),
    Status(StatusArgs),
    CheckConfig(CheckArgs),
    Events(events::EventsArgs),
    Plugin(plugin::PluginArgs),
    Install(InstallArgs),
    Uninstall(UninstallArgs),
    Metrics(MetricsArgs),
    Forward(ForwardArgs),
}

/// Listen to the kernel in the foreground, for a service manager
///
/// Writes every audit record into the trail as it comes, and beside those of verity, integrity and crypt
/// devices what they mean: the device by name, the bytes, the file and its mounts. Listens to audit (beside
/// auditd, by multicast), device events, the kernel log and the device mapper; a source that cannot be had is
/// named, with what is not known without it, and the others do. Nothing is lost in silence: what is, becomes a
/// VT_GAP record.
///
/// Prints what it listens to and then `ready`, and tells the service manager (READY=1, STATUS=, STOPPING=1; see
/// sd_notify(3)). SIGTERM and SIGINT end it: what has come is written, the tree unmounted, the trail closed.
/// Exit status 3: there is nothing to listen to.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail agent run
  veritrail agent run --trail ./trail --run-dir ./run
  systemctl enable --now veritrail-agent.service
  cat /run/veritrail/fs/devices/root.status | jq .violations")]
pub(crate) struct RunArgs {
    /// Write here instead of /var/log/veritrail; made if it is not there
    #[arg(long, value_name = "DIR")]
    trail: Option<PathBuf>,
    /// Mount the tree of devices here instead of at `fs` in the run directory
    #[arg(long, value_name = "DIR")]
    mount: Option<PathBuf>,
    /// Read this configuration instead of /etc/veritrail/veritrail.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Be the audit daemon or read beside it (audit.mode): auto, coexist or own
    #[arg(long, value_name = "MODE", long_help = AUDIT_MODE_HELP, hide_possible_values = true)]
    audit_mode: Option<AuditMode>,
    /// Where audit's records come from (audit.input): netlink, unix:PATH or stdin
    #[arg(long, value_name = "INPUT", long_help = AUDIT_INPUT_HELP)]
    audit_input: Option<AuditInput>,
    /// Be the agent of this run directory instead of /run/veritrail
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

const AUDIT_MODE_HELP: &str = "\
Be the audit daemon or read beside it, instead of what the configuration says (audit.mode).

coexist  read by multicast, and change nothing
own      be the audit daemon: the kernel waits for the agent rather than lose a record, and prints none to the
         console; auditing is switched on and the backlog limit raised, and put back at the end. An auditd that
         is started then fails once (`there is an audit daemon`); the agent makes room for it, reads on by
         multicast, and the next start succeeds. It takes the place again a minute after auditd has gone
auto     coexist where an audit daemon is registered, or installed: auditd's program (/usr/sbin/auditd, /sbin,
         /usr/local/sbin, /usr/bin) can be run or its unit auditd.service is there, and the unit is not masked.
         Else own, until a daemon comes; then coexist for good. This is the default";

const AUDIT_INPUT_HELP: &str = "\
Where audit's records come from, instead of what the configuration says (audit.input).

netlink    the kernel. This is the default
unix:PATH  auditd's af_unix plugin, whose socket that is (plugins.d/af_unix.conf), format string or binary
stdin      auditd, which starts `veritrail agent plugin` with events on its standard input
           (`agent install --plugin` writes plugins.d/veritrail.conf)

With unix: and stdin the agent asks the kernel for no records and is never the audit daemon. What auditd does not
hand on, because nobody was connected or its own queue was full, becomes a VT_GAP by the kernel's numbers.";

/// Say what the agent listens to, what it has lost, and how the devices are
///
/// Exit status 1 where there is no agent.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail agent status
  veritrail agent status --json | jq '.devices[] | select(.violations > 0)'")]
pub(crate) struct StatusArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Ask the agent of this run directory instead of /run/veritrail
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

/// Say all that is wrong with a configuration: file, line and key
///
/// Each mistake is one line, FILE:LINE: KEY: WHAT. Exit status 5 where there is one, 0 where there is none; a
/// file that is not there is right, since everything works without one, unless it is named.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail agent check-config
  veritrail agent check-config ./veritrail.toml && systemctl reload veritrail-agent.service
  veritrail agent check-config --json | jq '.mistakes[].line'")]
pub(crate) struct CheckArgs {
    /// Check this file instead of /etc/veritrail/veritrail.toml
    #[arg(value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Verb {
    /// Does it.
    pub(crate) fn run(&self, typed: &[OsString], out: &mut dyn Write) -> Result<Outcome, Failure> {
        match self {
            Verb::Run(args) => {
                // Behind `veritrail agent run`.
                let options = args.options(typed.get(3..).unwrap_or_default())?;
                agent::run(options, out).map(|()| Outcome::Good)
            }
            Verb::Status(args) => status(args, out),
            Verb::CheckConfig(args) => check_config(args, out),
            Verb::Events(args) => events::run(args, out),
            Verb::Plugin(args) => plugin::run(args),
            Verb::Install(args) => install::install(args, out),
            Verb::Uninstall(args) => install::uninstall(args, out),
            Verb::Metrics(args) => metrics::run(args, out),
            Verb::Forward(args) => forward::run(args, out),
        }
    }
}

impl RunArgs {
    /// What they mean. `typed` are they themselves: the processes that the first one starts get the same.
    fn options(&self, typed: &[OsString]) -> Result<Options, Failure> {
        self.with(typed, Home::locate(self.run_dir.as_deref())?, self.config.as_deref())
    }

    /// The same for a process of a service that runs: the configuration is the one that it uses.
    pub(crate) fn of_service(&self, typed: &[OsString]) -> Result<Options, Failure> {
        let home = Home::locate(self.run_dir.as_deref())?;
        let config = home.config();
        self.with(typed, home, Some(&config))
    }

    fn with(
        &self,
        typed: &[OsString],
        home: Home,
        config: Option<&Path>,
    ) -> Result<Options, Failure> {
        let overrides =
            Overrides { audit_mode: self.audit_mode, audit_input: self.audit_input.clone() };
        let mut config = Config::load(config)?;
        config.apply(&overrides);
        let trail = match &self.trail {
            Some(trail) => trail.clone(),
            None => config::default_trail()?,
        };
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).map_err(|error| crate::run_dir::cannot("find", path, error))
        };
        Ok(Options {
            home,
            trail: absolute(&trail)?,
            tree: self.mount.as_ref().map(absolute).transpose()?,
            config,
            config_path: self.config.clone(),
            overrides,
            typed: typed.to_vec(),
        })
    }
}

fn status(args: &StatusArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let home = Home::locate(args.run_dir.as_deref())?;
    let status = agent::ask(&home)?;
    if args.json {
        print_json(out, &status)?;
    } else {
        match &status {
            Some(status) => print(status, out)?,
            None => writeln!(out, "no agent in {}", home.path().display())?,
        }
    }
    Ok(if status.is_some() { Outcome::Good } else { Outcome::Absent })
}

fn check_config(args: &CheckArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    /// What `--json` prints.
    #[derive(serde::Serialize)]
    struct Checked {
        file: String,
        mistakes: Vec<config::Mistake>,
    }
    let named = args.config.as_deref();
    let path = named.unwrap_or(Path::new(config::PATH));
    let file = path.display().to_string();
    let mistakes = Config::look(named)?.err().map(|(_, mistakes)| mistakes).unwrap_or_default();
    let good = mistakes.is_empty();
    if args.json {
        print_json(out, &Checked { file, mistakes })?;
    } else if good {
        let there = if path.exists() { "" } else { " is not there, which" };
        writeln!(out, "{file}{there} is right")?;
    } else {
        for mistake in &mistakes {
            writeln!(out, "{file}:{mistake}")?;
        }
    }
    if good { Ok(Outcome::Good) } else { Err(Failure::printed(Kind::Unusable)) }
}

/// Containers over their quota that are told of one by one.
const MOST_HELD_BACK: usize = 16;

fn print(status: &Status, out: &mut dyn Write) -> Result<(), Failure> {
    let again = |restarts: u64| match restarts {
        0 => String::new(),
        1 => ", started again once".into(),
        times => format!(", started again {times} times"),
    };
    writeln!(out, "agent:      process {}{}", status.pid, again(status.restarts))?;
    writeln!(out, "doorkeeper: process {}", status.doorkeeper)?;
    let Writer { pid, restarts, silent } = status.writer;
    let silence = if silent { ", which does not answer" } else { "" };
    writeln!(out, "writer:     process {pid}{}{silence}", again(restarts))?;
    let works = if status.trail_works { "" } else { ", which cannot be written" };
    writeln!(out, "trail:      {}{works}", status.trail)?;
    writeln!(
        out,
        "            {} entries handed in, {} lost at most and not told of yet",
        status.entries, status.lost_entries
    )?;
    writeln!(out, "tree:       {}", status.tree.as_deref().unwrap_or("none"))?;
    for source in &status.sources {
        let label = format!("{}:", source.name);
        writeln!(out, "{label:<12}{}: {}", source.state.word(), source.detail)?;
        if source.state != SourceState::Off {
            writeln!(
                out,
                "            {} messages, {} events, {} lost",
                source.messages, source.events, source.lost
            )?;
        }
        if source.name == "audit" && !status.audit.why.is_empty() {
            for line in status.audit.lines() {
                writeln!(out, "            {line}")?;
            }
        }
        if let Some(consequence) = &source.consequence {
            writeln!(out, "            {consequence}")?;
        }
    }
    let inbox = &status.inbox;
    writeln!(
        out,
        "queue:      {} of {} bytes at most; lost {} integrity, {} keyed, {} rest",
        inbox.high_water, inbox.capacity, inbox.lost_integrity, inbox.lost_keyed, inbox.lost_rest
    )?;
    writeln!(
        out,
        "kernel:     {} of {} audit records waited at most; {} events over a quota",
        status.audit.backlog_high_water, status.audit.backlog_limit, status.over_quota
    )?;
    if let Some(events) = &status.events {
        writeln!(
            out,
            "readers:    {} of events.sock now, {} ever; {} refused, {} that took nothing cut off",
            events.readers, events.served, events.refused, events.cut
        )?;
    }
    let containers = &status.containers;
    let held_back = containers.iter().filter(|one| one.over_quota.events() > 0);
    if !containers.is_empty() {
        let events: u64 = containers.iter().map(|one| one.events).sum();
        let over = held_back.clone().count();
        let living = containers.len();
        writeln!(out, "containers: {living} live, {events} events; {over} over their quota")?;
    }
    for one in held_back.take(MOST_HELD_BACK) {
        let OverQuota { keyed, rest, bytes } = one.over_quota;
        writeln!(
            out,
            "            {}: {keyed} keyed and {rest} other events of {bytes} bytes were not kept",
            one.contid
        )?;
    }
    writeln!(out, "own:        {} events of our own calls were not kept", status.own_events)?;
    if let Some(rules) = &status.rules {
        writeln!(
            out,
            "rules:      {} in the kernel under the key {}, {} evaluated here, {} refused",
            rules.in_kernel, rules.key, rules.in_engine, rules.refused
        )?;
        if let Some(refusal) = &rules.first_refusal {
            writeln!(out, "            refused: {refusal}")?;
        }
        if rules.in_engine > 0 {
            writeln!(
                out,
                "            {} events dropped by them, {} kept in doubt",
                rules.dropped, rules.undecided
            )?;
        }
    }
    let over = &status.passed_over;
    writeln!(
        out,
        "ignored:    {} log lines by processes, {} unreadable ones, {} unknown records",
        over.foreign_lines, over.unreadable_lines, over.unknown_records
    )?;
    if let Some(forward) = &status.forward {
        let Forward { server, state, reason, confirmed, lag_leaves, lag_seconds, .. } = forward;
        writeln!(out, "forward:    {state} to {server}; {confirmed} leaves have arrived")?;
        writeln!(out, "            {lag_leaves} wait, the oldest for {lag_seconds} seconds")?;
        if let Some(reason) = reason {
            writeln!(out, "            {reason}")?;
        }
    }
    writeln!(out, "violations: {}", status.violations)?;
    for device in &status.devices {
        let Device { name, device, module, state, violations, last_violation, last_file } = device;
        let number = device.as_deref().unwrap_or("-");
        writeln!(out, "device:     {name} ({module}, {number}): {state}, {violations} violations")?;
        if let Some(last) = last_violation {
            writeln!(out, "            last: {last}")?;
        }
        if let Some(file) = last_file {
            writeln!(out, "            file: {file}")?;
        }
    }
    Ok(())
}
