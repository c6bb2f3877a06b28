//! The doorkeeper: the process that `veritrail agent run` is. It is small, and owns what must not go
//! when the agent does: the right to be the agent of the run directory, and the tree's mount.
//!
//! ```text
//!  doorkeeper  lock, tree ◀── what it shows ──┐             this folder
//!    ├── agent    sources, decisions ─────────┘             ../start.rs  ../link.rs
//!    └── writer   signing key, trail.sock ◀── records       ../writer.rs
//! ```
//!
//! It starts the others, starts one again that ends, and ends them in order: first the agent, which
//! writes down what it has heard, then the writer, which signs it. It reads nothing but what those two
//! say (wire.rs).

mod child;
mod requests;
mod tree;
pub(super) mod wire;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use host::bpf::Wanted;
use host::notify;
use host::sandbox::{self, Capabilities};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::child::{Child, Ended, Heard};
use self::requests::{Request, Requests};
use self::tree::{Shown, Tree};
use self::wire::{Begin, Edition, FromAgent, FromWriter, ToAgent, ToWriter, VERSION, WriterState};
use super::SourceName;
use super::home::Home;
use super::journal::Journal;
use super::sources::bpf::Loaded;
use super::tree::Names;
use crate::config::{Config, Overrides};
use crate::outcome::{Failure, Kind};

/// How the agent of a run directory is run.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) home: Home,
    pub(crate) trail: PathBuf,
    /// Where the tree is mounted; none: at its usual place.
    pub(crate) tree: Option<PathBuf>,
    pub(crate) config: Config,
    /// The configuration's file, where one was named.
    pub(crate) config_path: Option<PathBuf>,
    /// What the command line says instead of it.
    pub(crate) overrides: Overrides,
    /// How all this was typed.
    pub(crate) typed: Vec<OsString>,
}

/// Runs until SIGTERM or SIGINT, and says in `out` what is listened to.
pub(crate) fn run(options: Options, out: &mut dyn Write) -> Result<(), Failure> {
    // From here on nobody ends before what has been begun is put back.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| failed("watch for signals", error))?;
    let lock = options.home.claim()?;
    Journal::make(&options.trail)?;
    options.home.keep(&options.config)?;
    // Everything that takes rights comes before they are given up, and that before any thread.
    let point = options.tree.clone().unwrap_or_else(|| options.home.tree());
    let (mut tree, connection) = Tree::attach(point);
    let wanted = options.config.agent_sources().contains(&SourceName::Bpf);
    let programs = Wanted { pins: options.home.pins(), ..options.config.bpf() };
    let loaded = wanted.then(|| Loaded::load(&programs));
    give_up_rights(&options.trail)?;
    let (sender, events) = sync_channel(EVENTS);
    watch(signals, &sender)?;
    let names = Names::default();
    let shows = Shown { names: names.clone(), events: sender.clone() };
    let serving = connection.and_then(|connection| tree.serve(connection, shows));
    let shown = match &serving {
        Ok(()) => Ok(tree.point().to_owned()),
        Err(why) => Err(why.to_string()),
    };
    let mut service = Service::new(&options, shown, names, events, &sender);
    service.begin.bpf = loaded.as_ref().map(Loaded::letter);
    service.loaded = loaded;
    let ended = service.begin(out).and_then(|turn| match turn {
        Turn::GoOn => service.run(),
        Turn::Stop => Ok(()),
    });
    // It may be that nobody is told.
    let _ = notify::stopping();
    let stopped = service.stop();
    let unmounted = sandbox::with_capabilities(Capabilities::SYS_ADMIN, || tree.unmount())
        .map_err(|error| failed("unmount the tree", error))
        .and_then(|unmounted| unmounted);
    let socket = options.home.clear_socket();
    drop(lock);
    ended.and(stopped).and(unmounted).and(socket)
}

/// Keeps what those need that it starts, and uses none of it itself; but for the end, when the tree is
/// unmounted.
fn give_up_rights(trail: &Path) -> Result<(), Failure> {
    let keep = super::start::RIGHTS | super::start::rights_of_owner(trail);
    let given_up = sandbox::keep_capabilities(keep)
        .and_then(|()| sandbox::use_capabilities(Capabilities::empty()));
    // Who is not root unmounts by a program that takes root's rights, which a filter would not let it.
    let confined =
        if rustix::process::geteuid().is_root() { sandbox::confine_doorkeeper() } else { Ok(()) };
    given_up.and(confined).map_err(|error| failed("give up rights", error))
}

/// What may wait to be heard: a process that says more than that waits itself.
const EVENTS: usize = 64;

