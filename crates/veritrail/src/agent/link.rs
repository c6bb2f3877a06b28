//! The agent's end of its channel to the doorkeeper.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use host::channel::{Channel, Received};

use super::doorkeeper::wire::{
    Begin, Entries, FromAgent, LONGEST, ToAgent, VERSION, hear, parts, tell,
};
use super::inbox::Inbox;
use super::sources::Input;
use crate::outcome::{Failure, Kind};

/// How long the decision loop waits for a doorkeeper that does not listen.
const PATIENCE: Duration = Duration::from_millis(100);

/// The other end tells who it is within this time.
const GREETING: Duration = Duration::from_secs(10);

/// Takes the channel that this process was started with, and what it is told first.
pub(super) fn meet() -> Result<(Channel, Begin, Vec<OwnedFd>), Failure> {
    let ours = |error: io::Error| {
        Failure::new(Kind::Usage, "this is for the program itself").because(error)
    };
    let channel = Channel::from_stdin().map_err(ours)?;
    channel.set_patience(PATIENCE).map_err(ours)?;
    let mut buf = vec![0; LONGEST];
    let (said, fds) = match channel.recv(&mut buf, Some(GREETING)).map_err(ours)? {
        Received::Message { len, fds } => (hear(&buf, len), fds),
        Received::Closed | Received::TimedOut => (None, Vec::new()),
    };
    match said {
        Some(ToAgent::Begin(begin)) if begin.version == VERSION => Ok((channel, begin, fds)),
        _ => {
            let what = "the doorkeeper is of another version of veritrail";
            Err(Failure::new(Kind::Environment, what).hint("start the service anew"))
        }
    }
}

/// The channel, as long as the agent lives.
#[derive(Debug)]
pub(super) struct Link {
    channel: Arc<Channel>,
    /// What the tree is to show, until it is on its way.
    next: Arc<Next>,
    /// What it shows.
    shown: Option<Arc<Entries>>,
}

type Next = (Mutex<Option<Arc<Entries>>>, Condvar);

impl Link {
    /// Passes on what the doorkeeper says, and its end.
    pub(super) fn start(channel: Channel, inbox: &Arc<Inbox<Input>>) -> io::Result<Link> {
        let channel = Arc::new(channel);
        let (theirs, inbox) = (Arc::clone(&channel), Arc::clone(inbox));
        let thread = |name: &str| std::thread::Builder::new().name(name.into());
        thread("doorkeeper").spawn(move || listen(&theirs, &inbox))?;
        let next: Arc<Next> = Arc::default();
        let (theirs, wanted) = (Arc::clone(&channel), Arc::clone(&next));
        thread("tree").spawn(move || send_all(&theirs, &wanted))?;
        Ok(Link { channel, next, shown: None })
    }

    /// Tells the doorkeeper something. One that is gone is heard of otherwise.
    pub(super) fn tell(&self, what: &FromAgent) {
        let _ = tell(&self.channel, what);
    }

    /// From now on the tree shows this.
    pub(super) fn show(&mut self, entries: Entries) {
        if self.shown.as_deref() == Some(&entries) {
            return;
        }
        let entries = Arc::new(entries);
        *self.next.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&entries));
        self.next.1.notify_one();
        self.shown = Some(entries);
    }
}

fn listen(channel: &Channel, inbox: &Inbox<Input>) {
    let mut buf = vec![0; LONGEST];
    loop {
        let said = match channel.recv(&mut buf, None) {
            Ok(Received::Message { len, .. }) => hear(&buf, len),
            Ok(Received::Closed | Received::TimedOut) | Err(_) => None,
        };
        inbox.put(match said {
            Some(ToAgent::Stop) => Input::Stop,
            Some(ToAgent::Reload) => Input::Reload,
            Some(ToAgent::Writer(state)) => Input::Writer(state),
            Some(ToAgent::Asked(asked)) => Input::Asked(asked),
            Some(ToAgent::Begin(_)) => continue,
            // It is gone, or not itself any more.
            None => return inbox.put(Input::Orphaned),
        });
    }
}

/// Sends what the tree is to show; what comes meanwhile takes the place of what waits.
fn send_all(channel: &Channel, (next, changed): &Next) {
    let mut edition = 0;
    loop {
        let mut wanted = next.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = loop {
            match wanted.take() {
                Some(entries) => break entries,
                None => wanted = changed.wait(wanted).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(wanted);
        edition += 1;
        for part in parts(edition, &entries) {
            let part = FromAgent::Names(part);
            // A doorkeeper that stands still takes it when it goes on.
            while let Err(error) = tell(channel, &part) {
                if error.kind() != io::ErrorKind::WouldBlock {
                    return;
                }
            }
        }
    }
}
