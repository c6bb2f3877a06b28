//! `veritrail verity open`

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use host::device::Identity;
use host::sandbox::Capabilities;
use record::task::Task;

use super::backend::{self, Backend};
use super::device::Device;
use super::fec::Fec;
use super::options::{self, Options};
use super::signature;
use crate::config::{Config, default_trail};
use crate::detached::{self, Starter};
use crate::mapped;
use crate::outcome::{Failure, Kind, Outcome};
use crate::served::{Directory, Name, OnCorruption, Opening, Recorder, Source, Status};
use crate::served::{keeper, wire};

/// Open a device, verified at every read
///
/// The last line printed is its path. A read that meets a block which is not what the root hash promises
/// fails with EIO. What verifies is the kernel's dm-verity where it is there (root only): a block device in
/// /dev/mapper, as veritysetup makes it, whose records are the kernel's; `veritrail agent` takes them into
/// the trail. Else it is our own engine: a server of its own, and a file that can be read, given to
/// `losetup -r`, or mounted, as root in /run/veritrail/devices and without in
/// $XDG_RUNTIME_DIR/veritrail/devices; every failing read is recorded in the trail with who made it.
/// --backend decides; so does any option that only one of them has. `close` ends it, `status` tells about it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:
  veritrail verity open root.img root root.hash 4e6969b4...2053
  mount -o ro,loop /run/veritrail/devices/root /mnt
  veritrail verity open root.img root root.hash --root-hash-file root.roothash --trail ./trail
  veritrail verity open root.img root root.hash 4e6969b4...2053 --backend kernel --ignore-zero-blocks
  veritrail verity open root.img root root.hash 4e6969b4...2053 --backend user --foreground",
    disable_help_flag = true,
    args_override_self = true
)]
pub(crate) struct OpenArgs {
    /// Device with the data
    #[arg(value_name = "data_device")]
    pub(super) data_device: PathBuf,
    /// Name of the device: letters, digits and #+-.:=@_
    #[arg(value_name = "name", value_parser = Name::parse)]
    pub(super) name: Name,
    /// Device with the tree
    #[arg(value_name = "hash_device")]
    pub(super) hash_device: PathBuf,
    /// The root hash, unless --root-hash-file gives it
    #[arg(value_name = "root_hash")]
    pub(super) root_hash: Option<String>,
    /// Hand out corrupted data, and only record that
    #[arg(long, group = "mode")]
    pub(super) ignore_corruption: bool,
    /// Restart when corruption is found: the kernel by itself; our own engine by
    /// verity.restart_command of the configuration, once it is on record
    #[arg(long, group = "mode")]
    pub(super) restart_on_corruption: bool,
    /// The same with a panic, or verity.panic_command
    #[arg(long, group = "mode")]
    pub(super) panic_on_corruption: bool,
    /// Answer with zeros, unread, where the tree says that a block is zero
    #[arg(long)]
    pub(super) ignore_zero_blocks: bool,
    /// Verify a data block only until it was good once
    #[arg(long)]
    pub(super) check_at_most_once: bool,
    /// Let the kernel verify at once what it has in its cache (no meaning for our own engine, which has
    /// no tasklets)
    #[arg(long)]
    pub(super) use_tasklets: bool,
    /// What verifies (not in veritysetup)
    #[arg(long, value_name = "BACKEND", value_enum, default_value_t)]
    backend: Backend,
    /// Record in this trail, made if it does not exist; the default is /var/log/veritrail, or without
    /// root $XDG_STATE_HOME/veritrail/trail (backend user; not in veritysetup)
    #[arg(long, value_name = "DIR")]
    trail: Option<PathBuf>,
    /// Read this configuration instead of /etc/veritrail/veritrail.toml (backend user; not in
    /// veritysetup)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve below this directory instead of /run/veritrail (backend user; not in veritysetup)
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Let every read(2) reach the server: no page cache, no read-ahead (backend user; not in
    /// veritysetup)
    #[arg(long)]
    direct_io: bool,
    /// Stay in the foreground until the device is closed (backend user; not in veritysetup)
    #[arg(long, short)]
    foreground: bool,
}

impl OpenArgs {
    /// An option given that only the backend `user` has.
    fn only_user(&self) -> Option<&'static str> {
        let given = [
            (self.trail.is_some(), "--trail"),
            (self.config.is_some(), "--config"),
            (self.run_dir.is_some(), "--run-dir"),
            (self.direct_io, "--direct-io"),
            (self.foreground, "--foreground"),
        ];
        given.into_iter().find_map(|(given, option)| given.then_some(option))
    }
}

