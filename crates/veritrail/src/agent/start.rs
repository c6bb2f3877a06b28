//! The agent's beginning and end.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use host::channel::Channel;
use host::sandbox::{self, Capabilities};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::checkpoints::Checkpoints;
use super::containers::Files;
use super::control;
use super::doorkeeper::Options;
use super::doorkeeper::wire::{Begin, FromAgent};
use super::events::{self, Events};
use super::explain::Explainers;
use super::home;
use super::inbox::Inbox;
use super::journal::Journal;
use super::link::{self, Link};
use super::listening::{Agent, Ended, Opened};
use super::reload::Configured;
use super::rules::Rules;
use super::sources::bpf::Listener;
use super::sources::{AuditInput, AuditSettings, Context, Name, Poll, Settings, Sources};
use super::status::{Board, Source, SourceState};
use crate::config::Config;
use crate::outcome::{Failure, Kind};

/// What an agent needs to begin; it gives up what is not in [`KEPT`] before the first record is read.
/// A full socket buffer is had with NET_ADMIN; AUDIT_WRITE is for checkpoints that go to audit.
pub(super) const RIGHTS: Capabilities =
    KEPT.union(Capabilities::NET_ADMIN).union(Capabilities::AUDIT_WRITE);

/// What it needs later on: audit's state, the log, the device mapper's ioctls; other processes' mounts
/// and the files behind them.
const KEPT: Capabilities = Capabilities::AUDIT_READ
    .union(Capabilities::AUDIT_CONTROL)
    .union(Capabilities::SYS_ADMIN)
    .union(Capabilities::SYS_PTRACE)
    .union(Capabilities::DAC_READ_SEARCH)
    .union(Capabilities::SYSLOG);

/// What is needed beside for a trail that is somebody else's: to send to its writer as that user.
pub(super) fn rights_of_owner(trail: &Path) -> Capabilities {
    if home::is_foreign(trail) {
        Capabilities::SETUID | Capabilities::SETGID
    } else {
        Capabilities::empty()
    }
}

/// Bytes that may wait for the decision loop.
const INBOX_BYTES: usize = 32 << 20;

/// How long the first record may take to become durable; ready is said within ten seconds.
const PROMPT: Duration = Duration::from_secs(8);

/// Listens until the doorkeeper says that it is enough, or is gone. Started by the doorkeeper only.
pub(crate) fn listen(options: Options) -> Result<(), Failure> {
    let (channel, mut begin, fds) = link::meet()?;
    let bpf = begin.bpf.take().map(|letter| letter.open(fds));
    // The program was started as /proc/self/exe, which tells nobody anything.
    let _ = rustix::thread::set_name(c"veritrail");
    // The terminal and the service manager send them to all processes at once; the doorkeeper says in
    // which order it goes.
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let managed = begin.managed;
    let mut again = again(&options.typed);
    let (ended, closed) = listen_until_told(options, channel, begin, bpf)?;
    if ended == Ended::Orphaned && !managed {
        if let Err(failure) = closed {
            failure.print(&mut std::io::stderr().lock());
        }
        // Nobody else does it.
        let what = "the doorkeeper is gone, and cannot be started again";
        return Err(Failure::new(Kind::Io, what).because(again.exec()));
    }
    closed
}

