//! `veritrail scrub`

use std::ffi::OsString;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::Args;
use engine::scrub::{Last, Pass, Verdict};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::agent;
use crate::config::{Config, default_trail};
use crate::detached::{self, Starter};
use crate::outcome::{Failure, Kind, Outcome};
use crate::scrub::check::{self, Ending, Listener, Plan};
use crate::scrub::reference::{Places, Reference};
use crate::scrub::report::{self, Report};
use crate::scrub::store::{Key, Store};
use crate::scrub::target::{How, Target};
use crate::served::Directory;
use crate::verbs::serve;
use crate::verbs::verity::{self, Progress};

/// Check everything: read all of a device, past the page cache, and record what is not what was promised
///
/// Starts a check for each device and returns; it goes on in the background at no more than --rate, and
/// gives way to everything else that wants the processor or the disk. `--status` tells how it goes and what
/// the last one found, `--stop` ends it. A check that was stopped or killed, or that a restart of
/// the machine ended, goes on where it was when it is started again; one of a device that has changed begins
/// anew.
///
/// A device is named by its name, its path, or a mount point that lies on it. An image that nobody serves
/// is given by its data, with --hash and --root-hash (or a line of a veritytab and its name).
///
/// Begin, end and each bad block are recorded in the trail. With --wait it exits 1 when something is not what
/// was promised, 6 when not everything could be read.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  veritrail scrub root                                    in the background
  veritrail scrub --status
  veritrail scrub --stop root
  veritrail scrub --wait /mnt/root --rate 200M            with progress
  veritrail scrub root.img --hash root.hash --root-hash-file root.roothash
  systemctl enable --now veritrail-scrub@root.timer       every month"
)]
pub(crate) struct ScrubArgs {
    /// Names, device files or mount points of what is to be checked; with --hash an image
    #[arg(value_name = "NAME|IMAGE|MOUNT", required_unless_present_any = ["status", "stop"])]
    operands: Vec<OsString>,
    /// The device with the tree of the image
    #[arg(long, value_name = "HASH")]
    hash: Option<PathBuf>,
    /// The root hash of the image
    #[arg(long, value_name = "HEX", requires = "hash", conflicts_with = "root_hash_file")]
    root_hash: Option<String>,
    /// A file that holds the root hash of the image
    #[arg(long, value_name = "FILE", requires = "hash")]
    root_hash_file: Option<PathBuf>,
    /// How the image was made, as in veritytab(5): superblock=no,data-blocks=512,fec-device=/srv/fec
    #[arg(long, value_name = "LIST", requires = "hash")]
    options: Option<String>,
    /// Bytes read in a second at most, K, M and G count in powers of 1024; max: as fast as the disk
    #[arg(long, value_name = "BYTES", value_parser = parse_rate, default_value = "50M")]
    rate: Rate,
    /// Stay in the foreground until everything is checked, one device after the other
    #[arg(long, visible_alias = "foreground")]
    wait: bool,
    /// Begin anew where an earlier check was not finished
    #[arg(long)]
    restart: bool,
    /// Tell how checks go and what the last ones found; of all devices if none is named
    #[arg(long, conflicts_with_all = ["stop", "wait", "restart"])]
    status: bool,
    /// Stop checks; of all devices if none is named. The next ones go on from there
    #[arg(long, conflicts_with_all = ["wait", "restart"])]
    stop: bool,
    /// Print one JSON object for each device
    #[arg(long, requires = "status")]
    json: bool,
    /// Record in this trail, made if it does not exist; the default is that of the device, else
    /// /var/log/veritrail, or without root $XDG_STATE_HOME/veritrail/trail
    #[arg(long, value_name = "DIR")]
    trail: Option<PathBuf>,
    /// Read this configuration instead of /etc/veritrail/veritrail.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keep the state of checks here instead of /var/lib/veritrail/scrub
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Look for served devices below this directory instead of /run/veritrail
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// The table of images; the default is /etc/veritrail/veritytab, or where there is none /etc/veritytab
    #[arg(long, value_name = "FILE")]
    tab: Option<PathBuf>,
    /// Be the process that a check runs in
    #[arg(long, hide = true)]
    worker: bool,
}

