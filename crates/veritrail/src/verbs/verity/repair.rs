//! `veritrail verity repair`

use std::io::{self, Write};
use std::ops::ControlFlow;

use block::WriteAt;
use block::verity::{Blocks, Finding, Summary, Watch};
use clap::Args;

use super::device::Device;
use super::findings::{Correction, Report, Verdict};
use super::operands::{Opened, Operands};
use super::options::Options;
use super::records::{ImageRecords, RecordTo, Records};
use super::report::Progress;
use crate::outcome::{Failure, Kind, Outcome};

/// Write right bytes over bad blocks, by error correction data (not in veritysetup)
///
/// Every block of DATA and HASH that is not what the root hash promises, and for which
/// --fec-device has right bytes, is written in place; nothing is that does not have its digest.
/// Goes on as long as one block repaired lets another be, then verifies everything. Exits 0 when all
/// is good afterwards, 1 when something stays bad. No other program should write to the image
/// meanwhile; whoever has it mounted may keep bad blocks in memory.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:
  veritrail verity repair root.img root.hash 4e6969b4...2053 --fec-device root.fec --dry-run
  veritrail verity repair root.img root.hash 4e6969b4...2053 --fec-device root.fec
  veritrail verity repair root.img root.hash --root-hash-file root.roothash --fec-device root.fec --fec-roots 24 --json",
    disable_help_flag = true,
    args_override_self = true
)]
pub(crate) struct RepairArgs {
    #[command(flatten)]
    operands: Operands,
    /// Only say what would be written
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object instead
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    record_to: RecordTo,
}

pub(super) fn run(
    args: &RepairArgs,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Outcome, Failure> {
    args.record_to.during(|records| repair(args, options, out, records))
}

fn repair(
    args: &RepairArgs,
    options: &Options,
    out: &mut dyn Write,
    records: &mut dyn Records,
) -> Result<Outcome, Failure> {
    let operands = &args.operands;
    let image =
        if args.dry_run { operands.open(options) } else { operands.open_to_write(options) }?;
    let Some(device) = image.correcting()? else {
        return Err(Failure::new(Kind::Usage, "nothing to repair with: no --fec-device given")
            .hint(
                "without error correction data bad blocks can only be copied from a good image",
            ));
    };
    let volume = image.volume()?;
    let progress = Progress::new(&image.layout);
    let Operands { data_device, hash_device, .. } = operands;
    let records = ImageRecords::new(records, &image.layout, data_device, hash_device);
    let correction = if args.dry_run { Correction::Repairable } else { Correction::Repaired };
    let mut report = Report::begin(
        args.json,
        operands,
        &image.layout,
        &progress,
        out,
        records,
        Some(correction),
    )?;
    if args.dry_run {
        let summary = volume.verify_and_correct(options.threads(), &device, &mut report);
        progress.finish();
        return report.end(&summary, Verdict::of(&summary), options.verbose);
    }

    let mut repaired = Summary::default();
    let mut before = u64::MAX;
    let last = loop {
        let mut writer =
            Writer { image: &image, report: &mut report, waiting: Vec::new(), failed: None };
        let summary = volume.verify_and_correct(options.threads(), &device, &mut writer);
        writer.finish()?;
        let more = summary.mended + summary.mended_hash_blocks;
        repaired.mended += summary.mended;
        repaired.mended_hash_blocks += summary.mended_hash_blocks;
        let bad = summary.bad() + more;
        if bad == 0 {
            break summary;
        }
        // Nothing more to write, nothing left to help, or a disk that does not keep what is written.
        if more == 0 || bad == more || bad >= before {
            // What was written is read again, what stays bad is told of.
            break volume.verify(options.threads(), &mut report);
        }
        before = bad;
    };
    progress.finish();
    let verdict = match Verdict::of(&last) {
        Verdict::Good if repaired.mended + repaired.mended_hash_blocks > 0 => Verdict::Repaired,
        verdict => verdict,
    };
    let Summary { mended, mended_hash_blocks, .. } = repaired;
    report.end(&Summary { mended, mended_hash_blocks, ..last }, verdict, options.verbose)
}

/// Blocks that are written before they are made durable together, and told of.
const BATCH: usize = 256;

/// Writes right bytes where they belong.
struct Writer<'a, 'r> {
    image: &'a Opened,
    report: &'a mut Report<'r>,
    /// Written, but perhaps not yet durable: what was wrong, and with how many bytes.
    waiting: Vec<(Finding, u64)>,
    failed: Option<Failure>,
}

impl Writer<'_, '_> {
    /// A torn write leaves bytes that are each as they were or right: nothing worse.
    fn write(&mut self, finding: &Finding, errors: u64, bytes: &[u8]) -> Result<(), Failure> {
        let device = self.device(finding);
        let offset = finding.bytes(&self.image.layout).start;
        device.write_all_at(bytes, offset).map_err(|error| cannot_write(device, error))?;
        self.waiting.push((finding.clone(), errors));
        if self.waiting.len() >= BATCH { self.settle() } else { Ok(()) }
    }

    fn device(&self, finding: &Finding) -> &Device {
        match finding.blocks {
            Blocks::Data(_) => &self.image.data,
            Blocks::Hash { .. } => &self.image.hash,
        }
    }

    /// Makes what was written durable; only then it is repaired.
    fn settle(&mut self) -> Result<(), Failure> {
        // Taken first: what could not be made durable once must not be tried again.
        let waiting = std::mem::take(&mut self.waiting);
        for device in [&self.image.data, &self.image.hash] {
            if waiting.iter().any(|(finding, _)| std::ptr::eq(self.device(finding), device)) {
                device.sync().map_err(|error| cannot_write(device, error))?;
            }
        }
        waiting.iter().try_for_each(|(finding, errors)| {
            self.report.corrected(finding, *errors, Correction::Repaired)
        })
    }

    fn finish(mut self) -> Result<(), Failure> {
        // Also what was written before a failure.
        let settled = self.settle();
        self.failed.take().map_or(settled, Err)
    }
}

fn cannot_write(device: &Device, error: io::Error) -> Failure {
    let what = format!("cannot write {}", device.path().display());
    Failure::new(Kind::Io, what).because(error)
}

impl Watch for Writer<'_, '_> {
    fn found(&mut self, _: &Finding) -> ControlFlow<()> {
        // It may be repaired in the next run.
        ControlFlow::Continue(())
    }

    fn mended(&mut self, finding: &Finding, errors: u64, bytes: &[u8]) -> ControlFlow<()> {
        match self.write(finding, errors, bytes) {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                self.failed = Some(failure);
                ControlFlow::Break(())
            }
        }
    }

    fn progress(&mut self, done: u64) {
        self.report.progress(done);
    }
}