/// The command by which this process becomes a doorkeeper.
fn again(typed: &[OsString]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("veritrail").arg("agent-heir").args(typed);
    // What was said at the beginning was said to somebody who has gone.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn listen_until_told(
    options: Options,
    channel: Channel,
    begin: Begin,
    bpf: Option<Result<(Listener, String), String>>,
) -> Result<(Ended, Result<(), Failure>), Failure> {
    let Options { home, trail, config, config_path, overrides, .. } = options;
    let settings = Settings {
        sources: config.agent_sources(),
        audit: AuditSettings {
            input: config.audit_input(),
            node: config.audit_node().map(str::to_owned),
            mode: config.audit_mode(),
            limits: config.audit_limits(),
            buffer: config.audit_buffer(),
            directory: home.path().to_owned(),
        },
        poll: config.poll(),
    };
    let labels = bpf.as_ref().and_then(|bpf| bpf.as_ref().ok()).and_then(|(from, _)| from.labels());
    // Everything that takes rights comes before they are given up, and that before any thread.
    let sources = Sources::open(&settings, bpf);
    sources.check()?;
    let events_settings = config.events();
    let readers = events::group_of(&events_settings);
    give_up_rights(&trail, &config, begin.managed)?;

    let inbox = Arc::new(Inbox::new(INBOX_BYTES));
    let link = Link::start(channel, &inbox).map_err(|e| failed("start a thread", e))?;
    let board = Board::default();
    let context = Context {
        inbox: Arc::clone(&inbox),
        stop: Arc::new(AtomicBool::new(false)),
        counts: sources.report().iter().map(|(name, _)| (*name, Default::default())).collect(),
        poll: Poll::new(settings.poll),
        trail: trail.clone(),
        rest_per_second: config.rest_per_second(),
        served: home.served()?,
    };
    let configured = Configured::new(config.clone(), config_path, overrides, home.clone());
    let followed = trail.clone();
    let rules = Rules::new(&config);
    let places = config.container_places();
    let sends = config.has_audit_sink();
    let context_inbox = Arc::clone(&inbox);
    let journal = Journal::open(trail, config)?;
    let report = sources.report();
    // Who does not listen to audit has no business with its rules, nor with those of an agent that does.
    let hears_audit =
        |(name, source): &(Name, Source)| *name == Name::Audit && source.state != SourceState::Off;
    let rules = report.iter().any(hears_audit).then_some(rules);
    let sees_clock_calls = sources.see_clock_calls();
    let running = sources.start(&context).map_err(|e| failed("start a thread", e))?;
    let explainers = Explainers::start(&inbox).map_err(|e| failed("start a thread", e))?;
    let files = places.map(|places| Files::start(places, &inbox)).transpose();
    let files = files.map_err(|e| failed("start a thread", e))?;
    let opened = Opened { report, labels, files };
    let mut agent =
        Agent::new(home.clone(), journal, running, context, opened, board.clone(), explainers);
    agent.meet(link, &begin, configured);
    if let Some(rules) = rules {
        agent.govern(rules);
    }
    agent.sees_clock_calls(sees_clock_calls);
    let listener = home.listen()?;
    let (answering, asked) = (board.clone(), Arc::clone(&inbox));
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || control::answer_all(&listener, &answering, &asked))
        .map_err(|e| failed("start a thread", e))?;

    let events = match events_settings.enabled {
        true => Some(Events::start(home.run_dir(), &followed, events_settings, readers)?),
        false => None,
    };
    let checkpoints = match sends {
        true => Some(
            Checkpoints::start(&followed, &context_inbox)
                .map_err(|e| failed("start a thread", e))?,
        ),
        false => None,
    };
    agent.count_readers(events.as_ref().map(Events::meter));
    agent.begin(PROMPT)?;
    agent.say(&ready(&board, &begin.tree));
    let ended = agent.run();
    let socket = home.clear_socket();
    let closed = agent.end(ended);
    if let Some(events) = events {
        events.stop();
    }
    if let Some(checkpoints) = checkpoints {
        checkpoints.stop();
    }
    Ok((ended, closed.and(socket)))
}

/// Keeps what is used later on, of what the process has. One that may have to become the doorkeeper
/// uses no more, but can take back what that needs.
fn give_up_rights(trail: &Path, config: &Config, managed: bool) -> Result<(), Failure> {
    let mut kept = KEPT | rights_of_owner(trail);
    if config.has_audit_sink() {
        kept |= Capabilities::AUDIT_WRITE;
    }
    if config.audit_input() != AuditInput::Netlink {
        // auditd reads them.
        kept.remove(Capabilities::AUDIT_READ);
    }
    let given_up =
        if managed { sandbox::keep_capabilities(kept) } else { sandbox::use_capabilities(kept) };
    // Who is not root mounts by a program that takes root's rights, which a filter would not let it.
    let heir = !managed;
    let confined = if heir && !rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        sandbox::confine_agent(heir)
    };
    given_up.and(confined).map_err(|error| failed("give up rights", error))
}

/// What is said of the beginning, to people and to the service manager.
fn ready(board: &Board, tree: &Result<PathBuf, String>) -> FromAgent {
    let status = board.lock().clone();
    let mut lines = vec![format!("trail: {}", status.trail)];
    lines.push(match tree {
        Ok(tree) => format!("tree: {}", tree.display()),
        Err(why) => {
            format!("tree: missing: {why}; devices are in `veritrail agent status` only")
        }
    });
    for source in &status.sources {
        let mut line = format!("{}: {}: {}", source.name, source.state.word(), source.detail);
        if let Some(consequence) = &source.consequence {
            line.push_str(&format!("; {consequence}"));
        }
        lines.push(line);
    }
    let without: Vec<&str> = status
        .sources
        .iter()
        .filter(|source| source.state != SourceState::Listening)
        .map(|source| source.name.as_str())
        .collect();
    let degraded = if without.is_empty() {
        String::new()
    } else {
        format!(", without {}", without.join(", "))
    };
    lines.push(format!("ready{degraded}"));
    FromAgent::Ready { lines, status: format!("listening{degraded}") }
}

fn failed(what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    Failure::new(Kind::Io, format!("cannot {what}")).because(error)
}
