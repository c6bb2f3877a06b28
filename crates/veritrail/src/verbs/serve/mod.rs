//! `veritrail serve`: a served device as a service, described by a line of a table.

mod tab;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::Serialize;

use crate::cli;
use crate::outcome::{Failure, Kind, Outcome};
use crate::served::Name;
pub(crate) use tab::bytes;
use tab::{Entry, Problem, Tab};

/// Where the table is if nothing is said: ours, else systemd's.
const TABS: [&str; 2] = ["/etc/veritrail/veritytab", "/etc/veritytab"];

/// Serve a device that a table describes, in the foreground, for a service manager
///
/// Does what `verity open --foreground` does for the line of the table that begins with NAME. The table
/// has the form of veritytab(5): on each line volume-name, data-device, hash-device, roothash and
/// options, with blanks between them. A device is an absolute path, UUID=, LABEL=, PARTUUID= or
/// PARTLABEL=.
///
/// Options are those of veritytab(5): superblock= format= data-block-size= hash-block-size= data-blocks=
/// hash-offset= salt= uuid= hash= ignore-corruption restart-on-corruption panic-on-corruption
/// ignore-zero-blocks check-at-most-once fec-device= fec-offset= fec-roots= root-hash-signature= (a path,
/// or base64: and the signature); auto noauto nofail _netdev x-initrd.attach, which have no meaning here;
/// and x-veritrail.trail= x-veritrail.keyring= (folders) x-veritrail.direct-io.
///
/// Tells the service manager when the device can be read (READY=1), what was refused since (STATUS=) and
/// that it ends (STOPPING=1), see sd_notify(3). SIGTERM closes the device; users have five seconds to go.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  veritrail serve usr
  veritrail serve usr --tab ./veritytab
  veritrail serve --check
  veritrail serve --check --json | jq '.problems[]'
  systemctl enable --now veritrail-device@usr.service"
)]
pub(crate) struct ServeArgs {
    /// Name of the device, as the table has it
    #[arg(value_name = "NAME", value_parser = Name::parse, required_unless_present = "check")]
    name: Option<Name>,
    /// The table; the default is /etc/veritrail/veritytab, or where there is none /etc/veritytab
    #[arg(long, value_name = "FILE")]
    tab: Option<PathBuf>,
    /// Only read the table and say what is wrong with it, or with the line of NAME
    #[arg(long)]
    check: bool,
    /// Print one JSON object
    #[arg(long, requires = "check")]
    json: bool,
    /// Read this configuration instead of /etc/veritrail/veritrail.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve below this directory instead of /run/veritrail
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

pub(crate) fn run(args: &ServeArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let (path, mut tab) = read(args.tab.as_deref())?;
    if args.check {
        if let Some(name) = &args.name {
            tab.devices.retain(|entry| entry.name == name.as_str());
            tab.problems.retain(|problem| problem.name.as_deref() == Some(name.as_str()));
            if tab.devices.is_empty() && tab.problems.is_empty() {
                return Err(not_described(name, &path, &tab));
            }
        }
        return check(&path, &tab, args.json, out);
    }
    let Some(name) = &args.name else {
        return Err(Failure::new(Kind::Usage, "no device is named"));
    };
    serve(args, &find(&tab, name, &path)?, out)
}

/// The table and where it was found.
fn read(given: Option<&Path>) -> Result<(PathBuf, Tab), Failure> {
    let open = |path: &Path| File::open(path).map(|file| (path.to_owned(), file));
    let (path, file) = match given {
        Some(path) => open(path).map_err(|error| cannot_read(path, error))?,
        None => {
            let [ours, systemds] = TABS.map(Path::new);
            match open(ours) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    open(systemds).map_err(|error| {
                        cannot_read(systemds, error).hint(format!(
                            "describe the device there or in {}; `veritrail serve --help` says how",
                            ours.display()
                        ))
                    })?
                }
                opened => opened.map_err(|error| cannot_read(ours, error))?,
            }
        }
    };
    let mut text = Vec::new();
    file.take(tab::MOST_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(|error| cannot_read(&path, error))?;
    if text.len() as u64 > tab::MOST_BYTES {
        let what = format!("{} is larger than {} bytes", path.display(), tab::MOST_BYTES);
        return Err(Failure::new(Kind::Unusable, what).hint("is it a table of devices?"));
    }
    Ok((path, tab::parse(&text)))
}

fn cannot_read(path: &Path, error: io::Error) -> Failure {
    let missing = error.kind() == io::ErrorKind::NotFound;
    let kind = if missing { Kind::Environment } else { Kind::Io };
    Failure::new(kind, format!("cannot read the table {}", path.display())).because(error)
}

/// The one line that describes the device.
fn find(tab: &Tab, name: &Name, path: &Path) -> Result<Entry, Failure> {
    let of_it = |problem: &&Problem| problem.name.as_deref() == Some(name.as_str());
    if let Some(problem) = tab.problems.iter().find(of_it) {
        let failure = Failure::new(Kind::Unusable, said(path, problem));
        return Err(match &problem.hint {
            Some(hint) => failure.hint(hint.as_str()),
            None => failure,
        });
    }
    let entry = tab.devices.iter().find(|entry| entry.name == name.as_str());
    entry.cloned().ok_or_else(|| not_described(name, path, tab))
}

