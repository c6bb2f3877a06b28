//! `veritrail verity cat`

use std::io::{self, Write};
use std::num::NonZeroU64;
use std::ops::Range;

use block::verity::{Device as Verity, Notice, ReadError, Refused};
use clap::Args;
use record::units::DataBlock;

use super::operands::Operands;
use super::options::Options;
use super::records::{ImageRecords, RecordTo, Records};
use super::report::sentence;
use crate::outcome::{Failure, Kind, Outcome};

/// Stream verified data to standard output (not in veritysetup)
///
/// Not a byte that was not verified is written; stops with exit status 1 at the first block that
/// is not what the root hash promises. With --fec-device bad blocks are corrected on the way, and
/// nothing is written back. --repeat reads again and again as one opened device would
/// be read: each refused read is a record of its own, and the hundredth is announced as the kernel
/// does it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:
  veritrail verity cat root.img root.hash 4e6969b4...2053 | mount-somewhere
  veritrail verity cat root.img root.hash --root-hash-file root.roothash > copy.img
  veritrail verity cat root.img root.hash 4e6969b4...2053 --skip 1000 --count 1 --repeat 101 --trail DIR",
    disable_help_flag = true,
    args_override_self = true
)]
pub(crate) struct CatArgs {
    #[command(flatten)]
    operands: Operands,
    /// Begin with this data block
    #[arg(long, value_name = "blocks", default_value_t = 0)]
    skip: u64,
    /// Read so many data blocks; as many as there are if nothing is said
    #[arg(long, value_name = "blocks")]
    count: Option<u64>,
    /// Read all of that so many times, going on after a refusal
    #[arg(long, value_name = "number", default_value_t = NonZeroU64::MIN)]
    repeat: NonZeroU64,
    #[command(flatten)]
    record_to: RecordTo,
}

/// Bytes asked for at once.
const REQUEST: usize = 1024 * 1024;

pub(super) fn run(
    args: &CatArgs,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Outcome, Failure> {
    args.record_to.during(|records| read(args, options, out, records))
}

fn read(
    args: &CatArgs,
    options: &Options,
    out: &mut dyn Write,
    records: &mut dyn Records,
) -> Result<Outcome, Failure> {
    let image = args.operands.open(options)?;
    let device = match image.correcting()? {
        Some(device) => device,
        None => Verity::new(image.volume()?),
    };

    let blocks = device.layout().data_blocks();
    let end = args.count.map_or(blocks, |count| args.skip.saturating_add(count));
    if args.skip > end.min(blocks) || end > blocks {
        let many = args.count.map(|count| format!("{count} ")).unwrap_or_default();
        let asked = format!(
            "{many}data blocks from {} on are asked for, the device has {blocks}",
            args.skip
        );
        return Err(Failure::new(Kind::Usage, asked).hint("--skip and --count are in data blocks"));
    }
    let layout = device.layout().clone();
    let Operands { data_device, hash_device, .. } = &args.operands;
    let records = ImageRecords::new(records, &layout, data_device, hash_device);
    let mut reading = Reading { device, out, records, buf: Vec::new() };
    let mut refused = 0_u64;
    for _ in 0..args.repeat.get() {
        if let Some(refusal) = reading.stream(args.skip..end)? {
            refused += 1;
            // Those of --repeat are all alike.
            if refused == 1 {
                // Standard error may be closed; the exit status says it too.
                let _ = writeln!(
                    io::stderr(),
                    "veritrail: stopped before data block {}: {}",
                    refusal.block,
                    sentence(&refusal.finding, &layout, data_device, hash_device, None)
                );
            }
            reading.records.refused(&refusal)?;
        }
    }
    if refused > 1 {
        let _ = writeln!(io::stderr(), "veritrail: {refused} of {} reads refused", args.repeat);
    }
    Ok(if refused == 0 { Outcome::Good } else { Outcome::No })
}

/// A device that is being read.
struct Reading<'a, D, H> {
    device: Verity<D, H>,
    out: &'a mut dyn Write,
    records: ImageRecords<'a>,
    buf: Vec<u8>,
}

impl<D: block::ReadAt, H: block::ReadAt> Reading<'_, D, H> {
    /// Writes the data blocks of `range` as far as they are what was promised, and says what stopped it.
    fn stream(&mut self, range: Range<u64>) -> Result<Option<Refused>, Failure> {
        let size = self.device.layout().data_block_size().as_usize();
        self.buf.resize(REQUEST.max(size), 0);
        let mut at = range.start;
        while at < range.end {
            let room = usize::try_from(range.end - at)
                .map_or(self.buf.len(), |left| left.saturating_mul(size).min(self.buf.len()));
            let buf = &mut self.buf[..room];
            let mut corrected = Vec::new();
            // Nothing is tolerated here.
            let read = self.device.read(DataBlock(at), buf, &mut |notice| {
                if let Notice::Corrected { finding, errors, .. } = notice {
                    corrected.push((finding, errors));
                }
            });
            for (finding, errors) in &corrected {
                self.records.corrected(finding, *errors, "corrected")?;
            }
            match read {
                Ok(()) => {
                    self.out.write_all(buf)?;
                    at += (room / size) as u64;
                }
                Err(ReadError::Refused(refused)) => {
                    // What precedes the bad block in this request is good; it is asked for
                    // again, so that only verified bytes leave.
                    let good = usize::try_from(refused.block.0 - at).unwrap_or(0) * size;
                    if good > 0 {
                        // What is corrected on the way was recorded above.
                        self.device
                            .read(DataBlock(at), &mut buf[..good], &mut |_| {})
                            .map_err(failure)?;
                        self.out.write_all(&buf[..good])?;
                    }
                    return Ok(Some(refused));
                }
                Err(error) => return Err(failure(error)),
            }
        }
        Ok(None)
    }
}

fn failure(error: ReadError) -> Failure {
    Failure::new(Kind::Io, "cannot go on").because(error)
}
