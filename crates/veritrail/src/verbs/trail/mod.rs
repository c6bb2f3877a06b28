//! `veritrail trail`: bring records in, give them out, and say whether they are what was signed.

mod check_proof;
mod checkpoint;
mod export;
mod import;
mod prove;
mod verify;

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use clap::Subcommand;
use trail::door::{Options, Role};
use trail::{Door, DoorError, Error, PublicKey};

use crate::clock;
use crate::config::Config;
use crate::outcome::{Failure, Kind, Outcome};

/// The verbs of `veritrail trail`.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Verify(verify::VerifyArgs),
    Prove(prove::ProveArgs),
    CheckProof(check_proof::CheckProofArgs),
    Checkpoint(checkpoint::CheckpointArgs),
    Import(import::ImportArgs),
    Export(export::ExportArgs),
}

impl Verb {
    /// Does it.
    pub(crate) fn run(&self, out: &mut dyn Write) -> Result<Outcome, Failure> {
        match self {
            Verb::Verify(args) => verify::run(args, out),
            Verb::Prove(args) => prove::run(args, out),
            Verb::CheckProof(args) => check_proof::run(args, out),
            Verb::Checkpoint(args) => checkpoint::run(args, out),
            Verb::Import(args) => import::run(args, out),
            Verb::Export(args) => export::run(args, out),
        }
    }
}

/// Makes a trail in `dir` unless there is one; the public key of one that was made.
pub(crate) fn create_if_missing(dir: &Path) -> Result<Option<PublicKey>, Failure> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    trail::door::create(dir, &host).map_err(|error| from_door(dir, &error))
}

/// Opens the door of a trail as a process of one verb does.
pub(crate) fn open_door(dir: &Path, config: &Config) -> Result<Door, Failure> {
    open_door_as(Role::Any, dir, config)
}

/// The same where it is decided who writes.
pub(crate) fn open_door_as(role: Role, dir: &Path, config: &Config) -> Result<Door, Failure> {
    let options = Options {
        now: clock::now,
        boot: clock::boot_id(),
        sinks: config.sinks(),
        reserve: config.disk_reserve(),
        patience: trail::door::PATIENCE,
        role,
    };
    Door::open(dir, options).map_err(|error| from_door(dir, &error))
}

/// What a failure of the trail in `dir` means for the exit status.
pub(crate) fn from_trail(dir: &Path, error: Error) -> Failure {
    let failure = Failure::new(kind_of(&error), format!("trail {}", dir.display()));
    let hint = hint_of(&error);
    let failure = failure.because(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The same for a door.
pub(crate) fn from_door(dir: &Path, error: &DoorError) -> Failure {
    let (kind, hint) = match &error {
        DoorError::Trail(error) => (kind_of(error), hint_of(error)),
        DoorError::Io { .. } => (Kind::Io, None),
        DoorError::NoRoom => (
            Kind::Io,
            Some(
                "free some; the last quarter of a disk, at most 64 MiB, is kept for records of \
                 integrity, containers, time and policy",
            ),
        ),
        DoorError::NotAllowed { .. } => (Kind::Environment, Some("run as one of these users")),
        DoorError::Exposed => (
            Kind::Environment,
            Some("take that right away (chmod o-w) or choose another directory"),
        ),
        DoorError::Version { .. } => {
            (Kind::Environment, Some("run the same version of veritrail on both ends"))
        }
        DoorError::Refused { .. } => (Kind::Unusable, None),
        DoorError::Silent(_) => (
            Kind::Environment,
            Some(
                "see who holds the file `lock` of the trail, or run as a user that may read its key",
            ),
        ),
    };
    let failure = Failure::new(kind, format!("trail {}", dir.display())).because(error.clone());
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn kind_of(error: &Error) -> Kind {
    match error {
        Error::Io { .. } | Error::Full { .. } | Error::Stopped => Kind::Io,
        Error::Tampered(_) => Kind::Tampered,
        Error::Unusable { .. } | Error::NoTrail | Error::Entry(_) | Error::NoLeaf { .. } => {
            Kind::Unusable
        }
        Error::Exists(_) | Error::Occupied { .. } => Kind::Usage,
    }
}

fn hint_of(error: &Error) -> Option<&'static str> {
    match error {
        Error::NoTrail => Some("`veritrail trail import DIR FILE` makes one"),
        Error::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Some("run as the owner of the trail, a member of its group, or root")
        }
        Error::Occupied { .. } => Some("name a directory that is empty or not there yet"),
        Error::Tampered(_) => {
            Some("keep the directory as it is; `veritrail trail verify` says more")
        }
        _ => None,
    }
}

/// A public key given as text, or as a file that holds it.
pub(crate) fn read_key(given: &str) -> Result<PublicKey, Failure> {
    if let Ok(key) = PublicKey::parse(given) {
        return Ok(key);
    }
    let unusable = |why: String| {
        Failure::new(Kind::Unusable, format!("{given} is neither a public key nor a file with one"))
            .because(why)
            .hint("a key is one line, NAME+HASH+BASE64; a trail's own lies in its file key.pub")
    };
    // A key is short; what is not is no key.
    let mut text = String::new();
    let read = fs::File::open(given).and_then(|file| file.take(4096).read_to_string(&mut text));
    read.map_err(|error| unusable(error.to_string()))?;
    PublicKey::parse(&text).map_err(|error| unusable(error.to_string()))
}

/// What is read of a file that is held in memory, in bytes: about a million checkpoints.
const MOST_INPUT: u64 = 256 << 20;

/// The bytes of a file, or of standard input for `-`.
pub(crate) fn read_input(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(MOST_INPUT + 1).read_to_end(&mut bytes)
    } else {
        let open = fs::File::open(path);
        open.and_then(|file| file.take(MOST_INPUT + 1).read_to_end(&mut bytes))
    };
    match read {
        Ok(_) if bytes.len() as u64 > MOST_INPUT => {
            let what = format!("{} is longer than {} MiB", path.display(), MOST_INPUT >> 20);
            Err(Failure::new(Kind::Unusable, what).hint("give a part of it"))
        }
        Ok(_) => Ok(bytes),
        Err(error) => {
            Err(Failure::new(Kind::Io, format!("cannot read {}", path.display())).because(error))
        }
    }
}

/// The same as text.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read_input(path)?).map_err(|error| {
        Failure::new(Kind::Unusable, format!("{} is not text", path.display())).because(error)
    })
}

/// Prints a value as one line of JSON.
pub(crate) fn print_json(
    out: &mut dyn Write,
    value: &impl serde::Serialize,
) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, value).map_err(io::Error::from)?;
    out.write_all(b"\n")?;
    Ok(())
}
