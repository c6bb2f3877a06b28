//! What the words of a rule mean on this machine.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::unistd::{Group, User};
use policy::audit::Context;
use record::tables::syscall::Machine;

use crate::outcome::{Failure, Kind};

/// This machine, its users, its groups, its files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here {
    machine: Machine,
}

impl Here {
    /// The machine that this program is built for.
    pub(crate) fn find() -> Result<Here, Failure> {
        let name = match std::env::consts::ARCH {
            "x86" => "i386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            name => name,
        };
        let machine = Machine::from_name(name.as_bytes()).ok_or_else(|| {
            let what = format!("audit's name for the architecture {name} is not known here");
            Failure::new(Kind::Environment, what)
        })?;
        Ok(Here { machine })
    }
}

impl Context for Here {
    fn machine(&self) -> Machine {
        self.machine
    }

    fn uid(&self, name: &str) -> Option<u32> {
        Some(User::from_name(name).ok()??.uid.as_raw())
    }

    fn gid(&self, name: &str) -> Option<u32> {
        Some(Group::from_name(name).ok()??.gid.as_raw())
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        Path::new(OsStr::from_bytes(path)).is_dir()
    }
}
