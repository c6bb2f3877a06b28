//! What the verbs print: veritysetup's header lines, findings in words, progress.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use block::verity::{Blocks, Digest, Fault, Finding, HashArea, Layout, Params, Summary};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use uuid::Uuid;

use super::fec::Fec;
use super::findings::Correction;

/// The lines that `veritysetup dump` and `format` print.
pub(super) fn write_header(
    out: &mut dyn Write,
    hash: &Path,
    uuid: Option<Uuid>,
    params: &Params,
    layout: &Layout,
    fec: Option<&Fec>,
    root: Option<&Digest>,
) -> io::Result<()> {
    writeln!(out, "VERITY header information for {}", hash.display())?;
    writeln!(out, "UUID:            \t{}", uuid.map(|uuid| uuid.to_string()).unwrap_or_default())?;
    writeln!(out, "Hash type:       \t{}", params.hash_type.number())?;
    writeln!(out, "Data blocks:     \t{}", params.data_blocks)?;
    writeln!(out, "Data block size: \t{}", params.data_block_size)?;
    writeln!(out, "Hash blocks:     \t{}", layout.geometry().blocks())?;
    writeln!(out, "Hash block size: \t{}", params.hash_block_size)?;
    writeln!(out, "Hash algorithm:  \t{}", params.hash)?;
    if let Some(Fec { area, .. }) = fec {
        writeln!(out, "FEC RS roots:   \t{}", area.roots().get())?;
        writeln!(out, "FEC blocks:     \t{}", area.parity_blocks())?;
    }
    writeln!(out, "Salt:            \t{}", params.salt)?;
    if let Some(root) = root {
        writeln!(out, "Root hash:      \t{root}")?;
    }
    // veritysetup leaves it out where the hash area is not the whole device.
    if layout.hash_area().offset == 0 {
        let parity = fec.filter(|fec| fec.behind_the_tree).map_or(0, Fec::bytes);
        let end = layout.tree_bytes().end + parity;
        writeln!(out, "Hash device size: \t{end} [bytes]")?;
    }
    if let Some(fec) = fec.filter(|fec| !fec.behind_the_tree && fec.area.offset() == 0) {
        writeln!(out, "FEC device size: \t{} [bytes]", fec.bytes())?;
    }
    Ok(())
}

/// The same for machines.
#[derive(Serialize)]
pub(super) struct Header<'a> {
    hash_device: &'a Path,
    uuid: Option<String>,
    hash_type: u8,
    data_blocks: u64,
    data_block_size: u32,
    hash_blocks: u64,
    hash_block_size: u32,
    algorithm: String,
    salt: String,
    root_hash: Option<String>,
    hash_offset: u64,
    tree_start: u64,
    tree_end: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fec: Option<FecHeader<'a>>,
}

#[derive(Serialize)]
struct FecHeader<'a> {
    device: &'a Path,
    roots: u8,
    covered_blocks: u64,
    parity_blocks: u64,
    parity_start: u64,
    parity_end: u64,
}

impl<'a> Header<'a> {
    pub(super) fn new(
        hash_device: &'a Path,
        uuid: Option<Uuid>,
        params: &Params,
        layout: &Layout,
        fec: Option<&'a Fec>,
        root: Option<&Digest>,
    ) -> Header<'a> {
        let HashArea { offset, .. } = layout.hash_area();
        let tree = layout.tree_bytes();
        Header {
            hash_device,
            uuid: uuid.map(|uuid| uuid.to_string()),
            hash_type: params.hash_type.number(),
            data_blocks: params.data_blocks,
            data_block_size: params.data_block_size.bytes(),
            hash_blocks: layout.geometry().blocks(),
            hash_block_size: params.hash_block_size.bytes(),
            algorithm: params.hash.to_string(),
            salt: if params.salt.as_bytes().is_empty() {
                String::new()
            } else {
                params.salt.to_string()
            },
            root_hash: root.map(|root| root.to_string()),
            hash_offset: offset,
            tree_start: tree.start,
            tree_end: tree.end,
            fec: fec.map(|Fec { device, area, .. }| FecHeader {
                device: device.path(),
                roots: area.roots().get(),
                covered_blocks: area.covered(),
                parity_blocks: area.parity_blocks(),
                parity_start: area.bytes().start,
                parity_end: area.bytes().end,
            }),
        }
    }
}

