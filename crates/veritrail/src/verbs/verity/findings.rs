//! What is found in an image, printed and recorded as it comes.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;

use block::verity::{Blocks, Fault, Finding, Layout, Summary, Watch};
use serde::Serialize;

use super::operands::Operands;
use super::records::ImageRecords;
use super::report::{Progress, sentence, total};
use crate::outcome::{Failure, Kind, Outcome};

/// What a verification comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Good,
    /// Not good as it is, but there are right bytes for all that is bad.
    Repairable,
    /// Good now.
    Repaired,
    Violation,
    Unreadable,
}

impl Verdict {
    pub(super) fn of(summary: &Summary) -> Verdict {
        if summary.has_violation() {
            Verdict::Violation
        } else if summary.has_unreadable() {
            Verdict::Unreadable
        } else if summary.mended + summary.mended_hash_blocks > 0 {
            Verdict::Repairable
        } else {
            Verdict::Good
        }
    }

    pub(super) fn outcome(self) -> Result<Outcome, Failure> {
        match self {
            Verdict::Good | Verdict::Repairable | Verdict::Repaired => Ok(Outcome::Good),
            Verdict::Violation => Ok(Outcome::No),
            Verdict::Unreadable => Err(Failure::new(
                Kind::Io,
                "not everything could be read; what could be read is good",
            )),
        }
    }
}

/// What error correction was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Correction {
    /// There are right bytes; nothing was written.
    Repairable,
    /// The right bytes were written.
    Repaired,
}

impl Correction {
    /// As it stands in records.
    pub(super) fn word(self) -> &'static str {
        match self {
            Correction::Repairable => "repairable",
            Correction::Repaired => "repaired",
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
    #[serde(flatten)]
    corrected: Option<Corrected>,
}

/// Only where there is error correction.
#[derive(Serialize)]
#[serde(untagged)]
enum Corrected {
    Repairable { repairable: u64, repairable_hash_blocks: u64 },
    Repaired { repaired: u64, repaired_hash_blocks: u64 },
}

impl Counts {
    fn of(summary: &Summary, correction: Option<Correction>) -> Counts {
        let Summary {
            good,
            mismatched,
            missing,
            unreadable,
            unverifiable,
            unreachable,
            bad_hash_blocks,
            unreadable_hash_blocks,
            mended,
            mended_hash_blocks,
        } = *summary;
        let corrected = correction.map(|correction| match correction {
            Correction::Repairable => Corrected::Repairable {
                repairable: mended,
                repairable_hash_blocks: mended_hash_blocks,
            },
            Correction::Repaired => {
                Corrected::Repaired { repaired: mended, repaired_hash_blocks: mended_hash_blocks }
            }
        });
        Counts {
            good,
            mismatched,
            missing,
            unverifiable,
            unreadable,
            unreachable,
            bad_hash_blocks,
            unreadable_hash_blocks,
            corrected,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Correction>,
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
            errors: None,
            result: None,
        }
    }
}

/// Prints findings as they come, so that no number of them fills memory.
pub(super) struct Report<'a> {
    json: bool,
    operands: &'a Operands,
    layout: &'a Layout,
    progress: &'a Progress,
    out: &'a mut dyn Write,
    records: ImageRecords<'a>,
    /// What it means that there are right bytes for a bad block, if that can be.
    correction: Option<Correction>,
    findings: u64,
    /// What the root hash stands for does not match it.
    top: bool,
    /// Whoever read the output has closed it. The verdict and the records are still wanted.
    unread: bool,
    failed: Option<Failure>,
}

impl<'a> Report<'a> {
    /// Begins one. With `json` nothing else must be printed until it ends.
    pub(super) fn begin(
        json: bool,
        operands: &'a Operands,
        layout: &'a Layout,
        progress: &'a Progress,
        out: &'a mut dyn Write,
        records: ImageRecords<'a>,
        correction: Option<Correction>,
    ) -> io::Result<Report<'a>> {
        let mut report = Report {
            json,
            operands,
            layout,
            progress,
            out,
            records,
            correction,
            findings: 0,
            top: false,
            unread: false,
            failed: None,
        };
        if json {
            report.print(&format!("{{\"data_blocks\":{},\"findings\":[", layout.data_blocks()))?;
        }
        Ok(report)
    }

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

    fn tell(&mut self, finding: &Finding, corrected: Option<(u64, Correction)>) -> io::Result<()> {
        if self.json {
            let comma = if self.findings == 0 { "" } else { "," };
            let mut found = Found::of(finding, self.layout);
            (found.errors, found.result) = corrected.unzip();
            let text = serde_json::to_string(&found).map_err(io::Error::from)?;
            self.print(&format!("{comma}{text}"))?;
        } else {
            let Operands { data_device, hash_device, .. } = self.operands;
            let mut line = sentence(finding, self.layout, data_device, hash_device, corrected);
            line.push('\n');
            self.print(&line)?;
        }
        self.findings += 1;
        Ok(())
    }

    /// Tells of a bad block for which there are right bytes.
    pub(super) fn corrected(
        &mut self,
        finding: &Finding,
        errors: u64,
        correction: Correction,
    ) -> Result<(), Failure> {
        self.tell(finding, Some((errors, correction)))?;
        self.records.corrected(finding, errors, correction.word())
    }

    fn bad(&mut self, finding: &Finding) -> Result<(), Failure> {
        self.tell(finding, None)?;
        let levels = self.layout.geometry().levels();
        self.top |= finding.fault == Fault::Mismatch
            && match finding.blocks {
                Blocks::Data(_) => levels == 0,
                Blocks::Hash { level, .. } => level + 1 == levels,
            };
        self.records.found(finding)
    }

    /// Says what it comes to, or why it did not come so far.
    pub(super) fn end(
        mut self,
        summary: &Summary,
        verdict: Verdict,
        verbose: bool,
    ) -> Result<Outcome, Failure> {
        if let Some(failure) = self.failed {
            return Err(failure);
        }
        if self.json {
            let end = End { summary: Counts::of(summary, self.correction), verdict };
            let text = serde_json::to_string(&end).map_err(io::Error::from)?;
            // The object that `begin` opened goes on with the fields of this one.
            self.print(&format!("],{}\n", text.strip_prefix('{').unwrap_or(&text)))?;
        } else if verdict != Verdict::Good || verbose || io::stdout().is_terminal() {
            self.print(&format!("{}\n", total(summary, self.correction)))?;
        }
        if self.top {
            // Standard error may be closed; the verdict is said already.
            let _ = writeln!(
                io::stderr(),
                "veritrail: nothing fits this root hash: either it belongs to another image, or \
                 the top of this one is damaged"
            );
        }
        verdict.outcome()
    }

    fn go_on(&mut self, told: Result<(), Failure>) -> ControlFlow<()> {
        match told {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                self.failed = Some(failure);
                ControlFlow::Break(())
            }
        }
    }
}

impl Watch for Report<'_> {
    fn found(&mut self, finding: &Finding) -> ControlFlow<()> {
        let told = self.bad(finding);
        self.go_on(told)
    }

    fn mended(&mut self, finding: &Finding, errors: u64, _: &[u8]) -> ControlFlow<()> {
        let told = self.corrected(finding, errors, Correction::Repairable);
        self.go_on(told)
    }

    fn progress(&mut self, done: u64) {
        self.progress.set(done);
    }
}
