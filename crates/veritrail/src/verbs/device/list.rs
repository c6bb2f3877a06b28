//! `veritrail device list`: every device of this host that verifies what is read from it.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use engine::devices::table::{Status as TargetStatus, Target};
use host::block_device::{self, BlockDevice, Kind as DeviceKind, Number};
use host::dm::{Control, Mapped};
use host::mountinfo;
use serde::Serialize;

use crate::agent::{self, Device as Heard, Home};
use crate::json::Text;
use crate::outcome::{Failure, Kind, Outcome};
use crate::scrub::report::{Report, size};
use crate::scrub::store::Key;
use crate::served::{Directory, State, Status};
use crate::verbs::verity;

/// List every device that verifies what is read from it, and how it is
///
/// The kernel's dm-verity, dm-integrity and authenticated dm-crypt devices, and those that veritrail serves: what
/// each does about a block that is not what was promised, whether there was one, when all of it was last
/// checked (`veritrail scrub`), and how many mounts lie on it. Exits 1 when a device is corrupted, or its last
/// check found a violation. Only root sees the kernel's.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail device list
  veritrail device list --json | jq 'select(.state != \"verified\")'")]
pub(crate) struct ListArgs {
    /// Print one JSON object for each device
    #[arg(long)]
    json: bool,
    /// Look for served devices below this directory instead of /run/veritrail
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Look for the last checks here instead of in /var/lib/veritrail/scrub
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// A device.
#[derive(Serialize)]
struct Row<'a> {
    name: Text<'a>,
    /// The device file.
    path: Text<'a>,
    /// Major and minor; none of a served device.
    device: Option<String>,
    module: &'static str,
    /// `kernel`, or `user` for veritrail's own engine.
    backend: &'static str,
    state: Health,
    /// What happens about a bad block, or how blocks are written.
    mode: &'static str,
    /// In bytes.
    size: u64,
    /// How often a block was not what was promised, where anybody counts.
    violations: Option<u64>,
    /// Mounts in this mount namespace of what lies on it.
    mounts: usize,
    last_check: Option<Report>,
}

/// How a device is, as far as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    /// Every block that was read was what was promised.
    Verified,
    /// It works, and does not say whether every block was.
    Active,
    /// A block was not.
    Corrupted,
    /// Its requests wait.
    Suspended,
    /// Its server has gone: readers get errors.
    Dead,
}

impl Health {
    fn word(self) -> &'static str {
        match self {
            Health::Verified => "verified",
            Health::Active => "active",
            Health::Corrupted => "corrupted",
            Health::Suspended => "suspended",
            Health::Dead => "dead",
        }
    }
}

pub(super) fn run(args: &ListArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let directory = Directory::locate(args.run_dir.as_deref())?;
    let mapped = match Control::open() {
        Ok(Some(control)) => all_mapped(&control).map_err(unanswered)?,
        Ok(None) => Vec::new(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // Standard error may be closed; what is served is told all the same.
            let _ =
                writeln!(io::stderr(), "veritrail: only root sees the kernel's devices: {error}");
            Vec::new()
        }
        Err(error) => return Err(unanswered(error)),
    };
    let mut served = Vec::new();
    for name in directory.names()? {
        served.extend(verity::find(&directory, &name)?);
    }
    let above = Above::read()?;
    // Without one the devices count for themselves, as far as they do.
    let agent = Home::locate(args.run_dir.as_deref()).and_then(|home| agent::ask(&home));
    let heard = agent.ok().flatten().map(|status| status.devices).unwrap_or_default();
    let state_dir = args.state_dir.as_deref();
    let mut rows: Vec<Row<'_>> = mapped
        .iter()
        .filter_map(|mapped| Row::of_kernel(mapped, &heard, &above, state_dir))
        .chain(served.iter().map(|status| Row::of_served(status, &above, state_dir)))
        .collect();
    rows.sort_by(|a, b| a.name.0.cmp(b.name.0));
    let bad = |row: &Row<'_>| {
        let violated = row.last_check.as_ref().is_some_and(Report::is_violated);
        row.state == Health::Corrupted || row.state == Health::Dead || violated
    };
    if args.json {
        rows.iter().try_for_each(|row| verity::write_json(out, row))?;
    } else {
        write(out, &rows)?;
    }
    Ok(if rows.iter().any(bad) { Outcome::No } else { Outcome::Good })
}

