//! `veritrail verity verify`

use std::io::{self, Write};
use std::ops::ControlFlow;

use block::ReadAt;
use block::fec::{self, Counted};
use block::verity::{Blocks, Digest, Fault, Finding, Watch};
use clap::Args;

use super::device::Device;
use super::findings::{Correction, Report, Verdict};
use super::operands::{Opened, Operands};
use super::options::Options;
use super::records::{ImageRecords, RecordTo, Records};
use super::report::Progress;
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

    let progress = Progress::new(&image.layout);
    let records = ImageRecords::new(records, &image.layout, data_device, hash_device);
    let correction = image.fec.as_ref().map(|_| Correction::Repairable);
    let mut report = Report::begin(
        args.json,
        &args.operands,
        &image.layout,
        &progress,
        out,
        records,
        correction,
    )?;
    let summary = match image.correcting()? {
        None => volume.verify(options.threads(), &mut report),
        Some(device) => volume.verify_and_correct(options.threads(), &device, &mut report),
    };
    progress.finish();
    report.end(&summary, Verdict::of(&summary), options.verbose)
}

/// As `veritysetup verify` does it: silent when all is good, stops at the first fault, says its
/// position on standard error, and how many bytes error correction could make good, which is all it
/// looks at then. Its exit status tells a wrong root hash and a read that failed or
/// came short (both "wrong parameters") from data that does not match ("no permission").
pub(super) fn run_as_veritysetup(args: &VerifyArgs, options: &Options) -> Result<Outcome, Failure> {
    let image = args.operands.open(options)?;
    let Some(first) = first_finding(&image, options, &image.root)? else {
        return Ok(Outcome::Good);
    };
    // It builds the tree from the data up, so what is wrong with its top shows last: then the
    // image is good under the root hash that its own top has.
    let wrong_root = match own_root(&first, &image)? {
        Some(own) => first_finding(&image, options, &own)?.is_none(),
        None => false,
    };
    // Standard error may be closed; the exit status says it too.
    let say = |line: &str| drop(writeln!(io::stderr(), "{line}"));
    if wrong_root {
        let failed = "Verification of root hash failed.";
        if image.fec.is_none() {
            return Err(Failure::new(Kind::Unusable, failed));
        }
        say(failed);
    } else {
        let position = first.bytes(&image.layout).start;
        match first.fault {
            Fault::Mismatch => say(&format!("Verification failed at position {position}.")),
            Fault::SpareNotZero => {
                say(&format!("Spare area is not zeroed at position {position}."));
            }
            Fault::Missing | Fault::Unreadable { .. } => {
                return Err(Failure::new(Kind::Unusable, "Verification of data area failed."));
            }
        }
        say("Verification of data area failed.");
    }
    let Some(fec) = &image.fec else { return Ok(Outcome::No) };
    let counted = fec::count(&image.data, &image.hash, &fec.device, &fec.area, options.threads());
    match counted {
        Ok(Counted::Errors(0)) => Ok(Outcome::No),
        Ok(Counted::Errors(errors)) => {
            say(&format!("Found {errors} repairable errors with FEC device."));
            Ok(if wrong_root { Outcome::No } else { Outcome::Good })
        }
        Ok(Counted::Beyond { row }) => {
            say(&format!("Failed to repair parity for block {row}."));
            say("Errors cannot be repaired with FEC device.");
            Ok(Outcome::No)
        }
        Err(error) => Err(Failure::new(Kind::Io, "cannot count errors").because(error)),
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