/// What the doorkeeper hears.
#[derive(Debug)]
enum Event {
    Agent(u64, Heard<FromAgent>),
    Writer(u64, Heard<FromWriter>),
    Signal(i32),
    /// A process waits for what becomes of its call.
    Request(Box<Request>),
}

fn watch(mut signals: Signals, events: &SyncSender<Event>) -> Result<(), Failure> {
    let events = events.clone();
    let watch = move || {
        // Nobody hears it only where we end anyway.
        signals.forever().all(|signal| events.send(Event::Signal(signal)).is_ok());
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(watch)
        .map(drop)
        .map_err(|error| failed("watch for signals", error))
}

/// How long the trail, and then the agent, may take to begin. Ready is said within ten seconds.
const PROMPT: Duration = Duration::from_secs(9);

/// How long the agent has to write down what has come, and then the writer to sign it. A service
/// manager that gives 90 s sees both end.
const AGENT_ENDS: Duration = Duration::from_secs(75);
const WRITER_ENDS: Duration = Duration::from_secs(12);

/// How long one may be silent before it counts as hung. Both say something every half second.
const SILENT: Duration = Duration::from_secs(5);

/// How long the writer may be at one round of its work: a disk may take its time.
const STALLED: Duration = Duration::from_secs(120);

/// How often is looked who is silent.
const LOOK: Duration = Duration::from_millis(500);

/// How long the agent may take to read its configuration again before the manager is told that it has.
const RELOADED: Duration = Duration::from_secs(10);

/// The processes, and what they do.
struct Service {
    agent: Child<FromAgent>,
    writer: Child<FromWriter>,
    events: Receiver<Event>,
    begin: Begin,
    names: Names,
    edition: Edition,
    /// Programs that go on while no agent runs: what they tell waits for the next one.
    loaded: Option<Loaded>,
    /// Whether the writer's writing thread goes on with its work.
    writer_works: bool,
    /// How often the manager wants to hear that all go on, and when it last did.
    watchdog: Option<(Duration, Instant)>,
    /// Since when the agent has been reading its configuration again.
    reloading: Option<Instant>,
    /// No agent has read it again yet.
    is_unread: bool,
    /// Whether all have worked.
    has_begun: bool,
    requests: Requests,
}

impl Service {
    fn new(
        options: &Options,
        tree: Result<PathBuf, String>,
        names: Names,
        events: Receiver<Event>,
        sender: &SyncSender<Event>,
    ) -> Service {
        let arguments = |verb: &str| {
            std::iter::once(verb.into()).chain(options.typed.iter().cloned()).collect()
        };
        let (writer, agent) = (arguments("agent-writer"), arguments("agent-listen"));
        let begin = Begin {
            version: VERSION,
            doorkeeper: std::process::id(),
            writer: WriterState::default(),
            tree,
            managed: notify::is_listening(),
            restarts: 0,
            bpf: None,
        };
        Service {
            agent: Child::new("agent", agent, sender, Event::Agent),
            writer: Child::new("writer", writer, sender, Event::Writer),
            events,
            begin,
            names,
            edition: Edition::default(),
            loaded: None,
            writer_works: true,
            // Three times in its period, so that one that is late is no death.
            watchdog: notify::watchdog_period().map(|period| (period / 3, Instant::now())),
            reloading: None,
            is_unread: false,
            has_begun: false,
            requests: Requests::default(),
        }
    }

    /// Starts the writer and then the agent, and says in `out` what that listens to. Who cannot begin
    /// has said why itself.
    fn begin(&mut self, out: &mut dyn Write) -> Result<Turn, Failure> {
        self.start_writer()?;
        let until = Instant::now() + PROMPT;
        loop {
            match self.next(until) {
                Some(Event::Writer(_, Heard::Said(FromWriter::Ready))) | None => break,
                Some(Event::Writer(_, Heard::Ended(ended))) => {
                    self.writer.ended(false);
                    return Err(cannot_begin("writer", ended));
                }
                Some(event) => match self.handle(event)? {
                    Turn::GoOn => {}
                    Turn::Stop => return Ok(Turn::Stop),
                },
            }
        }
        self.start_agent()?;
        loop {
            match self.next(Instant::now() + Duration::from_secs(3600)) {
                Some(Event::Agent(_, Heard::Said(FromAgent::Ready { lines, status }))) => {
                    self.has_begun = true;
                    say_ready(&lines, &status, out)?;
                    return Ok(Turn::GoOn);
                }
                Some(Event::Agent(_, Heard::Ended(ended))) => {
                    self.agent.ended(false);
                    return Err(cannot_begin("agent", ended));
                }
                Some(event) => match self.handle(event)? {
                    Turn::GoOn => {}
                    Turn::Stop => return Ok(Turn::Stop),
                },
                None => {}
            }
        }
    }

    fn next(&self, until: Instant) -> Option<Event> {
        self.events.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
    }

    /// Goes on until a signal comes, or one of the processes ends for good.
    fn run(&mut self) -> Result<(), Failure> {
        loop {
            let now = Instant::now();
            let look = self.watchdog.map_or(LOOK, |(period, _)| period.min(LOOK));
            let due = [self.agent.again(), self.writer.again(), Some(now + look)];
            let next = due.into_iter().flatten().min().unwrap_or(now);
            if let Some(event) = self.next(next)
                && self.handle(event)? == Turn::Stop
            {
                return Ok(());
            }
            let now = Instant::now();
            if self.writer.again().is_some_and(|again| again <= now) {
                self.start_writer()?;
            }
            if self.agent.again().is_some_and(|again| again <= now) {
                self.start_agent()?;
            }
            self.look();
        }
    }

    fn handle(&mut self, event: Event) -> Result<Turn, Failure> {
        match event {
            Event::Signal(SIGHUP) => {
                let _ = notify::reloading();
                self.reloading = Some(Instant::now());
                self.is_unread = true;
                self.agent.tell(&ToAgent::Reload);
            }
            Event::Signal(_) => return Ok(Turn::Stop),
            Event::Request(request) => {
                // Dropped, it fails.
                if self.agent.is_running()
                    && let Some(asked) = self.requests.ask(Instant::now(), *request)
                {
                    self.agent.tell(&ToAgent::Asked(asked));
                }
            }
            Event::Agent(life, heard) if self.agent.is_now(life) => self.handle_agent(heard)?,
            Event::Writer(life, heard) if self.writer.is_now(life) => self.handle_writer(heard)?,
            Event::Agent(..) | Event::Writer(..) => {}
        }
        Ok(Turn::GoOn)
    }

    fn handle_agent(&mut self, heard: Heard<FromAgent>) -> Result<(), Failure> {
        match heard {
            Heard::Said(said) => {
                self.agent.note();
                match said {
                    FromAgent::Beat => {}
                    FromAgent::Answered(answered) => self.requests.answer(answered),
                    FromAgent::Ready { status, .. } => {
                        let _ = notify::status(&status);
                    }
                    FromAgent::Names(part) => match self.edition.take(part) {
                        Ok(Some(entries)) => self.names.replace(entries),
                        Ok(None) => {}
                        // It is not itself any more.
                        Err(wire::Nonsense) => self.agent.kill(),
                    },
                    FromAgent::Reloaded { status, writer } => {
                        let _ = notify::status(&status);
                        self.is_unread = false;
                        self.reloaded();
                        if writer {
                            // Clients keep what is not durable, and it is started again at once.
                            self.writer.tell(&ToWriter::Stop);
                        }
                    }
                }
            }
            Heard::Ended(ended) => {
                self.agent.ended(true);
                self.requests.abandon();
                self.for_good("agent", ended)?;
                eprintln!("veritrail: the agent {ended}; it is started again");
            }
        }
        Ok(())
    }

    fn handle_writer(&mut self, heard: Heard<FromWriter>) -> Result<(), Failure> {
        match heard {
            Heard::Said(said) => {
                self.writer.note();
                if let FromWriter::Beat { stalled_millis } = said {
                    self.writer_works = Duration::from_millis(stalled_millis) < STALLED;
                }
            }
            Heard::Ended(ended) => {
                self.writer.ended(true);
                self.for_good("trail's writer", ended)?;
                if ended != Ended::Code(0) {
                    eprintln!("veritrail: the trail's writer {ended}; it is started again");
                }
                self.tell_of_writer();
            }
        }
        Ok(())
    }

    fn start_writer(&mut self) -> Result<(), Failure> {
        self.writer.start().map_err(|error| failed("start the trail's writer", error))?;
        self.writer.tell(&ToWriter::Agent(self.agent.pid()));
        self.tell_of_writer();
        Ok(())
    }

    fn start_agent(&mut self) -> Result<(), Failure> {
        self.agent.start().map_err(|error| failed("start the agent", error))?;
        self.begin.restarts = self.agent.restarts();
        let fds = self.loaded.as_ref().map(Loaded::descriptors).unwrap_or_default();
        self.agent.tell_with(&ToAgent::Begin(self.begin.clone()), &fds);
        if self.is_unread {
            self.agent.tell(&ToAgent::Reload);
        }
        self.writer.tell(&ToWriter::Agent(self.agent.pid()));
        Ok(())
    }

    /// The end of the service, where another attempt would not change anything. What has worked was good:
    /// then only a trail that was tampered with stays what it is.
    fn for_good(&self, who: &str, ended: Ended) -> Result<(), Failure> {
        match ended {
            Ended::Code(code)
                if would_again(ended) && (!self.has_begun || code == Kind::Tampered.code()) =>
            {
                eprintln!("veritrail: the {who} {ended}; it would again");
                Err(Failure::passed_on(code))
            }
            _ => Ok(()),
        }
    }

    fn tell_of_writer(&mut self) {
        let silent = is_silent(&self.writer) || !self.writer_works;
        let writer =
            WriterState { pid: self.writer.pid(), restarts: self.writer.restarts(), silent };
        if writer != self.begin.writer {
            self.begin.writer = writer;
            self.agent.tell(&ToAgent::Writer(writer));
        }
    }

    /// Sees who is silent, and tells the manager where nobody is.
    fn look(&mut self) {
        self.requests.look(Instant::now());
        self.tell_of_writer();
        let all_work = !is_silent(&self.agent) && !self.begin.writer.silent;
        if let Some((period, told)) = &mut self.watchdog
            && all_work
            && told.elapsed() >= *period
        {
            *told = Instant::now();
            // One that cannot be told does not hear it, and acts on that.
            let _ = notify::watchdog();
        }
        if self.reloading.is_some_and(|since| since.elapsed() >= RELOADED) {
            self.reloaded();
        }
    }

    fn reloaded(&mut self) {
        if self.reloading.take().is_some() {
            let _ = notify::ready();
        }
    }

    /// Ends the agent, and then the writer.
    fn stop(&mut self) -> Result<(), Failure> {
        self.agent.leave();
        self.agent.tell(&ToAgent::Stop);
        let agent = self.wait_for_agent();
        self.writer.leave();
        self.writer.tell(&ToWriter::Stop);
        let writer = self.wait_for_writer();
        agent.and(writer)
    }

    fn wait_for_agent(&mut self) -> Result<(), Failure> {
        let until = Instant::now() + AGENT_ENDS;
        while self.agent.is_running() {
            match self.next(until) {
                Some(Event::Agent(life, Heard::Ended(ended))) if self.agent.is_now(life) => {
                    self.agent.ended(false);
                    return passed_on(ended);
                }
                // Without a writer it would not end.
                Some(Event::Writer(life, Heard::Ended(ended))) if self.writer.is_now(life) => {
                    self.writer.ended(true);
                    if let (Some(_), false) = (self.writer.again(), would_again(ended)) {
                        self.start_writer()?;
                    } else {
                        self.writer.leave();
                    }
                }
                Some(_) => {}
                None if Instant::now() >= until => {
                    eprintln!("veritrail: the agent does not end and is killed");
                    self.agent.kill();
                    return Err(Failure::passed_on(Kind::Io.code()));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn wait_for_writer(&mut self) -> Result<(), Failure> {
        let until = Instant::now() + WRITER_ENDS;
        while self.writer.is_running() {
            match self.next(until) {
                Some(Event::Writer(life, Heard::Ended(ended))) if self.writer.is_now(life) => {
                    self.writer.ended(false);
                    return passed_on(ended);
                }
                Some(_) => {}
                None if Instant::now() >= until => {
                    eprintln!("veritrail: the trail's writer does not end and is killed");
                    self.writer.kill();
                    return Err(Failure::passed_on(Kind::Io.code()));
                }
                None => {}
            }
        }
        Ok(())
    }
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    GoOn,
    Stop,
}

fn is_silent<M: serde::de::DeserializeOwned + Send + 'static>(child: &Child<M>) -> bool {
    child.silence().is_none_or(|silence| silence >= SILENT)
}

/// Whether it may well end so at once again: the command line (2), the machine (3), a trail that was
/// tampered with (4), what cannot be used (5).
fn would_again(ended: Ended) -> bool {
    matches!(ended, Ended::Code(2..=5))
}

fn cannot_begin(who: &str, ended: Ended) -> Failure {
    match ended {
        // It has said why.
        Ended::Code(code) if code > 0 => Failure::passed_on(code),
        _ => Failure::new(Kind::Io, format!("the {who} {ended} before it had begun")),
    }
}

fn passed_on(ended: Ended) -> Result<(), Failure> {
    match ended {
        Ended::Code(0) => Ok(()),
        Ended::Code(code) => Err(Failure::passed_on(code)),
        Ended::Killed(_) => Err(Failure::passed_on(Kind::Io.code())),
    }
}

fn say_ready(lines: &[String], status: &str, out: &mut dyn Write) -> Result<(), Failure> {
    for line in lines {
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    // A manager that cannot be told sees the process.
    let _ = notify::status(status);
    let _ = notify::ready();
    Ok(())
}

fn failed(what: &str, error: std::io::Error) -> Failure {
    Failure::new(Kind::Io, format!("cannot {what}")).because(error)
}
