//! `veritrail doctor`: what this machine offers, and what to do about what it lacks.
//!
//! Reads /proc, /sys, audit's status and the run directory, opens /dev/fuse and closes it, and loads our
//! BPF programs for a moment, by root; it changes nothing. Reading audit's records is not probed:
//! whoever joins is recorded.

mod bpf;

use std::borrow::Cow;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use host::audit;
use rustix::thread::CapabilitySet;
use serde::Serialize;

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
    let mut findings = examine(&machine, status.as_ref());
    findings.push(bpf::programs());
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

fn auditing(machine: &Machine, status: Result<&audit::Status, &audit::Error>) -> Finding {
    const ON: &str = "auditctl -e 1; at every boot: audit=1 on the kernel's command line";
    let purpose = "records of the kernel";
    let built = machine.exists("/proc/self/loginuid");
    let daemon = match (machine.audit_daemon(), status) {
        (Some(pid), _) => format!("audit daemon runs as pid {pid}"),
        (None, Ok(status)) if status.pid != 0 => {
            let comm = machine.text(&format!("/proc/{}/comm", status.pid)).unwrap_or_default();
            format!("audit daemon is pid {} ({})", status.pid, comm.trim())
        }
        _ => "no audit daemon".to_owned(),
    };
    let found = |state, seen, remedy: Option<Cow<'static, str>>| Finding {
        name: "audit",
        state,
        seen,
        purpose,
        remedy,
    };
    match status {
        _ if !built => found(
            State::Lacks,
            "no /proc/self/loginuid".to_owned(),
            Some(
                "a kernel with CONFIG_AUDIT and CONFIG_AUDITSYSCALL, not booted with audit=off"
                    .into(),
            ),
        ),
        Ok(status) if status.is_locked() => {
            found(State::Has, format!("on and locked until the next boot, {daemon}"), None)
        }
        Ok(status) if status.is_on() => found(State::Has, format!("on, {daemon}"), None),
        Ok(_) => found(State::Lacks, format!("built in but off, {daemon}"), Some(ON.into())),
        Err(error) => {
            let seen = format!("built in, {daemon}; whether it is on is not told");
            found(State::Unknown, seen, Some(error.to_string().into()))
        }
    }
}

/// Whether records can be read beside a daemon, or without one: what multicast needs.
fn audit_reading(machine: &Machine) -> Finding {
    let capable = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::AUDIT_READ));
    // Of the initial user namespace, every number is itself.
    let users = machine.text("/proc/self/uid_map").unwrap_or_default();
    let initial = users.split_whitespace().eq(["0", "0", "4294967295"]);
    let net = |process: &str| fs::read_link(machine.path(&format!("/proc/{process}/ns/net"))).ok();
    let elsewhere = net("1").zip(net("self")).map(|(first, ours)| first != ours);
    let (name, purpose) = ("audit records", "hearing what the kernel records");
    let (seen, remedy) = if !initial {
        (
            "this is not the initial user namespace, the only one that audit answers",
            "run on the host, or in a container without a user namespace of its own",
        )
    } else if elsewhere == Some(true) {
        (
            "this is not the first process's network namespace: records arrive only there",
            "run with the host's network (--network=host)",
        )
    } else if !capable {
        ("CAP_AUDIT_READ is lacking", "run as root, or with AmbientCapabilities=CAP_AUDIT_READ")
    } else if elsewhere.is_none() {
        return Finding {
            name,
            state: State::Unknown,
            seen: "the first process's network namespace is not told: records arrive only there"
                .into(),
            purpose,
            remedy: Some("run with CAP_SYS_PTRACE, or as root on the host".into()),
        };
    } else {
        ("by multicast, beside an audit daemon or without one", "")
    };
    finding(name, remedy.is_empty(), seen, purpose, remedy)
}