fn unanswered(error: io::Error) -> Failure {
    Failure::new(Kind::Io, "cannot ask the kernel's device mapper").because(error)
}

fn all_mapped(control: &Control) -> io::Result<Vec<(PathBuf, Mapped)>> {
    let mut all = Vec::new();
    for listed in control.list()? {
        // One that is gone meanwhile is none.
        if let Some(mapped) = control.mapped(listed.device)? {
            all.push((host::dm::node::path(&mapped.info.name), mapped));
        }
    }
    Ok(all)
}

impl<'a> Row<'a> {
    /// None for a device that verifies nothing itself.
    fn of_kernel(
        (path, mapped): &'a (PathBuf, Mapped),
        heard: &[Heard],
        above: &Above,
        state_dir: Option<&Path>,
    ) -> Option<Row<'a>> {
        let Mapped { info, table, status } = mapped;
        let targets = || table.iter().filter_map(|t| Target::parse(&t.kind, &t.params));
        let (module, mode) = targets().find_map(|target| match target {
            Target::Verity(verity) => Some(("verity", verity.table.on_corruption.word())),
            Target::Integrity(integrity) if integrity.internal_hash => {
                Some(("integrity", integrity_mode(integrity.mode)))
            }
            Target::Crypt(crypt) if crypt.authenticated => Some(("crypt", "aead")),
            _ => None,
        })?;
        let said: Vec<TargetStatus> =
            status.iter().filter_map(|t| TargetStatus::parse(&t.kind, &t.params)).collect();
        let counted = said.iter().filter_map(|said| match said {
            TargetStatus::Integrity { mismatches } => Some(*mismatches),
            TargetStatus::Verity { .. } => None,
        });
        let (major, minor) = info.device;
        let number = format!("{major}:{minor}");
        let heard = heard.iter().find(|heard| heard.device.as_deref() == Some(&number));
        let counted = counted.reduce(u64::saturating_add);
        let violations = counted.max(heard.map(|heard| heard.violations));
        let corrupted = said.contains(&TargetStatus::Verity { corrupted: true })
            || violations.is_some_and(|violations| violations > 0);
        let state = match module {
            _ if info.suspended => Health::Suspended,
            _ if corrupted => Health::Corrupted,
            // It does not count what it refuses.
            "crypt" => Health::Active,
            _ => Health::Verified,
        };
        let sectors = table.iter().map(|target| target.length).fold(0, u64::saturating_add);
        Some(Row {
            name: Text(&info.name),
            path: Text(path.as_os_str().as_encoded_bytes()),
            device: Some(number),
            module,
            backend: "kernel",
            state,
            mode,
            size: sectors.saturating_mul(512),
            violations,
            mounts: above.mounts(&[info.device], None),
            last_check: Report::find(state_dir, &Key::kernel(&info.name)),
        })
    }

    fn of_served(status: &'a Status, above: &Above, state_dir: Option<&Path>) -> Row<'a> {
        let mode = |flag: &str| match flag {
            "ignore_corruption" => Some("ignore"),
            "restart_on_corruption" => Some("restart"),
            "panic_on_corruption" => Some("panic"),
            _ => None,
        };
        let path = Path::new(&status.facts.path);
        Row {
            name: Text(status.facts.name.as_bytes()),
            path: Text(status.facts.path.as_bytes()),
            device: None,
            module: "verity",
            backend: "user",
            state: match (status.facts.state, status.facts.corrupted) {
                (State::Dead, _) => Health::Dead,
                (_, true) => Health::Corrupted,
                (_, false) => Health::Verified,
            },
            mode: status.facts.flags.iter().find_map(|flag| mode(flag)).unwrap_or("eio"),
            size: status.facts.size.saturating_mul(512),
            violations: status.counts.map(|counts| counts.violations),
            mounts: above.mounts(&above.loops_over(path), Some(path)),
            last_check: Report::find(state_dir, &Key::served(&status.facts.path)),
        }
    }
}

