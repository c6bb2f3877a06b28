//! `veritrail verity verify`

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;

use block::ReadAt;
use block::verity::{Blocks, Digest, Fault, Finding, Layout, Summary, Watch};
use clap::Args;
use serde::Serialize;

use super::device::Device;
use super::operands::{Opened, Operands};
use super::options::Options;
use super::records::{ImageRecords, RecordTo, Records};
use super::report::{Progress, sentence, total};
use crate::outcome::{Failure, Kind, Outcome};

/// Verify device
///
/// Reads all of DATA and HASH and goes on past what is bad. Prints each run of bad data blocks with
/// its bytes; where a hash block is bad it says so, and names the data blocks below it, about which
/// nothing can be known. Exits 1 when anything is not what the root hash promises, 6 when all that
/// could be read is, but not everything could.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:
  veritrail verity verify root.img root.hash 4e6969b4...2053
  veritrail verity verify root.img root.hash --root-hash-file root.roothash --json
  veritrail verity verify root.img root.hash 4e6969b4...2053 --trail /var/log/veritrail",
    disable_help_flag = true,
    args_override_self = true
)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    operands: Operands,
    /// Print one JSON object instead (not in veritysetup)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    record_to: RecordTo,
}

pub(super) fn run(
    args: &VerifyArgs,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Outcome, Failure> {
    args.record_to.during(|records| verify(args, options, out, records))
}

fn verify(
    args: &VerifyArgs,
    options: &Options,
    out: &mut dyn Write,
    records: &mut dyn Records,
) -> Result<Outcome, Failure> {
    let image = args.operands.open(options)?;
    let volume = image.volume()?;
    if let Some(signer) = image.signer.as_ref().filter(|_| options.verbose && !args.json) {
        writeln!(out, "root hash {signer}")?;
    }
    let Operands { data_device, hash_device, .. } = &args.operands;

    let progress = Progress::new(volume.layout());
    let mut report = Report {
        args,
        layout: volume.layout(),
        progress: &progress,
        out,
        records: ImageRecords::new(records, volume.layout(), data_device, hash_device),
        findings: 0,
        top: false,
        unread: false,
        failed: None,
    };
    report.begin()?;
    let summary = volume.verify(options.threads(), &mut report);
    progress.finish();
    if let Some(failure) = report.failed {
        return Err(failure);
    }
    let verdict = Verdict::of(&summary);
    report.end(&summary, verdict, options.verbose)?;
    match verdict {
        Verdict::Good => Ok(Outcome::Good),
        Verdict::Violation => Ok(Outcome::No),
        Verdict::Unreadable => {
            Err(Failure::new(Kind::Io, "not everything could be read; what could be read is good"))
        }
    }
}

/// What a verification comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    Violation,
    Unreadable,
}

impl Verdict {
    fn of(summary: &Summary) -> Verdict {
        if summary.has_violation() {
            Verdict::Violation
        } else if summary.has_unreadable() {
            Verdict::Unreadable
        } else {
            Verdict::Good
        }
    }
}

#[derive(Serialize)]
struct Counts {
    good: u64,
    mismatched: u64,
    missing: u64,
    unverifiable: u64,
    unreadable: u64,
    unreachable: u64,
    bad_hash_blocks: u64,
    unreadable_hash_blocks: u64,
}

impl Counts {
    fn of(summary: &Summary) -> Counts {
        let Summary {
            good,
            mismatched,
            missing,
            unreadable,
            unverifiable,
            unreachable,
            bad_hash_blocks,
            unreadable_hash_blocks,
        } = *summary;
        Counts {
            good,
            mismatched,
            missing,
            unverifiable,
            unreadable,
            unreachable,
            bad_hash_blocks,
            unreadable_hash_blocks,
        }
    }
}

#[derive(Serialize)]
struct End {
    summary: Counts,
    verdict: Verdict,
}

/// A finding for machines. Ranges begin at `first` and end at `last`, which belongs to them.
#[derive(Serialize)]
struct Found {
    role: &'static str,
    fault: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<usize>,
    blocks: Span,
    bytes: Span,
    data_blocks: Span,
}

#[derive(Serialize)]
struct Span {
    first: u64,
    last: u64,
}

impl Span {
    fn new(start: u64, end: u64) -> Span {
        Span { first: start, last: end - 1 }
    }
}

impl Found {
    fn of(finding: &Finding, layout: &Layout) -> Found {
        let (role, level, blocks) = match &finding.blocks {
            Blocks::Data(blocks) => ("data", None, Span::new(blocks.start.0, blocks.end.0)),
            Blocks::Hash { level, blocks, .. } => {
                ("hash", Some(*level), Span::new(blocks.start.0, blocks.end.0))
            }
        };
        let errno = match finding.fault {
            Fault::Unreadable { errno } => Some(errno),
            _ => None,
        };
        let bytes = finding.bytes(layout);
        let data_blocks = finding.data_blocks();
        Found {
            role,
            fault: finding.fault.word(),
            errno,
            level,
            blocks,
            bytes: Span::new(bytes.start, bytes.end),
            data_blocks: Span::new(data_blocks.start.0, data_blocks.end.0),
        }
    }
}

/// Prints findings as they come, so that no number of them fills memory.
struct Report<'a> {
    args: &'a VerifyArgs,
    layout: &'a Layout,
    progress: &'a Progress,
    out: &'a mut dyn Write,
    records: ImageRecords<'a>,
    findings: u64,
    /// What the root hash stands for does not match it.
    top: bool,
    /// Whoever read the output has closed it. The verdict and the records are still wanted.
    unread: bool,
    failed: Option<Failure>,
}

