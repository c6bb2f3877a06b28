//! An event of the ring as bytes, and as what it says (`events.h`). Pure.
//!
//! The bytes are our own program's, but a reader may be of another version than whoever loaded the
//! program: what is short or unknown is counted, never guessed.

use record::{EventId, Line};
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::clock::{ClockCall, Raw};

/// `struct head` with `struct task`.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Head {
    kind: u32,
    detail: u32,
    boottime_ns: u64,
    start_boottime: u64,
    parent_start: u64,
    cgroup: u64,
    contid: u64,
    generation: u64,
    pid: u32,
    tgid: u32,
    parent: u32,
    uid: u32,
    loginuid: u32,
    session: u32,
    user_ns: u32,
    mnt_ns: u32,
    pid_ns: u32,
    net_ns: u32,
    comm: [u8; 16],
}

/// The longest event that a program of this version tells, in bytes: `LONGEST_EVENT` of `events.h`, which lets
/// none be longer. Of one that is, the beginning is read.
pub(super) const LONGEST: usize = 1144;

/// Behind the head: `struct group_event`, `struct exec_event` with the longest texts, `struct clock_event`.
const _: () = {
    let group = size_of::<[u32; 2]>() + 1024;
    assert!(size_of::<Head>() + group == LONGEST, "groups.h");
    assert!(256 <= group, "tasks.h");
    assert!(size_of::<Raw>() <= group, "clock.h");
};

/// Who did it. Numbers are those of the initial namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// When it happened, in nanoseconds since boot (CLOCK_BOOTTIME).
    pub boottime_ns: u64,
    /// When the process began, in nanoseconds since boot: with [`tgid`](Task::tgid), its identity. Ticks
    /// of 10 ms of the same are in `/proc/PID/stat`.
    pub start_boottime: u64,
    /// The same of its parent.
    pub parent_start: u64,
    /// Of the unified hierarchy: the inode of the directory.
    pub cgroup: u64,
    /// The audit container id; [`UNSET`](super::UNSET): none.
    pub contid: u64,
    /// Whose call set it. Where that is taken back later ([`Labels::is_aborted`](super::Labels::is_aborted)),
    /// the id is what it was before the call. 0: it will not be.
    pub generation: u64,
    /// The thread.
    pub pid: u32,
    /// The process.
    pub tgid: u32,
    /// The parent process.
    pub parent: u32,
    /// Real user.
    pub uid: u32,
    /// User of the login, `u32::MAX` without one.
    pub loginuid: u32,
    /// Session of the login, `u32::MAX` without one.
    pub session: u32,
    /// Inode number of the user namespace.
    pub user_ns: u32,
    /// Of the mount namespace; 0 where it has left it already, as for the next two.
    pub mnt_ns: u32,
    /// Of the pid namespace that its children get.
    pub pid_ns: u32,
    /// Of the network namespace.
    pub net_ns: u32,
    /// The process's name, up to 15 bytes, any: it chose them itself.
    pub comm: Vec<u8>,
}

/// What a program told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A process has begun; it did not run yet.
    Fork(Task),
    /// A process runs another program.
    Exec {
        /// Who, with its new name.
        task: Task,
        /// The file as it was asked for: a script's own, relative to wherever the process stood,
        /// or of a descriptor (`/dev/fd/N`). At most 255 bytes.
        filename: Vec<u8>,
    },
    /// The last thread of a process ends.
    Exit {
        /// Who.
        task: Task,
        /// As wait(2) has it, of that thread.
        code: u32,
    },
    /// A task is in other namespaces now. Such a thread's are not always its process's.
    Namespaces {
        /// Who, in the new ones.
        task: Task,
        /// By which call.
        how: Entered,
    },
    /// The clock was changed by a call.
    Clock(Box<ClockCall>),
    /// The kernel has made a record of a packet.
    Packet(Packet),
    /// A process came into another control group.
    Group {
        /// Who, in the new one.
        task: Task,
        /// The hierarchy, as `/proc/PID/cgroup` numbers them: 0 is the unified one.
        hierarchy: u32,
        /// The group's path in it, any bytes but line feeds and NUL, at most 1,023; empty where the
        /// process began there, and `/proc` has to be asked.
        path: Vec<u8>,
    },
}