pub(super) fn run(
    args: &OpenArgs,
    options: &Options,
    typed: &[OsString],
    out: &mut dyn Write,
) -> Result<Outcome, Failure> {
    if options.keeper {
        return serve(args, options, Some(Starter::meet()?), out);
    }
    if let Some(control) = args.backend.choose(args.only_user())? {
        if Directory::locate(None)?.is_taken(&args.name) {
            return Err(mapped::taken(args.name.as_str()));
        }
        let path = backend::opening(args, options)?.open(&control)?;
        out.write_all(path.as_os_str().as_encoded_bytes())?;
        writeln!(out)?;
        return Ok(Outcome::Good);
    }
    if args.foreground { serve(args, options, None, out) } else { launch(typed, out) }
}

/// Starts the same command line as a server and waits until it is ready, or has said why not.
fn launch(typed: &[OsString], out: &mut dyn Write) -> Result<Outcome, Failure> {
    // `veritrail verity open`, but `veritysetup open`.
    let verbs = if typed.get(1).is_some_and(|word| word == "verity") { 2 } else { 1 };
    let mut typed = typed.to_vec();
    typed.insert(verbs.min(typed.len()), "--keeper".into());
    out.flush()?;
    out.write_all(&detached::start(&typed)?)?;
    writeln!(out)?;
    Ok(Outcome::Good)
}

/// Without a starter, whoever reads our output waits for the device.
fn serve(
    args: &OpenArgs,
    options: &Options,
    starter: Option<Starter>,
    out: &mut dyn Write,
) -> Result<Outcome, Failure> {
    // Before there is a second thread, which would keep what it has.
    host::sandbox::keep_capabilities(KEPT)
        .map_err(|error| Failure::new(Kind::Io, "cannot give up capabilities").because(error))?;
    let config = Config::load(args.config.as_deref())?;
    let on_corruption = on_corruption(args, &config)?;
    let trail = match &args.trail {
        Some(trail) => std::path::absolute(trail)?,
        None => default_trail()?,
    };
    let caller = caller(starter.as_ref())?;
    let directory = Directory::locate(args.run_dir.as_deref())?;
    // Before anything is taken or made: a disk may never answer, and who asked may give up.
    let assembled = assemble(args, options, on_corruption);
    starter.as_ref().map(Starter::outlive).transpose()?;
    let claim = directory.claim(&args.name)?;
    let left = directory.left(&args.name).filter(|left| left.ended.is_none());
    let mut recorder = match Recorder::open(trail, config, &args.name) {
        // The gap is for whoever can record it.
        Err(failure) if left.is_some() => {
            claim.leave();
            return Err(failure);
        }
        recorder => recorder?,
    };
    if let Some(left) = left {
        recorder.left_behind(left.opened);
    }
    let opening = match assembled {
        Ok(opening) => opening,
        Err(Unopened { words, failure }) => {
            recorder.not_opened(&caller, words);
            recorder.close()?;
            return Err(failure);
        }
    };
    apart_from_ourselves(&opening, recorder.trail())?;
    keeper::keep(opening, claim, recorder, &caller, |path| tell(starter, path, out))?;
    Ok(Outcome::Good)
}

/// Refuses to serve what we need ourselves: a trail (or a program) on the device that is served would
/// be read and written through its own server.
fn apart_from_ourselves(opening: &Opening, trail: &Path) -> Result<(), Failure> {
    let parity = opening.fec.as_ref().map(|(source, _)| source);
    let (trail, program) = (trail.canonicalize()?, std::env::current_exe()?);
    for source in [Some(&opening.data), Some(&opening.hash), parity].into_iter().flatten() {
        let path = source.path.canonicalize().unwrap_or_else(|_| source.path.clone());
        for (what, ours) in [("the trail", &trail), ("this program", &program)] {
            let on_it = match host::device::identity(&source.file)? {
                Identity::Block { device } => host::mount::lies_on(&File::open(ours)?, device)?,
                Identity::File { .. } => path.starts_with(ours),
            };
            if on_it {
                let (device, ours) = (source.path.display(), ours.display());
                return Err(Failure::new(
                    Kind::Usage,
                    format!("{what}, {ours}, and {device} are not apart"),
                )
                .hint("serve another device, or name a trail elsewhere: --trail DIR"));
            }
        }
    }
    Ok(())
}

/// What a keeper needs: to unmount, to see what program a reader runs, to reach a trail that is
/// another user's, and to become that user.
const KEPT: Capabilities = Capabilities::SYS_ADMIN
    .union(Capabilities::SYS_PTRACE)
    .union(Capabilities::DAC_OVERRIDE)
    .union(Capabilities::DAC_READ_SEARCH)
    .union(Capabilities::SETUID)
    .union(Capabilities::SETGID);

