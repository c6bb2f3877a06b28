//! `veritrail device explain`: from a sector to the file that has it.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use host::block_device::{self, BlockDevice, Kind as DeviceKind, Number};
use rustix::fs::FileType;
use serde::Serialize;

use crate::json::Text;
use crate::outcome::{Failure, Kind, Outcome};
use crate::place::{self, Explainer, Explanation, Hit, Layer, Limits, Subject, What};
use crate::served::{Directory, Name};

/// Say what lies at a place on a device: which file, in which file system, mounted where
///
/// Goes up from DEV through partitions, mapped devices and loop devices to the file systems that have those bytes, and lists
/// the files of each to find whose they are. Exits 0 if the use of every byte is known (a file, metadata, free), 1 if not.
/// Needs root to see everything.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail device explain /dev/loop0 12400          a sector of 512 bytes, as in the kernel's log
  veritrail device explain usr --block 1550          a block of 4096 bytes, as dm-verity counts in its events
  veritrail device explain 254:0 --block 3 --unit 1024
  veritrail device explain usr.img --bytes 6348800-6352895 --json")]
pub(crate) struct ExplainArgs {
    /// A device: its path, MAJOR:MINOR, the name of a mapped or served one; or the file that a loop device is made of
    #[arg(value_name = "DEV")]
    device: OsString,
    /// The sector, of 512 bytes whatever the device's own size of blocks
    #[arg(value_name = "SECTOR", required_unless_present_any = ["bytes", "block"], conflicts_with_all = ["bytes", "block"])]
    sector: Option<u64>,
    /// The bytes from A to B, both included
    #[arg(long, value_name = "A-B", conflicts_with = "block", value_parser = parse_bytes)]
    bytes: Option<Range<u64>>,
    /// The block with this number
    #[arg(long, value_name = "N")]
    block: Option<u64>,
    /// Bytes of a block
    #[arg(long, value_name = "BYTES", default_value_t = 4096, requires = "block", value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    unit: u64,
    /// Look for files no longer than that
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=86_400))]
    patience: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Look for served devices below this directory instead of /run/veritrail
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