/// A packet that there is a record of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The record's number and stamp.
    pub id: EventId,
    /// When, in nanoseconds since boot.
    pub boottime_ns: u64,
    /// Inode number of the network namespace that the packet was in.
    pub net_ns: u32,
}

/// A call that changes namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// setns(2).
    Setns,
    /// unshare(2), which may also have unshared what is no namespace.
    Unshare,
}

impl Event {
    /// Who did it; none of a packet, which is nobody's.
    #[must_use]
    pub fn task(&self) -> Option<&Task> {
        match self {
            Event::Fork(task)
            | Event::Exec { task, .. }
            | Event::Exit { task, .. }
            | Event::Namespaces { task, .. }
            | Event::Group { task, .. } => Some(task),
            Event::Clock(call) => Some(&call.task),
            Event::Packet(_) => None,
        }
    }
}

/// Why bytes are no event.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// They end too early.
    #[error("an event of {0} bytes is cut short")]
    Short(usize),
    /// Of no kind that is known here.
    #[error("an event of the unknown kind {0}")]
    Unknown(u32),
}

impl Event {
    /// Reads one. What follows behind is not looked at.
    ///
    /// # Errors
    /// Where it is cut short, or of an unknown kind.
    pub fn parse(bytes: &[u8]) -> Result<Event, Malformed> {
        let short = Malformed::Short(bytes.len());
        let (head, rest) = Head::read_from_prefix(bytes).map_err(|_| short)?;
        match head.kind {
            1 => Ok(Event::Fork(head.task())),
            2 => {
                let length = usize::try_from(head.detail).map_err(|_| short)?;
                let filename = rest.get(..length).ok_or(short)?.to_vec();
                Ok(Event::Exec { task: head.task(), filename })
            }
            3 => Ok(Event::Exit { task: head.task(), code: head.detail }),
            4 => {
                let how = match head.detail {
                    1 => Entered::Setns,
                    2 => Entered::Unshare,
                    _ => return Err(Malformed::Unknown(4)),
                };
                Ok(Event::Namespaces { task: head.task(), how })
            }
            5 => {
                let (raw, _) = Raw::read_from_prefix(rest).map_err(|_| short)?;
                Ok(Event::Clock(Box::new(raw.call(head.detail, head.task()))))
            }
            9 | 10 => {
                let id = packet_id(rest).ok_or(short)?;
                let Head { boottime_ns, net_ns, .. } = head;
                Ok(Event::Packet(Packet { id, boottime_ns, net_ns }))
            }
            12 => {
                let length = usize::try_from(head.detail).map_err(|_| short)?;
                // Beside the hierarchy there is padding.
                let (hierarchy, rest) = <[u32; 2]>::read_from_prefix(rest).map_err(|_| short)?;
                let path = rest.get(..length).ok_or(short)?.to_vec();
                Ok(Event::Group { task: head.task(), hierarchy: hierarchy[0], path })
            }
            kind => Err(Malformed::Unknown(kind)),
        }
    }
}

/// `audit(SEC.MMM:SERIAL)`, with anything behind it.
fn packet_id(stamp: &[u8]) -> Option<EventId> {
    let end = stamp.iter().position(|byte| *byte == b')')?;
    let line = [b"type=NETFILTER_PKT msg=", stamp.get(..=end)?, b": "].concat();
    Line::parse(&line).ok().map(|line| line.id())
}