/// Bytes a second; none is as fast as the disk.
#[derive(Clone, Copy, Debug)]
struct Rate(Option<NonZeroU64>);

fn parse_rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate(None));
    }
    let bytes = serve::bytes(text).and_then(NonZeroU64::new);
    bytes.map(|bytes| Rate(Some(bytes))).ok_or_else(|| "a number of bytes, or max".into())
}

/// What is to be checked, not opened yet.
enum Subject {
    Device(Reference),
    /// The image of the command line.
    Image(PathBuf),
}

pub(crate) fn run(args: &ScrubArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    if args.worker {
        return work(args);
    }
    let store = Store::locate(args.state_dir.as_deref())?;
    if args.status {
        return status(args, &store, out);
    }
    if args.stop {
        return stop(args, &store, out);
    }
    let places = places(args)?;
    let subjects = subjects(args, &places)?;
    let mut outcome = Ok(Outcome::Good);
    for subject in &subjects {
        let done = if args.wait {
            wait(args, subject, &places, &store, out)
        } else {
            begin(args, subject, &places, out)
        };
        outcome = worse(outcome, done);
    }
    outcome
}

/// What is to be told of several devices: the worst. A failure that is not told in the end is told now.
fn worse(
    so_far: Result<Outcome, Failure>,
    next: Result<Outcome, Failure>,
) -> Result<Outcome, Failure> {
    match (so_far, next) {
        (Err(first), Err(second)) => {
            second.print(&mut io::stderr());
            Err(first)
        }
        (Err(failure), _) | (_, Err(failure)) => Err(failure),
        (Ok(Outcome::Good), next) => next,
        (so_far, _) => so_far,
    }
}

fn places(args: &ScrubArgs) -> Result<Places, Failure> {
    let served = Directory::locate(args.run_dir.as_deref())?;
    Ok(Places { served, tab: args.tab.clone() })
}

fn subjects(args: &ScrubArgs, places: &Places) -> Result<Vec<Subject>, Failure> {
    if args.hash.is_some() {
        let [data] = args.operands.as_slice() else {
            return Err(Failure::new(Kind::Usage, "--hash is for one image"));
        };
        return Ok(vec![Subject::Image(data.into())]);
    }
    let mut subjects: Vec<Reference> = Vec::new();
    for operand in &args.operands {
        for reference in Reference::resolve(operand, places)? {
            if !subjects.contains(&reference) {
                subjects.push(reference);
            }
        }
    }
    Ok(subjects.into_iter().map(Subject::Device).collect())
}

impl Subject {
    fn open(&self, args: &ScrubArgs, places: &Places) -> Result<Target, Failure> {
        let data = match self {
            Subject::Device(reference) => return reference.open(places),
            Subject::Image(data) => data,
        };
        let options = args.options.as_deref().map(serve::options).transpose()?;
        let (options, _signature) = options.unwrap_or_default();
        let mut open: Vec<OsString> = options.into_iter().map(OsString::from).collect();
        if let Some(file) = &args.root_hash_file {
            open.extend(["--root-hash-file".into(), file.into()]);
        }
        // It is not served, so its name is nobody's.
        open.extend(["--".into(), data.into(), "image".into()]);
        open.extend(args.hash.iter().map(OsString::from));
        open.extend(args.root_hash.iter().map(OsString::from));
        Target::image(verity::describe(&open)?)
    }
}