/// Who asked for the device: as with the kernel's device mapper, the process of the tool.
fn caller(starter: Option<&Starter>) -> Result<Task, Failure> {
    let pid = match starter {
        Some(_) => rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get()),
        None => rustix::process::getpid().as_raw_nonzero().get(),
    };
    host::process::facts(pid.unsigned_abs()).map(|facts| facts.task).map_err(|error| {
        Failure::new(Kind::Environment, "cannot see in /proc who asks").because(error)
    })
}

/// Says where the device is, and lets go of whoever waited.
fn tell(starter: Option<Starter>, path: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let path = path.as_os_str().as_encoded_bytes();
    if let Some(starter) = starter {
        return starter.let_go(path);
    }
    out.write_all(path)?;
    writeln!(out)?;
    out.flush()?;
    host::notify::ready()?;
    Ok(())
}

fn on_corruption(args: &OpenArgs, config: &Config) -> Result<OnCorruption, Failure> {
    let command = |command: Option<&[String]>, option: &str, key: &str| {
        command.map(<[String]>::to_vec).ok_or_else(|| {
            Failure::new(Kind::Usage, format!("{option} needs a command to run")).hint(format!(
                "say which in the configuration: [verity] {key} = [\"systemctl\", \"reboot\"]"
            ))
        })
    };
    if args.ignore_corruption {
        Ok(OnCorruption::Ignore)
    } else if args.restart_on_corruption {
        command(config.restart_command(), "--restart-on-corruption", "restart_command")
            .map(OnCorruption::Restart)
    } else if args.panic_on_corruption {
        command(config.panic_command(), "--panic-on-corruption", "panic_command")
            .map(OnCorruption::Panic)
    } else {
        Ok(OnCorruption::Fail)
    }
}

/// Why there is no device: in the words of the kernel's constructor, where it would have any, and
/// in ours.
struct Unopened {
    words: &'static str,
    failure: Failure,
}

fn unopened(words: &'static str) -> impl FnOnce(Failure) -> Unopened {
    move |failure| Unopened { words, failure }
}

/// Linux 6.12 `verity_ctr`, in its order; a superblock is veritysetup's matter and has no words there.
fn assemble(
    args: &OpenArgs,
    options: &Options,
    on_corruption: OnCorruption,
) -> Result<Opening, Unopened> {
    let data = Device::open(&args.data_device).map_err(unopened("Data device lookup failed"))?;
    let hash = Device::open(&args.hash_device).map_err(unopened("Hash device lookup failed"))?;
    let image = options.image(&data, &hash).map_err(unopened("Invalid superblock"))?;
    let root = options
        .root(args.root_hash.as_deref(), &image.params)
        .map_err(unopened("Invalid root digest"))?;
    let signer = signature::check(&options.signature, &root)
        .map_err(unopened("Root hash verification failed"))?;
    let volume = options::volume(&data, &hash, &image, &root)
        .map_err(unopened("Hash device offset overflow"))?;
    let layout = volume.layout().clone();
    options::check_place(&layout, &data, &hash).map_err(unopened("Invalid hash start"))?;
    let fec = options
        .fec
        .open(Device::open, Some(&data), &hash, &layout)
        .map_err(unopened("FEC device lookup failed"))?;
    let fec = match fec {
        Some(Fec { device, area, covered_end, .. }) => {
            let (roots, offset) = (area.roots().get().into(), area.bytes().start);
            Some((source(device)?, wire::Fec { roots, offset, covered_end }))
        }
        None => None,
    };
    Ok(Opening {
        name: args.name.clone(),
        layout,
        data: source(data)?,
        hash: source(hash)?,
        fec,
        params: image.params,
        area: image.area,
        root,
        signed_by: signer.map(|trusted| trusted.signer.subject.clone()),
        on_corruption,
        ignore_zero_blocks: args.ignore_zero_blocks,
        check_at_most_once: args.check_at_most_once,
        direct_io: args.direct_io,
        threads: options.threads().get().clamp(2, 16),
    })
}

/// An image as the arguments of `open` describe it, opened and not served.
pub(super) fn describe(args: &OpenArgs, options: &Options) -> Result<Opening, Failure> {
    assemble(args, options, OnCorruption::Fail).map_err(|unopened| unopened.failure)
}

fn source(device: Device) -> Result<Source, Unopened> {
    let (file, path) = device.into_parts();
    match std::path::absolute(&path) {
        Ok(path) => Ok(Source { file, path }),
        Err(error) => Err(unopened("Data device lookup failed")(error.into())),
    }
}

/// Says in its trail that the server of a device was killed.
pub(super) fn record_left_behind(left: &Status, name: &Name) -> Result<(), Failure> {
    let mut recorder = Recorder::open(PathBuf::from(&left.trail), Config::load(None)?, name)?;
    recorder.left_behind(left.opened);
    recorder.close()
}