impl Report<'_> {
    fn print(&mut self, text: &str) -> io::Result<()> {
        if self.unread {
            return Ok(());
        }
        match self.progress.aside(|| self.out.write_all(text.as_bytes())) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.unread = true;
                Ok(())
            }
            written => written,
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.args.json {
            self.print(&format!("{{\"data_blocks\":{},\"findings\":[", self.layout.data_blocks()))?;
        }
        Ok(())
    }

    fn tell(&mut self, finding: &Finding) -> Result<(), Failure> {
        if self.args.json {
            let comma = if self.findings == 0 { "" } else { "," };
            let text =
                serde_json::to_string(&Found::of(finding, self.layout)).map_err(io::Error::from)?;
            self.print(&format!("{comma}{text}"))?;
        } else {
            let Operands { data_device, hash_device, .. } = &self.args.operands;
            let line = sentence(finding, self.layout, data_device, hash_device);
            self.print(&format!("{line}\n"))?;
        }
        self.findings += 1;
        let levels = self.layout.geometry().levels();
        self.top |= finding.fault == Fault::Mismatch
            && match finding.blocks {
                Blocks::Data(_) => levels == 0,
                Blocks::Hash { level, .. } => level + 1 == levels,
            };
        self.records.found(finding)
    }

    fn end(&mut self, summary: &Summary, verdict: Verdict, verbose: bool) -> io::Result<()> {
        if self.args.json {
            let end = End { summary: Counts::of(summary), verdict };
            let text = serde_json::to_string(&end)?;
            // The object that `begin` opened goes on with the fields of this one.
            self.print(&format!("],{}\n", text.strip_prefix('{').unwrap_or(&text)))?;
        } else if verdict != Verdict::Good || verbose || io::stdout().is_terminal() {
            self.print(&format!("{}\n", total(summary)))?;
        }
        if self.top {
            // Standard error may be closed; the verdict is said already.
            let _ = writeln!(
                io::stderr(),
                "veritrail: nothing fits this root hash: either it belongs to another image, or \
                 the top of this one is damaged"
            );
        }
        Ok(())
    }
}

impl Watch for Report<'_> {
    fn found(&mut self, finding: &Finding) -> ControlFlow<()> {
        match self.tell(finding) {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                self.failed = Some(failure);
                ControlFlow::Break(())
            }
        }
    }

    fn progress(&mut self, done: u64) {
        self.progress.set(done);
    }
}

/// As `veritysetup verify` does it: silent when all is good, stops at the first fault, says its
/// position on standard error. Its exit status tells a wrong root hash and a read that failed or
/// came short (both "wrong parameters") from data that does not match ("no permission").
pub(super) fn run_as_veritysetup(args: &VerifyArgs, options: &Options) -> Result<Outcome, Failure> {
    let image = args.operands.open(options)?;
    let Some(first) = first_finding(&image, options, &image.root)? else {
        return Ok(Outcome::Good);
    };
    // It builds the tree from the data up, so what is wrong with its top shows last: then the
    // image is good under the root hash that its own top has.
    if let Some(own) = own_root(&first, &image)?
        && first_finding(&image, options, &own)?.is_none()
    {
        return Err(Failure::new(Kind::Unusable, "Verification of root hash failed."));
    }
    let position = first.bytes(&image.layout).start;
    match first.fault {
        Fault::Mismatch | Fault::SpareNotZero => {
            let what = match first.fault {
                Fault::SpareNotZero => "Spare area is not zeroed",
                _ => "Verification failed",
            };
            // Standard error may be closed; the exit status says it too.
            let _ = writeln!(io::stderr(), "{what} at position {position}.");
            let _ = writeln!(io::stderr(), "Verification of data area failed.");
            Ok(Outcome::No)
        }
        Fault::Missing | Fault::Unreadable { .. } => {
            Err(Failure::new(Kind::Unusable, "Verification of data area failed."))
        }
    }
}

struct First(Option<Finding>);

impl Watch for First {
    fn found(&mut self, finding: &Finding) -> ControlFlow<()> {
        self.0 = Some(finding.clone());
        ControlFlow::Break(())
    }
}

fn first_finding(
    image: &Opened,
    options: &Options,
    root: &Digest,
) -> Result<Option<Finding>, Failure> {
    let mut first = First(None);
    image.volume_under(root)?.verify(options.threads(), &mut first);
    Ok(first.0)
}

/// The digest that the top of the image really has, where the root hash and it do not agree.
fn own_root(finding: &Finding, image: &Opened) -> Result<Option<Digest>, Failure> {
    let layout = &image.layout;
    let levels = layout.geometry().levels();
    let (device, size): (&Device, _) = match &finding.blocks {
        Blocks::Data(_) if levels == 0 => (&image.data, layout.data_block_size()),
        Blocks::Hash { level, .. } if level + 1 == levels => {
            (&image.hash, layout.hash_block_size())
        }
        _ => return Ok(None),
    };
    let mut top = vec![0; size.as_usize()];
    let offset = finding.bytes(layout).start;
    let whole = device.read_full(&mut top, offset).is_ok_and(|read| read == top.len());
    let mut digest = vec![0; image.image.params.hash.algorithm().digest_size()];
    image.image.params.hasher().hash_one(&top, &mut digest);
    Ok((finding.fault == Fault::Mismatch && whole).then(|| Digest::new(&digest)))
}