pub(super) fn run(args: &ExplainArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let (subject, size) = subject(args)?;
    let bytes = args.bytes()?;
    if let Some(size) = size
        && bytes.end > size
    {
        let what = format!(
            "{} has {size} bytes ({} sectors of 512), which do not reach to byte {}",
            Shown(args.device.as_bytes()),
            size / SECTOR,
            bytes.end - 1
        );
        return Err(Failure::new(Kind::Usage, what).hint(
            "a position counts from the start of this device; dm-verity's is a block of its data device (--block), \
             the others' a sector of the mapped device",
        ));
    }
    let explainer = Explainer::new(Limits::patient());
    let explanation = explainer.explain(&subject, &bytes, Duration::from_secs(args.patience));
    if args.json {
        let report = Report::new(&subject, &bytes, &explanation);
        serde_json::to_writer(&mut *out, &report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        print(args, &bytes, &explanation, out)?;
    }
    Ok(if explanation.is_certain() { Outcome::Good } else { Outcome::No })
}

const SECTOR: u64 = 512;

impl ExplainArgs {
    fn bytes(&self) -> Result<Range<u64>, Failure> {
        if let Some(bytes) = &self.bytes {
            return Ok(bytes.clone());
        }
        let (number, unit, name) = match (self.block, self.sector) {
            (Some(block), _) => (block, self.unit, "block"),
            (None, sector) => (sector.unwrap_or(0), SECTOR, "sector"),
        };
        let start = number.checked_mul(unit);
        start.and_then(|start| Some(start..start.checked_add(unit)?)).ok_or_else(|| {
            Failure::new(Kind::Usage, format!("{name} {number}: no device is so large"))
        })
    }
}

/// `A-B`, both included.
fn parse_bytes(text: &str) -> Result<Range<u64>, String> {
    let range = || {
        let (first, last) = text.split_once('-')?;
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        (first <= last).then_some(first..last.checked_add(1)?)
    };
    range().ok_or_else(|| "two numbers of bytes, the first no larger: 0-4095".to_owned())
}

/// What the user means, and its size where it can be told.
fn subject(args: &ExplainArgs) -> Result<(Subject, Option<u64>), Failure> {
    let text = args.device.as_bytes();
    if text.contains(&b'/') {
        return at_path(Path::new(&args.device));
    }
    if let Some(number) = number(text) {
        return device(number, text);
    }
    if let Some(number) = named(text) {
        return device(number, text);
    }
    let name = args.device.to_str().and_then(|name| Name::parse(name).ok());
    if let Some(name) = name {
        let directory = Directory::locate(args.run_dir.as_deref())?;
        if directory.is_taken(&name) {
            return at_path(&directory.device(&name));
        }
    }
    at_path(Path::new(&args.device))
}

fn number(text: &[u8]) -> Option<Number> {
    let (major, minor) = std::str::from_utf8(text).ok()?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The device of that name: a mapped one's, else the kernel's.
fn named(name: &[u8]) -> Option<Number> {
    let devices: Vec<BlockDevice> = block_device::all()
        .unwrap_or_default()
        .into_iter()
        .filter_map(|number| BlockDevice::read(number).ok())
        .collect();
    let is_mapped = |device: &&BlockDevice| matches!(&device.kind, DeviceKind::Mapped { name: own, .. } if own == name);
    let found = devices.iter().find(is_mapped);
    let found = found.or_else(|| devices.iter().find(|device| device.name.as_bytes() == name));
    found.map(|device| device.number)
}

fn device(number: Number, text: &[u8]) -> Result<(Subject, Option<u64>), Failure> {
    let found = BlockDevice::read(number).map_err(|error| {
        let what = format!("cannot look at the device {}", Shown(text));
        Failure::new(no_such(&error), what).because(error).hint("`lsblk` lists block devices")
    })?;
    Ok((Subject::Device(number), Some(found.size)))
}

fn at_path(path: &Path) -> Result<(Subject, Option<u64>), Failure> {
    let failed = |error: io::Error| {
        let what = format!("{} is no device and no file", Shown(path.as_os_str().as_bytes()));
        Failure::new(no_such(&error), what)
            .because(error)
            .hint("give a path, MAJOR:MINOR, or the name of a mapped or served device (`lsblk`)")
    };
    // Only the folder is looked up: the server of a device's file may not answer.
    let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut absolute = fs::canonicalize(folder).map_err(failed)?.join(name);
    if place::may_keep_waiting(&absolute) {
        return Ok((as_file(&absolute, None), None));
    }
    if fs::symlink_metadata(&absolute).map_err(failed)?.is_symlink() {
        absolute = fs::canonicalize(&absolute).map_err(failed)?;
    }
    let stat = rustix::fs::stat(&absolute).map_err(|errno| failed(errno.into()))?;
    let pair = |device| (rustix::fs::major(device), rustix::fs::minor(device));
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => device(pair(stat.st_rdev), path.as_os_str().as_bytes()),
        FileType::RegularFile => {
            let size = u64::try_from(stat.st_size).ok();
            Ok((as_file(&absolute, Some((pair(stat.st_dev), stat.st_ino))), size))
        }
        _ => {
            let what = format!(
                "{} is neither a block device nor a regular file",
                Shown(absolute.as_os_str().as_bytes())
            );
            Err(Failure::new(Kind::Usage, what))
        }
    }
}

fn as_file(path: &Path, identity: Option<(Number, u64)>) -> Subject {
    Subject::File { path: path.as_os_str().as_bytes().to_vec(), identity }
}

fn no_such(error: &io::Error) -> Kind {
    if error.kind() == io::ErrorKind::NotFound { Kind::Usage } else { Kind::Io }
}

fn print(
    args: &ExplainArgs,
    bytes: &Range<u64>,
    explanation: &Explanation,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "{}, {}", Shown(args.device.as_bytes()), Bytes(bytes))?;
    for layer in &explanation.below {
        write!(out, "  made of   {}", Named(layer))?;
        match &layer.bytes {
            Some(bytes) => writeln!(out, ", {}", Bytes(bytes))?,
            None => writeln!(out)?,
        }
    }
    for hit in &explanation.hits {
        print_hit(hit, out)?;
    }
    if explanation.hits.is_empty() {
        writeln!(out, "no mounted file system has these bytes")?;
    }
    for gap in &explanation.gaps {
        writeln!(out, "note: {gap}")?;
    }
    if explanation.is_pending {
        writeln!(out, "note: the files were still being listed; --patience gives more time")?;
    }
    Ok(())
}

