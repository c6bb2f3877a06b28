//! The audit container id of each task, as the programs keep it (`labels.h`).
//!
//! A label is set by the pidfd of a process and inherited in the kernel, by each task that begins and
//! before it runs. Whoever sets one looks at the process's children again after it: one that was forked
//! meanwhile without the label makes the whole thing refused, and [`Labels::abort`] takes it back from
//! the process and from all that inherited it, at once.
//!
//! ```text
//!  set(P, {contid: 7, old, generation: g})      P ─▶ 7 ── forks ─▶ 7
//!  abort(g)                                     P ─▶ old           old ── forks ─▶ old
//! ```
//!
//! All of this takes descriptors and, since 5.19, no right; before, where the sysctl
//! kernel.unprivileged_bpf_disabled is not 0, CAP_BPF.
//!
//! Kernels before 6.2 answer a program that there is no label while the same processor is in the middle
//! of a call that reads or sets one; a fork gets in between only where the kernel preempts itself
//! (`preempt=full`).

#![allow(unsafe_code, reason = "libbpf-rs opens no map that another process made")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libbpf_rs::libbpf_sys::{bpf_map_lookup_elem, bpf_map_update_elem};
use rustix::io::Errno;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::program::{fdinfo, field};
use crate::process;

/// The id of a task that has none.
pub const UNSET: u64 = u64::MAX;

/// What a task bears: `struct label`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Label {
    /// The container id; [`UNSET`]: none.
    pub contid: u64,
    /// What it is instead when the generation is aborted.
    pub old: u64,
    /// Whose call set it: a number that no other call of this boot gets. 0: nobody will take it back.
    pub generation: u64,
}

/// `struct unstored`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Unstored {
    label: Label,
    start_boottime: u64,
}

/// The maps of [`Labels`], by name, with the bytes of their keys and values.
pub(super) const MAPS: [(&str, u64, u64); 3] = [
    ("labels", 4, size_of::<Label>() as u64),
    ("aborted", 8, 8),
    ("unstored", 4, size_of::<Unstored>() as u64),
];

/// The labels of all tasks.
#[derive(Debug)]
pub struct Labels {
    /// In the order of [`MAPS`].
    maps: [OwnedFd; 3],
}

impl Labels {
    /// By the descriptors of the maps.
    ///
    /// # Errors
    /// `InvalidData` where they are others; where `/proc` cannot be read.
    pub(super) fn new(maps: [OwnedFd; 3]) -> io::Result<Labels> {
        for (fd, (name, key, value)) in maps.iter().zip(MAPS) {
            let text = fdinfo(fd)?;
            // Every read and write below relies on it.
            let sizes = [&b"key_size:"[..], b"value_size:"].map(|name| field(&text, name));
            if sizes != [Some(key), Some(value)] {
                let what = format!("no map {name} of this version");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
        Ok(Labels { maps })
    }

    pub(super) fn maps(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.maps.iter().map(AsFd::as_fd)
    }

    /// The same once more.
    ///
    /// # Errors
    /// Where the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Labels> {
        let [labels, aborted, unstored] = &self.maps;
        Ok(Labels { maps: [labels.try_clone()?, aborted.try_clone()?, unstored.try_clone()?] })
    }

    /// What the process behind a pidfd bears, as it holds now: one that was taken back is told as what
    /// it was before, with the generation 0. None: it has no id. One that has ended bears it until it
    /// was waited for.
    ///
    /// This is its first thread's. The others have the same: threads inherit, and nobody sets the label of
    /// a process that has several. Since 6.9 a thread has a pidfd of its own (`PIDFD_THREAD`),
    /// which does here too.
    ///
    /// # Errors
    /// ESRCH where it is gone, EBADF where this is no pidfd.
    pub fn get(&self, process: impl AsFd) -> io::Result<Option<Label>> {
        let key = process.as_fd().as_raw_fd();
        let [labels, _, unstored] = &self.maps;
        let label = match lookup::<_, Label>(labels, &key)? {
            Some(label) => Some(label),
            None => {
                let pid = alive(&process)?;
                let entry = lookup::<_, Unstored>(unstored, &pid)?;
                entry.filter(|entry| is_of(entry, pid)).map(|entry| entry.label)
            }
        };
        let Some(mut label) = label else { return Ok(None) };
        if self.is_aborted(label.generation)? {
            label = Label { contid: label.old, old: label.old, generation: 0 };
        }
        Ok((label.contid != UNSET).then_some(label))
    }

    /// Labels the process behind a pidfd, which should have one thread and no children. Those that it
    /// forks from now on have the label too.
    ///
    /// # Errors
    /// EINVAL for the id [`UNSET`], ESRCH where it is gone, EBADF where this is no pidfd, ENOMEM.
    pub fn set(&self, process: impl AsFd, label: Label) -> io::Result<()> {
        if label.contid == UNSET {
            return Err(Errno::INVAL.into());
        }
        let key = process.as_fd().as_raw_fd();
        match update(&self.maps[0], &key, &label) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Errno::SRCH.into()),
            answer => answer,
        }
    }

    /// Takes back what was set with this generation, from everyone who has it, at once and for good.
    ///
    /// # Errors
    /// `InvalidInput` for 0; else none that a kernel has.
    pub fn abort(&self, generation: u64) -> io::Result<()> {
        if generation == 0 {
            return Err(Errno::INVAL.into());
        }
        update(&self.maps[1], &generation, &1_u64)
    }

    /// Whether it was taken back: then whoever was told with this generation has the old id. The
    /// programs forget those that are 4,096 back; no task has one of them.
    ///
    /// # Errors
    /// None that a kernel has.
    pub fn is_aborted(&self, generation: u64) -> io::Result<bool> {
        if generation == 0 {
            return Ok(false);
        }
        Ok(lookup::<_, u64>(&self.maps[1], &generation)?.is_some())
    }
}

