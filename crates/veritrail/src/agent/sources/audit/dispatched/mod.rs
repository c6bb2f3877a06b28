//! Audit by auditd: it reads the kernel, and hands events on.
//!
//! ```text
//!  input = "unix:PATH"                         input = "stdin"
//!  kernel ──▶ auditd ── af_unix ──▶ agent      kernel ──▶ auditd ──▶ plugin ── dispatch ──▶ agent
//!                        connected to                    (../../../plugin.rs)   listened at
//! ```
//!
//! Both ends come and go by themselves. What was not handed on meanwhile shows in the kernel's serials
//! (serials.rs). A peer that writes what auditd does not, or that stops amid a message, is left; one that
//! floods is read as long as it does, and what finds no room behind us is counted there.

mod connection;
mod serials;

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host::audit::Control;
use record::dispatch::{Message, Reader, Writer};
use record::write::Body;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::connection::Connection;
use self::serials::Serials;
use super::daemons::look;
use super::former::Former;
use super::gathering::Gathering;
use super::{AuditInput, Drain, ForSource, Input, LOOK, Part, Settings, millis};
use crate::agent::gaps::Place;
use crate::agent::watermark::Note;
use crate::clock;
use crate::run_dir::near;

/// Whether auditd hands events on.
#[derive(Debug)]
pub(in crate::agent) struct State {
    pub(in crate::agent) connected: bool,
    /// How, or why not.
    pub(in crate::agent) detail: String,
    /// What is to be recorded of it.
    pub(in crate::agent) record: Option<Body>,
    /// The plugin's process.
    pub(in crate::agent) plugin: Option<u32>,
}

/// Where auditd's events come in.
#[derive(Debug)]
pub(in crate::agent::sources) struct Door {
    input: AuditInput,
    /// Where the plugin connects; none where we do.
    listener: Option<UnixListener>,
    /// The agent's own.
    directory: PathBuf,
    connections: Vec<Connection>,
    /// What auditd calls this machine.
    nodes: Vec<Vec<u8>>,
    /// An agent of this boot has said up to which serial it heard.
    continues: bool,
    told: Vec<Part>,
}

/// The plugin's end of the way to the agent, in the agent's directory.
pub(in crate::agent) const SOCKET: &str = "dispatch";

/// Plugins at once: one that ends, and the next.
const MOST: usize = 4;

/// What is behind auditd in the kernel, or in auditd, when nothing is to be read here.
const BEHIND: Duration = Duration::from_secs(1);

impl Door {
    /// Opens it, and puts back what agents that were the audit daemon had changed; with how it is.
    pub(in crate::agent::sources) fn open(settings: &Settings) -> Result<(Door, String), String> {
        let Settings { input, node, directory, .. } = settings;
        let listener = match input {
            AuditInput::Stdin => Some(listen_in(directory).map_err(|error| {
                format!("cannot listen at {}: {error}", directory.join(SOCKET).display())
            })?),
            _ => None,
        };
        let host = rustix::system::uname().nodename().to_bytes().to_vec();
        let node = node.as_ref().map(|node| node.clone().into_bytes());
        let mut door = Door {
            input: input.clone(),
            listener,
            directory: directory.clone(),
            connections: Vec::new(),
            nodes: std::iter::once(host).chain(node).collect(),
            continues: Note::read(directory, &clock::boot_id())
                .is_some_and(|note| note.serial.is_some()),
            told: Vec::new(),
        };
        let why = format!("auditd's events are read ({input})");
        door.told.push(Part { own: false, why, record: None });
        door.restore(directory);
        Ok((door, format!("auditd's events, {input}; nobody is connected yet")))
    }

    fn restore(&mut self, directory: &Path) {
        let mut former = Former::read(directory);
        let Ok(mut control) = Control::open() else { return };
        let Ok(status) = control.status() else { return };
        if former.is_empty() {
            return;
        }
        let body = Body::new().word("state", "audit-restored");
        let record = match former.restore(directory, &mut control, look(&status).registered) {
            Ok(restored) => body.followed_by(&restored),
            Err(error) => body.phrase("unchanged", &error.to_string()),
        };
        self.told.push(Part { own: false, why: String::new(), record: Some(record) });
    }