fn print_hit(hit: &Hit, out: &mut dyn Write) -> io::Result<()> {
    let (major, minor) = hit.device;
    let fs_type = hit.fs_type.escape_ascii();
    write!(out, "{fs_type} on {major}:{minor}, {}", Bytes(&hit.bytes))?;
    let way: Vec<String> = hit.stack.iter().skip(1).map(|layer| Named(layer).to_string()).collect();
    if way.is_empty() {
        writeln!(out)?
    } else {
        writeln!(out, " (by way of {})", way.join(", "))?
    }
    for one in &hit.uses {
        let mut words: Vec<String> = Vec::new();
        words.extend(one.what.path().map(|path| Shown(path).to_string()));
        match &one.what {
            What::File { inode, offset, links, .. } => {
                words.push(format!("inode {inode}"));
                words.extend(offset.map(|offset| format!("from its byte {offset}")));
                words.extend(offset.is_none().then(|| "within it".to_owned()));
                words.extend((*links > 1).then(|| format!("one of {links} names")));
            }
            What::Metadata { of, inode, .. } => {
                words.push(of.clone());
                words.extend(inode.map(|inode| format!("inode {inode}")));
            }
            What::Free => {}
            What::Unknown { reason } => words.push(reason.clone()),
        }
        if one.bytes != hit.bytes {
            words.push(Bytes(&one.bytes).to_string());
        }
        writeln!(out, "  {:<9} {}", one.what.word(), words.join(", "))?;
    }
    if hit.more_uses > 0 {
        writeln!(out, "  and {} more", hit.more_uses)?;
    }
    let first = hit.uses.iter().find_map(|one| one.what.path());
    for mount in &hit.mounts {
        write!(out, "  mounted   {}", Shown(&mount.point))?;
        if let Some(seen) = first.and_then(|file| mount.path_of(file)) {
            write!(out, " (the file: {})", Shown(&seen))?;
        }
        writeln!(out, ", mount namespace {} (process {})", mount.namespace, mount.pid)?;
    }
    for note in &hit.notes {
        writeln!(out, "  note: {note}")?;
    }
    Ok(())
}

struct Bytes<'a>(&'a Range<u64>);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {}-{}", self.0.start, self.0.end.saturating_sub(1))
    }
}

struct Named<'a>(&'a Layer);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Layer { device, name, made, .. } = self.0;
        write!(f, "{} {}", made.word(), Shown(name))?;
        match device {
            Some((major, minor)) => write!(f, " ({major}:{minor})"),
            None => Ok(()),
        }
    }
}

/// Somebody else's bytes on a terminal: what is no printable text is escaped.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() {
                    write!(f, "{}", c.escape_default())?
                } else {
                    write!(f, "{c}")?
                }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Report<'a> {
    device: Option<String>,
    file: Option<Text<'a>>,
    bytes: Span,
    below: Vec<LayerReport<'a>>,
    hits: Vec<HitReport<'a>>,
    gaps: &'a [String],
    pending: bool,
    certain: bool,
}

/// A range whose `last` belongs to it.
#[derive(Serialize)]
struct Span {
    first: u64,
    last: u64,
}

#[derive(Serialize)]
struct LayerReport<'a> {
    made: &'static str,
    device: Option<String>,
    name: Text<'a>,
    bytes: Option<Span>,
}

