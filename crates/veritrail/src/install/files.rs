//! The files of an installation, as they are in dist/ and as clap makes them.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

use crate::cli::Cli;
use crate::outcome::{Failure, Kind};

/// A file to bring.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Where, from the root of the machine.
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) mode: u32,
    pub(super) whose: Whose,
}

/// Who may change a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Ours: another version replaces it.
    Ours,
    /// The user's: what is there stays.
    Users,
}

/// Units for the whole system.
const SYSTEM_UNITS: &[(&str, &str)] = &[
    (
        "veritrail-forward.service",
        include_str!("../../../../dist/systemd/veritrail-forward.service"),
    ),
    (
        "veritrail-metrics.service",
        include_str!("../../../../dist/systemd/veritrail-metrics.service"),
    ),
    ("veritrail-agent.service", include_str!("../../../../dist/systemd/veritrail-agent.service")),
    (
        "veritrail-device@.service",
        include_str!("../../../../dist/systemd/veritrail-device@.service"),
    ),
    ("veritrail-scrub@.service", include_str!("../../../../dist/systemd/veritrail-scrub@.service")),
    ("veritrail-scrub@.timer", include_str!("../../../../dist/systemd/veritrail-scrub@.timer")),
];

/// Units of whoever logs in.
const USER_UNITS: &[(&str, &str)] = &[(
    "veritrail-device@.service",
    include_str!("../../../../dist/systemd/user/veritrail-device@.service"),
)];

const SYSUSERS: &str = include_str!("../../../../dist/sysusers.d/veritrail.conf");
const TMPFILES: &str = include_str!("../../../../dist/tmpfiles.d/veritrail.conf");
const CONFIG: &str = include_str!("../../../../dist/etc/veritrail.toml");
const PLUGIN: &str = include_str!("../../../../dist/audit/plugins.d/veritrail.conf");
const RULES: &str = include_str!("../../../../dist/etc/rules.d/10-veritrail.rules");

impl Item {
    fn ours(path: PathBuf, bytes: impl Into<Vec<u8>>) -> Item {
        Item { path, bytes: bytes.into(), mode: 0o644, whose: Whose::Ours }
    }

    fn users(path: &str, text: &str, mode: u32) -> Item {
        Item { path: path.into(), bytes: text.into(), mode, whose: Whose::Users }
    }

    /// Whether this is a service that runs by itself, not one that needs a name.
    pub(super) fn is_service(&self) -> bool {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.parent().is_some_and(|dir| dir.ends_with("systemd/system"))
            && name.ends_with(".service")
            && !name.contains('@')
    }
}

/// By which auditd starts our plugin, and so hands its events on: only where somebody asks for it. auditd reads
/// none that others could write, or read.
pub(crate) fn plugin(prefix: &Path) -> Item {
    let binary = prefix.join("bin/veritrail");
    let text = PLUGIN.replace("/usr/bin/veritrail", &binary.to_string_lossy());
    Item { mode: 0o640, ..Item::ours("/etc/audit/plugins.d/veritrail.conf".into(), text) }
}

/// Everything that belongs below `prefix` and into /etc, `program` being our binary.
///
/// # Errors
/// The binary cannot be read.
pub(crate) fn items(program: &Path, prefix: &Path) -> Result<Vec<Item>, Failure> {
    let bytes = fs::read(program).map_err(|error| {
        Failure::new(Kind::Io, format!("cannot read {}", program.display())).because(error)
    })?;
    let binary = prefix.join("bin/veritrail");
    let here = |text: &str| text.replace("/usr/bin/veritrail", &binary.to_string_lossy());
    let mut items = vec![Item { mode: 0o755, ..Item::ours(binary.clone(), bytes) }];
    let lib = prefix.join("lib");
    for (folder, units) in [("system", SYSTEM_UNITS), ("user", USER_UNITS)] {
        let folder = lib.join("systemd").join(folder);
        items.extend(units.iter().map(|(name, text)| Item::ours(folder.join(name), here(text))));
    }
    items.push(Item::ours(lib.join("sysusers.d/veritrail.conf"), SYSUSERS));
    items.push(Item::ours(lib.join("tmpfiles.d/veritrail.conf"), TMPFILES));
    let share = prefix.join("share");
    items.extend(pages(&share.join("man/man1"))?);
    for (shell, path) in [
        (clap_complete::Shell::Bash, "bash-completion/completions/veritrail"),
        (clap_complete::Shell::Zsh, "zsh/site-functions/_veritrail"),
        (clap_complete::Shell::Fish, "fish/vendor_completions.d/veritrail.fish"),
    ] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "veritrail", &mut script);
        items.push(Item::ours(share.join(path), script));
    }
    items.push(Item::users("/etc/veritrail/veritrail.toml", CONFIG, 0o644));
    // Whoever reads the rules knows what is not watched.
    items.push(Item::users("/etc/veritrail/rules.d/10-veritrail.rules", RULES, 0o640));
    Ok(items)
}

/// The man pages, one for each verb.
fn pages(folder: &Path) -> Result<Vec<Item>, Failure> {
    let failed =
        |error: std::io::Error| Failure::new(Kind::Io, "cannot make the man pages").because(error);
    let made = tempfile::tempdir().map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), made.path()).map_err(failed)?;
    let mut pages = Vec::new();
    for entry in fs::read_dir(made.path()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        pages.push(Item::ours(
            folder.join(entry.file_name()),
            fs::read(entry.path()).map_err(failed)?,
        ));
    }
    pages.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(pages)
}