impl Head {
    fn task(self) -> Task {
        Task {
            boottime_ns: self.boottime_ns,
            start_boottime: self.start_boottime,
            parent_start: self.parent_start,
            cgroup: self.cgroup,
            contid: self.contid,
            generation: self.generation,
            pid: self.pid,
            tgid: self.tgid,
            parent: self.parent,
            uid: self.uid,
            loginuid: self.loginuid,
            session: self.session,
            user_ns: self.user_ns,
            mnt_ns: self.mnt_ns,
            pid_ns: self.pid_ns,
            net_ns: self.net_ns,
            comm: text(&self.comm).to_vec(),
        }
    }
}

/// What stands before the NUL, if there is one.
pub(super) fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(kind: u32, detail: u32, behind: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [kind, detail] {
            bytes.extend(ours(number));
        }
        for number in [100_u64, 90, 80, 70, 60, 50] {
            bytes.extend(zerocopy::IntoBytes::as_bytes(&number));
        }
        for number in 1..=10 {
            bytes.extend(ours(number));
        }
        bytes.extend(b"sh\0garbage\0\0\0\0\0\0");
        bytes.extend(behind);
        bytes
    }

    fn ours(number: u32) -> [u8; 4] {
        zerocopy::transmute!(number)
    }

    #[test]
    fn each_member_is_read_where_the_program_wrote_it() {
        let expected = Task {
            boottime_ns: 100,
            start_boottime: 90,
            parent_start: 80,
            cgroup: 70,
            contid: 60,
            generation: 50,
            pid: 1,
            tgid: 2,
            parent: 3,
            uid: 4,
            loginuid: 5,
            session: 6,
            user_ns: 7,
            mnt_ns: 8,
            pid_ns: 9,
            net_ns: 10,
            comm: b"sh".to_vec(),
        };
        assert_eq!(Event::parse(&bytes(1, 0, b"")), Ok(Event::Fork(expected.clone())));
        let exec = Event::Exec { task: expected.clone(), filename: b"/bin/sh".to_vec() };
        assert_eq!(Event::parse(&bytes(2, 7, b"/bin/sh\0old")), Ok(exec));
        assert_eq!(
            Event::parse(&bytes(3, 256, b"")),
            Ok(Event::Exit { task: expected.clone(), code: 256 })
        );
        let behind = [&ours(4)[..], &ours(0), b"/docker/1\0old"].concat();
        let group = Event::Group { task: expected, hierarchy: 4, path: b"/docker/1".to_vec() };
        assert_eq!(Event::parse(&bytes(12, 9, &behind)), Ok(group));
    }

    #[test]
    fn a_packet_is_of_the_record_whose_number_was_read() {
        let packet = |stamp: &[u8]| Event::parse(&bytes(9, 0, stamp));
        let id = EventId { millis: 1_795_301_006_620, serial: 803 };
        let expected = Event::Packet(Packet { id, boottime_ns: 100, net_ns: 10 });
        assert_eq!(packet(b"audit(1795301006.620:803): \0\x01garbage"), Ok(expected));
        for wrong in [&b"audit(1795301006.620:803"[..], b"", b"audit(1.2:x): ", b"\0\0\0)"] {
            assert!(matches!(packet(wrong), Err(Malformed::Short(_))), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_short_or_unknown_is_no_event() {
        let whole = bytes(2, 7, b"/bin/sh");
        for length in 0..whole.len() {
            assert_eq!(Event::parse(&whole[..length]), Err(Malformed::Short(length)));
        }
        assert_eq!(Event::parse(&bytes(99, 0, b"")), Err(Malformed::Unknown(99)));
        let group = bytes(9, 2, &[&ours(0)[..], &ours(0), b"/d"].concat());
        for length in 0..group.len() {
            assert_eq!(Event::parse(&group[..length]), Err(Malformed::Short(length)));
        }
        let long = bytes(2, u32::MAX, b"");
        assert_eq!(Event::parse(&long), Err(Malformed::Short(long.len())));
    }
}
