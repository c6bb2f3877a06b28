//! The volume of a served device: it reads a hostile image for hostile readers.

use std::io;

use super::{Allowed, Argument, Capabilities, alone, apply, close_up, drop_capabilities};

/// Confines this process, which reads what others wrote (disks, trees, parity) and serves it, to
/// the descriptors that it has: nothing can be opened, executed, connected, traced or gained any
/// more.
///
/// No capability in any set, no_new_privs, not dumpable, no core, and a list of system calls
/// beyond which everything answers EPERM (see `ALLOWED`). Threads started later inherit all of it.
///
/// # Errors
/// Where other threads run already, or the kernel knows no seccomp filters. The process may be
/// partly confined then and had better end.
pub fn confine_volume() -> io::Result<()> {
    alone()?;
    drop_capabilities(Capabilities::empty())?;
    close_up()?;
    apply(&ALLOWED.filters()?)
}

/// Every call that it may make beside the common ones.
pub(super) const ALLOWED: Allowed = Allowed { calls: &[], restricted: RESTRICTED };

const AT_EMPTY_PATH: u64 = libc::AT_EMPTY_PATH as u64;

const RESTRICTED: &[(i64, Argument)] = &[
    // Of a descriptor. (A path that comes along cannot be seen from here: a confined process can
    // look at attributes by path, never at contents.)
    (libc::SYS_statx, Argument::Bits { at: 2, mask: AT_EMPTY_PATH, bits: AT_EMPTY_PATH }),
    (libc::SYS_newfstatat, Argument::Bits { at: 3, mask: AT_EMPTY_PATH, bits: AT_EMPTY_PATH }),
    (libc::SYS_ioctl, Argument::OneOf(1, &[BLKGETSIZE64, FUSE_DEV_IOC_CLONE])),
];

/// `linux/fs.h`: `_IOR(0x12, 114, size_t)`.
const BLKGETSIZE64: u64 = 0x8008_1272;
/// `linux/fuse.h`: `_IOR(229, 0, uint32_t)`.
const FUSE_DEV_IOC_CLONE: u64 = 0x8004_e500;
