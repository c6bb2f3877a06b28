//! The calls that loop devices are made by (`linux/loop.h`).

#![allow(unsafe_code, reason = "no library makes loop devices")]

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// `struct loop_info64`.
///
/// ```text
///  0 device  8 inode  16 rdevice  24 offset  32 sizelimit  40 number  44 encrypt_type
/// 48 encrypt_key_size  52 flags  56 file_name[64]  120 crypt_name[64]  184 encrypt_key[32]
/// 216 init[2]  232
/// ```
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    pub(super) flags: u32,
    pub(super) file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`: `fd u32 | block_size u32 | struct loop_info64 | reserved u64[8]`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Info>() == 232);
const _: () = assert!(offset_of!(Info, flags) == 52);
const _: () = assert!(size_of::<Config>() == 304);

impl Info {
    pub(super) fn new() -> Self {
        Self::new_zeroed()
    }
}

const SET_FD: libc::Ioctl = 0x4c00;
const CLR_FD: libc::Ioctl = 0x4c01;
const SET_STATUS64: libc::Ioctl = 0x4c04;
const CONFIGURE: libc::Ioctl = 0x4c0a;
const CTL_GET_FREE: libc::Ioctl = 0x4c82;

/// The number of a loop device that nobody uses at this moment, made if need be.
pub(super) fn free(control: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: the descriptor is borrowed, so open; this request has no argument.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), CTL_GET_FREE) };
    u32::try_from(number).map_err(|_| io::Error::last_os_error())
}

/// Everything at once; from Linux 5.8 on.
pub(super) fn configure(
    device: BorrowedFd<'_>,
    backing: BorrowedFd<'_>,
    info: &Info,
) -> io::Result<()> {
    let fd = u32::try_from(backing.as_raw_fd()).map_err(io::Error::other)?;
    let config = Config { fd, info: *info, ..Config::new_zeroed() };
    // SAFETY: both descriptors are borrowed, so open; the kernel reads a `struct loop_config`, which
    // has this size and layout, and keeps no reference to it.
    done(unsafe { libc::ioctl(device.as_raw_fd(), CONFIGURE, &raw const config) })
}

pub(super) fn set_file(device: BorrowedFd<'_>, backing: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both descriptors are borrowed, so open; the argument of this request is a number.
    done(unsafe { libc::ioctl(device.as_raw_fd(), SET_FD, backing.as_raw_fd()) })
}

pub(super) fn set_status(device: BorrowedFd<'_>, info: &Info) -> io::Result<()> {
    let info: *const Info = info;
    // SAFETY: the descriptor is borrowed, so open; the kernel reads a `struct loop_info64`, which
    // has this size and layout, and keeps no reference to it.
    done(unsafe { libc::ioctl(device.as_raw_fd(), SET_STATUS64, info) })
}

pub(super) fn clear(device: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed, so open; this request has no argument.
    done(unsafe { libc::ioctl(device.as_raw_fd(), CLR_FD) })
}

fn done(answer: libc::c_int) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
