//! What the processes of the agent say to each other: JSON, one message in each packet.
//!
//! | channel | doorkeeper | the other |
//! |---|---|---|
//! | to the agent | [`ToAgent`], [`ToAgent::Begin`] first | [`FromAgent`] |
//! | to the writer | [`ToWriter`] | [`FromWriter`] |
//!
//! What cannot be read is nobody's message. The doorkeeper ends a process that says such a thing, and
//! goes on itself: it was started by us and is not itself any more.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use host::channel::Channel;
use host::fuse_tree::Entry;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::agent::sources::bpf::Letter;

/// What both ends speak; they are one program, unless it was replaced while it ran.
pub(in crate::agent) const VERSION: u32 = 3;

/// The longest message, in bytes.
pub(in crate::agent) const LONGEST: usize = 64 << 10;

/// To the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::agent) enum ToAgent {
    /// The first message.
    Begin(Begin),
    /// The writer was started, or is heard or not heard any more.
    Writer(WriterState),
    /// Read the configuration again.
    Reload,
    /// A process reads or writes a task's label.
    Asked(Asked),
    /// Write down what has come, and end.
    Stop,
}

/// What an agent is told before it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::agent) struct Begin {
    pub(in crate::agent) version: u32,
    /// The doorkeeper's process.
    pub(in crate::agent) doorkeeper: u32,
    pub(in crate::agent) writer: WriterState,
    /// Where the tree is mounted, or why it is not.
    pub(in crate::agent) tree: Result<PathBuf, String>,
    /// Whether a service manager starts the doorkeeper again when it is gone.
    pub(in crate::agent) managed: bool,
    /// How many agents there were before this one.
    pub(in crate::agent) restarts: u64,
    /// What the descriptors of this message are: those of programs that tell of processes.
    pub(in crate::agent) bpf: Option<Letter>,
}

/// How the writer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::agent) struct WriterState {
    pub(in crate::agent) pid: u32,
    /// How many there were before this one.
    pub(in crate::agent) restarts: u64,
    /// It has not been heard of for long.
    pub(in crate::agent) silent: bool,
}

/// From the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::agent) enum FromAgent {
    /// It listens; what it says of that, line by line, and in short for the service manager.
    Ready { lines: Vec<String>, status: String },
    /// Its decision loop goes round.
    Beat,
    /// The configuration was read again: in short for the service manager, and whether the writer has to
    /// be started again for it.
    Reloaded { status: String, writer: bool },
    /// A part of what the tree shows.
    Names(Names),
    /// What becomes of what a process asked.
    Answered(Answered),
}

/// A process reads or writes `audit_containerid` of a task, and waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::agent) struct Asked {
    pub(in crate::agent) id: u64,
    /// The task whose label it is.
    pub(in crate::agent) target: u32,
    /// When that one started, in clock ticks since boot: who has its number now may be another.
    pub(in crate::agent) started: u64,
    /// The thread that asks, in the doorkeeper's pid namespace; 0: it is in another one.
    pub(in crate::agent) caller: u32,
    /// When it did, in nanoseconds since boot.
    pub(in crate::agent) asked_ns: u64,
    /// At which offset it writes what; none: it reads.
    pub(in crate::agent) write: Option<(u64, Vec<u8>)>,
}

/// The answer to [`Asked`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::agent) struct Answered {
    pub(in crate::agent) id: u64,
    /// What is read, nothing where it was written; or the errno.
    pub(in crate::agent) outcome: Result<Vec<u8>, i32>,
}

/// A part of what the tree shows. The parts of one `edition` follow each other; with the `last` it
/// takes the place of the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::agent) struct Names {
    pub(in crate::agent) edition: u64,
    pub(in crate::agent) names: Vec<(Vec<u8>, Node)>,
    pub(in crate::agent) last: bool,
}

/// What stands at a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::agent) enum Node {
    Link(Vec<u8>),
    File(String),
}

/// To the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::agent) enum ToWriter {
    /// This process is the agent from now on.
    Agent(u32),
    /// Sign, close the trail and end.
    Stop,
}

/// From the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::agent) enum FromWriter {
    /// The trail can be written.
    Ready,
    /// It lives, and its writing thread has been at one round of its work for so long.
    Beat {
        /// In milliseconds.
        stalled_millis: u64,
    },
}

/// Sends a message.
pub(in crate::agent) fn tell(channel: &Channel, what: &impl Serialize) -> io::Result<()> {
    tell_with(channel, what, &[])
}

/// Sends a message with descriptors.
pub(in crate::agent) fn tell_with(
    channel: &Channel,
    what: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    channel.send(&serde_json::to_vec(what)?, fds)
}

/// The message in the first `len` bytes of `buf`.
pub(in crate::agent) fn hear<T: DeserializeOwned>(buf: &[u8], len: usize) -> Option<T> {
    serde_json::from_slice(buf.get(..len)?).ok()
}

/// What the tree shows, by name.
pub(in crate::agent) type Entries = BTreeMap<OsString, Entry>;

