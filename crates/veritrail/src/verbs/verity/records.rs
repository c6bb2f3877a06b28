//! The way from a violation to records in a trail.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use block::verity::{Blocks, Finding, Health, Layout, Refused};
use clap::Args;
use record::place::{DeviceId, Position};
use record::units::DataBlock;
use record::violation::{EventOp, Violation};
use record::write::Body;
use trail::{Class, Door, Entry, Field, Lines, Own};

use crate::config::Config;
use crate::outcome::Failure;
use crate::verbs::trail::{create_if_missing, from_door, open_door};

/// Where violations are recorded.
#[derive(Debug, Args)]
pub(super) struct RecordTo {
    /// Record each violation in this trail, which is made if it does not exist (not in veritysetup)
    #[arg(long, value_name = "DIR")]
    trail: Option<PathBuf>,
    /// Read this configuration instead of /etc/veritrail/veritrail.toml (not in veritysetup)
    #[arg(long, value_name = "FILE", requires = "trail")]
    config: Option<PathBuf>,
}

impl RecordTo {
    /// Does `work` with somebody who takes its events, and returns when they are durable: also
    /// those of work that failed.
    pub(super) fn during<T>(
        &self,
        work: impl FnOnce(&mut dyn Records) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Some(dir) = &self.trail else { return work(&mut Nowhere) };
        let config = Config::load(self.config.as_deref())?;
        if let Some(key) = create_if_missing(dir)? {
            let (dir, key) = (dir.display(), key.to_text());
            // Standard output belongs to the data and the verdict.
            eprintln!(
                "veritrail: made the trail {dir}; keep its public key elsewhere: {}",
                key.trim_end()
            );
        }
        let mut trail = InTrail { door: open_door(dir, &config)?, dir };
        let done = work(&mut trail);
        trail.door.close().map_err(|error| from_door(dir, &error))?;
        done
    }
}

/// A record to be: its type and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// `DM_EVENT` or `VT_PLACE`
    record_type: &'static str,
    /// The fields.
    body: Vec<u8>,
}

/// Who takes events: lines that belong together, in order.
pub(super) trait Records {
    /// Takes one event.
    fn event(&mut self, lines: &[Line]) -> Result<(), Failure>;
}

/// Nobody does.
struct Nowhere;

impl Records for Nowhere {
    fn event(&mut self, _: &[Line]) -> Result<(), Failure> {
        Ok(())
    }
}

/// The trail does.
struct InTrail<'a> {
    door: Door,
    dir: &'a Path,
}

impl Records for InTrail<'_> {
    fn event(&mut self, lines: &[Line]) -> Result<(), Failure> {
        let own: Vec<Own<'_>> =
            lines.iter().map(|line| Own { kind: line.record_type, body: &line.body }).collect();
        let entry = Entry {
            class: Class::Integrity,
            ticket: None,
            lines: Lines::Own(&own),
            tail: &[Field { name: "VT_SRC", value: "engine" }],
        };
        self.door.submit(&entry).map(drop).map_err(|error| from_door(self.dir, &error))
    }
}

/// An image whose violations are recorded as the kernel would, each with a `VT_PLACE` record of
/// what the kernel's does not say. No device is involved, so `dev=` is `0:0`.
pub(super) struct ImageRecords<'a> {
    records: &'a mut dyn Records,
    layout: &'a Layout,
    /// Absolute, where that can be told: the reader of a record has another working directory.
    data: OsString,
    hash: OsString,
    /// Of `verify`, which reads every block once as one opened device would be read.
    health: Health,
}

impl<'a> ImageRecords<'a> {
    pub(super) fn new(
        records: &'a mut dyn Records,
        layout: &'a Layout,
        data: &Path,
        hash: &Path,
    ) -> ImageRecords<'a> {
        let absolute =
            |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).into();
        let (data, hash) = (absolute(data), absolute(hash));
        ImageRecords { records, layout, data, hash, health: Health::default() }
    }

    /// A read that was refused.
    pub(super) fn refused(&mut self, refused: &Refused) -> Result<(), Failure> {
        refused
            .violations(DeviceId::Unserved, DeviceId::Unserved)
            .try_for_each(|violation| self.write(&violation, &refused.finding))
    }

    /// A finding of `verify`: an event per bad data block; one per run of bad hash blocks, at the
    /// first data block they cover (a wrong root hash is one fault, however large the image), with
    /// all that they cover in its `VT_PLACE`.
    pub(super) fn found(&mut self, finding: &Finding) -> Result<(), Failure> {
        let blocks = finding.data_blocks();
        match &finding.blocks {
            Blocks::Hash { .. } => self.found_at(finding, blocks.start),
            Blocks::Data(_) => (blocks.start.0..blocks.end.0).try_for_each(|number| {
                let block = DataBlock(number);
                let blocks = Blocks::Data(block..DataBlock(number + 1));
                self.found_at(&Finding { blocks, ..finding.clone() }, block)
            }),
        }
    }

    /// A bad block for which error correction found right bytes, `errors` of them other than they
    /// were: an event of its own, because the kernel has no record of that.
    pub(super) fn corrected(
        &mut self,
        finding: &Finding,
        errors: u64,
        result: &str,
    ) -> Result<(), Failure> {
        let file = match &finding.blocks {
            Blocks::Data(_) => &self.data,
            Blocks::Hash { .. } => &self.hash,
        };
        let place = finding.place(self.layout);
        let mut body = format!("{place} errors={errors} result={result} ").into_bytes();
        body.extend_from_slice(Body::new().untrusted("file", file.as_bytes()).as_bytes());
        self.records.event(&[Line { record_type: "VT_FEC", body }])
    }

    fn found_at(&mut self, finding: &Finding, block: DataBlock) -> Result<(), Failure> {
        let Some(violation) = finding.violation(DeviceId::Unserved, block) else { return Ok(()) };
        let (health, saturated) = self.health.after_mismatch();
        self.health = health;
        if saturated {
            let limit = Violation::new(EventOp::MaxCorruptedErrors, DeviceId::Unserved, block.0);
            self.write(&limit, finding)?;
        }
        self.write(&violation, finding)
    }

    fn write(&mut self, violation: &Violation, finding: &Finding) -> Result<(), Failure> {
        let (place, file) = match (violation.place.position, &finding.blocks) {
            (Position::Whole, _) => ("role=device".to_owned(), &self.data),
            (_, Blocks::Data(_)) => (finding.place(self.layout).to_string(), &self.data),
            (_, Blocks::Hash { .. }) => (finding.place(self.layout).to_string(), &self.hash),
        };
        let mut place = place.into_bytes();
        place.push(b' ');
        place.extend_from_slice(Body::new().untrusted("file", file.as_bytes()).as_bytes());
        self.records.event(&[
            Line { record_type: "DM_EVENT", body: violation.to_string().into_bytes() },
            Line { record_type: "VT_PLACE", body: place },
        ])
    }
}

