//! The agent's beginning and end.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use host::mount::{Detach, MountError};
use host::sandbox::{Capabilities, keep_capabilities};
use host::{fuse_tree, mount, mountinfo, notify};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::events::Events;
use super::explain::Explainers;
use super::home::{self, Home};
use super::inbox::Inbox;
use super::journal::Journal;
use super::listening::Agent;
use super::sources::{Context, Input, Settings, Sources};
use super::status::{self, Board, SourceState};
use super::tree::Names;
use crate::config::Config;
use crate::outcome::{Failure, Kind};
use crate::run_dir::cannot;

/// How an agent is run.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) home: Home,
    pub(crate) trail: PathBuf,
    /// Where the tree is mounted; none: at its usual place.
    pub(crate) tree: Option<PathBuf>,
    pub(crate) config: Config,
}

/// Runs until SIGTERM or SIGINT, and says in `out` what is listened to.
pub(crate) fn run(options: Options, out: &mut dyn Write) -> Result<(), Failure> {
    let Options { home, trail, tree, config } = options;
    let lock = home.claim()?;
    Journal::make(&trail)?;
    let settings = Settings {
        sources: config.agent_sources(),
        audit_buffer: config.audit_buffer(),
        poll: config.poll(),
    };
    // Everything that takes rights comes before they are given up, and that before any thread.
    let sources = Sources::open(&settings);
    sources.check()?;
    let point = tree.unwrap_or_else(|| home.tree());
    let mounted = attach(&point);
    let mut tree = Tree { point, session: None };
    give_up_rights(&trail)?;

    let inbox = Arc::new(Inbox::new(INBOX_BYTES));
    watch_signals(&inbox)?;
    let board = Board::default();
    let names = Names::default();
    let serving = mounted.and_then(|connection| tree.serve(connection, names.clone()));
    let followed = trail.clone();
    let context = Context {
        inbox: Arc::clone(&inbox),
        stop: Arc::new(AtomicBool::new(false)),
        counts: sources.report().iter().map(|(name, _)| (*name, Default::default())).collect(),
        poll: settings.poll,
        trail: trail.clone(),
        served: home.served()?,
    };
    let events_settings = config.events();
    let journal = Journal::open(trail, config)?;
    let report = sources.report();
    let running = sources.start(&context).map_err(|e| failed("start a thread", e))?;
    let tree_at = serving.is_ok().then(|| tree.point.clone());
    let explainers = Explainers::start(&inbox).map_err(|e| failed("start a thread", e))?;
    let mut agent =
        Agent::new(home.clone(), journal, running, context, report, board.clone(), explainers);
    agent.show(names, tree_at.as_deref());
    let listener = home.listen()?;
    let answering = board.clone();
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || status::answer_all(&listener, &answering))
        .map_err(|e| failed("start a thread", e))?;

    let events = match events_settings.enabled {
        true => Some(Events::start(home.run_dir(), &followed, events_settings)?),
        false => None,
    };
    agent.count_readers(events.as_ref().map(Events::meter));
    agent.begin(PROMPT)?;
    let told = say_ready(&board, serving.as_ref().err(), out);
    let ended = told.and_then(|()| agent.run());
    // It may be that nobody is told.
    let _ = notify::stopping();
    let unmounted = tree.unmount();
    let socket = home.clear_socket();
    let closed = agent.end();
    if let Some(events) = events {
        events.stop();
    }
    drop(lock);
    ended.and(closed).and(unmounted).and(socket)
}

/// Bytes that may wait for the decision loop.
const INBOX_BYTES: usize = 32 << 20;

/// How long the first record may take to become durable; ready is said within ten seconds.
const PROMPT: Duration = Duration::from_secs(8);

/// Keeps what is used later on, of what the process has.
fn give_up_rights(trail: &Path) -> Result<(), Failure> {
    // Audit's state, the log, the device mapper's ioctls and the tree's end; other processes' mounts and
    // the files behind them.
    let mut keep = Capabilities::AUDIT_READ
        | Capabilities::AUDIT_CONTROL
        | Capabilities::SYS_ADMIN
        | Capabilities::SYS_PTRACE
        | Capabilities::DAC_READ_SEARCH
        | Capabilities::SYSLOG;
    if home::is_foreign(trail) {
        keep |= Capabilities::SETUID | Capabilities::SETGID;
    }
    keep_capabilities(keep).map_err(|error| failed("give up rights", error))
}