/// Whether the kernel loses records before anybody could read them.
fn audit_queue(status: Result<&audit::Status, &audit::Error>) -> Finding {
    /// The kernel begins with 64, which one busy moment fills.
    const ENOUGH: u32 = 1024;
    let (name, purpose) = ("audit queue", "no record is lost, and nobody waits, in a burst");
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            let remedy = Some(error.to_string().into());
            let seen = "not told".to_owned();
            return Finding { name, state: State::Unknown, seen, purpose, remedy };
        }
    };
    let limit = match status.backlog_limit {
        0 => "any number of records may wait".to_owned(),
        limit => format!("{} of {limit} records wait", status.backlog),
    };
    let rate = match status.rate_limit {
        0 => String::new(),
        rate => format!(", more than {rate} a second are dropped"),
    };
    let remedy = if status.rate_limit != 0 {
        "auditctl -r 0"
    } else if (1..ENOUGH).contains(&status.backlog_limit) {
        "auditctl -b 8192; at every boot: audit_backlog_limit=8192 on the kernel's command line"
    } else if status.lost != 0 {
        "auditctl -b with a higher limit, then auditctl --reset-lost"
    } else {
        ""
    };
    let seen = format!("{limit}, {} lost since boot{rate}", status.lost);
    finding(name, remedy.is_empty(), seen, purpose, remedy)
}

fn dm_audit(machine: &Machine) -> Finding {
    let purpose = "DM_CTRL and DM_EVENT records of the kernel's own devices";
    match machine.kernel_option("CONFIG_DM_AUDIT") {
        Some(set) => finding(
            "DM_AUDIT",
            set,
            if set { "CONFIG_DM_AUDIT is set" } else { "CONFIG_DM_AUDIT is not set" },
            purpose,
            "nothing to do: uevents and the kernel log are the second source",
        ),
        None => Finding {
            name: "DM_AUDIT",
            state: State::Unknown,
            seen: "the kernel's configuration is not under /boot or /lib/modules".to_owned(),
            purpose,
            remedy: Some("look for CONFIG_DM_AUDIT in the kernel's configuration".into()),
        },
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
    fn records_are_promised_only_in_the_first_network_namespace() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::new(folder.path());
        let net = |process: &str, namespace: &str| {
            let folder = folder.path().join("proc").join(process).join("ns");
            fs::create_dir_all(&folder).unwrap();
            std::os::unix::fs::symlink(namespace, folder.join("net")).unwrap();
        };
        net("self", "net:[4026531840]");
        fs::write(folder.path().join("proc/self/uid_map"), "0 0 4294967295\n").unwrap();
        // Only the right to read is this process's own.
        let capable = rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.effective.contains(CapabilitySet::AUDIT_READ));
        let told = |state| if capable { state } else { State::Lacks };
        let found = audit_reading(&machine);
        assert_eq!(found.state, told(State::Unknown), "{found:?}");
        assert!(found.remedy.is_some(), "{found:?}");
        net("1", "net:[4026531840]");
        assert_eq!(audit_reading(&machine).state, told(State::Has));
        fs::remove_file(folder.path().join("proc/1/ns/net")).unwrap();
        net("1", "net:[4026532999]");
        assert_eq!(audit_reading(&machine).state, State::Lacks);
    }

    #[test]
    fn what_is_wrong_with_audit_comes_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("proc/self")).unwrap();
        fs::write(folder.path().join("proc/self/loginuid"), "0").unwrap();
        let machine = Machine::new(folder.path());
        let on = audit::Status { enabled: 1, backlog_limit: 8192, ..Default::default() };
        let cases = [
            (audit::Status { enabled: 0, ..on }, "off, no audit daemon", "auditctl -e 1"),
            (audit::Status { enabled: 2, ..on }, "locked", ""),
            (audit::Status { pid: 9, ..on }, "on, audit daemon is pid 9", ""),
            (audit::Status { backlog_limit: 64, ..on }, "0 of 64 records wait", "auditctl -b"),
            (audit::Status { backlog_limit: 0, ..on }, "any number", ""),
            (audit::Status { lost: 7, ..on }, "7 lost", "--reset-lost"),
            (audit::Status { rate_limit: 5, ..on }, "more than 5 a second", "auditctl -r 0"),
        ];
        for (status, seen, remedy) in cases {
            let findings = [auditing(&machine, Ok(&status)), audit_queue(Ok(&status))];
            assert!(findings.iter().any(|finding| finding.seen.contains(seen)), "{findings:?}");
            let remedies = findings.iter().filter_map(|finding| finding.remedy.as_deref());
            let remedies: Vec<&str> = remedies.collect();
            assert_eq!(remedies.is_empty(), remedy.is_empty(), "{findings:?}");
            assert!(remedies.iter().all(|said| said.contains(remedy)), "{findings:?}");
        }
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