#[cfg(test)]
mod tests {
    use block::verity::{BlockSize, Fault, HashArea, HashName, HashType, Params, Salt};
    use record::units::HashBlock;

    use super::*;

    struct Events(Vec<Vec<Line>>);

    impl Records for Events {
        fn event(&mut self, lines: &[Line]) -> Result<(), Failure> {
            self.0.push(lines.to_vec());
            Ok(())
        }
    }

    /// A thousand data blocks of 4 KiB.
    fn layout() -> Layout {
        let params = Params {
            hash_type: HashType::Normal,
            hash: HashName::parse("sha256").unwrap(),
            data_block_size: BlockSize::DEFAULT,
            hash_block_size: BlockSize::DEFAULT,
            data_blocks: 1000,
            salt: Salt::default(),
        };
        Layout::new(&params, HashArea::default()).unwrap()
    }

    #[test]
    fn a_data_block_is_an_event_and_so_is_a_run_of_hash_blocks() {
        let layout = layout();
        let mut events = Events(Vec::new());
        let findings = [
            Finding { fault: Fault::Mismatch, blocks: Blocks::Data(DataBlock(10)..DataBlock(12)) },
            Finding {
                fault: Fault::Mismatch,
                blocks: Blocks::Hash {
                    level: 0,
                    blocks: HashBlock(3)..HashBlock(5),
                    covers: DataBlock(128)..DataBlock(384),
                },
            },
            Finding {
                fault: Fault::Unreadable { errno: 5 },
                blocks: Blocks::Data(DataBlock(500)..DataBlock(501)),
            },
        ];
        let (data, hash) = (Path::new("/i/root img"), Path::new("/i/root.hash"));
        let mut image = ImageRecords::new(&mut events, &layout, data, hash);
        for finding in &findings {
            image.found(finding).unwrap();
        }
        let expected = [
            [
                "module=verity op=verify-data dev=0:0 sector=10 res=0",
                "role=data unit=4096 fault=mismatch blocks=10-10 bytes=40960-45055 file=2F692F726F6F7420696D67",
            ],
            [
                "module=verity op=verify-data dev=0:0 sector=11 res=0",
                "role=data unit=4096 fault=mismatch blocks=11-11 bytes=45056-49151 file=2F692F726F6F7420696D67",
            ],
            [
                "module=verity op=verify-metadata dev=0:0 sector=128 res=0",
                "role=hash unit=4096 fault=mismatch level=0 blocks=3-4 bytes=12288-20479 covers=128-383 file=\"/i/root.hash\"",
            ],
        ];
        let line = |record_type, body: &str| Line { record_type, body: body.into() };
        let expected: Vec<_> = expected
            .iter()
            .map(|[event, place]| vec![line("DM_EVENT", event), line("VT_PLACE", place)])
            .collect();
        assert_eq!(events.0, expected);
    }

    #[test]
    fn the_hundredth_bad_block_is_announced_first() {
        let layout = layout();
        let mut events = Events(Vec::new());
        let path = Path::new("/i");
        let mut image = ImageRecords::new(&mut events, &layout, path, path);
        let blocks = Blocks::Data(DataBlock(0)..DataBlock(250));
        image.found(&Finding { fault: Fault::Missing, blocks }).unwrap();
        assert_eq!(events.0.len(), 251);
        let limits: Vec<usize> = (0..251)
            .filter(|&at| events.0[at][0].body.windows(4).any(|word| word == b"max-"))
            .collect();
        assert_eq!(limits, [99]);
        assert_eq!(events.0[99][1].body, b"role=device file=\"/i\"");
        let hundredth = b"module=verity op=verify-data dev=0:0 sector=99 res=0";
        assert_eq!(events.0[100][0].body, hundredth);
    }
}
