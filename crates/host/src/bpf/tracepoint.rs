//! Tracepoints of system calls. Their numbers are in tracefs, which is asked without being mounted
//! anywhere: the file system is open as a descriptor for as long as that takes.

#![allow(unsafe_code, reason = "perf_event_open(2)")]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::text::decimal;

/// tracefs, mounted nowhere.
#[derive(Debug)]
pub(super) struct Tracepoints(OwnedFd);

/// `struct perf_event_attr` of linux/perf_event.h in its first form (`PERF_ATTR_SIZE_VER0`).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    rest: [u64; 6],
}

/// `PERF_TYPE_TRACEPOINT`.
const TRACEPOINT: u32 = 2;
/// `PERF_FLAG_FD_CLOEXEC`.
const CLOEXEC: libc::c_ulong = 8;

impl Tracepoints {
    /// Takes CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// Where the kernel has no tracefs, or does not let us.
    pub(super) fn open() -> io::Result<Tracepoints> {
        let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        Ok(Tracepoints(fsmount(&context, flags, MountAttrFlags::empty())?))
    }

    /// The event of a system call's tracepoint, to attach a program to: `sys_enter_adjtimex`.
    ///
    /// # Errors
    /// Where there is none of that name, or perf_event_open(2) refused.
    pub(super) fn event(&self, name: &str) -> io::Result<OwnedFd> {
        let path = format!("events/syscalls/{name}/id");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let mut text = Vec::new();
        File::from(openat(&self.0, path, flags, Mode::empty())?).take(64).read_to_end(&mut text)?;
        let config = decimal(text.trim_ascii())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no number in tracefs"))?;
        let size = u32::try_from(size_of::<Attributes>()).unwrap_or(0);
        let attributes = Attributes { kind: TRACEPOINT, size, config, ..Attributes::default() };
        // SAFETY: the kernel reads as many bytes of the struct as `size` says, which it has. Of any
        // process (-1), on the first processor; a program that is attached runs on all.
        let fd = unsafe {
            libc::syscall(libc::SYS_perf_event_open, &raw const attributes, -1, 0, -1, CLOEXEC)
        };
        let fd = i32::try_from(fd).unwrap_or(-1);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel gave it to us just now, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}
