//! Who is at the other end of a Unix socket, with the groups that the kernel has for it.

#![allow(unsafe_code, reason = "no library asks for SO_PEERGROUPS, or takes a PID of 0")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Groups that are looked at, at most: a process can have 65,536 (`NGROUPS_MAX`).
const MOST: usize = 65_536;

/// The process that connected, as it was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process; 0 where it is of another PID namespace.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its further groups.
    pub groups: Vec<u32>,
}

impl Peer {
    /// Asks for the other end of a connected Unix socket.
    ///
    /// # Errors
    /// Where it is no such socket.
    pub fn of(socket: impl AsFd) -> io::Result<Peer> {
        let mut known = [0_u32; 3];
        let length = ask(&socket, libc::SO_PEERCRED, &mut known)?;
        if length != size_of::<libc::ucred>() {
            return Err(io::Error::other("the kernel's answer to SO_PEERCRED is not a ucred"));
        }
        let [pid, uid, gid] = known;
        Ok(Peer { pid, uid, gid, groups: groups(&socket)? })
    }

    /// Whether it is in this group.
    #[must_use]
    pub fn is_in(&self, group: u32) -> bool {
        self.gid == group || self.groups.contains(&group)
    }
}

fn groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0; 64];
    loop {
        match ask(&socket, libc::SO_PEERGROUPS, &mut groups) {
            Ok(length) => {
                groups.truncate(length / size_of::<u32>());
                return Ok(groups);
            }
            Err(error) if error.raw_os_error() != Some(libc::ERANGE) || groups.len() >= MOST => {
                return Err(error);
            }
            Err(_) => groups.resize(MOST, 0),
        }
    }
}

/// Asks for an option that is numbers of 32 bits, and says how many bytes it has.
fn ask(socket: impl AsFd, option: libc::c_int, into: &mut [u32]) -> io::Result<usize> {
    let size = size_of_val(into);
    let mut length = libc::socklen_t::try_from(size).map_err(io::Error::other)?;
    // SAFETY: the descriptor is borrowed, so open; the kernel writes at most `length` bytes to `into`,
    // which has as many, may hold any bits, and is aligned for the u32s that it holds.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            into.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    usize::try_from(length).map(|length| length.min(size)).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_other_end_is_ourselves() {
        let (here, _there) = UnixStream::pair().unwrap();
        let peer = Peer::of(&here).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert!(peer.is_in(rustix::process::getegid().as_raw()));
        let ours: Vec<u32> =
            rustix::process::getgroups().unwrap().iter().map(|group| group.as_raw()).collect();
        assert_eq!(peer.groups, ours);
        assert!(Peer::of(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
