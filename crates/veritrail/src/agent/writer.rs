//! The writer: a process of its own that holds the trail's lock and its signing key, and nothing else.
//! Whoever has something to record sends it to `trail.sock`.
//!
//! It ends when it is told to, or when the doorkeeper and the agent are gone: what that has handed in is
//! durable then, and signed. Signals do not end it, as the terminal and the service
//! manager send them to all processes at once: it ends last.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use host::channel::{Channel, Received};
use host::sandbox::{Capabilities, Writer, confine_writer};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use trail::Door;
use trail::door::{Role, Standing};
use trail::sinks::{Sink, Syslog};

use super::doorkeeper::Options;
use super::doorkeeper::wire::{FromWriter, LONGEST, ToWriter, hear, tell};
use crate::outcome::{Failure, Kind};
use crate::run_dir::cannot;
use crate::verbs::trail::{from_door, open_door_as};

/// How often it says that it is there.
const BEAT: Duration = Duration::from_millis(500);

/// How long it waits for a doorkeeper that does not listen.
const PATIENCE: Duration = Duration::from_millis(100);

/// How soon it says that it writes.
const LOOK: Duration = Duration::from_millis(5);

/// How long it goes on for the agent when the doorkeeper is gone.
const FAREWELL: Duration = Duration::from_secs(20);

/// Writes until it is told to end.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let Options { trail, config, .. } = options;
    let channel = Channel::from_stdin().map_err(|error| {
        Failure::new(Kind::Usage, "this is for the program itself").because(error)
    })?;
    channel.set_patience(PATIENCE)?;
    // The program was started as /proc/self/exe, which tells nobody anything.
    let _ = rustix::thread::set_name(c"veritrail-write");
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    confine(trail, &config.sinks())?;
    let door = open_door_as(Role::Writer, trail, config)?;
    let told = attend(&door, &channel);
    let closed = door.close().map_err(|error| from_door(trail, &error));
    match told {
        Some(failure) => Err(from_door(trail, &failure)),
        None => closed,
    }
}

fn confine(trail: &Path, sinks: &[Sink]) -> Result<(), Failure> {
    let owner = std::fs::metadata(trail).map_err(|error| cannot("look at", trail, error))?;
    let mine = rustix::process::geteuid();
    let foreign = mine.is_root() && owner.uid() != mine.as_raw();
    let writer = Writer {
        owner: foreign.then(|| (owner.uid(), owner.gid())),
        // Nor has the list a socket to another host.
        starts_programs: sinks
            .iter()
            .any(|sink| matches!(sink, Sink::Command { .. } | Sink::Syslog(Syslog::Udp(_)))),
        keep: Capabilities::empty(),
    };
    confine_writer(&writer).map_err(|error| {
        Failure::new(Kind::Environment, "the trail's writer cannot give up its rights")
            .because(error)
    })
}

/// Says that it works, until it is to end; why the trail cannot be written any more.
fn attend(door: &Door, channel: &Channel) -> Option<trail::DoorError> {
    let mut buf = vec![0; LONGEST];
    let (mut is_ready, mut agent) = (false, 0);
    loop {
        if let Some(failure) = door.failure() {
            return Some(failure);
        }
        let now_ready = door.standing() != Standing::Looking;
        if now_ready && !is_ready {
            // Whoever does not listen any more is gone, and that is told below.
            let _ = tell(channel, &FromWriter::Ready);
        }
        is_ready |= now_ready;
        let stalled_millis = u64::try_from(door.stalled().as_millis()).unwrap_or(u64::MAX);
        let _ = tell(channel, &FromWriter::Beat { stalled_millis });
        match channel.recv(&mut buf, Some(if is_ready { BEAT } else { LOOK })) {
            Ok(Received::TimedOut) => {}
            Ok(Received::Message { len, .. }) => match hear(&buf, len) {
                Some(ToWriter::Stop) => return None,
                Some(ToWriter::Agent(pid)) => agent = pid,
                None => {}
            },
            Ok(Received::Closed) | Err(_) => return outlast(door, agent),
        }
    }
}

/// Goes on as long as the agent is a client, but not for ever.
fn outlast(door: &Door, agent: u32) -> Option<trail::DoorError> {
    /// An agent that has just begun, or has lost its connection, comes within this time.
    const GONE: Duration = Duration::from_millis(500);
    let until = Instant::now() + FAREWELL;
    let mut seen = Instant::now();
    while Instant::now() < until && seen.elapsed() < GONE {
        if let Some(failure) = door.failure() {
            return Some(failure);
        }
        // Until it writes itself nobody can come.
        if door.has_client(agent) || door.standing() != Standing::Writer {
            seen = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}