fn not_described(name: &Name, path: &Path, tab: &Tab) -> Failure {
    /// As many as one can take in.
    const LISTED: usize = 10;
    let what = format!("{} does not describe {}", path.display(), name.as_str());
    let names: Vec<&str> =
        tab.devices.iter().take(LISTED).map(|entry| entry.name.as_str()).collect();
    let hint = match (names.len(), tab.devices.len()) {
        (0, _) => "it describes no device; `veritrail serve --check` says what is wrong".to_owned(),
        (listed, all) if listed < all => format!("it describes {} and others", names.join(", ")),
        _ => format!("it describes {}", names.join(", ")),
    };
    Failure::new(Kind::Usage, what).hint(hint)
}

/// Where, and what.
fn said(path: &Path, problem: &Problem) -> String {
    let Problem { line, column, what, .. } = problem;
    format!("{}:{line}:{column}: {what}", path.display())
}

fn check(path: &Path, tab: &Tab, json: bool, out: &mut dyn Write) -> Result<Outcome, Failure> {
    #[derive(Serialize)]
    struct Report<'a> {
        tab: String,
        #[serde(flatten)]
        read: &'a Tab,
    }
    if json {
        let report = Report { tab: path.to_string_lossy().into_owned(), read: tab };
        serde_json::to_writer(&mut *out, &report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        for entry in &tab.devices {
            let Entry { line, name, data, hash, root_hash, options, signature } = entry;
            write!(out, "line {line}: {name}: {data} by {hash}, root hash {root_hash}")?;
            for option in options {
                write!(out, " {option}")?;
            }
            writeln!(out, "{}", if signature.is_some() { ", signed" } else { "" })?;
        }
        for problem in &tab.problems {
            writeln!(out, "{}", said(path, problem))?;
            if let Some(hint) = &problem.hint {
                writeln!(out, "  hint: {hint}")?;
            }
        }
    }
    match (tab.problems.len(), tab.devices.len()) {
        (0, _) => Ok(Outcome::Good),
        (bad, good) => Err(Failure::new(
            Kind::Unusable,
            format!("{bad} of {} lines of {} cannot be used", bad + good, path.display()),
        )),
    }
}

/// Does what `verity open --foreground` does.
fn serve(args: &ServeArgs, entry: &Entry, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let mut typed: Vec<OsString> = ["verity", "open", "--foreground"].map(Into::into).into();
    for (option, value) in [("--config", &args.config), ("--run-dir", &args.run_dir)] {
        if let Some(value) = value {
            typed.extend([option.into(), value.into()]);
        }
    }
    let Described { args, signature: _held } = Described::by(entry)?;
    typed.extend(args);
    cli::execute(&typed, out)
}

/// An image as the arguments of `verity open` have it.
pub(crate) struct Described {
    pub(crate) args: Vec<OsString>,
    /// What one of the arguments names, as long as it is open.
    signature: Option<OwnedFd>,
}

impl Described {
    fn by(entry: &Entry) -> Result<Described, Failure> {
        let signature = entry.signature.as_deref().map(in_memory).transpose()?;
        let mut args: Vec<OsString> = entry.options.iter().map(Into::into).collect();
        if let Some(file) = &signature {
            args.push(format!("--root-hash-signature=/proc/self/fd/{}", file.as_raw_fd()).into());
        }
        args.push("--".into());
        args.extend([&entry.data, &entry.name, &entry.hash, &entry.root_hash].map(Into::into));
        Ok(Described { args, signature })
    }
}

/// What a table says of a device; none where there is no table, or it does not have the name.
pub(crate) fn described(name: &Name, tab: Option<&Path>) -> Result<Option<Described>, Failure> {
    let (path, tab) = match read(tab) {
        Err(failure) if tab.is_none() && failure.kind == Kind::Environment => return Ok(None),
        read => read?,
    };
    let of_it = |other: Option<&str>| other == Some(name.as_str());
    if !tab.devices.iter().any(|entry| of_it(Some(&entry.name)))
        && !tab.problems.iter().any(|problem| of_it(problem.name.as_deref()))
    {
        return Ok(None);
    }
    Described::by(&find(&tab, name, &path)?).map(Some)
}

/// The arguments of `verity open` for options as a table has them.
pub(crate) fn options(text: &str) -> Result<(Vec<String>, Option<OwnedFd>), Failure> {
    let (mut options, signature) = tab::options(text).map_err(|why| {
        Failure::new(Kind::Usage, format!("--options: {why}"))
            .hint("they are those of veritytab(5); `veritrail serve --help` has them")
    })?;
    let signature = signature.as_deref().map(in_memory).transpose()?;
    if let Some(file) = &signature {
        options.push(format!("--root-hash-signature=/proc/self/fd/{}", file.as_raw_fd()));
    }
    Ok((options, signature))
}

/// A file without a name that holds `bytes`: what takes a path takes it as well.
fn in_memory(bytes: &[u8]) -> Result<OwnedFd, Failure> {
    let made = memfd_create("root-hash-signature", MemfdFlags::CLOEXEC).map_err(io::Error::from);
    let written = made.and_then(|file| {
        let mut file = File::from(file);
        file.write_all(bytes)?;
        Ok(file.into())
    });
    written.map_err(|error| {
        Failure::new(Kind::Io, "cannot keep the signature of the root hash").because(error)
    })
}