/// The number of a process that is there (its pidfd's line in `/proc/self/fdinfo`).
fn alive(pidfd: impl AsFd) -> io::Result<u32> {
    let text = fdinfo(pidfd)?;
    // -1 where it is gone, 0 where it is of another pid namespace.
    let pid = field(&text, b"Pid:").and_then(|pid| u32::try_from(pid).ok());
    pid.filter(|pid| *pid != 0).ok_or_else(|| Errno::SRCH.into())
}

/// Nanoseconds of a tick in `/proc` (USER_HZ is 100 everywhere).
const TICK_NS: u64 = 10_000_000;

/// Whether the entry is this process's and not of one that had the number before.
fn is_of(entry: &Unstored, pid: u32) -> bool {
    process::facts(pid).is_ok_and(|facts| facts.start_time == entry.start_boottime / TICK_NS)
}

/// The value of a key. The sizes are the map's: see [`Labels::new`].
fn lookup<K: IntoBytes + Immutable, V: FromBytes + FromZeros>(
    map: &OwnedFd,
    key: &K,
) -> io::Result<Option<V>> {
    let mut value = V::new_zeroed();
    let (key, into) = (std::ptr::from_ref(key), std::ptr::from_mut(&mut value));
    // SAFETY: the kernel reads as many bytes as the map's keys have, which `key` has, and writes
    // as many as its values have, which `value` has and which may be any; both outlive the call.
    let answer = unsafe { bpf_map_lookup_elem(map.as_raw_fd(), key.cast(), into.cast()) };
    match answered(answer) {
        Ok(()) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets the value of a key. The sizes are the map's: see [`Labels::new`].
fn update<K: IntoBytes + Immutable, V: IntoBytes + Immutable>(
    map: &OwnedFd,
    key: &K,
    value: &V,
) -> io::Result<()> {
    let (key, value) = (std::ptr::from_ref(key), std::ptr::from_ref(value));
    // SAFETY: the kernel reads as many bytes as the map's keys and values have, which these have
    // and keep until the call is over. 0 is BPF_ANY.
    answered(unsafe { bpf_map_update_elem(map.as_raw_fd(), key.cast(), value.cast(), 0) })
}

/// libbpf returns the negative errno.
fn answered(answer: i32) -> io::Result<()> {
    if answer < 0 { Err(io::Error::from_raw_os_error(-answer)) } else { Ok(()) }
}
