//! `events.sock`: what the trail gets, for whoever controls this machine, as it gets it.
//!
//! ```text
//!   client ── filter ──▶ accept: who is it? room for one more?          this file, filter.rs
//!          ◀── lines ─── a thread for each reader ◀── trail's files     reader.rs joiner.rs
//!                              ▲
//!                         how far it is durable                          horizon.rs
//! ```
//!
//! Nobody waits for a reader: each has its thread and reads the trail's files, so that one that falls
//! behind costs nothing but its place. Only the right to read the trail is needed.

mod filter;
mod horizon;
mod joiner;
mod reader;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use host::peer::Peer;
use serde::{Deserialize, Serialize};

use crate::config::EventsSettings;
use crate::json_line;
use crate::outcome::Failure;
use crate::run_dir::{cannot, near};
use horizon::Horizon;

pub(crate) use filter::{Class, ContainerNumber, Few, From, Now, Wanted};

/// The socket's name in the run directory.
pub(crate) const SOCKET: &str = "events.sock";

/// How long readers may take to get the rest when the agent stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a line says that is not an event.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Word {
    /// Nothing more comes, because of this.
    Error(String),
    /// These leaves are not there any more.
    Gap { first: u64, last: u64, reason: String },
    /// All is well and nothing has come; the leaf to go on with.
    Heartbeat { next: u64 },
    /// All has been told: there is no more, or the agent stops.
    End { next: u64, reason: String },
}

/// The number of the group that may read, if there is one. Directories other than /etc/group are asked by
/// libraries, which cannot be loaded any more once rights are given up.
pub(super) fn group_of(settings: &EventsSettings) -> Option<u32> {
    let group = nix::unistd::Group::from_name(settings.group.as_deref()?);
    group.ok().flatten().map(|group| group.gid.as_raw())
}

/// What readers share.
#[derive(Debug)]
struct Shared {
    trail: PathBuf,
    horizon: Horizon,
    settings: EventsSettings,
    /// The group that may read, where it was known at the beginning.
    group: Option<u32>,
    stopping: AtomicBool,
    counts: Counts,
    /// Readers by user.
    readers: Mutex<HashMap<u32, usize>>,
}

/// What there is to tell of the socket.
#[derive(Debug, Default)]
struct Counts {
    served: AtomicU64,
    refused: AtomicU64,
    /// Readers that took nothing for too long.
    cut: AtomicU64,
}

/// The same, for whoever asks the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Readers {
    /// Now.
    pub(crate) readers: u64,
    /// Ever.
    pub(crate) served: u64,
    pub(crate) refused: u64,
    /// Readers that took nothing for too long.
    pub(crate) cut: u64,
}

/// Counts readers.
#[derive(Clone, Debug)]
pub(super) struct Meter(Arc<Shared>);

impl Meter {
    pub(super) fn read(&self) -> Readers {
        let Counts { served, refused, cut } = &self.0.counts;
        Readers {
            readers: self.0.readers().values().sum::<usize>() as u64,
            served: served.load(Ordering::Relaxed),
            refused: refused.load(Ordering::Relaxed),
            cut: cut.load(Ordering::Relaxed),
        }
    }
}

/// The socket, as long as the agent lives.
#[derive(Debug)]
pub(super) struct Events {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Events {
    /// Listens in `run_dir`, in the place of a socket that a killed agent has left.
    pub(super) fn start(
        run_dir: &Path,
        trail: &Path,
        settings: EventsSettings,
        group: Option<u32>,
    ) -> Result<Events, Failure> {
        let path = run_dir.join(SOCKET);
        let failed = |error| cannot("listen at", &path, error);
        clear(&path).map_err(failed)?;
        let shared = Arc::new(Shared {
            trail: trail.to_owned(),
            horizon: Horizon::new(trail),
            settings,
            group,
            stopping: AtomicBool::new(false),
            counts: Counts::default(),
            readers: Mutex::default(),
        });
        let watching = Arc::clone(&shared);
        spawn("events-watch", move || watching.horizon.watch(&watching.stopping))
            .map_err(failed)?;
        let listener = near(run_dir, |dir| {
            let listener = UnixListener::bind(dir.join(SOCKET))?;
            // Everybody may ask; who gets something is decided by who it is.
            fs::set_permissions(dir.join(SOCKET), fs::Permissions::from_mode(0o666))?;
            Ok(listener)
        })
        .map_err(failed)?;
        let accepting = Arc::clone(&shared);
        spawn("events", move || accept_all(&listener, &accepting)).map_err(failed)?;
        Ok(Events { shared, path })
    }

