//! The one call by which the device mapper is asked, and the structure in front of every question
//! and answer (`linux/dm-ioctl.h`, version 4).

#![allow(unsafe_code, reason = "no library asks the device mapper")]

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// `struct dm_ioctl`, in the machine's own byte order.
///
/// ```text
///   0 version[3]  12 data_size  16 data_start  20 target_count  24 open_count  28 flags
///  32 event_nr    36 padding    40 dev         48 name[128]    176 uuid[129]  305 data[7]  312
/// ```
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    /// Of the interface; the kernel answers with its own.
    pub(super) version: [u32; 3],
    /// Bytes of this buffer: in a question all of them, in an answer those that are used.
    pub(super) data_size: u32,
    /// Where, in this buffer, that begins which follows the structure.
    pub(super) data_start: u32,
    pub(super) target_count: u32,
    pub(super) open_count: u32,
    pub(super) flags: u32,
    /// Number of events; in a resume, what udev is told as `DM_COOKIE`.
    pub(super) event_nr: u32,
    padding: u32,
    /// Major and minor number, as [`super::pack`] has them.
    pub(super) dev: u64,
    pub(super) name: [u8; NAME_LEN],
    pub(super) uuid: [u8; UUID_LEN],
    data: [u8; 7],
}

/// `DM_NAME_LEN` and `DM_UUID_LEN`, each with its NUL.
pub(super) const NAME_LEN: usize = 128;
pub(super) const UUID_LEN: usize = 129;

const _: () = assert!(size_of::<Header>() == 312);
const _: () = assert!(offset_of!(Header, data_size) == 12);
const _: () = assert!(offset_of!(Header, flags) == 28);
const _: () = assert!(offset_of!(Header, dev) == 40);
const _: () = assert!(offset_of!(Header, name) == 48);
const _: () = assert!(offset_of!(Header, uuid) == 176);

impl Header {
    /// Of a question about no device yet.
    pub(super) fn new() -> Self {
        Self { version: [4, 0, 0], data_start: 312, ..Self::new_zeroed() }
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Command {
    Version = 0,
    ListDevices = 2,
    Create = 3,
    Remove = 4,
    /// And resume, without the flag.
    Suspend = 6,
    Status = 7,
    Load = 9,
    TableStatus = 12,
    ListVersions = 13,
    Message = 14,
    TargetVersion = 17,
}

/// `_IOWR(0xfd, 0, struct dm_ioctl)`.
const REQUEST: libc::Ioctl = 0xc138_fd00;

/// Asks with `buffer`, which begins with a [`Header`], and takes the answer in its place.
///
/// # Errors
/// EINVAL for a buffer without a header, or what the kernel answered.
pub(super) fn call(control: BorrowedFd<'_>, command: Command, buffer: &mut [u8]) -> io::Result<()> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let bytes = u32::try_from(buffer.len()).map_err(|_| invalid())?;
    if buffer.len() < size_of::<Header>() {
        return Err(invalid());
    }
    let at = offset_of!(Header, data_size);
    buffer[at..at + 4].copy_from_slice(bytes.as_bytes());
    let request = REQUEST | libc::Ioctl::from(command as u8);
    // SAFETY: for each of these requests the kernel reads and writes the `data_size` bytes from
    // this address on and no others, and `data_size` was made the length of the slice just now.
    let answer = unsafe { libc::ioctl(control.as_raw_fd(), request, buffer.as_mut_ptr()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
