//! What belongs onto a machine beside the binary, and how it comes there and goes again.
//!
//! Everything is in the binary itself ([`files`]), so that a machine that has nothing else can be set up, and a
//! package is made by the same code as an installation by hand.

mod files;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use files::Whose;
pub(crate) use files::{Item, items, plugin};
use serde::Serialize;

use crate::outcome::{Failure, Kind};

/// Where things go.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The directory that is, or will be, the root of the machine.
    pub(crate) root: PathBuf,
    /// Below it: where programs and their data go.
    pub(crate) prefix: PathBuf,
    /// Nothing is changed; it is said what would be.
    pub(crate) dry_run: bool,
}

/// Something that was done, or that was found so already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    /// What: `wrote`, `unchanged`, `kept`, `removed`, `left`, `ran`, `failed`.
    pub(crate) did: &'static str,
    /// With which file or command.
    pub(crate) what: String,
    /// Why, where that is not plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

impl Step {
    fn new(did: &'static str, what: &Path) -> Step {
        Step { did, what: what.display().to_string(), why: None }
    }

    fn because(self, why: impl Into<String>) -> Step {
        Step { why: Some(why.into()), ..self }
    }
}

/// What an installation keeps as long as nobody says to purge it.
const KEPT: [&str; 3] = ["/etc/veritrail", "/var/log/veritrail", "/var/lib/veritrail"];

impl Place {
    /// Brings everything there; what is there already, and the same, stays untouched.
    ///
    /// # Errors
    /// [`Kind::Usage`] where a way below the root leads out of it; I/O.
    pub(crate) fn install(&self, items: &[Item]) -> Result<Vec<Step>, Failure> {
        let mut steps = Vec::new();
        for item in items {
            let path = self.under(&item.path)?;
            let found = read_if_there(&path)?;
            let step = match (&found, item.whose) {
                (Some((bytes, mode)), _) if *bytes == item.bytes && *mode == item.mode => {
                    Step::new("unchanged", &path)
                }
                (Some((bytes, _)), Whose::Users) if *bytes != item.bytes => {
                    Step::new("kept", &path).because("it is not as it was delivered")
                }
                _ => {
                    if !self.dry_run {
                        write(&path, item).map_err(|error| failed("write", &path, error))?;
                    }
                    Step::new("wrote", &path)
                }
            };
            steps.push(step);
        }
        if self.is_this_machine() {
            self.settle(&mut steps)?;
        }
        Ok(steps)
    }

    /// Takes everything away again; settings, state and trails only with `purge`.
    ///
    /// # Errors
    /// As [`Place::install`].
    pub(crate) fn uninstall(&self, items: &[Item], purge: bool) -> Result<Vec<Step>, Failure> {
        let mut steps = Vec::new();
        if self.is_this_machine() && Path::new("/run/systemd/system").is_dir() {
            for item in items.iter().filter(|item| item.is_service()) {
                let unit = item.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                self.do_run(&mut steps, &["systemctl", "disable", "--now", &unit]);
            }
        }
        for item in items {
            let path = self.under(&item.path)?;
            if fs::symlink_metadata(&path).is_err() {
                continue;
            }
            if item.whose == Whose::Users && !purge {
                steps.push(Step::new("left", &path).because("settings; --purge takes them away"));
                continue;
            }
            if !self.dry_run {
                fs::remove_file(&path).map_err(|error| failed("remove", &path, error))?;
            }
            steps.push(Step::new("removed", &path));
        }
        for kept in KEPT {
            let path = self.under(Path::new(kept))?;
            if fs::symlink_metadata(&path).is_err() {
                continue;
            }
            if !purge {
                steps.push(Step::new("left", &path).because("--purge takes it away"));
                continue;
            }
            if !self.dry_run {
                fs::remove_dir_all(&path).map_err(|error| failed("remove", &path, error))?;
            }
            steps.push(Step::new("removed", &path));
        }
        if self.is_this_machine() && Path::new("/run/systemd/system").is_dir() {
            self.do_run(&mut steps, &["systemctl", "daemon-reload"]);
        }
        Ok(steps)
    }

    fn is_this_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Makes user and directories, and tells the service manager that runs, if one does.
    fn settle(&self, steps: &mut Vec<Step>) -> Result<(), Failure> {
        let lib = self.prefix.join("lib");
        let conf = |folder: &str| lib.join(folder).join("veritrail.conf").display().to_string();
        self.do_run(steps, &["systemd-sysusers", &conf("sysusers.d")]);
        self.do_run(steps, &["systemd-tmpfiles", "--create", &conf("tmpfiles.d")]);
        if Path::new("/run/systemd/system").is_dir() {
            self.do_run(steps, &["systemctl", "daemon-reload"]);
        }
        Ok(())
    }

    fn do_run(&self, steps: &mut Vec<Step>, argv: &[&str]) {
        let step = |did, why| Step { did, what: argv.join(" "), why };
        let Some((program, args)) = argv.split_first() else { return };
        if self.dry_run {
            steps.push(step("ran", None));
            return;
        }
        let ran = Command::new(program).args(args).stdin(Stdio::null()).output();
        steps.push(match ran {
            Ok(output) if output.status.success() => step("ran", None),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let first = said.lines().next().unwrap_or("it did not say why");
                step("failed", Some(first.chars().filter(|c| !c.is_control()).take(200).collect()))
            }
            Err(error) => step("failed", Some(error.to_string())),
        });
    }

    /// The path below the root. Links in the tree that lead out of it are not followed.
    fn under(&self, path: &Path) -> Result<PathBuf, Failure> {
        let below = self.root.join(path.strip_prefix("/").unwrap_or(path));
        if self.is_this_machine() {
            return Ok(below);
        }
        let there = below.ancestors().skip(1).find(|dir| dir.exists()).unwrap_or(&self.root);
        let real = |path: &Path| {
            fs::canonicalize(path).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(path.to_owned()),
                _ => Err(failed("look at", path, error)),
            })
        };
        let root_is_there = self.root.exists();
        if root_is_there && !real(there)?.starts_with(real(&self.root)?) {
            let what = format!("{} leads out of {}", below.display(), self.root.display());
            return Err(Failure::new(Kind::Usage, what).hint(
                "a link below --root that is absolute means another place; make it relative",
            ));
        }
        Ok(below)
    }
}

/// Bytes and mode of a regular file; an error where something else has its name.
fn read_if_there(path: &Path) -> Result<Option<(Vec<u8>, u32)>, Failure> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| failed("look at", path, error))?,
    };
    if !found.is_file() {
        let what = format!("{} is there and is no file", path.display());
        return Err(Failure::new(Kind::Unusable, what).hint("move it away"));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(|error| failed("read", path, error))?;
    Ok(Some((bytes, found.permissions().mode() & 0o7777)))
}

/// Puts the whole file in its place at once: a service may be started at any moment.
fn write(path: &Path, item: &Item) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".veritrail-new");
    let new = folder.join(name);
    let _ = fs::remove_file(&new);
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(item.mode).open(&new)?;
        file.write_all(&item.bytes)?;
        // The mask of whoever calls us is not the machine's.
        file.set_permissions(fs::Permissions::from_mode(item.mode))?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn failed(what: &str, path: &Path, error: io::Error) -> Failure {
    Failure::new(Kind::Io, format!("cannot {what} {}", path.display())).because(error)
}