#[derive(Serialize)]
struct HitReport<'a> {
    stack: Vec<LayerReport<'a>>,
    device: String,
    fs: Text<'a>,
    bytes: Span,
    uses: Vec<UseReport<'a>>,
    more_uses: u64,
    mounts: Vec<MountReport<'a>>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct UseReport<'a> {
    bytes: Span,
    r#use: &'static str,
    inode: Option<u64>,
    file: Option<Text<'a>>,
    offset: Option<u64>,
    links: Option<u32>,
    of: Option<&'a str>,
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct MountReport<'a> {
    mntns: u64,
    pid: u32,
    point: Text<'a>,
    root: Text<'a>,
}

fn span(bytes: &Range<u64>) -> Span {
    Span { first: bytes.start, last: bytes.end.saturating_sub(1) }
}

fn dev((major, minor): Number) -> String {
    format!("{major}:{minor}")
}

impl<'a> Report<'a> {
    fn new(subject: &'a Subject, bytes: &Range<u64>, explanation: &'a Explanation) -> Report<'a> {
        let (device, file) = match subject {
            Subject::Device(number) => (Some(dev(*number)), None),
            Subject::File { path, .. } => (None, Some(Text(path))),
        };
        Report {
            device,
            file,
            bytes: span(bytes),
            below: explanation.below.iter().map(LayerReport::new).collect(),
            hits: explanation.hits.iter().map(HitReport::new).collect(),
            gaps: &explanation.gaps,
            pending: explanation.is_pending,
            certain: explanation.is_certain(),
        }
    }
}

impl<'a> LayerReport<'a> {
    fn new(layer: &'a Layer) -> LayerReport<'a> {
        LayerReport {
            made: layer.made.word(),
            device: layer.device.map(dev),
            name: Text(&layer.name),
            bytes: layer.bytes.as_ref().map(span),
        }
    }
}

impl<'a> HitReport<'a> {
    fn new(hit: &'a Hit) -> HitReport<'a> {
        let mounts = hit.mounts.iter().map(|mount| MountReport {
            mntns: mount.namespace,
            pid: mount.pid,
            point: Text(&mount.point),
            root: Text(&mount.root),
        });
        HitReport {
            stack: hit.stack.iter().map(LayerReport::new).collect(),
            device: dev(hit.device),
            fs: Text(&hit.fs_type),
            bytes: span(&hit.bytes),
            uses: hit.uses.iter().map(UseReport::new).collect(),
            more_uses: hit.more_uses,
            mounts: mounts.collect(),
            notes: &hit.notes,
        }
    }
}

impl<'a> UseReport<'a> {
    fn new(one: &'a place::Use) -> UseReport<'a> {
        let mut report = UseReport {
            bytes: span(&one.bytes),
            r#use: one.what.word(),
            inode: None,
            file: one.what.path().map(Text),
            offset: None,
            links: None,
            of: None,
            reason: None,
        };
        match &one.what {
            What::File { inode, offset, links, .. } => {
                (report.inode, report.offset) = (Some(*inode), *offset);
                report.links = (*links > 0).then_some(*links);
            }
            What::Metadata { of, inode, .. } => {
                (report.inode, report.of) = (*inode, Some(of.as_str()));
            }
            What::Free => {}
            What::Unknown { reason } => report.reason = Some(reason),
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_two_numbers() {
        assert_eq!(parse_bytes("0-4095"), Ok(0..4096));
        assert_eq!(parse_bytes("7-7"), Ok(7..8));
        for bad in ["", "-", "1", "2-1", "0-18446744073709551615", "a-b", "1-2-3"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_cannot_play_with_the_terminal() {
        assert_eq!(Shown("/mü\u{1b}[2J\n".as_bytes()).to_string(), "/mü\\u{1b}[2J\\n");
        assert_eq!(Shown(b"\xffx").to_string(), "\\xffx");
    }
}