/// The parts in which `entries` go over a channel.
pub(in crate::agent) fn parts(edition: u64, entries: &Entries) -> Vec<Names> {
    /// A byte is at most six in JSON.
    const MOST: usize = LONGEST / 6 - 1024;
    let mut parts = vec![Names { edition, names: Vec::new(), last: false }];
    let mut bytes = 0;
    for (name, entry) in entries {
        let node = match entry {
            Entry::Link(to) => Node::Link(to.as_os_str().as_bytes().to_vec()),
            Entry::File(text) => Node::File(String::from_utf8_lossy(text).into_owned()),
            Entry::Directory | Entry::Attribute(_) => continue,
        };
        let cost = name.len() + node.bytes() + 64;
        // One that fits no message is not shown.
        if cost > MOST {
            continue;
        }
        if bytes + cost > MOST {
            parts.push(Names { edition, names: Vec::new(), last: false });
            bytes = 0;
        }
        bytes += cost;
        if let Some(part) = parts.last_mut() {
            part.names.push((name.as_bytes().to_vec(), node));
        }
    }
    if let Some(part) = parts.last_mut() {
        part.last = true;
    }
    parts
}

impl Node {
    fn bytes(&self) -> usize {
        match self {
            Node::Link(to) => to.len(),
            Node::File(text) => text.len(),
        }
    }
}

/// Puts parts together again.
#[derive(Debug, Default)]
pub(in crate::agent) struct Edition {
    number: u64,
    entries: Entries,
    bytes: usize,
}

/// What an agent may have the doorkeeper hold, in bytes: ten thousand devices and more.
const MOST_BYTES: usize = 32 << 20;

/// The parts make no tree: there is too much of it, or names that no file has.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::agent) struct Nonsense;

impl Edition {
    /// Takes a part; the whole with the last one.
    pub(in crate::agent) fn take(&mut self, part: Names) -> Result<Option<Entries>, Nonsense> {
        if part.edition != self.number {
            // The one before was never finished: its agent was killed.
            *self = Edition { number: part.edition, ..Edition::default() };
        }
        for (name, node) in part.names {
            let plain = !name.is_empty() && name.len() <= 255 && name != b"." && name != b"..";
            if !plain || name.iter().any(|byte| [b'/', 0].contains(byte)) {
                return Err(Nonsense);
            }
            self.bytes += name.len() + node.bytes() + 64;
            if self.bytes > MOST_BYTES {
                return Err(Nonsense);
            }
            let entry = match node {
                Node::Link(to) => Entry::Link(PathBuf::from(OsString::from_vec(to))),
                Node::File(text) => Entry::File(text.into_bytes()),
            };
            self.entries.insert(OsString::from_vec(name), entry);
        }
        Ok(part.last.then(|| std::mem::take(self).entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn many() -> Entries {
        let entry = |n: usize| {
            let name = OsString::from(format!("device-{n}.status"));
            (
                name,
                Entry::File(format!("{{\"n\":{n},\"is\":\"{}\"}}\n", "x".repeat(n % 900)).into()),
            )
        };
        let link = ("a".into(), Entry::Link(PathBuf::from(OsString::from_vec(vec![0xff, b'/']))));
        (0..5000).map(entry).chain([link]).collect()
    }

    #[test]
    fn a_tree_of_any_size_goes_over_in_parts_and_is_the_same() {
        for entries in [Entries::new(), many()] {
            let mut edition = Edition::default();
            let parts = parts(7, &entries);
            let mut whole = None;
            for part in parts {
                let bytes = serde_json::to_vec(&FromAgent::Names(part)).unwrap();
                assert!(bytes.len() <= LONGEST, "{}", bytes.len());
                let Some(FromAgent::Names(part)) = hear(&bytes, bytes.len()) else { panic!() };
                assert_eq!(whole, None);
                whole = edition.take(part).unwrap();
            }
            assert_eq!(whole, Some(entries));
        }
    }

    #[test]
    fn an_edition_that_was_never_finished_is_forgotten() {
        let mut edition = Edition::default();
        let part = |edition, name: &str, last| Names {
            edition,
            names: vec![(name.into(), Node::File(String::new()))],
            last,
        };
        assert_eq!(edition.take(part(1, "old", false)), Ok(None));
        let whole = edition.take(part(2, "new", true)).unwrap().unwrap();
        assert_eq!(whole.into_keys().collect::<Vec<_>>(), ["new"]);
    }

    #[test]
    fn what_no_tree_holds_is_refused() {
        for name in ["", ".", "..", "a/b", "a\0b"] {
            let names = vec![(name.into(), Node::File(String::new()))];
            let part = Names { edition: 1, names, last: true };
            assert_eq!(Edition::default().take(part), Err(Nonsense), "{name:?}");
        }
        let mut edition = Edition::default();
        let big = |n: usize| {
            let node = Node::File("x".repeat(1 << 20));
            Names { edition: 1, names: vec![(n.to_string().into_bytes(), node)], last: false }
        };
        let refused = (0..40).find(|n| edition.take(big(*n)).is_err());
        assert_eq!(refused, Some(31), "memory has an end");
    }

    proptest! {
        /// Any bytes: no panic.
        #[test]
        fn any_bytes(bytes: Vec<u8>, text in "\\{\"(Names|Ready|Begin|Writer)\":.{0,40}\\}") {
            for bytes in [bytes, text.into_bytes()] {
                let _ = hear::<ToAgent>(&bytes, bytes.len());
                let _ = hear::<FromWriter>(&bytes, bytes.len() + 1);
                if let Some(FromAgent::Names(part)) = hear(&bytes, bytes.len()) {
                    let _ = Edition::default().take(part);
                }
            }
        }
    }
}