    /// Counts readers.
    pub(super) fn meter(&self) -> Meter {
        Meter(Arc::clone(&self.shared))
    }

    /// Lets the readers have the rest, but not for long. The trail is closed.
    pub(super) fn stop(self) {
        // Whoever connects now finds nobody.
        let _ = clear(&self.path);
        self.shared.horizon.look(true);
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.horizon.wake();
        let until = Instant::now() + FAREWELL;
        while !self.shared.readers().is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Shared {
    fn readers(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Whether this user may read the trail.
    fn may_read(&self, peer: &Peer) -> Result<(), String> {
        let owner = fs::metadata(&self.trail).map(|found| found.uid());
        let owner = owner.map_err(|error| format!("the trail cannot be looked at: {error}"))?;
        let ours = rustix::process::geteuid().as_raw();
        if [0, ours, owner].contains(&peer.uid) {
            return Ok(());
        }
        let Some(name) = &self.settings.group else {
            return Err(format!(
                "user {} may not read events: root and user {owner} may, and those of a group that \
                 is set in veritrail.toml ([events] group)",
                peer.uid
            ));
        };
        match self.group.or_else(|| group_of(&self.settings)) {
            Some(group) if peer.is_in(group) => Ok(()),
            Some(_) => Err(format!(
                "user {} may not read events: root, user {owner} and the group {name} may",
                peer.uid
            )),
            None => {
                Err(format!("the group {name} of veritrail.toml ([events] group) is not known"))
            }
        }
    }

    /// Counts a reader of this user, unless there are too many.
    fn seat(self: &Arc<Shared>, uid: u32) -> Result<Seat, String> {
        let mut readers = self.readers();
        let all: usize = readers.values().sum();
        let EventsSettings { readers: most, readers_per_user: most_of_one, .. } = self.settings;
        if all >= most {
            return Err(format!("there are {all} readers, and no more are served"));
        }
        let of_one = readers.entry(uid).or_default();
        if *of_one >= most_of_one {
            return Err(format!("user {uid} has {of_one} readers, and no more are served"));
        }
        *of_one += 1;
        Ok(Seat { shared: Arc::clone(self), uid })
    }
}

/// One reader's right to be there.
#[derive(Debug)]
struct Seat {
    shared: Arc<Shared>,
    uid: u32,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut readers = self.shared.readers();
        if let Some(count) = readers.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&self.uid);
            }
        }
    }
}

fn accept_all(listener: &UnixListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // No descriptor is left; there may be one in a moment.
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        if shared.is_stopping() {
            return;
        }
        if let Err(why) = admit(&stream, shared) {
            shared.counts.refused.fetch_add(1, Ordering::Relaxed);
            // One line fits the socket, so nobody waits; it may have gone.
            let _ = stream.set_nonblocking(true);
            let _ = json_line::say(&stream, &Word::Error(why));
        }
    }
}

/// Starts a reader's thread, or says why there is none.
fn admit(stream: &UnixStream, shared: &Arc<Shared>) -> Result<(), String> {
    let failed = |error: io::Error| format!("there is no thread for another reader: {error}");
    let peer = Peer::of(stream).map_err(|error| format!("who are you? {error}"))?;
    shared.may_read(&peer)?;
    let seat = shared.seat(peer.uid)?;
    let stream = stream.try_clone().map_err(failed)?;
    shared.counts.served.fetch_add(1, Ordering::Relaxed);
    spawn("events-reader", move || reader::serve(&stream, &seat.shared)).map_err(failed)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(work).map(drop)
}

fn clear(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