    fn reader(&self) -> Reader {
        let writer = if self.listener.is_some() { Writer::Plugin } else { Writer::Auditd };
        Reader::new(writer, self.nodes.clone())
    }
}

/// Listens where the plugin looks for us.
fn listen_in(directory: &Path) -> io::Result<UnixListener> {
    near(directory, |dir| {
        let path: PathBuf = dir.join(SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    })
}

/// Reads until the agent stops.
pub(in crate::agent::sources) fn listen(door: Door, context: &ForSource) {
    Listener::new(door, context).listen();
}

struct Listener<'a> {
    door: Door,
    context: &'a ForSource,
    gathering: Gathering<'a>,
    serials: Serials,
    again: Again,
    /// Why nobody is connected, as it was last recorded; none where somebody is.
    apart: Option<String>,
    /// When we began, in milliseconds since 1970.
    began: u64,
}

impl<'a> Listener<'a> {
    fn new(door: Door, context: &'a ForSource) -> Listener<'a> {
        Listener {
            door,
            context,
            gathering: Gathering::new(context),
            serials: Serials::default(),
            again: Again::default(),
            apart: None,
            began: millis(),
        }
    }

    fn listen(mut self) {
        for part in std::mem::take(&mut self.door.told) {
            self.context.inbox.put(Input::Part(part));
        }
        if self.door.listener.is_some() {
            self.tell_apart("auditd has not started the plugin (plugins.d/veritrail.conf)".into());
        }
        let mut drain = Drain::default();
        loop {
            let stopping = self.context.is_stopping();
            if stopping && drain.is_over() {
                break;
            }
            if !stopping {
                self.meet();
            }
            let before = clock::now().boottime_ns;
            self.gathering.turn();
            let more = self.read();
            self.gathering.pass_on();
            self.tell_missing(false);
            if more {
                continue;
            }
            if stopping {
                break;
            }
            if !self.door.connections.is_empty() {
                let behind = u64::try_from(BEHIND.as_nanos()).unwrap_or(0);
                self.gathering.say_how_far(before.saturating_sub(behind));
            }
            self.wait();
        }
        self.tell_missing(true);
        self.gathering.end();
        if self.door.listener.is_some() {
            // One that stays is replaced by the next agent.
            let _ = fs::remove_file(self.door.directory.join(SOCKET));
        }
    }

    /// Connects, or takes those who do.
    fn meet(&mut self) {
        if let AuditInput::Unix(path) = &self.door.input {
            if self.door.connections.is_empty() && self.again.is_due() {
                let met = Connection::to(path, self.door.reader());
                self.again.failed();
                self.take_in(met);
            }
            return;
        }
        while let Some(listener) = &self.door.listener
            && self.door.connections.len() < MOST
            && let Ok((stream, _)) = listener.accept()
        {
            let met = Connection::of(stream, self.door.reader());
            self.take_in(met);
        }
    }

    fn take_in(&mut self, met: io::Result<Connection>) {
        match met {
            Ok(connection) => {
                self.tell_state(&connection, None);
                self.door.connections.push(connection);
            }
            Err(error) => self.tell_apart(error.to_string()),
        }
    }

    /// Takes what has come; whether there may be more at once.
    fn read(&mut self) -> bool {
        let (mut more, mut ended) = (false, None);
        let mut connections = std::mem::take(&mut self.door.connections);
        connections.retain_mut(|connection| {
            let silent = !connection.has_spoken;
            let read = connection.read(|message| self.take(message));
            if silent && connection.has_spoken {
                self.again = Again::default();
                let body = Body::new().word("state", "audit-connected");
                let body = body.phrase("input", &self.door.input.to_string());
                self.tell_state(connection, self.apart.is_some().then_some(body));
                self.apart = None;
            }
            match read {
                Ok(may_be_more) => {
                    more |= may_be_more;
                    true
                }
                Err(why) => {
                    self.again.failed();
                    ended = Some(why);
                    false
                }
            }
        });
        self.door.connections = connections;
        // A plugin that ends is no matter where the next one is there already.
        if let Some(why) = ended
            && self.door.connections.is_empty()
        {
            self.tell_apart(why);
        }
        more
    }

    fn take(&mut self, message: &Message<'_>) {
        match message {
            Message::Record(record) => {
                if record.is_of_this_kernel() {
                    let heard =
                        if self.serials.has_begun() { self.gathering.heard() } else { self.began };
                    let span = [heard, millis()];
                    if !self.serials.has_begun() && !self.door.continues {
                        // Since we began auditd may have handed on what nobody took.
                        self.context.lost(Place::Auditd, None, self.began);
                    }
                    self.serials.note(record.line.serial(), self.gathering.now(), span);
                }
                self.gathering.take_dispatched(record);
            }
            Message::Dropped(dropped) => {
                self.context.counts.lost(dropped.records);
                let span = dropped.span.map(|stamp| stamp.millis);
                let messages = Some(dropped.records);
                self.context.inbox.put(Input::Lost { place: Place::Plugin, messages, span });
            }
        }
    }

    fn tell_missing(&mut self, closing: bool) {
        if let Some(missing) = self.serials.take_missing(self.gathering.now(), closing) {
            self.context.counts.lost(missing.events);
            let (messages, span) = (Some(missing.events), missing.span);
            self.context.inbox.put(Input::Lost { place: Place::Auditd, messages, span });
        }
    }

    /// Somebody is connected.
    fn tell_state(&self, connection: &Connection, record: Option<Body>) {
        let is_plugin = self.door.listener.is_some();
        let who = if is_plugin { "the plugin is" } else { "connected to" };
        let detail =
            format!("auditd's events, {}; {who} process {}", self.door.input, connection.peer);
        let plugin = is_plugin.then_some(connection.peer);
        self.context.inbox.put(Input::Dispatch(State { connected: true, detail, record, plugin }));
    }

    /// Nobody is, and why; recorded once.
    fn tell_apart(&mut self, why: String) {
        let detail = format!("auditd's events, {}: {why}", self.door.input);
        let body = Body::new().word("state", "audit-disconnected");
        let body = body.phrase("input", &self.door.input.to_string()).phrase("reason", &why);
        let is_new = self.apart.as_ref() != Some(&why);
        let record = is_new.then_some(body);
        self.apart = Some(why);
        self.context.inbox.put(Input::Dispatch(State {
            connected: false,
            detail,
            record,
            plugin: None,
        }));
    }

    /// Waits for something to read, or until something is due.
    fn wait(&self) {
        let most = self.gathering.patience(LOOK.min(self.again.patience()));
        let timeout = Timespec::try_from(most).ok();
        let connections = self.door.connections.iter().map(Connection::as_fd);
        let fds = connections.chain(self.door.listener.as_ref().map(AsFd::as_fd));
        let mut fds: Vec<_> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        // What went wrong shows when it is read.
        let _ = poll(&mut fds, timeout.as_ref());
    }
}

/// When to connect again.
#[derive(Debug, Default)]
struct Again {
    failures: u32,
    due: Option<Instant>,
}

/// The wait after a failure: this, and twice as long each time.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

impl Again {
    fn is_due(&self) -> bool {
        self.due.is_none_or(|due| due <= Instant::now())
    }

    fn failed(&mut self) {
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.due = Some(Instant::now() + wait);
    }

    fn patience(&self) -> Duration {
        let left = |due: Instant| due.saturating_duration_since(Instant::now());
        self.due.map(left).filter(|left| !left.is_zero()).unwrap_or(LONGEST)
    }
}
