//! The way from a finding to records.

use block::verity::{Blocks, Finding, Layout};
use record::place::DeviceId;
use record::units::DataBlock;
use record::violation::Violation;

use crate::outcome::Failure;

/// A record to be: its type and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// `DM_EVENT` or `VT_PLACE`
    pub(crate) record_type: &'static str,
    /// The fields.
    pub(crate) body: String,
}

/// Who takes events: lines that belong together, in order.
pub(crate) trait Records {
    /// Takes one event.
    fn event(&mut self, lines: &[Line]) -> Result<(), Failure>;
}

/// Nobody does.
pub(crate) struct NoRecords;

impl Records for NoRecords {
    fn event(&mut self, _: &[Line]) -> Result<(), Failure> {
        Ok(())
    }
}

/// The kernel's record of each violation, each an event with the truth about it. `verify` and `cat`
/// serve no device, so theirs is `0:0`.
pub(super) fn write(
    records: &mut dyn Records,
    violations: impl IntoIterator<Item = Violation>,
    finding: &Finding,
    layout: &Layout,
) -> Result<(), Failure> {
    for violation in violations {
        records.event(&[
            Line { record_type: "DM_EVENT", body: violation.to_string() },
            Line { record_type: "VT_PLACE", body: finding.place(layout).to_string() },
        ])?;
    }
    Ok(())
}

/// The records of a finding of `verify`: one per bad data block; one per run of bad hash
/// blocks, at the first data block they cover (a wrong root hash is one fault, however large the
/// image), with all that they cover in its VT_PLACE.
pub(super) fn write_finding(
    records: &mut dyn Records,
    finding: &Finding,
    layout: &Layout,
) -> Result<(), Failure> {
    let blocks = finding.data_blocks();
    match &finding.blocks {
        Blocks::Hash { .. } => {
            let violation = finding.violation(DeviceId::Unserved, blocks.start);
            write(records, violation, finding, layout)
        }
        Blocks::Data(_) => (blocks.start.0..blocks.end.0).try_for_each(|number| {
            let block = DataBlock(number);
            let alone =
                Finding { blocks: Blocks::Data(block..DataBlock(number + 1)), ..finding.clone() };
            write(records, alone.violation(DeviceId::Unserved, block), &alone, layout)
        }),
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

    #[test]
    fn a_data_block_is_an_event_and_so_is_a_run_of_hash_blocks() {
        let params = Params {
            hash_type: HashType::Normal,
            hash: HashName::parse("sha256").unwrap(),
            data_block_size: BlockSize::DEFAULT,
            hash_block_size: BlockSize::DEFAULT,
            data_blocks: 1000,
            salt: Salt::default(),
        };
        let layout = Layout::new(&params, HashArea::default()).unwrap();
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
        for finding in &findings {
            write_finding(&mut events, finding, &layout).unwrap();
        }
        let expected = [
            [
                "module=verity op=verify-data dev=0:0 sector=10 res=0",
                "role=data fault=mismatch blocks=10-10 bytes=40960-45055",
            ],
            [
                "module=verity op=verify-data dev=0:0 sector=11 res=0",
                "role=data fault=mismatch blocks=11-11 bytes=45056-49151",
            ],
            [
                "module=verity op=verify-metadata dev=0:0 sector=128 res=0",
                "role=hash fault=mismatch level=0 blocks=3-4 bytes=12288-20479 covers=128-383",
            ],
        ];
        let line = |record_type, body: &str| Line { record_type, body: body.to_owned() };
        let expected: Vec<_> = expected
            .iter()
            .map(|[event, place]| vec![line("DM_EVENT", event), line("VT_PLACE", place)])
            .collect();
        assert_eq!(events.0, expected);
    }
}