/// Prints anything serializable as one JSON object.
pub(crate) fn write_json(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}

/// One line about a finding, and how many bytes could be corrected, if they could.
pub(super) fn sentence(
    finding: &Finding,
    layout: &Layout,
    data: &Path,
    hash: &Path,
    corrected: Option<(u64, Correction)>,
) -> String {
    let bytes = finding.bytes(layout);
    let span = |what: &str, first: u64, end: u64| {
        if end - first == 1 {
            format!("{what} block {first}")
        } else {
            format!("{what} blocks {first}-{}", end - 1)
        }
    };
    let (blocks, many, device) = match &finding.blocks {
        Blocks::Data(blocks) => {
            let (first, end) = (blocks.start.0, blocks.end.0);
            (span("data", first, end), end - first > 1, data)
        }
        Blocks::Hash { level, blocks, .. } => {
            let (first, end) = (blocks.start.0, blocks.end.0);
            (format!("{} of level {level}", span("hash", first, end)), end - first > 1, hash)
        }
    };
    let verb = |one, more| if many { more } else { one };
    let fault = match finding.fault {
        Fault::Mismatch => verb("does not match", "do not match").to_owned(),
        Fault::Missing => verb("is missing", "are missing").to_owned(),
        Fault::SpareNotZero => verb("has", "have").to_owned() + " spare bytes that are not zero",
        Fault::Unreadable { errno } => {
            format!("cannot be read ({})", io::Error::from_raw_os_error(errno))
        }
    };
    let mut line = format!(
        "{blocks} {fault}: bytes {}-{} of {}",
        bytes.start,
        bytes.end - 1,
        device.display()
    );
    if let Some((errors, correction)) = corrected {
        let plural = if errors == 1 { "" } else { "s" };
        line += &format!("; {errors} byte{plural} {}", correction.word());
    } else if let Blocks::Hash { covers, .. } = &finding.blocks
        && finding.fault != Fault::SpareNotZero
    {
        let covered = span("data", covers.start.0, covers.end.0);
        line += &format!("; {covered} cannot be verified");
    }
    line
}

/// The line that ends a verification.
pub(super) fn total(summary: &Summary, correction: Option<Correction>) -> String {
    let mut parts = vec![format!("{} data blocks good", summary.good)];
    let counts = [
        (summary.mismatched, "do not match"),
        (summary.missing, "missing"),
        (summary.unverifiable, "unverifiable"),
        (summary.unreadable, "unreadable"),
        (summary.unreachable, "below unreadable hash blocks"),
        (summary.bad_hash_blocks, "hash blocks bad"),
        (summary.unreadable_hash_blocks, "hash blocks unreadable"),
    ];
    parts.extend(
        counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}")),
    );
    if let Some(correction) = correction.map(Correction::word)
        && summary.mended + summary.mended_hash_blocks > 0
    {
        parts.push(format!("{} {correction}", summary.mended));
        if summary.mended_hash_blocks > 0 {
            parts.push(format!("{} hash blocks {correction}", summary.mended_hash_blocks));
        }
    }
    parts.join(", ")
}

/// A bar with rate and time left, on standard error and only if that is a terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// Bytes that one step stands for.
    unit: u64,
}

impl Progress {
    /// For all data blocks of an image.
    pub(super) fn new(layout: &Layout) -> Progress {
        let bar = Progress::bar(layout.data_bytes());
        Progress { bar, unit: layout.data_block_size().bytes().into() }
    }

    /// For so many bytes.
    pub(crate) fn of_bytes(bytes: u64) -> Progress {
        Progress { bar: Progress::bar(bytes), unit: 1 }
    }

    fn bar(bytes: u64) -> ProgressBar {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(bytes), target);
        // No colours, so that NO_COLOR has nothing to take away.
        let style = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar
    }

    /// So many blocks, or bytes, are done.
    pub(crate) fn set(&self, done: u64) {
        self.bar.set_position(done * self.unit);
    }

    /// Prints something else in between.
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