/// Starts a process for one device.
fn begin(
    args: &ScrubArgs,
    subject: &Subject,
    places: &Places,
    out: &mut dyn Write,
) -> Result<Outcome, Failure> {
    let mut typed: Vec<OsString> = vec!["veritrail".into(), "scrub".into(), "--worker".into()];
    let paths = [
        ("--hash", &args.hash),
        ("--root-hash-file", &args.root_hash_file),
        ("--trail", &args.trail),
        ("--config", &args.config),
        ("--state-dir", &args.state_dir),
        ("--run-dir", &args.run_dir),
        ("--tab", &args.tab),
    ];
    for (option, value) in paths {
        if let Some(value) = value {
            typed.extend([option.into(), value.into()]);
        }
    }
    for (option, value) in [("--root-hash", &args.root_hash), ("--options", &args.options)] {
        typed.extend(value.as_ref().map(|value| format!("{option}={value}").into()));
    }
    let rate = args.rate.0.map_or_else(|| "max".to_owned(), |rate| rate.to_string());
    typed.push(format!("--rate={rate}").into());
    typed.extend(args.restart.then(|| "--restart".into()));
    typed.extend([
        "--".into(),
        match subject {
            Subject::Device(reference) => reference.operand(places),
            Subject::Image(data) => data.into(),
        },
    ]);
    out.flush()?;
    let said = detached::start(&typed)?;
    out.write_all(&said)?;
    writeln!(out)?;
    Ok(Outcome::Good)
}

/// The process of a check in the background.
fn work(args: &ScrubArgs) -> Result<Outcome, Failure> {
    let starter = Starter::meet()?;
    let store = Store::locate(args.state_dir.as_deref())?;
    let places = places(args)?;
    let mut subjects = subjects(args, &places)?;
    let (Some(subject), None) = (subjects.pop(), subjects.pop()) else {
        return Err(Failure::new(Kind::Usage, "a process checks one device"));
    };
    let mut listener = Background { starter: Some(starter), name: String::new(), rate: args.rate };
    one(args, &subject, &places, &store, &mut listener, |target, listener| {
        listener.name.clone_from(&target.subject.name);
    })
    .map(|_| Outcome::Good)
}

