//! `veritrail doctor`: what this machine offers, and what to do about what it lacks.
//!
//! Reads /proc, /sys, audit's status and the run directory, opens /dev/fuse and closes it, and loads our
//! BPF programs for a moment, by root; it changes nothing. Reading audit's records is not probed:
//! whoever joins is recorded.

mod auditing;
mod bpf;
mod clock;

use std::borrow::Cow;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use host::audit;
use serde::Serialize;

use auditing::{
    audit_boot, audit_failure, audit_input, audit_queue, audit_reading, audit_rules, auditing,
    dm_audit, own_losses,
};

use crate::outcome::{Failure, Outcome};
use crate::served::{Directory, control};
use crate::verbs::verity;

/// Say what this machine offers and what to do about what is missing
///
/// Looks at /proc, /sys, device nodes and the servers of devices; changes nothing. Exits 0 whatever it finds:
/// nothing in the table is needed to check images, or to read, import and verify trails.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail doctor
  veritrail doctor --json | jq '.findings[] | select(.state == \"lacks\")'")]
pub(crate) struct DoctorArgs {
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// Look for device servers below this directory instead of /run/veritrail
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

/// What was found about one thing that veritrail can use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// The thing, in the kernel's or the tools' own word.
    name: &'static str,
    state: State,
    /// What was seen.
    seen: String,
    /// What veritrail uses it for.
    purpose: &'static str,
    /// What to do about it where it is missing.
    remedy: Option<Cow<'static, str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It is there.
    Has,
    /// It is not there.
    Lacks,
    /// /proc and /sys do not tell (or do not tell us).
    Unknown,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Has => "has",
            State::Lacks => "lacks",
            State::Unknown => "unknown",
        }
    }
}

#[derive(Serialize)]
struct Report {
    kernel: String,
    root: bool,
    findings: Vec<Finding>,
}

pub(crate) fn run(args: &DoctorArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let machine = Machine::new("/");
    let status = audit::Control::open().and_then(|mut control| control.status());
    let rules = audit::Control::open().and_then(|mut control| control.rules());
    let mut findings = examine(&machine, status.as_ref());
    let programs = bpf::load();
    findings.push(bpf::programs(programs.as_ref()));
    findings.push(clock::changes(programs.as_ref(), status.as_ref(), rules.as_deref()));
    findings.push(audit_rules(rules.as_deref()));
    findings.extend(audit_input(args.run_dir.as_deref()));
    findings.push(own_losses(args.run_dir.as_deref()));
    findings.push(device_servers(&Directory::locate(args.run_dir.as_deref())?));
    let report = Report {
        kernel: machine.kernel_release().unwrap_or_else(|| "unknown".into()),
        root: rustix::process::geteuid().is_root(),
        findings,
    };
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report).map_err(io::Error::from)?;
        writeln!(out)?;
        return Ok(Outcome::Good);
    }
    let who = if report.root { "root" } else { "not root: some files cannot be seen" };
    writeln!(out, "kernel {}, {who}\n", report.kernel)?;
    for finding in &report.findings {
        writeln!(out, "{:<8} {:<15} {}", finding.state.word(), finding.name, finding.seen)?;
        if finding.state != State::Has {
            writeln!(out, "{:24} for: {}", "", finding.purpose)?;
            if let Some(remedy) = &finding.remedy {
                writeln!(out, "{:24} do:  {remedy}", "")?;
            }
        }
    }
    Ok(Outcome::Good)
}

/// The files of one machine, under a root that a test can choose.
struct Machine {
    root: PathBuf,
}

