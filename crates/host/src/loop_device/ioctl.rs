//! The calls that loop devices are made by (`linux/loop.h`).

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd};

use zerocopy::{FromBytes, FromZeros};

use crate::ioctl::{Argument, LoopCall, call, call_with};

/// `struct loop_info64`.
///
/// ```text
///  0 device  8 inode  16 rdevice  24 offset  32 sizelimit  40 number  44 encrypt_type
/// 48 encrypt_key_size  52 flags  56 file_name[64]  120 crypt_name[64]  184 encrypt_key[32]
/// 216 init[2]  232
/// ```
#[derive(Clone, Copy, FromBytes)]
#[repr(C)]
pub(super) struct Info {
    pub(super) device: u64,
    pub(super) inode: u64,
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
#[derive(Clone, Copy, FromBytes)]
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

// SAFETY: LOOP_CONFIGURE reads one `struct loop_config` and writes nothing; all members are integers.
#[allow(unsafe_code, reason = "an ioctl's argument")]
unsafe impl Argument for Config {
    const REQUEST: libc::Ioctl = 0x4c0a;
}

#[repr(transparent)]
struct SetStatus(Info);

// SAFETY: LOOP_SET_STATUS64 reads one `struct loop_info64` and writes nothing.
#[allow(unsafe_code, reason = "an ioctl's argument")]
unsafe impl Argument for SetStatus {
    const REQUEST: libc::Ioctl = 0x4c04;
}

#[repr(transparent)]
struct GetStatus(Info);

// SAFETY: LOOP_GET_STATUS64 writes one `struct loop_info64`; all members are integers.
#[allow(unsafe_code, reason = "an ioctl's argument")]
unsafe impl Argument for GetStatus {
    const REQUEST: libc::Ioctl = 0x4c05;
}

/// The number of a loop device that nobody uses at this moment, made if need be.
pub(super) fn free(control: impl AsFd) -> io::Result<u32> {
    u32::try_from(call_with(control, LoopCall::ControlGetFree, 0)?).map_err(io::Error::other)
}

/// Everything at once; from Linux 5.8 on.
pub(super) fn configure(device: impl AsFd, backing: impl AsFd, info: &Info) -> io::Result<()> {
    let fd = u32::try_from(backing.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    call(device, &mut Config { fd, info: *info, ..Config::new_zeroed() })
}

pub(super) fn set_file(device: impl AsFd, backing: impl AsFd) -> io::Result<()> {
    call_with(device, LoopCall::SetFd, backing.as_fd().as_raw_fd()).map(drop)
}

pub(super) fn set_status(device: impl AsFd, info: &Info) -> io::Result<()> {
    call(device, &mut SetStatus(*info))
}

pub(super) fn status(device: impl AsFd) -> io::Result<Info> {
    let mut status = GetStatus(Info::new());
    call(device, &mut status)?;
    Ok(status.0)
}

pub(super) fn clear(device: impl AsFd) -> io::Result<()> {
    call_with(device, LoopCall::ClearFd, 0).map(drop)
}