fn watch_signals(inbox: &Arc<Inbox<Input>>) -> Result<(), Failure> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| failed("watch for signals", error))?;
    let inbox = Arc::clone(inbox);
    let watch = move || {
        for signal in signals.forever() {
            if signal != SIGHUP {
                inbox.put(Input::Stop);
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(watch)
        .map(drop)
        .map_err(|error| failed("watch for signals", error))
}

/// Says on `out` and to the service manager that the agent works, and what it works without.
fn say_ready(board: &Board, no_tree: Option<&Failure>, out: &mut dyn Write) -> Result<(), Failure> {
    let status = board.lock().clone();
    writeln!(out, "trail: {}", status.trail)?;
    match (&status.tree, no_tree) {
        (Some(tree), _) => writeln!(out, "tree: {tree}")?,
        (None, Some(why)) => {
            writeln!(out, "tree: missing: {why}; devices are in `veritrail agent status` only")?
        }
        (None, None) => {}
    }
    for source in &status.sources {
        write!(out, "{}: {}: {}", source.name, source.state.word(), source.detail)?;
        match &source.consequence {
            Some(consequence) => writeln!(out, "; {consequence}")?,
            None => writeln!(out)?,
        }
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
    writeln!(out, "ready{degraded}")?;
    out.flush()?;
    // A manager that cannot be told sees the process.
    let _ = notify::status(&format!("listening{degraded}"));
    let _ = notify::ready();
    Ok(())
}

/// The mounted tree. Dropped, it is unmounted.
struct Tree {
    point: PathBuf,
    session: Option<fuse_tree::Session>,
}

impl Tree {
    fn serve(&mut self, connection: OwnedFd, names: Names) -> Result<(), Failure> {
        let session = fuse_tree::serve(connection, names);
        self.session = Some(session.map_err(|error| failed("serve the tree", error))?);
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), Failure> {
        let Some(session) = self.session.take() else { return Ok(()) };
        match mount::detach(&self.point, Detach::Lazy) {
            // Somebody else did it.
            Ok(()) | Err(MountError::NotMounted(_)) => {}
            Err(error) => {
                let what = format!("cannot unmount {}", self.point.display());
                return Err(Failure::new(Kind::Io, what).because(error));
            }
        }
        let until = Instant::now() + Duration::from_secs(2);
        // Whoever stands in it keeps the connection; it ends with this process.
        while !session.has_ended() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // Whoever wants to know calls `unmount`.
        let _ = self.unmount();
    }
}

/// Mounts the tree, in the place of one that a killed agent has left.
fn attach(point: &Path) -> Result<OwnedFd, Failure> {
    let lacks = |error: MountError| {
        let remedy = error.remedy();
        let failure = Failure::new(Kind::Environment, "it cannot be mounted").because(error);
        match remedy {
            Some(remedy) => failure.hint(remedy),
            None => failure,
        }
    };
    if is_left_over(point).map_err(|error| cannot("look at", point, error))? {
        mount::detach(point, Detach::Lazy).map_err(lacks)?;
    }
    let made = DirBuilder::new().recursive(true).mode(0o755).create(point);
    made.map_err(|error| cannot("make", point, error))?;
    mount::attach_tree(point, mount::Options::default()).map_err(lacks)
}

/// Whether a mount of ours stands there whose server is gone.
fn is_left_over(point: &Path) -> io::Result<bool> {
    let text = mountinfo::read()?;
    let ours = mountinfo::entries(&text)
        .any(|entry| entry.path() == point && entry.fs_type == b"fuse.veritrail");
    let answer = fs::symlink_metadata(point).err().and_then(|error| error.raw_os_error());
    Ok(ours && answer == Some(rustix::io::Errno::NOTCONN.raw_os_error()))
}

fn failed(what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    Failure::new(Kind::Io, format!("cannot {what}")).because(error)
}