/// As `integritysetup status` has them.
fn integrity_mode(letter: char) -> &'static str {
    match letter {
        'J' => "journal",
        'D' => "direct",
        'B' => "bitmap",
        'R' => "recovery",
        'I' => "inline",
        _ => "unknown",
    }
}

/// What lies on what, here and now.
struct Above {
    devices: Vec<BlockDevice>,
    mountinfo: Vec<u8>,
}

impl Above {
    fn read() -> Result<Above, Failure> {
        let unread = |error| {
            Failure::new(Kind::Environment, "cannot see what lies on devices").because(error)
        };
        let numbers = block_device::all().map_err(unread)?;
        // One that is gone meanwhile is none.
        let devices = numbers.into_iter().filter_map(|number| BlockDevice::read(number).ok());
        Ok(Above { devices: devices.collect(), mountinfo: mountinfo::read().map_err(unread)? })
    }

    /// The loop devices that are made of this file.
    fn loops_over(&self, path: &Path) -> Vec<Number> {
        let is_over = |device: &&BlockDevice| matches!(&device.kind, DeviceKind::Loop(Some(backing)) if backing.file == path);
        self.devices.iter().filter(is_over).map(|device| device.number).collect()
    }

    /// How many mounts lie on these devices, or were made of this file.
    fn mounts(&self, devices: &[Number], file: Option<&Path>) -> usize {
        let (mut all, mut next) = (BTreeSet::new(), devices.to_vec());
        while let Some(number) = next.pop() {
            if !all.insert(number) {
                continue;
            }
            let Some(device) = self.devices.iter().find(|device| device.number == number) else {
                continue;
            };
            next.extend(device.holders.iter().chain(&device.partitions));
            next.extend(self.loops_over(&device.node()));
        }
        let made_of =
            |source: &[u8]| file.is_some_and(|file| file.as_os_str().as_encoded_bytes() == source);
        mountinfo::entries(&self.mountinfo)
            .filter(|mount| all.contains(&mount.device) || made_of(&mount.source))
            .count()
    }
}

/// One line for each, columns as wide as what stands in them.
fn write(out: &mut dyn Write, rows: &[Row<'_>]) -> io::Result<()> {
    const HEAD: [&str; 8] =
        ["NAME", "KIND", "BACKEND", "STATE", "MODE", "SIZE", "VIOLATIONS", "MOUNTS"];
    let cells: Vec<[String; 8]> = rows
        .iter()
        .map(|row| {
            [
                // Whoever made the device chose its name, a terminal is not to do as it says.
                row.name.0.escape_ascii().to_string(),
                row.module.into(),
                row.backend.into(),
                row.state.word().into(),
                row.mode.into(),
                size(row.size),
                row.violations.map_or_else(|| "-".into(), |count| count.to_string()),
                row.mounts.to_string(),
            ]
        })
        .collect();
    let width = |column: usize| {
        let wide = cells.iter().map(|row| row[column].len()).max().unwrap_or(0);
        wide.max(HEAD[column].len())
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut line = |cells: &[String; 8], last: &str| {
        for (cell, width) in cells.iter().zip(&widths) {
            write!(out, "{cell:width$}  ")?;
        }
        writeln!(out, "{last}")
    };
    line(&HEAD.map(str::to_owned), "LAST CHECK")?;
    for (row, cells) in rows.iter().zip(&cells) {
        line(cells, &row.last_check.as_ref().map_or_else(|| "never".into(), Report::line))?;
    }
    Ok(())
}
