//! Devices of the kernel's own dm-verity, by its device mapper: the backend `kernel`.
//!
//! They are what `veritysetup` makes, down to the UUID, so each of the two programs can look at and
//! close what the other one opened. There is no process of ours behind one: the kernel verifies, and
//! its records are its own (`veritrail agent` takes them into the trail).

mod device;
mod opening;
mod refusal;

use std::io;

use host::dm::Control;

pub(crate) use device::{Closed, Mapped, all, cancel_deferred, close, find};
pub(crate) use opening::{Fec, Opening, taken};

use crate::outcome::{Failure, Kind};

/// The device mapper, where it has dm-verity.
///
/// # Errors
/// [`Kind::Environment`] with what is missing.
pub(crate) fn verity() -> Result<Control, Failure> {
    let lacks = |what: &str| Failure::new(Kind::Environment, what);
    let control = Control::open().map_err(|error| {
        let failure = lacks("cannot use the kernel's device mapper");
        if error.kind() == io::ErrorKind::PermissionDenied {
            failure.because(error).hint("run as root, or take --backend user")
        } else {
            failure.because(error).hint("--backend user needs no device mapper")
        }
    })?;
    let control = control.ok_or_else(|| {
        lacks("this kernel has no device mapper")
            .because("there is no /dev/mapper/control")
            .hint("load the module (modprobe dm-mod), or take --backend user, which needs none")
    })?;
    match control.target("verity").map_err(cannot_ask)? {
        Some(_) => Ok(control),
        None => Err(lacks("this kernel's device mapper has no dm-verity")
            .because("it knows no target `verity`")
            .hint("load the module (modprobe dm-verity), or take --backend user")),
    }
}

fn cannot_ask(error: io::Error) -> Failure {
    Failure::new(Kind::Io, "cannot ask the kernel's device mapper").because(error)
}
