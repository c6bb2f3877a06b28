//! The mounts of every mount namespace that a process is in.
//!
//! A namespace that only a bind mount or an open descriptor keeps alive has no process and is not
//! seen; neither is one in which only a thread is that is not its process's first.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

use crate::text::decimal;

/// A mount namespace, and through which process it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountNamespace {
    /// `mnt:[4026531841]`: the inode number of the namespace.
    pub inum: u64,
    /// The process with the lowest number in it.
    pub pid: u32,
    /// Whether it is our own: then points are relative to our root directory.
    pub is_own: bool,
    /// Its `/proc/PID/mountinfo`; mount points are relative to that process's root directory.
    pub mountinfo: Vec<u8>,
}

/// How a look at all of them ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// Processes whose namespace is not ours to see.
    pub hidden: u64,
    /// Namespaces that were not read: there were too many, too many mounts, or too little time.
    pub unread: u64,
}

/// No more namespaces than that are read.
pub const MOST: usize = 4096;

/// No more of one mountinfo is read: some hundred thousand mounts.
const LONGEST: u64 = 32 << 20;

/// Gives each mount namespace to `each`, ours first and in any case, others until `deadline`. What vanishes meanwhile is
/// no part of the answer.
///
/// # Errors
/// Where `/proc` cannot be listed.
pub fn walk(deadline: Instant, mut each: impl FnMut(MountNamespace)) -> io::Result<Missed> {
    let mut missed = Missed::default();
    let mut found: BTreeMap<u64, u32> = BTreeMap::new();
    let own = namespace_of("/proc/self/ns/mnt").ok();
    for pid in pids()? {
        match namespace_of(&format!("/proc/{pid}/ns/mnt")) {
            Ok(inum) => _ = found.entry(inum).and_modify(|one| *one = pid.min(*one)).or_insert(pid),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => missed.hidden += 1,
            // It has ended, or is ending.
            Err(_) => {}
        }
    }
    let mut namespaces: Vec<(u64, u32)> = found.into_iter().collect();
    namespaces.sort_by_key(|(inum, pid)| (Some(*inum) != own, *pid));
    for (at, (inum, pid)) in namespaces.into_iter().enumerate() {
        // Ours at least is read, however little time there is.
        if at >= MOST || at > 0 && Instant::now() >= deadline {
            missed.unread += 1;
            continue;
        }
        let is_own = Some(inum) == own;
        let path = if is_own {
            "/proc/self/mountinfo".to_owned()
        } else {
            format!("/proc/{pid}/mountinfo")
        };
        let mut mountinfo = Vec::new();
        let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut mountinfo));
        if read.is_ok() && !mountinfo.is_empty() {
            missed.unread += u64::from(u64::try_from(mountinfo.len()).is_ok_and(|n| n >= LONGEST));
            each(MountNamespace { inum, pid, is_own, mountinfo });
        }
    }
    Ok(missed)
}

fn pids() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        pids.extend(decimal::<u32>(entry?.file_name().as_bytes()));
    }
    pids.sort_unstable();
    Ok(pids)
}

fn namespace_of(link: &str) -> io::Result<u64> {
    let target = fs::read_link(link)?;
    inum(target.as_os_str().as_bytes())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a namespace of an unknown form"))
}

/// The number in `mnt:[4026531841]`.
fn inum(link: &[u8]) -> Option<u64> {
    decimal(link.strip_prefix(b"mnt:[")?.strip_suffix(b"]")?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_namespace_is_its_number() {
        assert_eq!(inum(b"mnt:[4026531841]"), Some(4_026_531_841));
        for odd in [&b""[..], b"mnt:[]", b"mnt:[1", b"net:[1]", b"mnt:[-1]"] {
            assert_eq!(inum(odd), None);
        }
    }

    #[test]
    fn ours_comes_first() {
        let mut found = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(10);
        walk(deadline, |one| found.push(one)).unwrap();
        let own = namespace_of("/proc/self/ns/mnt").unwrap();
        assert_eq!((found[0].inum, found[0].is_own), (own, true));
        assert!(!found[0].mountinfo.is_empty());
        let mut late = Vec::new();
        let missed = walk(Instant::now(), |one| late.push(one.inum)).unwrap();
        assert_eq!(late, [own]);
        assert!(missed.unread <= u64::try_from(found.len()).unwrap());
    }
}
