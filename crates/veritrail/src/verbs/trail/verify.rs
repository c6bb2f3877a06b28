//! `veritrail trail verify`

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use trail::{Disk, KeyTrust, Report, Tampered, Verdict, VerifyOptions, verify};

use super::{from_trail, print_json, read_input, read_key, read_text};
use crate::outcome::{Failure, Kind, Outcome};

/// Say whether a trail is what was signed
///
/// Reads every leaf, computes the root and holds it against the signed checkpoint. Needs no
/// root and no writer; one may be at work meanwhile. Exits 0 if the trail is good and 4 if
/// anything in it was changed, removed, inserted or reordered; the first wrong place is named.
///
/// Without --public-key the key is the one that lies in the trail. That finds damage and
/// every change by somebody without the signing key, but whoever may write the whole
/// directory could have signed anew: give the key, or checkpoints that were kept elsewhere.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail trail verify /var/log/veritrail --public-key web1.pub
  veritrail trail verify /srv/copy --public-key web1.pub --anchors /mnt/elsewhere/anchors
  veritrail trail verify /var/log/veritrail --anchors /var/log/audit/audit.log
  veritrail trail verify /srv/copy --checkpoint last-weeks-checkpoint")]
pub(crate) struct VerifyArgs {
    /// The trail's directory
    dir: PathBuf,
    /// The trail's public key: a file, or the key itself (NAME+HASH+BASE64)
    #[arg(long, value_name = "KEY")]
    public_key: Option<String>,
    /// A file of signed checkpoints as a sink wrote it: notes, or a log of syslog or audit with lines of
    /// op=veritrail-checkpoint; the trail must contain them all
    #[arg(long, value_name = "FILE")]
    anchors: Option<PathBuf>,
    /// A file with one older checkpoint that the trail must contain
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is printed with --json.
#[derive(Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
enum Answer<'a> {
    Good {
        origin: &'a str,
        signed: u64,
        unsigned: u64,
        torn: u64,
        root: String,
        key: &'static str,
        anchors: usize,
    },
    Tampered {
        leaf: Option<u64>,
        segment: Option<String>,
        offset: Option<u64>,
        what: &'a str,
    },
}

pub(crate) fn run(args: &VerifyArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let (anchor_names, anchors) = match &args.anchors {
        Some(path) => anchors(&args.dir, path)?,
        None => Default::default(),
    };
    let options = VerifyOptions {
        public_key: args.public_key.as_deref().map(read_key).transpose()?,
        anchors,
        anchor_names,
        older: args.checkpoint.as_deref().map(read_text).transpose()?,
    };
    let verdict = verify(&Disk::new(&args.dir), &options);
    match verdict.map_err(|error| from_trail(&args.dir, error))? {
        Verdict::Good(report) => {
            if args.json {
                print_json(out, &good(&report))?;
            } else {
                print(&report, out)?;
            }
            Ok(Outcome::Good)
        }
        Verdict::Tampered(tampered) => {
            if args.json {
                print_json(out, &wrong(&tampered))?;
            }
            let what = format!("trail {} was tampered with: {tampered}", args.dir.display());
            Err(Failure::new(Kind::Tampered, what))
        }
    }
}

/// The checkpoints in a file, by name. In a log, those of other trails are passed over: it may be that of
/// many machines.
fn anchors(dir: &Path, path: &Path) -> Result<(Vec<String>, Vec<String>), Failure> {
    let text = read_input(path)?;
    let mut anchors = trail::anchors::read(&text);
    let none = |what: String| Err(Failure::new(Kind::Unusable, what));
    if anchors.is_empty() {
        return none(format!("{} holds no checkpoint", path.display()));
    }
    if memchr::memmem::find(&text, trail::anchors::MARK.as_bytes()).is_some()
        && let Ok(id) = std::fs::read_to_string(dir.join(trail::layout::ID))
    {
        let ours = Some(id.trim_end().to_owned());
        anchors.retain(|anchor| anchor.origin().is_none_or(|origin| Some(origin) == ours));
        if anchors.is_empty() {
            return none(format!("{} holds no checkpoint of {}", path.display(), id.trim_end()));
        }
    }
    let name = |place: &str| format!("the checkpoint kept in {}, {place}", path.display());
    Ok(anchors.into_iter().map(|anchor| (name(&anchor.place), anchor.note)).unzip())
}

fn print(report: &Report, out: &mut dyn Write) -> Result<(), Failure> {
    match report.key {
        KeyTrust::Proven => writeln!(out, "good: the trail is what the given key signed")?,
        KeyTrust::SelfConsistent => writeln!(
            out,
            "self-consistent; key not proven\n  The trail fits the key that lies in it. Whoever can \
             write there could have put\n  another key and signed anew: compare with --public-key \
             or --anchors."
        )?,
    }
    writeln!(out, "signed {}, unsigned tail {}", report.checkpoint.size, report.unsigned)?;
    if report.torn > 0 {
        writeln!(out, "{} bytes behind that are not a whole event", report.torn)?;
    }
    if report.anchors > 0 {
        writeln!(out, "contains all {} given checkpoints", report.anchors)?;
    }
    writeln!(out, "origin {}", report.checkpoint.origin)?;
    writeln!(out, "root {}", root(report))?;
    Ok(())
}

/// The root as it stands in the checkpoint.
fn root(report: &Report) -> String {
    report.checkpoint.to_text().lines().nth(2).unwrap_or_default().to_owned()
}

fn good(report: &Report) -> Answer<'_> {
    Answer::Good {
        origin: &report.checkpoint.origin,
        signed: report.checkpoint.size,
        unsigned: report.unsigned,
        torn: report.torn,
        root: root(report),
        key: match report.key {
            KeyTrust::Proven => "proven",
            KeyTrust::SelfConsistent => "self-consistent",
        },
        anchors: report.anchors,
    }
}

fn wrong(tampered: &Tampered) -> Answer<'_> {
    Answer::Tampered {
        leaf: tampered.leaf.map(|leaf| leaf.0),
        segment: tampered.place.as_ref().map(|place| place.segment.display().to_string()),
        offset: tampered.place.as_ref().map(|place| place.offset),
        what: &tampered.what,
    }
}