/// Checks one device in this process.
fn one<L: Listener>(
    args: &ScrubArgs,
    subject: &Subject,
    places: &Places,
    store: &Store,
    listener: &mut L,
    opened: impl FnOnce(&Target, &mut L),
) -> Result<Ending, Failure> {
    let mut target = subject.open(args, places)?;
    if let (How::Through { .. }, Some(mapped)) = (&target.check, &target.named.mapped) {
        target.named.heard = agent::hears(args.run_dir.as_deref(), &mapped.to_string());
    }
    let trail = match (&args.trail, &target.trail) {
        (Some(trail), _) => std::path::absolute(trail)?,
        (None, Some(trail)) => trail.clone(),
        (None, None) => default_trail()?,
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let Some(lock) = store.lock(&target.key)? else {
        let name = &target.subject.name;
        return Err(Failure::new(Kind::Environment, format!("{name} is being checked already"))
            .hint(format!("`veritrail scrub --status {name}` tells how it goes")));
    };
    let known = store.read(&target.key)?;
    opened(&target, listener);
    let plan = Plan {
        rate: args.rate.0,
        restart: args.restart,
        trail,
        config: Config::load(args.config.as_deref())?,
        stop,
    };
    check::run(target, &lock, known, &plan, listener)
}

struct Background {
    /// Until it was told.
    starter: Option<Starter>,
    name: String,
    rate: Rate,
}

impl Listener for Background {
    fn began(&mut self, pass: &Pass, note: Option<&str>) -> Result<(), Failure> {
        let Some(starter) = self.starter.take() else { return Ok(()) };
        let mut said = report::beginning(&self.name, pass, note);
        said += &format!(
            " in the background (process {}{}); `veritrail scrub --status` tells how it goes",
            pass.pid,
            match self.rate.0 {
                Some(rate) => format!(", at most {}/s", report::size(rate.get())),
                None => String::new(),
            }
        );
        starter.let_go(said.as_bytes())
    }

    fn settled(&mut self, _: u64) {}
}

/// Checks one device, and shows how it goes.
fn wait(
    args: &ScrubArgs,
    subject: &Subject,
    places: &Places,
    store: &Store,
    out: &mut dyn Write,
) -> Result<Outcome, Failure> {
    let mut listener = Foreground { name: String::new(), progress: None };
    let ending = one(args, subject, places, store, &mut listener, |target, listener| {
        listener.name.clone_from(&target.subject.name);
        listener.progress = Some(Progress::of_bytes(target.identity.size));
    });
    if let Some(progress) = &listener.progress {
        progress.finish();
    }
    let name = &listener.name;
    match ending? {
        Ending::Finished(last) => {
            writeln!(out, "{name}: {}", report::finding(&last))?;
            outcome(&last)
        }
        Ending::Stopped(pass) => {
            writeln!(out, "{name}: {}", report::stop(&pass))?;
            out.flush()?;
            // As for whoever does nothing about the signal: that is no verdict.
            signal_hook::low_level::emulate_default_handler(SIGTERM)?;
            Ok(Outcome::No)
        }
    }
}

fn outcome(last: &Last) -> Result<Outcome, Failure> {
    match last.counts.verdict() {
        Verdict::Good | Verdict::Correctable => Ok(Outcome::Good),
        Verdict::Violation => Ok(Outcome::No),
        Verdict::Unreadable => {
            Err(Failure::new(Kind::Io, "not everything could be read; what could be read is good"))
        }
    }
}

struct Foreground {
    name: String,
    progress: Option<Progress>,
}

impl Listener for Foreground {
    fn began(&mut self, pass: &Pass, note: Option<&str>) -> Result<(), Failure> {
        if note.is_some() || pass.next > 0 {
            // Standard output belongs to the result; standard error may be closed.
            let _ = writeln!(io::stderr(), "{}", report::beginning(&self.name, pass, note));
        }
        Ok(())
    }

    fn settled(&mut self, bytes: u64) {
        if let Some(progress) = &self.progress {
            progress.set(bytes);
        }
    }
}

/// The devices that are named, or all of which something is known.
fn keys(args: &ScrubArgs, store: &Store) -> Result<Vec<Key>, Failure> {
    if args.operands.is_empty() {
        return store.keys();
    }
    let places = places(args)?;
    let known = store.keys()?;
    let mut keys = Vec::new();
    for operand in &args.operands {
        let by_name = report::named(store, &known, operand)?;
        if !by_name.is_empty() {
            keys.extend(by_name);
            continue;
        }
        // Not checked yet, or called by another name.
        for reference in Reference::resolve(operand, &places)? {
            keys.push(reference.open(&places)?.key);
        }
    }
    keys.dedup();
    Ok(keys)
}

fn status(args: &ScrubArgs, store: &Store, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::Good;
    for key in keys(args, store)? {
        match Report::read(store, &key)? {
            Some(report) if args.json => verity::write_json(out, &report)?,
            Some(report) => report.write(out)?,
            None => {
                outcome = Outcome::Absent;
                if !args.json {
                    writeln!(out, "{}: never checked", key.as_str())?;
                }
            }
        }
    }
    Ok(outcome)
}

/// How long a check has to stop: what its disk needs for a few reads, and its trail for a sync.
const STOPPING: Duration = Duration::from_secs(30);

fn stop(args: &ScrubArgs, store: &Store, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let keys = keys(args, store)?;
    let running: Vec<Key> = keys.into_iter().filter(|key| store.is_running(key)).collect();
    for key in &running {
        store.ask_to_stop(key)?;
    }
    let end = Instant::now() + STOPPING;
    for key in &running {
        while store.is_running(key) {
            if Instant::now() >= end {
                return Err(Failure::new(Kind::Io, "a check does not stop within 30 seconds")
                    .hint("its disk may not answer; it stops as soon as that does"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Some(report) = Report::read(store, key)? {
            report.write(out)?;
        }
    }
    Ok(if running.is_empty() && !args.operands.is_empty() {
        Outcome::Absent
    } else {
        Outcome::Good
    })
}
