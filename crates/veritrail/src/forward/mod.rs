//! Every leaf of the trail to a syslog server, over TLS, in order and at least once.
//!
//! ```text
//!  trail ──▶ source ──▶ frame ──▶ session ──▶ server
//!              ▲                     │ it has read all
//!              └────── state ◀───────┘           state.json: agent status, VT_FORWARD, metrics
//! ```
//!
//! A process of its own (docs/decisions/0010): it reads the trail and writes nothing but its state. The trail is the
//! buffer, so nothing is held in memory but one batch.

mod frame;
mod session;
mod source;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use session::Session;
pub(crate) use source::signed;
use source::{Next, Source};
use state::Desk;
pub(crate) use state::{State, read};

use crate::clock;
use crate::config::Server;
use crate::outcome::{Failure, Kind};

/// Bytes of messages that are sent at once.
const BATCH: usize = 64 << 10;

/// How often is looked whether there is more.
const LOOK: Duration = Duration::from_millis(100);

/// How long to wait after the first failure, and after many.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How often the state is written while it changes.
const TOLD: Duration = Duration::from_secs(1);

/// Sends until it is told to stop.
pub(crate) struct Forwarder {
    server: Server,
    trust: Arc<ClientConfig>,
    trail: PathBuf,
    desk: Desk,
    state: State,
    /// The state as it lies on the disk.
    kept: Option<State>,
    stop: Arc<AtomicBool>,
    told: Instant,
}

impl Forwarder {
    /// Goes on where the last one has ended.
    ///
    /// # Errors
    /// There is one already; certificates or what was kept cannot be used.
    pub(crate) fn new(
        server: Server,
        trail: PathBuf,
        dir: &Path,
        stop: Arc<AtomicBool>,
    ) -> Result<Forwarder, Failure> {
        let trust = session::trust(&server)?;
        let desk = Desk::claim(dir)?;
        let kept = read(dir).map_err(|error| {
            let path = dir.join("state.json");
            Failure::new(Kind::Unusable, format!("{} cannot be used", path.display()))
                .because(error)
                .hint("without it all of the trail is sent again, from leaf 0")
        })?;
        let state = State {
            server: format!("{}:{}", server.host, server.port),
            pid: std::process::id(),
            ..kept.unwrap_or_default()
        };
        Ok(Forwarder { server, trust, trail, desk, state, kept: None, stop, told: Instant::now() })
    }

    /// Sends until it is told to stop, whatever the server does meanwhile.
    ///
    /// # Errors
    /// The state cannot be kept.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        self.keep(true)?;
        let mut wait = AGAIN.0;
        while !self.is_to_stop() {
            match self.look().and_then(|more| if more { self.session() } else { Ok(false) }) {
                Ok(worked) => {
                    if worked || self.state.failing.is_none() {
                        wait = AGAIN.0;
                    }
                    if worked {
                        self.settle(None);
                        self.keep(true)?;
                    } else if self.told.elapsed() > TOLD {
                        self.keep(false)?;
                    }
                    self.sleep(LOOK);
                }
                Err(why) => {
                    self.settle(Some(why));
                    self.keep(false)?;
                    self.sleep(jittered(wait));
                    wait = (wait * 2).min(AGAIN.1);
                }
            }
        }
        self.state.pid = 0;
        self.keep(true)
    }

    /// Whether there is something that the server has not.
    fn look(&mut self) -> Result<bool, String> {
        let Some((origin, end)) = signed(&self.trail)? else { return Ok(false) };
        if origin != self.state.origin {
            // Another trail: none of it was sent.
            (self.state.confirmed, self.state.sent) = (0, 0);
            self.state.origin = origin;
        }
        self.state.end = end;
        if end < self.state.confirmed {
            return Err(format!(
                "the trail has {end} leaves, and {} were sent: see veritrail trail verify",
                self.state.confirmed
            ));
        }
        if end == self.state.confirmed {
            self.state.oldest = None;
        }
        Ok(end > self.state.confirmed)
    }

    /// One connection; true where the server has read everything that was sent.
    fn session(&mut self) -> Result<bool, String> {
        let text = |error: std::io::Error| error.to_string();
        let host = self.state.origin.split('/').next().unwrap_or_default().to_owned();
        let mut source = Source::open(&self.trail, self.state.confirmed)?;
        // How late it is can be told without a server.
        let mut batch = Batch::default();
        batch.gather(&mut source, &host)?;
        self.state.oldest = batch.oldest;
        let mut session = Session::open(&self.server, &self.trust).map_err(text)?;
        let began = Instant::now();
        let mut gone = 0;
        loop {
            if !batch.bytes.is_empty() {
                session.send(&batch.bytes).map_err(text)?;
            }
            gone += batch.gone;
            self.state.sent = source.position();
            self.state.end = self.state.end.max(source.end());
            if self.told.elapsed() > TOLD {
                self.keep(false).map_err(|failure| failure.to_string())?;
            }
            if began.elapsed() >= self.server.confirm || self.is_to_stop() {
                break;
            }
            if batch.bytes.is_empty() {
                self.sleep(LOOK);
            }
            batch = Batch::default();
            batch.gather(&mut source, &host)?;
        }
        session.confirm().map_err(|error| format!("the server has not read all: {error}"))?;
        self.state.confirmed = source.position();
        self.state.gone += gone;
        Ok(true)
    }

    /// It fails since now, or works since now.
    fn settle(&mut self, failing: Option<String>) {
        if failing.is_some() != self.state.failing.is_some() {
            self.state.since = clock::now().realtime_ns / 1_000_000_000;
        }
        if let Some(why) = &failing {
            if self.state.failing.is_none() {
                eprintln!("veritrail: {}: {why}", self.state.server);
            }
            self.state.sent = self.state.confirmed;
        }
        self.state.failing = failing.map(|why| why.chars().take(300).collect());
    }

    fn keep(&mut self, durable: bool) -> Result<(), Failure> {
        self.told = Instant::now();
        if !durable && self.kept.as_ref() == Some(&self.state) {
            return Ok(());
        }
        self.desk.keep(&self.state, durable).map_err(|error| {
            Failure::new(Kind::Io, "cannot keep how far the server has everything").because(error)
        })?;
        self.kept = Some(self.state.clone());
        Ok(())
    }

    fn is_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits, but not longer than it is to run.
    fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_to_stop()
            && let Some(left) = until.checked_duration_since(Instant::now())
        {
            std::thread::sleep(left.min(LOOK));
        }
    }
}

/// Messages to be sent at once.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// When the first leaf happened.
    oldest: Option<u64>,
    /// Leaves that were gone.
    gone: u64,
}

impl Batch {
    fn gather(&mut self, source: &mut Source, host: &str) -> Result<(), String> {
        while self.bytes.len() < BATCH {
            match source.next()? {
                Next::End => break,
                Next::Gone(first, next) => self.gone += next.saturating_sub(first),
                Next::Leaf { index: leaf, bytes } => {
                    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
                    for (number, line) in lines.enumerate() {
                        let at = frame::At { host, leaf, line: number + 1 };
                        let line = line.strip_suffix(b"\n").unwrap_or(line);
                        let millis = frame::push(&mut self.bytes, at, line);
                        self.oldest = self.oldest.or(millis);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Half of it to all of it, so that a thousand hosts do not come back at once.
fn jittered(time: Duration) -> Duration {
    let mut byte = [0];
    // Without chance all wait as long as they may.
    let part = getrandom::fill(&mut byte).map_or(255, |()| u32::from(byte[0]));
    time / 2 + time / 2 * part / 255
}