impl Machine {
    fn new(root: impl Into<PathBuf>) -> Machine {
        Machine { root: root.into() }
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    fn exists(&self, absolute: &str) -> bool {
        self.path(absolute).exists()
    }

    /// A small text file; `None` where it is missing or not ours to read.
    fn text(&self, absolute: &str) -> Option<String> {
        fs::read(self.path(absolute)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn kernel_release(&self) -> Option<String> {
        Some(self.text("/proc/sys/kernel/osrelease")?.trim().to_owned())
    }

    /// Whether a line of `file` has `word` among its words.
    fn lists(&self, file: &str, word: &str) -> bool {
        self.text(file).is_some_and(|text| text.split_whitespace().any(|w| w == word))
    }

    /// Whether the kernel was built with `option`, where its configuration can be read.
    fn kernel_option(&self, option: &str) -> Option<bool> {
        let release = self.kernel_release()?;
        let places = [format!("/boot/config-{release}"), format!("/lib/modules/{release}/config")];
        let config = places.iter().find_map(|place| self.text(place))?;
        let set = config
            .lines()
            .any(|line| line.strip_prefix(option).is_some_and(|rest| rest == "=y" || rest == "=m"));
        Some(set)
    }

    fn program(&self, name: &str) -> Option<&'static str> {
        const FOLDERS: [&str; 6] =
            ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/local/sbin"];
        FOLDERS.into_iter().find(|folder| self.path(folder).join(name).exists())
    }

    /// A running audit daemon, told by its pid file.
    fn audit_daemon(&self) -> Option<String> {
        let pid = self.text("/run/auditd.pid").or_else(|| self.text("/var/run/auditd.pid"))?;
        let pid = pid.trim().to_owned();
        let alive = self.path("/proc").join(Path::new(&pid)).exists();
        (alive && pid.parse::<u32>().is_ok()).then_some(pid)
    }
}

/// `Has` where `present`, else `Lacks`.
fn finding(
    name: &'static str,
    present: bool,
    seen: impl Into<String>,
    purpose: &'static str,
    remedy: &'static str,
) -> Finding {
    let (state, remedy) =
        if present { (State::Has, None) } else { (State::Lacks, Some(remedy.into())) };
    Finding { name, state, seen: seen.into(), purpose, remedy }
}

/// With audit's status, which is no file.
fn examine(machine: &Machine, status: Result<&audit::Status, &audit::Error>) -> Vec<Finding> {
    vec![
        cpu(),
        fuse(machine),
        fusermount(machine),
        auditing(machine, status),
        audit_reading(machine),
        audit_queue(status),
        audit_boot(machine),
        audit_failure(status),
        dm_audit(machine),
        device_mapper(machine),
        btf(machine),
        bpf::unprivileged(machine),
        bpf::jit(machine),
        bpf::statistics(machine),
        bpf_lsm(machine),
        fanotify(machine),
        fs_verity(machine),
        securityfs(
            machine,
            "IPE",
            "/sys/kernel/security/ipe",
            "ipe",
            "the kernel's own enforcement of IPE policies",
            "a kernel with CONFIG_SECURITY_IPE (6.12 or newer), booted with ipe in lsm=",
        ),
        securityfs(
            machine,
            "IMA",
            "/sys/kernel/security/ima",
            "ima",
            "the host's own measurement list",
            "a kernel with CONFIG_IMA, booted with integrity (or ima) in lsm=",
        ),
        loop_devices(machine),
    ]
}

fn cpu() -> Finding {
    let paths: Vec<String> = lanes::Path::available().map(|p| p.to_string()).collect();
    let wide = paths.len() > 1;
    finding(
        "CPU lanes",
        wide,
        format!("SHA-256 by {} (in use: {})", paths.join(", "), lanes::Path::best()),
        "hashing many blocks at once",
        "nothing to do: this CPU has no SHA-NI, AVX2 or AVX-512, hashing is slower but the same",
    )
}

fn fuse(machine: &Machine) -> Finding {
    // Opened and closed, it is a connection that nobody has mounted.
    let opened = OpenOptions::new().read(true).write(true).open(machine.path("/dev/fuse"));
    let (seen, remedy) = match opened {
        Ok(_) => ("/dev/fuse can be used".to_owned(), ""),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => (
                "no /dev/fuse".to_owned(),
                "modprobe fuse; in a container, have its manager pass /dev/fuse in",
            ),
            io::ErrorKind::PermissionDenied => {
                (format!("/dev/fuse: {error}"), "chmod 666 /dev/fuse, as udev has it")
            }
            _ => (format!("/dev/fuse: {error}"), "modprobe fuse"),
        },
    };
    finding("FUSE", remedy.is_empty(), seen, "served devices", remedy)
}

/// Root mounts without it.
fn fusermount(machine: &Machine) -> Finding {
    const NAME: &str = "fusermount3";
    const SETUID: u32 = 0o4000;
    let folder = machine.program(NAME);
    let file = folder.and_then(|folder| fs::metadata(machine.path(folder).join(NAME)).ok());
    let setuid = file.is_some_and(|file| file.permissions().mode() & SETUID != 0);
    let (seen, remedy) = match folder {
        None => (format!("no {NAME}"), "apt-get install fuse3"),
        Some(folder) if setuid => (
            // As `allow_other` is what a user's devices are not mounted with.
            format!("{folder}/{NAME}, setuid (user_allow_other in fuse.conf is not needed)"),
            "",
        ),
        Some(folder) => (
            format!("{folder}/{NAME} is not setuid"),
            "chown root and chmod 4755 the program, or install the package fuse3 again",
        ),
    };
    finding(NAME, remedy.is_empty(), seen, "served devices without root", remedy)
}

/// What servers of devices there are, and what those that were killed have left.
fn device_servers(directory: &Directory) -> Finding {
    let (mut alive, mut dead, mut silent) = (Vec::new(), Vec::new(), Vec::new());
    for name in directory.names().unwrap_or_default() {
        let text = name.as_str().to_owned();
        match verity::find(directory, &name) {
            Ok(Some(status)) if status.facts.state == control::State::Dead => dead.push(text),
            Ok(Some(_)) => alive.push(text),
            // It is just being opened or closed.
            Ok(None) => {}
            Err(_) => silent.push(text),
        }
    }
    let some = |what: &str, names: &[String]| {
        (!names.is_empty()).then(|| format!("{what}: {}", names.join(" ")))
    };
    let seen = [some("alive", &alive), some("dead", &dead), some("not to be asked", &silent)];
    let seen: Vec<String> = seen.into_iter().flatten().collect();
    let remedy = match (dead.first(), silent.first()) {
        (Some(name), _) => Some(format!(
            "veritrail verity close {name}: records that, and clears the dead mount; or open it again"
        )),
        (None, Some(name)) => Some(format!("veritrail verity status {name} says why")),
        (None, None) => None,
    };
    Finding {
        name: "device servers",
        state: if remedy.is_some() { State::Lacks } else { State::Has },
        seen: if seen.is_empty() { "none".to_owned() } else { seen.join("; ") },
        purpose: "a dead server's device answers every read with an error",
        remedy: remedy.map(Cow::Owned),
    }
}

fn device_mapper(machine: &Machine) -> Finding {
    driver(
        machine,
        "device mapper",
        ("/proc/misc", "device-mapper"),
        "/dev/mapper/control",
        "opening devices in the kernel (without it they are served from user space)",
        "modprobe dm-mod",
    )
}

/// A driver that `registry` lists when it is loaded. Its node alone proves nothing: it may be left
/// from an image, or wait for somebody to open it and so load the module.
fn driver(
    machine: &Machine,
    name: &'static str,
    (registry, word): (&str, &str),
    node: &str,
    purpose: &'static str,
    remedy: &'static str,
) -> Finding {
    if machine.lists(registry, word) {
        return finding(name, true, format!("{word} in {registry}"), purpose, remedy);
    }
    let mut found = finding(name, false, format!("not in {registry}"), purpose, remedy);
    if machine.exists(node) {
        found.state = State::Unknown;
        found.seen = format!("{node} is there, but no driver in {registry}");
    }
    found
}

fn btf(machine: &Machine) -> Finding {
    let btf = machine.exists("/sys/kernel/btf/vmlinux");
    finding(
        "BPF",
        btf,
        if btf { "/sys/kernel/btf/vmlinux" } else { "no /sys/kernel/btf/vmlinux" },
        "container identifiers that children inherit, and exec events",
        "a kernel with CONFIG_BPF_SYSCALL and CONFIG_DEBUG_INFO_BTF",
    )
}

fn bpf_lsm(machine: &Machine) -> Finding {
    let purpose = "enforcing an IPE policy where the kernel has no IPE";
    match machine.text("/sys/kernel/security/lsm") {
        Some(list) => finding(
            "BPF LSM",
            list.trim().split(',').any(|lsm| lsm == "bpf"),
            format!("lsm={}", list.trim()),
            purpose,
            "boot with bpf added to lsm= (fanotify does the same work, slower)",
        ),
        None => Finding {
            name: "BPF LSM",
            state: State::Unknown,
            seen: "/sys/kernel/security/lsm cannot be read".to_owned(),
            purpose,
            remedy: Some("mount -t securityfs securityfs /sys/kernel/security".into()),
        },
    }
}

fn fanotify(machine: &Machine) -> Finding {
    let present = machine.exists("/proc/sys/fs/fanotify");
    finding(
        "fanotify",
        present,
        if present { "/proc/sys/fs/fanotify" } else { "no /proc/sys/fs/fanotify" },
        "permission to execute where BPF LSM is not available",
        "a kernel with CONFIG_FANOTIFY and CONFIG_FANOTIFY_ACCESS_PERMISSIONS",
    )
}

fn fs_verity(machine: &Machine) -> Finding {
    let present = machine.exists("/proc/sys/fs/verity");
    finding(
        "fs-verity",
        present,
        if present { "/proc/sys/fs/verity" } else { "no /proc/sys/fs/verity" },
        "files whose digest the kernel keeps",
        "a kernel with CONFIG_FS_VERITY (digests are computed from user space without it)",
    )
}

fn securityfs(
    machine: &Machine,
    name: &'static str,
    folder: &str,
    lsm: &str,
    purpose: &'static str,
    remedy: &'static str,
) -> Finding {
    let listed = machine
        .text("/sys/kernel/security/lsm")
        .is_some_and(|list| list.trim().split(',').any(|l| l == lsm));
    let present = machine.exists(folder);
    let seen = if present { folder.to_owned() } else { format!("no {folder}") };
    finding(name, present || listed, seen, purpose, remedy)
}

fn loop_devices(machine: &Machine) -> Finding {
    driver(
        machine,
        "loop",
        ("/proc/devices", "loop"),
        "/dev/loop-control",
        "mounting ext4 or squashfs images that are served as files (root only)",
        "modprobe loop; EROFS needs none: mount -t erofs FILE DIR",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(findings: &[Finding]) -> Vec<(&'static str, State)> {
        findings.iter().filter(|f| f.name != "CPU lanes").map(|f| (f.name, f.state)).collect()
    }

    #[test]
    fn an_empty_machine_lacks_everything_and_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = audit::Error::Unsupported { doing: "read audit's status" };
        let findings = examine(&Machine::new(folder.path()), Err(&error));
        for finding in findings.iter().filter(|f| f.name != "CPU lanes") {
            assert_ne!(finding.state, State::Has, "{finding:?}");
            assert!(finding.remedy.is_some(), "{finding:?}");
        }
    }

    #[test]
    fn a_machine_is_read_from_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("proc/sys/kernel/osrelease", "6.12.1-test\n");
        put("boot/config-6.12.1-test", "CONFIG_DM_AUDIT_X=y\n# CONFIG_DM_AUDIT is not set\n");
        put("proc/self/loginuid", "0");
        put("proc/self/uid_map", "1000 0 1\n");
        put("run/auditd.pid", "77\n");
        put("proc/77/comm", "auditd\n");
        put("dev/fuse", "");
        put("usr/bin/fusermount3", "");
        let setuid = fs::Permissions::from_mode(0o4755);
        fs::set_permissions(folder.path().join("usr/bin/fusermount3"), setuid).unwrap();
        put("sys/kernel/security/lsm", "lockdown,bpf,ipe\n");
        put("proc/cmdline", "audit=1\n");
        put("proc/misc", " 236 device-mapper\n");
        put("dev/loop-control", "");
        let status = audit::Status { enabled: 1, backlog_limit: 8192, ..Default::default() };
        let findings = examine(&Machine::new(folder.path()), Ok(&status));
        assert_eq!(
            states(&findings),
            [
                ("FUSE", State::Has),
                ("fusermount3", State::Has),
                ("audit", State::Has),
                ("audit records", State::Lacks),
                ("audit queue", State::Has),
                ("audit=1", State::Has),
                ("audit failure", State::Has),
                ("DM_AUDIT", State::Lacks),
                ("device mapper", State::Has),
                ("BPF", State::Lacks),
                ("BPF for root", State::Unknown),
                ("BPF JIT", State::Unknown),
                ("BPF untimed", State::Unknown),
                ("BPF LSM", State::Has),
                ("fanotify", State::Lacks),
                ("fs-verity", State::Lacks),
                ("IPE", State::Has),
                ("IMA", State::Lacks),
                ("loop", State::Unknown),
            ]
        );
        assert_eq!(findings[3].seen, "on, audit daemon runs as pid 77");
    }

    #[test]
    fn a_fusermount3_without_its_right_is_of_no_use() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("usr/bin")).unwrap();
        fs::write(folder.path().join("usr/bin/fusermount3"), "").unwrap();
        let found = fusermount(&Machine::new(folder.path()));
        assert_eq!(
            (found.state, &*found.seen),
            (State::Lacks, "/usr/bin/fusermount3 is not setuid")
        );
    }
}
